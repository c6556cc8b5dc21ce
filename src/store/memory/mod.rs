//! The store in memory: what the scripts on Redis do, written to be read. The embedded gateway and the tests run on it.

mod admit;
mod checks;
mod receipts;
mod records;
mod shared;
mod verify;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;

use self::receipts::Expected;
use self::records::Record;
use self::shared::{BlockKey, Claim, StandingBlock};
use super::bounds::KEPT_AFTER;
use super::code_check::{CodeCheck, ProviderCheckResult, ProviderCheckStart};
use super::{
    Admission, Admit, CompleteRequest, CompleteResult, KillSwitch, Lease, Limits, OverdueReceipt, Progress,
    ProgressResult, ReceiptResult, RecordReceipt, RequestRecord, RequestSummary, SharedState, Store,
    StoreError, Subject, Usage,
};
use crate::clock::Clock;
use crate::domain::challenge::ChallengeId;
use crate::domain::history::RequestHistory;
use crate::domain::keyed_digest::Digest16;
use crate::domain::request_id::RequestId;
use crate::domain::suppression::{ManualSuppression, SuppressionEntry};
use crate::domain::time::UnixMillis;
use crate::domain::verdict::Verdict;

/// Limits, challenges and records of one process.
pub struct MemoryStore {
    clock: Clock,
    state: Mutex<State>,
    time: AtomicU64,
    forgetful: AtomicBool,
}

#[derive(Default)]
struct State {
    records: HashMap<RecordKey, Record>,
    /// Who was asked to get a request: the recipient of the last one of that name.
    index: HashMap<RequestId, Digest16>,
    challenges: HashMap<(Digest16, String), Challenge>,
    cooldowns: HashMap<Digest16, Cooldown>,
    logs: HashMap<LogKey, Vec<Entry>>,
    asked: HashMap<Digest16, Vec<Asked>>,
    /// The last requests that ended without a send.
    unsent: HashMap<Digest16, Vec<RequestSummary>>,
    blocks: HashMap<BlockKey, StandingBlock>,
    claims: HashMap<(Digest16, String), Claim>,
    expected: BTreeSet<Expected>,
    busy: HashMap<u64, UnixMillis>,
    kill_switch: Option<KillSwitch>,
    steps_until_sweep: u32,
}

type RecordKey = (Digest16, RequestId);

#[derive(PartialEq, Eq, Hash)]
enum LogKey {
    Sends(Digest16),
    Refunds(Digest16),
    Wrong(Digest16),
    User(Digest16),
    Ip(Digest16),
    All,
}

/// One event of a sliding log. The same member counts once.
struct Entry {
    member: Member,
    at: UnixMillis,
}

#[derive(PartialEq, Eq)]
enum Member {
    Request(Digest16, RequestId),
    Check(u64),
}

/// The last send to a recipient, and until when there is none other.
struct Cooldown {
    until: UnixMillis,
    request: RequestId,
}

#[derive(Clone)]
struct Challenge {
    id: ChallengeId,
    kid: String,
    digest: Digest16,
    callers_code: bool,
    expires: UnixMillis,
    used: Option<u64>,
    tries: u32,
    /// Under which name whoever made the code checks it.
    name: Option<String>,
    /// Checks that were begun there and are not over, with the name that was asked about.
    open: BTreeMap<u64, Option<String>>,
}

/// A check that a provider was asked about and that was not wrong: it may have been the right one.
struct Asked {
    check: u64,
    name: Option<String>,
    at: UnixMillis,
}

const DAY: Duration = Duration::from_secs(86_400);
const SWEEP_EVERY_STEPS: u32 = 1_000;

impl MemoryStore {
    /// An empty store that reads this clock.
    pub fn new(clock: Clock) -> MemoryStore {
        MemoryStore {
            clock,
            state: Mutex::default(),
            time: AtomicU64::new(0),
            forgetful: AtomicBool::new(false),
        }
    }

    /// Makes every later step happen at this time instead of the clock's. For tests of windows and lives.
    #[doc(hidden)]
    pub fn set_time(&self, now: UnixMillis) {
        self.time.store(now.0, Ordering::Relaxed);
    }

    /// Makes the store say that it may have forgotten something. It never has: it lives as long as its process.
    #[doc(hidden)]
    pub fn set_forgetful(&self, forgetful: bool) {
        self.forgetful.store(forgetful, Ordering::Relaxed);
    }

    /// Loses every record of a request, as a failover could. For tests.
    #[doc(hidden)]
    pub fn forget_requests(&self) {
        self.step(|state, _| state.records.clear());
    }

    fn now(&self) -> UnixMillis {
        match self.time.load(Ordering::Relaxed) {
            0 => self.clock.now(),
            fixed => UnixMillis(fixed),
        }
    }

    fn step<T>(&self, act: impl FnOnce(&mut State, UnixMillis) -> T) -> T {
        let now = self.now();
        let mut state = self.state.lock().expect("no step panics while it holds the lock");
        state.steps_until_sweep = state.steps_until_sweep.checked_sub(1).unwrap_or_else(|| {
            state.sweep(now);
            SWEEP_EVERY_STEPS
        });
        act(&mut state, now)
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn admit(&self, ask: &Admit<'_>) -> Result<Admission, StoreError> {
        Ok(self.step(|state, now| state.admit(ask, now)))
    }

    async fn update_progress(
        &self,
        handling: &Lease<'_>,
        made: Option<u32>,
        mark: Progress,
        notes: Option<&RequestHistory>,
    ) -> Result<ProgressResult, StoreError> {
        Ok(self.step(|state, now| state.mark(handling, made, mark, notes, now)))
    }

    async fn complete(&self, settle: &CompleteRequest<'_>) -> Result<CompleteResult, StoreError> {
        Ok(self.step(|state, now| state.settle(settle, now)))
    }

    async fn verify(&self, check: &CodeCheck<'_>) -> Result<Verdict, StoreError> {
        Ok(self.step(|state, now| state.verify(check, now)))
    }

    async fn begin_provider_check(&self, check: &CodeCheck<'_>) -> Result<ProviderCheckStart, StoreError> {
        Ok(self.step(|state, now| state.begin_check(check, now)))
    }

    async fn finish_provider_check(
        &self,
        check: &CodeCheck<'_>,
        end: ProviderCheckResult,
    ) -> Result<Verdict, StoreError> {
        Ok(self.step(|state, _| state.end_check(check, end)))
    }

    async fn link_verification(
        &self,
        subject: &Subject<'_>,
        challenge: &ChallengeId,
        name: &str,
    ) -> Result<(), StoreError> {
        self.step(|state, _| state.name_challenge(subject, challenge, name));
        Ok(())
    }

    async fn usage(
        &self,
        subject: &Subject<'_>,
        request: Option<&RequestId>,
        limits: &Limits,
    ) -> Result<Usage, StoreError> {
        Ok(self.step(|state, now| state.usage(subject, request, limits, now)))
    }

    async fn record_receipt(&self, track: &RecordReceipt<'_>) -> Result<ReceiptResult, StoreError> {
        Ok(self.step(|state, now| state.track(track, now)))
    }

    async fn overdue_receipts(
        &self,
        wait_max: Duration,
        count_max: u32,
    ) -> Result<Vec<OverdueReceipt>, StoreError> {
        Ok(self.step(|state, now| state.overdue(wait_max, count_max, now)))
    }

    async fn heartbeat(&self, worker: u64, busy: bool) -> Result<SharedState, StoreError> {
        Ok(self.step(|state, now| state.pulse(worker, busy, now)))
    }

    async fn kill_switch(&self) -> Result<Option<KillSwitch>, StoreError> {
        Ok(self.step(|state, _| state.kill_switch.clone()))
    }

    async fn set_kill_switch(&self, reason: Option<&str>) -> Result<Option<KillSwitch>, StoreError> {
        Ok(self.step(|state, now| state.set_kill_switch(reason, now)))
    }

    async fn request_record(
        &self,
        request: &RequestId,
        recipient: Option<Digest16>,
    ) -> Result<Option<RequestRecord>, StoreError> {
        Ok(self.step(|state, now| state.story(request, recipient, now)))
    }

    async fn recent_requests(&self, recipient: Digest16) -> Result<Vec<RequestSummary>, StoreError> {
        Ok(self.step(|state, now| state.recent(recipient, now)))
    }

    async fn suppressions(&self, count_max: u32) -> Result<Vec<SuppressionEntry>, StoreError> {
        Ok(self.step(|state, now| state.suppressions(count_max, now)))
    }

    async fn add_suppression(
        &self,
        recipient: Digest16,
        by_hand: &ManualSuppression<'_>,
    ) -> Result<SuppressionEntry, StoreError> {
        Ok(self.step(|state, now| state.suppress(recipient, by_hand, now)))
    }

    async fn remove_suppression(&self, recipient: Digest16) -> Result<Option<SuppressionEntry>, StoreError> {
        Ok(self.step(|state, now| state.lift_suppression(recipient, now)))
    }

    fn may_have_lost_writes(&self) -> bool {
        self.forgetful.load(Ordering::Relaxed)
    }
}

impl State {
    /// The record of a request, while it counts.
    fn record(&self, recipient: Digest16, request: &RequestId, now: UnixMillis) -> Option<&Record> {
        self.records.get(&(recipient, request.clone())).filter(|record| record.until > now)
    }

    fn record_mut(&mut self, key: &RecordKey, now: UnixMillis) -> Option<&mut Record> {
        self.records.get_mut(key).filter(|record| record.until > now)
    }

    fn challenge(&self, recipient: Digest16, purpose: &str) -> Option<&Challenge> {
        self.challenges.get(&(recipient, purpose.to_owned()))
    }

    fn times(&self, key: &LogKey) -> Vec<UnixMillis> {
        let mut times: Vec<_> = self.logs.get(key).into_iter().flatten().map(|entry| entry.at).collect();
        times.sort_unstable();
        times
    }

    fn append(&mut self, key: LogKey, entry: Entry, window: Duration) {
        let log = self.logs.entry(key).or_default();
        log.retain(|old| old.at.plus(window) > entry.at && old.member != entry.member);
        log.push(entry);
    }

    fn sweep(&mut self, now: UnixMillis) {
        const KEPT: Duration = Duration::from_secs(7 * 86_400);
        self.records.retain(|_, record| record.until > now);
        let records = &self.records;
        self.index.retain(|request, recipient| records.contains_key(&(*recipient, request.clone())));
        self.challenges.retain(|_, challenge| challenge.expires.plus(KEPT_AFTER) > now);
        self.cooldowns.retain(|recipient, cooldown| {
            cooldown.until > now || records.contains_key(&(*recipient, cooldown.request.clone()))
        });
        self.logs.retain(|_, log| log.last().is_some_and(|newest| newest.at.plus(KEPT) > now));
        self.unsent.retain(|_, requests| requests.iter().any(|request| request.at.plus(DAY) > now));
        self.asked.retain(|_, asked| asked.iter().any(|asked| asked.at.plus(DAY) > now));
        self.blocks.retain(|_, block| block.stands(now));
        self.claims.retain(|_, claim| claim.until > now);
        self.expected.retain(|expected| expected.due.plus(KEPT) > now);
    }
}
