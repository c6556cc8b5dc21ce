//! Reads a small JSON object. An error names the field, its rule and the type received, never the value.

use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::{Map, Value};

use super::problem::Problem;
use crate::domain::request::error::Shape;

pub(super) struct Body(Map<String, Value>);

impl Body {
    pub(super) fn read(headers: &HeaderMap, bytes: &Bytes) -> Result<Body, Problem> {
        let essence =
            |kind: &HeaderValue| kind.to_str().ok()?.split(';').next().map(|kind| kind.trim().to_owned());
        let is_json = |kind: &HeaderValue| {
            essence(kind).is_some_and(|kind| kind.eq_ignore_ascii_case("application/json"))
        };
        let mut kinds = headers.get_all(header::CONTENT_TYPE).iter();
        if !kinds.next().is_some_and(is_json) || kinds.next().is_some() {
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type")
                .detail("the body must be application/json"));
        }
        match serde_json::from_slice(bytes) {
            Ok(Value::Object(fields)) => Ok(Body(fields)),
            Ok(_) => Err(Problem::invalid("the body must be a JSON object")),
            Err(error) => Err(Problem::new(StatusCode::BAD_REQUEST, "malformed_json").detail(format!(
                "the body is not valid JSON at line {}, column {}",
                error.line(),
                error.column()
            ))),
        }
    }

    /// Refuses every other field. A misspelt optional field would be left out without a word.
    pub(super) fn only(&self, known: &[&str]) -> Result<(), Problem> {
        let Some(name) = self.0.keys().find(|name| !known.contains(&name.as_str())) else {
            return Ok(());
        };
        // Only a name is repeated. A number or an address in place of one is not.
        let readable = name.len() <= 64
            && name.starts_with(|first: char| first.is_ascii_alphabetic())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let named = if readable { format!("`{name}`") } else { "a field".to_owned() };
        Err(Problem::new(StatusCode::BAD_REQUEST, "invalid_request")
            .detail(format!("{named} is not known; known are {}", known.join(", "))))
    }

    /// The object as JSON, with one more field.
    pub(super) fn with(mut self, field: &str, value: &str) -> Vec<u8> {
        self.0.insert(field.to_owned(), value.into());
        serde_json::to_vec(&self.0).expect("it was read from JSON")
    }

    /// `rule` completes the sentence "`field` …" of the error.
    pub(super) fn required<T>(
        &self,
        field: &str,
        rule: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, Problem> {
        self.optional(field, rule, read)?.ok_or_else(|| broken_rule(field, rule, self.shape(field)))
    }

    /// `None` if the field is absent or `null`.
    pub(super) fn optional<T>(
        &self,
        field: &str,
        rule: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, Problem> {
        match self.0.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => match read(text) {
                Some(value) => Ok(Some(value)),
                None => Err(broken_rule(field, rule, self.shape(field))),
            },
            Some(_) => Err(broken_rule(field, rule, self.shape(field))),
        }
    }

    /// A list of 1 to `count_max` strings.
    pub(super) fn texts(&self, field: &str, count_max: usize, rule: &str) -> Result<Vec<String>, Problem> {
        let texts = match self.0.get(field) {
            Some(Value::Array(items)) if (1..=count_max).contains(&items.len()) => {
                items.iter().map(|item| item.as_str().map(str::to_owned)).collect()
            }
            _ => None,
        };
        texts.ok_or_else(|| broken_rule(field, rule, self.shape(field)))
    }

    fn shape(&self, field: &str) -> Shape {
        self.0.get(field).map_or(Shape::Nothing, Shape::of)
    }
}

fn broken_rule(field: &str, rule: &str, received: Shape) -> Problem {
    Problem::invalid(format!("`{field}` {rule}; got {received}"))
}
