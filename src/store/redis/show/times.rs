//! Times for people.

use serde_json::{Value, json};

use crate::domain::time::UnixMillis;

/// A time as a score: a whole number below 2^53 is exact.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is in the range")]
pub(super) fn score(score: f64) -> Option<Value> {
    (0.0..9e15).contains(&score).then(|| time(UnixMillis(score as u64)))
}

/// From minutes since 1970.
pub(super) fn minute(number: u64) -> Option<Value> {
    number.checked_mul(60_000).map(|at| time(UnixMillis(at)))
}

pub(super) fn time(at: UnixMillis) -> Value {
    json!(at.to_string())
}

/// Outcomes and histories have their times as stored, in milliseconds.
pub(super) fn with_times(value: Value) -> Value {
    match value {
        Value::Array(values) => values.into_iter().map(with_times).collect(),
        Value::Object(fields) => {
            let with_time = |(name, value): (String, Value)| {
                let is_time = matches!(&*name, "at" | "expires_at");
                let value = match value.as_u64().filter(|_| is_time) {
                    Some(at) => time(UnixMillis(at)),
                    None => with_times(value),
                };
                (name, value)
            };
            Value::Object(fields.into_iter().map(with_time).collect())
        }
        value => value,
    }
}
