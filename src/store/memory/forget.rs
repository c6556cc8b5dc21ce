//! Forgets a recipient.

use std::time::Duration;

use async_trait::async_trait;

use super::MemoryStore;
use super::record::{Record, Stage};
use super::state::{DAY, HOUR, State, StoredSuppression, SuppressionKey};
use crate::domain::history::RequestHistory;
use crate::domain::keyed_digest::Digest16;
use crate::domain::limit::EventLog;
use crate::domain::opt_status::OPT_STATUS_COUNTS_FOR;
use crate::domain::time::UnixMillis;
use crate::store::StoreError;
use crate::store::forget::{
    ForgetAnswer, ForgetStore, Forgotten, KeptMarks, KeptSuppression, Listing, Redaction, RedactionEnd,
    RedactionJob, RedactionsAdded, SentMessage, forgotten_mark,
};

#[async_trait]
impl ForgetStore for MemoryStore {
    async fn forget(&self, recipient: Digest16) -> Result<ForgetAnswer, StoreError> {
        Ok(self.step(|state, now| state.forget(recipient, now)))
    }

    async fn add_redactions(
        &self,
        recipient: Digest16,
        message_ids: &[String],
        listing: Listing,
    ) -> Result<RedactionsAdded, StoreError> {
        Ok(self.step(|state, now| state.redactions.add(recipient, message_ids, listing, now)))
    }

    async fn take_redactions(&self, count_max: u32) -> Result<Vec<Redaction>, StoreError> {
        Ok(self.step(|state, now| state.redactions.take(count_max, now)))
    }

    async fn end_redaction(&self, redaction: &Redaction, end: RedactionEnd) -> Result<(), StoreError> {
        self.step(|state, now| state.redactions.end(redaction, end, now));
        Ok(())
    }

    async fn redaction_jobs(&self) -> Result<Vec<RedactionJob>, StoreError> {
        Ok(self.step(|state, now| state.redactions.list(now)))
    }
}

impl State {
    fn forget(&mut self, recipient: Digest16, now: UnixMillis) -> ForgetAnswer {
        let in_progress = self.records_of(recipient, now).filter_map(|record| record.in_progress_for(now));
        if let Some(left) = in_progress.max() {
            return ForgetAnswer::InProgress(left);
        }
        let mut forgotten = Forgotten { kept: self.kept_marks(recipient, now), ..Forgotten::default() };
        for record in self.records_of(recipient, now) {
            match &mut record.stage {
                Stage::Completed(outcome) => {
                    let history = outcome.history.forgotten();
                    forgotten.histories += u32::from(history != outcome.history);
                    outcome.history = history;
                    let message = outcome.provider.clone().zip(outcome.provider_message_id.clone());
                    let sent = |(provider, message_id)| SentMessage { provider, message_id };
                    forgotten.messages.extend(message.map(sent));
                }
                // Abandoned: its deadline is over.
                Stage::InProgress(request) => request.history = RequestHistory::default(),
            }
        }
        let codes = self.challenges.iter().filter(|((of, _), code)| *of == recipient && code.is_kept(now));
        forgotten.codes = u32::try_from(codes.count()).expect("a small number");
        self.challenges.retain(|(of, _), _| *of != recipient);
        forgotten.note = self.mark_suppression(recipient);
        ForgetAnswer::Forgotten(forgotten)
    }

    fn records_of(&mut self, recipient: Digest16, now: UnixMillis) -> impl Iterator<Item = &mut Record> {
        let records = self.records.iter_mut();
        let kept = records.filter(move |((of, _), record)| *of == recipient && record.kept_until > now);
        kept.map(|(_, record)| record)
    }

    fn kept_marks(&mut self, recipient: Digest16, now: UnixMillis) -> KeptMarks {
        let completed = self.records_of(recipient, now).filter(|record| record.is_completed());
        let ends: Vec<UnixMillis> = completed.map(|record| record.kept_until).collect();
        let count = u32::try_from(ends.len()).expect("a small number");
        let logs = [EventLog::Sends, EventLog::Wrong, EventLog::Refunds];
        let last = logs.into_iter().filter_map(|log| self.logs.last((log, recipient))).max();
        let suppression = self.suppressions.get(&SuppressionKey::Recipient(recipient));
        let suppression = suppression.filter(|suppression| suppression.is_in_force(now));
        let opt = self.last_opts.get(&recipient);
        KeptMarks {
            requests: ends.into_iter().max().map(|last| (count, last)),
            limits_until: last.map(|last| last.plus(DAY)).filter(|until| *until > now),
            suppression: suppression.map(|suppression| KeptSuppression {
                provider_code: suppression.provider_code,
                until: suppression.until,
            }),
            opt_status_until: opt.map(|opt| opt.at.plus(OPT_STATUS_COUNTS_FOR + HOUR)),
        }
    }

    /// True if it named the masked recipient.
    fn mark_suppression(&mut self, recipient: Digest16) -> bool {
        let mark = forgotten_mark(&recipient);
        let suppression = self.suppressions.get_mut(&SuppressionKey::Recipient(recipient));
        suppression.is_some_and(|suppression| suppression.mark(&mark))
    }
}

impl StoredSuppression {
    fn mark(&mut self, mark: &str) -> bool {
        let kept_is_changed = self.kept.as_mut().is_some_and(|kept| kept.mark(mark));
        let is_changed = self.masked != mark;
        mark.clone_into(&mut self.masked);
        is_changed || kept_is_changed
    }
}

impl Record {
    fn is_completed(&self) -> bool {
        matches!(self.stage, Stage::Completed(_))
    }

    /// `None` for a request that is completed, or that its handlers have abandoned.
    fn in_progress_for(&self, now: UnixMillis) -> Option<Duration> {
        let Stage::InProgress(request) = &self.stage else { return None };
        let left = request.deadline.max(request.busy_until).since(now);
        (!left.is_zero()).then_some(left)
    }
}
