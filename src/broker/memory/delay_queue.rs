//! A bounded queue whose messages leave it one by one, by their numbers.

use std::collections::HashMap;
use std::time::Duration;

use crate::broker::{DELAY, PublishError};

/// The process holds them in memory.
const MESSAGES_MAX: usize = 10_000;

pub(super) struct DelayQueue<Message> {
    messages: HashMap<u64, Message>,
    messages_max: usize,
    delay: Duration,
    is_deleted: bool,
}

impl<Message> Default for DelayQueue<Message> {
    fn default() -> DelayQueue<Message> {
        DelayQueue { messages: HashMap::new(), messages_max: MESSAGES_MAX, delay: DELAY, is_deleted: false }
    }
}

impl<Message> DelayQueue<Message> {
    pub(super) fn replace(&mut self, delay: Duration, messages_max: usize) {
        (self.delay, self.messages_max) = (delay, messages_max);
    }

    pub(super) fn delete(&mut self) {
        self.is_deleted = true;
        self.messages.clear();
    }

    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }

    /// Returns the time after which the message is to be taken.
    pub(super) fn put(&mut self, number: u64, message: Message) -> Result<Duration, PublishError> {
        if self.is_deleted {
            return Err(PublishError::Unroutable);
        }
        if self.messages.len() >= self.messages_max {
            return Err(PublishError::NotTaken("the queue is full".to_owned()));
        }
        self.messages.insert(number, message);
        Ok(self.delay)
    }

    pub(super) fn take(&mut self, number: u64) -> Option<Message> {
        self.messages.remove(&number)
    }
}
