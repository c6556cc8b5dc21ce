//! Delays a request whose providers are all shut: it waits on the delay queue, and other routes get its place.

use super::context::{DeliveryContext, StopReason};
use super::gateway::ChannelGateway;
use crate::telemetry::events;

impl ChannelGateway {
    /// `Ok` acknowledges the delivery: the broker has confirmed its copy. Where the confirm or the acknowledgement is lost, both
    /// come, and the second finds the request's record.
    pub(super) async fn delay(&self, handler: &DeliveryContext<'_>) -> Result<(), StopReason> {
        let delivery = handler.delivery;
        if delivery.is_lost() {
            return Err(StopReason::DeliveryLost);
        }
        match self.publisher.delay(self.channel, delivery, self.clock.now()).await {
            Ok(()) => {
                events::delivery_delayed();
                Ok(())
            }
            Err(error) => {
                events::delivery_not_delayed(&error, error.is_blocked());
                Err(StopReason::RouteShut)
            }
        }
    }
}
