//! The name in a greeting, which strangers choose.
//!
//! A message with our brand is valuable to a fraudster: `Ana, win at evil.example`. So a name consists of letters and joining
//! characters, or it is left out: no digits (a second code), no dots, slashes or `@` (a link), no control or direction
//! characters (a text that reads differently from its content).

use std::borrow::Cow;

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

use super::gsm7;
use super::settings::SmsEncoding;
use crate::domain::gsm7_alphabet::is_gsm7;

/// The longest name, in UTF-16 units: one per character in every living script.
pub(super) const NAME_UNITS_MAX: usize = 20;

/// The name as it may appear in a text, folded for GSM-7. `None`: no greeting.
pub(super) fn greeting_name(name: &str, encoding: SmsEncoding) -> Option<String> {
    // No name is longer: a megabyte must not cost time.
    if name.len() > 256 || !name.chars().all(belongs_in_a_name) || piles_up(name) || spells_a_number(name) {
        return None;
    }
    let composed: String = name.nfc().collect();
    let plain = match encoding {
        SmsEncoding::Gsm7 => gsm7::fold(&composed),
        SmsEncoding::Unicode => Cow::Borrowed(composed.as_str()),
    };
    if encoding == SmsEncoding::Gsm7 && !is_gsm7(&plain) {
        return None;
    }
    let fitting = words_that_fit(&plain);
    fitting.starts_with(char::is_alphabetic).then_some(fitting)
}

fn belongs_in_a_name(character: char) -> bool {
    let joins = matches!(character, ' ' | '\u{a0}' | '\'' | '’' | '-' | '‐' | '‑');
    let letter = character.is_alphabetic() && !character.is_numeric();
    joins || (letter || is_combining_mark(character)) && !deceives(character)
}

/// Letters and marks by Unicode that look like something else.
fn deceives(character: char) -> bool {
    let nothing_to_see = matches!(character,
        '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}' | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{ffa0}' | '\u{13441}' | '\u{13442}' | '\u{16fe4}' | '\u{e0100}'..='\u{e01ef}');
    // Dots and colons: people would type such a link.
    let like_a_dot =
        matches!(character, '\u{2d0}' | '\u{2d1}' | '\u{1427}' | '\u{a4f8}'..='\u{a4fd}' | '\u{a78f}');
    // Circles, squares and keys around letters, and signs over formulas.
    let frames =
        matches!(character, '\u{20d0}'..='\u{20ff}' | '\u{24b6}'..='\u{24e9}' | '\u{1f130}'..='\u{1f189}');
    nothing_to_see || like_a_dot || frames
}

/// No language puts more than a few marks on one letter; more of them cover the lines above.
fn piles_up(name: &str) -> bool {
    const MARKS_MAX: usize = 3;
    let mut marks = 0;
    name.chars().any(|character| {
        marks = if is_combining_mark(character) { marks + 1 } else { 0 };
        marks > MARKS_MAX
    })
}

/// Chinese digits are letters, and no name consists of as many of them as a code.
fn spells_a_number(name: &str) -> bool {
    const DIGITS_MIN: usize = 4;
    let mut digits = 0;
    name.chars().filter(|character| !character.is_whitespace()).any(|character| {
        digits = if "零一二三四五六七八九壹贰叁肆伍陆柒捌玖".contains(character) {
            digits + 1
        } else {
            0
        };
        digits >= DIGITS_MIN
    })
}

/// The first words that fit, with one space between them.
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
    fn a_name_that_could_hold_a_link_or_a_code_is_left_out() {
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
            // Characters that look like a dot, a slash, an at sign or a colon, or are invisible.
            "shop。co",
            "shop．co",
            "shop｡co",
            "shop․co",
            "shop·co",
            "shopꓸco",
            "shopᐧco",
            "shopꞏco",
            "shop⁄co",
            "shop∕co",
            "ana＠evil",
            "httpsː evil",
            "Ana\u{200d}",
            "A\u{200c}na",
            "Ana\u{200f}",
            "Ana\u{2066}B\u{2069}",
            "Ana\u{2028}B",
            "Ana\rB",
            "Ana\0",
            "Ana\u{fe0f}",
            "A\u{34f}na",
            "Ana\u{e0041}",
            "\u{13441}",
            // Digits in other clothes.
            "Ana ４８２９",
            "Ana ٤٨٢٩",
            "Ana ४८२९",
            "Ana 𝟒𝟖𝟐𝟗",
            "Ana ④⑧②⑨",
            "Ana ⁴⁸²⁹",
            "Ana ⅣⅧ",
            "Ana 〇〇〇〇",
            "四八二九",
            "肆 捌 贰 玖",
            // Letters that are pictures, marks without end.
            "Ⓐⓝⓐ",
            "🅰🅱",
            "4\u{20e3}",
            "A\u{20e3}",
            "A\u{301}\u{302}\u{303}\u{304}na",
            // Markup.
            "{{ code }}",
            "%s",
            "<b>Ana</b>",
            "Ana\\n",
            "Ana & Co",
        ] {
            greets(name, None);
            assert_eq!(greeting_name(name, SmsEncoding::Unicode), None, "{name:?}");
        }
    }

    #[test]
    fn a_name_in_another_script_is_used_if_the_encoding_has_it() {
        greets("Анна", None);
        assert_eq!(greeting_name("Анна", SmsEncoding::Unicode).as_deref(), Some("Анна"));
        assert_eq!(greeting_name("अनीता", SmsEncoding::Unicode).as_deref(), Some("अनीता"));
        assert_eq!(greeting_name("María", SmsEncoding::Unicode).as_deref(), Some("María"));
    }

    #[test]
    fn a_huge_name_is_left_out_and_takes_no_time() {
        for name in ["a".repeat(5_000), "a ".repeat(2_500), "a\u{301}".repeat(2_500), "あ".repeat(5_000)] {
            for encoding in [SmsEncoding::Gsm7, SmsEncoding::Unicode] {
                assert_eq!(greeting_name(&name, encoding), None);
            }
        }
    }

    #[test]
    fn ordinary_names_of_many_languages_are_kept() {
        for name in
            ["Nguyễn Thị Ánh", "José", "דָּוִד", "محمد", "สมชาย", "நந்தினி", "김민준", "一郎", "ʻIolani", "Ñusta"]
        {
            assert!(greeting_name(name, SmsEncoding::Unicode).is_some(), "{name}");
        }
    }

    /// All characters: the folded form of one, as of `ŉ` or `ﷺ`, also consists of letters and joining characters.
    #[test]
    fn no_character_turns_into_a_digit_or_a_sign() {
        let plain =
            |c: char| (c.is_alphabetic() && !c.is_numeric()) || is_combining_mark(c) || " '-’‐‑".contains(c);
        for character in '\0'..=char::MAX {
            for encoding in [SmsEncoding::Gsm7, SmsEncoding::Unicode] {
                let Some(greeting) = greeting_name(&format!("A{character}"), encoding) else { continue };
                assert!(greeting.chars().all(plain), "U+{:04X} became {greeting:?}", u32::from(character));
            }
        }
    }

    proptest! {
        #[test]
        fn a_greeting_has_no_digit_no_control_and_fits(name in any::<String>()) {
            for encoding in [SmsEncoding::Gsm7, SmsEncoding::Unicode] {
                if let Some(greeting) = greeting_name(&name, encoding) {
                    prop_assert!(greeting.encode_utf16().count() <= NAME_UNITS_MAX);
                    prop_assert!(!greeting.chars().any(|c| c.is_control() || c.is_numeric() || c == '.'));
                    prop_assert!(encoding == SmsEncoding::Unicode || is_gsm7(&greeting));
                }
            }
        }
    }
}
