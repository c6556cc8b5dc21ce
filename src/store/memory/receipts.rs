//! Delivery receipts: those that arrive, and those that are overdue.

use std::time::Duration;

use super::record::{Stage, SuppressionStrength};
use super::state::{ExpectedReceipt, State};
use crate::domain::receipt::{DeliveryStatus, merge};
use crate::domain::suppression::NewSuppression;
use crate::domain::time::UnixMillis;
use crate::store::retention::{OUTCOME_KEPT, RECEIPT_POLL_INTERVAL_MIN, REJECTION_KEPT, is_word};
use crate::store::{Lease, NewReceipt, OverdueReceipt, ReceiptAnswer, RecordedReceipt};

impl State {
    pub(super) fn record_receipt(&mut self, receipt: &NewReceipt<'_>, now: UnixMillis) -> ReceiptAnswer {
        let key = (receipt.recipient, receipt.request_id.clone());
        let record = self.record_mut(&key, now).filter(|_| is_word(receipt.message_id));
        // Without a record a repeat cannot be recognised, so nothing is suppressed.
        let Some((recorded_strength, asked_at)) =
            record.map(|record| (record.suppression_strength, record.asked_at()))
        else {
            return ReceiptAnswer::NoRequest;
        };
        // A receipt suppresses only if the strength grows: a repeated one must not undo an operator's removal.
        let suppression = receipt.suppression.filter(NewSuppression::lasts);
        let strength = match suppression {
            None => SuppressionStrength::None,
            Some(suppression) if suppression.duration.is_some() => SuppressionStrength::Temporary,
            Some(_) => SuppressionStrength::Permanent,
        };
        let is_news = |new: &NewSuppression<'_>| {
            recorded_strength < strength && self.still_holds(receipt.recipient, new, asked_at)
        };
        if let Some(suppression) = suppression.filter(is_news) {
            self.suppress(receipt.recipient, suppression, now);
        }
        let record = self.record_mut(&key, now).expect("it is there");
        record.suppression_strength = record.suppression_strength.max(strength);
        // The other of two messages counts only if it arrived.
        if let Some(named) =
            record.named_beside(receipt.message_id).filter(|_| !receipt.status.is_delivered())
        {
            if recorded_strength < strength {
                record.receipt.get_or_insert(RecordedReceipt {
                    message_id: named,
                    status: DeliveryStatus::Accepted,
                    provider_code: None,
                    published: false,
                    at: now,
                });
            }
            return ReceiptAnswer::NothingToPublish;
        }
        let recorded = record.receipt.as_ref();
        // A request may have two messages, after a resend. The one that arrived counts.
        let other_arrived = receipt.status.is_delivered()
            && recorded.is_some_and(|recorded| {
                recorded.message_id != receipt.message_id && !recorded.status.is_delivered()
            });
        let recorded_status = recorded.map(|recorded| recorded.status);
        if other_arrived || merge(recorded_status, receipt.status).is_some() {
            record.receipt = Some(RecordedReceipt {
                message_id: receipt.message_id.to_owned(),
                status: receipt.status,
                provider_code: receipt.provider_code,
                published: false,
                at: now,
            });
        }
        let recorded = record.receipt.as_mut().expect("the first receipt is always recorded");
        if recorded.status != receipt.status || !receipt.status.is_final() || recorded.published {
            return ReceiptAnswer::NothingToPublish;
        }
        if receipt.published {
            recorded.published = true;
            return ReceiptAnswer::NothingToPublish;
        }
        let (purpose, history) = match &record.stage {
            Stage::InProgress(request) => (&request.purpose, &request.history),
            Stage::Completed(outcome) => (&outcome.purpose, &outcome.history),
        };
        let (correlation_id, trace) = (history.correlation_id.clone(), history.trace.clone());
        ReceiptAnswer::Publish { purpose: purpose.clone(), correlation_id, trace }
    }

    pub(super) fn expect_receipt(
        &mut self,
        lease: &Lease<'_>,
        message_id: &str,
        poll_after: Duration,
        now: UnixMillis,
    ) {
        self.insert_expected(ExpectedReceipt {
            due: now.plus(poll_after),
            number: 0,
            message_id: message_id.to_owned(),
            recipient: lease.subject.recipient,
            completed_at: now,
            request_id: lease.request_id.clone(),
        });
    }

    /// Messages are taken by the minute: `due` is rounded up.
    fn insert_expected(&mut self, expected: ExpectedReceipt) {
        self.receipts_expected += 1;
        let due = UnixMillis(expected.due.0.div_ceil(60_000) * 60_000);
        self.expected_receipts.insert(ExpectedReceipt { due, number: self.receipts_expected, ..expected });
    }

    pub(super) fn overdue_receipts(
        &mut self,
        wait_max: Duration,
        count_max: u32,
        now: UnixMillis,
    ) -> Vec<OverdueReceipt> {
        let mut overdue = Vec::new();
        for _ in 0..count_max {
            let Some(expected) = self.expected_receipts.pop_first() else { break };
            if expected.due > now {
                self.expected_receipts.insert(expected);
                break;
            }
            overdue.push(expected);
        }
        overdue.into_iter().filter_map(|expected| self.poll(expected, wait_max, now)).collect()
    }

    /// The receipt to poll for, unless its delivery event was published. Until the next poll the time since the send
    /// doubles. After the longest wait it is the shortest interval.
    fn poll(
        &mut self,
        expected: ExpectedReceipt,
        wait_max: Duration,
        now: UnixMillis,
    ) -> Option<OverdueReceipt> {
        let record = self.record(expected.recipient, &expected.request_id, now)?;
        let receipt = record.receipt.as_ref();
        if receipt.is_some_and(|receipt| receipt.published) {
            return None;
        }
        // The record may be of a later request with the same id.
        let is_completed_then = |kept| record.kept_until == expected.completed_at.plus(kept);
        if !is_completed_then(OUTCOME_KEPT) && !is_completed_then(REJECTION_KEPT) {
            return None;
        }
        let is_unpublished = receipt.is_some_and(|receipt| receipt.status.is_final());
        let waited = now.since(expected.completed_at);
        let overdue = OverdueReceipt {
            recipient: expected.recipient,
            request_id: expected.request_id.clone(),
            message_id: expected.message_id.clone(),
            completed_at: expected.completed_at,
            lapsed: waited >= wait_max && !is_unpublished,
        };
        let interval = if waited < wait_max { waited } else { Duration::ZERO };
        let due = now.plus(interval.max(RECEIPT_POLL_INTERVAL_MIN));
        self.insert_expected(ExpectedReceipt { due, ..expected });
        Some(overdue)
    }

    pub(super) fn end_receipt_wait(&mut self, lapsed: &OverdueReceipt) {
        self.expected_receipts.retain(|expected| {
            let ExpectedReceipt { message_id, recipient, completed_at, request_id, .. } = expected;
            (message_id, recipient, completed_at, request_id)
                != (&lapsed.message_id, &lapsed.recipient, &lapsed.completed_at, &lapsed.request_id)
        });
    }
}
