//! The data of the store, and what several steps read from it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use super::book::Book;
use super::conversion::Conversion;
use super::defence::Defence;
use super::log::{Logs, Source};
use super::outbox::Outbox;
use super::record::{Challenge, Record};
use super::redactions::Redactions;
use crate::domain::key_check::KeyCheck;
use crate::domain::keyed_digest::Digest16;
use crate::domain::limit::EventLog;
use crate::domain::log_filter::TemporaryLogFilter;
use crate::domain::opt_status::{LastOpt, OPT_STATUS_COUNTS_FOR};
use crate::domain::request_id::RequestId;
use crate::domain::suppression::SuppressionEntry;
use crate::domain::time::UnixMillis;
use crate::domain::worker_state::WorkerState;
use crate::store::retention::OUTCOME_KEPT;
use crate::store::{KillSwitch, Lease, RequestSummary};

pub(super) const HOUR: Duration = Duration::from_secs(3_600);
pub(super) const DAY: Duration = Duration::from_secs(86_400);

#[derive(Default)]
pub(super) struct State {
    pub(super) records: HashMap<RecordKey, Record>,
    /// The recipient of the last request with an id.
    pub(super) index: HashMap<RequestId, Digest16>,
    /// By recipient and purpose.
    pub(super) challenges: HashMap<(Digest16, String), Challenge>,
    pub(super) panics: HashMap<RecordKey, Panics>,
    pub(super) cooldowns: HashMap<Digest16, Cooldown>,
    pub(super) logs: Logs,
    /// Provider checks of a recipient that may have been right: answered right, or without an answer.
    pub(super) possible_checks: HashMap<Digest16, Vec<PossibleCheck>>,
    /// The last requests of a recipient that ended without a send.
    pub(super) unsent: HashMap<Digest16, Vec<RequestSummary>>,
    pub(super) suppressions: HashMap<SuppressionKey, StoredSuppression>,
    pub(super) last_opts: HashMap<Digest16, LastOpt>,
    /// By recipient and message id.
    pub(super) claims: HashMap<(Digest16, String), Claim>,
    pub(super) expected_receipts: BTreeSet<ExpectedReceipt>,
    /// Counts those that were expected.
    pub(super) receipts_expected: u64,
    /// The request that each idempotency key of a service names, and until when.
    pub(super) idempotency_keys: HashMap<Digest16, (Digest16, UnixMillis)>,
    /// When each worker last had something to send.
    pub(super) active_workers: HashMap<u64, UnixMillis>,
    pub(super) kill_switch: Option<KillSwitch>,
    /// And until when it is in force.
    pub(super) log_filter: Option<(TemporaryLogFilter, UnixMillis)>,
    /// The recorded key check values by their names, and when a process with this value last compared it.
    pub(super) key_checks: BTreeMap<Vec<u8>, (KeyCheck, UnixMillis)>,
    /// The last report of each worker.
    pub(super) worker_states: HashMap<u64, (UnixMillis, WorkerState)>,
    pub(super) conversion: Conversion,
    pub(super) outbox: Outbox,
    pub(super) redactions: Redactions,
    pub(super) book: Book,
    pub(super) defence: Defence,
}

pub(super) type RecordKey = (Digest16, RequestId);

/// No send to the recipient before this time, nor while the request may still be sent.
pub(super) struct Cooldown {
    pub(super) until: UnixMillis,
    pub(super) request_id: RequestId,
}

pub(super) struct Claim {
    pub(super) request_id: RequestId,
    pub(super) until: UnixMillis,
}

/// The panicked handlers of a request, by their fencing tokens.
pub(super) struct Panics {
    pub(super) tokens: Vec<u64>,
    pub(super) kept_until: UnixMillis,
}

pub(super) struct PossibleCheck {
    pub(super) check_id: u64,
    pub(super) verification_sid: Option<String>,
    pub(super) at: UnixMillis,
}

/// A message whose final receipt has not come. The set's order is by `due`, the beginning of a minute, and then by `number`.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ExpectedReceipt {
    pub(super) due: UnixMillis,
    pub(super) number: u64,
    pub(super) message_id: String,
    pub(super) recipient: Digest16,
    pub(super) completed_at: UnixMillis,
    pub(super) request_id: RequestId,
}

#[derive(PartialEq, Eq, Hash)]
pub(super) enum SuppressionKey {
    Recipient(Digest16),
    Country(String),
}

#[derive(Clone)]
pub(super) struct StoredSuppression {
    /// `None` for a manual suppression.
    pub(super) provider_code: Option<u32>,
    /// `None`: no end.
    pub(super) until: Option<UnixMillis>,
    pub(super) since: UnixMillis,
    pub(super) masked: String,
    pub(super) reason: Option<String>,
    /// Another suppression that an opt-out keeps: an opt-in restores it.
    pub(super) kept: Option<Box<StoredSuppression>>,
    /// A kept one that an operator has removed: it stays for a moment, as the removal may be repeated.
    pub(super) is_removed: bool,
}

impl StoredSuppression {
    /// Keeps another suppression beside this opt-out. One that ends later stays.
    pub(super) fn keep(&mut self, other: StoredSuppression, now: UnixMillis) {
        let kept = self.kept.as_ref().filter(|kept| kept.is_in_force(now) && !kept.is_removed);
        match kept {
            Some(kept) if !other.ends_after(kept) => {}
            _ => {
                let since = kept.map_or(now, |kept| kept.since);
                self.kept = Some(Box::new(StoredSuppression { since, ..other }));
            }
        }
    }

    pub(super) fn ends_after(&self, other: &StoredSuppression) -> bool {
        match (other.until, self.until) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(other), Some(own)) => own > other,
        }
    }

    pub(super) fn is_in_force(&self, now: UnixMillis) -> bool {
        self.until.is_none_or(|until| until > now)
    }

    /// By the provider, and without an end.
    pub(super) fn is_opt_out(&self) -> bool {
        self.provider_code.is_some() && self.until.is_none()
    }

    pub(super) fn entry(&self) -> SuppressionEntry {
        SuppressionEntry {
            to: Some(self.masked.clone()),
            provider_code: self.provider_code,
            reason: self.reason.clone(),
            since: Some(self.since),
            until: self.until,
        }
    }
}

impl State {
    pub(super) fn record(
        &self,
        recipient: Digest16,
        request_id: &RequestId,
        now: UnixMillis,
    ) -> Option<&Record> {
        self.records.get(&(recipient, request_id.clone())).filter(|record| record.kept_until > now)
    }

    pub(super) fn record_mut(&mut self, key: &RecordKey, now: UnixMillis) -> Option<&mut Record> {
        self.records.get_mut(key).filter(|record| record.kept_until > now)
    }

    /// A challenge is kept for a while after its code has expired.
    pub(super) fn challenge(
        &self,
        recipient: Digest16,
        purpose: &str,
        now: UnixMillis,
    ) -> Option<&Challenge> {
        let challenge = self.challenges.get(&(recipient, purpose.to_owned()));
        challenge.filter(|challenge| challenge.is_kept(now))
    }

    pub(super) fn challenge_mut(
        &mut self,
        recipient: Digest16,
        purpose: &str,
        now: UnixMillis,
    ) -> Option<&mut Challenge> {
        let challenge = self.challenges.get_mut(&(recipient, purpose.to_owned()));
        challenge.filter(|challenge| challenge.is_kept(now))
    }

    pub(super) fn sends_in_a_day(&self, recipient: Digest16, now: UnixMillis) -> u32 {
        self.logs.used((EventLog::Sends, recipient), DAY, now)
    }

    pub(super) fn idempotency_key(
        &mut self,
        key: Digest16,
        request: Option<Digest16>,
        now: UnixMillis,
    ) -> Option<Digest16> {
        if let Some((bound, until)) = self.idempotency_keys.get(&key)
            && *until > now
        {
            return Some(*bound);
        }
        let request = request?;
        self.idempotency_keys.insert(key, (request, now.plus(OUTCOME_KEPT)));
        Some(request)
    }

    /// Drops everything that no step can read any more.
    pub(super) fn sweep(&mut self, now: UnixMillis) {
        const KEPT: Duration = Duration::from_secs(7 * 86_400);
        self.records.retain(|_, record| record.kept_until > now);
        let records = &self.records;
        self.index.retain(|request_id, recipient| records.contains_key(&(*recipient, request_id.clone())));
        self.challenges.retain(|_, challenge| challenge.is_kept(now));
        self.cooldowns.retain(|recipient, cooldown| {
            cooldown.until > now || records.contains_key(&(*recipient, cooldown.request_id.clone()))
        });
        self.logs.sweep(KEPT, now);
        self.unsent.retain(|_, requests| requests.iter().any(|request| request.at.plus(DAY) > now));
        self.possible_checks.retain(|_, checks| checks.iter().any(|check| check.at.plus(DAY) > now));
        self.suppressions.retain(|_, suppression| suppression.is_in_force(now));
        self.last_opts.retain(|_, last| last.at.plus(OPT_STATUS_COUNTS_FOR + HOUR) > now);
        self.panics.retain(|_, panics| panics.kept_until > now);
        self.claims.retain(|_, claim| claim.until > now);
        self.idempotency_keys.retain(|_, (_, until)| *until > now);
        self.expected_receipts.retain(|expected| expected.due.plus(KEPT) > now);
        self.conversion.sweep(now);
        self.defence.sweep(now);
    }
}

pub(super) fn record_key(lease: &Lease<'_>) -> RecordKey {
    (lease.subject.recipient, lease.request_id.clone())
}

pub(super) fn event_source(lease: &Lease<'_>) -> Source {
    Source::Request(lease.subject.recipient, lease.request_id.clone())
}
