//! A request for a code, parsed from a JSON body.
//!
//! One pass reads every known field of any type, so that a wrong type gets an error with the field, the rule and the
//! value's shape. A broken body still yields a `request_id` read before, so that its caller gets a result. Unknown fields
//! are skipped, and a name, language or time zone that is no text or is given twice: the message goes without it.
//!
//! JSON is RFC 8259; times are RFC 3339. Any other field given twice is refused, because two readers could take different
//! ones.

pub mod body;
pub mod error;
mod read;

use std::borrow::Cow;
use std::net::IpAddr;

use self::error::{RequestError, TO};
use self::read::{FIELDS, Fields, Raw, read_fields};
use super::code::Code;
use super::language_tag::is_bcp47;
use super::purpose::Purpose;
use super::request_id::RequestId;
use super::time::UnixMillis;
use super::time_zone::Zone;

/// A request whose fields follow the contract. `to` is parsed later, for its channel.
pub struct SendRequest<'a> {
    pub id: RequestId,
    /// As the caller wrote it.
    pub to: Cow<'a, str>,
    pub purpose: Purpose,
    pub user_id: Option<Cow<'a, str>>,
    pub user_name: Option<Cow<'a, str>>,
    pub client_ip: Option<IpAddr>,
    /// BCP 47 language tag.
    pub locale: Option<Cow<'a, str>>,
    pub timezone: Option<Zone>,
    pub template: Option<Cow<'a, str>>,
    /// The caller's own code.
    pub code: Option<Code>,
    pub requested_at: Option<UnixMillis>,
    /// A later message is of no use.
    pub not_after: Option<UnixMillis>,
    /// The machine-readable last line of the text.
    pub autofill: Option<AutofillField<'a>>,
    /// The rules that fields broke which count as absent.
    pub left_out: Vec<RequestError>,
}

/// The last line of the text, for autofill; checked when the text is rendered.
pub enum AutofillField<'a> {
    WebOtpDomain(Cow<'a, str>),
    AndroidHash(Cow<'a, str>),
}

/// An invalid body, with the fields that its result needs.
#[derive(Debug)]
pub struct InvalidBody {
    pub request_id: Option<RequestId>,
    pub purpose: Option<Purpose>,
    pub fault: RequestError,
}

impl<'a> SendRequest<'a> {
    /// The names of the contract's fields.
    pub const FIELDS: &'static [&'static str] = FIELDS;

    /// `timestamp` is the AMQP property, used if `requested_at` is absent.
    pub fn decode(
        body: &'a [u8],
        timestamp: Option<UnixMillis>,
    ) -> Result<SendRequest<'a>, Box<InvalidBody>> {
        let mut fields = Fields::default();
        let read = read_fields(body, &mut fields);
        read.and_then(|()| fields.check(timestamp)).map_err(|fault| {
            Box::new(InvalidBody {
                request_id: fields.request_id.text().and_then(|text| RequestId::parse(&text)),
                purpose: fields.purpose.text().and_then(|text| Purpose::parse(&text)),
                fault,
            })
        })
    }
}

impl<'a> Fields<'a> {
    fn check(&self, timestamp: Option<UnixMillis>) -> Result<SendRequest<'a>, RequestError> {
        const TIME: &str = "must be an RFC 3339 time of the years 1970 to 9999";
        let mut left_out = Vec::new();
        Ok(SendRequest {
            id: self.request_id.required("request_id", RequestId::RULE, |text| RequestId::parse(&text))?,
            to: self.to.required(TO, "must be a string of 1 to 320 characters", bounded::<320>)?,
            purpose: self
                .purpose
                .optional("purpose", Purpose::RULE_SENTENCE, |text| Purpose::parse(&text))?
                .unwrap_or_default(),
            user_id: self.user_id.optional(
                "user_id",
                "must be a string of 1 to 255 characters",
                bounded::<255>,
            )?,
            user_name: self.user_name.or_left_out(
                "user_name",
                "must be a string of at most 200 characters",
                &mut left_out,
                |text| (text.len() <= 800 && text.chars().count() <= 200).then_some(text),
            )?,
            client_ip: self
                .client_ip
                .optional("client_ip", "must be an IPv4 or IPv6 address", |text| text.parse().ok())?,
            locale: self.locale.or_left_out(
                "locale",
                "must be a BCP 47 language tag of at most 35 characters",
                &mut left_out,
                |text| is_bcp47(&text).then_some(text),
            )?,
            timezone: self
                .timezone
                .or_left_out("timezone", Zone::RULE, &mut left_out, |text| Zone::parse(&text))?,
            template: self.template.optional("template", "must be 1 to 64 of a-z, 0-9, _ and -", |text| {
                let allowed =
                    |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
                ((1..=64).contains(&text.len()) && text.bytes().all(allowed)).then_some(text)
            })?,
            code: self.code.optional("code", "must be 4 to 10 digits", |text| Code::parse(&text))?,
            requested_at: self
                .requested_at
                .optional("requested_at", TIME, |text| UnixMillis::parse_rfc3339(&text))?
                .or(timestamp),
            not_after: self.not_after.optional("not_after", TIME, |text| UnixMillis::parse_rfc3339(&text))?,
            autofill: check_autofill(self.autofill)?,
            left_out,
        })
    }
}

/// Text of 1 to `MAX` characters. A character has at most four bytes, so long text need not be counted.
fn bounded<const MAX: usize>(text: Cow<'_, str>) -> Option<Cow<'_, str>> {
    let fits = !text.is_empty() && text.len() <= 4 * MAX && text.chars().count() <= MAX;
    fits.then_some(text)
}

/// Its values are checked when the text is rendered.
fn check_autofill(given: Raw<'_>) -> Result<Option<AutofillField<'_>>, RequestError> {
    const FIELD: &str = "autofill";
    let Some(value) = given.given() else {
        return Ok(None);
    };
    let [mut domain, mut hash] = [None; 2];
    for member in value.members() {
        let Ok(member) = member else { break };
        let slot = match member.name.as_deref() {
            Some("webotp_domain") => &mut domain,
            Some("android_hash") => &mut hash,
            _ => continue,
        };
        if slot.replace(member.value).is_some() {
            return Err(RequestError::Repeated { field: FIELD });
        }
    }
    match [domain, hash].map(|value| value?.text()) {
        [Some(domain), None] => Ok(Some(AutofillField::WebOtpDomain(domain))),
        [None, Some(hash)] => Ok(Some(AutofillField::AndroidHash(hash))),
        _ => Err(given.fault(FIELD, "must be {\"webotp_domain\": \"…\"} or {\"android_hash\": \"…\"}")),
    }
}

#[cfg(test)]
mod tests;
