//! The guarantees to other programs over HTTP, derived from `docs/openapi.json` and compared with
//! `tests/it/golden/http.txt`. The list also catches a name that changes in the program and its document together.
//!
//! A line is a fact. A line with `must` is a duty of callers: a new duty on an existing part breaks them, a removed one
//! does not. Any other line is a promise to them: a removed promise breaks them, a new one does not.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Value, json};

use super::http::OPENAPI;

const LIST: &str = "tests/it/golden/http.txt";
const PROBLEM: &str = "#/components/schemas/Problem";
/// Rules for data that callers write; descriptions of data that they read.
const RULES: [&str; 8] =
    ["pattern", "minLength", "maxLength", "minimum", "maximum", "minItems", "maxItems", "uniqueItems"];
/// Texts for people, and parts that are derived elsewhere.
const OTHER: [&str; 9] =
    ["type", "format", "enum", "const", "properties", "required", "items", "description", "examples"];

#[derive(Clone, Copy, PartialEq)]
enum Side {
    Written,
    Read,
}

#[derive(Default)]
struct Facts(BTreeSet<String>);

impl Facts {
    fn of(document: &Value) -> BTreeSet<String> {
        let mut facts = Facts::default();
        for (path, item) in members(&document["paths"]) {
            for (method, operation) in members(item) {
                facts.operation(document, &format!("{} {path}", method.to_uppercase()), operation);
            }
        }
        facts.schema(document, "problem", &json!({"$ref": PROBLEM}), Side::Read);
        facts.0
    }

    fn add(&mut self, fact: String) {
        self.0.insert(fact);
    }

    fn operation(&mut self, document: &Value, at: &str, operation: &Value) {
        for scheme in list(&operation["security"]).flat_map(members) {
            self.add(format!("{at} must carry {}", scheme.0));
        }
        for parameter in list(&operation["parameters"]).map(|parameter| resolved(document, parameter)) {
            let text = |name: &str| parameter[name].as_str().expect("a text");
            let at = format!("{at} takes {} {}", text("in"), text("name"));
            if parameter["required"] == true {
                self.add(format!("{at} must be there"));
            }
            self.schema(document, &at, &parameter["schema"], Side::Written);
        }
        let body = &operation["requestBody"];
        if body["required"] == true {
            self.add(format!("{at} takes a body that must be there"));
        }
        for (kind, media) in members(&body["content"]) {
            self.add(format!("{at} takes {kind}"));
            self.schema(document, &format!("{at} takes body"), &media["schema"], Side::Written);
        }
        for (status, response) in members(&operation["responses"]) {
            let response = resolved(document, response);
            let at = format!("{at} {status}");
            self.add(format!("{at} can be answered"));
            for (name, header) in members(&response["headers"]) {
                let header = resolved(document, header);
                if header["required"] == true {
                    self.add(format!("{at} header {name} is always there"));
                }
                self.schema(document, &format!("{at} header {name}"), &header["schema"], Side::Read);
            }
            for (kind, media) in members(&response["content"]) {
                let schema = &media["schema"];
                self.add(format!("{at} is {kind}"));
                if schema["$ref"] == PROBLEM {
                    let codes = list(&schema["properties"]["code"]["enum"]).filter_map(Value::as_str);
                    codes.for_each(|code| self.add(format!("{at} can have the code {code}")));
                } else {
                    self.schema(document, &format!("{at} body"), schema, Side::Read);
                }
            }
        }
    }

    fn schema(&mut self, document: &Value, at: &str, schema: &Value, side: Side) {
        let beside = members(schema).filter(|_| schema.get("$ref").is_some());
        for (keyword, _) in beside {
            assert!(
                ["$ref", "description"].contains(&keyword),
                "teach the list of {at} what {keyword:?} means"
            );
        }
        let schema = resolved(document, schema);
        let words: Vec<String> =
            list(&schema["enum"]).chain(schema.get("const")).map(Value::to_string).collect();
        let mut kind = match &schema["type"] {
            Value::String(name) => name.clone(),
            names => list(names).map(|name| name.as_str().expect("a name")).collect::<Vec<_>>().join(" or "),
        };
        if let Some(format) = schema["format"].as_str() {
            let _ = write!(kind, " ({format})");
        }
        if !words.is_empty() {
            kind.push_str(", one of some words");
        }
        self.add(format!("{at}: {kind}"));
        words.iter().for_each(|word| self.add(format!("{at} can be {word}")));
        for (keyword, rule) in members(schema) {
            match keyword {
                _ if RULES.contains(&keyword) && side == Side::Written => {
                    // Random tests use the bounds of keywords, not those in a pattern.
                    let hidden = keyword == "pattern" && rule.to_string().contains(",");
                    assert!(!hidden, "{at} needs `minLength` and `maxLength` instead of {rule}");
                    self.add(format!("{at} must keep to {keyword} {rule}"));
                }
                _ if RULES.contains(&keyword) || OTHER.contains(&keyword) => {}
                // Keeping to the documented members is what callers must do.
                "additionalProperties" if side == Side::Written && *rule == false => {
                    self.add(format!("{at} must have no other member"));
                }
                "propertyNames" if side == Side::Written => {
                    self.add(format!("{at} must have names that keep to {rule}"));
                }
                "default" => self.add(format!("{at} is {rule} if it is not there")),
                unknown => panic!("teach the list of {at} what {unknown:?} means"),
            }
        }
        let needs = if side == Side::Written { "must be there" } else { "is always there" };
        for name in list(&schema["required"]).filter_map(Value::as_str) {
            self.add(format!("{at}.{name} {needs}"));
        }
        for (name, member) in members(&schema["properties"]) {
            self.schema(document, &format!("{at}.{name}"), member, side);
        }
        if let Some(items) = schema.get("items") {
            self.schema(document, &format!("{at}[]"), items, side);
        }
    }
}

fn members(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    value.as_object().into_iter().flatten().map(|(name, value)| (name.as_str(), value))
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn resolved<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    match value["$ref"].as_str() {
        Some(path) => document.pointer(&path[1..]).unwrap_or_else(|| panic!("nothing is at {path}")),
        None => value,
    }
}

fn binds(fact: &str) -> bool {
    fact.contains(" must ")
}

/// True if a new fact applies to existing callers: not if its whole subject is new.
fn binds_anew(fact: &str, kept: &BTreeSet<String>) -> bool {
    let Some((place, rule)) = fact.split_once(" must ") else {
        return false;
    };
    let operation = place.split(" takes ").next().expect("a first part");
    let around = match place.rsplit_once('.') {
        _ if rule.starts_with("keep to") => format!("{place}:"),
        Some((object, _)) if place.contains(" body.") => format!("{object}:"),
        _ => format!("{operation} "),
    };
    kept.iter().any(|fact| fact.starts_with(&around))
}

/// The breaking and the compatible changes between two lists.
fn differences(kept: &BTreeSet<String>, now: &BTreeSet<String>) -> (BTreeSet<String>, BTreeSet<String>) {
    let gone = kept.difference(now).map(|fact| (format!("- {fact}"), !binds(fact)));
    let new = now.difference(kept).map(|fact| (format!("+ {fact}"), binds_anew(fact, kept)));
    let (breaks, harmless): (BTreeSet<_>, BTreeSet<_>) = gone.chain(new).partition(|(_, breaks)| *breaks);
    let texts = |facts: BTreeSet<(String, bool)>| facts.into_iter().map(|(fact, _)| fact).collect();
    (texts(breaks), texts(harmless))
}

#[test]
fn other_programs_keep_working() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(LIST);
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    let kept: BTreeSet<String> = text.lines().map(str::to_owned).collect();
    let now = Facts::of(&OPENAPI);
    let (breaks, harmless) = differences(&kept, &now);
    let lines = |facts: &BTreeSet<String>| facts.iter().cloned().collect::<Vec<_>>().join("\n");
    assert!(
        breaks.is_empty(),
        "docs/openapi.json breaks readers and callers that are out there: what they use is gone or has another name, or \
         they must send what they do not. Add beside what is there instead; a break that is wanted is made in {LIST} by \
         hand, and described in CHANGELOG.md.\n{}",
        lines(&breaks)
    );
    if std::env::var_os("OTPOST_BLESS").is_some_and(|bless| bless == "1") {
        std::fs::write(&path, lines(&now) + "\n").unwrap_or_else(|error| panic!("{LIST}: {error}"));
        return;
    }
    assert!(
        harmless.is_empty(),
        "docs/openapi.json promises what {LIST} does not have yet. It breaks no caller; if it is wanted, \
         `OTPOST_BLESS=1 make test ARGS=documents::readers` takes it into the list.\n{}",
        lines(&harmless)
    );
}

#[test]
fn breaking_changes_are_distinguished_from_compatible_ones() {
    let document = |answer: Value, request: Value| {
        json!({
            "paths": {"/x": {"post": {
                "requestBody": {"content": {"json": {"schema": request}}},
                "responses": {"200": {"content": {"json": {"schema": answer}}}}
            }}},
            "components": {"schemas": {"Problem": {"type": "object"}}}
        })
    };
    let text = json!({"type": "string"});
    let answer =
        json!({"type": "object", "required": ["a"], "properties": {"a": text, "w": {"enum": ["x"]}}});
    let request = json!({"type": "object", "properties": {"q": {"type": "string", "maxLength": 9}}});
    let kept = Facts::of(&document(answer.clone(), request.clone()));
    let changed = |of: &Value, at: &str, to: Value| {
        let mut of = of.clone();
        let (parent, name) = at.rsplit_once('/').expect("a path");
        of.pointer_mut(parent).expect("a place")[name] = to;
        of
    };
    let renamed = json!({"b": text, "w": {"enum": ["x"]}});
    for (answer, request, breaks, harmless) in [
        (answer.clone(), request.clone(), 0, 0),
        (changed(&answer, "/properties/b", text.clone()), request.clone(), 0, 1),
        (changed(&answer, "/properties/w/enum", json!(["x", "y"])), request.clone(), 0, 1),
        (changed(&answer, "/properties/w/enum", json!(["y"])), request.clone(), 1, 1),
        (changed(&answer, "/properties", renamed), request.clone(), 1, 1),
        (changed(&answer, "/required", json!([])), request.clone(), 1, 0),
        (changed(&answer, "/properties/a/type", json!("integer")), request.clone(), 1, 1),
        (answer.clone(), changed(&request, "/properties/r", text.clone()), 0, 1),
        (answer.clone(), changed(&request, "/properties/r", json!({"type": "string", "maxLength": 1})), 0, 2),
        (answer.clone(), changed(&request, "/required", json!(["q"])), 1, 0),
        (answer.clone(), changed(&request, "/properties/q/pattern", json!("^a")), 1, 0),
        (answer.clone(), changed(&request, "/properties/q", text.clone()), 0, 1),
    ] {
        let found = differences(&kept, &Facts::of(&document(answer, request)));
        assert_eq!((found.0.len(), found.1.len()), (breaks, harmless), "{found:?}");
    }
}
