//! Status callbacks of Twilio, and the refusal of forged ones.

use otpost::domain::receipt::DeliveryStatus;
use otpost::provider::twilio::callback::TwilioCallbacks;
use otpost::provider::{Callback, CallbackError, Callbacks, DeliveryReceipt};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::ALICE;
use crate::contract::provider::Draft;
use crate::fake_twilio::{ACCOUNT_SID, AUTH_TOKEN, signature};

const URL: &str = "https://otp.example.co/webhooks/twilio/status";
const QUERY: &str = "r=order%2F17&a=2";
const FORM: &str = "application/x-www-form-urlencoded";
const SID: &str = "SM00000000000000000000000000000001";
/// The fields of a real call.
const FIELDS: [(&str, &str); 9] = [
    ("AccountSid", ACCOUNT_SID),
    ("ApiVersion", "2010-04-01"),
    ("From", "+15005550006"),
    ("MessageSid", SID),
    ("MessageStatus", "delivered"),
    ("RawDlrDoneDate", "2611221200"),
    ("SmsSid", SID),
    ("SmsStatus", "delivered"),
    ("To", ALICE),
];

/// An owned callback: [`Callback`] borrows its parts.
#[derive(Clone)]
struct Call {
    query: Option<String>,
    content_type: Option<String>,
    signature: Option<String>,
    body: Vec<u8>,
}

impl Call {
    /// A signed call with these fields.
    fn signed(query: &str, fields: &[(&str, &str)]) -> Call {
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        Call {
            query: Some(query.to_owned()),
            content_type: Some(FORM.to_owned()),
            signature: Some(signature(AUTH_TOKEN, &format!("{URL}?{query}"), fields)),
            body: body.into_bytes(),
        }
    }

    fn read_by(&self, callbacks: &TwilioCallbacks) -> Result<DeliveryReceipt, CallbackError> {
        let read = callbacks.read(&Callback {
            query: self.query.as_deref(),
            content_type: self.content_type.as_deref(),
            signature: self.signature.as_deref(),
            timestamp: None,
            body: &self.body,
        });
        read.map(|reports| {
            <[DeliveryReceipt; 1]>::try_from(reports).map(|[report]| report).expect("one at a time")
        })
    }

    fn read(&self) -> Result<DeliveryReceipt, CallbackError> {
        self.read_by(&callbacks(URL, &[AUTH_TOKEN]))
    }
}

fn callbacks(url: &str, tokens: &[&str]) -> TwilioCallbacks {
    let tokens = tokens.iter().map(|&token| token.into()).collect();
    TwilioCallbacks::new(url, ACCOUNT_SID, tokens).expect("good settings")
}

/// The fields of a real call with changes; `absent` removes a field.
fn with<'a>(changes: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let kept = FIELDS.iter().filter(|(name, _)| changes.iter().all(|(changed, _)| changed != name));
    kept.chain(changes).copied().filter(|(_, value)| *value != "absent").collect()
}

#[track_caller]
fn check(changes: &[(&str, &str)], expected: Result<(DeliveryStatus, Option<u32>), CallbackError>) {
    let read = Call::signed(QUERY, &with(changes)).read();
    assert_eq!(read.map(|report| (report.status, report.provider_code)), expected, "{changes:?}");
}

#[test]
fn a_signed_call_has_the_message_and_its_status() {
    let report = Call::signed(QUERY, &FIELDS).read().expect("signed");
    let draft = Draft::to(ALICE);
    assert_eq!(report.request_id.as_str(), "order/17");
    assert_eq!(report.to, draft.to);
    assert_eq!(report.message_id, SID);
    assert_eq!(report.status, DeliveryStatus::Delivered);
    assert_eq!(report.provider_code, None);
}

#[test]
fn fields_are_read_as_far_as_they_make_sense() {
    use CallbackError::{Ignored, Unreadable};
    check(&[("MessageStatus", "sent")], Ok((DeliveryStatus::Sent, None)));
    let failed = |code| [("MessageStatus", "undelivered"), ("ErrorCode", code)];
    check(&failed("30003"), Ok((DeliveryStatus::Undelivered, Some(30003))));
    check(&failed(""), Ok((DeliveryStatus::Undelivered, None)));
    check(&failed("0"), Ok((DeliveryStatus::Undelivered, None)));
    check(&failed("soon"), Ok((DeliveryStatus::Undelivered, None)));
    check(&[("MessageStatus", "absent"), ("MessageSid", "absent")], Ok((DeliveryStatus::Delivered, None)));
    check(&[("NewField", "ñ +&=")], Ok((DeliveryStatus::Delivered, None)));
    for unknown in ["partially_delivered", "received", "", "Delivered"] {
        check(&[("MessageStatus", unknown)], Err(Ignored));
    }
    check(&[("AccountSid", "AC00000000000000000000000000000009"), ("To", "absent")], Err(Ignored));
    check(&[("AccountSid", "absent")], Err(Unreadable("AccountSid")));
    check(&[("MessageStatus", "absent"), ("SmsStatus", "absent")], Err(Unreadable("MessageStatus")));
    check(&[("MessageSid", "SM1")], Err(Unreadable("MessageSid")));
    for to in ["absent", "", "obfuscated", "3001234567", "+0", "whatsapp:+573001234567"] {
        check(&[("To", to)], Err(Unreadable("To")));
    }
}

#[test]
fn a_call_without_our_url_parameters_is_unreadable() {
    for query in ["a=1", "r=&a=1", "r=%20&a=1", "r=x&r=y&a=1"] {
        let read = Call::signed(query, &FIELDS).read();
        assert_eq!(read, Err(CallbackError::Unreadable("r")), "{query}");
    }
    // The number of the attempt is not read.
    for query in ["x=1&r=x&a=1&y=2", "r=x", "r=x&a=0", "r=x&a=1&a=2"] {
        assert!(Call::signed(query, &FIELDS).read().is_ok(), "{query}");
    }
}

#[test]
fn a_call_without_a_good_signature_is_forged() {
    let good = Call::signed(QUERY, &FIELDS);
    for signature in ["", "x", "AAAAAAAAAAAAAAAAAAAAAAAAAAA=", &"A".repeat(10_000)] {
        let call = Call { signature: Some(signature.to_owned()), ..good.clone() };
        assert_eq!(call.read(), Err(CallbackError::Forged), "{signature}");
    }
    assert_eq!(Call { signature: None, ..good.clone() }.read(), Err(CallbackError::Forged));
    assert_eq!(Call { query: None, ..good.clone() }.read(), Err(CallbackError::Forged));
    // The signature does not cover a body of another type.
    for kind in [None, Some("application/json"), Some("text/plain")] {
        let call = Call { content_type: kind.map(str::to_owned), ..good.clone() };
        assert_eq!(call.read(), Err(CallbackError::Forged), "{kind:?}");
    }
    let elsewhere = callbacks("https://other.example/webhooks/twilio/status", &[AUTH_TOKEN]);
    assert_eq!(good.read_by(&elsewhere), Err(CallbackError::Forged));
    assert_eq!(good.read_by(&callbacks(URL, &["another"])), Err(CallbackError::Forged));
}

#[test]
fn a_flipped_bit_anywhere_is_refused() {
    let good = Call::signed(QUERY, &with(&[("Note", "a b+ñ%")]));
    assert!(good.read().is_ok());
    let fields = |body: &[u8]| form_urlencoded::parse(body).into_owned().collect::<Vec<_>>();
    let flips = |length: usize| (0..length).flat_map(|at| (0..8).map(move |bit| (at, 1_u8 << bit)));
    for (at, bit) in flips(good.body.len()) {
        let mut call = good.clone();
        call.body[at] ^= bit;
        // `%c3` and `%C3` are the same text.
        if fields(&call.body) != fields(&good.body) {
            assert_eq!(call.read(), Err(CallbackError::Forged), "body, byte {at} ^ {bit}");
        }
    }
    let flipped = |text: &str, at: usize, bit: u8| {
        let mut bytes = text.as_bytes().to_vec();
        bytes[at] ^= bit;
        String::from_utf8(bytes).ok()
    };
    for (at, bit) in flips(QUERY.len()) {
        if let Some(query) = flipped(QUERY, at, bit) {
            let call = Call { query: Some(query), ..good.clone() };
            assert_eq!(call.read(), Err(CallbackError::Forged), "query, byte {at} ^ {bit}");
        }
    }
    let signature = good.signature.clone().expect("signed");
    for (at, bit) in flips(signature.len()) {
        if let Some(signature) = flipped(&signature, at, bit) {
            let call = Call { signature: Some(signature), ..good.clone() };
            assert_eq!(call.read(), Err(CallbackError::Forged), "signature, byte {at} ^ {bit}");
        }
    }
    for (at, bit) in flips(URL.len()) {
        let url = flipped(URL, at, bit).unwrap_or_default();
        let tokens = vec![AUTH_TOKEN.into()];
        if let Ok(callbacks) = TwilioCallbacks::new(&url, ACCOUNT_SID, tokens) {
            // A changed URL may become one with a fragment or query, and is refused like any other.
            assert_eq!(good.read_by(&callbacks), Err(CallbackError::Forged), "{url}");
        }
    }
}

#[test]
fn a_parameter_more_or_less_is_refused() {
    let good = Call::signed(QUERY, &FIELDS);
    let mut more = good.clone();
    more.body.extend_from_slice(b"&ErrorCode=30003");
    assert_eq!(more.read(), Err(CallbackError::Forged));
    let less =
        Call { body: good.body[good.body.iter().position(|&b| b == b'&').unwrap()..].to_vec(), ..good };
    assert_eq!(less.read(), Err(CallbackError::Forged));
    let name = |nth| format!("p{nth}");
    for (count, read) in [(200 - FIELDS.len(), true), (201 - FIELDS.len(), false)] {
        let names: Vec<String> = (0..count).map(name).collect();
        let more: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "1")).collect();
        assert_eq!(Call::signed(QUERY, &with(&more)).read().is_ok(), read, "{count} more");
    }
}

#[test]
fn any_of_the_tokens_authenticates_a_call_during_a_rotation() {
    let call = Call::signed(QUERY, &FIELDS);
    for tokens in [[AUTH_TOKEN, "older"], ["newer", AUTH_TOKEN]] {
        assert!(call.read_by(&callbacks(URL, &tokens)).is_ok());
    }
}

#[test]
fn a_port_more_or_less_and_overrides_change_nothing() {
    let signed_for = |url: &str| {
        let form: Vec<(&str, &str)> = FIELDS.to_vec();
        let signature = Some(signature(AUTH_TOKEN, &format!("{url}?{QUERY}"), &form));
        Call { signature, ..Call::signed(QUERY, &FIELDS) }
    };
    for (configured, signed) in [
        ("https://otp.example.co/s", "https://otp.example.co:443/s"),
        ("https://otp.example.co:443/s", "https://otp.example.co/s"),
        ("http://otp.example.co/s", "http://otp.example.co:80/s"),
        ("https://otp.example.co:8443/s", "https://otp.example.co:8443/s"),
        ("https://otp.example.co:8443/s", "https://otp.example.co/s"),
        ("https://otp.example.co/s#rc=5&rp=all", "https://otp.example.co/s"),
    ] {
        let read = signed_for(signed).read_by(&callbacks(configured, &[AUTH_TOKEN]));
        assert!(read.is_ok(), "{configured} signed as {signed}: {read:?}");
    }
    for signed in ["https://otp.example.co:8443/s", "http://otp.example.co/s", "https://otp.example.co/s/"] {
        let read = signed_for(signed).read_by(&callbacks("https://otp.example.co/s", &[AUTH_TOKEN]));
        assert_eq!(read, Err(CallbackError::Forged), "{signed}");
    }
}

#[test]
fn a_body_that_is_no_form_is_authenticated_by_its_hash_in_the_url() {
    let body = br#"{"property": "value", "boolean": true}"#;
    let query = format!("{QUERY}&bodySHA256={}", hex::encode(Sha256::digest(body)));
    let call = |query: &str, body: &[u8]| Call {
        query: Some(query.to_owned()),
        content_type: Some("application/json".to_owned()),
        signature: Some(signature(AUTH_TOKEN, &format!("{URL}?{query}"), &[])),
        body: body.to_vec(),
    };
    // The signature is valid, but the body is no status callback.
    assert_eq!(call(&query, body).read(), Err(CallbackError::Unreadable("AccountSid")));
    assert_eq!(call(&query, b"{}").read(), Err(CallbackError::Forged));
    assert_eq!(call(&query.to_uppercase(), body).read(), Err(CallbackError::Forged));
    assert_eq!(call(&format!("{QUERY}&bodySHA256="), body).read(), Err(CallbackError::Forged));
    assert_eq!(call(QUERY, body).read(), Err(CallbackError::Forged));
}

/// A call that Twilio's own library signed.
#[derive(Deserialize)]
struct Vector {
    token: String,
    public_url: String,
    query: Option<String>,
    content_type: String,
    body: String,
    signature: String,
}

impl Vector {
    #[track_caller]
    fn check(&self, nth: usize) {
        let call = Call {
            query: self.query.clone(),
            content_type: Some(self.content_type.clone()),
            signature: Some(self.signature.clone()),
            body: self.body.clone().into_bytes(),
        };
        let callbacks = callbacks(&self.public_url, &[&self.token]);
        assert_ne!(call.read_by(&callbacks), Err(CallbackError::Forged), "vector {nth}: {}", self.signature);
        let mut changed = call.clone();
        changed.query = Some(format!("{}x", self.query.as_deref().unwrap_or_default()));
        assert_eq!(changed.read_by(&callbacks), Err(CallbackError::Forged), "vector {nth}");
        let mut changed = call.clone();
        changed.body.extend_from_slice(b"&x=");
        assert_eq!(changed.read_by(&callbacks), Err(CallbackError::Forged), "vector {nth}");
    }
}

#[test]
fn the_signatures_of_twilios_own_library_are_accepted() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/golden/twilio-signatures.json");
    let text = std::fs::read_to_string(path).expect("a file of text");
    let vectors: Vec<Vector> = serde_json::from_str(&text).expect("vectors");
    assert!(vectors.len() >= 40);
    vectors.iter().enumerate().for_each(|(nth, vector)| vector.check(nth));
}

/// The vectors of Twilio's documentation and of the tests of its libraries, token `12345`.
#[test]
fn published_vectors_are_accepted() {
    let form =
        "CallSid=CA1234567890ABCDE&Caller=%2B14158675309&Digits=1234&From=%2B14158675309&To=%2B18005551212";
    let json = r#"{"property": "value", "boolean": true}"#;
    let hash = "bodySHA256=0a1ff7634d9ab3b95db5c9a2dfe9416e41502b283a80c7cf19632632f96e6620";
    let vector = |query: String, content_type: &str, body: &str, signature: &str| Vector {
        token: "12345".to_owned(),
        public_url: "https://mycompany.com/myapp.php".to_owned(),
        query: Some(query),
        content_type: content_type.to_owned(),
        body: body.to_owned(),
        signature: signature.to_owned(),
    };
    let query = "foo=1&bar=2";
    vector(query.to_owned(), FORM, form, "RSOYDt4T1cUTdK1PDd93/VVr8B8=").check(0);
    vector(query.to_owned(), FORM, form, "kvajT1Ptam85bY51eRf/AJRuM3w=").check(1);
    vector(format!("{query}&{hash}"), "application/json", json, "a9nBmqA0ju/hNViExpshrM61xv4=").check(2);
}

#[test]
fn settings_that_cannot_authenticate_a_call_are_refused() {
    let made = |url: &str, sid: &str, tokens: &[&str]| {
        TwilioCallbacks::new(url, sid, tokens.iter().map(|&token| token.into()).collect()).is_ok()
    };
    assert!(made(URL, ACCOUNT_SID, &[AUTH_TOKEN]));
    assert!(!made(URL, ACCOUNT_SID, &[]));
    assert!(!made(URL, ACCOUNT_SID, &[AUTH_TOKEN, ""]));
    assert!(!made(URL, "AC1", &[AUTH_TOKEN]));
    assert!(!made("otp.example.co", ACCOUNT_SID, &[AUTH_TOKEN]));
}
