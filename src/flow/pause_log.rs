//! Logs why the send gate is closed. A pause that may pass is a warning at first, and an error once it lasts.

use std::time::Duration;

use tokio::time::Instant;

use crate::domain::channel::Channel;
use crate::store::StoreFault;
use crate::telemetry::events;

/// A failover is over sooner.
const LASTS_AFTER: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClosedBy {
    KillSwitch,
    /// The kill switch may be on.
    StoreSilent,
    /// A key that all requests share cannot be read.
    StoreDamaged,
    Breaker,
}

impl ClosedBy {
    pub const fn as_str(self) -> &'static str {
        match self {
            ClosedBy::KillSwitch => "kill_switch",
            ClosedBy::StoreSilent => "store_silent",
            ClosedBy::StoreDamaged => "store_damaged",
            ClosedBy::Breaker => "breaker",
        }
    }
}

#[derive(Default)]
pub(super) struct PauseLog {
    closed_by: Option<ClosedBy>,
    /// A warning that becomes an error then.
    warned_at: Option<Instant>,
}

impl PauseLog {
    /// Called at each change of the gate and, while the store is silent, at each heartbeat.
    pub(super) fn note(&mut self, channel: Channel, closed_by: Option<ClosedBy>, fault: Option<&StoreFault>) {
        let fault = fault.filter(|_| closed_by == Some(ClosedBy::StoreSilent));
        if closed_by != self.closed_by {
            let may_pass = fault.is_some_and(StoreFault::may_pass);
            events::gate_changed(channel, closed_by.map(ClosedBy::as_str), fault, may_pass);
            (self.closed_by, self.warned_at) = (closed_by, may_pass.then(Instant::now));
        } else if let Some(reason) = closed_by
            && self.warned_at.take_if(|at| at.elapsed() >= LASTS_AFTER).is_some()
        {
            events::pause_lasts(channel, reason.as_str(), fault, LASTS_AFTER);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_warning_becomes_an_error_once_after_ten_seconds() {
        let (silent, fault) = (Some(ClosedBy::StoreSilent), StoreFault::Failover);
        let mut log = PauseLog::default();
        let note = async |log: &mut PauseLog, seconds: u64| {
            tokio::time::advance(Duration::from_secs(seconds)).await;
            log.note(Channel::Sms, silent, Some(&fault));
            log.warned_at.is_some()
        };
        assert!(note(&mut log, 0).await);
        assert!(note(&mut log, 9).await);
        assert!(!note(&mut log, 1).await, "the error");
        assert!(!note(&mut log, 20).await, "once");
        log.note(Channel::Sms, None, None);
        assert!(note(&mut log, 0).await, "a new pause");
        log.note(Channel::Sms, None, None);
        log.note(Channel::Sms, silent, Some(&StoreFault::Password));
        assert!(log.warned_at.is_none(), "an error at once");
    }
}
