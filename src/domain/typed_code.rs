//! A code as people type and paste it.
//!
//! Keyboards and phones write digits of many scripts, and put spaces, hyphens and invisible marks between them. All of
//! these are read. Any other character makes the text no code, and it is not counted as an attempt.

use super::code::{CODE_DIGITS_MAX, Code};
use super::decimal_digit::decimal_digit;
use super::printable::is_invisible;

/// Ten digits of four bytes with room for what stands between them.
const TYPED_BYTES_MAX: usize = 128;

impl Code {
    /// Parses what a person typed: four to ten decimal digits of any script. Between them may stand spaces of one line and
    /// hyphens, around them any white space, and anywhere invisible marks.
    pub fn parse_typed(text: &str) -> Option<Code> {
        if text.len() > TYPED_BYTES_MAX {
            return None;
        }
        let mut digits = [0; CODE_DIGITS_MAX];
        let (mut length, mut after_hyphen, mut after_line) = (0, false, false);
        for character in text.chars().filter(|character| !is_invisible(*character)) {
            if let Some(digit) = decimal_digit(character) {
                // As in a number: the digits of two lines are no code.
                if after_line {
                    return None;
                }
                *digits.get_mut(length)? = b'0' + digit;
                length += 1;
                after_hyphen = false;
            } else if is_hyphen(character) && length > 0 {
                after_hyphen = true;
            } else if !character.is_whitespace() {
                return None;
            } else {
                after_line |= length > 0 && ends_a_line(character);
            }
        }
        let ascii = std::str::from_utf8(&digits[..length]).ok().filter(|_| !after_hyphen)?;
        Code::parse(ascii)
    }
}

fn ends_a_line(character: char) -> bool {
    matches!(character, '\n'..='\r' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// Hyphens, dashes and minus signs (Unicode's property Dash), and the Japanese sound mark that keyboards give for one.
fn is_hyphen(character: char) -> bool {
    matches!(
        character,
        '-' | '\u{58a}' | '\u{5be}' | '\u{1400}' | '\u{1806}' | '\u{2010}'
            ..='\u{2015}'
                | '\u{2043}'
                | '\u{2212}'
                | '\u{2e17}'
                | '\u{2e1a}'
                | '\u{2e3a}'
                | '\u{2e3b}'
                | '\u{2e40}'
                | '\u{2e5d}'
                | '\u{301c}'
                | '\u{3030}'
                | '\u{30a0}'
                | '\u{30fc}'
                | '\u{fe31}'
                | '\u{fe32}'
                | '\u{fe58}'
                | '\u{fe63}'
                | '\u{ff0d}'
                | '\u{ff70}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(text: &str) -> Option<String> {
        Code::parse_typed(text).map(|code| code.expose().to_owned())
    }

    #[test]
    fn digits_of_every_script_are_read() {
        for text in ["१२३४", "۱۲۳۴", "１２３４", "1२٣４"] {
            assert_eq!(typed(text).as_deref(), Some("1234"), "{text}");
        }
        for text in ["¹²³⁴", "①②③④", "ⅠⅡⅢⅣ", "一二三四", "½½½½"] {
            assert_eq!(typed(text), None, "{text}");
        }
    }

    #[test]
    fn what_people_paste_with_a_code_is_skipped_and_anything_else_makes_it_none() {
        for text in [
            "482913",
            " 482913",
            "482913\n",
            "\u{2028}\n482913\u{2029}\n",
            "482 913",
            "482-913",
            "4-8-2-9-1-3",
            "482\u{a0}913",
            "482\u{2009}913",
            "482\u{202f}913",
            "482\u{3000}913",
            "\t482 - 913\r\n",
            "482\u{2011}913",
            "482\u{2013}913",
            "482\u{2014}913",
            "482\u{2212}913",
            "482\u{ff0d}913",
            "\u{202d}482913\u{202c}",
            "\u{feff}482913",
            "482\u{200b}913",
            "\u{2066}482913\u{2069}",
            "482\u{ad}913",
            "4\u{fe0f}82913",
        ] {
            assert_eq!(typed(text).as_deref(), Some("482913"), "{text:?}");
        }
        for text in [
            "",
            " ",
            "-",
            "482",
            "-482913",
            "482913-",
            "\u{2212}482913",
            "482913.",
            "482.913",
            "482,913",
            "48291a",
            "+482913",
            "482913\0",
            "48\u{7}2913",
            "482913 48291",
            "G-482913",
            "482_913",
            "482\n913",
            "482\r\n913",
            "482\u{85}913",
            "482 \u{2028} 913",
            "482\u{2029}-913",
            "482/913",
            "(482913)",
            "482'913",
            "482913e1",
        ] {
            assert_eq!(typed(text), None, "{text:?}");
        }
        assert_eq!(typed(&format!("482913{}", " ".repeat(122))).as_deref(), Some("482913"));
        assert_eq!(typed(&format!("482913{}", " ".repeat(123))), None);
    }
}
