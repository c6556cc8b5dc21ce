//! An invalid body ends with a result if it has a request id, else as a dead letter. A poison message, and a request whose
//! record cannot be read, end as a dead letter, after a result if the body has a request id.

use super::complete::{COMPLETE, ResultParts};
use super::context::{CancelOn, DeliveryContext, StopReason, ValidRequest};
use super::gateway::ChannelGateway;
use super::random::{random_bytes, random_id};
use crate::broker::{DeadHeaders, Outgoing, Target};
use crate::domain::dead_letter::DeadLetterBody;
use crate::domain::history::{HistoryEvent, PoisonCause};
use crate::domain::outcome::{ErrorCode, Outcome, OutcomeError, Status};
use crate::domain::recipient_rules::UNREADABLE_RECIPIENT;
use crate::domain::request::{InvalidBody, SendRequest};
use crate::domain::request_id::RequestId;
use crate::domain::routes::ProviderIndex;
use crate::store::{CompletionAnswer, CompletionInput, Lease, Refund};
use crate::telemetry::events;

/// Reasons of dead letters: part of the interface.
const NO_REQUEST_ID: &str = "unattributable";
pub const RECORD_UNREADABLE: &str = "record";

impl ChannelGateway {
    pub(super) async fn reject_invalid_body(
        &self,
        handler: &DeliveryContext<'_>,
        invalid: &InvalidBody,
    ) -> Result<(), StopReason> {
        let fault = invalid.fault.worded_for(self.channel).to_string();
        let Some(request_id) = &invalid.request_id else {
            return self.dead_letter(handler, NO_REQUEST_ID, &fault, None).await;
        };
        let purpose = invalid.purpose.clone().unwrap_or_default();
        let error = OutcomeError::detailed(ErrorCode::InvalidRequest, fault);
        let outcome = &Outcome::with_error(Status::Rejected, self.clock.now(), purpose.as_str(), error);
        let to = UNREADABLE_RECIPIENT;
        let result = ResultParts { request_id, to, region: None, outcome, replayed: false };
        self.publish_result(handler, &result).await
    }

    /// With `unsent_attempts` the handler has the lease, and none of these attempts sent a message.
    pub(super) async fn dead_letter_panicked(
        &self,
        handler: &DeliveryContext<'_>,
        unsent_attempts: Option<u32>,
    ) -> Result<(), StopReason> {
        let delivery = handler.delivery;
        let published = match SendRequest::decode(&delivery.body, delivery.properties.timestamp) {
            Ok(request) => {
                let outcome = self.panicked_outcome(request.purpose.as_str());
                let (to, outcome) = match self.validate(&request) {
                    Ok(valid) => {
                        let completed = self.complete_panicked(handler, &valid, outcome, unsent_attempts);
                        (valid.to.masked(), completed.await?)
                    }
                    Err(rejection) => (rejection.to, outcome),
                };
                Some((request.id, to, outcome))
            }
            Err(invalid) => {
                let InvalidBody { request_id, purpose, .. } = *invalid;
                let outcome = self.panicked_outcome(purpose.unwrap_or_default().as_str());
                request_id.map(|request_id| (request_id, UNREADABLE_RECIPIENT.to_owned(), outcome))
            }
        };
        if let Some((request_id, to, outcome)) = &published {
            let result = ResultParts { request_id, to, region: None, outcome, replayed: false };
            self.publish_result(handler, &result).await?;
        }
        let published = published.map(|(request_id, _, outcome)| (request_id, outcome.status));
        let cause = PoisonCause::Panic;
        self.dead_letter(handler, cause.as_str(), cause.message(), published).await
    }

    /// The result is `unknown`, because an earlier attempt may have sent the message. Nothing is recorded.
    pub(super) async fn dead_letter_unreadable(
        &self,
        handler: &DeliveryContext<'_>,
    ) -> Result<(), StopReason> {
        let delivery = handler.delivery;
        let message = "a stored record of the request cannot be read";
        let mut published = None;
        if let Ok(request) = SendRequest::decode(&delivery.body, delivery.properties.timestamp) {
            let to = self.validate(&request).map_or_else(|rejection| rejection.to, |valid| valid.to.masked());
            let error = OutcomeError::detailed(ErrorCode::Internal, message);
            let purpose = request.purpose.as_str();
            let outcome = Outcome::with_error(Status::Unknown, self.clock.now(), purpose, error);
            let (request_id, outcome) = (&request.id, &outcome);
            let result = ResultParts { request_id, to: &to, region: None, outcome, replayed: false };
            self.publish_result(handler, &result).await?;
            published = Some((request.id, Status::Unknown));
        }
        self.dead_letter(handler, RECORD_UNREADABLE, message, published).await
    }

    fn panicked_outcome(&self, purpose: &str) -> Outcome {
        let (now, error) = (self.clock.now(), OutcomeError::of(ErrorCode::Internal));
        let mut outcome = Outcome::with_error(Status::Failed, now, purpose, error);
        outcome.history.add(now, HistoryEvent::DeadLettered(PoisonCause::Panic));
        outcome
    }

    /// Records `failed` if the request has no record, or its record shows that nothing was sent; else `unknown`, because a
    /// handler may have sent the message before it panicked.
    async fn complete_panicked(
        &self,
        handler: &DeliveryContext<'_>,
        valid: &ValidRequest<'_>,
        mut failed: Outcome,
        unsent_attempts: Option<u32>,
    ) -> Result<Outcome, StopReason> {
        failed.history.to = valid.to.masked();
        let error = Some(OutcomeError::of(ErrorCode::InDoubt));
        let unknown = Outcome { status: Status::Unknown, error, ..failed.clone() };
        let ours = valid.lease(handler);
        // A new token: if the handler completed before it panicked, the store then answers with that outcome and does not
        // take this call for a repeat.
        let new = Lease { token: random_id(), ..ours };
        let unsent = unsent_attempts.map(|attempts| {
            let only = || self.providers.get(ProviderIndex::ONLY).name().to_owned();
            let provider = (attempts > 0 && !self.providers.are_several()).then(only);
            (ours, Outcome { attempts, provider, ..failed.clone() }, Refund::Full)
        });
        // Of a record in progress the store refuses `failed` under a new token, and `unknown` is recorded.
        let without_lease = [(new, failed, Refund::None), (new, unknown, Refund::None)];
        for (lease, outcome, refund) in unsent.into_iter().chain(without_lease) {
            let input = CompletionInput {
                lease,
                outcome: &outcome,
                refund,
                limits: &self.policy.limits,
                found_by_lookup: false,
                message_is_unnamed: false,
                suppression: None,
                poll_receipt_after: None,
                spent: None,
            };
            let call = || self.store.complete(&input);
            match handler.retry_store(COMPLETE, CancelOn::DeliveryLost, call).await? {
                CompletionAnswer::Recorded => return Ok(outcome),
                CompletionAnswer::AlreadyCompleted(recorded) => return Ok(recorded),
                CompletionAnswer::MayHaveBeenSent | CompletionAnswer::MessageClaimed => {}
            }
        }
        Err(StopReason::LeaseLost)
    }

    pub(super) async fn dead_letter(
        &self,
        handler: &DeliveryContext<'_>,
        reason: &'static str,
        error: &str,
        published_result: Option<(RequestId, Status)>,
    ) -> Result<(), StopReason> {
        let delivery = handler.delivery;
        let message_id = format!("dead:{:016x}", handler.fencing_token);
        let key = self.recipient_keyring.dead_letter_key();
        let contents = DeadLetterBody::of(&delivery.body, &message_id, key, random_bytes());
        let body = serde_json::to_vec(&contents).expect("a dead letter is plain data");
        let message = Outgoing {
            target: Target::Dead(DeadHeaders {
                channel: self.channel,
                reason,
                error,
                delivery_count: delivery.properties.delivery_count,
                // The message's AMQP timestamp. A `requested_at` in its body is not read.
                requested_at: delivery.properties.timestamp,
                request_id: published_result.as_ref().map(|(request_id, _)| request_id.as_str()),
                status: published_result.as_ref().map(|(_, status)| status.as_str()),
            }),
            body: &body,
            message_id: &message_id,
            correlation_id: delivery.properties.correlation_id.as_deref(),
            at: self.clock.now(),
            traceparent: delivery.properties.traceparent.as_deref(),
            tracestate: delivery.properties.tracestate.as_deref(),
        };
        self.publish(handler, message).await?;
        events::dead_lettered(reason, error);
        Ok(())
    }
}
