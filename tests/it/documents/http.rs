//! Checks every HTTP response in tests against `docs/openapi.json`: status, content type, headers and body. So tests
//! fail on any undocumented response.

use std::sync::LazyLock;

use axum::http::HeaderMap;
use serde_json::{Value, json};

use super::document;
use crate::http::Answer;
use crate::schema::faults_of_ours;

pub static OPENAPI: LazyLock<Value> = LazyLock::new(|| document("openapi.json"));

/// Panics at an undocumented response.
pub fn check_answer(method: &str, path: &str, answer: &Answer) {
    let found = answer_faults(method, path, answer);
    assert!(
        found.is_empty(),
        "docs/openapi.json does not document this answer to {method} {path}: {found:?}\n{} {:?}\n{}",
        answer.status,
        answer.headers,
        answer.text
    );
}

fn answer_faults(method: &str, path: &str, answer: &Answer) -> Vec<String> {
    let Some(item) = item(path) else {
        return general(answer, 404, "not_found");
    };
    let Some(operation) = item.get(method.to_ascii_lowercase()) else {
        let mut found = general(answer, 405, "method_not_allowed");
        if answer.headers.get("allow").is_none() {
            found.push("a refused method needs `Allow`".to_owned());
        }
        return found;
    };
    let Some(response) = operation["responses"].get(answer.status.to_string()) else {
        return vec![format!("there is no status {}", answer.status)];
    };
    let response = resolved(response);
    [missing_headers(response, &answer.headers), body_faults(response, answer)].concat()
}

/// The documented path: a name in braces stands for one segment.
fn item(path: &str) -> Option<&'static Value> {
    let stands_for = |(written, asked): (&str, &str)| written == asked || written.starts_with('{');
    let paths = OPENAPI["paths"].as_object().expect("paths");
    let found = paths.iter().find(|(written, _)| {
        let same_length = written.matches('/').count() == path.matches('/').count();
        same_length && written.split('/').zip(path.split('/')).all(stands_for)
    });
    found.map(|(_, item)| item)
}

fn resolved(value: &'static Value) -> &'static Value {
    match value["$ref"].as_str() {
        Some(path) => OPENAPI.pointer(&path[1..]).unwrap_or_else(|| panic!("nothing is at {path}")),
        None => value,
    }
}

/// Faults of the general problem for an unknown path or method.
fn general(answer: &Answer, status: u16, code: &str) -> Vec<String> {
    let schema = json!({"$ref": "#/components/schemas/Problem",
        "properties": {"status": {"const": status}, "code": {"const": code}}});
    let body = serde_json::from_str(&answer.text).unwrap_or_default();
    let root: Value = OPENAPI.clone();
    faults_of_ours(&root, &schema, &body)
}

fn missing_headers(response: &'static Value, headers: &HeaderMap) -> Vec<String> {
    let documented = response["headers"].as_object().into_iter().flatten();
    let needed = documented.filter(|(_, header)| resolved(header)["required"] == true);
    let missing = needed.filter(|(name, _)| headers.get(name.as_str()).is_none());
    missing.map(|(name, _)| format!("the header {name} is missing")).collect()
}

fn body_faults(response: &'static Value, answer: &Answer) -> Vec<String> {
    let Some(content) = response["content"].as_object() else {
        return if answer.text.is_empty() { Vec::new() } else { vec!["there is a body".to_owned()] };
    };
    let kind = answer.headers.get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let Some(media) = content.get(kind) else {
        return vec![format!("it is of the kind {kind:?}")];
    };
    let body = match kind.split(';').next() {
        Some("text/plain" | "text/xml") => Ok(Value::String(answer.text.clone())),
        _ => serde_json::from_str(&answer.text),
    };
    match body {
        Ok(body) => faults_of_ours(&OPENAPI, &media["schema"], &body),
        Err(error) => vec![format!("it is no JSON: {error}")],
    }
}

#[test]
fn an_undocumented_answer_is_found() {
    let answer = |status, kind: &'static str, text: &str| {
        let headers = [("content-type", kind)].map(|(name, value)| {
            (name.parse::<axum::http::HeaderName>().expect("a name"), value.parse().expect("a value"))
        });
        Answer { status, headers: headers.into_iter().collect(), text: text.to_owned() }
    };
    let verified = r#"{"verified":true,"channel":"sms","purpose":"login","to":"+57******4567"}"#;
    let more = verified.replace("}", r#","score":1}"#);
    let gone = r#"{"type":"about:blank","title":"Gone","status":410,"code":"code_gone"}"#;
    let (json, problem) = ("application/json", "application/problem+json");
    for (method, path, answer, fault) in [
        ("POST", "/api/v1/otp/verify", answer(200, json, verified), None),
        ("POST", "/api/v1/otp/verify", answer(200, json, &more), Some("`score`")),
        ("POST", "/api/v1/otp/verify", answer(200, "text/html", verified), Some("of the kind")),
        ("POST", "/api/v1/otp/verify", answer(200, json, "{}"), Some("breaks required")),
        ("POST", "/api/v1/otp/verify", answer(201, json, verified), Some("no status 201")),
        ("POST", "/api/v1/otp/verify", answer(410, problem, gone), Some("/code breaks enum")),
        ("POST", "/api/v1/otp/verify", answer(401, problem, "{}"), Some("WWW-Authenticate is missing")),
        ("PUT", "/api/v1/otp/verify", answer(200, json, verified), Some("needs `Allow`")),
        ("POST", "/api/v2/otp/verify", answer(200, json, verified), Some("breaks required")),
        ("POST", "/webhooks/twilio/status", answer(204, json, "{}"), Some("there is a body")),
    ] {
        let found = answer_faults(method, path, &answer);
        let as_expected = fault.is_none_or(|fault| found.iter().any(|found| found.contains(fault)));
        assert!(
            as_expected && found.is_empty() == fault.is_none(),
            "{method} {path} {}: {found:?}",
            answer.text
        );
    }
}

#[test]
fn every_example_follows_its_schema() {
    let mut seen = 0;
    let schemas = OPENAPI["components"]["schemas"].as_object().expect("schemas");
    for (name, schema) in schemas {
        for example in schema["examples"].as_array().into_iter().flatten() {
            let found = faults_of_ours(&OPENAPI, schema, example);
            assert!(found.is_empty(), "the example of {name}: {found:?}");
            seen += 1;
        }
    }
    let responses = OPENAPI["components"]["responses"].as_object().expect("responses");
    for (name, response) in responses {
        let media = response["content"].as_object().into_iter().flatten().map(|(_, media)| media);
        for media in media.filter(|media| media.get("example").is_some()) {
            let found = faults_of_ours(&OPENAPI, &media["schema"], &media["example"]);
            assert!(found.is_empty(), "the example of {name}: {found:?}");
            seen += 1;
        }
    }
    assert!(seen > 40, "a search that finds only {seen} examples proves nothing");
}
