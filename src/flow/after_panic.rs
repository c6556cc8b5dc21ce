//! After a panic: counts it, and dead-letters a message that has panicked too many handlers.
//!
//! The store counts the panics of a request, whatever requeues come in between. The broker's delivery count stands in for it
//! if the request cannot be identified, or if it is the count itself that panics.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::Ordering;

use futures_util::FutureExt as _;

use super::context::{CancelOn, DeliveryContext, StopReason};
use super::gateway::ChannelGateway;
use crate::domain::request::SendRequest;
use crate::store::{PanicCount, PanicInput};
use crate::telemetry::events;

/// A message that panics this many handlers is dead-lettered.
const PANICS_MAX: u32 = 5;

pub(super) enum AfterPanic {
    Requeue,
    DeadLettered,
}

impl ChannelGateway {
    pub(super) async fn after_panic(&self, handler: &DeliveryContext<'_>) -> Result<AfterPanic, StopReason> {
        let delivery_count = handler.delivery.properties.delivery_count;
        events::handler_panicked(delivery_count);
        let counted = AssertUnwindSafe(self.count_panic(handler)).catch_unwind().await;
        let counted = counted.unwrap_or(Ok(None))?;
        let panics = counted.map_or(delivery_count + 1, |count| count.panics.into());
        if panics < u64::from(PANICS_MAX) {
            return Ok(AfterPanic::Requeue);
        }
        let unsent_attempts = counted.and_then(|count| count.unsent_attempts);
        self.dead_letter_panicked(handler, unsent_attempts).await?;
        Ok(AfterPanic::DeadLettered)
    }

    /// `None` if the message is no request to a valid recipient: the store has no place for its count.
    async fn count_panic(&self, handler: &DeliveryContext<'_>) -> Result<Option<PanicCount>, StopReason> {
        let delivery = handler.delivery;
        let Ok(request) = SendRequest::decode(&delivery.body, delivery.properties.timestamp) else {
            return Ok(None);
        };
        let Ok(valid) = self.validate(&request) else { return Ok(None) };
        let input = PanicInput {
            lease: valid.lease(handler),
            may_have_sent: handler.may_have_sent.load(Ordering::Relaxed),
            panics_max: PANICS_MAX,
        };
        let call = || self.store.count_panic(&input);
        handler.retry_store("count_panic", CancelOn::AnyCause, call).await.map(Some)
    }
}
