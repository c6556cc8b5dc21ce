//! Every message that a test reads is held against `docs/schemas` and `docs/asyncapi.json`, and the latter against what is
//! declared.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use otpost::broker::memory::StoredDeadLetter;
use otpost::broker::request_key;
use otpost::domain::channel::Channel;
use otpost::domain::dead_letter::DeadLetterBody;
use otpost::domain::history::PoisonCause;
use otpost::domain::recipient_keyring::RecipientKeyring;
use serde_json::{Map, Value, json};

use super::document;
use crate::schema::{faults, faults_of_ours};

/// The document.
pub static ASYNCAPI: LazyLock<Value> = LazyLock::new(|| document("asyncapi.json"));
static REQUEST: LazyLock<Value> = LazyLock::new(|| document("schemas/send-request.json"));
/// What became of a request.
pub static RESULT: LazyLock<Value> = LazyLock::new(|| document("schemas/send-result.json"));
static EVENT: LazyLock<Value> = LazyLock::new(|| document("schemas/delivery-event.json"));

/// What comes with `<channel>.<word>`, for these words.
const RESULTS: [&str; 4] = ["sent", "rejected", "failed", "unknown"];
const FACTS: [&str; 2] = ["delivered", "undelivered"];

/// Panics at a message that its readers are not told of: a result, a copy of one, or a later fact.
pub fn check_told(message_id: &str, body: &[u8]) {
    let body: Value = serde_json::from_slice(body).expect("what is told is JSON");
    let status = body["status"].as_str().expect("a status");
    let schema = if FACTS.contains(&status) { &EVENT } else { &RESULT };
    let found = faults_of_ours(schema, schema, &body);
    assert!(found.is_empty(), "docs/schemas does not tell of this: {found:?}\n{body}");
    assert_eq!(message_id, format!("{}:{status}", body["request_id"].as_str().expect("an id")));
}

/// Panics at a request of ours that workers are not told of.
pub fn check_asked(body: &[u8]) {
    let body: Value = serde_json::from_slice(body).expect("a request is JSON");
    let found = faults_of_ours(&REQUEST, &REQUEST, &body);
    assert!(found.is_empty(), "docs/schemas does not tell of this: {found:?}\n{body}");
}

/// Panics at a letter that operators are not told of.
pub fn check_letter(letter: &StoredDeadLetter) {
    let message = &ASYNCAPI["components"]["messages"]["deadLetter"];
    let body: Value = serde_json::from_slice(&letter.body).expect("a letter of ours is JSON");
    let reason = &message["headers"]["properties"]["x-otpost-reason"];
    let mut found = faults_of_ours(message, &message["payload"], &body);
    found.extend(faults(reason, &json!(letter.reason)));
    assert!(
        found.is_empty(),
        "docs/asyncapi.json does not tell of this: {found:?}\n{}: {body}",
        letter.reason
    );
}

/// Panics at AMQP properties and headers that readers are not told of, and where the document tells of one that is not
/// there: in `full` is all that there can be, else there is no more than always.
pub fn check_beside(name: &str, beside: &Map<String, Value>, full: bool) {
    let headers = &ASYNCAPI["components"]["messages"][name]["headers"];
    let found = faults_of_ours(headers, headers, &json!(beside));
    assert!(
        found.is_empty(),
        "docs/asyncapi.json does not tell of this beside a {name}: {found:?}\n{beside:?}"
    );
    let told: BTreeSet<&str> = match full {
        true => headers["properties"].as_object().expect("properties").keys().map(String::as_str).collect(),
        false => texts(&headers["required"]),
    };
    assert_eq!(beside.keys().map(String::as_str).collect::<BTreeSet<_>>(), told, "beside a {name}");
}

fn texts(value: &Value) -> BTreeSet<&str> {
    value.as_array().expect("a list").iter().map(|text| text.as_str().expect("a text")).collect()
}

/// The channels of the document.
pub fn channels() -> impl Iterator<Item = &'static Value> {
    ASYNCAPI["channels"].as_object().expect("channels").values()
}

#[test]
fn the_routing_keys_are_those_that_are_used() {
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
fn a_reader_is_told_what_to_bind_a_queue_with() {
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
fn the_reasons_of_dead_letters_are_those_that_are_given() {
    let reasons =
        &ASYNCAPI["components"]["messages"]["deadLetter"]["headers"]["properties"]["x-otpost-reason"];
    let given = [PoisonCause::Crash.as_str(), PoisonCause::Panic.as_str(), "unattributable"];
    assert_eq!(texts(&reasons["enum"]), BTreeSet::from(given));
}

#[test]
fn the_body_of_a_dead_letter_is_what_operators_are_told() {
    let payload = &ASYNCAPI["components"]["messages"]["deadLetter"]["payload"];
    let keys = RecipientKeyring::new(&[9; 32]);
    for message in [br#"{"to":"3001234567","code":"482913"}"#.as_slice(), b"no JSON"] {
        let contents = DeadLetterBody::of(message, "dead:1", keys.dead_letter_key(), [3; 24]);
        let body = serde_json::to_value(contents).expect("plain data");
        assert_eq!(faults_of_ours(payload, payload, &body), Vec::<String>::new());
        assert!(texts(&payload["required"]).into_iter().eq(body.as_object().expect("an object").keys()));
    }
}

#[test]
fn what_ties_a_message_to_others_is_told_to_be_beside_it() {
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
    for (name, schema) in
        [("request", &REQUEST), ("result", &RESULT), ("laterFact", &EVENT), ("reply", &RESULT)]
    {
        let file = messages[name]["payload"]["$ref"].as_str().expect("a file");
        assert_eq!(&document(file), &**schema, "{name}");
        let examples = messages[name]["examples"].as_array().expect("examples");
        assert!(!examples.is_empty(), "{name}");
        for example in examples {
            let found = faults_of_ours(schema, schema, &example["payload"]);
            assert!(found.is_empty(), "{name}: {found:?}");
        }
    }
    let letter = &messages["deadLetter"];
    let found = faults(&letter["payload"], &letter["examples"][0]["payload"]);
    assert!(found.is_empty(), "{found:?}");
}
