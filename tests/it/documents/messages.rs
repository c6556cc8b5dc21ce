//! Checks every message in tests against `docs/schemas` and `docs/asyncapi.json`, and the latter against the program.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use otpost::broker::memory::StoredDeadLetter;
use otpost::broker::request_key;
use otpost::domain::channel::Channel;
use otpost::domain::dead_letter::DeadLetterBody;
use otpost::domain::history::PoisonCause;
use otpost::domain::recipient_keyring::RecipientKeyring;
use otpost::flow::dead_letter::RECORD_UNREADABLE;
use serde_json::{Map, Value, json};

use super::document;
use crate::harness::RECIPIENT_KEY;
use crate::schema::{faults, faults_of_ours};

pub static ASYNCAPI: LazyLock<Value> = LazyLock::new(|| document("asyncapi.json"));
static REQUEST: LazyLock<Value> = LazyLock::new(|| document("schemas/send-request.json"));
pub static RESULT: LazyLock<Value> = LazyLock::new(|| document("schemas/send-result.json"));
static EVENT: LazyLock<Value> = LazyLock::new(|| document("schemas/delivery-event.json"));
static VERIFIED: LazyLock<Value> = LazyLock::new(|| document("schemas/verified-event.json"));
static AUDIT: LazyLock<Value> = LazyLock::new(|| document("schemas/audit-record.json"));

/// Statuses in the routing keys `<channel>.<status>`.
const RESULTS: [&str; 4] = ["sent", "rejected", "failed", "unknown"];
const FACTS: [&str; 3] = ["delivered", "undelivered", "verified"];

/// Panics at an undocumented result, reply or event.
pub fn check_result(message_id: &str, body: &[u8]) {
    let body: Value = serde_json::from_slice(body).expect("a result is JSON");
    let status = body["status"].as_str().expect("a status");
    let schema = match status {
        "delivered" | "undelivered" => &EVENT,
        "verified" => &VERIFIED,
        _ => &RESULT,
    };
    let found = faults_of_ours(schema, schema, &body);
    assert!(found.is_empty(), "docs/schemas does not document this: {found:?}\n{body}");
    assert_eq!(message_id, format!("{}:{status}", body["request_id"].as_str().expect("an id")));
}

/// Panics at an undocumented audit record.
pub fn check_audit_record(body: &str) {
    let body: Value = serde_json::from_str(body).expect("a record is JSON");
    let found = faults_of_ours(&AUDIT, &AUDIT, &body);
    assert!(found.is_empty(), "docs/schemas does not document this: {found:?}\n{body}");
}

/// Panics at an undocumented request that the HTTP interface publishes.
pub fn check_request(body: &[u8]) {
    let body: Value = serde_json::from_slice(body).expect("a request is JSON");
    let found = faults_of_ours(&REQUEST, &REQUEST, &body);
    assert!(found.is_empty(), "docs/schemas does not document this: {found:?}\n{body}");
}

/// Panics at an undocumented dead letter.
pub fn check_dead_letter(dead_letter: &StoredDeadLetter) {
    let message = &ASYNCAPI["components"]["messages"]["deadLetter"];
    let body: Value = serde_json::from_slice(&dead_letter.body).expect("our dead letters are JSON");
    let reason = &message["headers"]["properties"]["x-otpost-reason"];
    let mut found = faults_of_ours(message, &message["payload"], &body);
    found.extend(faults(reason, &json!(dead_letter.reason)));
    assert!(
        found.is_empty(),
        "docs/asyncapi.json does not document this: {found:?}\n{}: {body}",
        dead_letter.reason
    );
}

/// Panics at undocumented AMQP properties and headers, and at missing ones: a `full` message has all documented ones,
/// others only the required ones.
pub fn check_properties(name: &str, beside: &Map<String, Value>, full: bool) {
    let headers = &ASYNCAPI["components"]["messages"][name]["headers"];
    let found = faults_of_ours(headers, headers, &json!(beside));
    assert!(
        found.is_empty(),
        "docs/asyncapi.json does not document this beside a {name}: {found:?}\n{beside:?}"
    );
    let expected: BTreeSet<&str> = match full {
        true => headers["properties"].as_object().expect("properties").keys().map(String::as_str).collect(),
        false => texts(&headers["required"]),
    };
    assert_eq!(beside.keys().map(String::as_str).collect::<BTreeSet<_>>(), expected, "beside a {name}");
}

fn texts(value: &Value) -> BTreeSet<&str> {
    value.as_array().expect("a list").iter().map(|text| text.as_str().expect("a text")).collect()
}

/// The documented channels.
pub fn channels() -> impl Iterator<Item = &'static Value> {
    ASYNCAPI["channels"].as_object().expect("channels").values()
}

#[test]
fn the_documented_routing_keys_are_those_in_use() {
    let addresses: BTreeSet<&str> = channels().filter_map(|channel| channel["address"].as_str()).collect();
    for channel in Channel::ALL {
        assert!(addresses.contains(request_key(channel)), "{addresses:?}");
    }
    let words: BTreeSet<&str> = RESULTS.into_iter().chain(FACTS).collect();
    let parameters = &ASYNCAPI["channels"]["results"]["parameters"];
    assert_eq!(texts(&parameters["status"]["enum"]), words);
    let channels = json!(Channel::ALL);
    assert_eq!(texts(&parameters["channel"]["enum"]), texts(&channels));
    assert_eq!(ASYNCAPI["info"]["version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn the_documented_bindings_cover_all_results() {
    let mut keys = BTreeSet::from(["#".to_owned()]);
    keys.extend(Channel::ALL.map(|channel| format!("{}.*", channel.as_str())));
    let bindings = ASYNCAPI["channels"]["resultsQueue"]["x-bindings"].as_array().expect("bindings");
    assert_eq!(bindings[0]["routingKey"], "#", "the first one is for everything");
    for binding in bindings {
        assert_eq!(
            binding["exchange"],
            ASYNCAPI["channels"]["results"]["bindings"]["amqp"]["exchange"]["name"]
        );
        let key = binding["routingKey"].as_str().expect("a key");
        assert!(keys.remove(key), "{key}");
    }
    assert!(keys.is_empty(), "{keys:?}");
}

#[test]
fn the_documented_reasons_of_dead_letters_are_those_in_use() {
    let reasons =
        &ASYNCAPI["components"]["messages"]["deadLetter"]["headers"]["properties"]["x-otpost-reason"];
    let given =
        [PoisonCause::Crash.as_str(), PoisonCause::Panic.as_str(), "unattributable", RECORD_UNREADABLE];
    assert_eq!(texts(&reasons["enum"]), BTreeSet::from(given));
}

#[test]
fn the_body_of_a_dead_letter_is_as_documented() {
    let payload = &ASYNCAPI["components"]["messages"]["deadLetter"]["payload"];
    let keys = RecipientKeyring::new(&RECIPIENT_KEY);
    for message in [br#"{"to":"3001234567","code":"482913"}"#.as_slice(), b"no JSON"] {
        let contents = DeadLetterBody::of(message, "dead:1", keys.dead_letter_key(), [3; 24]);
        let body = serde_json::to_value(contents).expect("plain data");
        assert_eq!(faults_of_ours(payload, payload, &body), Vec::<String>::new());
        assert!(texts(&payload["required"]).into_iter().eq(body.as_object().expect("an object").keys()));
    }
}

#[test]
fn correlation_ids_and_reply_addresses_are_documented_properties() {
    let property = |location: &Value, name: &str| {
        let path = location.as_str().and_then(|location| location.strip_prefix("$message.header#/"));
        let headers = &ASYNCAPI["components"]["messages"][name]["headers"]["properties"];
        assert!(path.is_some_and(|path| headers.get(path).is_some()), "{name}: {location}");
    };
    for (name, message) in ASYNCAPI["components"]["messages"].as_object().expect("messages") {
        property(&message["correlationId"]["location"], name);
    }
    for operation in ASYNCAPI["operations"].as_object().expect("operations").values() {
        if let Some(reply) = operation.get("reply") {
            property(&reply["address"]["location"], "request");
        }
    }
}

#[test]
fn every_example_of_a_message_follows_its_schema() {
    let messages = &ASYNCAPI["components"]["messages"];
    for (name, schema) in [
        ("request", &REQUEST),
        ("result", &RESULT),
        ("laterFact", &EVENT),
        ("verified", &VERIFIED),
        ("reply", &RESULT),
        ("auditRecord", &AUDIT),
    ] {
        let file = messages[name]["payload"]["$ref"].as_str().expect("a file");
        assert_eq!(&document(file), &**schema, "{name}");
        let examples = messages[name]["examples"].as_array().expect("examples");
        assert!(!examples.is_empty(), "{name}");
        for example in examples {
            let found = faults_of_ours(schema, schema, &example["payload"]);
            assert!(found.is_empty(), "{name}: {found:?}");
        }
    }
    let dead_letter = &messages["deadLetter"];
    let found = faults(&dead_letter["payload"], &dead_letter["examples"][0]["payload"]);
    assert!(found.is_empty(), "{found:?}");
}
