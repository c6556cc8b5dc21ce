//! Faults that a test orders.

use std::collections::VecDeque;

use super::MemoryBroker;

impl MemoryBroker {
    /// As under a memory alarm.
    pub fn block_publishers(&self, blocked: bool) {
        self.lock().blocked = blocked;
    }

    /// The next `count` publishes fail without effect.
    pub fn fail_next_publishes(&self, count: usize) {
        self.lock().failing = count;
    }

    /// The next `count` requests are enqueued and not confirmed.
    pub fn lose_next_confirms(&self, count: usize) {
        self.lock().losing_confirms = count;
    }

    /// The next `count` dead letters are refused.
    pub fn fail_next_dead_letters(&self, count: usize) {
        self.lock().failing_dead_letters = count;
    }

    /// Requests are unroutable from now on.
    pub fn delete_request_queue(&self) {
        let mut state = self.lock();
        state.deleted = true;
        state.queues.iter_mut().for_each(VecDeque::clear);
    }
}
