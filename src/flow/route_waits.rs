//! Counts the waits for routes whose providers are all shut, while another route of the channel sends.
//!
//! At most half of the handler slots wait so: the others go on with the other routes. What finds no place is delayed.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

#[derive(Default)]
pub(super) struct RouteWaits(AtomicU32);

/// Until it is dropped, a slot is held by the wait.
pub(super) struct RouteWait<'a>(&'a RouteWaits);

impl RouteWaits {
    /// `None` if half of the slots wait already.
    pub(super) fn begin(&self, handlers_max: u32) -> Option<RouteWait<'_>> {
        let most = handlers_max / 2;
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
    fn half_of_the_slots_wait() {
        for (handlers_max, most) in [(64, 32), (3, 1), (1, 0)] {
            let waits = RouteWaits::default();
            let begun: Vec<_> = (0..100).filter_map(|_| waits.begin(handlers_max)).collect();
            assert_eq!(begun.len(), most, "{handlers_max}");
            drop(begun);
            assert_eq!(waits.begin(handlers_max).is_some(), most > 0);
        }
    }
}
