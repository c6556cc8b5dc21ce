//! Reads JSON (RFC 8259) member by member, so that one value that cannot be read does not spoil its neighbours.
//!
//! `serde_json` finds the end of each value and decodes it, but only when it is asked for: half of a surrogate pair,
//! bytes that are not UTF-8 or a number beyond `f64` concern only the value that holds them. Nesting costs no stack. A
//! byte order mark in front of a text is skipped, as RFC 8259 §8.1 allows.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer as _, IgnoredAny, Visitor};

const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// The reason why a text has no members or elements, or no more of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JsonError {
    /// Line and column count from 1.
    Syntax { line: usize, column: usize },
    /// The text is JSON of another type.
    OtherType,
}

/// One value, well-formed and not decoded.
#[derive(Clone, Copy)]
pub struct Json<'a>(&'a [u8]);

pub struct Member<'a> {
    /// `None` if it is not Unicode: no name of ours.
    pub name: Option<Cow<'a, str>>,
    pub value: Json<'a>,
    /// Name and value as they stand in the text.
    pub raw: &'a [u8],
}

/// The members of the object that the text is. After an error there are no more.
pub fn members(text: &[u8]) -> Members<'_> {
    Members(Items::new(text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text), b'{', b'}'))
}

pub struct Members<'a>(Items<'a>);

impl<'a> Iterator for Members<'a> {
    type Item = Result<Member<'a>, JsonError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next_item(|items| {
            let start = items.at;
            if items.peek() != Some(b'"') {
                return Err(items.error());
            }
            let name = items.value()?.text();
            items.skip(b':')?;
            let value = items.value()?;
            Ok(Member { name, value, raw: &items.text[start..items.at] })
        })
    }
}

/// The elements of an array. After an error there are no more.
pub struct Elements<'a>(Items<'a>);

impl<'a> Iterator for Elements<'a> {
    type Item = Result<Json<'a>, JsonError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next_item(Items::value)
    }
}

impl<'a> Json<'a> {
    /// The value that a text is. Only its type and its first error are found here.
    pub fn read(text: &'a [u8]) -> Result<Json<'a>, JsonError> {
        let mut items = Items::new(text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text), b'[', b']');
        items.skip_space();
        let value = items.value()?;
        items.end().map(|()| value)
    }

    /// The text of a string; `None` for another type, or if it is not Unicode.
    pub fn text(self) -> Option<Cow<'a, str>> {
        match self.bytes()? {
            Cow::Borrowed(bytes) => std::str::from_utf8(bytes).ok().map(Cow::Borrowed),
            Cow::Owned(bytes) => String::from_utf8(bytes).ok().map(Cow::Owned),
        }
    }

    /// A number within the range of `f64`.
    pub fn number(self) -> Option<f64> {
        matches!(self.0[0], b'-' | b'0'..=b'9').then(|| serde_json::from_slice(self.0).ok())?
    }

    /// A number without fraction, sign or exponent.
    pub fn whole_number(self) -> Option<u64> {
        serde_json::from_slice(self.0).ok()
    }

    pub fn is_true(self) -> bool {
        self.0[0] == b't'
    }

    pub fn is_null(self) -> bool {
        self.0[0] == b'n'
    }

    pub fn members(self) -> Members<'a> {
        members(self.0)
    }

    pub fn elements(self) -> Elements<'a> {
        Elements(Items::new(self.0, b'[', b']'))
    }

    /// The members of these names, `None` for an absent one. The last one of a name counts.
    pub fn pick<const N: usize>(self, names: [&str; N]) -> [Option<Json<'a>>; N] {
        let mut picked = [None; N];
        for member in self.members().map_while(Result::ok) {
            let name = member.name.as_deref();
            if let Some(at) = names.iter().position(|wanted| Some(*wanted) == name) {
                picked[at] = Some(member.value);
            }
        }
        picked
    }

    pub fn shape(self) -> Shape {
        match self.0[0] {
            b'n' => Shape::Null,
            b't' | b'f' => Shape::Boolean,
            b'"' => self.text().map_or(Shape::NotUnicode, |text| Shape::Text(text.chars().count())),
            b'[' => Shape::Array,
            b'{' => Shape::Object,
            _ => Shape::Number,
        }
    }

    /// The bytes of a string. An unpaired surrogate becomes three bytes that are not UTF-8.
    fn bytes(self) -> Option<Cow<'a, [u8]>> {
        let is_string = self.0[0] == b'"';
        is_string.then(|| serde_json::Deserializer::from_slice(self.0).deserialize_bytes(Bytes).ok())?
    }
}

struct Bytes;

impl<'a> Visitor<'a> for Bytes {
    type Value = Cow<'a, [u8]>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_bytes<E>(self, bytes: &'a [u8]) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(bytes))
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Self::Value, E> {
        Ok(Cow::Owned(bytes.to_vec()))
    }
}

/// A position in a text whose items stand between brackets, with commas.
struct Items<'a> {
    text: &'a [u8],
    at: usize,
    brackets: [u8; 2],
    progress: Progress,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    Before,
    Inside,
    Over,
}

impl<'a> Items<'a> {
    fn new(text: &'a [u8], open: u8, close: u8) -> Items<'a> {
        Items { text, at: 0, brackets: [open, close], progress: Progress::Before }
    }

    fn next_item<T>(
        &mut self,
        read: impl FnOnce(&mut Items<'a>) -> Result<T, JsonError>,
    ) -> Option<Result<T, JsonError>> {
        if self.progress == Progress::Over {
            return None;
        }
        let item = self.has_next().and_then(|next| next.then(|| read(self)).transpose()).transpose();
        self.progress = if matches!(item, Some(Ok(_))) { Progress::Inside } else { Progress::Over };
        item
    }

    /// Goes to the next item, or behind the last one.
    fn has_next(&mut self) -> Result<bool, JsonError> {
        let [open, close] = self.brackets;
        self.skip_space();
        let begins = self.progress == Progress::Before;
        if begins && self.peek() != Some(open) {
            // Of another type, or not JSON.
            return Json::read(self.text).and(Err(JsonError::OtherType));
        }
        if begins {
            self.skip(open)?;
        }
        if self.peek() == Some(close) {
            self.at += 1;
            return self.end().map(|()| false);
        }
        if !begins {
            self.skip(b',')?;
        }
        Ok(true)
    }

    fn end(&mut self) -> Result<(), JsonError> {
        self.skip_space();
        if self.at == self.text.len() { Ok(()) } else { Err(self.error()) }
    }

    fn value(&mut self) -> Result<Json<'a>, JsonError> {
        let rest = &self.text[self.at..];
        let mut values = serde_json::Deserializer::from_slice(rest).into_iter::<IgnoredAny>();
        match values.next() {
            Some(Ok(IgnoredAny)) => {
                let end = values.byte_offset();
                self.at += end;
                Ok(Json(&rest[..end]))
            }
            Some(Err(error)) => Err(self.error_at(error.line(), error.column())),
            None => Err(self.error()),
        }
    }

    /// Skips this byte, and space around it.
    fn skip(&mut self, byte: u8) -> Result<(), JsonError> {
        self.skip_space();
        if self.peek() != Some(byte) {
            return Err(self.error());
        }
        self.at += 1;
        self.skip_space();
        Ok(())
    }

    fn skip_space(&mut self) {
        let is_space = |byte: &&u8| b" \t\r\n".contains(byte);
        self.at += self.text[self.at..].iter().take_while(is_space).count();
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    /// At the next byte, or at the last one.
    fn error(&self) -> JsonError {
        self.error_at(1, usize::from(self.at < self.text.len()))
    }

    /// For a position that counts from here.
    fn error_at(&self, line: usize, column: usize) -> JsonError {
        let before = &self.text[..self.at];
        let here = before.iter().rev().take_while(|byte| **byte != b'\n').count();
        let lines = before.iter().filter(|byte| **byte == b'\n').count();
        JsonError::Syntax { line: lines + line, column: if line == 1 { here + column } else { column } }
    }
}

/// The type and size of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    Nothing,
    Null,
    Boolean,
    Number,
    /// The number of characters.
    Text(usize),
    /// A string with half of a surrogate pair, or with bytes that are not UTF-8.
    NotUnicode,
    Array,
    Object,
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Shape::Nothing => f.write_str("nothing"),
            Shape::Null => f.write_str("null"),
            Shape::Boolean => f.write_str("a boolean"),
            Shape::Number => f.write_str("a number"),
            Shape::Text(1) => f.write_str("a string of 1 character"),
            Shape::Text(characters) => write!(f, "a string of {characters} characters"),
            Shape::NotUnicode => f.write_str("a string that is not valid Unicode"),
            Shape::Array => f.write_str("an array"),
            Shape::Object => f.write_str("an object"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<(Option<String>, Shape)>, JsonError> {
        members(text.as_bytes())
            .map(|member| member.map(|member| (member.name.map(Cow::into_owned), member.value.shape())))
            .collect()
    }

    #[test]
    fn a_value_that_cannot_be_decoded_spoils_none_of_its_neighbours() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        for (odd, shape) in [
            (r#""Ana \ud83d""#, Shape::NotUnicode),
            (r#""\ude00\ud83d""#, Shape::NotUnicode),
            (r#""\ud83d\ude00""#, Shape::Text(1)),
            (r#""\u0000""#, Shape::Text(1)),
            (r#"{"a":["\ud83d"],"\ud83d":1,"a":2}"#, Shape::Object),
            ("1e999", Shape::Number),
            (&"9".repeat(10_000), Shape::Number),
            (&deep, Shape::Array),
        ] {
            for text in [
                format!("\u{feff}{{\"a\":{odd},\"\\ud83d\":{odd},\"t\\u006f\":\"1\"}}"),
                format!(" {{ \"a\" : {odd}\n,\"\\ud83d\":\t{odd} , \"to\": \"\\u0031\" }}\r\n"),
            ] {
                let to = (Some("to".to_owned()), Shape::Text(1));
                let expected = vec![(Some("a".to_owned()), shape), (None, shape), to];
                assert_eq!(read(&text), Ok(expected), "{shape:?}");
            }
        }
        let cut = b"{\"a\":\"\xf0\x9f\",\"\xed\xa0\xbd\":1,\"b\":\"2\"}";
        let shapes: Result<Vec<_>, _> =
            members(cut).map(|member| member.map(|member| member.value.shape())).collect();
        assert_eq!(shapes, Ok(vec![Shape::NotUnicode, Shape::Number, Shape::Text(1)]));
    }

    #[test]
    fn a_list_is_read_one_by_one() {
        let list = Json::read(br#"[1, "a", null, "\ud83d", [2], {"b":"]"}]"#).expect("JSON");
        let shapes: Result<Vec<_>, _> = list.elements().map(|value| value.map(Json::shape)).collect();
        let expected =
            [Shape::Number, Shape::Text(1), Shape::Null, Shape::NotUnicode, Shape::Array, Shape::Object];
        assert_eq!(shapes, Ok(expected.to_vec()));
        assert_eq!(
            Json::read(b"{}").expect("JSON").elements().next().map(Result::err),
            Some(Some(JsonError::OtherType))
        );
    }

    #[test]
    fn members_are_picked_by_name_whatever_stands_beside_them() {
        let object =
            Json::read(br#"{"\ud83d":1,"a":"\ud83d","b":7,"c":1e999,"b":8,"d":-1,"e":1.0}"#).expect("JSON");
        let [a, b, c, d, e, f] = object.pick(["a", "b", "c", "d", "e", "f"]);
        assert_eq!(a.map(Json::shape), Some(Shape::NotUnicode));
        assert_eq!([b, c, d, e].map(|value| value?.whole_number()), [Some(8), None, None, None]);
        assert!(f.is_none());
        assert!(Json::read(b"[]").expect("JSON").pick(["a"])[0].is_none());
    }

    #[test]
    fn a_text_of_another_type_and_one_that_is_no_json_have_different_errors() {
        for text in ["[]", "7", "null", "\"{}\"", " true "] {
            assert_eq!(read(text), Err(JsonError::OtherType), "{text}");
        }
        assert_eq!(read("{}"), Ok(vec![]));
        for (text, line, column) in [
            ("", 1, 0),
            ("{\"a\":1,}", 1, 8),
            ("{\n\"a\":1\n\"b\":2}", 3, 1),
            ("{} x", 1, 4),
            ("{\"a\":[1,]}", 1, 9),
            ("{\"a\":\n nul}", 2, 5),
            ("{\"a\"", 1, 4),
        ] {
            assert_eq!(read(text), Err(JsonError::Syntax { line, column }), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_text_is_refused_if_and_only_if_serde_json_refuses_it(
            text in "[ \\[\\]{},:\"a1\\-.e\\\\ud8n]{0,12}|\\{(\"[a\\\\ud83]{0,8}\":[\\[\\]{}\",:1a]{0,6},?){0,3}\\}"
        ) {
            let known: Result<IgnoredAny, _> = serde_json::from_str(&text);
            let found = read(&text);
            let is_json = !matches!(found, Err(JsonError::Syntax { .. }));
            proptest::prop_assert_eq!(is_json, known.is_ok(), "{}: {:?}", text, found);
        }
    }
}
