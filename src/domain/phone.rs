//! Phone numbers.
//!
//! A [`PhoneNumber`] is always E.164 (ITU-T E.164: `+`, country code, national number, at most 15 digits) and assigned in
//! its country's numbering plan. Parsing adds a country code or removes a national trunk prefix; it never rewrites a
//! digit. Printed, a number is masked.
//!
//! The number may be out of service or unable to receive SMS: [`LineType`] is the type of its range in the plan. Because
//! of portability, a range does not tell the operator.
//!
//! The `phonenumber` crate has the numbering plans. It is too lenient for a gateway: it reads letters as keypad digits,
//! drops extensions, reads the leading `005` of `0057 301…` as a Colombian carrier prefix, which leaves a valid Russian
//! number, and accepts digits after the end of a range. So it receives plain digits only, its answer is compared with
//! them, and ranges are matched here, to their ends.

use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

use phonenumber::country::Id;
use phonenumber::metadata::{DATABASE, Descriptor, Metadata};
use thiserror::Error;

use super::decimal_digit::decimal_digit;
use super::number_pattern::{matches_all, matches_beginning};
use super::printable::is_invisible;

/// A number with all usual separators is shorter.
const CHARS_MAX: usize = 32;

/// ITU-T E.164 §6: country code and national number together.
const DIGITS_MAX: usize = 15;

/// The crate's compiled patterns in its cache, about 100 kB each: parsing a mobile number of each country compiles 122.
const PATTERNS_KEPT_MAX: usize = 150;

/// `Display` and `Debug` are masked; only [`PhoneNumber::e164`] shows the full number.
///
/// The mask keeps the country code and at most the last four national digits, never more than half of them:
/// `+57******4567`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct PhoneNumber {
    e164: String,
    /// The position of the national digits in `e164`.
    national_at: usize,
    region: Option<Region>,
    line: LineType,
}

impl PhoneNumber {
    /// Reads `+` and an E.164 number, or the national digits of `default_region` (with or without its trunk prefix or
    /// country code). Digits of any script count, and the separators of Google's library may stand between them; around
    /// them stands what is neither letter nor number, as in that library.
    ///
    /// A number without `+` belongs to `default_region`, or is refused.
    pub fn parse(text: &str, default_region: Region) -> Result<PhoneNumber, PhoneError> {
        let written = Written::read(text)?;
        let digits = written.digits();
        if !written.plus && digits.starts_with("00") {
            return Err(PhoneError::InternationalPrefix);
        }
        let home = (!written.plus).then_some(default_region);
        let error = PhoneError::NotAssigned { digits: digits.len(), region: home };
        let number = Self::assigned(&written, home).ok_or(error)?;
        let (code, national) = number.e164[1..].split_at(number.national_at - 1);
        let written_before = digits.strip_suffix(national);
        let unchanged = match home {
            None => written_before == Some(code),
            Some(home) => {
                written_before.is_some_and(|before| {
                    before.is_empty() || before == code || home.trunk_prefix() == Some(before)
                }) && number.region == Some(home)
            }
        };
        if unchanged && digits_fit(&number.e164) { Ok(number) } else { Err(error) }
    }

    /// The full number with `+`, for the provider and for keyed digests, never for people.
    pub fn e164(&self) -> &str {
        &self.e164
    }

    /// The country of the numbering plan; `None` for shared international codes (`+800`, `+882`). A territory that shares
    /// its neighbour's numbers counts as the neighbour (`AX` as `FI`, `SJ` as `NO`).
    pub fn region(&self) -> Option<Region> {
        self.region
    }

    /// `+` and the country code, or the international code that no country has.
    pub fn calling_code(&self) -> &str {
        &self.e164[..self.national_at]
    }

    /// The type of the number's range in the plan.
    pub fn line(&self) -> LineType {
        self.line
    }

    /// The crate's reading of the digits, if the plan has the number. The caller compares the digits.
    fn assigned(written: &Written, home: Option<Region>) -> Option<PhoneNumber> {
        let parsed = match home {
            // No default country: with one, the crate strips that country's prefixes from a foreign number.
            None => phonenumber::parse(None, written.with_plus()),
            Some(home) => phonenumber::parse(Some(home.0), written.digits()),
        }
        .ok()?;
        let (code, national) = (parsed.code().value(), parsed.national());
        let e164 = format!("+{code}{national}");
        let national_at = e164.len() - digit_count(national.value()) - usize::from(national.zeros());
        let (region, line) = place(code, &e164[national_at..])?;
        Some(PhoneNumber { e164, national_at, region, line })
    }
}

impl Display for PhoneNumber {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (code, national) = self.e164.split_at(self.national_at);
        let shown = (national.len() / 2).min(4);
        let (hidden, shown) = national.split_at(national.len() - shown);
        write!(f, "{code}{:*<width$}{shown}", "", width = hidden.len())
    }
}

impl fmt::Debug for PhoneNumber {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "PhoneNumber({self})")
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LineType {
    Mobile,
    Landline,
    /// The plan does not distinguish them, as in all of +1 and in Mexico. Most are mobiles.
    MobileOrLandline,
    Voip,
    /// Premium, shared cost, toll-free, personal, pager, company (UAN) and voicemail numbers. A message there reaches no
    /// person, or costs one more than a message should.
    Other,
}

impl LineType {
    pub fn as_str(self) -> &'static str {
        match self {
            LineType::Mobile => "mobile",
            LineType::Landline => "landline",
            LineType::MobileOrLandline => "mobile_or_landline",
            LineType::Voip | LineType::Other => "other",
        }
    }

    /// Nothing may be sent there, whatever the settings allow.
    pub fn is_never_sent_to(self) -> bool {
        self == LineType::Other
    }

    /// A person is likely to read an SMS there.
    pub fn takes_sms(self) -> bool {
        matches!(self, LineType::Mobile | LineType::MobileOrLandline)
    }
}

/// The rule that a text breaks and the text's shape, never the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PhoneError {
    #[error("is empty")]
    Empty,
    #[error("is longer than {CHARS_MAX} characters")]
    TooLong,
    #[error("contains letters")]
    Letters,
    #[error("contains a character, perhaps an invisible one, that is no digit, separator or leading +")]
    Characters,
    #[error("starts with 00; write + and the country code")]
    InternationalPrefix,
    #[error("has {digits} digit{}, not a number of {}", if *.digits == 1 { "" } else { "s" }, Plan(*.region))]
    NotAssigned { digits: usize, region: Option<Region> },
}

/// The end of an error's sentence.
struct Plan(Option<Region>);

impl Display for Plan {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(region) => region.fmt(f),
            None => f.write_str("any country"),
        }
    }
}

/// A country with a numbering plan, by its ISO 3166-1 alpha-2 code.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Region(Id);

impl Region {
    /// The two letters, in upper case.
    pub fn letters(self) -> [u8; 2] {
        self.0.as_ref().as_bytes().try_into().expect("every code has two letters")
    }

    fn plan(self) -> Option<&'static Metadata> {
        DATABASE.by_id(self.0.as_ref())
    }

    fn trunk_prefix(self) -> Option<&'static str> {
        self.plan()?.national_prefix()
    }
}

impl FromStr for Region {
    type Err = UnknownRegion;

    /// Accepts either letter case.
    fn from_str(text: &str) -> Result<Region, UnknownRegion> {
        text.to_ascii_uppercase().parse().map(Region).map_err(|_| UnknownRegion)
    }
}

impl Display for Region {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_ref())
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        Display::fmt(self, f)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("is not the two-letter code of a country (ISO 3166)")]
pub struct UnknownRegion;

/// Loads the numbering plans and compiles the patterns of a few countries, for which the first request would wait. Call it at the start, from a thread that may block.
///
/// It calls [`enlarge_cache`].
pub fn warm_up() {
    enlarge_cache();
    for (country, national) in [(Id::CO, "3001234567"), (Id::CO, "6012345678"), (Id::US, "2015550123")] {
        // Only the compiled patterns matter here.
        let _ = PhoneNumber::parse(national, Region(country));
    }
    for foreign in ["+573001234567", "+525512345678", "+5511987654321", "+34612345678"] {
        let _ = PhoneNumber::parse(foreign, Region(Id::CO));
    }
}

/// Caches the patterns that parsing numbers of all countries needs. The crate caches 100, and compiles under a lock that
/// every parse takes: with numbers from many countries some parses would cost milliseconds.
pub fn enlarge_cache() {
    if let Ok(mut patterns) = DATABASE.cache().lock() {
        patterns.set_capacity(PATTERNS_KEPT_MAX);
    }
}

/// The digits of a written number, after a `+`.
struct Written {
    buffer: [u8; CHARS_MAX + 1],
    len: usize,
    plus: bool,
}

impl Written {
    fn read(text: &str) -> Result<Written, PhoneError> {
        if text.chars().nth(CHARS_MAX).is_some() {
            return Err(PhoneError::TooLong);
        }
        if text.chars().all(|character| character.is_whitespace() || is_invisible(character)) {
            return Err(PhoneError::Empty);
        }
        let text = text.trim_matches(surrounds);
        let rest = text.trim_start_matches(PLUS_SIGNS);
        let plus = rest.len() < text.len();
        let mut written = Written { buffer: [b'+'; CHARS_MAX + 1], len: 1, plus };
        for character in rest.chars() {
            if let Some(digit) = decimal_digit(character) {
                written.buffer[written.len] = b'0' + digit;
                written.len += 1;
            } else if !separates(character) {
                let is_letter = character.is_alphabetic();
                return Err(if is_letter { PhoneError::Letters } else { PhoneError::Characters });
            }
        }
        Ok(written)
    }

    fn with_plus(&self) -> &str {
        str::from_utf8(&self.buffer[..self.len]).expect("a plus and digits are ASCII")
    }

    fn digits(&self) -> &str {
        &self.with_plus()[1..]
    }
}

const PLUS_SIGNS: [char; 2] = ['+', '＋'];
/// Other plus signs. Without them a number of another country would be read as one of the default region.
const PLUS_LOOKALIKES: [char; 6] = ['⁺', '₊', '﹢', '﬩', '➕', '˖'];

/// Stands around a number. `*` and `#` do not: they belong to codes that a telephone network carries out.
fn surrounds(character: char) -> bool {
    !character.is_alphanumeric()
        && !PLUS_SIGNS.contains(&character)
        && !PLUS_LOOKALIKES.contains(&character)
        && !matches!(character, '*' | '#')
}

/// Stands between digits: the `VALID_PUNCTUATION` of Google's library, without the letter x and the tilde, behind which it
/// reads an extension; and, as around a code, any space within a line and marks that show nothing.
fn separates(character: char) -> bool {
    let is_space = character == '\t'
        || character.is_whitespace()
            && !character.is_control()
            && !matches!(character, '\u{2028}' | '\u{2029}');
    let is_sign = matches!(
        character,
        '-' | '.' | '/' | '(' | ')' | '[' | ']'
            | '\u{2010}'..='\u{2015}' | '\u{2053}' | '\u{2212}' | '\u{223c}' | '\u{30fc}'
            | '\u{ff08}' | '\u{ff09}' | '\u{ff0d}'..='\u{ff0f}' | '\u{ff3b}' | '\u{ff3d}'
    );
    is_space || is_sign || is_invisible(character)
}

/// True for `+` and a code that no country has, as of satellite phones.
pub fn is_code_of_no_country(text: &str) -> bool {
    let code: Option<u16> = text.strip_prefix('+').and_then(|digits| digits.parse().ok());
    let regions = code.filter(|code| text == format!("+{code}")).and_then(|code| DATABASE.region(&code));
    regions.is_some_and(|regions| regions.iter().all(|id| id.parse::<Id>().is_err()))
}

/// The country and type of a number; `None` if no plan has it. The national number keeps its leading zeros, which belong
/// to it in Italy, Ivory Coast, Benin, Congo and Gabon.
fn place(code: u16, national: &str) -> Option<(Option<Region>, LineType)> {
    let regions = DATABASE.region(&code)?;
    let is_only = regions.len() == 1;
    for id in regions {
        // A shared international code has a plan under the code alone.
        let region: Option<Region> = id.parse().ok().map(Region);
        let plan = match region {
            Some(region) => region.plan()?,
            None => DATABASE.by_code(&code)?.into_iter().next()?,
        };
        let line = match plan.leading_digits() {
            // Leading digits decide the country, even if its plan does not have the number.
            Some(leading) if !is_only => match matches_beginning(leading.as_str(), national) {
                true => return Some((region, line_in(plan, national)?)),
                false => None,
            },
            _ => line_in(plan, national),
        };
        if let Some(line) = line {
            return Some((region, line));
        }
    }
    None
}

/// The type of a number in a plan; `None` if the plan does not have it.
fn line_in(plan: &Metadata, national: &str) -> Option<LineType> {
    let ranges = plan.descriptors();
    let of = |range: Option<&Descriptor>| range.is_some_and(|range| is_of(range, national));
    let others = [
        ranges.premium_rate(),
        ranges.toll_free(),
        ranges.shared_cost(),
        ranges.personal_number(),
        ranges.pager(),
        ranges.uan(),
        ranges.voicemail(),
    ];
    if others.into_iter().any(of) {
        return Some(LineType::Other);
    }
    if of(ranges.voip()) {
        return Some(LineType::Voip);
    }
    match (of(ranges.mobile()), of(ranges.fixed_line())) {
        (true, true) => Some(LineType::MobileOrLandline),
        (true, false) => Some(LineType::Mobile),
        (false, true) => Some(LineType::Landline),
        (false, false) => None,
    }
}

/// Matches the whole number; the crate would match a prefix.
fn is_of(range: &Descriptor, national: &str) -> bool {
    let lengths = range.possible_length();
    let is_long_enough =
        lengths.is_empty() || lengths.iter().any(|&length| usize::from(length) == national.len());
    is_long_enough && matches_all(range.national_number().as_str(), national)
}

fn digit_count(value: u64) -> usize {
    value.checked_ilog10().map_or(1, |log| log as usize + 1)
}

fn digits_fit(e164: &str) -> bool {
    e164.len() <= DIGITS_MAX + 1
}

#[cfg(test)]
mod tests;
