//! The steps of the store alone, called as the worker and the HTTP handler call them, and beside them the bare loop's scripts.
//!
//! Messages go in groups: all admissions of a group are under way at once, then all its completions. So Redis reads about as
//! many calls at a time as from a busy worker, and as many in each run: counted instructions repeat.

use std::ops::Range;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use futures_util::future::try_join_all;
use otpost::domain::challenge::ChallengeId;
use otpost::domain::history::{Attempt, HistoryEvent, RequestHistory};
use otpost::domain::keyed_digest::Digest16;
use otpost::domain::limit::{Limit, Limits};
use otpost::domain::outcome::{ErrorCode, Outcome, OutcomeError, Status};
use otpost::domain::receipt::DeliveryStatus;
use otpost::domain::request_id::RequestId;
use otpost::domain::shards::Shards;
use otpost::domain::time::UnixMillis;
use otpost::store::code_check::{CheckAnswer, CodeCheck};
use otpost::store::redis::RedisStore;
use otpost::store::{
    Admission, AdmissionInput, CompletionAnswer, CompletionInput, Grant, Lease, LimitSubject, NewReceipt,
    ProposedChallenge, Refund, Store as _,
};
use sha2::{Digest as _, Sha256};

use crate::bare::BareStore;
use crate::broker::{CLIENTS_OF_NETWORK, mobile_number, request_id};
use crate::redis_server::RedisServer;

const LOADED_WITHIN_CALLS: usize = 20;
const CODE_LIFE: Duration = Duration::from_secs(600);
const LEASE: Duration = Duration::from_secs(20);
const POLL_AFTER: Duration = Duration::from_secs(60);
const WAIT_MAX: Duration = Duration::from_secs(86_400);
/// As many as the worker takes at a time.
const POLL_BATCH: u32 = 20;
const PURPOSE: &str = "verification";
const KEY_ID: &str = "k1";

/// Work for Redis, in the order of the table. All but the first three are done to messages of [`Work::Meter`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Work {
    /// The bare loop's two scripts.
    Bare,
    /// Admission and completion of a message on the limits of its recipient alone. A receipt is expected.
    Meter,
    /// The same with every limit.
    Full,
    WrongCheck,
    RightCheck,
    /// Three reports of a delivery: sent; delivered; delivered, with the event published.
    Receipts,
    /// A sweep that finds the receipt of the message overdue.
    Overdue,
}

impl Work {
    pub const ALL: [Self; 7] = [
        Self::Bare,
        Self::Meter,
        Self::Full,
        Self::WrongCheck,
        Self::RightCheck,
        Self::Receipts,
        Self::Overdue,
    ];
    /// The works that follow a send. A sweep leaves out messages whose receipts were published, so it is first.
    pub const AFTER_A_SEND: [Self; 4] = [Self::Overdue, Self::WrongCheck, Self::RightCheck, Self::Receipts];

    pub const fn key(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::Meter => "meter",
            Self::Full => "full",
            Self::WrongCheck => "wrong_check",
            Self::RightCheck => "right_check",
            Self::Receipts => "receipts",
            Self::Overdue => "overdue",
        }
    }

    pub const fn title(self) -> &'static str {
        match self {
            Self::Bare => "bare loop",
            Self::Meter => "message, meter",
            Self::Full => "message, full",
            Self::WrongCheck => "wrong check",
            Self::RightCheck => "right check",
            Self::Receipts => "three delivery reports",
            Self::Overdue => "overdue sweep",
        }
    }
}

pub struct Steps {
    store: RedisStore,
    /// Ten minutes ahead, so that receipts are overdue.
    store_later: RedisStore,
    bare: BareStore,
    meter: Limits,
    full: Limits,
    group: usize,
}

/// The message of a number: its request and its subject.
struct Sample {
    number: usize,
    request_id: RequestId,
    subject: LimitSubject<'static>,
}

impl Steps {
    /// `group`: so many messages are under way at once.
    pub async fn connect(redis: &RedisServer, group: usize) -> anyhow::Result<Self> {
        let meter = [Limit::User, Limit::Ip, Limit::Network, Limit::All]
            .into_iter()
            .fold(Limits::default(), |limits, limit| limits.with(limit, 0));
        let store =
            || RedisStore::connect(&redis.url, &redis.prefix, Shards::ONE).context("the URL of Redis");
        let store_later = store()?;
        store_later.set_time(UnixMillis(u64::try_from(jiff::Timestamp::now().as_millisecond())? + 600_000));
        let store = store()?;
        // The first call loads the library. Under callgrind that may take longer than a call waits.
        let mut loaded = store.kill_switch().await;
        for _ in 0..LOADED_WITHIN_CALLS {
            if loaded.is_err() {
                loaded = store.kill_switch().await;
            }
        }
        loaded.context("the library was not loaded")?;
        Ok(Self {
            store,
            store_later,
            bare: BareStore::connect(&redis.url, &redis.prefix).await?,
            meter,
            // The cap over all is never reached; the other limits have their defaults.
            full: Limits::default().with(Limit::All, 10_000_000),
            group,
        })
    }

    /// Does a piece of work for the messages of these numbers.
    pub async fn run(&self, work: Work, numbers: Range<usize>) -> anyhow::Result<()> {
        if work == Work::Overdue {
            return self.sweep(numbers.len()).await;
        }
        for start in numbers.clone().step_by(self.group) {
            let group = start..numbers.end.min(start + self.group);
            match work {
                Work::Bare => self.send_bare(group).await?,
                Work::Meter => self.send(group, &self.meter).await?,
                Work::Full => self.send(group, &self.full).await?,
                Work::WrongCheck => self.check(group, false).await?,
                Work::RightCheck => self.check(group, true).await?,
                Work::Receipts => self.report(group).await?,
                Work::Overdue => unreachable!("it is above"),
            }
        }
        Ok(())
    }

    async fn send_bare(&self, numbers: Range<usize>) -> anyhow::Result<()> {
        let now = jiff::Timestamp::now();
        let bare = &self.bare;
        try_join_all(
            numbers
                .clone()
                .map(async |number| bare.admit(&request_id(0, number), &mobile_number(number), now).await),
        )
        .await?;
        try_join_all(numbers.map(async |number| {
            bare.complete(&request_id(0, number), &mobile_number(number), &message_id(number), now).await
        }))
        .await?;
        Ok(())
    }

    async fn send(&self, numbers: Range<usize>, limits: &Limits) -> anyhow::Result<()> {
        let samples: Vec<Sample> = numbers.map(Sample::of).collect();
        let grants = try_join_all(samples.iter().map(|sample| self.admit(sample, limits))).await?;
        try_join_all(samples.iter().zip(&grants).map(|(sample, grant)| self.complete(sample, grant))).await?;
        Ok(())
    }

    async fn admit(&self, sample: &Sample, limits: &Limits) -> anyhow::Result<Grant> {
        let input = AdmissionInput {
            lease: sample.lease(),
            requested_at: None,
            not_after: None,
            code_life: CODE_LIFE,
            lease_duration: LEASE,
            proposal: ProposedChallenge {
                id: ChallengeId::from_digest(digest(b'c', sample.number)),
                kid: KEY_ID,
                digest: digest(b'd', sample.number),
                callers_code: false,
            },
            code_key_ids: ",k1,",
            limits,
            reject_if_new: None,
            gate_closed: false,
            crash_suspect_leases_min: 2,
            country: Some("CO"),
            history: &sample.history(),
            spend: None,
        };
        match self.store.admit(&input).await? {
            Admission::Granted(grant) => Ok(grant),
            other => bail!("not granted: {other:?}"),
        }
    }

    async fn complete(&self, sample: &Sample, grant: &Grant) -> anyhow::Result<()> {
        let mut history = sample.history();
        history.challenge = Some(grant.challenge.as_str().to_owned());
        history.add(grant.now, HistoryEvent::Admitted(1));
        let answer = "accepted".to_owned();
        let attempt = Attempt { answer, ..Attempt::accepted(1, None, 240) };
        history.add(grant.now, HistoryEvent::Attempted(attempt));
        let none = OutcomeError::of(ErrorCode::Internal);
        let outcome = Outcome {
            status: Status::Sent,
            error: None,
            provider: Some("twilio".to_owned()),
            provider_message_id: Some(message_id(sample.number)),
            attempts: 1,
            segments: Some(1),
            expires_at: Some(grant.expires_at),
            resend_after: Some(30),
            history,
            ..Outcome::with_error(Status::Sent, grant.now, PURPOSE, none)
        };
        let input = CompletionInput {
            lease: sample.lease(),
            outcome: &outcome,
            refund: Refund::None,
            limits: &self.meter,
            found_by_lookup: false,
            message_is_unnamed: false,
            suppression: None,
            poll_receipt_after: Some(POLL_AFTER),
            spent: None,
        };
        let answer = self.store.complete(&input).await?;
        ensure!(answer == CompletionAnswer::Recorded, "not recorded: {answer:?}");
        Ok(())
    }

    async fn check(&self, numbers: Range<usize>, is_right: bool) -> anyhow::Result<()> {
        let check = async |number: usize| {
            let typed = digest(if is_right { b'd' } else { b'x' }, number);
            let check = CodeCheck {
                recipient: Sample::of(number).subject.recipient,
                purpose: PURPOSE,
                check_id: number as u64 * 2 + u64::from(is_right),
                digests: &[(KEY_ID, typed)],
                limits: &self.meter,
            };
            let answer = self.store.verify(&check).await?;
            ensure!(matches!(answer, CheckAnswer::Verified { .. }) == is_right, "a check: {answer:?}");
            Ok(())
        };
        try_join_all(numbers.map(check)).await?;
        Ok(())
    }

    async fn report(&self, numbers: Range<usize>) -> anyhow::Result<()> {
        for (status, published) in [
            (DeliveryStatus::Sent, false),
            (DeliveryStatus::Delivered, false),
            (DeliveryStatus::Delivered, true),
        ] {
            let report = async |number: usize| {
                let sample = Sample::of(number);
                let receipt = NewReceipt {
                    recipient: sample.subject.recipient,
                    request_id: &sample.request_id,
                    message_id: &message_id(number),
                    status,
                    provider_code: None,
                    published,
                    suppression: None,
                };
                self.store.record_receipt(&receipt).await
            };
            try_join_all(numbers.clone().map(report)).await?;
        }
        Ok(())
    }

    /// Takes so many overdue receipts.
    async fn sweep(&self, count: usize) -> anyhow::Result<()> {
        let mut taken = 0;
        while taken < count {
            let overdue = self.store_later.overdue_receipts(WAIT_MAX, POLL_BATCH).await?;
            ensure!(!overdue.is_empty(), "{taken} of {count} receipts are overdue");
            taken += overdue.len();
        }
        Ok(())
    }
}

impl Sample {
    fn of(number: usize) -> Self {
        let request_id = RequestId::parse(&request_id(0, number)).expect("a UUID is a request id");
        let subject = LimitSubject {
            recipient: digest(b'r', number),
            purpose: PURPOSE,
            user: Some(digest(b'u', number)),
            ip: Some(digest(b'i', number)),
            network: Some(digest(b'w', number / CLIENTS_OF_NETWORK)),
        };
        Self { number, request_id, subject }
    }

    fn lease(&self) -> Lease<'_> {
        Lease { subject: self.subject, request_id: &self.request_id, token: self.number as u64 + 1 }
    }

    fn history(&self) -> RequestHistory {
        RequestHistory {
            to: "+57******4567".to_owned(),
            correlation_id: Some(self.request_id.as_str().to_owned()),
            ..RequestHistory::default()
        }
    }
}

/// Another one for each kind and number.
fn digest(kind: u8, number: usize) -> Digest16 {
    // Spread by a hash, as keyed digests are.
    let digest: [u8; 32] =
        Sha256::new().chain_update([kind]).chain_update(number.to_be_bytes()).finalize().into();
    Digest16::of(&digest)
}

fn message_id(number: usize) -> String {
    format!("SM{number:032x}")
}
