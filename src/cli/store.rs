//! `otpost store`. `show`: a key of Redis as people can read it. The store has no code and no full recipient.

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::acting::{acting, record_look};
use super::output::{Exit, complain, invalid_redis_url, print_json, say, store_failed};
use super::recipient::read_recipient;
use super::reshard::{self, ReshardArguments};
use crate::app;
use crate::config::Settings;
use crate::domain::audit::{AuditAct, AuditRecord};
use crate::domain::keyed_digest::Digest16;
use crate::domain::request_id::RequestId;
use crate::store::{KeyName, ShownKey};

#[derive(Subcommand)]
pub(super) enum StoreAction {
    /// Show a key: its kind, time to live and fields. Exit with 3 if there is none, or it cannot be read.
    Show(Which),
    /// Change the number of shards, while all workers and APIs are stopped. Exit with 3 if something is in the way.
    Reshard(ReshardArguments),
}

#[derive(Args)]
pub(super) struct Which {
    /// A key as `redis-cli --scan` prints it, with \x.. for bytes, or its bytes in hexadecimal after 0x.
    #[arg(required_unless_present_any = ["to", "request"], conflicts_with_all = ["to", "request"])]
    key: Option<String>,
    /// Show the value of this recipient: a number in E.164, a national number of DEFAULT_REGION, or an e-mail address.
    /// With --request, the record of its request.
    #[arg(long, value_name = "RECIPIENT", allow_hyphen_values = true)]
    to: Option<String>,
    /// Show the record of this request.
    #[arg(long, value_name = "REQUEST_ID")]
    request: Option<String>,
}

pub(super) async fn run(settings: &Settings, action: &StoreAction, json: bool) -> Exit {
    match action {
        StoreAction::Show(which) => show(settings, which, json).await,
        StoreAction::Reshard(arguments) => reshard::run(settings, arguments, json).await,
    }
}

async fn show(settings: &Settings, which: &Which, json: bool) -> Exit {
    let Ok(store) = app::stores::read_only_store(settings) else { return invalid_redis_url() };
    let recipient = match which.to.as_deref().map(|to| (read_recipient(settings, to), &settings.recipients)) {
        None => None,
        Some((Some(to), Some(recipients))) => Some(recipients.address(to.channel(), to.as_str())),
        Some(_) => return Exit::Unusable,
    };
    let name = match key_name(which, recipient) {
        Ok(name) => name,
        Err(problem) => {
            complain(&problem);
            return Exit::Unusable;
        }
    };
    if let Some(record) = look(which, settings)
        && let Err(error) = record_look(&store, record).await
    {
        return store_failed(&error);
    }
    let shown = match store.show(&name).await {
        Ok(shown) => shown,
        Err(error) => return store_failed(&error),
    };
    if json {
        print_json(&shown.iter().map(row).collect::<Vec<_>>());
    } else {
        shown.iter().for_each(print_key);
    }
    if shown.is_empty() {
        complain("nothing is stored there");
    }
    let is_read = !shown.is_empty() && shown.iter().all(|key| key.fields.is_some());
    if is_read { Exit::Done } else { Exit::No }
}

/// The record of a look at a recipient or a request. A key names neither.
fn look(which: &Which, settings: &Settings) -> Option<AuditRecord> {
    let to = which.to.as_deref().and_then(|to| read_recipient(settings, to));
    match (&which.request, to) {
        (Some(request_id), _) => Some(acting().record(AuditAct::LookRequest).about_request(request_id)),
        (None, Some(to)) => Some(acting().record(AuditAct::LookRecipient).about(to.masked())),
        (None, None) => None,
    }
}

fn key_name(which: &Which, recipient: Option<Digest16>) -> Result<KeyName, String> {
    match (&which.key, &which.request, recipient) {
        (_, Some(id), recipient) => RequestId::parse(id)
            .map(|request_id| KeyName::Request(request_id, recipient))
            .ok_or_else(|| format!("the request id {}", RequestId::RULE)),
        (_, None, Some(recipient)) => Ok(KeyName::Recipient(recipient)),
        (Some(key), None, None) => read_key(key)
            .map(KeyName::Bytes)
            .ok_or_else(|| "the key is neither as redis-cli prints it nor hexadecimal after 0x".to_owned()),
        (None, None, None) => Err("a key, --to or --request is needed".to_owned()),
    }
}

/// A key from `0x…`, or from the form of `redis-cli`, perhaps in its quotes. `None` if it is neither.
fn read_key(text: &str) -> Option<Vec<u8>> {
    if let Some(digits) = text.strip_prefix("0x") {
        return hex::decode(digits).ok();
    }
    let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    let (mut key, mut rest) = (Vec::with_capacity(text.len()), text.bytes());
    while let Some(byte) = rest.next() {
        key.push(match (byte, byte == b'\\') {
            (byte, false) => byte,
            (_, true) => match rest.next()? {
                b'x' => {
                    let mut byte = [0];
                    hex::decode_to_slice([rest.next()?, rest.next()?], &mut byte).ok()?;
                    byte[0]
                }
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                b'a' => 7,
                b'b' => 8,
                b'\'' => b'\'',
                same @ (b'\\' | b'"') => same,
                _ => return None,
            },
        });
    }
    Some(key)
}

/// The reason why a value is not shown.
fn problem(key: &ShownKey) -> Option<&'static str> {
    match (key.kind, &key.fields) {
        (_, Some(_)) => None,
        (Some(_), None) => Some("damaged, of another type, or of another version"),
        (None, None) => Some("not a key of this REDIS_PREFIX and version"),
    }
}

fn row(key: &ShownKey) -> Value {
    let fields = key.fields.iter().flatten();
    let fields: Map<String, Value> =
        fields.map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    json!({"key": key.key, "kind": key.kind, "ttl_ms": key.ttl, "problem": problem(key), "fields": fields})
}

fn print_key(key: &ShownKey) {
    say(&key.key);
    say(&format!("  kind: {}", key.kind.unwrap_or("unknown")));
    say(&match key.ttl {
        Some(ttl) => format!("  time to live: {} s", ttl.div_ceil(1_000)),
        None => "  no expiry".to_owned(),
    });
    if let Some(problem) = problem(key) {
        say(&format!("  unreadable: {problem}"));
    }
    key.fields.iter().flatten().for_each(|(name, value)| print_field(name, value));
}

/// Prints a field, one line for each value inside it.
fn print_field(name: &str, value: &Value) {
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(inner, value)| print_field(&format!("{name}.{inner}"), value));
        }
        Value::Array(values) if !values.is_empty() => {
            values.iter().enumerate().for_each(|(nth, value)| print_field(&format!("{name}[{nth}]"), value));
        }
        Value::Null | Value::Array(_) => say(&format!("  {name}: none")),
        Value::String(text) if text.is_empty() => say(&format!("  {name}: none")),
        Value::String(text) => say(&format!("  {name}: {text}")),
        value => say(&format!("  {name}: {value}")),
    }
}
