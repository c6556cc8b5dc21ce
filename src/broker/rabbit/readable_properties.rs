//! Properties of a message that `lapin` can read.
//!
//! AMQP asks for UTF-8 in short strings, and RabbitMQ passes on other bytes. `lapin` ends its connection at such a message.

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

/// Makes the payload of a content header readable. `false`: it was already, and nothing changed.
///
/// Bytes of short strings that are no UTF-8 become question marks. Properties that are unreadable for another reason are left
/// out altogether.
pub(super) fn make_readable(payload: &mut Vec<u8>) -> bool {
    let Some(properties) = payload.get_mut(PROPERTIES_AT..) else { return false };
    if is_readable(properties) {
        return false;
    }
    let masked = Walk { bytes: properties, at: 0 }.mask_properties();
    if masked.is_none() || !is_readable(&payload[PROPERTIES_AT..]) {
        payload.truncate(PROPERTIES_AT);
        // No property is present.
        payload.extend([0, 0]);
    }
    true
}

fn is_readable(properties: &[u8]) -> bool {
    parse_properties(properties).is_ok_and(|(rest, _)| rest.is_empty())
}

/// Walks over properties and masks their short strings. `None`: they end too early, or a type is unknown.
struct Walk<'a> {
    bytes: &'a mut [u8],
    at: usize,
}

impl Walk<'_> {
    fn mask_properties(&mut self) -> Option<()> {
        let flags = self.number(2)?;
        for (nth, kind) in KINDS.into_iter().enumerate() {
            if flags & (1 << (15 - nth)) == 0 {
                continue;
            }
            match kind {
                Kind::ShortString => self.mask_short_string()?,
                Kind::Table => self.mask_table()?,
                Kind::Octet => self.skip(1)?,
                Kind::Timestamp => self.skip(8)?,
            }
        }
        Some(())
    }

    fn mask_short_string(&mut self) -> Option<()> {
        let length = self.number(1)?;
        let at = self.at;
        self.skip(length)?;
        mask(&mut self.bytes[at..at + length]);
        Some(())
    }

    fn mask_table(&mut self) -> Option<()> {
        let end = self.end_of_long()?;
        while self.at < end {
            self.mask_short_string()?;
            self.mask_value()?;
        }
        Some(())
    }

    fn mask_value(&mut self) -> Option<()> {
        let kind = u8::try_from(self.number(1)?).ok()?;
        match kind {
            b'F' => self.mask_table(),
            b'A' => {
                let end = self.end_of_long()?;
                while self.at < end {
                    self.mask_value()?;
                }
                Some(())
            }
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

    /// The end of a table or an array, from its length in four bytes.
    fn end_of_long(&mut self) -> Option<usize> {
        let length = self.number(4)?;
        let end = self.at.checked_add(length)?;
        (end <= self.bytes.len()).then_some(end)
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
        let mut payload = payload(flags, properties);
        assert!(make_readable(&mut payload), "it was readable");
        assert_eq!(payload[..PROPERTIES_AT], HEAD, "the size of the body stays");
        parse_properties(&payload[PROPERTIES_AT..]).expect("readable").1
    }

    #[test]
    fn readable_properties_do_not_change() {
        let id = [2, 0xc3, 0xa9];
        for (flags, properties) in [(0, &[][..]), (MESSAGE_ID, &id)] {
            let mut given = payload(flags, properties);
            assert!(!make_readable(&mut given));
            assert_eq!(given, payload(flags, properties));
        }
        assert!(!make_readable(&mut vec![1, 2, 3]), "no content header");
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
}
