//! Reads a small JSON object. An error names the field, its rule and the type received, never the value.

use std::collections::HashSet;

use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};

use super::problem::Problem;
use crate::domain::json::{Json, JsonError, Shape};
use crate::domain::request::SendRequest;

/// Deeper bodies are refused.
const NESTING_MAX: usize = 127;
/// The fields of the API besides those of a request. An error repeats no other name.
const FIELDS: [&str; 12] = [
    "otp_type",
    "otp_code",
    "channel",
    "numbers",
    "phone_number",
    "email",
    "nonce",
    "reason",
    "hours",
    "ids",
    "dry_run",
    "force",
];
/// Of a flag.
const FLAG_RULE: &str = "must be true or false";

/// The fields that are strings, lists, whole numbers or booleans; of others only the shape.
pub(super) struct Body(Vec<(String, Field)>);

enum Field {
    Text(String),
    /// `None` is an element that is no string.
    List(Vec<Option<String>>),
    /// `None` is a number that is not whole.
    Number(Option<u64>),
    Flag(bool),
    Other(Shape),
}

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
        if std::str::from_utf8(bytes).is_err() {
            return Err(malformed("the body is not UTF-8"));
        }
        let body = Json::read(bytes).map_err(not_json)?;
        check(body, 0)?;
        let fields = body.members().map(|member| {
            let member = member.map_err(not_json)?;
            Ok(member.name.map(|name| (name.into_owned(), Field::of(member.value))))
        });
        Ok(Body(fields.filter_map(Result::transpose).collect::<Result<_, Problem>>()?))
    }

    /// Refuses every other field. A misspelt optional field would be left out without a word.
    pub(super) fn only(&self, known: &[&str]) -> Result<(), Problem> {
        let Some(name) = self.0.iter().map(|(name, _)| name).find(|name| !known.contains(&name.as_str()))
        else {
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

    /// The strings as JSON, with one more field, for the rules of a request. Of other values only the type stays.
    pub(super) fn with(&self, field: &str, value: &str) -> Vec<u8> {
        let string = |text: &str| serde_json::to_string(text).expect("text is JSON");
        let fields = self.0.iter().map(|(name, given)| {
            let given = match given {
                Field::Text(text) => &string(text),
                Field::List(_) => "[]",
                Field::Flag(_) => "false",
                Field::Number(_) => "0",
                Field::Other(Shape::Object) => "{}",
                Field::Other(Shape::NotUnicode) => r#""\ud800""#,
                Field::Other(_) => "null",
            };
            format!("{}:{given},", string(name))
        });
        format!("{{{}{}:{}}}", fields.collect::<String>(), string(field), string(value)).into_bytes()
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
        match self.get(field) {
            None | Some(Field::Other(Shape::Null)) => Ok(None),
            Some(Field::Text(text)) => match read(text) {
                Some(value) => Ok(Some(value)),
                None => Err(broken_rule(field, rule, self.shape(field))),
            },
            Some(_) => Err(broken_rule(field, rule, self.shape(field))),
        }
    }

    /// A list of 1 to `count_max` strings.
    pub(super) fn texts(&self, field: &str, count_max: usize, rule: &str) -> Result<Vec<String>, Problem> {
        let texts = match self.get(field) {
            Some(Field::List(items)) if (1..=count_max).contains(&items.len()) => {
                items.iter().cloned().collect()
            }
            _ => None,
        };
        texts.ok_or_else(|| broken_rule(field, rule, self.shape(field)))
    }

    /// `None` if the field is absent or `null`.
    pub(super) fn whole_number(&self, field: &str, min: u32, max: u32) -> Result<Option<u32>, Problem> {
        let number = match self.get(field) {
            None | Some(Field::Other(Shape::Null)) => return Ok(None),
            Some(Field::Number(number)) => number.and_then(|number| u32::try_from(number).ok()),
            Some(_) => None,
        };
        let rule = || format!("must be a whole number from {min} to {max}");
        let number = number.filter(|number| (min..=max).contains(number));
        number.map(Some).ok_or_else(|| broken_rule(field, &rule(), self.shape(field)))
    }

    /// `None` if the field is absent or `null`.
    pub(super) fn flag(&self, field: &str) -> Result<Option<bool>, Problem> {
        match self.get(field) {
            None | Some(Field::Other(Shape::Null)) => Ok(None),
            Some(Field::Flag(flag)) => Ok(Some(*flag)),
            Some(_) => Err(broken_rule(field, FLAG_RULE, self.shape(field))),
        }
    }

    pub(super) fn required_flag(&self, field: &str) -> Result<bool, Problem> {
        self.flag(field)?.ok_or_else(|| broken_rule(field, FLAG_RULE, self.shape(field)))
    }

    fn get(&self, field: &str) -> Option<&Field> {
        self.0.iter().find(|(name, _)| name == field).map(|(_, value)| value)
    }

    fn shape(&self, field: &str) -> Shape {
        match self.get(field) {
            None => Shape::Nothing,
            Some(Field::Text(text)) => Shape::Text(text.chars().count()),
            Some(Field::List(_)) => Shape::Array,
            Some(Field::Number(_)) => Shape::Number,
            Some(Field::Flag(_)) => Shape::Boolean,
            Some(Field::Other(shape)) => *shape,
        }
    }
}

impl Field {
    fn of(value: Json<'_>) -> Field {
        match value.shape() {
            Shape::Text(_) => Field::Text(value.text().unwrap_or_default().into_owned()),
            Shape::Array => {
                let text = |item: Json<'_>| item.text().map(|text| text.into_owned());
                Field::List(value.elements().map_while(Result::ok).map(text).collect())
            }
            Shape::Number => Field::Number(value.whole_number()),
            Shape::Boolean => Field::Flag(value.is_true()),
            shape => Field::Other(shape),
        }
    }
}

/// Refuses a name that an object has twice, at any depth: a proxy in front may have checked the other value.
fn check(value: Json<'_>, depth: usize) -> Result<(), Problem> {
    if depth > NESTING_MAX {
        return Err(malformed(&format!("the body is nested more than {NESTING_MAX} deep")));
    }
    match value.shape() {
        Shape::Array => value.elements().try_for_each(|item| check(item.map_err(not_json)?, depth + 1)),
        Shape::Object => {
            // A name that cannot be read is like any other such name.
            let mut names = HashSet::new();
            value.members().try_for_each(|member| {
                let member = member.map_err(not_json)?;
                if names.contains(&member.name) {
                    return Err(repeated(member.name.as_deref()));
                }
                names.insert(member.name);
                check(member.value, depth + 1)
            })
        }
        _ => Ok(()),
    }
}

fn repeated(name: Option<&str>) -> Problem {
    let ours = FIELDS.iter().chain(SendRequest::FIELDS).find(|field| Some(**field) == name);
    malformed(&ours.map_or("a field is given twice".to_owned(), |name| format!("`{name}` is given twice")))
}

fn not_json(error: JsonError) -> Problem {
    match error {
        JsonError::Syntax { line, column } => {
            malformed(&format!("the body is not valid JSON at line {line}, column {column}"))
        }
        JsonError::OtherType => Problem::invalid("the body must be a JSON object"),
    }
}

fn malformed(detail: &str) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "malformed_json").detail(detail)
}

fn broken_rule(field: &str, rule: &str, received: Shape) -> Problem {
    Problem::invalid(format!("`{field}` {rule}; got {received}"))
}
