//! Errors of a request's body: the field, the rule and the shape of the value, never the value.

use std::fmt;

use crate::domain::channel::Channel;
use crate::domain::json::{JsonError, Shape};

/// The largest body that is read, many times a full request. Of a larger body only this much is read, for the
/// `request_id` of its result.
pub const BODY_BYTES_MAX: usize = 64 * 1024;

/// The first rule that a body breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestError {
    TooLarge {
        bytes: usize,
    },
    /// Line and column count from 1.
    NotJson {
        line: usize,
        column: usize,
    },
    NotAnObject,
    Field {
        field: &'static str,
        rule: &'static str,
        got: Shape,
    },
    Repeated {
        field: &'static str,
    },
}

/// The recipient's field.
pub(super) const TO: &str = "to";

impl RequestError {
    /// True for a text that was cut inside a character.
    pub fn is_cut_text(&self) -> bool {
        matches!(self, RequestError::Field { got: Shape::NotUnicode, .. })
    }

    /// Narrows the rule of `to` to the recipients of a channel.
    pub fn worded_for(&self, channel: Channel) -> RequestError {
        match self {
            RequestError::Field { field: TO, got, .. } => {
                let rule = match channel {
                    Channel::Sms => "must be a string of 1 to 32 characters, a phone number",
                    Channel::Email => "must be a string of 1 to 254 bytes, an e-mail address",
                };
                RequestError::Field { field: TO, rule, got: *got }
            }
            fault => fault.clone(),
        }
    }
}

impl From<JsonError> for RequestError {
    fn from(error: JsonError) -> RequestError {
        match error {
            JsonError::Syntax { line, column } => RequestError::NotJson { line, column },
            JsonError::OtherType => RequestError::NotAnObject,
        }
    }
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RequestError::TooLarge { bytes } => {
                write!(f, "the body has {bytes} bytes; at most {BODY_BYTES_MAX} are accepted")
            }
            RequestError::NotJson { line, column } => {
                write!(f, "the body is not valid JSON at line {line}, column {column}")
            }
            RequestError::NotAnObject => f.write_str("the body must be a JSON object"),
            RequestError::Field { field, rule, got } => write!(f, "`{field}` {rule}; got {got}"),
            RequestError::Repeated { field } => write!(f, "`{field}` is given twice"),
        }
    }
}
