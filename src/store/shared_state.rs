//! State that all workers share, independent of any request.

use crate::domain::time::UnixMillis;

/// The answer to a heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedState {
    pub kill_switch_on: bool,
    /// Workers that had something to send within the last second, this one included if it has.
    pub active_workers: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KillSwitch {
    pub since: UnixMillis,
    pub reason: String,
}
