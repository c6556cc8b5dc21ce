//! Text of others on a terminal, which obeys some characters and hides others.

use std::borrow::Cow;

/// True for text without controls, line and paragraph separators.
pub fn is_one_line(text: &str) -> bool {
    !text.chars().any(breaks_line)
}

/// Unicode does not class line and paragraph separators as controls.
pub fn breaks_line(character: char) -> bool {
    character.is_control() || matches!(character, '\u{2028}' | '\u{2029}')
}

/// False for a character that a terminal obeys or does not show: controls, line and paragraph separators, and marks.
pub fn is_printable(character: char) -> bool {
    !breaks_line(character) && !is_invisible(character)
}

/// True for marks that turn the direction of text, and other marks that show nothing (Unicode's
/// `Default_Ignorable_Code_Point`).
pub fn is_invisible(character: char) -> bool {
    matches!(
        character,
        '\u{ad}'
            | '\u{34f}'
            | '\u{61c}'
            | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}'
            | '\u{13430}'..='\u{1343f}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}'
    )
}

/// The text on one line, with `U+FFFD` for each character that is not printable.
pub fn printable(text: &str) -> Cow<'_, str> {
    if text.chars().all(is_printable) {
        return Cow::Borrowed(text);
    }
    text.chars().map(|character| if is_printable(character) { character } else { '\u{fffd}' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_character_that_a_terminal_obeys_or_hides_is_replaced() {
        for character in "\0\t\n\r\u{1b}\u{7f}\u{80}\u{85}\u{9b}\u{9f}\u{ad}\u{61c}\u{200b}\u{200d}\u{200e}\u{200f}\
            \u{2028}\u{2029}\u{202a}\u{202e}\u{2060}\u{2065}\u{2066}\u{2069}\u{206f}\u{3164}\u{fe0f}\u{feff}\u{fff9}\
            \u{e0001}\u{e0041}\u{e01ef}"
            .chars()
        {
            assert_eq!(printable(&format!("a{character}b")), "a\u{fffd}b", "{character:?}");
        }
    }

    #[test]
    fn visible_text_is_kept() {
        for text in ["", "Ñandú +57 300…", "مرحبا 漢字 👍", "\u{a0}e\u{301}\u{600}"] {
            assert!(matches!(printable(text), Cow::Borrowed(kept) if kept == text), "{text}");
        }
    }
}
