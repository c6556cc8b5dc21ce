//! A `send-sms` request: read from a JSON body and checked, with an answer for every way it can be wrong.
//!
//! One pass over the body reads every known field whatever its type, so that a wrong type gets a message that names
//! the field, the rule and the shape of what came, and never its value. A body that breaks off or nests too deep
//! still yields the `request_id` that was read before, so that its sender gets a result. Unknown fields are skipped.
//!
//! JSON is RFC 8259; times are RFC 3339; a field given twice is refused, as two readers might take different ones.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;

use serde::Serialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::code::Code;
use super::locale::is_bcp47;
use super::recipient::Purpose;
use super::time::UnixMillis;

/// The largest body that is read: many times what a full request needs. Of a larger one only this much is looked at,
/// for a `request_id` to answer to.
pub const BODY_BYTES_MAX: usize = 64 * 1024;

/// The idempotency key of one logical send to one recipient: 1 to 128 visible ASCII characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RequestId(Box<str>);

impl RequestId {
    /// The rule, for messages.
    pub const RULE: &'static str = "must be 1 to 128 visible ASCII characters";

    /// Reads an id, or `None` if it breaks [`RequestId::RULE`].
    pub fn parse(text: &str) -> Option<RequestId> {
        let visible = text.bytes().all(|byte| byte.is_ascii_graphic());
        ((1..=128).contains(&text.len()) && visible).then(|| RequestId(text.into()))
    }

    /// The id as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

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
    /// IANA time zone.
    pub timezone: Option<Cow<'a, str>>,
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
    pub fault: RequestFault,
}

/// The first rule that a body breaks: which field, which rule, what came instead. Never the value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestFault {
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

impl fmt::Display for RequestFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RequestFault::TooLarge { bytes } => {
                write!(
                    f,
                    "the body has {bytes} bytes; at most {BODY_BYTES_MAX} are accepted"
                )
            }
            RequestFault::NotJson { line, column } => {
                write!(f, "the body is not valid JSON at line {line}, column {column}")
            }
            RequestFault::NotAnObject => f.write_str("the body must be a JSON object"),
            RequestFault::Field { field, rule, got } => write!(f, "`{field}` {rule}; got {got}"),
            RequestFault::Repeated { field } => write!(f, "`{field}` is given twice"),
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

fn read_fields<'a>(body: &'a [u8], fields: &mut Fields<'a>) -> Result<(), RequestFault> {
    let within = &body[..body.len().min(BODY_BYTES_MAX)];
    let mut json = serde_json::Deserializer::from_slice(within);
    let read = FieldsSeed(fields)
        .deserialize(&mut json)
        .and_then(|repeated| json.end().map(|()| repeated));
    if within.len() < body.len() {
        return Err(RequestFault::TooLarge { bytes: body.len() });
    }
    match read {
        Ok(None) => Ok(()),
        Ok(Some(field)) => Err(RequestFault::Repeated { field }),
        Err(error) if error.is_data() => Err(RequestFault::NotAnObject),
        Err(error) => Err(RequestFault::NotJson {
            line: error.line(),
            column: error.column(),
        }),
    }
}

/// A field's value before any rule: text, or the shape of what is no text.
#[derive(Clone)]
enum Raw<'a> {
    Text(Cow<'a, str>),
    Other(Shape),
}

impl Default for Raw<'_> {
    fn default() -> Self {
        Raw::Other(Shape::Nothing)
    }
}

impl<'a> Raw<'a> {
    fn text(&self) -> Option<&str> {
        match self {
            Raw::Text(text) => Some(text),
            Raw::Other(_) => None,
        }
    }

    fn shape(&self) -> Shape {
        match self {
            Raw::Text(text) => Shape::Text(text.chars().count()),
            Raw::Other(shape) => *shape,
        }
    }

    fn fault(&self, field: &'static str, rule: &'static str) -> RequestFault {
        RequestFault::Field {
            field,
            rule,
            got: self.shape(),
        }
    }

    /// The value if there is one; absent and `null` are the same.
    fn optional<T>(
        &self,
        field: &'static str,
        rule: &'static str,
        read: impl FnOnce(&Cow<'a, str>) -> Option<T>,
    ) -> Result<Option<T>, RequestFault> {
        match self {
            Raw::Other(Shape::Nothing | Shape::Null) => Ok(None),
            Raw::Text(text) => read(text).map(Some).ok_or_else(|| self.fault(field, rule)),
            Raw::Other(_) => Err(self.fault(field, rule)),
        }
    }

    fn required<T>(
        &self,
        field: &'static str,
        rule: &'static str,
        read: impl FnOnce(&Cow<'a, str>) -> Option<T>,
    ) -> Result<T, RequestFault> {
        self.optional(field, rule, read)?
            .ok_or_else(|| self.fault(field, rule))
    }
}

/// The one place where the names of the contract's fields stand beside their rules.
macro_rules! fields {
    ($($name:ident),+) => {
        #[derive(Default)]
        struct Fields<'a> { $($name: Raw<'a>,)+ autofill: Option<Value> }

        impl<'a> Fields<'a> {
            fn slot(&mut self, name: &str) -> Option<(&'static str, &mut Raw<'a>)> {
                match name {
                    $(stringify!($name) => Some((stringify!($name), &mut self.$name)),)+
                    _ => None,
                }
            }
        }
    };
}

fields!(
    request_id,
    to,
    purpose,
    user_id,
    user_name,
    client_ip,
    locale,
    timezone,
    template,
    code,
    requested_at,
    not_after
);

impl<'a> Fields<'a> {
    fn check(&self, timestamp: Option<UnixMillis>) -> Result<SendRequest<'a>, RequestFault> {
        const TIME: &str = "must be an RFC 3339 time";
        Ok(SendRequest {
            id: self
                .request_id
                .required("request_id", RequestId::RULE, |text| RequestId::parse(text))?,
            to: self
                .to
                .required("to", "must be a string of 1 to 320 characters", bounded::<320>)?,
            purpose: self
                .purpose
                .optional("purpose", Purpose::RULE_SENTENCE, |text| Purpose::parse(text))?
                .unwrap_or_default(),
            user_id: self.user_id.optional(
                "user_id",
                "must be a string of 1 to 128 characters",
                bounded::<128>,
            )?,
            user_name: self.user_name.optional(
                "user_name",
                "must be a string of at most 200 characters",
                |text| (text.len() <= 800 && text.chars().count() <= 200).then(|| text.clone()),
            )?,
            client_ip: self
                .client_ip
                .optional("client_ip", "must be an IPv4 or IPv6 address", |text| {
                    text.parse().ok()
                })?,
            locale: self.locale.optional(
                "locale",
                "must be a BCP 47 language tag of at most 35 characters",
                |text| is_bcp47(text).then(|| text.clone()),
            )?,
            timezone: self.timezone.optional(
                "timezone",
                "must be an IANA time zone such as America/Bogota",
                |text| (text.len() <= 64 && jiff::tz::TimeZone::get(text).is_ok()).then(|| text.clone()),
            )?,
            template: self
                .template
                .optional("template", "must be 1 to 64 of a-z, 0-9, _ and -", |text| {
                    let allowed = |byte: u8| {
                        byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte)
                    };
                    ((1..=64).contains(&text.len()) && text.bytes().all(allowed)).then(|| text.clone())
                })?,
            code: self
                .code
                .optional("code", "must be 4 to 10 digits", |text| Code::parse(text))?,
            requested_at: self
                .requested_at
                .optional("requested_at", TIME, |text| UnixMillis::parse_rfc3339(text))?
                .or(timestamp),
            not_after: self
                .not_after
                .optional("not_after", TIME, |text| UnixMillis::parse_rfc3339(text))?,
            autofill: check_autofill(self.autofill.as_ref())?,
        })
    }
}

fn bounded<'a, const MAX: usize>(text: &Cow<'a, str>) -> Option<Cow<'a, str>> {
    (1..=MAX).contains(&text.len()).then(|| text.clone())
}

/// Reads the rare `autofill` object; its words are checked when the text is made.
fn check_autofill<'a>(given: Option<&Value>) -> Result<Option<AutofillField<'a>>, RequestFault> {
    let fault = |value: &Value| RequestFault::Field {
        field: "autofill",
        rule: "must be {\"webotp_domain\": \"…\"} or {\"android_hash\": \"…\"}",
        got: Shape::of(value),
    };
    let Some(value) = given.filter(|value| !value.is_null()) else {
        return Ok(None);
    };
    let text = |name| {
        value
            .get(name)
            .and_then(Value::as_str)
            .map(|text| Cow::Owned(text.to_owned()))
    };
    match (text("webotp_domain"), text("android_hash")) {
        (Some(domain), None) => Ok(Some(AutofillField::WebOtpDomain(domain))),
        (None, Some(hash)) => Ok(Some(AutofillField::AndroidHash(hash))),
        _ => Err(fault(value)),
    }
}

/// Fills [`Fields`] as far as the body can be read; the answer is the first field that stands twice.
struct FieldsSeed<'f, 'a>(&'f mut Fields<'a>);

impl<'a> DeserializeSeed<'a> for FieldsSeed<'_, 'a> {
    type Value = Option<&'static str>;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'a> Visitor<'a> for FieldsSeed<'_, 'a> {
    type Value = Option<&'static str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'a>>(self, mut map: M) -> Result<Self::Value, M::Error> {
        let mut repeated = None;
        while let Some(name) = map.next_key_seed(KeySeed)? {
            if name == "autofill" {
                if self.0.autofill.replace(map.next_value()?).is_some() {
                    repeated = repeated.or(Some("autofill"));
                }
            } else if let Some((field, slot)) = self.0.slot(&name) {
                if slot.shape() != Shape::Nothing {
                    repeated = repeated.or(Some(field));
                }
                map.next_value_seed(RawSeed(slot))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(repeated)
    }
}

struct KeySeed;

impl<'a> DeserializeSeed<'a> for KeySeed {
    type Value = Cow<'a, str>;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'a> Visitor<'a> for KeySeed {
    type Value = Cow<'a, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field name")
    }

    fn visit_borrowed_str<E>(self, text: &'a str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text.to_owned()))
    }
}

/// Takes a value of any type. What is no text leaves only its shape.
struct RawSeed<'f, 'a>(&'f mut Raw<'a>);

impl RawSeed<'_, '_> {
    fn shape<E>(self, shape: Shape) -> Result<(), E> {
        *self.0 = Raw::Other(shape);
        Ok(())
    }
}

impl<'a> DeserializeSeed<'a> for RawSeed<'_, 'a> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'a> Visitor<'a> for RawSeed<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_borrowed_str<E>(self, text: &'a str) -> Result<(), E> {
        *self.0 = Raw::Text(Cow::Borrowed(text));
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        *self.0 = Raw::Text(Cow::Owned(text.to_owned()));
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        self.shape(Shape::Boolean)
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        self.shape(Shape::Number)
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        self.shape(Shape::Number)
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        self.shape(Shape::Number)
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.shape(Shape::Null)
    }

    fn visit_seq<S: SeqAccess<'a>>(self, mut seq: S) -> Result<(), S::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        self.shape(Shape::Array)
    }

    fn visit_map<M: MapAccess<'a>>(self, mut map: M) -> Result<(), M::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        self.shape(Shape::Object)
    }
}

/// The JSON body of a request, for those who publish one. Reading it back is [`SendRequest::decode`].
#[derive(Clone, Default, Serialize, schemars::JsonSchema)]
pub struct SendRequestBody {
    /// The idempotency key of one logical send to one recipient: 1 to 128 visible ASCII characters.
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[!-~]+$"))]
    pub request_id: String,
    /// The recipient: a phone number in E.164, or a national one of the default region.
    #[schemars(length(min = 1, max = 320))]
    pub to: String,
    /// What the code is good for; `verification` if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[a-z0-9_-]{1,32}$"))]
    pub purpose: Option<String>,
    /// The caller's user, for a limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub user_id: Option<String>,
    /// Whom the text greets.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 200))]
    pub user_name: Option<String>,
    /// The client's IP address, for a limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_ip: Option<String>,
    /// BCP 47 language tag.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 35))]
    pub locale: Option<String>,
    /// IANA time zone.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub timezone: Option<String>,
    /// The name of a text; `default` if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[a-z0-9_-]{1,64}$"))]
    pub template: Option<String>,
    /// The caller's own code.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[0-9]{4,10}$"))]
    pub code: Option<String>,
    /// When the caller made the request (RFC 3339); the AMQP `timestamp` if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub requested_at: Option<String>,
    /// When a message would come too late (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub not_after: Option<String>,
    /// The machine-readable last line of the text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub autofill: Option<AutofillBody>,
}

/// Who may read the code off the text.
#[derive(Clone, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AutofillBody {
    /// A web page of this domain.
    WebotpDomain(String),
    /// The Android app of this hash.
    AndroidHash(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(body: &[u8]) -> (Option<String>, String) {
        let refusal = SendRequest::decode(body, None)
            .err()
            .expect("the body must be refused");
        (
            refusal.request_id.map(|id| id.to_string()),
            refusal.fault.to_string(),
        )
    }

    #[track_caller]
    fn check_fault(body: &str, message: &str) {
        assert_eq!(
            refused(body.as_bytes()),
            (Some("r1".to_owned()), message.to_owned())
        );
    }

    #[test]
    fn the_smallest_request_has_an_id_and_a_recipient() {
        let request = SendRequest::decode(br#"{"request_id":"r1","to":"3001234567"}"#, None)
            .ok()
            .expect("valid");
        assert_eq!((request.id.as_str(), request.to.as_ref()), ("r1", "3001234567"));
        assert_eq!(request.purpose, Purpose::default());
        assert!(request.code.is_none() && request.requested_at.is_none());
    }

    #[test]
    fn the_message_time_stands_in_for_an_absent_request_time() {
        let at = Some(UnixMillis(1_000));
        let absent = SendRequest::decode(br#"{"request_id":"r1","to":"3"}"#, at)
            .ok()
            .expect("valid");
        assert_eq!(absent.requested_at, at);
        let body = br#"{"request_id":"r1","to":"3","requested_at":"1970-01-01T00:00:02Z"}"#;
        let given = SendRequest::decode(body, at).ok().expect("valid");
        assert_eq!(given.requested_at, Some(UnixMillis(2_000)));
    }

    #[test]
    fn a_fault_names_the_field_the_rule_and_the_shape_but_never_the_value() {
        check_fault(
            r#"{"request_id":"r1","to":573001234567}"#,
            "`to` must be a string of 1 to 320 characters; got a number",
        );
        check_fault(
            r#"{"request_id":"r1"}"#,
            "`to` must be a string of 1 to 320 characters; got nothing",
        );
        check_fault(
            r#"{"request_id":"r1","to":"3","code":"12345x"}"#,
            "`code` must be 4 to 10 digits; got a string of 6 characters",
        );
        check_fault(
            r#"{"request_id":"r1","to":"3","purpose":["a"]}"#,
            "`purpose` must be 1 to 32 of a-z, 0-9, _ and -; got an array",
        );
        check_fault(
            r#"{"request_id":"r1","to":"3","not_after":"tomorrow"}"#,
            "`not_after` must be an RFC 3339 time; got a string of 8 characters",
        );
        check_fault(r#"{"request_id":"r1","to":"3","to":"4"}"#, "`to` is given twice");
        check_fault(
            r#"{"request_id":"r1","to":"3","autofill":{"webotp_domain":"a.b","android_hash":"x"}}"#,
            "`autofill` must be {\"webotp_domain\": \"…\"} or {\"android_hash\": \"…\"}; got an object",
        );
    }

    #[test]
    fn an_id_read_before_the_body_breaks_is_answered_to() {
        assert_eq!(
            refused(br#"{"request_id":"r1","to":"300"#).0.as_deref(),
            Some("r1")
        );
        assert_eq!(
            refused(b"{\"request_id\":\"r1\",\"to\":\"\xff\"}").0.as_deref(),
            Some("r1")
        );
        assert_eq!(refused(br#"{"to":"300","request_id":"#).0, None);
        assert_eq!(refused(br#"{"request_id":"with space","to":"3"}"#).0, None);
        assert_eq!(
            refused(br#"["request_id","r1"]"#),
            (None, "the body must be a JSON object".to_owned())
        );
    }

    #[test]
    fn a_body_over_the_bound_is_refused_and_still_answered_to() {
        let body = format!(
            r#"{{"request_id":"r1","to":"3","pad":"{}"}}"#,
            "x".repeat(2 * 1024 * 1024)
        );
        let (id, message) = refused(body.as_bytes());
        assert_eq!(id.as_deref(), Some("r1"));
        assert!(message.contains("at most 65536"), "{message}");
    }

    #[test]
    fn unknown_and_deeply_nested_fields_are_skipped() {
        let deep = format!("{}{}", "[".repeat(5_000), "]".repeat(5_000));
        let body = format!(r#"{{"x":{deep},"request_id":"r1","to":"3","y":{{"to":1}}}}"#);
        assert!(SendRequest::decode(body.as_bytes(), None).is_ok());
        let nested = format!(r#"{{"request_id":"r1","to":{deep}}}"#);
        check_fault(
            &nested,
            "`to` must be a string of 1 to 320 characters; got an array",
        );
    }

    proptest::proptest! {
        #[test]
        fn no_body_makes_the_decoder_panic(body in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _ = SendRequest::decode(&body, None);
        }
    }
}
