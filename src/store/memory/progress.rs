//! Progress of a request between admission and completion.

use super::record::{Phase, Stage};
use super::state::{State, record_key};
use crate::domain::history::RequestHistory;
use crate::domain::time::UnixMillis;
use crate::store::{Lease, Progress, ProgressAnswer};

impl State {
    pub(super) fn update_progress(
        &mut self,
        lease: &Lease<'_>,
        attempts_made: Option<u32>,
        progress: Progress,
        history: Option<&RequestHistory>,
        now: UnixMillis,
    ) -> ProgressAnswer {
        let subject = &lease.subject;
        let pending = self.challenge(subject.recipient, subject.purpose, now).filter(|c| c.used.is_none());
        let pending = pending.map(|challenge| challenge.id);
        let record = self.record_mut(&record_key(lease), now);
        let Some(record) = record.filter(|record| record.lease_token == Some(lease.token)) else {
            return ProgressAnswer::LeaseNotHeld;
        };
        let proven_message = record.proven_message();
        let Stage::InProgress(request) = &mut record.stage else {
            return ProgressAnswer::LeaseNotHeld;
        };
        if !request.accepts(attempts_made, progress) {
            return ProgressAnswer::LeaseNotHeld;
        }
        match progress {
            Progress::Waiting(duration) => {
                request.withdraw_attempt(attempts_made);
                (request.phase, request.busy_until) = (Phase::Waiting, now.plus(duration));
            }
            Progress::Sending(duration) => {
                if let Some(message_id) = proven_message.as_ref().filter(|_| request.attempts_in_doubt > 0) {
                    return ProgressAnswer::AlreadySent(message_id.clone());
                }
                if pending != Some(request.challenge.id) {
                    return ProgressAnswer::ChallengeUsedOrReplaced;
                }
                request.withdraw_attempt(attempts_made);
                request.start_attempt(now);
                request.busy_until = now.plus(duration);
            }
            Progress::InDoubt(duration) => {
                request.mark_in_doubt();
                request.busy_until = now.plus(duration);
            }
            Progress::Requeued { retry_in, in_doubt } => {
                if in_doubt {
                    request.mark_in_doubt();
                }
                request.withdraw_attempt(attempts_made);
                if request.phase == Phase::Sending {
                    request.phase = Phase::Waiting;
                }
                request.unfinished_leases = request.unfinished_leases.saturating_sub(1);
                request.busy_until = now.plus(retry_in);
                record.lease_token = None;
            }
        }
        if let Some(history) = history {
            request.history = history.clone();
        }
        match (progress, proven_message) {
            (Progress::InDoubt(_), Some(message_id)) => ProgressAnswer::AlreadySent(message_id),
            _ => ProgressAnswer::Applied,
        }
    }
}
