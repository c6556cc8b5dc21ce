//! What a dead letter of ours holds, what of any may be shown, and whether one can be replayed.
//!
//! Nothing of a body can be read from a letter of ours but its shape. The body itself is sealed, without the caller's
//! own code; so a request that brought one cannot be replayed.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use super::encryption::{DeadLetterKey, NONCE_BYTES};
use super::outcome::Status;
use super::request::{BODY_BYTES_MAX, SendRequest};
use super::request_id::RequestId;
use super::time::UnixMillis;

/// Of a message that is set aside, this much is shown, masked.
const EXCERPT_BYTES_MAX: usize = 2_048;

/// The body of a dead letter of ours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetterBody {
    /// How many bytes the message had.
    pub bytes: usize,
    /// Its shape.
    pub excerpt: String,
    /// The message, encrypted. Nothing if it is no JSON object, or larger than a request may be.
    #[serde(default)]
    pub sealed: Option<String>,
    /// The caller's own code was taken out before.
    #[serde(default)]
    pub code_removed: bool,
}

impl DeadLetterBody {
    /// What the letter with this message id holds of a message.
    pub fn of(message: &[u8], letter: &str, key: &DeadLetterKey, nonce: [u8; NONCE_BYTES]) -> DeadLetterBody {
        let mut contents = DeadLetterBody {
            bytes: message.len(),
            excerpt: masked_excerpt(message),
            sealed: None,
            code_removed: false,
        };
        // What is no object may hold a code anywhere, and can never be a request.
        let Some(mut object) = json_object(message) else {
            return contents;
        };
        contents.code_removed = object.remove("code").is_some_and(|code| !code.is_null());
        let kept = match contents.code_removed {
            true => serde_json::to_vec(&object).expect("an object is plain data"),
            false => message.to_vec(),
        };
        contents.sealed = Some(key.seal(letter, &kept, nonce));
        contents
    }
}

fn json_object(message: &[u8]) -> Option<Map<String, Value>> {
    (message.len() <= BODY_BYTES_MAX).then(|| serde_json::from_slice(message).ok())?
}

/// The shape of the beginning of a body: the contract's field names are kept, every other letter and digit is covered.
/// No code, number, name or address can be read from it.
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

/// A short name for a letter, the same whenever it is looked at.
pub fn dead_letter_id(message_id: Option<&str>, at: Option<UnixMillis>, body: &[u8]) -> String {
    let mut hash = Sha256::new();
    let message_id = message_id.unwrap_or_default();
    hash.update((message_id.len() as u64).to_be_bytes());
    hash.update(message_id);
    hash.update(at.map_or(0, |at| at.0).to_be_bytes());
    hash.update(body);
    hex::encode(&hash.finalize()[..6])
}

/// What is known of the request in a letter.
#[derive(Clone, Copy, Debug)]
pub struct Replayed<'a> {
    /// The request's body.
    pub body: &'a [u8],
    /// The time of its message, else of the letter.
    pub at: Option<UnixMillis>,
    /// How it ended, if that was told with the letter.
    pub status: Option<Status>,
}

/// A request to publish again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replay {
    /// What it was called.
    pub from: RequestId,
    /// What it is called now: another request, or it would get the old one's result.
    pub to: RequestId,
    /// Its body.
    pub body: Vec<u8>,
    /// When it was made.
    pub at: UnixMillis,
}

/// Why a letter is not replayed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplayRefusal {
    /// It holds no body.
    NotSealed,
    /// Its body cannot be opened with the key at hand.
    Unopened,
    /// The caller's code is gone, and another one would be sent.
    CodeRemoved,
    /// It holds no request.
    NoRequest(String),
    /// The request's id leaves no room for another number.
    IdTooLong,
    /// A message would be too late.
    Expired,
    /// It may have been sent.
    InDoubt,
    /// It was sent.
    Sent,
}

impl ReplayRefusal {
    /// A person may know better.
    pub fn can_be_forced(&self) -> bool {
        matches!(self, ReplayRefusal::Expired | ReplayRefusal::InDoubt | ReplayRefusal::Sent)
    }
}

impl fmt::Display for ReplayRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ReplayRefusal::NotSealed => {
                "it was set aside without its body, which was no JSON object or too large"
            }
            ReplayRefusal::Unopened => {
                "its body cannot be opened: is OTP_RECIPIENT_KEY the one that it was sealed with?"
            }
            ReplayRefusal::CodeRemoved => {
                "the caller's own code was taken out of it, and another one would be sent"
            }
            ReplayRefusal::NoRequest(fault) => return write!(f, "it holds no valid request: {fault}"),
            ReplayRefusal::IdTooLong => "its request id has no room for another number",
            ReplayRefusal::Expired => "its request has expired",
            ReplayRefusal::InDoubt => "it may have been sent: it ended as `unknown`",
            ReplayRefusal::Sent => "it was sent: it ended as `sent`",
        })
    }
}

impl Replayed<'_> {
    /// The request under its next id. Forced, a late one counts from `now`, and one that was sent is sent again.
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
        let made = request.requested_at.unwrap_or(now).min(now);
        let ends = request.not_after.into_iter().fold(made.plus(code_life), UnixMillis::min);
        let expired = ends <= now;
        if expired && !forced {
            return Err(ReplayRefusal::Expired);
        }
        let nested = || ReplayRefusal::NoRequest("the body is nested too deep".to_owned());
        let mut object = json_object(self.body).ok_or_else(nested)?;
        object.insert("request_id".to_owned(), to.as_str().into());
        if expired {
            object.remove("requested_at");
            object.remove("not_after");
        }
        let body = serde_json::to_vec(&object).expect("an object is plain data");
        Ok(Replay { from: request.id, to, body, at: if expired { now } else { made } })
    }
}

/// `x` is followed by `x~r1`, and that by `x~r2`. Nothing if that is no id any more.
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
    fn the_callers_code_is_nowhere_in_what_is_sealed() {
        for body in [
            r#"{"request_id":"r1","code":"482913"}"#,
            r#"{"code":"482913","code":"482913","to":"+573001234567"}"#,
            r#"{"c\u006fde":482913}"#,
        ] {
            let contents = DeadLetterBody::of(body.as_bytes(), "dead:1", &key(), NONCE);
            let opened = key().open("dead:1", &contents.sealed.expect("sealed")).expect("opened");
            assert!(!String::from_utf8(opened).expect("JSON").contains("482913") && contents.code_removed);
        }
    }

    #[test]
    fn a_body_without_a_code_is_sealed_as_it_was() {
        let body = br#"{ "request_id": "r1",  "n": 1.50, "code": null }"#;
        let contents = DeadLetterBody::of(body, "dead:1", &key(), NONCE);
        assert!(!contents.code_removed);
        assert_eq!(key().open("dead:1", &contents.sealed.expect("sealed")).as_deref(), Some(body.as_slice()));
    }

    #[test]
    fn what_is_no_object_or_too_large_is_not_sealed() {
        let large = format!(r#"{{"request_id":"r1","pad":"{}"}}"#, "x".repeat(BODY_BYTES_MAX));
        for body in ["", "[]", "482913", r#"{"code":"482913""#, &large] {
            let contents = DeadLetterBody::of(body.as_bytes(), "dead:1", &key(), NONCE);
            assert_eq!((contents.sealed, contents.code_removed), (None, false));
        }
    }

    #[track_caller]
    fn check_next(id: &str, next: Option<&str>) {
        let id = RequestId::parse(id).expect("an id");
        assert_eq!(next_id(&id).as_ref().map(RequestId::as_str), next);
    }

    #[test]
    fn each_replay_counts_one_further() {
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
    fn what_was_or_may_have_been_sent_is_replayed_only_if_forced() {
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
    fn what_is_no_request_is_never_replayed() {
        let deep = format!(r#"{{"request_id":"r1","to":"3","x":{}{}}}"#, "[".repeat(200), "]".repeat(200));
        let twice = r#"{"request_id":"r1","to":"3","to":"4"}"#;
        for body in ["", "[]", "{}", r#"{"request_id":"r1"}"#, twice, &deep] {
            let replayed = Replayed { body: body.as_bytes(), at: None, status: None };
            let refused = replayed.replay(NOW, LIFE, true).expect_err("no request");
            assert!(matches!(refused, ReplayRefusal::NoRequest(_)) && !refused.can_be_forced(), "{body}");
        }
    }
}
