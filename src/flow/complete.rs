//! Completion records the outcome; the result is published after it.

use super::context::{CancelOn, DeliveryContext, StopReason, ValidRequest};
use super::gateway::ChannelGateway;
use super::outage_backoff::OutageBackoff;
use crate::broker::{Outgoing, Target};
use crate::domain::challenge::ChallengeId;
use crate::domain::channel::Channel;
use crate::domain::outcome::{ErrorCode, Outcome, Status};
use crate::domain::phone::Region;
use crate::domain::request_id::RequestId;
use crate::domain::send_result::SendResult;
use crate::domain::suppression::{NewSuppression, Suppression, SuppressionScope, SuppressionTarget};
use crate::store::{CompletionAnswer, CompletionInput, Refund};
use crate::telemetry::events;
use crate::telemetry::trace::spans;

/// Names of store calls in logs and in a metric's label. They are part of the interface and older than the glossary.
pub(super) const COMPLETE: &str = "settle";
const LINK_VERIFICATION: &str = "name_challenge";

/// The outcome of a request, with everything to record beside it.
pub(super) struct Completion {
    pub(super) outcome: Outcome,
    /// It is only deduced that the message is this request's. If the provider's own answer ties it to another request, the
    /// completion answers [`AfterCompletion::MessageClaimed`].
    pub(super) found_by_lookup: bool,
    /// We do not know the id under which the provider lists the message: the outcome has none, or that of a Verification.
    pub(super) message_is_unnamed: bool,
    pub(super) suppression: Option<Suppression>,
    /// The SID of a code that the provider made.
    pub(super) verification: Option<(ChallengeId, String)>,
}

impl Completion {
    pub(super) fn of(outcome: Outcome) -> Completion {
        Completion {
            outcome,
            found_by_lookup: false,
            message_is_unnamed: false,
            suppression: None,
            verification: None,
        }
    }
}

pub(super) struct RecordedOutcome {
    pub(super) outcome: Outcome,
    /// An earlier handler recorded it.
    pub(super) replayed: bool,
}

#[expect(clippy::large_enum_variant, reason = "there is one at a time, and it is read at once")]
pub(super) enum AfterCompletion {
    Completed(RecordedOutcome),
    /// Nothing was recorded: the found message belongs to another request.
    MessageClaimed,
}

pub(super) struct ResultParts<'a> {
    pub(super) request_id: &'a RequestId,
    /// Masked.
    pub(super) to: &'a str,
    /// The country of a number that passed the checks.
    pub(super) region: Option<Region>,
    pub(super) outcome: &'a Outcome,
    pub(super) replayed: bool,
}

impl ChannelGateway {
    /// Records the outcome. If the request is already completed, the earlier outcome stays.
    pub(super) async fn complete(
        &self,
        handler: &DeliveryContext<'_>,
        valid: &ValidRequest<'_>,
        completion: Completion,
    ) -> Result<AfterCompletion, StopReason> {
        let Completion { outcome, found_by_lookup, message_is_unnamed, suppression, verification } =
            completion;
        let (country, masked) = (valid.to.country(), valid.to.masked());
        let expects_receipt = self.channel.polls_receipts() && outcome.status == Status::Sent;
        let provider = outcome.provider.as_deref().and_then(|name| self.providers.named(name));
        let poll_receipt_after =
            provider.and_then(|provider| self.providers.get(provider).poll_receipt_after);
        let input = CompletionInput {
            lease: valid.lease(handler),
            outcome: &outcome,
            refund: refund(&outcome),
            limits: &self.policy.limits,
            found_by_lookup,
            message_is_unnamed,
            suppression: suppression.and_then(|new| suppression_for_store(new, country.as_deref(), &masked)),
            poll_receipt_after: poll_receipt_after.filter(|_| expects_receipt),
            spent: self.spent(valid, &outcome),
        };
        match handler.retry_store(COMPLETE, CancelOn::Never, || self.store.complete(&input)).await? {
            CompletionAnswer::Recorded => {
                if let Some((challenge, verification_sid)) = verification {
                    let subject = &input.lease.subject;
                    let link = || self.store.link_verification(subject, &challenge, &verification_sid);
                    handler.retry_store(LINK_VERIFICATION, CancelOn::Never, link).await?;
                }
                Ok(AfterCompletion::Completed(RecordedOutcome { outcome, replayed: false }))
            }
            CompletionAnswer::AlreadyCompleted(outcome) => {
                Ok(AfterCompletion::Completed(RecordedOutcome { outcome, replayed: true }))
            }
            // The store knows of another lease or a later attempt: the next handler decides.
            CompletionAnswer::MayHaveBeenSent => Err(StopReason::LeaseLost),
            CompletionAnswer::MessageClaimed => Ok(AfterCompletion::MessageClaimed),
        }
    }

    /// Publishes a result, waits for the confirm, and sends the reply.
    pub(super) async fn publish_result(
        &self,
        handler: &DeliveryContext<'_>,
        result: &ResultParts<'_>,
    ) -> Result<(), StopReason> {
        let ResultParts { request_id, to, region, outcome, replayed } = result;
        let properties = &handler.delivery.properties;
        let (traceparent, tracestate) = handler.trace_headers();
        let result = SendResult::new(self.channel, request_id.as_str(), to, outcome, *replayed);
        let body = serde_json::to_vec(&result).expect("a result is plain data");
        let message = Outgoing {
            target: Target::Results { routing_key: routing_key(self.channel, outcome.status) },
            body: &body,
            message_id: &format!("{request_id}:{}", outcome.status.as_str()),
            correlation_id: Some(properties.correlation_id.as_deref().unwrap_or(request_id.as_str())),
            at: outcome.at,
            traceparent: traceparent.as_deref(),
            tracestate,
        };
        self.publish(handler, message).await?;
        if let Some(queue) = self.reply_queue(handler, request_id) {
            self.replies.send(queue, &message);
        }
        let elapsed = handler.started_at.elapsed();
        let limit = outcome.error.as_ref().and_then(|error| error.limit);
        if let Some(limit) = limit.filter(|limit| limit.is_budget() && !replayed) {
            events::refused_by_budget(limit);
        }
        if !replayed {
            self.activity.limits.add(limit);
            let reason = outcome.error.as_ref().map(|error| error.code);
            self.activity.traffic.request_ended(outcome.status, reason, elapsed);
        }
        let (request_id, replayed) = (request_id.as_str(), *replayed);
        spans::request_ended(request_id, self.channel, outcome, replayed);
        events::request_completed(self.channel, request_id, to, *region, outcome, replayed, elapsed);
        Ok(())
    }

    fn reply_queue<'a>(&self, handler: &DeliveryContext<'a>, request_id: &RequestId) -> Option<&'a str> {
        let queue = handler.delivery.properties.reply_to.as_deref()?;
        let allowed = !self.names.is_ours(queue)
            && self.policy.reply_to_allowed.iter().any(|pattern| matches(pattern, queue));
        if !allowed {
            events::reply_ignored(request_id.as_str());
        }
        allowed.then_some(queue)
    }

    /// Repeats until the broker confirms.
    pub(super) async fn publish(
        &self,
        handler: &DeliveryContext<'_>,
        message: Outgoing<'_>,
    ) -> Result<(), StopReason> {
        let mut backoff = None;
        while let Err(error) = self.publisher.publish(message).await {
            let wait = backoff.get_or_insert_with(OutageBackoff::new).next_wait();
            events::publish_failed(&error, error.is_blocked(), Some(wait));
            let counted = handler.slot.wait_begins();
            handler.sleep(wait, CancelOn::DeliveryLost).await?;
            drop(counted);
        }
        Ok(())
    }
}

/// `None` if a country is to be suppressed and the recipient's country is not known.
pub(super) fn suppression_for_store<'a>(
    suppression: Suppression,
    country: Option<&'a str>,
    masked: &'a str,
) -> Option<NewSuppression<'a>> {
    let target = match suppression.scope {
        SuppressionScope::Recipient => SuppressionTarget::Recipient,
        SuppressionScope::Country => SuppressionTarget::Country(country?),
    };
    Some(NewSuppression {
        target,
        provider_code: suppression.provider_code,
        duration: suppression.duration,
        masked,
    })
}

/// The refund of a message that the provider refused counts toward
/// [`Limit::Refunds`](crate::domain::limit::Limit::Refunds), which bounds the refused messages to one recipient.
fn refund(outcome: &Outcome) -> Refund {
    let refused = outcome.error.as_ref().is_some_and(|error| error.code == ErrorCode::ProviderRejected);
    match outcome.status {
        Status::Sent | Status::Unknown => Refund::None,
        Status::Failed if refused => Refund::FullAndCounted,
        Status::Failed | Status::Rejected => Refund::Full,
    }
}

fn routing_key(channel: Channel, status: Status) -> &'static str {
    match (channel, status) {
        (Channel::Sms, Status::Sent) => "sms.sent",
        (Channel::Sms, Status::Rejected) => "sms.rejected",
        (Channel::Sms, Status::Failed) => "sms.failed",
        (Channel::Sms, Status::Unknown) => "sms.unknown",
        (Channel::Email, Status::Sent) => "email.sent",
        (Channel::Email, Status::Rejected) => "email.rejected",
        (Channel::Email, Status::Failed) => "email.failed",
        (Channel::Email, Status::Unknown) => "email.unknown",
    }
}

/// A pattern is a name, or a prefix that ends in `*`.
fn matches(pattern: &str, queue: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => queue.starts_with(prefix),
        None => queue == pattern,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_a_name_or_a_prefix() {
        assert!(matches("amq.gen-*", "amq.gen-x") && matches("reply.a", "reply.a"));
        assert!(!matches("reply.a", "reply.ab") && !matches("amq.gen-*", "otpost.send-sms"));
    }
}
