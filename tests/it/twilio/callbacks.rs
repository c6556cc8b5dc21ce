//! Status callbacks of Twilio, and the refusal of forged ones.

use otpost::domain::receipt::DeliveryStatus;
use otpost::provider::twilio::callback::TwilioCallbacks;
use otpost::provider::{Callback, CallbackError, Callbacks, DeliveryReceipt};
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

/// Each call is signed as it is: only its query is not the one that we give Twilio.
#[test]
fn a_query_other_than_ours_is_refused_even_if_it_is_signed() {
    #[track_caller]
    fn check(url: &str, ours: &str, others: &[&str]) {
        let read = |query: &str| {
            let mut call = Call::signed(query, &FIELDS);
            let base = url.split(['?', '#']).next().unwrap_or_default();
            call.signature = Some(signature(AUTH_TOKEN, &format!("{base}?{query}"), &FIELDS));
            call.read_by(&callbacks(url, &[AUTH_TOKEN]))
        };
        assert_eq!(read(ours).map(|report| report.request_id.to_string()), Ok("order/17".to_owned()));
        for other in others {
            assert_eq!(read(other), Err(CallbackError::Forged), "{url} {other}");
        }
    }
    let longer = format!("{QUERY}&bodySHA256={}", hex::encode(Sha256::digest(b"")));
    check(
        URL,
        QUERY,
        &[
            // Another spelling of the same parameters.
            "r=order/17&a=2",
            "r=order%2f17&a=2",
            "r=%6Frder%2F17&a=2",
            "%72=order%2F17&a=2",
            "r=order%2F17&%61=2",
            "r=order%2F17&a=%32",
            "r=order%2F17&a=02",
            "r=order%2F17&a=+2",
            "r=order%2F17&a= 2",
            // Parameters more, less, or in another order.
            "",
            "r=order%2F17",
            "r=order%2F17&a=",
            "a=2",
            "a=2&r=order%2F17",
            "r=order%2F17&a=2&",
            "&r=order%2F17&a=2",
            "r=order%2F17&&a=2",
            "r=order%2F17;a=2",
            "?r=order%2F17&a=2",
            "r=order%2F17&a=2&x=1",
            "x=1&r=order%2F17&a=2",
            "r=order%2F17&r=order%2F17&a=2",
            "r=order%2F17&a=2&a=2",
            "r=order%2F17&a=2#",
            "r=order%2F17&a=2#rc=5",
            &longer,
            // Values that we never send.
            "r=&a=1",
            "r=%20&a=1",
            "r=+&a=1",
            "r=%C3%B1&a=1",
            "r=order%2F17&a=0",
            "r=order%2F17&a=-1",
            "r=order%2F17&a=4294967296",
        ],
    );
    check(
        "https://otp.example.co/s?x=1&y=%20#rc=5",
        "x=1&y=%20&r=order%2F17&a=2",
        &[
            QUERY,
            "x=1&y=+&r=order%2F17&a=2",
            "y=%20&x=1&r=order%2F17&a=2",
            "x=1&r=order%2F17&a=2",
            "x=1&y=%20&r=order%2F17&a=2&z=1",
            "r=order%2F17&a=2&x=1&y=%20",
            "x=1&y=%20r=order%2F17&a=2",
        ],
    );
}

#[test]
fn a_call_with_a_parameter_whose_name_twilio_would_not_choose_is_refused() {
    for name in ["", "2", "2a", "a-b", "a.b", "a b", "a&b", "a=b", "&a=1", "ñ", "a\u{0}", "a\u{fffd}", "a[]"]
    {
        let call = Call::signed(QUERY, &with(&[(name, "1")]));
        assert_eq!(call.read(), Err(CallbackError::Forged), "{name:?}");
    }
    for name in ["A", "_", "a1", "New_Field2"] {
        assert!(Call::signed(QUERY, &with(&[(name, "1")])).read().is_ok(), "{name}");
    }
}

/// A signed text as another cut of it presents it: the query, then names and values by turns.
fn presented(good: &Call, text: &str, query_end: usize, cuts: &[usize]) -> Option<Call> {
    let ends = cuts.iter().copied().chain([text.len()]);
    let pieces: Vec<&str> = ends
        .scan(query_end, |from, to| Some(text.get(std::mem::replace(from, to)..to)))
        .collect::<Option<_>>()?;
    let pairs = pieces.chunks_exact(2).map(|pair| (pair[0], pair[1]));
    let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
    pieces.len().is_multiple_of(2).then(|| Call {
        query: Some(text[..query_end].to_owned()),
        body: body.into_bytes(),
        ..good.clone()
    })
}

/// Nothing separates the query, the names and the values in the text that is signed.
#[test]
fn bytes_moved_between_query_names_and_values_change_no_reading() {
    let fields =
        with(&[("MessageStatus", "undelivered"), ("SmsStatus", "undelivered"), ("ErrorCode", "30005")]);
    let query = "r=orders%2F71&a=12";
    let good = Call::signed(query, &fields);
    let report = good.read().expect("signed");
    assert_eq!((report.request_id.as_str(), report.provider_code), ("orders/71", Some(30005)));
    let mut sorted = fields.clone();
    sorted.sort_unstable();
    let (mut text, mut cuts) = (query.to_owned(), Vec::new());
    for piece in sorted.iter().flat_map(|(name, value)| [name, value]) {
        cuts.push(text.len());
        text.push_str(piece);
    }
    cuts.remove(0);
    let is_harmless = |query_end: usize, cuts: &[usize]| {
        let Some(call) = presented(&good, &text, query_end, cuts) else { return };
        if let Ok(read) = call.read() {
            assert_eq!(
                (read, query_end),
                (report.clone(), query.len()),
                "{:?}",
                String::from_utf8(call.body)
            );
        }
    };
    is_harmless(query.len(), &cuts);
    let changed = |change: &dyn Fn(&mut Vec<usize>)| {
        let mut changed = cuts.clone();
        change(&mut changed);
        changed.sort_unstable();
        changed
    };
    // The query ends elsewhere; the rest is cut once more or once less, so that names and values keep their places.
    for query_end in 0..text.len() {
        let rest: Vec<usize> = cuts.iter().copied().filter(|&cut| cut > query_end).collect();
        for extra in query_end..text.len() {
            let mut cuts = rest.clone();
            cuts.push(extra);
            cuts.sort_unstable();
            is_harmless(query_end, &cuts);
            cuts.extend([query.len()].iter().filter(|&&end| end > query_end));
            cuts.sort_unstable();
            is_harmless(query_end, &cuts);
        }
        is_harmless(query_end, &rest);
    }
    for first in 0..cuts.len() {
        // One cut moves to any place.
        (query.len()..=text.len())
            .for_each(|to| is_harmless(query.len(), &changed(&|cuts| cuts[first] = to)));
        // Two cuts vanish, wherever they are.
        for second in 0..first {
            is_harmless(
                query.len(),
                &changed(&|cuts| {
                    cuts.remove(first);
                    cuts.remove(second);
                }),
            );
        }
    }
    // A field more, wherever it begins.
    for start in query.len()..=text.len() {
        for end in start..=text.len().min(start + 20) {
            is_harmless(query.len(), &changed(&|cuts| cuts.extend([start, end])));
        }
    }
}

#[test]
fn a_field_that_has_two_values_is_refused() {
    for (name, value) in [
        ("AccountSid", "AC00000000000000000000000000000009"),
        ("ErrorCode", "30003"),
        ("MessageStatus", "failed"),
        ("MessageSid", "SM00000000000000000000000000000002"),
        ("To", "+573007654321"),
    ] {
        let fields: Vec<_> = with(&[("ErrorCode", "30005")]).into_iter().chain([(name, value)]).collect();
        assert_eq!(Call::signed(QUERY, &fields).read(), Err(CallbackError::Unreadable(name)), "{name}");
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
fn a_body_that_is_no_form_is_refused_even_with_its_hash_in_the_url() {
    let body = br#"{"property": "value", "boolean": true}"#;
    let query = format!("{QUERY}&bodySHA256={}", hex::encode(Sha256::digest(body)));
    for (query, content_type, body) in [
        (query.as_str(), Some("application/json"), body.as_slice()),
        (QUERY, Some("application/json"), body),
        (QUERY, Some("multipart/form-data; boundary=x"), body),
        (QUERY, None, b""),
    ] {
        let call = Call {
            query: Some(query.to_owned()),
            content_type: content_type.map(str::to_owned),
            signature: Some(signature(AUTH_TOKEN, &format!("{URL}?{query}"), &[])),
            body: body.to_vec(),
        };
        assert_eq!(call.read(), Err(CallbackError::Forged), "{query} {content_type:?}");
    }
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
