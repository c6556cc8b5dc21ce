//! Golden files of the messages, byte for byte, and JSON Schemas generated from their types.
//!
//! A different golden file means that other programs see a change. If it is intended, bless it:
//! `OTPOST_BLESS=1 cargo test wire`, and read the difference before committing it.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use otpost::domain::audit::AuditRecord;
use otpost::domain::channel::Channel;
use otpost::domain::delivery_event::{DeliveryEvent, DeliveryEventStatus};
use otpost::domain::json::Shape;
use otpost::domain::outcome::{ErrorCode, Outcome, OutcomeError, Status};
use otpost::domain::reached_limit::ReachedLimit;
use otpost::domain::request::body::{AutofillBody, SendRequestBody};
use otpost::domain::request::error::RequestError;
use otpost::domain::request::{AutofillField, SendRequest};
use otpost::domain::send_result::SendResult;
use otpost::domain::time::UnixMillis;
use otpost::domain::time_zone::Zone;
use otpost::domain::verified_event::{VerifiedEvent, VerifiedEventStatus};
use schemars::generate::SchemaSettings;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::http::{TestServer, VERIFY_PHONE, alice};
use crate::schema::faults;

const AT: UnixMillis = UnixMillis(1_795_345_200_250);
const GOLDEN: &str = "tests/it/golden";
const SCHEMAS: &str = "docs/schemas";

/// Compares a value with a file, or writes the file with `OTPOST_BLESS=1`.
#[track_caller]
fn check_file(folder: &str, name: &str, value: &impl Serialize) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder).join(name);
    let shown = format!("{folder}/{name}");
    let text = serde_json::to_string_pretty(value).expect("a value is plain data") + "\n";
    if std::env::var_os("OTPOST_BLESS").is_some_and(|bless| bless == "1") {
        std::fs::write(&path, &text).unwrap_or_else(|error| panic!("{shown} cannot be written: {error}"));
        return;
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == text,
        "{shown} is not what the code makes of it; if the change is wanted: OTPOST_BLESS=1 cargo test wire\n\
         --- {shown}\n{kept}\n+++ now\n{text}"
    );
}

fn sent() -> Outcome {
    Outcome {
        status: Status::Sent,
        at: AT,
        purpose: "verification".to_owned(),
        error: None,
        provider: Some("twilio".to_owned()),
        provider_message_id: Some("SM00000000000000000000000000000001".to_owned()),
        attempts: 1,
        segments: Some(1),
        expires_at: Some(UnixMillis(AT.0 + 600_000)),
        resend_after: Some(30),
        history: otpost::domain::history::RequestHistory::default(),
    }
}

fn not_sent(status: Status, error: OutcomeError) -> Outcome {
    Outcome {
        attempts: 2,
        provider: Some("twilio".to_owned()),
        ..Outcome::with_error(status, AT, "login", error)
    }
}

/// Each kind of result by the name of its golden file.
fn results() -> Vec<(&'static str, Outcome, bool)> {
    let limited = OutcomeError::limited(ReachedLimit::NumberDay, Duration::from_secs(3_140));
    let refused =
        OutcomeError { provider_code: Some(21_610), ..OutcomeError::of(ErrorCode::ProviderRejected) };
    let invalid =
        OutcomeError::detailed(ErrorCode::InvalidRequest, "`code` must be 4 to 10 digits; got a number");
    vec![
        ("result-sent.json", sent(), false),
        ("result-replayed.json", sent(), true),
        ("result-rejected.json", Outcome::with_error(Status::Rejected, AT, "verification", limited), false),
        ("result-invalid.json", Outcome::with_error(Status::Rejected, AT, "verification", invalid), false),
        ("result-failed.json", not_sent(Status::Failed, refused), false),
        ("result-unknown.json", not_sent(Status::Unknown, OutcomeError::of(ErrorCode::InDoubt)), false),
    ]
}

fn result(outcome: &Outcome, replayed: bool) -> SendResult<'_> {
    SendResult::new(Channel::Sms, "order-77", "+57******4567", outcome, replayed)
}

fn result_json(outcome: &Outcome, replayed: bool) -> Value {
    serde_json::to_value(result(outcome, replayed)).expect("a result is plain data")
}

fn full_request() -> SendRequestBody {
    let text = |text: &str| Some(text.to_owned());
    SendRequestBody {
        request_id: "order-77".to_owned(),
        to: "+573001234567".to_owned(),
        purpose: text("login"),
        user_id: text("user-1"),
        user_name: text("Alicia Ñandú"),
        client_ip: text("2001:db8::7"),
        locale: text("es-CO"),
        timezone: text("America/Bogota"),
        template: text("default"),
        code: text("482913"),
        requested_at: text("2026-11-22T12:00:00.250Z"),
        not_after: text("2026-11-22T12:05:00Z"),
        autofill: Some(AutofillBody::WebotpDomain("shop.example".to_owned())),
    }
}

fn request_json(request: &SendRequestBody) -> Value {
    serde_json::to_value(request).expect("a request is plain data")
}

fn result_schema() -> Value {
    // The schema of output: an optional field is not required.
    let settings = SchemaSettings::draft2020_12().for_serialize();
    settings.into_generator().into_root_schema_for::<SendResult<'static>>().to_value()
}

fn event_schema() -> Value {
    let settings = SchemaSettings::draft2020_12().for_serialize();
    settings.into_generator().into_root_schema_for::<DeliveryEvent<'static>>().to_value()
}

fn verified_schema() -> Value {
    let settings = SchemaSettings::draft2020_12().for_serialize();
    settings.into_generator().into_root_schema_for::<VerifiedEvent<'static>>().to_value()
}

fn audit_schema() -> Value {
    let settings = SchemaSettings::draft2020_12().for_serialize();
    settings.into_generator().into_root_schema_for::<AuditRecord>().to_value()
}

fn request_schema() -> Value {
    schemars::schema_for!(SendRequestBody).to_value()
}

#[test]
fn results_match_their_golden_files() {
    for (name, outcome, replayed) in results() {
        check_file(GOLDEN, name, &result(&outcome, replayed));
    }
}

#[test]
fn requests_match_their_golden_files() {
    check_file(GOLDEN, "request-full.json", &full_request());
    let smallest = SendRequestBody {
        request_id: "order-77".to_owned(),
        to: "3001234567".to_owned(),
        ..SendRequestBody::default()
    };
    check_file(GOLDEN, "request-smallest.json", &smallest);
}

#[tokio::test]
async fn problems_match_their_golden_file() {
    let answer = TestServer::start().post(VERIFY_PHONE, &alice(), &json!({"otp_code": 482_913})).await;
    check_file(GOLDEN, "problem.json", &answer.expect_problem(422, "invalid_request"));
}

#[test]
fn the_published_schemas_match_the_types() {
    check_file(SCHEMAS, "send-request.json", &request_schema());
    check_file(SCHEMAS, "send-result.json", &result_schema());
    check_file(SCHEMAS, "delivery-event.json", &event_schema());
    check_file(SCHEMAS, "verified-event.json", &verified_schema());
    check_file(SCHEMAS, "audit-record.json", &audit_schema());
}

#[test]
fn every_event_follows_the_schema() {
    let error = OutcomeError { provider_code: Some(30003), ..OutcomeError::of(ErrorCode::ProviderRejected) };
    for (status, error) in
        [(DeliveryEventStatus::Delivered, None), (DeliveryEventStatus::Undelivered, Some(&error))]
    {
        let event = DeliveryEvent {
            request_id: "r1",
            channel: Channel::Sms,
            purpose: "verification",
            to: "+57******4567",
            status,
            at: sent().at,
            provider: "twilio",
            provider_message_id: "SM1",
            error: error.map(Into::into),
        };
        let event = serde_json::to_value(&event).expect("plain data");
        assert_eq!(faults(&event_schema(), &event), Vec::<String>::new());
        assert_eq!(event["status"], status.as_str());
    }
}

#[test]
fn a_verified_event_matches_its_golden_file() {
    let event = VerifiedEvent {
        request_id: "r1",
        channel: Channel::Sms,
        purpose: "verification",
        to: "+57******4567",
        status: VerifiedEventStatus::Verified,
        at: sent().at,
        test: false,
    };
    check_file(GOLDEN, "event-verified.json", &event);
    let event = serde_json::to_value(&event).expect("plain data");
    assert_eq!(faults(&verified_schema(), &event), Vec::<String>::new());
}

#[test]
fn every_result_follows_the_schema() {
    let schema = result_schema();
    for (name, outcome, replayed) in results() {
        assert_eq!(faults(&schema, &result_json(&outcome, replayed)), Vec::<String>::new(), "{name}");
    }
    for (change, fault) in [
        (json!({"status": "lost"}), "/status"),
        (json!({"attempts": -1}), "/attempts"),
        (json!({"at": "yesterday"}), "/at"),
        (json!({"request_id": null}), "/request_id"),
        (json!({"error": {"code": "rate_limited"}}), "/error"),
        (json!({"channel": "pigeon"}), "/channel"),
    ] {
        let mut result = result_json(&sent(), false);
        merge(&mut result, &change);
        let found = faults(&schema, &result);
        assert!(found.iter().any(|found| found.starts_with(fault)), "{change}: {found:?}");
    }
}

#[test]
fn every_word_of_a_result_is_in_the_schema() {
    let schema = result_schema();
    let words = |name: &str| -> BTreeSet<String> {
        let mut words = Vec::new();
        collect_words(&schema["$defs"][name], &mut words);
        words.into_iter().collect()
    };
    for status in [Status::Sent, Status::Rejected, Status::Failed, Status::Unknown] {
        assert!(words("Status").contains(status.as_str()), "{status:?}");
        assert_eq!(serde_json::to_value(status).expect("a word"), status.as_str());
    }
    for code in words("ErrorCode") {
        let read: ErrorCode = serde_json::from_value(json!(code)).expect("a known word");
        assert_eq!(read.as_str(), code, "serde and as_str must agree");
        assert!(!read.message().is_empty() && !read.message().ends_with('.'), "{code}");
    }
}

#[test]
fn a_request_with_every_field_set_is_read_back_whole() {
    let body = request_json(&full_request());
    assert_eq!(body.as_object().map(Map::len), Some(13), "a new field belongs into this test");
    let bytes = serde_json::to_vec(&body).expect("plain data");
    let read = SendRequest::decode(&bytes, None).unwrap_or_else(|refused| panic!("{}", refused.fault));
    let text = |value: Option<&str>| json!(value);
    let client_ip = read.client_ip.map(|ip| ip.to_string());
    assert_eq!(json!(read.id.as_str()), body["request_id"]);
    assert_eq!(json!(read.to), body["to"]);
    assert_eq!(json!(read.purpose.as_str()), body["purpose"]);
    assert_eq!(text(read.user_id.as_deref()), body["user_id"]);
    assert_eq!(text(read.user_name.as_deref()), body["user_name"]);
    assert_eq!(text(client_ip.as_deref()), body["client_ip"]);
    assert_eq!(text(read.locale.as_deref()), body["locale"]);
    assert_eq!(text(read.timezone.as_ref().map(Zone::name)), body["timezone"]);
    assert_eq!(text(read.template.as_deref()), body["template"]);
    assert_eq!(json!(read.code.expect("a code").expose()), body["code"]);
    assert_eq!(json!(read.requested_at.expect("a time").to_string()), body["requested_at"]);
    assert_eq!(read.not_after, UnixMillis::parse_rfc3339("2026-11-22T12:05:00Z"));
    assert!(matches!(read.autofill, Some(AutofillField::WebOtpDomain(domain)) if domain == "shop.example"));
    let other = SendRequestBody {
        autofill: Some(AutofillBody::AndroidHash("FA+9qCX9VSu".to_owned())),
        ..full_request()
    };
    let bytes = serde_json::to_vec(&other).expect("plain data");
    let read = SendRequest::decode(&bytes, None).expect("accepted");
    assert!(matches!(read.autofill, Some(AutofillField::AndroidHash(hash)) if hash == "FA+9qCX9VSu"));
}

#[test]
fn the_schema_has_exactly_the_fields_that_are_read() {
    let schema = request_schema();
    let named: BTreeSet<&str> = properties(&schema).keys().map(String::as_str).collect();
    for field in &named {
        // A wrong type in a field that counts is an error that names it. Unknown fields are skipped.
        let mut body = json!({"request_id": "r1", "to": "3"});
        body[field] = json!([true]);
        let bytes = serde_json::to_vec(&body).expect("plain data");
        if ["user_name", "locale", "timezone"].contains(field) {
            assert!(SendRequest::decode(&bytes, None).is_ok(), "{field} is left out");
            continue;
        }
        let fault = SendRequest::decode(&bytes, None).err().map(|refused| refused.fault);
        assert!(
            matches!(&fault, Some(RequestError::Field { field: response, got: Shape::Array, .. }) if response == field),
            "{field} is in the schema, but reading it finds {fault:?}"
        );
    }
    let read: BTreeSet<&str> = SendRequest::FIELDS.iter().copied().collect();
    assert_eq!(named, read);
}

#[test]
fn a_request_is_read_if_and_only_if_the_schema_allows_it() {
    let schema = request_schema();
    for (change, good) in [
        (json!({}), true),
        (json!({"purpose": null, "code": null, "autofill": null, "locale": null}), true),
        (json!({"more": [1, 2]}), true),
        (json!({"request_id": "x".repeat(128)}), true),
        (json!({"user_id": "ñ".repeat(255), "user_name": "ñ".repeat(200)}), true),
        (json!({"to": "ñ".repeat(320)}), true),
        (json!({"code": "0000"}), true),
        (json!({"not_after": "2026-11-22T12:05:00-05:00"}), true),
        (json!({"autofill": {"android_hash": "FA+9qCX9VSu"}}), true),
        (json!({"request_id": ""}), false),
        (json!({"request_id": "with space"}), false),
        (json!({"request_id": "x".repeat(129)}), false),
        (json!({"request_id": 7}), false),
        (json!({"to": ""}), false),
        (json!({"to": "ñ".repeat(321)}), false),
        (json!({"user_id": ""}), false),
        (json!({"user_id": "u".repeat(256)}), false),
        (json!({"user_name": "n".repeat(201)}), false),
        (json!({"purpose": "Login"}), false),
        (json!({"template": "a/b"}), false),
        (json!({"code": 482_913}), false),
        (json!({"code": "123"}), false),
        (json!({"not_after": "tomorrow"}), false),
        (json!({"autofill": {"both": 1}}), false),
        (json!({"autofill": {"webotp_domain": "a.b", "android_hash": "x"}}), false),
    ] {
        let mut body = request_json(&full_request());
        merge(&mut body, &change);
        let found = faults(&schema, &body);
        assert_eq!(found.is_empty(), good, "{change}: the schema finds {found:?}");
        let bytes = serde_json::to_vec(&body).expect("plain data");
        let refused = SendRequest::decode(&bytes, None).err().map(|refused| refused.fault.to_string());
        assert_eq!(refused.is_none(), good, "{change}: reading it finds {refused:?}");
    }
    for missing in ["request_id", "to"] {
        let mut body = request_json(&full_request());
        body.as_object_mut().expect("an object").remove(missing);
        assert!(!faults(&schema, &body).is_empty(), "{missing} is required");
    }
}

fn merge(into: &mut Value, change: &Value) {
    for (name, value) in change.as_object().expect("an object of changes") {
        into[name] = value.clone();
    }
}

fn properties(schema: &Value) -> &Map<String, Value> {
    schema["properties"].as_object().expect("a schema of an object")
}

/// The constants that a schema allows.
fn collect_words(schema: &Value, words: &mut Vec<String>) {
    let own = schema["const"].as_str().into_iter();
    let listed = schema["enum"].as_array().into_iter().flatten().filter_map(Value::as_str);
    words.extend(own.chain(listed).map(str::to_owned));
    for choice in schema["oneOf"].as_array().into_iter().flatten() {
        collect_words(choice, words);
    }
}
