//! What the provider reports of a message, and the reports that are overdue.

use std::time::Duration;

use super::State;
use super::records::{Spell, Stage};
use crate::domain::keyed_digest::Digest16;
use crate::domain::receipt::merge;
use crate::domain::request_id::RequestId;
use crate::domain::suppression::NewSuppression;
use crate::domain::time::UnixMillis;
use crate::store::bounds::{RECEIPT_ASKED_AFTER_MIN, is_word};
use crate::store::{Lease, OverdueReceipt, ReceiptResult, RecordReceipt, RecordedReceipt};

/// A message whose final report is still to come. The one that is due first comes first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Expected {
    pub(super) due: UnixMillis,
    message_id: String,
    recipient: Digest16,
    sent: UnixMillis,
    request: RequestId,
}

impl State {
    pub(super) fn track(&mut self, track: &RecordReceipt<'_>, now: UnixMillis) -> ReceiptResult {
        let key = (track.recipient, track.request.clone());
        let record = self.record_mut(&key, now).filter(|_| is_word(track.message_id));
        let known = record.map(|record| record.blocked);
        // Once for a time, and for good once: what a person has lifted since stays so when a report comes again.
        let spell = match track.suppression {
            None => Spell::Never,
            Some(NewSuppression { duration: Some(_), .. }) => Spell::ForATime,
            Some(NewSuppression { duration: None, .. }) => Spell::ForGood,
        };
        if let Some(block) = track.suppression.filter(|_| known.is_none_or(|known| known < spell)) {
            self.block(track.recipient, block, now);
        }
        let Some(record) = self.record_mut(&key, now).filter(|_| known.is_some()) else {
            return ReceiptResult::NoRequest;
        };
        record.blocked = record.blocked.max(spell);
        let known = record.receipt.as_ref().map(|receipt| receipt.status);
        // Of two messages of a request the one that arrived counts.
        let other_arrived = track.status.is_delivered()
            && record.receipt.as_ref().is_some_and(|receipt| {
                receipt.message_id != track.message_id && !receipt.status.is_delivered()
            });
        let news = if other_arrived { Some(track.status) } else { merge(known, track.status) };
        if let Some(status) = news {
            let message_id = track.message_id.to_owned();
            record.receipt =
                Some(RecordedReceipt { message_id, status, code: track.code, published: false, at: now });
        }
        let receipt = record.receipt.as_mut().expect("the first report is news");
        if receipt.status != track.status || !track.status.is_final() || receipt.published {
            return ReceiptResult::Unchanged;
        }
        if track.published {
            receipt.published = true;
            return ReceiptResult::Unchanged;
        }
        let (purpose, notes) = match &record.stage {
            Stage::Live(live) => (&live.purpose, &live.notes),
            Stage::Ended(outcome) => (&outcome.purpose, &outcome.history),
        };
        ReceiptResult::Publish { purpose: purpose.clone(), correlation_id: notes.correlation_id.clone() }
    }

    pub(super) fn expect_receipt(
        &mut self,
        handling: &Lease<'_>,
        message_id: &str,
        due: Duration,
        now: UnixMillis,
    ) {
        self.expected.insert(Expected {
            due: now.plus(due),
            message_id: message_id.to_owned(),
            recipient: handling.subject.recipient,
            sent: now,
            request: handling.request.clone(),
        });
    }

    pub(super) fn overdue(
        &mut self,
        wait_max: Duration,
        count_max: u32,
        now: UnixMillis,
    ) -> Vec<OverdueReceipt> {
        let mut overdue = Vec::new();
        for _ in 0..count_max {
            let Some(expected) = self.expected.pop_first() else { break };
            if expected.due > now {
                self.expected.insert(expected);
                break;
            }
            overdue.push(expected);
        }
        overdue.into_iter().filter_map(|expected| self.ask_about(expected, wait_max, now)).collect()
    }

    fn ask_about(
        &mut self,
        expected: Expected,
        wait_max: Duration,
        now: UnixMillis,
    ) -> Option<OverdueReceipt> {
        let record = self.record(expected.recipient, &expected.request, now)?;
        if record.receipt.as_ref().is_some_and(|receipt| receipt.published) {
            return None;
        }
        let waited = now.since(expected.sent);
        let awaited = OverdueReceipt {
            recipient: expected.recipient,
            request: expected.request.clone(),
            message_id: expected.message_id.clone(),
            lapsed: waited >= wait_max,
        };
        if !awaited.lapsed {
            let due = now.plus(waited.max(RECEIPT_ASKED_AFTER_MIN));
            self.expected.insert(Expected { due, ..expected });
        }
        Some(awaited)
    }
}
