//! A status callback of Twilio, as [`TwilioCallbacks`] read it.
//!
//! An input is a call: a line with its `Content-Type`, a line with its query, and its body. An empty line stands for
//! none. `{hash}` in the query stands for the body's SHA-256, which no fuzzer finds: it does not count.

use std::borrow::Cow;
use std::collections::BTreeSet;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use otpost::domain::receipt::DeliveryStatus;
use otpost::provider::twilio::callback::TwilioCallbacks;
use otpost::provider::{Callback, CallbackError, Callbacks as _, DeliveryReceipt};
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

use super::assert_is_e164;

const URL: &str = "https://otp.example.co/webhooks/twilio/status";
const ACCOUNT_SID: &str = "AC00000000000000000000000000000001";
const TOKEN: &str = "made-up-token";
const FORM: &str = "application/x-www-form-urlencoded";
/// The fields in use.
const FIELDS: [&str; 7] =
    ["AccountSid", "ErrorCode", "MessageStatus", "MessageSid", "SmsSid", "SmsStatus", "To"];
/// More than that is not read.
const PARAMETERS_MAX: usize = 200;
/// The number of bytes of a body that are changed, one at a time.
const CHANGES: usize = 8;

/// Checks the reading of one call: signed, not signed, and changed after it was signed.
pub fn check(input: &[u8]) {
    let Some(call) = Call::of(input) else {
        return;
    };
    let callbacks = callbacks();
    let signature = call.signature(TOKEN);
    let read = call.read_by(&callbacks, Some(&signature));
    match &read {
        Ok(report) => {
            assert!(call.can_be_proven());
            assert_keeps_its_bounds(report);
            assert_matches_the_call(report, &call);
            assert_can_be_repeated(report, &callbacks);
        }
        Err(CallbackError::Forged) => assert!(!call.can_be_proven(), "a signed call was refused"),
        Err(CallbackError::Unreadable(field)) => {
            assert!(call.can_be_proven());
            assert!(FIELDS.contains(field), "{field}");
        }
        Err(CallbackError::Foreign | CallbackError::Ignored) => assert!(call.can_be_proven()),
    }
    assert_is_refused_unsigned(&call, &callbacks);
    assert_is_refused_when_changed(&call, &callbacks, &signature);
}

fn callbacks() -> TwilioCallbacks {
    TwilioCallbacks::new(URL, ACCOUNT_SID, vec![TOKEN.into()]).expect("good settings")
}

#[derive(Clone)]
struct Call<'a> {
    content_type: Option<&'a str>,
    query: Option<String>,
    body: Cow<'a, [u8]>,
}

impl<'a> Call<'a> {
    /// Headers and a URL are text: other bytes never reach the reader.
    fn of(input: &'a [u8]) -> Option<Call<'a>> {
        let mut parts = input.splitn(3, |&byte| byte == b'\n');
        let mut line = || str::from_utf8(parts.next().unwrap_or_default()).ok();
        let (content_type, query) = (line()?, line()?);
        let body = parts.next().unwrap_or_default();
        let hash = hex::encode(Sha256::digest(body));
        Some(Call {
            content_type: Some(content_type).filter(|kind| !kind.is_empty()),
            query: Some(query.replace("{hash}", &hash)).filter(|query| !query.is_empty()),
            body: Cow::Borrowed(body),
        })
    }

    fn read_by(
        &self,
        callbacks: &TwilioCallbacks,
        signature: Option<&str>,
    ) -> Result<DeliveryReceipt, CallbackError> {
        let read = callbacks.read(&Callback {
            query: self.query.as_deref(),
            content_type: self.content_type,
            signature,
            timestamp: None,
            body: &self.body,
        });
        read.map(|reports| {
            <[DeliveryReceipt; 1]>::try_from(reports).map(|[report]| report).expect("one a call")
        })
    }

    fn is_form(&self) -> bool {
        let kind = self.content_type.unwrap_or_default().split(';').next().unwrap_or_default();
        kind.trim().to_ascii_lowercase() == FORM
    }

    fn parameters(&self) -> Vec<(Cow<'_, str>, Cow<'_, str>)> {
        form_urlencoded::parse(&self.body).collect()
    }

    fn queried(&self, name: &str) -> Vec<Cow<'_, str>> {
        let query = self.query.as_deref().unwrap_or_default().as_bytes();
        form_urlencoded::parse(query).filter(|(key, _)| key == name).map(|(_, value)| value).collect()
    }

    /// The text that Twilio signs: the URL, and a form's distinct parameters in order.
    fn signed_text(&self) -> String {
        let query = self.query.as_ref().map_or(String::new(), |query| format!("?{query}"));
        let parameters = if self.is_form() { self.parameters() } else { Vec::new() };
        let distinct: BTreeSet<_> = parameters.into_iter().collect();
        let url = format!("{URL}{query}");
        distinct.into_iter().fold(url, |text, (name, value)| text + &name + &value)
    }

    fn signature(&self, token: &str) -> String {
        let mut mac = Hmac::<Sha1>::new_from_slice(token.as_bytes()).expect("a key of any length");
        mac.update(self.signed_text().as_bytes());
        BASE64_STANDARD.encode(mac.finalize().into_bytes())
    }

    /// True if a signature proves the call: a form without too many parameters, with Twilio's kind of names and no code
    /// inside of another field, for a query that is ours, byte for byte.
    fn can_be_proven(&self) -> bool {
        let parameters = self.parameters();
        let is_name = |name: &str| {
            name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
                && name.chars().next().is_some_and(|first| !first.is_ascii_digit())
        };
        let (id, attempt) = (self.queried("r").concat(), self.queried("a").concat());
        let ours = form_urlencoded::Serializer::new(String::new())
            .append_pair("r", &id)
            .append_pair("a", &attempt)
            .finish();
        self.is_form()
            && parameters.len() <= PARAMETERS_MAX
            && parameters.iter().all(|(name, _)| is_name(name))
            && self.query.as_deref() == Some(&ours)
            && (1..=128).contains(&id.len())
            && id.bytes().all(|byte| byte.is_ascii_graphic())
            && attempt.parse().is_ok_and(|number: u32| number > 0 && number.to_string() == attempt)
            && !self.hides_a_code()
    }

    fn hides_a_code(&self) -> bool {
        let distinct: BTreeSet<_> = self.parameters().into_iter().collect();
        let signed = distinct.iter().fold(String::new(), |text, (name, value)| text + name + value);
        let has_digit = |text: &str| text.starts_with(|c: char| c.is_ascii_digit());
        let shown: Vec<_> =
            distinct.iter().filter(|(name, value)| name.ends_with("ErrorCode") && has_digit(value)).collect();
        let is_number = |value: &str| value.chars().all(|c| c.is_ascii_digit());
        signed.split("ErrorCode").skip(1).filter(|rest| has_digit(rest)).count() != shown.len()
            || !shown.iter().all(|(_, value)| is_number(value))
    }
}

fn assert_keeps_its_bounds(report: &DeliveryReceipt) {
    let id = report.request_id.as_str();
    assert!((1..=128).contains(&id.len()) && id.bytes().all(|byte| (b'!'..=b'~').contains(&byte)));
    let (kind, digits) = report.message_id.split_at_checked(2).expect("two letters");
    assert!(["SM", "MM"].contains(&kind), "{kind}");
    assert!(digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    assert_is_e164(report.to.as_str());
    assert_ne!(report.provider_code, Some(0));
}

fn assert_matches_the_call(report: &DeliveryReceipt, call: &Call<'_>) {
    let parameters = call.parameters();
    let says = |names: &[&str], value: &str| {
        parameters.iter().any(|(name, given)| names.contains(&name.as_ref()) && given == value)
    };
    assert!(call.is_form(), "nothing else has parameters");
    assert!(says(&["MessageSid", "SmsSid"], &report.message_id));
    assert!(says(&["MessageStatus", "SmsStatus"], report.status.as_str()));
    assert_eq!(DeliveryStatus::parse(report.status.as_str()), Some(report.status));
    assert_eq!(call.queried("r"), [report.request_id.as_str()]);
    if let Some(code) = report.provider_code {
        let given = |(name, given): &(Cow<'_, str>, Cow<'_, str>)| {
            name == "ErrorCode" && given.parse().is_ok_and(|given: u32| given == code)
        };
        assert!(parameters.iter().any(given));
    }
}

/// A call with only the fields of the report gives the same report.
fn assert_can_be_repeated(report: &DeliveryReceipt, callbacks: &TwilioCallbacks) {
    let form =
        |pairs: &[(&str, &str)]| form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
    let code = report.provider_code.map(|code| code.to_string());
    let mut fields = vec![
        ("AccountSid", ACCOUNT_SID),
        ("MessageSid", report.message_id.as_str()),
        ("MessageStatus", report.status.as_str()),
        ("To", report.to.as_str()),
    ];
    fields.extend(code.as_deref().map(|code| ("ErrorCode", code)));
    let call = Call {
        content_type: Some(FORM),
        query: Some(form(&[("r", report.request_id.as_str()), ("a", "1")])),
        body: Cow::Owned(form(&fields).into_bytes()),
    };
    assert_eq!(call.read_by(callbacks, Some(&call.signature(TOKEN))).as_ref(), Ok(report));
}

fn assert_is_refused_unsigned(call: &Call<'_>, callbacks: &TwilioCallbacks) {
    let (another, body) = (call.signature("another"), String::from_utf8_lossy(&call.body));
    for signature in [None, Some(""), Some("AAAAAAAAAAAAAAAAAAAAAAAAAAA="), Some(&*another), Some(&*body)] {
        assert_eq!(
            call.read_by(callbacks, signature),
            Err(CallbackError::Forged),
            "not signed, but accepted"
        );
    }
}

fn assert_is_refused_when_changed(call: &Call<'_>, callbacks: &TwilioCallbacks, signature: &str) {
    let signed = call.signed_text();
    let step = call.body.len() / CHANGES + 1;
    // The first byte and the bit to flip are arbitrary, but the same for the same input.
    let any = call.body.iter().fold(0, |sum, &byte| sum + usize::from(byte));
    for at in (any % step..call.body.len()).step_by(step) {
        let bit = 1_u8 << ((any + at) % 8);
        let mut changed = call.clone();
        changed.body.to_mut()[at] ^= bit;
        // `%c3` and `%C3` are the same text, and the signed text has no separator between a name and its value.
        if !changed.is_form() || changed.signed_text() != signed {
            let read = changed.read_by(callbacks, Some(signature));
            assert_eq!(read, Err(CallbackError::Forged), "byte {at} ^ {bit} was changed");
        }
    }
    let query = call.query.as_deref().unwrap_or_default();
    let changed = Call { query: Some(format!("{query}&a=1")), ..call.clone() };
    assert_eq!(
        changed.read_by(callbacks, Some(signature)),
        Err(CallbackError::Forged),
        "the query was changed"
    );
}
