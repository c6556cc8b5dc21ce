//! The same provider behind an HTTP API of its own, which lists no messages. A file describes it to the workers.

use serde_json::json;

use super::wire::{Answer, ApiCall};

pub const NAME: &str = "own";
pub const KEY: &str = "chaos-key-93c2";

/// The settings of both providers: messages go to Twilio first. `TWILIO_TOKEN` and `OWN_KEY` hold the secrets.
pub fn providers_file(twilio: &str, account_sid: &str, own: &str) -> String {
    format!(
        r#"[[providers]]
kind = "twilio"
account_sid = "{account_sid}"
auth_token = "env:TWILIO_TOKEN"
senders = ["+15005550006"]
base_url = "http://{twilio}"

[[providers]]
name = "{NAME}"
kind = "http"

[providers.authentication]
kind = "bearer"
secret = "env:OWN_KEY"

[providers.send]
url = "http://{own}/messages"
json = {{ to = "{{{{ to }}}}", text = "{{{{ text }}}}" }}

[providers.check]
method = "GET"
url = "http://{own}/account"

[providers.answers]
id = "json:/id"
code = "json:/code"
rules = [
  {{ status = 202, class = "accepted" }},
  {{ status = 400, class = "recipient" }},
  {{ status = 429, class = "throttled" }},
]

[[routes]]
providers = ["twilio", "{NAME}"]
"#
    )
}

pub(super) fn is_known(call: &ApiCall) -> bool {
    call.headers.get("authorization") == Some(&format!("Bearer {KEY}"))
}

pub(super) fn probe() -> Answer {
    Answer::json(200, &json!({"state": "active"}))
}

/// The id of the `nth` message, and the answer.
pub(super) fn accept(nth: usize) -> (String, Answer) {
    let id = format!("OWN{nth:08}");
    let answer = Answer::json(202, &json!({"id": id, "state": "queued"}));
    (id, answer)
}
