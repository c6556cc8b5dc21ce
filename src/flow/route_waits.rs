//! Counts the waits for routes whose providers are all shut, while another route of the channel sends.
//!
//! At most half of the handler slots wait so: the others go on with the other routes. What finds no place is delayed.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use super::context::StopReason;
use super::gateway::ChannelGateway;
use super::pause_log::ClosedBy;

#[derive(Default)]
pub(super) struct RouteWaits(AtomicU32);

/// Until it is dropped, a slot is held by the wait.
pub(super) struct RouteWait<'a>(&'a RouteWaits);

impl ChannelGateway {
    /// The permission to wait for a closed gate, until the answer is dropped. A pause of the whole channel needs none.
    pub(super) fn begin_route_wait(
        &self,
        closed_by: Option<ClosedBy>,
    ) -> Result<Option<RouteWait<'_>>, StopReason> {
        if closed_by != Some(ClosedBy::Breaker) || self.gate.closed_by().is_some() {
            return Ok(None);
        }
        let wait = self.providers.route_waits.begin(self.activity.handlers_max());
        wait.map(Some).ok_or(StopReason::RouteShut)
    }
}

impl RouteWaits {
    /// `None` if half of the slots wait already.
    pub(super) fn begin(&self, handlers_max: u32) -> Option<RouteWait<'_>> {
        let most = (handlers_max / 2).max(1);
        let begun = self.0.fetch_update(Relaxed, Relaxed, |waits| (waits < most).then_some(waits + 1));
        begun.is_ok().then(|| RouteWait(self))
    }
}

impl Drop for RouteWait<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_slots_wait_and_at_least_one() {
        for (handlers_max, most) in [(64, 32), (3, 1), (1, 1)] {
            let waits = RouteWaits::default();
            let begun: Vec<_> = (0..100).filter_map(|_| waits.begin(handlers_max)).collect();
            assert_eq!(begun.len(), most, "{handlers_max}");
            drop(begun);
            assert!(waits.begin(handlers_max).is_some());
        }
    }
}
