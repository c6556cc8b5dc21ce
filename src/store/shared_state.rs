//! State that all workers share, independent of any request.

use crate::domain::log_filter::TemporaryLogFilter;
use crate::domain::time::UnixMillis;

/// The answer to a heartbeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedState {
    pub kill_switch_on: bool,
    /// Workers that had something to send within the last second, this one included if it has.
    pub active_workers: u32,
    /// In force in all processes.
    pub log_filter: Option<TemporaryLogFilter>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KillSwitch {
    pub since: UnixMillis,
    pub reason: String,
}
