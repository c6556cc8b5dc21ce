//! Properties of a message that `lapin` can read.
//!
//! AMQP asks for UTF-8 in short strings, and RabbitMQ passes on other bytes, and tables of any depth. `lapin` ends its connection
//! at the first, and the process at the second.

use std::ops::Range;

use lapin::protocol::basic::parse_properties;

/// Of a content header's payload: class, weight and body size stand before the properties.
const PROPERTIES_AT: usize = 12;

/// The kinds of the properties in their order, from the highest bit of the flags down.
const KINDS: [Kind; 14] = {
    use Kind::{Octet, ShortString, Table, Timestamp};
    [
        ShortString, // content type
        ShortString, // content encoding
        Table,       // headers
        Octet,       // delivery mode
        Octet,       // priority
        ShortString, // correlation id
        ShortString, // reply to
        ShortString, // expiration
        ShortString, // message id
        Timestamp,
        ShortString, // type
        ShortString, // user id
        ShortString, // app id
        ShortString, // cluster id
    ]
};

#[derive(Clone, Copy)]
enum Kind {
    ShortString,
    Table,
    Octet,
    Timestamp,
}

/// Tables and arrays within each other, at most. `lapin` reads them by recursion, and a deep one overflows its stack.
const DEPTH_MAX: u32 = 32;

/// A readable form of a content header's payload; `None` if it is readable itself.
///
/// Bytes of short strings that are no UTF-8 become question marks. Properties that are unreadable for another reason are left
/// out altogether.
pub(super) fn made_readable(payload: &[u8]) -> Option<Vec<u8>> {
    let (head, properties) = payload.split_at_checked(PROPERTIES_AT)?;
    let mut walk = Walk { bytes: properties, at: 0, depth: 0, unreadable: Vec::new() };
    let is_whole = walk.properties().is_some() && walk.at == properties.len();
    if is_whole && walk.unreadable.is_empty() {
        return None;
    }
    let mut masked = properties.to_vec();
    walk.unreadable.into_iter().for_each(|text| mask(&mut masked[text]));
    // No property is present in an empty form.
    let readable = if is_whole && is_readable(&masked) { masked } else { vec![0, 0] };
    Some([head, &readable].concat())
}

fn is_readable(properties: &[u8]) -> bool {
    parse_properties(properties).is_ok_and(|(rest, _)| rest.is_empty())
}

/// Walks over properties. `None`: they end too early, a type is unknown, or tables are too deep.
struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
    depth: u32,
    /// The short strings that are no UTF-8.
    unreadable: Vec<Range<usize>>,
}

impl Walk<'_> {
    fn properties(&mut self) -> Option<()> {
        let flags = self.number(2)?;
        for (nth, kind) in KINDS.into_iter().enumerate() {
            if flags & (1 << (15 - nth)) == 0 {
                continue;
            }
            match kind {
                Kind::ShortString => self.short_string()?,
                Kind::Table => self.table()?,
                Kind::Octet => self.skip(1)?,
                Kind::Timestamp => self.skip(8)?,
            }
        }
        Some(())
    }

    fn short_string(&mut self) -> Option<()> {
        let length = self.number(1)?;
        let text = self.at..self.at + length;
        self.skip(length)?;
        if std::str::from_utf8(&self.bytes[text.clone()]).is_err() {
            self.unreadable.push(text);
        }
        Some(())
    }

    fn table(&mut self) -> Option<()> {
        self.entries(|walk| {
            walk.short_string()?;
            walk.value()
        })
    }

    /// The entries of a table or an array, after its length in four bytes.
    fn entries(&mut self, entry: fn(&mut Self) -> Option<()>) -> Option<()> {
        let length = self.number(4)?;
        let end = self.at.checked_add(length).filter(|end| *end <= self.bytes.len())?;
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return None;
        }
        while self.at < end {
            entry(self)?;
        }
        self.depth -= 1;
        (self.at == end).then_some(())
    }

    fn value(&mut self) -> Option<()> {
        let kind = u8::try_from(self.number(1)?).ok()?;
        match kind {
            b'F' => self.table(),
            b'A' => self.entries(Walk::value),
            b'S' | b'x' => {
                let length = self.number(4)?;
                self.skip(length)
            }
            b'V' => Some(()),
            b't' | b'b' | b'B' => self.skip(1),
            b's' | b'U' | b'u' => self.skip(2),
            b'I' | b'i' | b'f' => self.skip(4),
            b'D' => self.skip(5),
            b'L' | b'l' | b'd' | b'T' => self.skip(8),
            _ => None,
        }
    }

    fn number(&mut self, bytes: usize) -> Option<usize> {
        let from = self.at;
        self.skip(bytes)?;
        Some(self.bytes[from..self.at].iter().fold(0, |number, byte| number << 8 | usize::from(*byte)))
    }

    fn skip(&mut self, bytes: usize) -> Option<()> {
        self.at = self.at.checked_add(bytes).filter(|end| *end <= self.bytes.len())?;
        Some(())
    }
}

/// Replaces each byte that is no part of valid UTF-8, so that the length stays.
fn mask(mut text: &mut [u8]) {
    while let Err(error) = std::str::from_utf8(text) {
        let from = error.valid_up_to();
        let to = error.error_len().map_or(text.len(), |length| from + length);
        text[from..to].fill(b'?');
        let rest = text;
        text = &mut rest[to..];
    }
}

#[cfg(test)]
mod tests {
    use lapin::BasicProperties;
    use proptest::prelude::*;

    use super::*;

    const HEAD: [u8; PROPERTIES_AT] = [0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7];
    const CONTENT_TYPE: u16 = 1 << 15;
    const HEADERS: u16 = 1 << 13;
    const MESSAGE_ID: u16 = 1 << 7;

    fn payload(flags: u16, properties: &[u8]) -> Vec<u8> {
        [&HEAD, flags.to_be_bytes().as_slice(), properties].concat()
    }

    /// The properties that `lapin` reads after the repair.
    #[track_caller]
    fn read(flags: u16, properties: &[u8]) -> BasicProperties {
        let payload = made_readable(&payload(flags, properties)).expect("it was unreadable");
        assert_eq!(payload[..PROPERTIES_AT], HEAD, "the size of the body stays");
        parse_properties(&payload[PROPERTIES_AT..]).expect("readable").1
    }

    #[test]
    fn readable_properties_do_not_change() {
        let id = [2, 0xc3, 0xa9];
        for (flags, properties) in [(0, &[][..]), (MESSAGE_ID, &id)] {
            assert_eq!(made_readable(&payload(flags, properties)), None);
        }
        assert_eq!(made_readable(&[1, 2, 3]), None, "no content header");
    }

    #[test]
    fn bytes_that_are_no_text_become_question_marks_and_the_rest_stays() {
        let properties = read(CONTENT_TYPE | MESSAGE_ID, b"\x01j\x05x\xff\xc3\xa9\xe2");
        assert_eq!(properties.content_type().as_ref().map(|text| text.as_str()), Some("j"));
        assert_eq!(properties.message_id().as_ref().map(|text| text.as_str()), Some("x?\u{e9}?"));
    }

    #[test]
    fn names_of_headers_are_masked_at_every_depth() {
        let inner = b"\x02a\xffF\0\0\0\x06\x02\xfe\xffs\0\x07\x01bA\0\0\0\x0dF\0\0\0\x08\x02\xffcI\0\0\0\0";
        let length = u32::try_from(inner.len()).expect("short").to_be_bytes();
        let properties = read(HEADERS, &[length.as_slice(), inner].concat());
        let headers = properties.headers().as_ref().expect("a table").inner();
        assert_eq!(headers.keys().map(|name| name.as_str()).collect::<Vec<_>>(), ["a?", "b"]);
        let all = format!("{headers:?}");
        assert!(all.contains("??") && all.contains("?c"), "{all}");
    }

    #[test]
    fn properties_that_cannot_be_mended_are_left_out() {
        for (flags, properties) in [
            (MESSAGE_ID, b"\x09short".as_slice()),
            (HEADERS, b"\0\0\0\x04\x01aZ\0"),
            (HEADERS, b"\0\0\0\x09\x01aS\0\0\0\x01x"),
            (HEADERS, b"\xff\xff\xff\xff"),
            (0, b"more"),
        ] {
            assert_eq!(read(flags, properties), BasicProperties::default());
        }
    }
    #[test]
    fn tables_that_are_too_deep_for_a_stack_are_left_out() {
        let nested = |depth: u32| {
            let table = |inner: Vec<u8>| {
                let length = u32::try_from(inner.len()).expect("short").to_be_bytes();
                [length.as_slice(), &inner].concat()
            };
            let deeper = |inner: Vec<u8>, _| [b"\0F".as_slice(), &table(inner)].concat();
            payload(HEADERS, &table((1..depth).fold(Vec::new(), deeper)))
        };
        assert_eq!(made_readable(&nested(DEPTH_MAX)), None);
        for depth in [DEPTH_MAX + 1, 2_000] {
            assert_eq!(made_readable(&nested(depth)), Some(payload(0, b"")), "{depth}");
        }
    }

    proptest! {
        #[test]
        fn whatever_a_publisher_sends_becomes_readable(
            flags in any::<u16>(),
            changes in prop::collection::vec((0..40_usize, any::<u8>()), 0..4),
            rest in prop::collection::vec(any::<u8>(), 0..60),
        ) {
            let mut properties = b"\x01j\x01e\0\0\0\x10\x01aF\0\0\0\x09\x01bS\0\0\0\x02xy\x02\x05\x01c\x01r".to_vec();
            properties.extend(rest);
            for (at, byte) in changes {
                let at = at % properties.len();
                properties[at] = byte;
            }
            for flags in [flags, 0xfc00, 0xfe00] {
                let before = payload(flags, &properties);
                let made = made_readable(&before);
                prop_assert_eq!(made.is_none(), is_readable(&before[PROPERTIES_AT..]));
                let made = made.unwrap_or_else(|| before.clone());
                prop_assert!(is_readable(&made[PROPERTIES_AT..]));
                prop_assert_eq!(&made[..PROPERTIES_AT], &HEAD);
                prop_assert!(made.len() == before.len() || made.len() == PROPERTIES_AT + 2);
            }
        }
    }
}
