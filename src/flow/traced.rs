//! The spans of a delivery, and the trace that its messages carry.

use std::borrow::Cow;

use super::context::DeliveryContext;
use super::gateway::ChannelGateway;
use crate::broker::{Delivery, Settlement, request_key};
use crate::telemetry::trace::spans::{self, Source};
use crate::telemetry::trace::{self, RequestSpan, StepSpan};

impl ChannelGateway {
    pub(super) fn span_of(&self, delivery: &Delivery) -> RequestSpan {
        spans::process(|| self.source(), || delivery.properties.trace())
    }

    pub(super) fn span_of_settlement(&self, settlement: Settlement) -> StepSpan {
        let operation = match settlement {
            Settlement::Ack => "ack",
            Settlement::Requeue | Settlement::RequeueCounted => "nack",
        };
        spans::settle(operation, || self.source())
    }

    fn source(&self) -> Source {
        let (names, channel) = (&self.names, self.channel);
        let (exchange, queue) = (names.requests(), names.requests_of(channel));
        Source { exchange, routing_key: request_key(channel), queue }
    }
}

impl DeliveryContext<'_> {
    /// The `traceparent` and `tracestate` of messages about the request. Without tracing: the request's, as they came.
    pub(super) fn trace_headers(&self) -> (Option<Cow<'_, str>>, Option<&str>) {
        match self.trace.as_ref().filter(|_| trace::is_on()) {
            Some(trace) => (Some(trace.traceparent().into()), trace.state.as_deref()),
            None => {
                let properties = &self.delivery.properties;
                (properties.traceparent.as_deref().map(Cow::from), properties.tracestate.as_deref())
            }
        }
    }
}
