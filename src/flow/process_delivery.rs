//! The life of one delivery on one page: decode, validate, admit, send, complete, publish.

use super::admit::AfterAdmission;
use super::complete::{AfterCompletion, RecordedOutcome, ResultParts};
use super::context::{DeliveryContext, SendContext, StopReason};
use super::gateway::ChannelGateway;
use crate::broker::Delivery;
use crate::domain::outcome::{Outcome, Status};
use crate::domain::phone::PhoneNumber;
use crate::domain::recipient_rules::Rejection;
use crate::domain::request::SendRequest;
use crate::telemetry::events;

impl ChannelGateway {
    /// Processes one delivery until the broker has confirmed its result, its dead letter or both. `Ok` acknowledges it.
    pub(super) async fn process(&self, handler: &mut DeliveryContext<'_>) -> Result<(), StopReason> {
        let delivery = handler.delivery;
        let request = match SendRequest::decode(&delivery.body, delivery.properties.timestamp) {
            Ok(request) => request,
            Err(invalid) => return self.reject_invalid_body(handler, &invalid).await,
        };
        self.note_queue_time(delivery, &request);
        request.left_out.iter().for_each(|fault| events::field_left_out(request.id.as_str(), fault));
        let valid = match self.validate(&request) {
            Ok(valid) => valid,
            Err(rejection) => return self.reject(handler, &request, rejection).await,
        };
        let waited = request.requested_at.map(|at| self.clock.now().since(at));
        let admitted = self.admit(handler, &valid).await?;
        if let Some(waited) = waited.filter(|_| admitted.is_first() && !delivery.properties.redelivered) {
            events::request_taken_up(self.channel, waited);
        }
        let recorded = match admitted {
            AfterAdmission::Send(state) => {
                self.send_and_complete(SendContext { handler, valid: &valid, state }).await?
            }
            AfterAdmission::Abandon(completion) => match self.complete(handler, &valid, completion).await? {
                AfterCompletion::Completed(recorded) => {
                    if !recorded.replayed {
                        self.count_cost(&valid, &recorded.outcome);
                    }
                    recorded
                }
                // Cannot happen: only a completion after a message lookup is answered so.
                AfterCompletion::MessageClaimed => return Err(StopReason::LeaseLost),
            },
            AfterAdmission::Completed(recorded) => recorded,
        };
        let RecordedOutcome { outcome, replayed } = &recorded;
        let (request_id, to) = (&request.id, &valid.to.masked());
        let region = valid.to.phone().and_then(PhoneNumber::region);
        let result = ResultParts { request_id, to, region, outcome, replayed: *replayed };
        self.publish_result(handler, &result).await?;
        // The dead letter follows the first result. On a redelivery it follows a replay, too: the handler that completed the
        // request may have crashed between the two. Two dead letters are better than none.
        match outcome.history.dead_lettered() {
            Some(poison) if !replayed || delivery.properties.redelivered => {
                let published = Some((request_id.clone(), outcome.status));
                self.dead_letter(handler, poison.as_str(), poison.message(), published).await
            }
            _ => Ok(()),
        }
    }

    /// Of the first copy: a later one had its turn before.
    fn note_queue_time(&self, delivery: &Delivery, request: &SendRequest<'_>) {
        if let Some(requested_at) = request.requested_at.filter(|_| !delivery.properties.redelivered) {
            self.activity.oldest_taken.note(self.clock.now().since(requested_at));
        }
    }

    async fn reject(
        &self,
        handler: &DeliveryContext<'_>,
        request: &SendRequest<'_>,
        rejection: Rejection,
    ) -> Result<(), StopReason> {
        let (now, purpose) = (self.clock.now(), request.purpose.as_str());
        let outcome = &Outcome::with_error(Status::Rejected, now, purpose, rejection.error);
        let result = ResultParts {
            request_id: &request.id,
            to: &rejection.to,
            region: None,
            outcome,
            replayed: false,
        };
        self.publish_result(handler, &result).await
    }

    async fn send_and_complete(&self, mut ctx: SendContext<'_>) -> Result<RecordedOutcome, StopReason> {
        loop {
            let completion = self.dispatch(&mut ctx).await?;
            match self.complete(ctx.handler, ctx.valid, completion).await? {
                AfterCompletion::Completed(recorded) => {
                    if !recorded.replayed {
                        let (to, grant) = (&ctx.valid.to, &ctx.state.grant);
                        let began_the_code = grant.begins_code(self.policy.code_life);
                        self.conversion.completed(to, began_the_code, &recorded.outcome);
                        self.count_cost(ctx.valid, &recorded.outcome);
                        self.defence.completed(ctx.valid, began_the_code, &recorded.outcome);
                    }
                    return Ok(recorded);
                }
                // The attempt is still in doubt, so `dispatch` looks it up again.
                AfterCompletion::MessageClaimed => {}
            }
        }
    }
}
