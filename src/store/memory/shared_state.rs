//! Heartbeats, states of workers, the kill switch, and the log filter.

use super::state::State;
use crate::domain::log_filter::{NewLogFilter, TemporaryLogFilter};
use crate::domain::time::UnixMillis;
use crate::domain::worker_state::{ReportedWorker, WorkerState};
use crate::store::retention::{ACTIVE_WORKER_FOR, WORKER_STATE_KEPT, WORKERS_MAX};
use crate::store::{KillSwitch, SharedState};

impl State {
    pub(super) fn heartbeat(&mut self, worker_id: u64, is_active: bool, now: UnixMillis) -> SharedState {
        self.active_workers.retain(|_, at| at.plus(ACTIVE_WORKER_FOR) > now);
        match is_active {
            true => self.active_workers.insert(worker_id, now),
            false => self.active_workers.remove(&worker_id),
        };
        SharedState {
            kill_switch_on: self.kill_switch.is_some(),
            active_workers: u32::try_from(self.active_workers.len()).unwrap_or(u32::MAX),
            log_filter: self.log_filter(now),
        }
    }

    pub(super) fn report_worker(&mut self, worker_id: u64, state: Option<&WorkerState>, now: UnixMillis) {
        self.worker_states.retain(|_, (at, _)| at.plus(WORKER_STATE_KEPT) > now);
        match state {
            Some(state) => drop(self.worker_states.insert(worker_id, (now, state.clone()))),
            None => drop(self.worker_states.remove(&worker_id)),
        }
    }

    pub(super) fn reported_workers(&self, now: UnixMillis) -> Vec<ReportedWorker> {
        let recent = self.worker_states.iter().filter(|(_, (at, _))| at.plus(WORKER_STATE_KEPT) > now);
        let reported = recent.map(|(worker_id, (at, state))| ReportedWorker {
            worker_id: *worker_id,
            silent_for: now.since(*at),
            state: state.clone(),
        });
        reported.take(WORKERS_MAX).collect()
    }

    /// A switch that is on keeps its `since`.
    pub(super) fn set_kill_switch(&mut self, reason: Option<&str>, now: UnixMillis) -> Option<KillSwitch> {
        let previous = self.kill_switch.take();
        let since = previous.as_ref().map_or(now, |previous| previous.since);
        self.kill_switch = reason.map(|reason| KillSwitch { since, reason: reason.to_owned() });
        previous
    }

    pub(super) fn log_filter(&self, now: UnixMillis) -> Option<TemporaryLogFilter> {
        let (log_filter, until) = self.log_filter.as_ref().filter(|(_, until)| *until > now)?;
        Some(TemporaryLogFilter { left: until.since(now), ..log_filter.clone() })
    }

    pub(super) fn set_log_filter(
        &mut self,
        new: Option<&NewLogFilter<'_>>,
        now: UnixMillis,
    ) -> Option<TemporaryLogFilter> {
        let previous = self.log_filter(now);
        self.log_filter = new.map(|new| {
            let NewLogFilter { filter, set_by, duration } = *new;
            let (filter, set_by) = (filter.clone(), set_by.to_owned());
            (TemporaryLogFilter { filter, set_by, set_at: now, left: duration }, now.plus(duration))
        });
        previous
    }
}
