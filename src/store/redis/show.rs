//! One key for people: its kind and every field by its name, for `otpost store show`.

mod conversion;
mod defence;
mod redactions;
mod shared;
mod stored;
mod times;

use serde_json::{Value, json};

use self::conversion::{counts, writers};
use self::defence::{holds, overrides, unverified, verified};
use self::redactions::{redaction_jobs, redactions_due, redactions_not_found};
use self::shared::{book, dropped, key_checks, kill_switch, log_filter, outbox, publishing_lease};
use self::stored::{Fields, Stored, bytes};
use self::times::{minute, score, time, with_times};
use super::charges::Charge;
use super::connection::Link;
use super::keys::{Key, Keys, read_request_id};
use super::pack::{NO_END, Unpacker};
use super::records::{read_completion, read_history};
use super::values::{Challenge, CodeFacts, Entry, InProgress, Recipient, Record, log};
use crate::domain::limit::EventLog;
use crate::domain::opt_status::OptStatus;
use crate::domain::time::UnixMillis;
use crate::domain::worker_state::WorkerState;
use crate::store::{KeyName, ShownKey, StoreError};

/// Of a list or a sorted set, the last entries are shown.
const ENTRIES_MAX: isize = 1_000;

pub(super) async fn show(link: &Link, keys: &Keys, name: &KeyName) -> Result<Vec<ShownKey>, StoreError> {
    let mut shown = Vec::new();
    for key in named(keys, name) {
        let Some((stored, ttl)) = read(link, &key).await? else { continue };
        let reader = keys.without_prefix(&key).and_then(reader);
        let fields = reader.and_then(|(_, read, rest)| read(rest, &stored));
        let kind = reader.map(|(kind, ..)| kind);
        shown.push(ShownKey { key: key.escape_ascii().to_string(), kind, ttl, fields });
    }
    Ok(shown)
}

fn named(keys: &Keys, name: &KeyName) -> Vec<Key> {
    match name {
        KeyName::Bytes(key) => vec![key.clone()],
        KeyName::Recipient(recipient) => vec![keys.recipient(recipient)],
        KeyName::Request(request_id, recipient) => {
            let Some(recipient) = recipient else { return keys.request_in_shards(request_id) };
            let key = keys.request(request_id, recipient);
            let of_second_recipient = [key.as_slice(), &recipient.bytes()].concat();
            vec![key, of_second_recipient, keys.panics(request_id, recipient)]
        }
    }
}

/// The value and the time to live of a key, if there is one.
async fn read(link: &Link, key: &[u8]) -> Result<Option<(Stored, Option<u64>)>, StoreError> {
    let of_type: String = link.ask(redis::cmd("TYPE").arg(key)).await?;
    let stored = match &*of_type {
        "none" => return Ok(None),
        "string" => Stored::Bytes(link.ask(redis::cmd("GET").arg(key)).await?),
        "list" => Stored::List(link.ask(redis::cmd("LRANGE").arg(key).arg(-ENTRIES_MAX).arg(-1)).await?),
        "zset" => {
            let mut command = redis::cmd("ZRANGE");
            command.arg(key).arg(-ENTRIES_MAX).arg(-1).arg("WITHSCORES");
            Stored::Scores(link.ask(&command).await?)
        }
        "hash" => Stored::Hash(link.ask(redis::cmd("HGETALL").arg(key)).await?),
        _ => Stored::OtherType,
    };
    let ttl: i64 = link.ask(redis::cmd("PTTL").arg(key)).await?;
    Ok(Some((stored, u64::try_from(ttl).ok())))
}

/// Reads the rest of a name and what is stored there.
type Reader = fn(&[u8], &Stored) -> Option<Fields>;

/// The kind of a key by its name after the prefix.
fn reader(name: &[u8]) -> Option<(&'static str, Reader, &[u8])> {
    let exact: Option<(&'static str, Reader)> = match name {
        b"suppressed" => Some(("suppressed recipients", suppressed)),
        b"due" => Some(("minutes in which receipts are due", due)),
        b"workers" => Some(("active workers", workers)),
        b"states" => Some(("states of workers", worker_states)),
        b"keys" => Some(("key check values", key_checks)),
        b"jj" => Some(("jobs that redact messages", redaction_jobs)),
        b"jq" => Some(("messages to redact", redactions_due)),
        b"jn" => Some(("messages to redact that were not found", redactions_not_found)),
        b"e" => Some(("book under the budgets", book)),
        b"xw" | b"zw" => Some(("last batches of counts", writers)),
        b"zh" => Some(("holds of the pumping defence", holds)),
        b"zo" => Some(("overrides of the pumping defence", overrides)),
        b"primary" => Some(("last server", server)),
        b"format" => Some(("format", format)),
        b"kill" => Some(("kill switch", kill_switch)),
        b"log-level" => Some(("log filter", log_filter)),
        b"outbox" => Some(("audit records to be published", outbox)),
        b"outbox-dropped" => Some(("audit records without room", dropped)),
        b"outbox-lease" => Some(("lease of the publisher of audit records", publishing_lease)),
        b"countries" => Some(("suppressed countries", countries)),
        b"b" => Some(("places under the cap over all sends", blocks)),
        b"g" => Some(("refunded places", refunded_places)),
        _ => None,
    };
    if let Some((kind, read)) = exact {
        return Some((kind, read, b""));
    }
    let (letter, rest) = name.split_first()?;
    let (kind, read): (&'static str, Reader) = match (letter, rest.len()) {
        (b's', 16) => ("recipient", recipient),
        (b'q', 17 | 33) => ("request", request),
        (b't', 17) => ("text of a request id", text),
        (b'p', 33) => ("panics of a request", panics),
        (b'm', 17..) => ("claim", claim),
        (b'v', 16) => ("checks that may have been right", possible_checks),
        (b'k', 16) => ("idempotency key", idempotency_key),
        (b'u' | b'U', 16) => ("sends of a user", subject_log),
        (b'i' | b'I', 16) => ("sends of an IP", subject_log),
        (b'w' | b'W', 16) => ("sends of a network", subject_log),
        (b'a' | b'A', 0) => ("all sends", subject_log),
        (b'c', 1..=8) => ("suppression of a country", country),
        (b'n', 16) => ("note of a suppression", note),
        (b'x', 4..=16) => ("counts of codes", counts),
        (b'z', 2..=5) => ("unverified sends", unverified),
        (b'y', 1..=5) => ("recently verified", verified),
        (b'o', 16) => ("last opt-in or opt-out", last_opt),
        (b'r', 1..=12) => ("receipts due in a minute", due_receipts),
        _ => return None,
    };
    Some((kind, read, rest))
}

/// A time that may be none (0) or without end.
fn end(at: u64) -> Value {
    match at {
        0 => Value::Null,
        NO_END => json!("no end"),
        at => time(UnixMillis(at)),
    }
}

/// A request id, or the digest of one that is no UUID.
fn request_name(request: &[u8]) -> Value {
    match request {
        [] => Value::Null,
        [b'h', digest @ ..] => json!(format!("h {}", hex::encode(digest))),
        request => read_request_id(request, "").map_or(Value::Null, |id| json!(id.as_str())),
    }
}

fn entries(log: &[Entry<'_>], name: &str, read: fn(&[u8]) -> Value) -> Value {
    log.iter().map(|(at, what)| json!({"at": time(*at), name: read(what)})).collect()
}

fn hexadecimal(bytes: &[u8]) -> Value {
    json!(hex::encode(bytes))
}

fn facts(facts: &CodeFacts<'_>) -> Value {
    json!({
        "id": facts.id.to_string(),
        "digest": facts.digest.to_string(),
        "kid": facts.kid,
        "callers_code": facts.callers_code,
    })
}

fn challenge(challenge: &Challenge<'_>) -> Value {
    let unfinished = challenge.unfinished_checks.iter();
    let unfinished: Value = unfinished
        .map(|(check, sid)| json!({"check": hexadecimal(check), "verification_sid": sid}))
        .collect();
    json!({
        "purpose": challenge.purpose,
        "expires": time(challenge.expires),
        "checks": challenge.checks,
        "used_by": hexadecimal(challenge.used_by),
        "facts": facts(&challenge.facts),
        "verification_sid": challenge.verification_sid,
        "unfinished_checks": unfinished,
    })
}

fn recipient(name: &[u8], stored: &Stored) -> Option<Fields> {
    let recipient = Recipient::read(bytes(stored)?)?;
    Some(vec![
        ("recipient", hexadecimal(name)),
        ("kept_until", time(recipient.kept_until)),
        ("cooldown_until", end(recipient.cooldown_until.0)),
        ("cooldown_deadline", end(recipient.cooldown_deadline.0)),
        ("cooldown_request", request_name(recipient.cooldown_request)),
        ("suppression_code", json!(recipient.suppression_code)),
        ("suppressed_until", end(recipient.suppressed_until)),
        ("sends", entries(&recipient.sends, "request", request_name)),
        ("refunds", entries(&recipient.refunds, "request", request_name)),
        ("unsent", entries(&recipient.unsent, "request", request_name)),
        ("wrong", entries(&recipient.wrong, "check", hexadecimal)),
        ("challenges", recipient.challenges.iter().map(challenge).collect()),
    ])
}

fn request(name: &[u8], stored: &Stored) -> Option<Fields> {
    let record = Record::read(bytes(stored)?)?;
    let receipt = record.receipt.as_ref().map(|receipt| {
        json!({
            "message_id": receipt.message_id,
            "status": receipt.status.as_str(),
            "provider_code": receipt.provider_code,
            "published": receipt.published,
            "at": time(receipt.at),
        })
    });
    let mut fields = vec![
        ("request", request_name(name.get(..17)?)),
        ("recipient", json!(record.recipient.to_string())),
        ("state", json!(record.stage.unwrap_or("completed"))),
        ("token", if record.has_lease() { hexadecimal(record.token) } else { json!("requeued") }),
        ("kept_until", time(record.kept_until)),
        ("receipt", json!(receipt)),
    ];
    if !record.charges.is_empty() {
        fields.push(("charges", record.charges.iter().map(charge).collect()));
        fields.push(("charges_refunded", json!(record.is_refunded)));
    }
    match record.stage {
        Some(_) => fields.extend(in_progress(record.rest)?),
        None => fields.extend(completed(record.rest)?),
    }
    Some(fields)
}

fn charge(charge: &Charge) -> Value {
    match charge.log {
        EventLog::AllSends => json!({"log": "all", "until": time(charge.at)}),
        log => {
            let name = match log {
                EventLog::UserSends => "user",
                EventLog::IpSends => "ip",
                _ => "network",
            };
            json!({"log": name, "digest": charge.digest.to_string(), "at": time(charge.at)})
        }
    }
}

fn in_progress(rest: &[u8]) -> Option<Fields> {
    let rest = InProgress::read(rest)?;
    Some(vec![
        ("lease_until", time(rest.busy_until)),
        ("attempt", json!(rest.attempts_started)),
        ("started_at", time(rest.attempt_started_at)),
        ("attempts_in_doubt", json!(rest.attempts_in_doubt)),
        ("unfinished_leases", json!(rest.unfinished_leases)),
        ("admitted_at", time(rest.admitted_at)),
        ("expires", time(rest.expires)),
        ("deadline", time(rest.deadline)),
        ("purpose", json!(rest.purpose)),
        ("challenge", facts(&rest.facts)),
        ("history", with_times(json!(read_history(rest.history)?))),
    ])
}

fn completed(rest: &[u8]) -> Option<Fields> {
    let mut words = Unpacker::new(rest);
    let (shows_claim, message_id, unnamed) = (words.u8()? == 1, words.long_text()?, words.long()?);
    let unnamed = if unnamed.is_empty() { Value::Null } else { unnamed_messages(unnamed)? };
    let outcome = read_completion(rest)?;
    Some(vec![
        ("message_id", json!(message_id)),
        ("claims_message", json!(shows_claim)),
        ("unnamed_messages", unnamed),
        ("outcome", with_times(json!(outcome))),
    ])
}

fn unnamed_messages(unnamed: &[u8]) -> Option<Value> {
    let mut words = Unpacker::new(unnamed);
    let (count, from, until) = (words.u16()?, words.time()?, words.time()?);
    let (purpose, code_facts) = (words.short_text()?, words.short()?);
    let code_facts = match code_facts {
        [] => Value::Null,
        code_facts => facts(&CodeFacts::read(&mut Unpacker::new(code_facts))?),
    };
    Some(
        json!({"count": count, "from": time(from), "until": time(until), "purpose": purpose, "challenge": code_facts}),
    )
}

fn text(_name: &[u8], stored: &Stored) -> Option<Fields> {
    Some(vec![("text", json!(std::str::from_utf8(bytes(stored)?).ok()?))])
}

fn format(_name: &[u8], stored: &Stored) -> Option<Fields> {
    let Stored::Bytes(bytes) = stored else { return None };
    let (number, rest) = std::str::from_utf8(bytes).ok()?.split_once(' ')?;
    let (until, shards) = rest.split_once(' ').unwrap_or((rest, "1"));
    let until = until.parse().ok().filter(|until| *until > 0).map(UnixMillis);
    Some(vec![
        ("format", json!(number)),
        ("old_records_until", json!(until.map(|until| until.to_string()))),
        ("shards", json!(shards)),
    ])
}

fn server(_name: &[u8], stored: &Stored) -> Option<Fields> {
    let (run_id, since) = std::str::from_utf8(bytes(stored)?).ok()?.split_once(' ')?;
    Some(vec![("run_id", json!(run_id)), ("changed_at", end(since.parse().ok()?))])
}

fn claim(name: &[u8], stored: &Stored) -> Option<Fields> {
    let (recipient, message_id) = name.split_at_checked(16)?;
    let mut words = Unpacker::new(bytes(stored)?);
    Some(vec![
        ("recipient", hexadecimal(recipient)),
        ("message_id", json!(std::str::from_utf8(message_id).ok()?)),
        ("until", time(words.time()?)),
        ("request", request_name(words.bytes(17)?)),
    ])
}

fn panics(name: &[u8], stored: &Stored) -> Option<Fields> {
    let (request, recipient) = name.split_at_checked(17)?;
    let mut words = Unpacker::new(bytes(stored)?);
    let kept_until = time(words.time()?);
    let tokens: Value = words.rest().chunks(8).map(hexadecimal).collect();
    Some(vec![
        ("request", request_name(request)),
        ("recipient", hexadecimal(recipient)),
        ("kept_until", kept_until),
        ("lease_tokens", tokens),
    ])
}

fn possible_checks(name: &[u8], stored: &Stored) -> Option<Fields> {
    let of_member = |(member, at): (&[u8], f64)| {
        let (check, sid) = member.split_at_checked(8)?;
        Some(
            json!({"at": score(at)?, "check": hexadecimal(check), "verification_sid": std::str::from_utf8(sid).ok()?}),
        )
    };
    Some(vec![("recipient", hexadecimal(name)), ("checks", scores(stored, of_member)?)])
}

fn idempotency_key(name: &[u8], stored: &Stored) -> Option<Fields> {
    let mut words = Unpacker::new(bytes(stored)?);
    let (until, request) = (words.time()?, words.digest()?);
    Some(vec![
        ("key", hexadecimal(name)),
        ("until", time(until)),
        ("request_digest", json!(request.to_string())),
    ])
}

fn subject_log(name: &[u8], stored: &Stored) -> Option<Fields> {
    let times: Value = match stored {
        Stored::Bytes(packed) => log(packed, 6)?.into_iter().map(|(at, _)| time(at)).collect(),
        Stored::List(list) => {
            list.iter().map(|at| Some(time(UnixMillis(decimal(at)?)))).collect::<Option<_>>()?
        }
        Stored::Scores(_) => return charges(name, stored),
        _ => return None,
    };
    let subject = if name.is_empty() { Value::Null } else { hexadecimal(name) };
    Some(vec![("digest", subject), ("sends", times)])
}

/// A subject log with more than one shard.
fn charges(name: &[u8], stored: &Stored) -> Option<Fields> {
    let of_member = |(member, at): (&[u8], f64)| {
        let (request, recipient) = member.split_at_checked(17)?;
        Some(json!({
            "at": score(at)?, "request": request_name(request), "recipient": hexadecimal(recipient)
        }))
    };
    Some(vec![("digest", hexadecimal(name)), ("sends", scores(stored, of_member)?)])
}

fn countries(_name: &[u8], stored: &Stored) -> Option<Fields> {
    let Stored::Hash(fields) = stored else { return None };
    let one = |(name, value): &(Vec<u8>, Vec<u8>)| {
        let mut words = Unpacker::new(value);
        let (country, code) = (std::str::from_utf8(name).ok()?, words.u32()?);
        Some(json!({"country": country, "provider_code": code, "until": end(words.u48()?)}))
    };
    Some(vec![("countries", fields.iter().map(one).collect::<Option<Value>>()?)])
}

fn worker_states(_name: &[u8], stored: &Stored) -> Option<Fields> {
    let Stored::Hash(fields) = stored else { return None };
    let one = |(id, value): &(Vec<u8>, Vec<u8>)| {
        let mut words = Unpacker::new(value);
        let (at, state) = (words.time()?, WorkerState::unpack(words.rest())?);
        let (channel, rate) = (state.channel.as_str(), state.ended.as_f64());
        Some(json!({
            "worker": std::str::from_utf8(id).ok()?, "at": time(at), "channel": channel, "closed_by": state.closed_by,
            "in_flight": state.in_flight, "waiting": state.waiting, "rate": rate, "draining": state.draining
        }))
    };
    Some(vec![("workers", fields.iter().map(one).collect::<Option<Value>>()?)])
}

fn blocks(_name: &[u8], stored: &Stored) -> Option<Fields> {
    let (mut words, mut blocks) = (Unpacker::new(bytes(stored)?), Vec::new());
    while !words.is_empty() {
        let (until, block) = (words.time()?, words.bytes(8)?);
        let (places, refunds) = (words.u32()?, words.u32()?);
        blocks.push(json!({
            "until": time(until), "block": hexadecimal(block), "places": places, "refunds": refunds
        }));
    }
    Some(vec![("blocks", json!(blocks))])
}

fn refunded_places(_name: &[u8], stored: &Stored) -> Option<Fields> {
    let of_member = |(member, until): (&[u8], f64)| {
        let (request, recipient) = member.split_at_checked(17)?;
        Some(json!({
            "until": score(until)?, "request": request_name(request), "recipient": hexadecimal(recipient)
        }))
    };
    Some(vec![("requests", scores(stored, of_member)?)])
}

fn country(name: &[u8], stored: &Stored) -> Option<Fields> {
    let mut words = Unpacker::new(bytes(stored)?);
    let country = json!(std::str::from_utf8(name).ok()?);
    Some(vec![("country", country), ("provider_code", json!(words.u32()?)), ("until", end(words.u48()?))])
}

fn note(name: &[u8], stored: &Stored) -> Option<Fields> {
    let mut words = Unpacker::new(bytes(stored)?);
    let (since, note) = (words.time()?, std::str::from_utf8(words.rest()).ok()?);
    let (note, kept) = note.split_once('\n').map_or((note, None), |(note, kept)| (note, Some(kept)));
    let (masked, reason) = note.split_once(' ').unwrap_or((note, ""));
    let mut fields = vec![
        ("recipient", hexadecimal(name)),
        ("since", time(since)),
        ("to", json!(masked)),
        ("reason", json!(reason)),
    ];
    if let Some(kept) = kept {
        let mut words = kept.split(' ').map_while(|word| word.parse::<u64>().ok());
        fields.push(("keeps", json!({"provider_code": words.next()?, "until": end(words.next()?)})));
    }
    Some(fields)
}

fn last_opt(name: &[u8], stored: &Stored) -> Option<Fields> {
    let mut words = Unpacker::new(bytes(stored)?);
    let status = if words.u8()? == 1 { OptStatus::OptedIn } else { OptStatus::OptedOut };
    Some(vec![
        ("recipient", hexadecimal(name)),
        ("status", json!(status.as_str())),
        ("at", time(words.time()?)),
    ])
}

fn due_receipts(name: &[u8], stored: &Stored) -> Option<Fields> {
    let Stored::List(list) = stored else { return None };
    let entry = |entry: &Vec<u8>| {
        let mut words = Unpacker::new(entry);
        let (at, recipient, request) = (words.time()?, words.digest()?, words.bytes(17)?);
        Some(
            json!({"sent_at": time(at), "recipient": recipient.to_string(), "request": request_name(request)}),
        )
    };
    let messages = list.iter().map(entry).collect::<Option<Value>>()?;
    Some(vec![("minute", minute(decimal(name)?)?), ("messages", messages)])
}

fn suppressed(_name: &[u8], stored: &Stored) -> Option<Fields> {
    let of_member = |(member, until): (&[u8], f64)| {
        let until = if until.is_infinite() { json!("no end") } else { score(until)? };
        Some(json!({"recipient": hexadecimal(member), "until": until}))
    };
    Some(vec![("recipients", scores(stored, of_member)?)])
}

fn due(_name: &[u8], stored: &Stored) -> Option<Fields> {
    Some(vec![("minutes", scores(stored, |(member, _)| minute(decimal(member)?))?)])
}

fn workers(_name: &[u8], stored: &Stored) -> Option<Fields> {
    let of_member = |(member, at): (&[u8], f64)| {
        Some(json!({"worker": std::str::from_utf8(member).ok()?, "active_at": score(at)?}))
    };
    Some(vec![("workers", scores(stored, of_member)?)])
}

fn scores(stored: &Stored, of_member: impl Fn((&[u8], f64)) -> Option<Value>) -> Option<Value> {
    let Stored::Scores(members) = stored else { return None };
    members.iter().map(|(member, score)| of_member((member, *score))).collect()
}

fn decimal(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}
