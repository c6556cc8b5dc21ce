//! Keys that all processes share.

use serde_json::{Value, json};

use super::stored::{Fields, Stored, bytes};
use super::times::time;
use crate::domain::amount::Amount;
use crate::domain::key_check::{KeyCheck, KeyFingerprint};
use crate::domain::time::UnixMillis;
use crate::store::redis::pack::Unpacker;

pub(super) fn kill_switch(_name: &[u8], stored: &Stored) -> Option<Fields> {
    let (since, reason) = std::str::from_utf8(bytes(stored)?).ok()?.split_once(' ')?;
    Some(vec![("since", time(UnixMillis(since.parse().ok()?))), ("reason", json!(reason))])
}

pub(super) fn log_filter(_name: &[u8], stored: &Stored) -> Option<Fields> {
    let mut words = std::str::from_utf8(bytes(stored)?).ok()?.split(' ');
    let mut at = || Some(time(UnixMillis(words.next()?.parse().ok()?)));
    let (set_at, until) = (at()?, at()?);
    let (set_by, filter) = (words.next()?, words.next()?);
    Some(vec![("set_at", set_at), ("until", until), ("set_by", json!(set_by)), ("filter", json!(filter))])
}

pub(super) fn outbox(_name: &[u8], stored: &Stored) -> Option<Fields> {
    let Stored::List(records) = stored else { return None };
    let records = records.iter().map(|record| serde_json::from_slice::<Value>(record).ok());
    Some(vec![("records", records.collect::<Option<Value>>()?)])
}

pub(super) fn publishing_lease(_name: &[u8], stored: &Stored) -> Option<Fields> {
    let (publisher, until) = std::str::from_utf8(bytes(stored)?).ok()?.split_once(' ')?;
    let (_, until): (u64, u64) = (publisher.parse().ok()?, until.parse().ok()?);
    Some(vec![("until", json!(UnixMillis(until).to_string()))])
}

pub(super) fn dropped(_name: &[u8], stored: &Stored) -> Option<Fields> {
    let count: u64 = std::str::from_utf8(bytes(stored)?).ok()?.parse().ok()?;
    Some(vec![("count", json!(count))])
}

pub(super) fn key_checks(_name: &[u8], stored: &Stored) -> Option<Fields> {
    let Stored::Hash(fields) = stored else { return None };
    let one = |(name, value): &(Vec<u8>, Vec<u8>)| {
        let mut words = Unpacker::new(value);
        let (at, fingerprint) = (words.time()?, KeyFingerprint(words.bytes(8)?.try_into().ok()?));
        let key = KeyCheck::from_name(name, fingerprint)?;
        let value = fingerprint.to_string();
        Some(json!({"use": key.key_use.as_str(), "kid": key.kid, "fingerprint": value, "at": time(at)}))
    };
    Some(vec![("keys", fields.iter().map(one).collect::<Option<Value>>()?)])
}

pub(super) fn book(_name: &[u8], stored: &Stored) -> Option<Fields> {
    let (mut words, mut entries) = (Unpacker::new(bytes(stored)?), Vec::new());
    while !words.is_empty() {
        let kind = match words.u8()? {
            b'h' => "hour",
            b'd' => "day",
            _ => return None,
        };
        let number = words.u32()?;
        let [reserved, committed] = [words.u48()?, words.u48()?].map(Amount::from_micros);
        entries.push(json!({kind: number, "reserved": reserved, "committed": committed}));
    }
    Some(vec![("entries", json!(entries))])
}
