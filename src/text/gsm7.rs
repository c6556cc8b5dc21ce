//! Segments of a text message, and folding to GSM-7.
//!
//! A message in the GSM 7-bit default alphabet has up to 160 characters; one other character turns the whole message into
//! UCS-2, which has 70 (3GPP TS 23.038 §6.2.1 and §6.2.3, TS 23.040 §9.2.3.24.1 for the headers of long
//! messages). [`fold`] replaces characters by plain ones, [`measure`] counts segments.
//!
//! Not a codec: nothing is packed into septets here, the provider does that. National language shift tables are not
//! counted on, since a provider need not use them.

use std::borrow::Cow;

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::{decompose_compatible, is_combining_mark};

use super::grapheme::clusters;
use crate::domain::gsm7_alphabet::{is_gsm7, septets};

/// Septets, or UTF-16 units, in a message of its own.
const SINGLE_SEPTETS: u32 = 160;
const SINGLE_UNITS: u32 = 70;
/// The same in each part of a long message: the header that joins the parts takes six octets.
const PART_SEPTETS: u32 = 153;
const PART_UNITS: u32 = 67;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segments {
    pub encoding: Encoding,
    /// Septets or UTF-16 units.
    pub units: u32,
    /// Billed segments. An empty text still has one.
    pub count: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// The GSM 7-bit default alphabet with its extension table.
    Gsm7,
    /// Two octets a character. In practice UTF-16: phones show surrogate pairs as the one character that they are.
    Ucs2,
}

impl Encoding {
    pub fn as_str(self) -> &'static str {
        match self {
            Encoding::Gsm7 => "gsm7",
            Encoding::Ucs2 => "ucs2",
        }
    }
}

/// Counts segments as a provider does: a grapheme cluster is not split between two of them, unless it is longer than one.
pub fn measure(text: &str) -> Segments {
    match pack(text.chars().map(septets), SINGLE_SEPTETS, PART_SEPTETS) {
        Some((units, count)) => Segments { encoding: Encoding::Gsm7, units, count },
        None => {
            let (units, count) =
                pack(clusters(text).flat_map(widths), SINGLE_UNITS, PART_UNITS).unwrap_or((0, 1));
            Segments { encoding: Encoding::Ucs2, units, count }
        }
    }
}

/// Replaces characters outside the GSM alphabet by plain ones: `á` becomes `a`, `“` becomes `"`.
///
/// Characters of the alphabet stay (`ñ`, `é`, `à`, `ü`), in any composition. A character without a replacement stays too, so
/// the result may not be GSM-7: see [`is_gsm7`].
pub fn fold(text: &str) -> Cow<'_, str> {
    if is_gsm7(text) {
        return Cow::Borrowed(text);
    }
    let mut folded = String::with_capacity(text.len());
    for character in text.nfc() {
        match replacement(character) {
            Some(plain) => folded.push_str(plain),
            None => push_folded(character, &mut folded),
        }
    }
    Cow::Owned(folded)
}

/// The UTF-16 units of a cluster, split if one segment cannot hold it.
fn widths(cluster: &str) -> impl Iterator<Item = Option<u32>> {
    let units: u32 = cluster.chars().map(|character| character.len_utf16() as u32).sum();
    let whole = (units <= PART_UNITS).then_some(units);
    let split =
        cluster.chars().filter(move |_| whole.is_none()).map(|character| character.len_utf16() as u32);
    whole.into_iter().chain(split).map(Some)
}

/// Adds up the widths; `None` if a character has none. A character that does not fit starts the next segment.
fn pack(widths: impl Iterator<Item = Option<u32>>, single_max: u32, part_max: u32) -> Option<(u32, u32)> {
    let (mut units, mut parts, mut in_part) = (0, 1, 0);
    for width in widths {
        let width = width?;
        units += width;
        in_part += width;
        if in_part > part_max {
            parts += 1;
            in_part = width;
        }
    }
    Some((units, if units <= single_max { 1 } else { parts }))
}

/// Plain replacements that Unicode's decompositions lack.
fn replacement(character: char) -> Option<&'static str> {
    Some(match character {
        '“' | '”' | '„' | '‟' | '«' | '»' | '″' => "\"",
        '‘' | '’' | '‚' | '‛' | '‹' | '›' | '′' | '´' | '`' | 'ʼ' => "'",
        '‐' | '‑' | '‒' | '–' | '—' | '―' | '−' => "-",
        '•' | '·' => "-",
        '\t' | '\u{2028}' | '\u{2029}' => " ",
        // Soft hyphen, zero-width space, word joiner, byte order mark: invisible.
        '\u{ad}' | '\u{200b}' | '\u{2060}' | '\u{feff}' => "",
        'ł' => "l",
        'Ł' => "L",
        'đ' | 'ð' => "d",
        'Đ' | 'Ð' => "D",
        'ı' => "i",
        'œ' => "oe",
        'Œ' => "OE",
        'þ' => "th",
        'Þ' => "Th",
        'ẞ' => "SS",
        _ => return None,
    })
}

/// Pushes the base letters of a character that decomposes into the alphabet and marks, else the character itself. A single
/// mark is dropped after a letter of the alphabet and kept after other letters, because other scripts need theirs.
fn push_folded(character: char, folded: &mut String) {
    if septets(character).is_some() {
        return folded.push(character);
    }
    let before = folded.len();
    let mut plain = true;
    decompose_compatible(character, |part| match septets(part) {
        Some(_) => folded.push(part),
        None => plain &= is_combining_mark(part),
    });
    let after_plain = folded.chars().next_back().is_some_and(|last| septets(last).is_some());
    if !plain || !after_plain {
        folded.truncate(before);
        folded.push(character);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn measures(text: &str, encoding: Encoding, units: u32, count: u32) {
        assert_eq!(measure(text), Segments { encoding, units, count });
    }

    #[test]
    fn the_alphabet_is_complete() {
        let basic = "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?\
                     ¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà";
        // 128 codes, one of which is the escape to the extension table.
        measures(basic, Encoding::Gsm7, 127, 1);
        measures("\u{c}^{}\\[~]|€", Encoding::Gsm7, 20, 1);
        let all = (0..=u32::from(u16::MAX)).filter_map(char::from_u32);
        assert_eq!(all.filter(|&character| septets(character).is_some()).count(), 127 + 10);
    }

    #[test]
    fn a_gsm_text_of_160_is_one_message_and_one_more_makes_two() {
        measures("", Encoding::Gsm7, 0, 1);
        measures(&"a".repeat(160), Encoding::Gsm7, 160, 1);
        measures(&"a".repeat(161), Encoding::Gsm7, 161, 2);
        measures(&"a".repeat(306), Encoding::Gsm7, 306, 2);
        measures(&"a".repeat(307), Encoding::Gsm7, 307, 3);
    }

    #[test]
    fn an_extension_character_counts_two_and_is_not_split() {
        measures(&"€".repeat(80), Encoding::Gsm7, 160, 1);
        // 152 septets and a pair: the pair moves on, which leaves one septet of each part unused.
        measures(&"€".repeat(152), Encoding::Gsm7, 304, 2);
        measures(&"€".repeat(153), Encoding::Gsm7, 306, 3);
    }

    #[test]
    fn one_foreign_character_makes_the_whole_text_ucs2() {
        measures("código", Encoding::Ucs2, 6, 1);
        measures(&"á".repeat(70), Encoding::Ucs2, 70, 1);
        measures(&"á".repeat(71), Encoding::Ucs2, 71, 2);
        measures(&"á".repeat(134), Encoding::Ucs2, 134, 2);
        measures(&"á".repeat(135), Encoding::Ucs2, 135, 3);
    }

    #[test]
    fn a_surrogate_pair_counts_two_and_is_not_split() {
        measures(&"🔑".repeat(35), Encoding::Ucs2, 70, 1);
        measures(&"🔑".repeat(66), Encoding::Ucs2, 132, 2);
        measures(&"🔑".repeat(67), Encoding::Ucs2, 134, 3);
    }

    #[test]
    fn folding_keeps_what_the_alphabet_has_and_replaces_what_has_a_twin() {
        assert_eq!(fold("áíóúÁÍÓÚ ãõâêô çÇ"), "aiouAIOU aoaeo cÇ");
        assert_eq!(fold("ñÑéÉàüÜ ¿¡€"), "ñÑéÉàüÜ ¿¡€");
        assert_eq!(fold("“hola” ‘tú’ – fin… ya\u{a0}está"), "\"hola\" 'tu' - fin... ya esta");
        assert_eq!(fold("Łukasz Đorđe Œuvre İpek"), "Lukasz Dorde OEuvre Ipek");
        assert_eq!(fold("n\u{303} e\u{301} o\u{301}"), "ñ é o");
    }

    #[test]
    fn folding_leaves_what_has_no_twin() {
        assert_eq!(fold("Анна 🔑 ó"), "Анна 🔑 o");
        assert!(!is_gsm7(&fold("Анна")));
    }

    #[test]
    fn a_text_of_the_alphabet_is_not_copied() {
        assert!(matches!(fold("MeStore: ¿año?"), Cow::Borrowed(_)));
    }

    proptest! {
        #[test]
        fn folding_twice_is_folding_once(text in any::<String>()) {
            let folded = fold(&text).into_owned();
            prop_assert_eq!(fold(&folded), folded.as_str());
        }

        #[test]
        fn a_count_of_messages_always_has_room_for_the_units(text in any::<String>()) {
            let Segments { encoding, units, count } = measure(&text);
            let (single, part) = match encoding {
                Encoding::Gsm7 => (SINGLE_SEPTETS, PART_SEPTETS),
                Encoding::Ucs2 => (SINGLE_UNITS, PART_UNITS),
            };
            let room = if count == 1 { single } else { part * count };
            prop_assert!(count >= 1 && units <= room);
        }
    }
}
