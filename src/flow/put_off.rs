//! Puts off a delivery for a route that is shut, if too many wait for such routes already.

use std::time::Duration;

use super::context::{CancelOn, DeliveryContext, StopReason};
use super::gateway::ChannelGateway;
use super::pause_log::ClosedBy;
use super::route_waits::RouteWait;

/// A delivery that is put off may come back at once, so its handler rests first.
const REST: Duration = Duration::from_secs(1);

impl ChannelGateway {
    /// The permission to wait for a closed gate, until the answer is dropped. A pause of the whole channel needs none.
    pub(super) fn begin_route_wait(
        &self,
        closed_by: Option<ClosedBy>,
    ) -> Result<Option<RouteWait<'_>>, PutOff> {
        if closed_by != Some(ClosedBy::Breaker) || self.gate.closed_by().is_some() {
            return Ok(None);
        }
        self.providers.route_waits.begin(self.activity.handlers_max()).map(Some).ok_or(PutOff)
    }

    /// Puts the delivery off. The consumer loop settles it.
    pub(super) async fn put_off(&self, handler: &DeliveryContext<'_>) -> StopReason {
        match handler.sleep(REST, CancelOn::AnyCause).await {
            Ok(()) => StopReason::RouteShut,
            Err(reason) => reason,
        }
    }
}

/// Too many handlers wait for routes that are shut.
pub(super) struct PutOff;
