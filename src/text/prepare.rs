//! Cuts a template into pieces, once, by rendering it with placeholders.

use std::fmt::{Display, Write};

use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior, Value, context};
use zeroize::Zeroizing;

use super::autofill::Autofill;
use super::gsm7;
use super::settings::SmsEncoding;
use crate::domain::time_zone::ClockTime;

/// Private-use characters (Unicode §23.5) that stand for a value while a template is cut into pieces.
const NAME: char = '\u{e000}';
pub(super) const CODE: char = '\u{e001}';
const MINUTES: char = '\u{e002}';
const EXPIRES: char = '\u{e003}';
pub(super) const PLACEHOLDERS: [char; 4] = [NAME, CODE, MINUTES, EXPIRES];

pub(super) const VALUES: [&str; 5] = ["brand", "code", "expires_at", "minutes", "user_name"];

/// The bytes of `14:05`.
const CLOCK_LEN: usize = 5;

/// A text in pieces: four variants, with or without a name, and for one minute or more.
pub(super) struct Prepared {
    variants: [Vec<Piece>; 4],
}

/// The values a text is filled with. It holds a code: no `Debug`.
#[derive(Clone, Copy)]
pub(super) struct Values<'a> {
    pub(super) name: Option<&'a str>,
    pub(super) code: &'a str,
    pub(super) minutes: u32,
    pub(super) expires_at: ClockTime,
}

#[derive(PartialEq, Eq)]
enum Piece {
    Literal(Box<str>),
    Name,
    Code,
    Minutes,
    Expires,
}

impl Prepared {
    pub(super) fn new(source: &Source<'_>, encoding: SmsEncoding) -> Result<Prepared, Error> {
        Prepared::converted(source, encoding, str::to_owned)
    }

    /// A text that is converted after it was rendered with placeholders, which the conversion keeps.
    pub(super) fn converted(
        source: &Source<'_>,
        encoding: SmsEncoding,
        convert: impl Fn(&str) -> String,
    ) -> Result<Prepared, Error> {
        let variant = |named: bool, one_minute: bool| -> Result<Vec<Piece>, Error> {
            let name = named.then(|| NAME.to_string());
            let minutes = if one_minute { Value::from(1) } else { Value::from(MINUTES.to_string()) };
            let rendered =
                source.render(name.as_deref(), &CODE.to_string(), minutes, &EXPIRES.to_string())?;
            Ok(pieces(&convert(&rendered), encoding))
        };
        let variants =
            [variant(false, false)?, variant(false, true)?, variant(true, false)?, variant(true, true)?];
        Ok(Prepared { variants })
    }

    /// The text, in one allocation: a buffer that grew would leave a copy of the code behind.
    pub(super) fn fill(&self, values: &Values<'_>, ending: Option<&Autofill>) -> Zeroizing<String> {
        let pieces = self.variant(values);
        let capacity =
            pieces.iter().map(|piece| piece.len(values)).sum::<usize>() + ending_len(ending, values);
        let mut body = Zeroizing::new(String::with_capacity(capacity));
        for piece in pieces {
            match piece {
                Piece::Literal(text) => body.push_str(text),
                Piece::Name => body.push_str(values.name.unwrap_or_default()),
                Piece::Code => body.push_str(values.code),
                Piece::Minutes => push(&mut body, values.minutes),
                Piece::Expires => push(&mut body, values.expires_at),
            }
        }
        match ending {
            Some(Autofill::WebOtp { domain }) => {
                for part in ["\n\n@", domain.as_str(), " #", values.code] {
                    body.push_str(part);
                }
            }
            Some(Autofill::AndroidHash { hash }) => {
                body.push_str("\n\n");
                body.push_str(hash.as_str());
            }
            None => {}
        }
        debug_assert!(body.len() <= capacity, "the body grew");
        body
    }

    pub(super) fn codes(&self) -> [usize; 4] {
        let codes = |pieces: &Vec<Piece>| pieces.iter().filter(|&piece| *piece == Piece::Code).count();
        self.variants.each_ref().map(codes)
    }

    /// True if the name never touches other text, which could turn it into a link or a code.
    pub(super) fn name_stands_alone(&self) -> bool {
        self.variants.iter().all(|pieces| {
            (0..pieces.len()).filter(|&at| pieces[at] == Piece::Name).all(|at| {
                let before = at.checked_sub(1).map(|before| &pieces[before]);
                before.is_none_or(Piece::may_precede_a_name)
                    && pieces.get(at + 1).is_none_or(Piece::may_follow_a_name)
            })
        })
    }

    /// The text, if it contains no value.
    pub(super) fn constant(&self) -> Option<&str> {
        match self.variants.each_ref().map(Vec::as_slice) {
            [[Piece::Literal(text)], others @ ..]
                if others.iter().all(|other| matches!(other, [Piece::Literal(same)] if same == text)) =>
            {
                Some(text)
            }
            _ => None,
        }
    }

    fn variant(&self, values: &Values<'_>) -> &[Piece] {
        &self.variants[usize::from(values.name.is_some()) * 2 + usize::from(values.minutes == 1)]
    }
}

impl Piece {
    fn may_precede_a_name(&self) -> bool {
        let Piece::Literal(text) = self else { return false };
        text.ends_with(|last: char| last.is_whitespace() || "¡¿(\"'".contains(last))
    }

    /// A dot ends a sentence where a space or nothing comes after it; before a letter it makes a host name.
    fn may_follow_a_name(&self) -> bool {
        let Piece::Literal(text) = self else { return false };
        let mut characters = text.chars();
        match (characters.next(), characters.next()) {
            (Some(first), _) if first.is_whitespace() || ",;!?)\"'".contains(first) => true,
            (Some('.' | ':' | '…'), after) => {
                after.is_none_or(|after| after.is_whitespace() || after == '.')
            }
            _ => false,
        }
    }

    /// At least as many bytes as it fills.
    fn len(&self, values: &Values<'_>) -> usize {
        match self {
            Piece::Literal(text) => text.len(),
            Piece::Name => values.name.map_or(0, str::len),
            Piece::Code => values.code.len(),
            Piece::Minutes => u32::MAX.ilog10() as usize + 1,
            Piece::Expires => CLOCK_LEN,
        }
    }
}

fn ending_len(ending: Option<&Autofill>, values: &Values<'_>) -> usize {
    match ending {
        Some(Autofill::WebOtp { domain }) => "\n\n@ #".len() + domain.as_str().len() + values.code.len(),
        Some(Autofill::AndroidHash { hash }) => "\n\n".len() + hash.as_str().len(),
        None => 0,
    }
}

fn push(body: &mut String, value: impl Display) {
    write!(body, "{value}").expect("writing to a string cannot fail");
}

/// A parsed template and the brand it is rendered with.
pub(super) struct Source<'a> {
    engine: Environment<'a>,
    text: &'a str,
    brand: &'a str,
    unknown: Vec<String>,
}

impl<'a> Source<'a> {
    /// Strict, unless the text uses unknown variables: those are listed by name, beside the other errors.
    pub(super) fn parse(text: &'a str, brand: &'a str) -> Result<Source<'a>, Error> {
        let mut engine = Environment::empty();
        engine.set_undefined_behavior(UndefinedBehavior::Strict);
        if [text, brand].iter().any(|text| text.contains(PLACEHOLDERS)) {
            return Err(Error::new(ErrorKind::SyntaxError, "private-use characters have no place in a text"));
        }
        let mut unknown: Vec<String> =
            engine.template_from_str(text)?.undeclared_variables(false).into_iter().collect();
        unknown.retain(|name| !VALUES.contains(&name.as_str()));
        unknown.sort_unstable();
        if !unknown.is_empty() {
            engine.set_undefined_behavior(UndefinedBehavior::Lenient);
        }
        Ok(Source { engine, text, brand, unknown })
    }

    /// Unknown variables of the text. A text with any is invalid.
    pub(super) fn unknown(&self) -> &[String] {
        &self.unknown
    }

    /// The engine's own output.
    pub(super) fn render(
        &self,
        user_name: Option<&str>,
        code: &str,
        minutes: Value,
        expires_at: &str,
    ) -> Result<String, Error> {
        let template = self.engine.template_from_str(self.text)?;
        template.render(context! { brand => self.brand, user_name, code, minutes, expires_at })
    }
}

/// Cuts a text at its placeholders and folds the parts between them.
fn pieces(rendered: &str, encoding: SmsEncoding) -> Vec<Piece> {
    let mut pieces = Vec::new();
    for part in rendered.split_inclusive(PLACEHOLDERS) {
        let literal = part.trim_end_matches(PLACEHOLDERS);
        if !literal.is_empty() {
            let literal = match encoding {
                SmsEncoding::Gsm7 => gsm7::fold(literal).into_owned(),
                SmsEncoding::Unicode => literal.to_owned(),
            };
            pieces.push(Piece::Literal(literal.into_boxed_str()));
        }
        pieces.extend(match part[literal.len()..].chars().next() {
            Some(NAME) => Some(Piece::Name),
            Some(CODE) => Some(Piece::Code),
            Some(MINUTES) => Some(Piece::Minutes),
            Some(EXPIRES) => Some(Piece::Expires),
            _ => None,
        });
    }
    pieces
}
