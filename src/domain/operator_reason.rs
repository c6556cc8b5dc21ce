//! The reason that an operator gives for a change, without numbers and addresses of people.

const REASON_CHARS_MAX: usize = 200;
pub const REASON_RULE: &str = "must be 1 to 200 characters, none of them a control character";

pub fn parse_reason(text: &str) -> Result<String, &'static str> {
    let text = text.trim();
    if text.chars().any(char::is_control) || !(1..=REASON_CHARS_MAX).contains(&text.chars().count()) {
        return Err(REASON_RULE);
    }
    Ok(masked(text))
}

/// Masks digits of phone numbers and words with an `@`, because every operator can read a reason. Dates are kept.
fn masked(text: &str) -> String {
    const DIGITS_MIN: usize = 7;
    const GROUPED_DIGITS_MIN: usize = 9;
    let mut masked = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let joins = |character: char| character.is_numeric() || "+-.() ".contains(character);
        let end = rest.find(|next| joins(next) != joins(first)).unwrap_or(rest.len());
        let (run, after) = rest.split_at(end);
        let digits = run.chars().filter(|character| character.is_numeric()).count();
        let digit_runs =
            run.split(|character: char| !character.is_numeric()).map(|digits| digits.chars().count());
        let is_number = digit_runs.max().unwrap_or(0) >= DIGITS_MIN
            || digits >= GROUPED_DIGITS_MIN && !is_date(run)
            || digits >= DIGITS_MIN && run.contains('+');
        let shown = |character: char| if is_number && character.is_numeric() { '#' } else { character };
        masked.extend(run.chars().map(shown));
        rest = after;
    }
    let mask = |word: &str| -> String {
        word.chars().map(|character| if character.is_alphanumeric() { '*' } else { character }).collect()
    };
    let words = masked.split(' ').map(|word| match word.contains('@') {
        true => mask(word),
        false => word.to_owned(),
    });
    words.collect::<Vec<_>>().join(" ")
}

/// True if the text begins like `2026-11-22`.
fn is_date(run: &str) -> bool {
    let mut parts =
        run.trim_start().splitn(3, '-').map(|part| part.bytes().take_while(u8::is_ascii_digit).count());
    (parts.next(), parts.next(), parts.next()) == (Some(4), Some(2), Some(2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_short_and_on_one_line() {
        assert_eq!(parse_reason(" número: ataque "), Ok("número: ataque".to_owned()));
        assert!(parse_reason(&"ñ".repeat(200)).is_ok());
        for text in ["", "  ", "two\nlines", "\u{1b}[2J", &"ñ".repeat(201)] {
            assert!(parse_reason(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_reason_holds_no_number_and_no_address() {
        for (text, kept) in [
            ("asked by +573001234567 and ana@shop.example.", "asked by +############ and ***@****.*******."),
            ("300 123 4567, (601) 234-5678", "### ### ####, (###) ###-####"),
            ("3001234567", "##########"),
            (
                "pumping to +44 since 2026-11-22 13:36, ticket 48213",
                "pumping to +44 since 2026-11-22 13:36, ticket 48213",
            ),
        ] {
            assert_eq!(parse_reason(text).as_deref(), Ok(kept));
        }
    }
}
