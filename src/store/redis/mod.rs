//! The store on Redis 7 or later: one Lua script a step, each run whole or not at all.
//!
//! The scripts answer with one line of words, decoded here and nowhere else. Every call has a time limit of its own:
//! the client's does not bound its wait for a reconnection. A step whose answer was lost may have been made; asking
//! again gives the same answer.

mod keys;

use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::io::tcp::TcpSettings;
use redis::{Client, IntoConnectionInfo, Script, ScriptInvocation};
use sha2::{Digest as _, Sha256};

use self::keys::Keys;
use super::{
    Admission, Admit, Check, Grant, Handling, KEPT_AFTER, Limits, Mark, Marked, OUTCOME_KEPT,
    REFUNDS_PER_DAY, REFUSAL_KEPT, Refund, Settle, Settled, Store, StoreError, Subject, Usage,
};
use crate::domain::challenge::{CONTINUE_LIFE_LEFT_DIVISOR, ChallengeId, TIME_LEFT_MIN};
use crate::domain::outcome::{Outcome, Status};
use crate::domain::recipient::Digest16;
use crate::domain::request::RequestId;
use crate::domain::time::{UnixMillis, millis};
use crate::domain::verdict::Verdict;

/// The longest wait for one answer, reconnecting included.
const ANSWER_WITHIN: Duration = Duration::from_millis(1_500);

/// A connection to Redis, shared by everything in the process and restored by itself.
pub struct RedisStore {
    connection: Mutex<ConnectionManager>,
    client: Client,
    keys: Keys,
    scripts: Scripts,
    /// Replaces the server's clock; 0 leaves it. Tests only.
    time: std::sync::atomic::AtomicU64,
}

struct Scripts {
    admit: Script,
    mark: Script,
    settle: Script,
    verify: Script,
    usage: Script,
}

impl RedisStore {
    /// Connects when the first step is asked: a gateway starts while Redis is down.
    pub fn connect(url: &str, prefix: &str) -> Result<RedisStore, StoreError> {
        let settings = TcpSettings::default().set_nodelay(true).set_user_timeout(Duration::from_secs(3));
        let info = url.into_connection_info().map_err(unavailable)?.set_tcp_settings(settings);
        let client = Client::open(info).map_err(unavailable)?;
        Ok(RedisStore {
            connection: Mutex::new(connection_to(&client).map_err(unavailable)?),
            client,
            keys: Keys::new(prefix),
            scripts: Scripts {
                admit: script(include_str!("admit.lua")),
                mark: script(include_str!("mark.lua")),
                settle: script(include_str!("settle.lua")),
                verify: script(include_str!("verify.lua")),
                usage: script(include_str!("usage.lua")),
            },
            time: Default::default(),
        })
    }

    /// Makes every later step happen at this time instead of the server's. For tests of windows and lives.
    #[doc(hidden)]
    pub fn set_time(&self, now: UnixMillis) {
        self.time.store(now.0, std::sync::atomic::Ordering::Relaxed);
    }

    fn time(&self) -> u64 {
        self.time.load(std::sync::atomic::Ordering::Relaxed)
    }

    async fn ask(&self, script: &ScriptInvocation<'_>) -> Result<String, StoreError> {
        let mut connection = self.connection.lock().expect("nothing panics while it holds the lock").clone();
        match tokio::time::timeout(ANSWER_WITHIN, script.invoke_async(&mut connection)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => {
                self.leave_replica(&error);
                Err(unavailable(error))
            }
            Err(_) => Err(StoreError::Unavailable("no answer in time".to_owned())),
        }
    }

    /// After a failover the old primary may keep our connection, as a replica that refuses every write. The client
    /// stays with it, so it is left here: the address leads to the new primary.
    fn leave_replica(&self, error: &redis::RedisError) {
        let refused = matches!(error.code(), Some("READONLY" | "MASTERDOWN" | "LOADING"));
        if refused && let Ok(connection) = connection_to(&self.client) {
            *self.connection.lock().expect("nothing panics while it holds the lock") = connection;
        }
    }
}

fn script(body: &str) -> Script {
    Script::new(&format!("{}\n{body}", include_str!("prelude.lua")))
}

fn connection_to(client: &Client) -> redis::RedisResult<ConnectionManager> {
    let config = ConnectionManagerConfig::new()
        .set_connection_timeout(Some(Duration::from_millis(800)))
        .set_response_timeout(Some(Duration::from_millis(1_000)))
        .set_number_of_retries(1)
        .set_min_delay(Duration::from_millis(50))
        .set_max_delay(Duration::from_millis(200))
        .set_pipeline_buffer_size(512);
    ConnectionManager::new_lazy_with_config(client.clone(), config)
}

/// Tells the kind of a fault and the server's error word: a server's message could hold a value.
fn unavailable(error: redis::RedisError) -> StoreError {
    let word = error.code().map(|code| format!(" ({code})")).unwrap_or_default();
    StoreError::Unavailable(format!("{}{word}", error.category()))
}

/// The limits on sends, in the order in which the scripts read them. One of a user or an address that is not told is off.
fn add_limits<'i, 's>(
    script: &'i mut ScriptInvocation<'s>,
    subject: &Subject<'_>,
    limits: &Limits,
) -> &'i mut ScriptInvocation<'s> {
    script
        .arg(limits.number.count)
        .arg(millis(limits.number.window))
        .arg(limits.number_day.count)
        .arg(subject.user.map_or(0, |_| limits.user.count))
        .arg(subject.ip.map_or(0, |_| limits.ip.count))
        .arg(limits.all.count)
}

/// A time, or the word that stands for none: 0 is a time like any other.
fn optional(at: Option<UnixMillis>) -> String {
    at.map_or_else(|| "-".to_owned(), |at| at.0.to_string())
}

fn owner_word(owner: u64) -> String {
    format!("{owner:016x}")
}

/// Names a request of a recipient in the logs that recipients share. Short: Redis keeps longer members at six times
/// the memory. The recipient's own name is a keyed digest already, so nobody can tell it from this.
fn member(handling: &Handling<'_>) -> String {
    let named = Sha256::new()
        .chain_update(handling.subject.recipient.as_str())
        .chain_update(handling.request.as_str())
        .finalize();
    hex::encode(&named[..12])
}

#[async_trait]
impl Store for RedisStore {
    async fn admit(&self, ask: &Admit<'_>) -> Result<Admission, StoreError> {
        let (handling, limits, subject) = (&ask.handling, ask.limits, &ask.handling.subject);
        let recipient = subject.recipient;
        let shared = limits.all.count > 0 || subject.user.is_some() || subject.ip.is_some();
        let mut script = self.scripts.admit.prepare_invoke();
        script
            .key(self.keys.record(&handling.subject, handling.request))
            .key(self.keys.challenge(recipient, subject.purpose))
            .key(self.keys.sends(recipient))
            .key(self.keys.refunds(recipient))
            .key(self.keys.cooldown(recipient))
            .key(self.keys.all())
            .key(self.keys.user(subject))
            .key(self.keys.ip(subject))
            .arg(self.time())
            .arg(owner_word(handling.owner))
            .arg(handling.request.as_str())
            .arg(if shared { member(handling) } else { String::new() })
            .arg(optional(ask.requested_at))
            .arg(optional(ask.not_after))
            .arg(millis(ask.code_life))
            .arg(millis(ask.lease))
            .arg(ask.kids)
            .arg(ask.proposal.id.as_str())
            .arg(ask.proposal.kid)
            .arg(ask.proposal.digest.as_str())
            .arg(u8::from(ask.proposal.callers_code))
            .arg(subject.purpose)
            .arg(limits.wrong_per_challenge);
        add_limits(&mut script, subject, limits)
            .arg(millis(limits.cooldown))
            .arg(REFUNDS_PER_DAY.count)
            .arg(millis(TIME_LEFT_MIN))
            .arg(CONTINUE_LIFE_LEFT_DIVISOR)
            .arg(millis(REFUSAL_KEPT))
            .arg(millis(KEPT_AFTER))
            .arg(millis(OUTCOME_KEPT))
            .arg(u8::from(ask.closed));
        admission(&self.ask(&script).await?).ok_or(StoreError::Garbled { step: "admit" })
    }

    async fn mark(&self, handling: &Handling<'_>, mark: Mark) -> Result<Marked, StoreError> {
        let (word, attempt, span) = match mark {
            Mark::Waiting(span) => ("waiting", 0, span),
            Mark::Sending { attempt, lease } => ("sending", attempt, lease),
            Mark::GivenBack { tried: true, due } => ("tried", 0, due),
            Mark::GivenBack { tried: false, due } => ("untried", 0, due),
        };
        let subject = &handling.subject;
        let mut script = self.scripts.mark.key(self.keys.record(&handling.subject, handling.request));
        script.key(self.keys.challenge(subject.recipient, subject.purpose));
        script.arg(self.time()).arg(owner_word(handling.owner)).arg(word).arg(attempt).arg(millis(span));
        match self.ask(&script).await?.as_str() {
            "held" => Ok(Marked::Held),
            "lost" => Ok(Marked::Lost),
            "stale" => Ok(Marked::Stale),
            _ => Err(StoreError::Garbled { step: "mark" }),
        }
    }

    async fn settle(&self, settle: &Settle<'_>) -> Result<Settled, StoreError> {
        let (handling, subject) = (&settle.handling, &settle.handling.subject);
        let outcome = serde_json::to_string(settle.outcome).expect("an outcome is plain data");
        let kept = if settle.outcome.status == Status::Rejected { REFUSAL_KEPT } else { OUTCOME_KEPT };
        let mut script = self.scripts.settle.prepare_invoke();
        script
            .key(self.keys.record(&handling.subject, handling.request))
            .key(self.keys.sends(subject.recipient))
            .key(self.keys.refunds(subject.recipient))
            .key(self.keys.all())
            .key(self.keys.user(subject))
            .key(self.keys.ip(subject))
            .arg(self.time())
            .arg(owner_word(handling.owner))
            .arg(outcome)
            .arg(millis(kept))
            .arg(u8::from(matches!(settle.outcome.status, Status::Failed | Status::Rejected)))
            .arg(match settle.refund {
                Refund::None => "none",
                Refund::Free => "free",
                Refund::Counted => "counted",
            })
            .arg(handling.request.as_str())
            .arg(if settle.refund == Refund::None { String::new() } else { member(handling) });
        let answer = self.ask(&script).await?;
        match answer.strip_prefix("before ") {
            Some(outcome) => {
                stored(outcome).map(Settled::Before).ok_or(StoreError::Garbled { step: "settle" })
            }
            None if answer == "said" => Ok(Settled::AsSaid),
            None if answer == "held" => Ok(Settled::Held),
            None => Err(StoreError::Garbled { step: "settle" }),
        }
    }

    async fn verify(&self, check: &Check<'_>) -> Result<Verdict, StoreError> {
        let mut script = self.scripts.verify.prepare_invoke();
        script
            .key(self.keys.challenge(check.recipient, check.purpose))
            .key(self.keys.wrong(check.recipient))
            .arg(self.time())
            .arg(owner_word(check.check_id))
            .arg(check.limits.wrong_per_challenge)
            .arg(check.limits.wrong.count)
            .arg(millis(KEPT_AFTER));
        for (kid, digest) in check.digests {
            script.arg(*kid).arg(digest.as_str());
        }
        verdict(&self.ask(&script).await?).ok_or(StoreError::Garbled { step: "verify" })
    }

    async fn usage(
        &self,
        subject: &Subject<'_>,
        request: Option<&RequestId>,
        limits: &Limits,
    ) -> Result<Usage, StoreError> {
        let mut script = self.scripts.usage.prepare_invoke();
        script
            .key(self.keys.sends(subject.recipient))
            .key(self.keys.refunds(subject.recipient))
            .key(self.keys.cooldown(subject.recipient))
            .key(self.keys.all())
            .key(self.keys.user(subject))
            .key(self.keys.ip(subject));
        if let Some(request) = request {
            script.key(self.keys.record(subject, request));
        }
        script.arg(self.time());
        add_limits(&mut script, subject, limits).arg(REFUNDS_PER_DAY.count);
        usage(&self.ask(&script).await?).ok_or(StoreError::Garbled { step: "usage" })
    }
}

fn stored(outcome: &str) -> Option<Outcome> {
    serde_json::from_str(outcome).ok()
}

fn admission(answer: &str) -> Option<Admission> {
    let (word, rest) = answer.split_once(' ')?;
    match word {
        "granted" => grant(rest).map(Admission::Granted),
        "doubt" => grant(rest).map(Admission::InDoubt),
        "busy" => rest.parse().ok().map(|ms| Admission::Busy(Duration::from_millis(ms))),
        "ended" => {
            let (ours, outcome) = rest.split_once(' ')?;
            Some(Admission::Ended { outcome: stored(outcome)?, ours: ours == "1" })
        }
        _ => None,
    }
}

fn grant(words: &str) -> Option<Grant> {
    let mut words = words.split(' ');
    let mut next = || words.next();
    let time = |word: Option<&str>| word?.parse().ok().map(UnixMillis);
    Some(Grant {
        attempt: next()?.parse().ok()?,
        now: time(next())?,
        challenge: ChallengeId::parse(next()?)?,
        kid: next()?.to_owned(),
        digest: Digest16::parse(next()?)?,
        callers_code: next()? == "1",
        admitted_at: time(next())?,
        expires_at: time(next())?,
        deadline: time(next())?,
    })
}

fn verdict(answer: &str) -> Option<Verdict> {
    let (word, rest) = answer.split_once(' ').unwrap_or((answer, ""));
    Some(match word {
        "verified" => Verdict::Verified,
        "wrong" => Verdict::Wrong { attempts_left: rest.parse().ok()? },
        "used" => Verdict::AlreadyUsed,
        "none" => Verdict::NonePending,
        "key" => Verdict::KeyUnavailable,
        "expired" => Verdict::Expired { at: UnixMillis(rest.parse().ok()?) },
        "locked" => {
            let wait: u64 = rest.parse().ok()?;
            Verdict::Locked { retry_after: (wait > 0).then(|| Duration::from_millis(wait)) }
        }
        _ => return None,
    })
}

fn usage(answer: &str) -> Option<Usage> {
    let mut words = answer.split(' ').map(str::parse::<u64>);
    let mut next = || words.next()?.ok();
    Some(Usage {
        used: next()?.try_into().ok()?,
        used_day: next()?.try_into().ok()?,
        limited_for: Duration::from_millis(next()?),
        cooldown: Duration::from_millis(next()?),
        known: next()? == 1,
    })
}
