//! Pumping defence: counts sends and verifications in memory, adds them to the store, and refuses requests by its answer.
//!
//! A request takes no call of the store, unless it would be refused. The answer lists everything that is held in any process, once a second,
//! so a hold comes one or two seconds late. Many changes of one scope are added at once, the others every ten seconds. While the store
//! does not answer, the last list holds, until its holds end.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, timeout};

use super::context::{DeliveryContext, ValidRequest};
use super::defence_budgets::{Budgets, answered};
use super::defence_counts::{Counts, KINDS_IN_BATCH, KINDS_MAX, Kind};
use super::random::random_id;
use crate::clock::Clock;
use crate::domain::address::Address;
use crate::domain::conversion::{CodeCounts, CodeSend, NumberGroups};
use crate::domain::defence::{
    Budget, Change, CountedScopes, DefenceBatch, DefenceMode, DefenceRule, PrefixChanges, Scope,
    ScopeChanges, ScopeKind, minute_of,
};
use crate::domain::defence_list::{DefenceDecision, DefenceList, DefenceSubject};
use crate::domain::keyed_digest::Digest16;
use crate::domain::outcome::{Outcome, OutcomeError};
use crate::domain::time::UnixMillis;
use crate::store::code_check::CodeRequest;
use crate::store::retention::VERIFIED_NOTED_MAX;
use crate::store::{Store, StoreError};
use crate::telemetry::events;

const FLUSH_EVERY: Duration = Duration::from_secs(1);
/// Each so many flushes take the changes that can wait as well.
const ALL_EVERY: u32 = 10;
/// The store knows a repeated batch for a day.
const REPEATED_FOR: Duration = Duration::from_secs(12 * 3_600);
/// Batches in a second: more than one only while each of them is full.
const BATCHES_MAX: usize = 4;
/// Calls that note verified recipients and users, in one flush.
const NOTES_MAX: usize = 20;
/// So many batches in a row that fail are logged, once.
const FAILURES_LOGGED: u32 = 3;
const END_TIMEOUT: Duration = Duration::from_secs(2);
/// A user that has verified a code is exempt with so many unverified sends.
const KNOWN_USER_UNVERIFIED_MAX: u32 = 2;

pub struct Defence {
    mode: DefenceMode,
    store: Arc<dyn Store>,
    clock: Clock,
    writer: u64,
    budgets: Budgets,
    counts: Mutex<Counts>,
    outbox: Mutex<Outbox>,
    ticks: AtomicU32,
    /// And when the store was asked for it.
    list: Mutex<(Arc<DefenceList>, Instant)>,
}

/// The parts of a request that the defence counts by.
#[derive(Clone, Copy)]
pub struct DefendedRequest<'a> {
    pub to: &'a Address,
    pub recipient: Digest16,
    pub user: Option<Digest16>,
    pub network: Option<Digest16>,
}

impl<'a> From<&'a ValidRequest<'_>> for DefendedRequest<'a> {
    fn from(valid: &'a ValidRequest<'_>) -> DefendedRequest<'a> {
        DefendedRequest {
            to: &valid.to,
            recipient: valid.recipient,
            user: valid.user,
            network: valid.network,
        }
    }
}

#[derive(Default)]
struct Outbox {
    sequence: u32,
    /// Not answered yet, and since when it is tried.
    batch: Option<(Arc<DefenceBatch>, Instant)>,
    /// In a row.
    failures: u32,
}

impl Defence {
    /// `budget_percent` is that of the floors.
    pub fn new(mode: DefenceMode, budget_percent: u32, store: Arc<dyn Store>, clock: Clock) -> Defence {
        Defence {
            mode,
            store,
            clock,
            writer: random_id(),
            budgets: Budgets::new(budget_percent),
            counts: Mutex::default(),
            outbox: Mutex::default(),
            ticks: AtomicU32::new(0),
            list: Mutex::new((Arc::default(), Instant::now())),
        }
    }

    /// E-mails earn no money.
    pub(super) fn counts(&self, to: &Address) -> bool {
        self.mode != DefenceMode::Off && to.phone().is_some()
    }

    /// The error of a new request that is refused. A request that would be refused is counted. Without an answer about its exemption it
    /// goes on: no fault of the defence's data keeps a request.
    pub(super) async fn refusal(
        &self,
        handler: &DeliveryContext<'_>,
        valid: &ValidRequest<'_>,
    ) -> Option<OutcomeError> {
        let DefenceDecision::Refused { rule, retry_after } = self.would_refuse(valid) else {
            return None;
        };
        match answered(self.is_exempt(rule, &DefendedRequest::from(valid))).await {
            Ok(false) => {}
            Ok(true) => return None,
            Err(error) => {
                events::defence_unanswered(rule, &error);
                return None;
            }
        }
        // The word of an operator counts in both modes.
        if rule == DefenceRule::Denied || self.mode == DefenceMode::Enforce {
            return Some(OutcomeError::refused(rule, retry_after));
        }
        if !handler.delivery.properties.redelivered {
            events::defence_would_refuse(rule, &valid.to);
        }
        None
    }

    /// One that has verified a code a moment ago is known here before the store knows it.
    pub async fn is_exempt(
        &self,
        rule: DefenceRule,
        request: &DefendedRequest<'_>,
    ) -> Result<bool, StoreError> {
        let has_just_verified = rule.has_exemption() && self.lock().verified.contains(&request.recipient);
        Ok(has_just_verified || is_exempt(&*self.store, rule, request).await?)
    }

    fn would_refuse(&self, valid: &ValidRequest<'_>) -> DefenceDecision {
        if valid.test_code.is_some() {
            DefenceDecision::Free
        } else {
            self.decide(&DefendedRequest::from(valid))
        }
    }

    /// By the list in memory.
    pub fn decide(&self, request: &DefendedRequest<'_>) -> DefenceDecision {
        let number = request.to.phone().filter(|_| self.counts(request.to));
        let Some(number) = number else { return DefenceDecision::Free };
        let (list, asked_at) = self.list().clone();
        let country = request.to.country();
        let subject = DefenceSubject {
            digits: &number.e164()[1..],
            country: country.as_ref(),
            recipient: request.recipient,
            scopes: &scopes_of(&NumberGroups::of(number), request.user, request.network),
        };
        list.decide(&subject, asked_at.elapsed())
    }

    /// Where the send of a new request counts; `None`: nowhere. The record keeps it, so that its verification counts there, too.
    pub(super) fn counted_scopes(&self, valid: &ValidRequest<'_>) -> Option<CountedScopes> {
        let is_counted = valid.test_code.is_none() && self.counts(&valid.to);
        is_counted.then(|| self.scopes_with(&DefendedRequest::from(valid), self.clock.now()))
    }

    /// Where one more send counts, beside its prefix.
    pub fn scopes_with(&self, request: &DefendedRequest<'_>, at: UnixMillis) -> CountedScopes {
        let Some(number) = request.to.phone() else { return CountedScopes::NONE };
        let scopes = scopes_of(&NumberGroups::of(number), request.user, request.network);
        self.lock().scopes_with(&scopes, minute_of(at), &self.budgets)
    }

    /// Counts the code of a request that this process has completed, if the request began it: so a code that is sent again counts once.
    pub(super) fn completed(&self, valid: &ValidRequest<'_>, began_the_code: bool, outcome: &Outcome) {
        if let Some(send) = CodeSend::of_outcome(outcome).filter(|_| began_the_code) {
            let counted = outcome.history.counted.unwrap_or(CountedScopes::ALL);
            self.sent(&DefendedRequest::from(valid), send.at.unwrap_or_else(|| self.clock.now()), counted);
        }
    }

    /// Counts a send, in its prefix and in these scopes.
    pub fn sent(&self, request: &DefendedRequest<'_>, at: UnixMillis, counted: CountedScopes) {
        let Some(number) = request.to.phone().filter(|_| self.counts(request.to)) else { return };
        let groups = NumberGroups::of(number);
        let scopes = scopes_of(&groups, request.user, request.network);
        self.lock().sent(&groups, &scopes, counted, minute_of(at));
    }

    pub(super) fn code_verified(&self, to: &Address, recipient: Digest16, of: &CodeRequest) {
        let Some(send) = of.first_send else { return };
        let request = DefendedRequest { to, recipient, user: of.user, network: of.network };
        let sent_at = send.at.unwrap_or_else(|| self.clock.now());
        self.verified(&request, sent_at, of.counted.unwrap_or(CountedScopes::ALL));
        if !of.test && !of.callers_code {
            self.proven(&request);
        }
    }

    /// Counts a verified code in the minute of its send, where that counts.
    pub fn verified(&self, request: &DefendedRequest<'_>, sent_at: UnixMillis, counted: CountedScopes) {
        let Some(number) = request.to.phone().filter(|_| self.counts(request.to)) else { return };
        let groups = NumberGroups::of(number);
        let scopes = scopes_of(&groups, request.user, request.network);
        self.lock().verified(&groups, &scopes, counted, minute_of(sent_at));
    }

    /// The recipient and the user are exempt. A code that its caller knew proves nothing.
    pub fn proven(&self, request: &DefendedRequest<'_>) {
        let mut counts = self.lock();
        if self.counts(request.to) && counts.verified.len() < KINDS_MAX {
            counts.verified.extend([Some(request.recipient), request.user].into_iter().flatten());
        }
    }

    /// Until it is dropped.
    pub async fn run(&self) {
        let mut ticks = tokio::time::interval(FLUSH_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        if self.mode == DefenceMode::Off {
            return std::future::pending().await;
        }
        loop {
            ticks.tick().await;
            self.tick().await;
            self.budgets.refresh(&*self.store, self.clock.now()).await;
        }
    }

    /// Adds urgent changes, and each tenth time all of them. True if the store answered.
    pub async fn tick(&self) -> bool {
        let is_turn_of_all = self.ticks.fetch_add(1, Ordering::Relaxed).is_multiple_of(ALL_EVERY);
        for _ in 0..BATCHES_MAX {
            let takes_all = is_turn_of_all || self.lock().kinds.len() >= KINDS_IN_BATCH;
            if !self.flush_some(takes_all).await {
                return false;
            }
            if self.lock().kinds.len() < KINDS_IN_BATCH {
                break;
            }
        }
        if is_turn_of_all {
            self.note_verified().await;
        }
        true
    }

    /// At shutdown, when nothing more is counted.
    pub async fn end(&self) {
        let all = async {
            while self.has_unflushed() {
                if !self.flush().await {
                    return;
                }
            }
        };
        let _ = timeout(END_TIMEOUT, all).await;
    }

    fn has_unflushed(&self) -> bool {
        let has_batch = self.outbox().batch.is_some();
        let counts = self.lock();
        has_batch || !counts.kinds.is_empty() || !counts.verified.is_empty()
    }

    /// Adds a batch of any changes to the store, and reads the list. True if the store answered.
    pub async fn flush(&self) -> bool {
        let has_answered = self.flush_some(true).await;
        if has_answered {
            self.note_verified().await;
        }
        has_answered
    }

    async fn flush_some(&self, takes_all: bool) -> bool {
        let (batch, tried_since) = self.next_batch(takes_all);
        let asked_at = Instant::now();
        match answered(self.store.add_defence(&batch)).await {
            Ok(list) => {
                {
                    let mut outbox = self.outbox();
                    (outbox.batch, outbox.failures) = (None, 0);
                }
                events::defence_list_read(&list);
                *self.list() = (Arc::new(list), asked_at);
                true
            }
            Err(error) => {
                let is_lost = error.is_permanent() || tried_since.elapsed() >= REPEATED_FOR;
                let mut outbox = self.outbox();
                outbox.failures = outbox.failures.saturating_add(1);
                if is_lost {
                    outbox.batch = None;
                }
                if is_lost || outbox.failures == FAILURES_LOGGED {
                    events::defence_not_counted(&error, is_lost);
                }
                false
            }
        }
    }

    async fn note_verified(&self) {
        for _ in 0..NOTES_MAX {
            let digests: Vec<Digest16> =
                self.lock().verified.iter().take(VERIFIED_NOTED_MAX).copied().collect();
            if digests.is_empty() {
                return;
            }
            let noted = answered(self.store.note_verified(&digests)).await;
            let is_lost = noted.as_ref().is_err_and(StoreError::is_permanent);
            if let Err(error) = &noted {
                events::defence_not_counted(error, is_lost);
                if !is_lost {
                    return;
                }
            }
            let mut counts = self.lock();
            for digest in &digests {
                counts.verified.remove(digest);
            }
        }
    }

    /// The batch that was not answered, or a new one. One without changes only reads the list.
    fn next_batch(&self, takes_all: bool) -> (Arc<DefenceBatch>, Instant) {
        let mut outbox = self.outbox();
        if let Some(batch) = outbox.batch.clone() {
            return batch;
        }
        let kinds = self.lock().take(takes_all);
        if kinds.is_empty() {
            return (Arc::default(), Instant::now());
        }
        outbox.sequence += 1;
        let batch = self.batch_of(&kinds, outbox.sequence);
        outbox.batch.insert((Arc::new(batch), Instant::now())).clone()
    }

    fn batch_of(&self, kinds: &BTreeMap<Kind, CodeCounts>, sequence: u32) -> DefenceBatch {
        let changes_of = |scope: Scope, country| ScopeChanges {
            scope,
            budget: self.budgets.budget(scope),
            weight: self.budgets.weight(country),
            changes: Vec::new(),
        };
        let mut scopes: BTreeMap<(u64, Scope), ScopeChanges> = BTreeMap::new();
        for (kind, counts) in kinds {
            let entry = scopes.entry((kind.prefix, kind.scope));
            let changes = &mut entry.or_insert_with(|| changes_of(kind.scope, kind.country)).changes;
            let count = |count: u32| u16::try_from(count).unwrap_or(u16::MAX);
            let (sent, verified) = (count(counts.sent), count(counts.verified));
            changes.push(Change { minute: kind.minute, sent, verified });
        }
        let countries: HashMap<u64, _> = kinds.keys().map(|kind| (kind.prefix, kind.country)).collect();
        let mut prefixes: BTreeMap<u64, PrefixChanges> = BTreeMap::new();
        let mut batch = DefenceBatch { writer: self.writer, sequence, ..DefenceBatch::default() };
        for ((prefix, scope), changes) in scopes {
            if matches!(scope.kind, ScopeKind::User | ScopeKind::Network) {
                batch.subjects.push(changes);
                continue;
            }
            let own = Scope { kind: ScopeKind::Prefix, id: prefix };
            let country = countries.get(&prefix).copied().flatten();
            let of_prefix = prefixes
                .entry(prefix)
                .or_insert_with(|| PrefixChanges { own: changes_of(own, country), blocks: Vec::new() });
            if scope == own { of_prefix.own = changes } else { of_prefix.blocks.push(changes) }
        }
        batch.prefixes = prefixes.into_values().collect();
        batch
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().expect("nothing panics while it holds the lock")
    }

    fn outbox(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock().expect("nothing panics while it holds the lock")
    }

    fn list(&self) -> MutexGuard<'_, (Arc<DefenceList>, Instant)> {
        self.list.lock().expect("nothing panics while it holds the lock")
    }
}

/// A recipient that has verified a code; or a user that has, with few unverified sends. A user is not exempt from its own budget.
pub async fn is_exempt(
    store: &dyn Store,
    rule: DefenceRule,
    request: &DefendedRequest<'_>,
) -> Result<bool, StoreError> {
    if !rule.has_exemption() {
        return Ok(false);
    }
    if store.has_verified(request.recipient).await? {
        return Ok(true);
    }
    let Some(user) = request.user.filter(|_| rule != DefenceRule::UnverifiedUser) else {
        return Ok(false);
    };
    if !store.has_verified(user).await? {
        return Ok(false);
    }
    let state = store.defence(&[(0, Scope::of_digest(ScopeKind::User, user))]).await?;
    let record = state.records.first().copied().flatten().unwrap_or_default();
    let Budget { hour, day } = record.unverified();
    Ok(hour.max(day) + record.pending_sends() <= KNOWN_USER_UNVERIFIED_MAX)
}

/// Block, prefix, and the user and network if they are known.
pub fn scopes_of(groups: &NumberGroups, user: Option<Digest16>, network: Option<Digest16>) -> Vec<Scope> {
    let block = Scope { kind: ScopeKind::Block, id: groups.block };
    let prefix = Scope { kind: ScopeKind::Prefix, id: groups.prefix };
    let user = user.map(|user| Scope::of_digest(ScopeKind::User, user));
    let network = network.map(|network| Scope::of_digest(ScopeKind::Network, network));
    [Some(block), Some(prefix), user, network].into_iter().flatten().collect()
}
