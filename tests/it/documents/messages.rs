//! Every message that a test reads is held against `docs/schemas`, and `docs/asyncapi.json` against what is declared.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use otpost::broker::{Names, request_key};
use otpost::domain::recipient::Channel;
use serde_json::{Value, json};

use crate::schema::{faults, faults_of_ours};

macro_rules! document {
    ($path:literal) => {
        LazyLock::new(|| serde_json::from_str(include_str!($path)).expect("the document is JSON"))
    };
}

static ASYNCAPI: LazyLock<Value> = document!("../../../docs/asyncapi.json");
static REQUEST: LazyLock<Value> = document!("../../../docs/schemas/send-request.json");
/// What became of a request.
pub static RESULT: LazyLock<Value> = document!("../../../docs/schemas/send-result.json");
static EVENT: LazyLock<Value> = document!("../../../docs/schemas/delivery-event.json");

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

fn texts(value: &Value) -> BTreeSet<&str> {
    value.as_array().expect("a list").iter().map(|text| text.as_str().expect("a text")).collect()
}

fn exchanges_and_queues() -> impl Iterator<Item = (&'static str, &'static Value)> {
    let channels = ASYNCAPI["channels"].as_object().expect("channels").values();
    channels.map(|channel| (channel["address"].as_str().unwrap_or_default(), &channel["bindings"]["amqp"]))
}

#[test]
fn the_exchanges_and_queues_are_those_that_are_declared() {
    let names = Names::new("otpost");
    let mut named = BTreeSet::new();
    for (_, amqp) in exchanges_and_queues() {
        for kind in ["exchange", "queue"] {
            let name = amqp[kind]["name"].as_str().filter(|name| !name.is_empty());
            named.extend(name.map(str::to_owned));
        }
    }
    let queues = Channel::ALL.map(|channel| names.requests_of(channel));
    let own = [names.requests(), names.results(), names.dead(), names.dead_letters()];
    assert_eq!(named, own.into_iter().chain(queues).collect());
}

#[test]
fn the_routing_keys_are_those_that_are_used() {
    let addresses: BTreeSet<&str> = exchanges_and_queues().map(|(address, _)| address).collect();
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
fn every_example_of_a_message_follows_its_schema() {
    let messages = &ASYNCAPI["components"]["messages"];
    for (name, schema) in
        [("request", &REQUEST), ("result", &RESULT), ("laterFact", &EVENT), ("reply", &RESULT)]
    {
        let file = messages[name]["payload"]["$ref"].as_str().expect("a file");
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(file);
        let read: Value = serde_json::from_slice(&std::fs::read(path).expect("the file")).expect("JSON");
        assert_eq!(&read, &**schema, "{name}");
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
