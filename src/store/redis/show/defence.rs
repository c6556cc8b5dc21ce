//! The pumping defence: unverified sends, holds, overrides, and those that have verified a code.

use serde_json::{Value, json};

use super::stored::{Fields, Stored};
use super::times::time;
use crate::domain::defence::{Scope, ScopeKind};
use crate::domain::time::UnixMillis;
use crate::store::redis::pack::Unpacker;
use crate::store::redis::unverified::read_record;

const DAY_MILLIS: u64 = 86_400_000;

fn listed(
    stored: &Stored,
    name: &'static str,
    one: impl Fn(&[u8], &[u8]) -> Option<Value>,
) -> Option<Fields> {
    let Stored::Hash(fields) = stored else { return None };
    let shown = fields.iter().map(|(field, value)| one(field, value)).collect::<Option<Value>>()?;
    Some(vec![(name, shown)])
}

fn scope(kind: u8, id: &[u8]) -> Option<Scope> {
    Some(Scope { kind: ScopeKind::of_letter(kind)?, id: u64::from_be_bytes(id.try_into().ok()?) })
}

/// The name begins with the letter of a kind.
pub(super) fn unverified(name: &[u8], stored: &Stored) -> Option<Fields> {
    let (kind, part) = name.split_first()?;
    part.iter().all(u8::is_ascii_digit).then_some(())?;
    listed(stored, "records", |id, value| {
        let mut words = Unpacker::new(value);
        let record = read_record(&mut words).filter(|_| words.is_empty())?;
        let unverified = record.unverified();
        Some(json!({
            "name": scope(*kind, id)?.shown(), "at": time(UnixMillis(u64::from(record.minute) * 60_000)), "pending": record.pending,
            "unverified_hour": unverified.hour, "unverified_day": unverified.day,
            "budget_hour": record.budget.hour, "budget_day": record.budget.day
        }))
    })
}

pub(super) fn holds(_name: &[u8], stored: &Stored) -> Option<Fields> {
    listed(stored, "holds", |name, value| {
        let (kind, id) = name.split_first()?;
        let held = scope(*kind, id)?;
        let mut words = Unpacker::new(value);
        let (until, eighths) = (words.time()?, words.u8()?);
        Some(json!({
            "scope": held.kind.as_str(), "name": held.shown(), "until": time(until), "eighths_left": eighths
        }))
    })
}

pub(super) fn overrides(_name: &[u8], stored: &Stored) -> Option<Fields> {
    listed(stored, "overrides", |_, value| {
        let mut words = Unpacker::new(value);
        let (until, since, action) = (words.time()?, words.time()?, words.u8()?);
        let target = words.short_text()?.to_owned();
        let reason = std::str::from_utf8(words.rest()).ok()?;
        Some(json!({
            "target": target, "action": char::from(action).to_string(), "since": time(since), "until": time(until), "reason": reason
        }))
    })
}

pub(super) fn verified(_name: &[u8], stored: &Stored) -> Option<Fields> {
    listed(stored, "verified", |name, value| {
        let day = Unpacker::new(value).u16()?;
        Some(json!({"digest": hex::encode(name), "day": time(UnixMillis(u64::from(day) * DAY_MILLIS))}))
    })
}
