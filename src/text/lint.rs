//! The checks of a text before it is ever sent, and its cost.

use std::fmt;

use minijinja::{Error, Value};

use super::autofill::{ANDROID_BYTES_MAX, ANDROID_ENDING_BYTES};
use super::greeting_name::NAME_UNITS_MAX;
use super::gsm7::{self, Encoding, Segments};
use super::prepare::{PLACEHOLDERS, Prepared, Source, VALUES, Values};
use super::settings::{MINUTES_MAX, SmsEncoding, TextSettings};
use crate::domain::channel::Channel;
use crate::domain::gsm7_alphabet::is_gsm7;
use crate::domain::time_zone::ClockTime;

/// Providers refuse longer bodies.
const CHARS_MAX: usize = 1600;

/// The longest code; its digits appear in no ordinary text.
const LONGEST_CODE: &str = "9876543210";

/// People who wait for a code, and phones, take this many digits in a row for one.
const CODE_DIGITS_MIN: usize = 4;

/// A valid text, with its cost at its longest values: brand as configured, longest name, ten digits, three-digit minutes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateCost {
    pub channel: Channel,
    pub template: String,
    pub locale: String,
    /// The operator's file; `None` for a built-in text.
    pub file: Option<String>,
    /// `None` for an e-mail.
    pub segments: Option<Segments>,
    /// The bytes of a text message without a name and with the hash of an Android app.
    pub android_bytes: usize,
}

impl TemplateCost {
    /// True if an Android app cannot read the code by itself.
    pub fn is_too_long_for_android(&self) -> bool {
        self.android_bytes > ANDROID_BYTES_MAX
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {problem}")]
pub struct TextError {
    pub place: Place,
    pub problem: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// The brand, alone or inside a built-in text.
    Brand,
    DefaultLocale,
    /// The operator's file of this name.
    File(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Place::Brand => "SMS_BRAND",
            Place::DefaultLocale => "DEFAULT_LOCALE",
            Place::File(name) => name,
        })
    }
}

impl TextError {
    pub(super) fn new(place: &Place, problem: impl Into<String>) -> TextError {
        TextError { place: place.clone(), problem: problem.into() }
    }
}

/// The brand, or a substitute for an invalid one, so that errors of the templates are still found.
pub(super) fn checked_brand(settings: &TextSettings, errors: &mut Vec<TextError>) -> String {
    let brand = settings.brand.trim();
    let folded = gsm7::fold(brand);
    let problem = if brand.is_empty() {
        "is empty"
    } else if brand.chars().any(char::is_control) {
        "contains control characters"
    } else if digit_runs(brand).next().is_some() {
        "contains four digits in a row, which look like a code"
    } else if grouped_digits(brand).is_some() {
        "contains groups of digits, which look like a code"
    } else if brand.contains(PLACEHOLDERS) {
        "contains private-use characters"
    } else if settings.sms_encoding == SmsEncoding::Gsm7 && !is_gsm7(&folded) {
        "cannot be written in GSM-7; set SMS_ENCODING=unicode, or write it in Latin letters"
    } else {
        return brand.to_owned();
    };
    errors.push(TextError::new(&Place::Brand, problem));
    "Brand".to_owned()
}

/// A text whose only value is the brand, or the rule that it breaks.
pub(super) fn constant(source: &str, brand: &str) -> Result<String, String> {
    let source = Source::parse(source, brand).map_err(|error| explain(&error))?;
    let prepared = Prepared::new(&source, SmsEncoding::Unicode).map_err(|error| explain(&error))?;
    let constant = prepared.constant().filter(|_| source.unknown().is_empty()).map(str::to_owned);
    constant.ok_or_else(|| "may contain no value but {{ brand }}: it is shown on locked screens".to_owned())
}

/// Prepares an e-mail as plain text and as HTML, or returns all its errors.
pub(super) fn linted_email(
    text: &str,
    brand: &str,
    html: impl Fn(&str) -> String,
) -> Result<(Prepared, Prepared), Vec<String>> {
    let source = Source::parse(text, brand).map_err(|error| vec![explain(&error)])?;
    let (prepared, _) = checked(text, &source, SmsEncoding::Unicode, usize::MAX)?;
    let values = Values { name: None, code: LONGEST_CODE, minutes: 10, expires_at: ClockTime::new(0, 0) };
    if !prepared.fill(&values, None).lines().any(|line| line == LONGEST_CODE) {
        return Err(vec!["{{ code }} must be alone on its line".to_owned()]);
    }
    let html =
        Prepared::converted(&source, SmsEncoding::Unicode, html).map_err(|error| vec![explain(&error)])?;
    Ok((prepared, html))
}

/// Prepares a text message and measures its highest cost, or returns all its errors.
pub(super) fn linted(
    text: &str,
    brand: &str,
    encoding: SmsEncoding,
) -> Result<(Prepared, Segments), Vec<String>> {
    let source = Source::parse(text, brand).map_err(|error| vec![explain(&error)])?;
    checked(text, &source, encoding, CHARS_MAX)
}

/// The bytes of a text message at its longest without a name, with the ending for Android.
pub(super) fn android_bytes(prepared: &Prepared) -> usize {
    let expires_at = ClockTime::new(0, 0);
    let longest = Values { name: None, code: LONGEST_CODE, minutes: MINUTES_MAX, expires_at };
    prepared.fill(&longest, None).len() + ANDROID_ENDING_BYTES
}

/// The checks of every text. Their errors are returned together.
fn checked(
    text: &str,
    source: &Source<'_>,
    encoding: SmsEncoding,
    chars_max: usize,
) -> Result<(Prepared, Segments), Vec<String>> {
    let values = VALUES.join(", ");
    let no_value = |name: &String| {
        let line = line_of(text, name).map_or(String::new(), |line| format!("line {line}: "));
        format!("{line}{{{{ {name} }}}} is no value: there are {values}")
    };
    let mut problems: Vec<String> = source.unknown().iter().map(no_value).collect();
    let prepared = match Prepared::new(source, encoding) {
        Ok(prepared) => prepared,
        Err(error) => {
            problems.push(explain(&error));
            return Err(problems);
        }
    };
    if prepared.codes() != [1; 4] {
        problems.push("{{ code }} must stand in it exactly once, with and without a name".to_owned());
    }
    if !prepared.name_stands_alone() {
        problems.push(
            "{{ user_name }} must have a space, a comma or the like on both sides: a name could become a link"
                .to_owned(),
        );
    }
    let name = longest_name(encoding);
    let mut longest = gsm7::measure("");
    for name in [None, Some("Al"), Some(name.as_str())] {
        for (code, minutes, hour) in
            [("4321", 1, 0), ("4321", 2, 9), (LONGEST_CODE, 10, 14), (LONGEST_CODE, MINUTES_MAX, 23)]
        {
            let values = Values { name, code, minutes, expires_at: ClockTime::new(hour, hour) };
            let body = prepared.fill(&values, None);
            problems.extend(problems_of(&body, code, encoding, chars_max));
            if !engine_agrees(source, &values, &body, encoding) {
                problems
                    .push("may only ask whether there is a user_name and whether minutes == 1".to_owned());
            }
            let segments = gsm7::measure(&body);
            if (segments.count, segments.units) > (longest.count, longest.units) {
                longest = segments;
            }
        }
    }
    problems.sort();
    problems.dedup();
    if problems.is_empty() { Ok((prepared, longest)) } else { Err(problems) }
}

/// The most expensive name: outside of GSM-7 where that is allowed, since one such letter makes the text UCS-2.
fn longest_name(encoding: SmsEncoding) -> String {
    let letter = match encoding {
        SmsEncoding::Gsm7 => "M",
        SmsEncoding::Unicode => "Ł",
    };
    letter.repeat(NAME_UNITS_MAX)
}

/// The errors of one rendered text.
fn problems_of(body: &str, code: &str, encoding: SmsEncoding, chars_max: usize) -> Vec<String> {
    let mut problems = Vec::new();
    if digit_runs(body).any(|run| run != code) {
        problems.push(
            "has four or more digits in a row beside the code, which look like a second one".to_owned(),
        );
    } else if let Some(grouped) = grouped_digits(body) {
        problems.push(format!("has groups of digits as {grouped}, which look like a second code"));
    }
    if body.chars().count() > chars_max {
        problems.push(format!("is longer than {chars_max} characters at its longest values"));
    }
    if encoding == SmsEncoding::Gsm7 && gsm7::measure(body).encoding != Encoding::Gsm7 {
        let foreign = body.chars().find(|&character| !is_gsm7(character.encode_utf8(&mut [0; 4])));
        let foreign = foreign.map_or(0, u32::from);
        problems.push(format!(
            "U+{foreign:04X} cannot be written in GSM-7; replace it, or set SMS_ENCODING=unicode"
        ));
    }
    problems
}

/// True if the pieces equal the engine's output: a template that tests a value differs here.
fn engine_agrees(source: &Source<'_>, values: &Values<'_>, body: &str, encoding: SmsEncoding) -> bool {
    let (minutes, expires_at) = (Value::from(values.minutes), values.expires_at.to_string());
    let Ok(rendered) = source.render(values.name, values.code, minutes, &expires_at) else {
        return false;
    };
    match encoding {
        SmsEncoding::Gsm7 => gsm7::fold(&rendered) == body,
        SmsEncoding::Unicode => rendered == body,
    }
}

/// Runs of digits that are long enough for a code, in any script.
fn digit_runs(text: &str) -> impl Iterator<Item = &str> {
    text.split(|character: char| !character.is_numeric()).filter(|run| run.chars().count() >= CODE_DIGITS_MIN)
}

/// Finds digits in groups, as people and phones read codes: `123 456`, `123-456`. Returns their shape only, because they may
/// be the code.
fn grouped_digits(text: &str) -> Option<String> {
    const GROUP_DIGITS_MIN: usize = 3;
    let is_digit = |character: char| character.is_numeric();
    let mut rest = text;
    while let Some(start) = rest.find(is_digit) {
        let after =
            rest[start..].find(|character| !is_digit(character)).map_or(rest.len(), |end| start + end);
        let first = rest[start..after].chars().count();
        let mut following = rest[after..].chars();
        let joint = following.next().filter(|joint| matches!(joint, ' ' | '\u{a0}' | '-' | '.'));
        let second = following.take_while(|character| is_digit(*character)).count();
        if let Some(joint) = joint.filter(|_| first.min(second) >= GROUP_DIGITS_MIN) {
            return Some(format!("{}{joint}{}", "#".repeat(first), "#".repeat(second)));
        }
        rest = &rest[after..];
    }
    None
}

/// The first line with the name between braces.
fn line_of(text: &str, name: &str) -> Option<usize> {
    let names = |line: &str| {
        let mut braced = line.split('{').skip(1).filter_map(|part| part.split('}').next());
        braced.any(|inside| {
            inside
                .split(|character: char| !character.is_alphanumeric() && character != '_')
                .any(|word| word == name)
        })
    };
    text.lines().position(names).map(|before| before + 1)
}

fn explain(error: &Error) -> String {
    let line = error.line().map_or(String::new(), |line| format!("line {line}: "));
    match error.detail() {
        Some(detail) => format!("{line}{}: {detail}", error.kind()),
        None => format!("{line}{}", error.kind()),
    }
}
