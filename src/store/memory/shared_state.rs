//! Heartbeats and the kill switch.

use super::state::State;
use crate::domain::time::UnixMillis;
use crate::store::retention::ACTIVE_WORKER_FOR;
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

    /// A switch that is on keeps its `since`.
    pub(super) fn set_kill_switch(&mut self, reason: Option<&str>, now: UnixMillis) -> Option<KillSwitch> {
        let previous = self.kill_switch.take();
        let since = previous.as_ref().map_or(now, |previous| previous.since);
        self.kill_switch = reason.map(|reason| KillSwitch { since, reason: reason.to_owned() });
        previous
    }
}
