//! Delays requests in the broker in memory.

use std::sync::Arc;
use std::time::Duration;

use super::{MemoryBroker, Message, State, lock};
use crate::broker::{Delivery, Properties, PublishError, delayed_key};
use crate::domain::channel::Channel;
use crate::domain::time::UnixMillis;

impl MemoryBroker {
    /// The number of requests on the delay queue.
    pub fn delayed(&self) -> usize {
        self.lock().delayed.len()
    }

    /// From now on requests are delayed for this time, and the delay queue takes no more than `requests_max`.
    pub fn replace_delay_queue(&self, delay: Duration, requests_max: usize) {
        self.lock().delayed.replace(delay, requests_max);
    }

    /// Delays are unroutable from now on.
    pub fn delete_delay_queue(&self) {
        self.lock().delayed.delete();
    }

    /// A task brings the request back.
    pub(super) fn delay(
        &self,
        channel: Channel,
        delivery: &Delivery,
        now: UnixMillis,
    ) -> Result<(), PublishError> {
        let (number, delay) = self.lock().delay(channel, delivery, now)?;
        let state = Arc::downgrade(&self.state);
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            if let Some(state) = state.upgrade() {
                lock(&state).end_delay(number);
            }
        });
        Ok(())
    }
}

impl State {
    /// Returns the number of the message and the time of its delay.
    fn delay(
        &mut self,
        channel: Channel,
        delivery: &Delivery,
        now: UnixMillis,
    ) -> Result<(u64, Duration), PublishError> {
        self.accept()?;
        if delayed_key(channel).is_none() {
            return Err(PublishError::Unroutable);
        }
        let (body, properties) = (delivery.body.clone(), delivery.properties.clone());
        let now = UnixMillis::from_seconds(now.as_seconds());
        let properties =
            Properties { timestamp: properties.timestamp.or(now), redelivered: true, ..properties };
        let number = self.next_id();
        let delay =
            self.delayed.put(number, Message { channel, body, properties, arrived: delivery.arrived })?;
        Ok((number, delay))
    }

    fn end_delay(&mut self, number: u64) {
        if let Some(message) = self.delayed.take(number) {
            self.queues[message.channel as usize].push_back(message);
            self.hand_out();
        }
    }
}
