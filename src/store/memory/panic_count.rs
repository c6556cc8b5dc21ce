//! Counts the panics of a request's handlers, and ends the lease of each.

use super::record::{Phase, Stage};
use super::state::{Panics, State, record_key};
use crate::domain::time::UnixMillis;
use crate::store::retention::OUTCOME_KEPT;
use crate::store::{PanicCount, PanicInput};

impl State {
    pub(super) fn count_panic(&mut self, input: &PanicInput<'_>, now: UnixMillis) -> PanicCount {
        let panics = self.add_panic(input, now);
        let has_ended = panics >= input.panics_max;
        PanicCount { panics, unsent_attempts: self.end_panicked_lease(input, has_ended, now) }
    }

    fn add_panic(&mut self, input: &PanicInput<'_>, now: UnixMillis) -> u32 {
        let key = record_key(&input.lease);
        let panics = self.panics.entry(key).or_insert(Panics { tokens: Vec::new(), kept_until: now });
        if panics.kept_until <= now {
            panics.tokens.clear();
        }
        let is_counted = panics.tokens.contains(&input.lease.token);
        if !is_counted && panics.tokens.len() < input.panics_max as usize {
            panics.tokens.push(input.lease.token);
            panics.kept_until = now.plus(OUTCOME_KEPT);
        }
        u32::try_from(panics.tokens.len()).expect("a small number")
    }

    /// Returns the attempts made if the lease stays and none of them may have sent a message.
    fn end_panicked_lease(
        &mut self,
        input: &PanicInput<'_>,
        lease_stays: bool,
        now: UnixMillis,
    ) -> Option<u32> {
        let record = self.record_mut(&record_key(&input.lease), now);
        let record = record.filter(|record| record.lease_token == Some(input.lease.token))?;
        let Stage::InProgress(request) = &mut record.stage else { return None };
        if request.phase == Phase::Sending && input.may_have_sent {
            request.mark_in_doubt();
        } else if request.phase == Phase::Sending {
            // The attempt that the record counts was not made.
            (request.phase, request.attempts_started) = (Phase::Waiting, request.attempts_started - 1);
        }
        if !lease_stays {
            request.unfinished_leases = request.unfinished_leases.saturating_sub(1);
            (request.busy_until, record.lease_token) = (now, None);
            return None;
        }
        let is_unsent = request.phase == Phase::Waiting && request.attempts_in_doubt == 0;
        is_unsent.then_some(request.attempts_started)
    }
}
