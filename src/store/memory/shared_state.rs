//! Heartbeats, states of workers, and the kill switch.

use super::state::State;
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
}
