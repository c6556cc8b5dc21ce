//! Validates values against the JSON Schemas of `docs/`.
//!
//! It knows only the keywords that the documents use and panics at any other, because a check that skips keywords
//! proves nothing. `make e2e-contracts` runs a general validator on the same documents.

use std::collections::BTreeSet;

use otpost::domain::time::UnixMillis;
use regex::Regex;
use serde_json::{Value, json};

/// The violations of a schema that is its own document.
pub fn faults(schema: &Value, value: &Value) -> Vec<String> {
    Checker { root: schema, closed: false }.faults(schema, value)
}

/// The same for our own messages: an undocumented member is a violation too. Readers must skip it, so it would be of no
/// use.
pub fn faults_of_ours(root: &Value, schema: &Value, value: &Value) -> Vec<String> {
    Checker { root, closed: true }.faults(schema, value)
}

struct Checker<'a> {
    /// The document that references point into.
    root: &'a Value,
    closed: bool,
}

impl<'a> Checker<'a> {
    fn faults(&self, schema: &'a Value, value: &Value) -> Vec<String> {
        let mut found = Vec::new();
        self.check(schema, value, "", &mut found);
        found
    }

    fn check(&self, schema: &'a Value, value: &Value, at: &str, found: &mut Vec<String>) {
        for (keyword, rule) in schema.as_object().expect("a schema is an object") {
            if !self.follows(keyword, rule, schema, value, at, found) {
                found.push(format!("{at} breaks {keyword}"));
            }
        }
        let known = self.members(schema);
        let members = value.as_object().filter(|_| self.closed && !known.is_empty());
        let undocumented = members.into_iter().flatten().filter(|(name, _)| !known.contains(name.as_str()));
        found.extend(undocumented.map(|(name, _)| format!("{at} has `{name}`, which is undocumented")));
    }

    /// The members of a schema, its references included.
    fn members(&self, schema: &'a Value) -> BTreeSet<&'a str> {
        let own = schema["properties"].as_object().into_iter().flatten().map(|(name, _)| name.as_str());
        let referred = schema["$ref"].as_str().map(|path| self.members(self.resolve(path)));
        own.chain(referred.into_iter().flatten()).collect()
    }

    fn resolve(&self, path: &str) -> &'a Value {
        let path = path.strip_prefix('#').expect("a local reference");
        self.root.pointer(path).unwrap_or_else(|| panic!("nothing is at {path}"))
    }

    fn is_valid(&self, schema: &'a Value, value: &Value) -> bool {
        self.faults(schema, value).is_empty()
    }

    fn follows(
        &self,
        keyword: &str,
        rule: &'a Value,
        schema: &'a Value,
        value: &Value,
        at: &str,
        found: &mut Vec<String>,
    ) -> bool {
        let choices = || rule.as_array().expect("a list").iter();
        let characters = || value.as_str().map(|text| text.chars().count() as u64);
        let items = || value.as_array().map(|items| items.len() as u64);
        let limit = || rule.as_u64().expect("a whole number");
        match keyword {
            "$schema" | "$defs" | "title" | "description" | "examples" | "default" => true,
            "$ref" => {
                self.check(self.resolve(rule.as_str().expect("a path")), value, at, found);
                true
            }
            "type" => match rule {
                Value::String(name) => is_type(name, value),
                _ => choices().any(|name| is_type(name.as_str().expect("a name"), value)),
            },
            "const" => value == rule,
            "enum" => choices().any(|choice| choice == value),
            "anyOf" => choices().any(|choice| self.is_valid(choice, value)),
            "oneOf" => choices().filter(|choice| self.is_valid(choice, value)).count() == 1,
            "required" => choices().all(|name| value.get(name.as_str().expect("a name")).is_some()),
            "properties" => {
                for (name, rule) in rule.as_object().expect("an object") {
                    if let Some(value) = value.get(name) {
                        self.check(rule, value, &format!("{at}/{name}"), found);
                    }
                }
                true
            }
            "additionalProperties" => {
                assert_eq!(rule, &json!(false), "the checker knows no other rule");
                let known = self.members(schema);
                value.as_object().is_none_or(|fields| fields.keys().all(|name| known.contains(name.as_str())))
            }
            "propertyNames" => value
                .as_object()
                .is_none_or(|fields| fields.keys().all(|name| self.is_valid(rule, &json!(name)))),
            "items" => {
                for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                    self.check(rule, item, &format!("{at}/{index}"), found);
                }
                true
            }
            "minItems" => items().is_none_or(|count| count >= limit()),
            "maxItems" => items().is_none_or(|count| count <= limit()),
            "minLength" => characters().is_none_or(|length| length >= limit()),
            "maxLength" => characters().is_none_or(|length| length <= limit()),
            "minimum" => value.as_f64().is_none_or(|number| Some(number) >= rule.as_f64()),
            "maximum" => value.as_f64().is_none_or(|number| Some(number) <= rule.as_f64()),
            "pattern" => {
                let pattern = Regex::new(rule.as_str().expect("text")).expect("a pattern");
                value.as_str().is_none_or(|text| pattern.is_match(text))
            }
            "format" => has_format(rule.as_str().expect("a word"), value),
            unknown => panic!("teach the checker the keyword {unknown:?}"),
        }
    }
}

fn is_type(name: &str, value: &Value) -> bool {
    match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        other => panic!("teach the checker the type {other:?}"),
    }
}

fn has_format(format: &str, value: &Value) -> bool {
    let number = value.is_number();
    match format {
        "date-time" => value.as_str().is_none_or(|text| UnixMillis::parse_rfc3339(text).is_some()),
        "email" => value.as_str().is_none_or(|text| text.contains('@')),
        "int32" => !number || value.as_i64().is_some_and(|number| i32::try_from(number).is_ok()),
        "int64" => !number || value.as_i64().is_some(),
        "uint32" => !number || value.as_u64().is_some_and(|number| u32::try_from(number).is_ok()),
        "uint64" => !number || value.as_u64().is_some(),
        other => panic!("teach the checker the format {other:?}"),
    }
}

#[test]
fn our_own_messages_have_no_undocumented_member() {
    let steps = json!({"items": {"properties": {"x": {"maximum": 3}}}});
    let root = json!({"$defs": {"base": {"properties": {"code": {"type": "string"}, "more": steps}}}});
    let schema = json!({"$ref": "#/$defs/base", "properties": {"code": {"enum": ["a"]}}});
    for (value, fault) in [
        (json!({"code": "a", "more": [{"x": 3}]}), None),
        (json!({"code": "b"}), Some("/code breaks enum")),
        (json!({"code": 1}), Some("/code breaks type")),
        (json!({"code": "a", "new": 1}), Some("has `new`")),
        (json!({"more": [{"x": 1}, {"y": 1}]}), Some("/more/1 has `y`")),
        (json!({"more": [{"x": 4}]}), Some("/more/0/x breaks maximum")),
    ] {
        let found = faults_of_ours(&root, &schema, &value);
        let response = fault.is_none_or(|fault| found.iter().any(|found| found.contains(fault)));
        assert!(response && found.is_empty() == fault.is_none(), "{value}: {found:?}");
    }
    let alone = &root["$defs"]["base"];
    assert!(faults(alone, &json!({"new": 1})).is_empty(), "readers skip what they do not know");
}
