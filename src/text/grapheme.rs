//! Grapheme clusters: characters for a reader, which are not split between two segments.
//!
//! The rules that matter in a message: marks and joiners belong to the character before them, flags are pairs, and the
//! letters of a Korean syllable belong together (Unicode UAX #29, extended grapheme clusters). Joined pictures follow the
//! tables of 2017, as the provider's own segment calculator does.

use unicode_normalization::char::is_combining_mark;

/// The clusters of a text, in order.
pub(super) fn clusters(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (cluster, after) = rest.split_at(first_len(rest)?);
        rest = after;
        Some(cluster)
    })
}

/// The bytes of the first cluster; `None` for an empty text.
fn first_len(text: &str) -> Option<usize> {
    let mut characters = text.char_indices();
    let (_, mut last) = characters.next()?;
    let mut flags = usize::from(is_flag_half(last));
    for (at, next) in characters {
        if !joins(last, next, flags) {
            return Some(at);
        }
        flags += usize::from(is_flag_half(next));
        last = next;
    }
    Some(text.len())
}

/// True if `next` belongs to the cluster that ends with `last` and has `flags` halves of flags.
fn joins(last: char, next: char, flags: usize) -> bool {
    if last.is_control() {
        return false;
    }
    extends(next)
        || (is_flag_half(last) && is_flag_half(next) && flags % 2 == 1)
        || (last == ZERO_WIDTH_JOINER && is_picture(next))
        || is_syllable(last, next)
}

const ZERO_WIDTH_JOINER: char = '\u{200d}';

fn extends(character: char) -> bool {
    matches!(character,
        '\u{200c}' | ZERO_WIDTH_JOINER
        // Vowel signs that Unicode calls letters.
        | '\u{e33}' | '\u{eb3}' | '\u{ff9e}' | '\u{ff9f}'
        // Shades of skin, and what flags of regions are spelt with.
        | '\u{1f3fb}'..='\u{1f3ff}' | '\u{e0020}'..='\u{e007f}')
        || is_combining_mark(character) && !stands_alone(character)
}

/// Marks of Myanmar and its neighbours that are characters of their own.
fn stands_alone(character: char) -> bool {
    matches!(character,
        '\u{102b}' | '\u{102c}' | '\u{1038}' | '\u{1062}'..='\u{1064}' | '\u{1067}'..='\u{106d}' | '\u{1083}'
        | '\u{1087}'..='\u{108c}' | '\u{108f}' | '\u{109a}'..='\u{109c}' | '\u{1a61}' | '\u{1a63}' | '\u{1a64}'
        | '\u{aa7b}' | '\u{aa7d}' | '\u{11720}' | '\u{11721}')
}

fn is_flag_half(character: char) -> bool {
    matches!(character, '\u{1f1e6}'..='\u{1f1ff}')
}

fn is_picture(character: char) -> bool {
    matches!(character, '\u{2190}'..='\u{2bff}' | '\u{1f300}'..='\u{1faff}')
}

/// The letters of a Korean syllable: first ones, vowels, last ones.
fn is_syllable(last: char, next: char) -> bool {
    let first = |c: char| matches!(c, '\u{1100}'..='\u{115f}' | '\u{a960}'..='\u{a97c}');
    let vowel = |c: char| matches!(c, '\u{1160}'..='\u{11a7}' | '\u{d7b0}'..='\u{d7c6}');
    let end = |c: char| matches!(c, '\u{11a8}'..='\u{11ff}' | '\u{d7cb}'..='\u{d7fb}');
    let whole = |c: char| matches!(c, '\u{ac00}'..='\u{d7a3}');
    let open = |c: char| whole(c) && (u32::from(c) - 0xac00) % 28 == 0;
    (first(last) && (first(next) || vowel(next) || whole(next)))
        || ((vowel(last) || open(last)) && (vowel(next) || end(next)))
        || ((end(last) || whole(last)) && end(next))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn splits(text: &str, expected: &[&str]) {
        assert_eq!(clusters(text).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn one_character_for_a_reader_stays_together() {
        splits("", &[]);
        splits("añ\r\n", &["a", "ñ", "\r", "\n"]);
        splits("e\u{301}\u{302}x", &["e\u{301}\u{302}", "x"]);
        splits("\u{301}e", &["\u{301}", "e"]);
        splits("🇨🇴🇲🇽🇪", &["🇨🇴", "🇲🇽", "🇪"]);
        splits("👨\u{200d}👩\u{200d}👧👍🏽", &["👨\u{200d}👩\u{200d}👧", "👍🏽"]);
        splits("नि 각\u{1100}\u{1161}\u{11a8}", &["नि", " ", "각", "\u{1100}\u{1161}\u{11a8}"]);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_or_made_up(text in any::<String>()) {
            prop_assert_eq!(clusters(&text).collect::<String>(), text);
        }
    }
}
