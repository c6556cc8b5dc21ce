//! The name in a greeting, which strangers choose.
//!
//! A text that carries our brand is worth something to a swindler: `Ana, win at evil.example`. So a name is letters and
//! what joins them, or it is left out: no digits (a second code), no dots, slashes or `@` (a link), no control or
//! direction characters (a text that reads otherwise than it is).

use std::borrow::Cow;

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

use super::SmsEncoding;
use super::gsm7;

/// The room that a name has: UTF-16 units, which are characters for every living script.
pub(super) const NAME_UNITS_MAX: usize = 20;

/// The name as a text may carry it, folded if the encoding asks for it. `None`: greet nobody.
pub(super) fn greeting_name(name: &str, encoding: SmsEncoding) -> Option<String> {
    // Nobody's name is longer; whoever sends a megabyte gets no greeting instead of our time.
    if name.len() > 256 || !name.chars().all(belongs_in_a_name) {
        return None;
    }
    let composed: String = name.nfc().collect();
    let plain = match encoding {
        SmsEncoding::Gsm7 => gsm7::fold(&composed),
        SmsEncoding::Unicode => Cow::Borrowed(composed.as_str()),
    };
    if encoding == SmsEncoding::Gsm7 && !gsm7::is_gsm7(&plain) {
        return None;
    }
    let fitting = words_that_fit(&plain);
    fitting.starts_with(char::is_alphabetic).then_some(fitting)
}

fn belongs_in_a_name(character: char) -> bool {
    let joins = matches!(character, ' ' | '\u{a0}' | '\'' | '’' | '-' | '‐' | '‑');
    // Fillers and the like are letters to Unicode and nothing to the eye.
    let invisible = matches!(character, '\u{115f}' | '\u{1160}' | '\u{3164}' | '\u{ffa0}');
    joins || character.is_alphabetic() && !invisible || is_combining_mark(character)
}

/// The first words, one space between them, as many as there is room for.
fn words_that_fit(name: &str) -> String {
    let mut fitting = String::with_capacity(name.len());
    let mut units = 0;
    for word in name.split_whitespace() {
        let joined = usize::from(!fitting.is_empty());
        units += joined + word.encode_utf16().count();
        if units > NAME_UNITS_MAX {
            break;
        }
        fitting.extend([" "].iter().take(joined).copied());
        fitting.push_str(word);
    }
    fitting
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn greets(name: &str, expected: Option<&str>) {
        assert_eq!(greeting_name(name, SmsEncoding::Gsm7).as_deref(), expected);
    }

    #[test]
    fn an_ordinary_name_is_used() {
        greets("Carlos", Some("Carlos"));
        greets("  María   José ", Some("Maria José"));
        greets("Nuñez-O'Brien", Some("Nuñez-O'Brien"));
        greets("D’Angelo", Some("D'Angelo"));
        greets("Jose\u{301}", Some("José"));
    }

    #[test]
    fn a_long_name_is_cut_between_words() {
        greets("María Fernanda Rodríguez Gómez", Some("Maria Fernanda"));
        greets("abcdefghij abcdefghi", Some("abcdefghij abcdefghi"));
        greets("abcdefghij abcdefghij", Some("abcdefghij"));
        greets("abcdefghijklmnopqrstu", None);
        greets("abcdefghijklmnopqrstu Ana", None);
    }

    #[test]
    fn a_name_that_could_carry_a_link_or_a_code_greets_nobody() {
        for name in [
            "evil.example",
            "ana@evil",
            "http://e",
            "Ana 1234",
            "Ana ١٢",
            "Ana。",
            "Ana:",
            "Ana\nB",
            "Ana\tB",
            "Ana\u{202e}B",
            "Ana\u{200b}",
            "🔑",
            "",
            "   ",
            "-",
            "' '",
            "\u{3164}",
            "\u{301}",
        ] {
            greets(name, None);
            assert_eq!(greeting_name(name, SmsEncoding::Unicode), None, "{name:?}");
        }
    }

    #[test]
    fn a_name_in_another_script_is_used_where_the_encoding_can_carry_it() {
        greets("Анна", None);
        assert_eq!(greeting_name("Анна", SmsEncoding::Unicode).as_deref(), Some("Анна"));
        assert_eq!(greeting_name("अनीता", SmsEncoding::Unicode).as_deref(), Some("अनीता"));
        assert_eq!(greeting_name("María", SmsEncoding::Unicode).as_deref(), Some("María"));
    }

    proptest! {
        #[test]
        fn a_greeting_has_no_digit_no_control_and_fits(name in any::<String>()) {
            for encoding in [SmsEncoding::Gsm7, SmsEncoding::Unicode] {
                if let Some(greeting) = greeting_name(&name, encoding) {
                    prop_assert!(greeting.encode_utf16().count() <= NAME_UNITS_MAX);
                    prop_assert!(!greeting.chars().any(|c| c.is_control() || c.is_ascii_digit() || c == '.'));
                    prop_assert!(encoding == SmsEncoding::Unicode || gsm7::is_gsm7(&greeting));
                }
            }
        }
    }
}
