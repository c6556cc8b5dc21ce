//! Completion of a request: outcome, refund, message claim and suppression.

use super::record::{Record, Stage, SuppressionStrength, unnamed_without_record};
use super::state::{Claim, DAY, State, event_source, record_key};
use crate::domain::limit::{EventLog, Limit};
use crate::domain::outcome::Status;
use crate::domain::suppression::NewSuppression;
use crate::domain::time::UnixMillis;
use crate::store::retention::{CLAIM_KEPT, OUTCOME_KEPT, REJECTION_KEPT};
use crate::store::{CompletionAnswer, CompletionInput, Refund};

impl State {
    pub(super) fn complete(&mut self, input: &CompletionInput<'_>, now: UnixMillis) -> CompletionAnswer {
        let (lease, outcome) = (&input.lease, input.outcome);
        let recipient = lease.subject.recipient;
        let nothing_sent = matches!(outcome.status, Status::Failed | Status::Rejected);
        let earlier = self.record(recipient, lease.request_id, now);
        if let Some(record) = earlier {
            let ours = record.lease_token == Some(lease.token);
            match &record.stage {
                Stage::Completed(_) if ours => return CompletionAnswer::Recorded,
                Stage::Completed(outcome) => return CompletionAnswer::AlreadyCompleted(outcome.clone()),
                // Only a handler that has the lease and knows of the last attempt can say that nothing was sent.
                Stage::InProgress(request)
                    if nothing_sent && !(ours && request.is_unsent(outcome.attempts)) =>
                {
                    return CompletionAnswer::MayHaveBeenSent;
                }
                Stage::InProgress(_) => {}
            }
        }
        let asked_at = earlier.and_then(Record::asked_at);
        let reserved = earlier.and_then(Record::reserved);
        let receipt = earlier.and_then(|record| record.receipt.clone());
        let suppression_strength =
            earlier.map_or(SuppressionStrength::None, |record| record.suppression_strength);
        let id_is_known = input.id_is_known();
        let unnamed = match earlier {
            _ if nothing_sent => None,
            Some(record) => record.unnamed_at_completion(id_is_known, now),
            None => unnamed_without_record(id_is_known, now),
        };
        if earlier.is_none() {
            self.index_request(lease.request_id, recipient, now);
        }
        if let Some(message_id) = input.message_id() {
            if !self.claim(input, message_id, now) {
                return CompletionAnswer::MessageClaimed;
            }
            if let Some(poll_after) = input.poll_receipt_after {
                self.expect_receipt(lease, message_id, poll_after, now);
            }
        }
        let suppression = input.suppression.filter(NewSuppression::lasts);
        if let Some(suppression) = suppression.filter(|new| self.still_holds(recipient, new, asked_at)) {
            self.suppress(recipient, suppression, now);
        }
        self.refund(input, now);
        self.book.end(reserved, input.spent, nothing_sent, now);
        let kept = if outcome.status == Status::Rejected { REJECTION_KEPT } else { OUTCOME_KEPT };
        let completed = Record::new(lease.token, now.plus(kept), Stage::Completed(outcome.clone()));
        self.records
            .insert(record_key(lease), Record { receipt, suppression_strength, unnamed, ..completed });
        CompletionAnswer::Recorded
    }

    /// Claims a message for this request. `false`: a lookup found it, and another request has claimed it.
    fn claim(&mut self, input: &CompletionInput<'_>, message_id: &str, now: UnixMillis) -> bool {
        let request_id = input.lease.request_id;
        let key = (input.lease.subject.recipient, message_id.to_owned());
        match self.claims.get(&key).filter(|claim| claim.until > now) {
            Some(claim) if input.found_by_lookup && claim.request_id != *request_id => false,
            _ => {
                self.claims
                    .insert(key, Claim { request_id: request_id.clone(), until: now.plus(CLAIM_KEPT) });
                true
            }
        }
    }

    fn refund(&mut self, input: &CompletionInput<'_>, now: UnixMillis) {
        if input.refund == Refund::None {
            return;
        }
        let (lease, limits) = (&input.lease, input.limits);
        let (subject, source) = (&lease.subject, event_source(lease));
        if input.refund == Refund::FullAndCounted {
            let key = (EventLog::Refunds, subject.recipient);
            self.logs.append(key, source.clone(), DAY, now);
        }
        let is_charged = |limit: &Limit| limit.log() == EventLog::Sends || limits[*limit].count > 0;
        for log in Limit::OF_SENDS.into_iter().filter(is_charged).map(Limit::log) {
            if let Some(digest) = subject.digest(log) {
                self.logs.remove((log, digest), &source);
            }
        }
        self.remember_unsent(subject.recipient, lease.request_id, now);
    }
}
