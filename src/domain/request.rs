//! A `send-sms` request: read from a JSON body and checked, with an answer for every way it can be wrong.
//!
//! One pass over the body reads every known field whatever its type, so that a wrong type gets a message that names
//! the field, the rule and the shape of what came, and never its value. A body that breaks off or nests too deep
//! still yields the `request_id` that was read before, so that its sender gets a result. Unknown fields are skipped.
//!
//! JSON is RFC 8259; times are RFC 3339; a field given twice is refused, as two readers might take different ones.

pub mod body;
mod read;

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;

use serde_json::Value;

use self::read::{Fields, read_fields};
use super::channel::Channel;
use super::code::Code;
use super::language_tag::is_bcp47;
use super::purpose::Purpose;
use super::request_id::RequestId;
use super::time::UnixMillis;
use super::zone::Zone;

/// The largest body that is read: many times what a full request needs. Of a larger one only this much is looked at,
/// for a `request_id` to answer to.
pub const BODY_BYTES_MAX: usize = 64 * 1024;

/// A request whose every field follows the contract. Whether its `to` is a phone number is judged later.
pub struct SendRequest<'a> {
    /// The idempotency key.
    pub id: RequestId,
    /// The recipient as the caller wrote it.
    pub to: Cow<'a, str>,
    /// What the code is good for.
    pub purpose: Purpose,
    /// The caller's user, for a limit.
    pub user_id: Option<Cow<'a, str>>,
    /// Whom the text greets.
    pub user_name: Option<Cow<'a, str>>,
    /// The client's address, for a limit.
    pub client_ip: Option<IpAddr>,
    /// BCP 47 language tag.
    pub locale: Option<Cow<'a, str>>,
    /// Whose clock the text goes by.
    pub timezone: Option<Zone>,
    /// The name of a text.
    pub template: Option<Cow<'a, str>>,
    /// The caller's own code.
    pub code: Option<Code>,
    /// When the caller made the request.
    pub requested_at: Option<UnixMillis>,
    /// When a message would come too late.
    pub not_after: Option<UnixMillis>,
    /// The machine-readable last line of the text.
    pub autofill: Option<AutofillField<'a>>,
}

/// What a caller asks for as the last line; checked when the text is made.
pub enum AutofillField<'a> {
    /// Bind the code to a web origin.
    WebOtpDomain(Cow<'a, str>),
    /// Hand the text to an Android app.
    AndroidHash(Cow<'a, str>),
}

/// A body that is no request, with as much of it as an answer needs.
#[derive(Debug)]
pub struct Unacceptable {
    /// The id to answer to, if one could be read.
    pub request_id: Option<RequestId>,
    /// The purpose, if it could be read.
    pub purpose: Option<Purpose>,
    /// What is wrong.
    pub fault: RequestError,
}

/// The first rule that a body breaks: which field, which rule, what came instead. Never the value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestError {
    /// The body has more bytes than are read.
    TooLarge {
        /// Its length in bytes.
        bytes: usize,
    },
    /// The body is not JSON.
    NotJson {
        /// Where reading stopped, counted from 1.
        line: usize,
        /// The column there.
        column: usize,
    },
    /// The body is JSON, but not an object.
    NotAnObject,
    /// A field breaks its rule.
    Field {
        /// The field's name in the contract.
        field: &'static str,
        /// What it must be.
        rule: &'static str,
        /// The shape of what came.
        got: Shape,
    },
    /// A field stands twice.
    Repeated {
        /// The field's name.
        field: &'static str,
    },
}

/// The recipient's field.
const TO: &str = "to";

impl RequestError {
    /// The fault of a request by this channel: what its recipients are is a narrower rule than what is read.
    pub fn by(&self, channel: Channel) -> RequestError {
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

/// What kind of value came, told without telling the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// No such field.
    Nothing,
    /// JSON `null`.
    Null,
    /// `true` or `false`.
    Boolean,
    /// Any number.
    Number,
    /// Text of so many characters.
    Text(usize),
    /// An array.
    Array,
    /// An object.
    Object,
}

impl Shape {
    /// The shape of a JSON value.
    pub fn of(value: &Value) -> Shape {
        match value {
            Value::Null => Shape::Null,
            Value::Bool(_) => Shape::Boolean,
            Value::Number(_) => Shape::Number,
            Value::String(text) => Shape::Text(text.chars().count()),
            Value::Array(_) => Shape::Array,
            Value::Object(_) => Shape::Object,
        }
    }
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
            Shape::Array => f.write_str("an array"),
            Shape::Object => f.write_str("an object"),
        }
    }
}

impl<'a> SendRequest<'a> {
    /// Reads and checks a body. `timestamp` is the message's own AMQP time, taken where `requested_at` is absent.
    pub fn decode(
        body: &'a [u8],
        timestamp: Option<UnixMillis>,
    ) -> Result<SendRequest<'a>, Box<Unacceptable>> {
        let mut fields = Fields::default();
        let read = read_fields(body, &mut fields);
        read.and_then(|()| fields.check(timestamp)).map_err(|fault| {
            Box::new(Unacceptable {
                request_id: fields.request_id.text().and_then(RequestId::parse),
                purpose: fields.purpose.text().and_then(Purpose::parse),
                fault,
            })
        })
    }
}

impl<'a> Fields<'a> {
    fn check(&self, timestamp: Option<UnixMillis>) -> Result<SendRequest<'a>, RequestError> {
        const TIME: &str = "must be an RFC 3339 time";
        Ok(SendRequest {
            id: self.request_id.required("request_id", RequestId::RULE, |text| RequestId::parse(text))?,
            to: self.to.required(TO, "must be a string of 1 to 320 characters", bounded::<320>)?,
            purpose: self
                .purpose
                .optional("purpose", Purpose::RULE_SENTENCE, |text| Purpose::parse(text))?
                .unwrap_or_default(),
            user_id: self.user_id.optional(
                "user_id",
                "must be a string of 1 to 255 characters",
                bounded::<255>,
            )?,
            user_name: self.user_name.optional(
                "user_name",
                "must be a string of at most 200 characters",
                |text| (text.len() <= 800 && text.chars().count() <= 200).then(|| text.clone()),
            )?,
            client_ip: self
                .client_ip
                .optional("client_ip", "must be an IPv4 or IPv6 address", |text| text.parse().ok())?,
            locale: self.locale.optional(
                "locale",
                "must be a BCP 47 language tag of at most 35 characters",
                |text| is_bcp47(text).then(|| text.clone()),
            )?,
            timezone: self.timezone.optional("timezone", Zone::RULE, |text| Zone::parse(text))?,
            template: self.template.optional("template", "must be 1 to 64 of a-z, 0-9, _ and -", |text| {
                let allowed =
                    |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
                ((1..=64).contains(&text.len()) && text.bytes().all(allowed)).then(|| text.clone())
            })?,
            code: self.code.optional("code", "must be 4 to 10 digits", |text| Code::parse(text))?,
            requested_at: self
                .requested_at
                .optional("requested_at", TIME, |text| UnixMillis::parse_rfc3339(text))?
                .or(timestamp),
            not_after: self.not_after.optional("not_after", TIME, |text| UnixMillis::parse_rfc3339(text))?,
            autofill: check_autofill(self.autofill.as_ref())?,
        })
    }
}

/// Text of 1 to `MAX` characters. No character has more than four bytes, so that long text is not counted.
fn bounded<'a, const MAX: usize>(text: &Cow<'a, str>) -> Option<Cow<'a, str>> {
    let fits = !text.is_empty() && text.len() <= 4 * MAX && text.chars().count() <= MAX;
    fits.then(|| text.clone())
}

/// Reads the rare `autofill` object; its words are checked when the text is made.
fn check_autofill<'a>(given: Option<&Value>) -> Result<Option<AutofillField<'a>>, RequestError> {
    let fault = |value: &Value| RequestError::Field {
        field: "autofill",
        rule: "must be {\"webotp_domain\": \"…\"} or {\"android_hash\": \"…\"}",
        got: Shape::of(value),
    };
    let Some(value) = given.filter(|value| !value.is_null()) else {
        return Ok(None);
    };
    let text = |name| value.get(name).and_then(Value::as_str).map(|text| Cow::Owned(text.to_owned()));
    match (text("webotp_domain"), text("android_hash")) {
        (Some(domain), None) => Ok(Some(AutofillField::WebOtpDomain(domain))),
        (None, Some(hash)) => Ok(Some(AutofillField::AndroidHash(hash))),
        _ => Err(fault(value)),
    }
}

#[cfg(test)]
mod tests;
