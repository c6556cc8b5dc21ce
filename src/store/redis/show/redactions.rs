//! Jobs that redact messages at the provider.

use serde_json::{Value, json};

use super::stored::{Fields, Stored};
use super::times::{score, time};
use crate::store::forget::Listing;
use crate::store::redis::pack::Unpacker;

pub(super) fn redaction_jobs(_name: &[u8], stored: &Stored) -> Option<Fields> {
    let Stored::Hash(fields) = stored else { return None };
    let one = |(recipient, value): &(Vec<u8>, Vec<u8>)| {
        let mut words = Unpacker::new(value);
        let (begun, changed) = (time(words.time()?), time(words.time()?));
        let (total, done, failed) = (words.u32()?, words.u32()?, words.u32()?);
        let listing = Listing::ALL.get(usize::from(words.u8()?))?.as_str();
        Some(json!({
            "recipient": hex::encode(recipient), "begun": begun, "changed": changed, "total": total, "done": done,
            "failed": failed, "older_messages": listing
        }))
    };
    // The empty name has the time when messages may be taken again.
    let jobs = fields.iter().filter(|(recipient, _)| !recipient.is_empty()).map(one);
    Some(vec![("jobs", jobs.collect::<Option<Value>>()?)])
}

pub(super) fn redactions_due(_name: &[u8], stored: &Stored) -> Option<Fields> {
    let Stored::Scores(members) = stored else { return None };
    let one = |(member, at): &(Vec<u8>, f64)| {
        let (recipient, message_id) = member.split_at_checked(16)?;
        let message_id = std::str::from_utf8(message_id).ok()?;
        Some(json!({"due": score(*at)?, "recipient": hex::encode(recipient), "message_id": message_id}))
    };
    Some(vec![("messages", members.iter().map(one).collect::<Option<Value>>()?)])
}

pub(super) fn redactions_not_found(_name: &[u8], stored: &Stored) -> Option<Fields> {
    let Stored::Hash(fields) = stored else { return None };
    let one = |(recipient, count): &(Vec<u8>, Vec<u8>)| {
        let count: u64 = std::str::from_utf8(count).ok()?.parse().ok()?;
        Some(json!({"recipient": hex::encode(recipient), "not_found": count}))
    };
    Some(vec![("jobs", fields.iter().map(one).collect::<Option<Value>>()?)])
}
