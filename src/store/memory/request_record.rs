//! Reads the record of a request, and the list of a recipient's last requests.

use std::collections::HashSet;

use super::record::{Phase, Record, Stage};
use super::state::{DAY, RecordKey, State};
use crate::domain::keyed_digest::Digest16;
use crate::domain::limit::EventLog;
use crate::domain::request_id::RequestId;
use crate::domain::time::UnixMillis;
use crate::store::retention::RECENT_MAX;
use crate::store::{CodeState, RequestOfUser, RequestRecord, RequestState, RequestSummary};

const COUNT_MAX: usize = RECENT_MAX as usize;

impl State {
    pub(super) fn request_record(
        &self,
        request_id: &RequestId,
        recipient: Option<Digest16>,
        now: UnixMillis,
    ) -> Option<RequestRecord> {
        let recipient = recipient.or_else(|| self.index.get(request_id).copied())?;
        let record = self.record(recipient, request_id, now)?;
        let (state, purpose, challenge) = match &record.stage {
            Stage::InProgress(request) => {
                let state = RequestState::InProgress {
                    stage: match request.phase {
                        Phase::Sending => "sending",
                        Phase::Waiting => "waiting",
                        Phase::InDoubt => "doubt",
                    },
                    leased: record.lease_token.is_some(),
                    attempt: request.attempts_started,
                    purpose: request.purpose.clone(),
                    deadline: request.deadline,
                    history: request.history.clone(),
                };
                (state, &request.purpose, Some(request.challenge.id.as_str()))
            }
            Stage::Completed(outcome) => (
                RequestState::Completed(outcome.clone()),
                &outcome.purpose,
                outcome.history.challenge.as_deref(),
            ),
        };
        let code =
            self.challenge(recipient, purpose, now).filter(|pending| Some(pending.id.as_str()) == challenge);
        Some(RequestRecord {
            state,
            receipt: record.receipt.clone(),
            code: code.map(|code| CodeState {
                expires: code.expires,
                checks: code.checks,
                used: code.used.is_some(),
            }),
        })
    }

    /// Lists a request among the recipient's last ones, although nothing was sent.
    pub(super) fn remember_unsent(&mut self, recipient: Digest16, request_id: &RequestId, now: UnixMillis) {
        let unsent = self.unsent.entry(recipient).or_default();
        unsent.retain(|recent| recent.request_id != *request_id);
        unsent.push(RequestSummary { at: now, request_id: request_id.clone() });
        newest_first(unsent);
        unsent.truncate(COUNT_MAX);
    }

    pub(super) fn recent_requests(&self, recipient: Digest16, now: UnixMillis) -> Vec<RequestSummary> {
        let mut recent = self.requests_of_both_logs(recipient, now);
        recent.truncate(COUNT_MAX);
        recent
    }

    pub(super) fn requests_of_user(
        &self,
        user: Digest16,
        count_max: usize,
        now: UnixMillis,
    ) -> Vec<RequestOfUser> {
        let is_of_user = |record: &&Record| {
            let history = match &record.stage {
                Stage::InProgress(request) => &request.history,
                Stage::Completed(outcome) => &outcome.history,
            };
            history.user == Some(user) && record.kept_until > now
        };
        let of_user = self.records.iter().filter(|(_, record)| is_of_user(record));
        let request = |(recipient, request_id): &RecordKey| RequestOfUser {
            recipient: *recipient,
            request_id: request_id.clone(),
        };
        of_user.map(|(key, _)| request(key)).take(count_max).collect()
    }

    /// Of sent and of unsent requests each as many as are listed, newest first.
    pub(super) fn requests_of_both_logs(&self, recipient: Digest16, now: UnixMillis) -> Vec<RequestSummary> {
        let mut sent: Vec<RequestSummary> = self
            .logs
            .requests((EventLog::Sends, recipient))
            .map(|(request_id, at)| RequestSummary { at, request_id: request_id.clone() })
            .collect();
        sent.drain(..sent.len().saturating_sub(COUNT_MAX));
        let unsent = self.unsent.get(&recipient).into_iter().flatten().cloned();
        let mut recent: Vec<RequestSummary> = unsent.chain(sent).collect();
        recent.retain(|recent| recent.at.plus(DAY) > now);
        newest_first(&mut recent);
        recent
    }
}

/// Sorts requests newest first, each once.
fn newest_first(recent: &mut Vec<RequestSummary>) {
    recent.sort_by(|a, b| (b.at, &b.request_id).cmp(&(a.at, &a.request_id)));
    let mut seen = HashSet::new();
    recent.retain(|recent| seen.insert(recent.request_id.clone()));
}
