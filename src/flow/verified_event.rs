//! Publishes that a code was verified, before its check is answered.

use std::time::Duration;

use crate::broker::{Outgoing, PublishError, Publisher, Target};
use crate::domain::address::Address;
use crate::domain::channel::Channel;
use crate::domain::time::UnixMillis;
use crate::domain::trace_context::TraceContext;
use crate::domain::verified_event::{VerifiedEvent, VerifiedEventStatus};
use crate::store::code_check::CodeRequest;
use crate::telemetry::trace;

/// A person is waiting.
const CONFIRM_WITHIN: Duration = Duration::from_secs(3);

pub(super) async fn publish_verified(
    publisher: &dyn Publisher,
    request: &CodeRequest,
    purpose: &str,
    to: &Address,
    at: UnixMillis,
) -> Result<(), PublishError> {
    let masked = to.masked();
    let event = VerifiedEvent {
        request_id: request.id.as_str(),
        channel: to.channel(),
        purpose,
        to: &masked,
        status: VerifiedEventStatus::Verified,
        at,
        test: request.test,
    };
    let trace = request.trace.as_ref();
    let traceparent = trace.map(TraceContext::traceparent);
    let body = serde_json::to_vec(&event).expect("an event is plain data");
    let outgoing = Outgoing {
        target: Target::Results {
            routing_key: match to.channel() {
                Channel::Sms => "sms.verified",
                Channel::Email => "email.verified",
            },
        },
        body: &body,
        message_id: &format!("{}:verified", request.id),
        correlation_id: Some(request.correlation_id.as_deref().unwrap_or(request.id.as_str())),
        at,
        traceparent: traceparent.as_deref(),
        tracestate: trace.and_then(|trace| trace.state.as_deref()),
    };
    let published = trace::in_trace_of(trace, publisher.publish(outgoing));
    let confirmed = tokio::time::timeout(CONFIRM_WITHIN, published).await;
    confirmed.unwrap_or_else(|_| Err(PublishError::Unconfirmed("no confirm in time".to_owned())))
}
