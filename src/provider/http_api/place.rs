//! Where a value stands in an answer or a call of a vendor.

use std::borrow::Cow;

use regex::bytes::{Regex, RegexBuilder};
use reqwest::header::{HeaderMap, HeaderName};

use crate::domain::json::{Json, Shape};

/// `json:` and a pointer (RFC 6901), `header:`, `query:` or `form:` and a name, or `text`, with a `:` and a regular
/// expression whose first group is the value.
pub(super) enum Place {
    Json(Vec<String>),
    Header(HeaderName),
    Query(String),
    Form(String),
    Text(Option<Regex>),
}

/// The parts of an answer or a call.
#[derive(Clone, Copy)]
pub(super) struct Parts<'a> {
    /// The body as JSON, or an element of it.
    pub(super) json: Option<Json<'a>>,
    pub(super) body: &'a [u8],
    /// `None` in a call, `query` in an answer.
    pub(super) headers: Option<&'a HeaderMap>,
    pub(super) query: &'a str,
}

pub(super) const OF_ANSWERS: [&str; 3] = ["json", "header", "text"];
pub(super) const OF_CALLS: [&str; 4] = ["json", "query", "form", "text"];

const REGEX_BYTES_MAX: usize = 512;
const REGEX_COMPILED_MAX: usize = 256 * 1024;

impl Place {
    /// `kinds` are those that exist here.
    pub(super) fn parse(text: &str, kinds: &[&str]) -> Result<Place, String> {
        let (kind, name) = text.split_once(':').unwrap_or((text, ""));
        let rule = || format!("must begin with one of {}:", kinds.join(":, "));
        if !kinds.contains(&kind) {
            return Err(rule());
        }
        match (kind, name) {
            ("text", "") => Ok(Place::Text(None)),
            ("text", pattern) => {
                let regex = regex(pattern)?;
                if regex.captures_len() < 2 {
                    return Err("must have a group ( ) around the value".to_owned());
                }
                Ok(Place::Text(Some(regex)))
            }
            (_, "") => Err(rule()),
            ("json", pointer) => pointer_of(pointer).map(Place::Json),
            ("header", name) => {
                HeaderName::try_from(name).map(Place::Header).map_err(|_| "names no header".to_owned())
            }
            ("query", name) => Ok(Place::Query(name.to_owned())),
            (_, name) => Ok(Place::Form(name.to_owned())),
        }
    }

    pub(super) fn is_in_query(&self) -> bool {
        matches!(self, Place::Query(_))
    }

    pub(super) fn is_in_body(&self) -> bool {
        matches!(self, Place::Json(_) | Place::Form(_) | Place::Text(_))
    }

    pub(super) fn pointer(&self) -> Option<&[String]> {
        match self {
            Place::Json(pointer) => Some(pointer),
            _ => None,
        }
    }

    /// A text, or a number or truth value as text.
    pub(super) fn read<'a>(&self, parts: &Parts<'a>) -> Option<Cow<'a, str>> {
        match self {
            Place::Json(pointer) => scalar(at(parts.json?, pointer)?),
            Place::Header(name) => {
                parts.headers?.get(name)?.to_str().ok().map(|value| Cow::Borrowed(value.trim()))
            }
            Place::Query(name) => only(parts.query.as_bytes(), name),
            Place::Form(name) => only(parts.body, name),
            Place::Text(None) => Some(String::from_utf8_lossy(parts.body)),
            Place::Text(Some(regex)) => {
                let found = regex.captures(parts.body)?.get(1)?;
                std::str::from_utf8(found.as_bytes()).ok().map(Cow::Borrowed)
            }
        }
    }
}

/// Matches bytes in time that is linear in their number.
pub(super) fn regex(pattern: &str) -> Result<Regex, String> {
    if pattern.len() > REGEX_BYTES_MAX {
        return Err(format!("must be a regular expression of at most {REGEX_BYTES_MAX} bytes"));
    }
    let mut builder = RegexBuilder::new(pattern);
    let built = builder.unicode(false).size_limit(REGEX_COMPILED_MAX).build();
    built.map_err(|_| {
        "must be a regular expression (syntax of the Rust crate regex, without Unicode)".to_owned()
    })
}

fn pointer_of(pointer: &str) -> Result<Vec<String>, String> {
    let tokens = pointer.strip_prefix('/').ok_or("must be a JSON pointer, such as json:/messages/0/id")?;
    Ok(tokens.split('/').map(|token| token.replace("~1", "/").replace("~0", "~")).collect())
}

/// The value that a JSON pointer leads to.
pub(super) fn at<'a>(json: Json<'a>, pointer: &[String]) -> Option<Json<'a>> {
    pointer.iter().try_fold(json, |json, token| match json.shape() {
        Shape::Object => json.pick([token.as_str()])[0],
        Shape::Array => json.elements().nth(token.parse().ok()?)?.ok(),
        _ => None,
    })
}

fn scalar(json: Json<'_>) -> Option<Cow<'_, str>> {
    match json.shape() {
        Shape::Text(_) => json.text(),
        Shape::Number => match json.whole_number() {
            Some(whole) => Some(whole.to_string().into()),
            None => json.number().map(|number| number.to_string().into()),
        },
        Shape::Boolean => Some(Cow::Borrowed(if json.is_true() { "true" } else { "false" })),
        _ => None,
    }
}

/// The only value of a name: with two, a reader in front of us may have read the other one.
fn only<'a>(encoded: &'a [u8], name: &str) -> Option<Cow<'a, str>> {
    let mut values = form_urlencoded::parse(encoded).filter(|(key, _)| key == name);
    let (_, value) = values.next()?;
    values.next().is_none().then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(place: &str, body: &str) -> Option<String> {
        let parts = Parts {
            json: Json::read(body.as_bytes()).ok(),
            body: body.as_bytes(),
            headers: None,
            query: "ref=a%20b&two=1&two=2",
        };
        let kinds = ["json", "query", "form", "text"];
        Place::parse(place, &kinds).expect(place).read(&parts).map(Cow::into_owned)
    }

    #[test]
    fn a_value_is_read_where_the_place_says() {
        let json = r#"{"messages":[{"id":"m1","n":7,"x/y":true,"f":1.5,"none":null}]}"#;
        for (place, body, expected) in [
            ("json:/messages/0/id", json, Some("m1")),
            ("json:/messages/0/n", json, Some("7")),
            ("json:/messages/0/f", json, Some("1.5")),
            ("json:/messages/0/x~1y", json, Some("true")),
            ("json:/messages/0/none", json, None),
            ("json:/messages/1/id", json, None),
            ("json:/messages", json, None),
            ("json:/a", r#"{"a":"#, None),
            ("query:ref", "", Some("a b")),
            ("query:two", "", None),
            ("form:id", "id=m%2F1&x=2", Some("m/1")),
            ("text", "Error \"no\"", Some("Error \"no\"")),
            ("text:^Success \"([^\"]+)\"", "Success \"m1\"", Some("m1")),
            ("text:^Success \"([^\"]+)\"", "Error", None),
        ] {
            assert_eq!(read(place, body).as_deref(), expected, "{place} in {body}");
        }
    }

    #[test]
    fn a_place_that_does_not_exist_is_refused() {
        for place in
            ["", "xml:/a", "json:", "json:a", "query:", "header:x", "text:(", "text:abc", "text:(a{99999})"]
        {
            assert!(Place::parse(place, &OF_CALLS).is_err(), "{place}");
        }
        assert!(Place::parse("header:a b", &OF_ANSWERS).is_err());
        assert!(regex(&"a".repeat(600)).is_err());
    }
}
