//! The reason that an operator gives for a change, without numbers and addresses of people.

use super::printable::is_one_line;

const REASON_CHARS_MAX: usize = 200;
pub const REASON_RULE: &str = "must be 1 to 200 characters on one line, none of them a control character";

pub fn parse_reason(text: &str) -> Result<String, &'static str> {
    let text = text.trim();
    if !is_one_line(text) || !(1..=REASON_CHARS_MAX).contains(&text.chars().count()) {
        return Err(REASON_RULE);
    }
    Ok(masked(text))
}

/// An id that an operator has typed: people also type numbers and addresses there. A UUID is neither, with or without hyphens.
pub fn masked_id(id: &str) -> String {
    const UUID_DIGITS: usize = 32;
    let is_uuid = id.chars().all(|character| character.is_ascii_hexdigit() || character == '-')
        && id.chars().filter(char::is_ascii_hexdigit).count() == UUID_DIGITS
        && id.contains(|character: char| character.is_ascii_alphabetic());
    if is_uuid { id.to_owned() } else { masked(id) }
}

/// Masks digits of phone numbers and words with an `@`, because every operator can read a reason. A date at the start of
/// a run is kept. Every character that is no letter joins digits: people group them by many of these.
fn masked(text: &str) -> String {
    let joins = |character: char| character.is_numeric() || !character.is_alphabetic();
    let mut masked = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let end = rest.find(|next| joins(next) != joins(first)).unwrap_or(rest.len());
        let (date, run) = rest[..end].split_at(date_length(&rest[..end]));
        let is_number = is_number(run);
        let shown = |character: char| if is_number && character.is_numeric() { '#' } else { character };
        masked.push_str(date);
        masked.extend(run.chars().map(shown));
        rest = &rest[end..];
    }
    let mask = |word: &str| -> String {
        word.chars().map(|character| if character.is_alphanumeric() { '*' } else { character }).collect()
    };
    let words = masked.split_inclusive(char::is_whitespace).map(|word| match word.contains('@') {
        true => mask(word),
        false => word.to_owned(),
    });
    words.collect()
}

/// True if the digits of a run can be those of a phone number.
fn is_number(run: &str) -> bool {
    const DIGITS_MIN: usize = 7;
    const GROUPED_DIGITS_MIN: usize = 9;
    let groups = run.split(|character: char| !character.is_numeric()).map(|group| group.chars().count());
    let digits: usize = groups.clone().sum();
    groups.max().unwrap_or(0) >= DIGITS_MIN
        || digits >= GROUPED_DIGITS_MIN
        || digits >= DIGITS_MIN && run.contains('+')
}

/// The length of a date such as `2026-11-22` or `2026-11-22 13:36:05`, with the punctuation before it. 0 without one.
fn date_length(run: &str) -> usize {
    /// Each digit is the highest one of its place.
    const FORMS: [&str; 3] = ["2099-19-39 29:59:59", "2099-19-39 29:59", "2099-19-39"];
    let date = run.trim_start_matches(|character: char| !character.is_numeric() && character != '+');
    let before = run.len() - date.len();
    let has_form = |form: &str| {
        date.len() >= form.len()
            && date.starts_with("20")
            && date.bytes().zip(form.bytes()).all(|(byte, highest)| match highest.is_ascii_digit() {
                true => (b'0'..=highest).contains(&byte),
                false => byte == highest,
            })
            && date[form.len()..]
                .chars()
                .next()
                .is_none_or(|next| next.is_whitespace() || ".,;:)".contains(next))
    };
    match FORMS.iter().find(|form| has_form(form)) {
        Some(form) => before + form.len(),
        None => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_short_and_on_one_line() {
        assert_eq!(parse_reason(" número: ataque "), Ok("número: ataque".to_owned()));
        assert!(parse_reason(&"ñ".repeat(200)).is_ok());
        for text in ["", "  ", "two\nlines", "two\u{2028}lines", "\u{1b}[2J", &"ñ".repeat(201)] {
            assert!(parse_reason(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_reason_holds_no_number_and_no_address() {
        for (text, kept) in [
            ("asked by +573001234567 and ana@shop.example.", "asked by +############ and ***@****.*******."),
            ("300 123 4567, (601) 234-5678", "### ### ####, (###) ###-####"),
            ("3001234567", "##########"),
            ("300/123/4567", "###/###/####"),
            ("300,123,4567", "###,###,####"),
            ("+57/300/123/4567", "+##/###/###/####"),
            ("300\u{2013}123\u{2013}4567", "###\u{2013}###\u{2013}####"),
            ("300\u{a0}123\u{a0}4567", "###\u{a0}###\u{a0}####"),
            ("300\u{3000}123\u{b7}4567", "###\u{3000}###\u{b7}####"),
            ("bot\u{a0}ana@shop.example\u{2003}again", "bot\u{a0}***@****.*******\u{2003}again"),
            (
                "pumping to +44 since 2026-11-22 13:36, ticket 48213",
                "pumping to +44 since 2026-11-22 13:36, ticket 48213",
            ),
        ] {
            assert_eq!(parse_reason(text).as_deref(), Ok(kept));
        }
    }

    #[test]
    fn an_id_holds_no_number_and_no_address() {
        for (id, shown) in [
            ("f81d4fae-7dec-11d0-a765-00a0c91e6bf6", "f81d4fae-7dec-11d0-a765-00a0c91e6bf6"),
            ("12345678-1234-4234-8234-12345678901a", "12345678-1234-4234-8234-12345678901a"),
            ("f81d4fae7dec11d0a76500a0c91e6bf6", "f81d4fae7dec11d0a76500a0c91e6bf6"),
            ("orders/71", "orders/71"),
            ("orders-71~r2", "orders-71~r2"),
            ("+573001234567", "+############"),
            ("573001234567", "############"),
            ("sms-573001234567~r1", "sms-############~r1"),
            ("57-300-123-4567", "##-###-###-####"),
            ("ana@shop.example", "***@****.*******"),
            ("12345678-1234-4234-8234-123456789012", "########-####-####-####-############"),
        ] {
            assert_eq!(masked_id(id), shown);
        }
    }

    #[test]
    fn a_date_keeps_no_number_beside_it() {
        for (text, kept) in [
            ("fraud 2026-11-22 300 123 4567", "fraud 2026-11-22 ### ### ####"),
            ("2026-11-22 13:36 3001234567", "2026-11-22 13:36 ##########"),
            ("2026-11-22 13:36:05, +57 300 123", "2026-11-22 13:36:05, +## ### ###"),
            ("300 123 4567, 2026-11-22", "### ### ####, ####-##-##"),
            ("2001-99-99 12:34, 1", "####-##-## ##:##, #"),
            ("+2001-12-31 12:34", "+####-##-## ##:##"),
            ("2010-11-22-4567", "####-##-##-####"),
            ("2026-11-22 13:3001 234567", "2026-11-22 ##:#### ######"),
        ] {
            assert_eq!(parse_reason(text).as_deref(), Ok(kept));
        }
        for kept in ["2026-11-22 13:36:05", "fraud, (2026-11-22 13:36), ticket 48213", "until 2026-11-23."] {
            assert_eq!(parse_reason(kept).as_deref(), Ok(kept));
        }
    }
}
