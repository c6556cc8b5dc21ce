//! Claims of messages, and the messages of a request that have none.

use std::collections::HashSet;

use super::record::{Phase, Record, Stage};
use super::state::{Claim, State};
use crate::domain::challenge::ChallengeId;
use crate::domain::keyed_digest::Digest16;
use crate::domain::limit::EventLog;
use crate::domain::request_id::RequestId;
use crate::domain::time::{UnixMillis, millis};
use crate::store::retention::{CLAIM_KEPT, CLAIM_REQUESTS_MAX, CLAIM_TIMES_DIFFER, is_word};
use crate::store::{ClaimAnswer, ClaimInput};

/// The messages that a request may have, and whose ids it does not know.
#[derive(Clone)]
pub(super) struct UnnamedMessages {
    pub(super) count: u32,
    pub(super) from: UnixMillis,
    pub(super) until: UnixMillis,
    /// `None` if the store had lost the record.
    pub(super) code: Option<MessageCode>,
}

/// The code in a message, as far as the store knows it.
#[derive(Clone)]
pub(super) struct MessageCode {
    pub(super) challenge: ChallengeId,
    pub(super) kid: String,
    pub(super) digest: Digest16,
    pub(super) callers_code: bool,
    pub(super) purpose: String,
}

impl MessageCode {
    /// Codes of one purpose and key are compared by their digests. A caller's code may be the code of another purpose, too.
    fn may_equal(&self, other: &MessageCode) -> bool {
        if self.challenge == other.challenge {
            return true;
        }
        if self.kid == other.kid && self.purpose == other.purpose {
            return self.digest == other.digest;
        }
        self.callers_code || other.callers_code
    }
}

impl Record {
    /// The messages that the request may have and that no completion has named.
    pub(super) fn unnamed_messages(&self, now: UnixMillis) -> Option<UnnamedMessages> {
        match &self.stage {
            Stage::Completed(_) => self.unnamed.clone(),
            Stage::InProgress(request) => {
                let sending = u32::from(request.phase == Phase::Sending);
                let count = request.attempts_in_doubt + sending;
                let is_last_attempt = count == 1 && request.phase != Phase::Waiting;
                Some(UnnamedMessages {
                    count,
                    from: if is_last_attempt { request.attempt_started_at } else { request.admitted_at },
                    until: now,
                    code: Some(MessageCode {
                        challenge: request.challenge.id,
                        kid: request.challenge.kid.clone(),
                        digest: request.challenge.digest,
                        callers_code: request.challenge.callers_code,
                        purpose: request.purpose.clone(),
                    }),
                })
            }
        }
    }

    /// The messages that stay without a name if the request is completed now.
    pub(super) fn unnamed_at_completion(&self, is_named: bool, now: UnixMillis) -> Option<UnnamedMessages> {
        let possible = self.unnamed_messages(now)?;
        let count = possible.count.saturating_sub(u32::from(is_named));
        let until = match &self.stage {
            // The other attempts ended before the one that is named.
            Stage::InProgress(request) if is_named && request.phase == Phase::Sending => {
                request.attempt_started_at
            }
            _ => possible.until,
        };
        (count > 0).then_some(UnnamedMessages { count, until, ..possible })
    }
}

/// The messages of other requests that may be among the listed ones.
#[derive(Default)]
struct OthersMessages {
    count: u32,
    /// Some may be younger than ours.
    overlap: bool,
    /// By receipts.
    named: HashSet<String>,
}

impl State {
    pub(super) fn claim_message(&mut self, input: &ClaimInput<'_>, now: UnixMillis) -> ClaimAnswer {
        let (lease, recipient) = (&input.lease, input.lease.subject.recipient);
        let record = self.record(recipient, lease.request_id, now);
        let record = record.filter(|record| record.owner == Some(lease.token));
        let Some(record) = record.filter(|record| matches!(record.stage, Stage::InProgress(_))) else {
            return ClaimAnswer::NotOwner;
        };
        let ours = record.unnamed_messages(now).expect("the request is in progress");
        let Some(others) = self.others_messages(input, &ours, now) else {
            return ClaimAnswer::Ambiguous;
        };
        let mut free = Vec::new();
        for message_id in input.listed.iter().copied().filter(|id| is_word(id)) {
            match self.claimed_by(recipient, message_id, now) {
                Some(request_id) if request_id == lease.request_id => {
                    return ClaimAnswer::Claimed(message_id.to_owned());
                }
                Some(_) => {}
                None if others.named.contains(message_id) => {}
                None => free.push(message_id),
            }
        }
        if free.is_empty() {
            return ClaimAnswer::AllClaimed;
        }
        if free.len() <= others.count as usize {
            return ClaimAnswer::Ambiguous;
        }
        if others.overlap {
            return ClaimAnswer::SentUnnamed;
        }
        let message_id = free[others.count as usize].to_owned();
        let claim = Claim { request_id: lease.request_id.clone(), until: now.plus(CLAIM_KEPT) };
        self.claims.insert((recipient, message_id.clone()), claim);
        ClaimAnswer::Claimed(message_id)
    }

    /// `None` if there are too many requests to read.
    fn others_messages(
        &self,
        input: &ClaimInput<'_>,
        ours: &UnnamedMessages,
        now: UnixMillis,
    ) -> Option<OthersMessages> {
        let (lease, recipient) = (&input.lease, input.lease.subject.recipient);
        let since = UnixMillis(ours.from.0.saturating_sub(millis(CLAIM_KEPT)));
        let requests = self.logs.requests((EventLog::Sends, recipient)).filter(|(_, at)| *at >= since);
        let requests: Vec<&RequestId> = requests.map(|(request_id, _)| request_id).collect();
        if requests.len() > CLAIM_REQUESTS_MAX {
            return None;
        }
        let mut others = OthersMessages::default();
        for request_id in requests.into_iter().filter(|request_id| *request_id != lease.request_id) {
            let Some(record) = self.record(recipient, request_id, now) else { continue };
            let reported = record.proven_message();
            let is_new = |id: &String| self.claimed_by(recipient, id, now) != Some(request_id);
            let named = u32::from(reported.as_ref().is_some_and(is_new));
            others.named.extend(reported);
            let Some(theirs) = record.unnamed_messages(now) else { continue };
            let count = theirs.count.saturating_sub(named);
            let meets = |a: UnixMillis, b: UnixMillis| a.plus(CLAIM_TIMES_DIFFER) >= b;
            let in_time = meets(theirs.until, ours.from) && meets(now, theirs.from);
            let may_equal = match (&theirs.code, &ours.code) {
                (Some(theirs), Some(ours)) => input.any_code || theirs.may_equal(ours),
                _ => true,
            };
            if count > 0 && in_time && may_equal {
                others.count += count;
                let is_open = matches!(record.stage, Stage::InProgress(_));
                others.overlap |= is_open || theirs.until > ours.from;
            }
        }
        Some(others)
    }

    fn claimed_by(&self, recipient: Digest16, message_id: &str, now: UnixMillis) -> Option<&RequestId> {
        let claim = self.claims.get(&(recipient, message_id.to_owned()))?;
        (claim.until > now).then_some(&claim.request_id)
    }
}

/// A completion whose record was lost: the times of its messages are unknown.
pub(super) fn unnamed_without_record(is_named: bool, now: UnixMillis) -> Option<UnnamedMessages> {
    let from = UnixMillis(now.0.saturating_sub(millis(CLAIM_KEPT)));
    (!is_named).then_some(UnnamedMessages { count: 1, from, until: now, code: None })
}
