//! The body of our dead letters, the excerpt that commands show, and the rules of a replay.
//!
//! An excerpt shows the shape of a message only. The message itself is encrypted, without the caller's own code; so a
//! request with one cannot be replayed.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::encryption::{DeadLetterKey, NONCE_BYTES};
use super::json::{Member, members};
use super::outcome::Status;
use super::request::SendRequest;
use super::request::error::BODY_BYTES_MAX;
use super::request_id::RequestId;
use super::time::UnixMillis;

/// The excerpt covers this much of the message.
const EXCERPT_BYTES_MAX: usize = 2_048;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetterBody {
    pub bytes: usize,
    pub excerpt: String,
    /// The encrypted message; `None` if it is no JSON object or larger than a request may be.
    #[serde(default)]
    pub sealed: Option<String>,
    /// The caller's own code was removed before the encryption.
    #[serde(default)]
    pub code_removed: bool,
}

impl DeadLetterBody {
    /// `message_id` is that of the dead letter.
    pub fn of(
        message: &[u8],
        message_id: &str,
        key: &DeadLetterKey,
        nonce: [u8; NONCE_BYTES],
    ) -> DeadLetterBody {
        let mut body = DeadLetterBody {
            bytes: message.len(),
            excerpt: masked_excerpt(message),
            sealed: None,
            code_removed: false,
        };
        // A message of another type may hold a code anywhere, and is no request.
        let Some(object) = object_members(message) else {
            return body;
        };
        let is_code = |member: &&Member<'_>| member.name.as_deref() == Some("code");
        body.code_removed = object.iter().filter(is_code).any(|code| !code.value.is_null());
        let kept = match body.code_removed {
            true => object_of(object.iter().filter(|member| !is_code(member)).map(|member| member.raw)),
            false => message.to_vec(),
        };
        body.sealed = Some(key.seal(message_id, &kept, nonce));
        body
    }
}

fn object_members(message: &[u8]) -> Option<Vec<Member<'_>>> {
    (message.len() <= BODY_BYTES_MAX).then(|| members(message).collect::<Result<_, _>>().ok())?
}

/// An object with these members, each as it stood in its text.
fn object_of<'a>(members: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    [b"{", &*members.collect::<Vec<_>>().join(&b","[..]), b"}"].concat()
}

/// The shape of a body's beginning: field names of the contract stay, other letters become `x`, digits `#`. It shows no
/// code, number, name or address.
pub fn masked_excerpt(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(EXCERPT_BYTES_MAX)]);
    let is_word = |character: char| character.is_alphanumeric() || character == '_';
    let covered = |character: char| match character {
        _ if character.is_numeric() => '#',
        _ if character.is_alphabetic() => 'x',
        _ => character,
    };
    let mut masked = String::with_capacity(text.len());
    let mut rest = text.as_ref();
    while let Some(first) = rest.chars().next() {
        let end = rest.find(|next| is_word(next) != is_word(first)).unwrap_or(rest.len());
        let (run, after) = rest.split_at(end);
        match SendRequest::FIELDS.contains(&run) {
            true => masked.push_str(run),
            false => masked.extend(run.chars().map(covered)),
        }
        rest = after;
    }
    masked
}

/// A short id of a dead letter, the same in every listing.
pub fn dead_letter_id(message_id: Option<&str>, at: Option<UnixMillis>, body: &[u8]) -> String {
    let mut hash = Sha256::new();
    let message_id = message_id.unwrap_or_default();
    hash.update((message_id.len() as u64).to_be_bytes());
    hash.update(message_id);
    hash.update(at.map_or(0, |at| at.0).to_be_bytes());
    hash.update(body);
    hex::encode(&hash.finalize()[..6])
}

#[derive(Clone, Copy, Debug)]
pub struct Replayed<'a> {
    pub body: &'a [u8],
    /// The time of its message, else of the dead letter.
    pub at: Option<UnixMillis>,
    pub status: Option<Status>,
}

/// A request to publish again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replay {
    pub from: RequestId,
    /// A new id; with the old one it would get the stored result.
    pub to: RequestId,
    pub body: Vec<u8>,
    pub at: UnixMillis,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplayRefusal {
    /// The message was not kept.
    NotSealed,
    /// This key does not decrypt the message.
    Unopened,
    /// The caller's code was removed, and another code would be sent.
    CodeRemoved,
    NoRequest(String),
    /// The request id has no room for the suffix.
    IdTooLong,
    Expired,
    InDoubt,
    Sent,
}

impl ReplayRefusal {
    /// `--force` overrides it.
    pub fn can_be_forced(&self) -> bool {
        matches!(self, ReplayRefusal::Expired | ReplayRefusal::InDoubt | ReplayRefusal::Sent)
    }
}

impl fmt::Display for ReplayRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ReplayRefusal::NotSealed => "its message was not kept: it was no JSON object, or too large",
            ReplayRefusal::Unopened => {
                "its message cannot be decrypted: is OTP_RECIPIENT_KEY the one that encrypted it?"
            }
            ReplayRefusal::CodeRemoved => {
                "the caller's own code was removed from it, and another code would be sent"
            }
            ReplayRefusal::NoRequest(fault) => return write!(f, "it holds no valid request: {fault}"),
            ReplayRefusal::IdTooLong => "its request id has no room for another number",
            ReplayRefusal::Expired => "its request has expired",
            ReplayRefusal::InDoubt => "it may have been sent: it has no result, or ended as `unknown`",
            ReplayRefusal::Sent => "it was sent: it ended as `sent`",
        })
    }
}

impl Replayed<'_> {
    /// The request under its next id. If forced, an expired request starts at `now`, and a sent one is sent again.
    pub fn replay(
        &self,
        now: UnixMillis,
        code_life: Duration,
        forced: bool,
    ) -> Result<Replay, ReplayRefusal> {
        let request = SendRequest::decode(self.body, self.at)
            .map_err(|refused| ReplayRefusal::NoRequest(refused.fault.to_string()))?;
        let to = next_id(&request.id).ok_or(ReplayRefusal::IdTooLong)?;
        match self.status {
            Some(Status::Unknown) if !forced => return Err(ReplayRefusal::InDoubt),
            Some(Status::Sent) if !forced => return Err(ReplayRefusal::Sent),
            _ => {}
        }
        let requested_at = request.requested_at.unwrap_or(now).min(now);
        let deadline = request.not_after.into_iter().fold(requested_at.plus(code_life), UnixMillis::min);
        let expired = deadline <= now;
        if expired && !forced {
            return Err(ReplayRefusal::Expired);
        }
        let replaced: &[&str] = match expired {
            true => &["request_id", "requested_at", "not_after"],
            false => &["request_id"],
        };
        let object = object_members(self.body).expect("a request is an object");
        let is_kept =
            |member: &&Member<'_>| member.name.as_deref().is_none_or(|name| !replaced.contains(&name));
        let id = format!("\"request_id\":{}", Value::from(to.as_str()));
        let kept = object.iter().filter(is_kept).map(|member| member.raw);
        let body = object_of(std::iter::once(id.as_bytes()).chain(kept));
        Ok(Replay { from: request.id, to, body, at: if expired { now } else { requested_at } })
    }
}

/// `x~r1` follows `x`, `x~r2` follows `x~r1`. `None` if the result is no valid id.
fn next_id(id: &RequestId) -> Option<RequestId> {
    let number = |text: &str| text.parse::<u32>().ok().filter(|number| number.to_string() == text);
    let (base, replays) = match id.as_str().rsplit_once("~r") {
        Some((base, text)) if !base.is_empty() => match number(text) {
            Some(replays) => (base, replays),
            None => (id.as_str(), 0),
        },
        _ => (id.as_str(), 0),
    };
    RequestId::parse(&format!("{base}~r{}", replays.checked_add(1)?))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: UnixMillis = UnixMillis(1_795_000_000_000);
    const LIFE: Duration = Duration::from_secs(600);
    const NONCE: [u8; NONCE_BYTES] = [3; NONCE_BYTES];

    fn key() -> DeadLetterKey {
        DeadLetterKey::derived(&[9; 32])
    }

    #[test]
    fn an_excerpt_shows_the_shape_and_nothing_else() {
        let body = "{\"to\":\"+57 300\u{663}\",\"user_name\":\"José to 1\",\"mail\":\"a_b@c.d\"}";
        let shape = "{\"to\":\"+## ####\",\"user_name\":\"xxxx to #\",\"xxxx\":\"x_x@x.x\"}";
        assert_eq!(masked_excerpt(body.as_bytes()), shape);
        assert!(masked_excerpt(&[b'7'; 5_000]).len() == EXCERPT_BYTES_MAX);
        assert_eq!(masked_excerpt(shape.as_bytes()), shape);
    }

    #[test]
    fn the_callers_code_is_nowhere_in_the_sealed_message() {
        for body in [
            r#"{"request_id":"r1","code":"482913"}"#,
            r#"{"code":"482913","code":"482913","to":"+573001234567"}"#,
            r#"{"c\u006fde":482913}"#,
            r#"{"user_name":"Ana \ud83d","code":"482913","request_id":"r1"}"#,
            r#"{"code":"482913 \ud83d","x":1e999}"#,
            "\u{feff}{\"code\":482913}",
        ] {
            let body_kept = DeadLetterBody::of(body.as_bytes(), "dead:1", &key(), NONCE);
            let opened = key().open("dead:1", &body_kept.sealed.expect("sealed")).expect("opened");
            assert!(!String::from_utf8(opened).expect("JSON").contains("482913") && body_kept.code_removed);
        }
    }

    #[test]
    fn a_body_without_a_code_is_sealed_as_it_was() {
        let body = br#"{ "request_id": "r1",  "n": 1.50, "code": null }"#;
        let body_kept = DeadLetterBody::of(body, "dead:1", &key(), NONCE);
        assert!(!body_kept.code_removed);
        assert_eq!(
            key().open("dead:1", &body_kept.sealed.expect("sealed")).as_deref(),
            Some(body.as_slice())
        );
    }

    #[test]
    fn a_message_that_is_no_object_or_too_large_is_not_sealed() {
        let large = format!(r#"{{"request_id":"r1","pad":"{}"}}"#, "x".repeat(BODY_BYTES_MAX));
        for body in ["", "[]", "482913", r#"{"code":"482913""#, &large] {
            let body_kept = DeadLetterBody::of(body.as_bytes(), "dead:1", &key(), NONCE);
            assert_eq!((body_kept.sealed, body_kept.code_removed), (None, false));
        }
    }

    #[track_caller]
    fn check_next(id: &str, next: Option<&str>) {
        let id = RequestId::parse(id).expect("an id");
        assert_eq!(next_id(&id).as_ref().map(RequestId::as_str), next);
    }

    #[test]
    fn each_replay_has_the_next_number() {
        check_next("x", Some("x~r1"));
        check_next("x~r1", Some("x~r2"));
        check_next("x~r9", Some("x~r10"));
        check_next("x~r1~r1", Some("x~r1~r2"));
        check_next("x~r", Some("x~r~r1"));
        check_next("x~r01", Some("x~r01~r1"));
        check_next("~r1", Some("~r1~r1"));
        check_next("x~r4294967295", None);
        check_next(&"x".repeat(125), Some(&format!("{}~r1", "x".repeat(125))));
        check_next(&"x".repeat(126), None);
    }

    fn replay(more: Value, at: Option<UnixMillis>, forced: bool) -> Result<Replay, ReplayRefusal> {
        let mut body = json!({"request_id": "r1", "to": "+573001234567"});
        body.as_object_mut().expect("one").extend(more.as_object().expect("one").clone());
        Replayed { body: body.to_string().as_bytes(), at, status: None }.replay(NOW, LIFE, forced)
    }

    #[test]
    fn a_replay_is_the_same_request_under_another_id() {
        let at = UnixMillis(NOW.0 - 1_000);
        let replayed = replay(json!({"user_name": "Ana", "x": [1]}), Some(at), false).expect("in time");
        let body: Value = serde_json::from_slice(&replayed.body).expect("JSON");
        let expected = json!({"request_id": "r1~r1", "to": "+573001234567", "user_name": "Ana", "x": [1]});
        assert_eq!((body, replayed.at), (expected, at));
    }

    #[test]
    fn a_late_request_is_replayed_only_if_forced_and_counts_from_now() {
        let before = |seconds: u64| UnixMillis(NOW.0 - seconds * 1_000);
        let late = [
            (json!({}), Some(before(600))),
            (json!({"requested_at": before(600).to_string()}), Some(NOW)),
            (json!({"not_after": NOW.to_string()}), Some(NOW)),
        ];
        for (more, at) in late {
            assert_eq!(replay(more.clone(), at, false), Err(ReplayRefusal::Expired));
            let forced = replay(more, at, true).expect("forced");
            let body: Value = serde_json::from_slice(&forced.body).expect("JSON");
            assert_eq!(body, json!({"request_id": "r1~r1", "to": "+573001234567"}));
            assert_eq!(forced.at, NOW);
        }
        assert!(replay(json!({"not_after": NOW.plus(LIFE).to_string()}), Some(before(599)), false).is_ok());
    }

    #[test]
    fn a_request_that_was_or_may_have_been_sent_is_replayed_only_if_forced() {
        let body = br#"{"request_id":"r1","to":"3"}"#;
        let check = |status, refused: Option<ReplayRefusal>| {
            let replayed = Replayed { body, at: Some(NOW), status };
            assert_eq!(replayed.replay(NOW, LIFE, false).err(), refused);
            assert!(replayed.replay(NOW, LIFE, true).is_ok());
        };
        check(Some(Status::Unknown), Some(ReplayRefusal::InDoubt));
        check(Some(Status::Sent), Some(ReplayRefusal::Sent));
        check(Some(Status::Failed), None);
        check(None, None);
    }

    #[test]
    fn a_request_with_odd_neighbours_is_kept_and_replayed_with_them() {
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        let odd = format!(r#""user_name":"Ana \ud83d","to":"3","x":{deep},"y":1e999"#);
        let body = format!(r#"{{{odd},"request_id":"r1"}}"#);
        let kept = DeadLetterBody::of(body.as_bytes(), "dead:1", &key(), NONCE);
        let opened = key().open("dead:1", &kept.sealed.expect("sealed")).expect("opened");
        let replayed = Replayed { body: &opened, at: Some(NOW), status: None }.replay(NOW, LIFE, false);
        let expected = format!(r#"{{"request_id":"r1~r1",{odd}}}"#);
        assert_eq!(replayed.map(|replay| replay.body), Ok(expected.into_bytes()));
    }

    #[test]
    fn an_invalid_request_is_never_replayed() {
        let twice = r#"{"request_id":"r1","to":"3","to":"4"}"#;
        for body in ["", "[]", "{}", r#"{"request_id":"r1"}"#, twice] {
            let replayed = Replayed { body: body.as_bytes(), at: None, status: None };
            let refused = replayed.replay(NOW, LIFE, true).expect_err("no request");
            assert!(matches!(refused, ReplayRefusal::NoRequest(_)) && !refused.can_be_forced(), "{body}");
        }
    }
}
