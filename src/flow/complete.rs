//! Step 3: the outcome is recorded, its result published, and the broker's confirm awaited.

use super::admit::{UNREADABLE, ValidRequest};
use super::worker::{CancelOn, DeliveryContext, RequeueReason};
use super::{Gateway, outage_waits, random_id};
use crate::broker::{DeadHeaders, Outgoing, Target};
use crate::domain::challenge::ChallengeId;
use crate::domain::channel::Channel;
use crate::domain::dead_letter::DeadLetterBody;
use crate::domain::encryption::NONCE_BYTES;
use crate::domain::history::{HistoryEvent, PoisonCause};
use crate::domain::outcome::{ErrorCode, Outcome, OutcomeError, SendResult, Status};
use crate::domain::request::{SendRequest, Unacceptable};
use crate::domain::request_id::RequestId;
use crate::domain::suppression::{NewSuppression, Suppression, SuppressionScope, SuppressionTarget};
use crate::store::{CompleteRequest, CompleteResult, Lease, Refund};
use crate::telemetry::events;

/// What a caller is told.
pub(super) struct RequestResult<'a> {
    pub(super) request: &'a RequestId,
    /// The recipient, masked.
    pub(super) to: &'a str,
    pub(super) outcome: &'a Outcome,
    pub(super) replayed: bool,
}

/// How a request ends, and what follows from that.
pub(super) struct Completion {
    pub(super) outcome: Outcome,
    /// Its message was found by looking for it.
    pub(super) found: bool,
    /// The provider refused more than the message.
    pub(super) stop: Option<Suppression>,
    /// The challenge whose code the provider has made, and under which name it checks that.
    pub(super) verification: Option<(ChallengeId, String)>,
}

impl Completion {
    pub(super) fn of(outcome: Outcome) -> Completion {
        Completion { outcome, found: false, stop: None, verification: None }
    }
}

/// How a request has ended.
pub(super) struct Completed {
    pub(super) outcome: Outcome,
    /// It was ended by another handling.
    pub(super) replayed: bool,
}

impl Gateway {
    /// Records the outcome. Another one that was recorded before it stays, and is the answer. A message that was found
    /// but is another request's is an error, which names it.
    pub(super) async fn complete(
        &self,
        turn: &DeliveryContext<'_>,
        case: &ValidRequest<'_>,
        end: Completion,
    ) -> Result<Result<Completed, String>, RequeueReason> {
        let Completion { outcome, found, stop, verification } = end;
        let country = case.to.country();
        let shown = case.to.to_string();
        let asked_about = self.channel.polls_receipts();
        let settle = CompleteRequest {
            lease: case.handling(turn),
            outcome: &outcome,
            refund: refund(&outcome),
            found_by_lookup: found,
            suppression: stop.and_then(|stop| new_suppression(stop, country.as_deref(), &shown)),
            receipt_due: self
                .policy
                .receipt_due_after
                .filter(|_| asked_about && outcome.status == Status::Sent),
        };
        match turn.retry_store("settle", CancelOn::Never, || self.store.complete(&settle)).await? {
            CompleteResult::Recorded => {
                if let Some((challenge, name)) = verification {
                    let subject = &settle.lease.subject;
                    let name = || self.store.link_verification(subject, &challenge, &name);
                    turn.retry_store("name_challenge", CancelOn::Never, name).await?;
                }
                Ok(Ok(Completed { outcome, replayed: false }))
            }
            CompleteResult::AlreadyCompleted(outcome) => Ok(Ok(Completed { outcome, replayed: true })),
            CompleteResult::NotOwner => Err(RequeueReason::TakenOver),
            CompleteResult::MessageClaimed => Ok(Err(outcome.provider_message_id.unwrap_or_default())),
        }
    }

    /// Publishes a result, to its reply queue too where that is allowed, and waits until the broker has it.
    pub(super) async fn publish_result(
        &self,
        turn: &DeliveryContext<'_>,
        answer: &RequestResult<'_>,
    ) -> Result<(), RequeueReason> {
        let RequestResult { request, to, outcome, replayed } = answer;
        let properties = &turn.delivery.properties;
        let result = SendResult::new(self.channel, request.as_str(), to, outcome, *replayed);
        let body = serde_json::to_vec(&result).expect("a result is plain data");
        let message = Outgoing {
            target: Target::Results { routing_key: routing_key(self.channel, outcome.status) },
            body: &body,
            message_id: &format!("{request}:{}", outcome.status.as_str()),
            correlation_id: Some(properties.correlation_id.as_deref().unwrap_or(request.as_str())),
            at: outcome.at,
            traceparent: properties.traceparent.as_deref(),
        };
        self.publish(turn, message).await?;
        if let Some(queue) = self.reply_queue(turn, request) {
            self.replies.send(queue, &message);
        }
        events::request_completed(
            self.channel,
            request.as_str(),
            to,
            outcome,
            *replayed,
            turn.taken.elapsed(),
        );
        Ok(())
    }

    fn reply_queue<'a>(&self, turn: &DeliveryContext<'a>, request: &RequestId) -> Option<&'a str> {
        let queue = turn.delivery.properties.reply_to.as_deref()?;
        let allowed = !self.names.is_ours(queue)
            && self.policy.reply_to_allowed.iter().any(|rule| matches(rule, queue));
        if !allowed {
            events::reply_ignored(request.as_str());
        }
        allowed.then_some(queue)
    }

    async fn publish(&self, turn: &DeliveryContext<'_>, message: Outgoing<'_>) -> Result<(), RequeueReason> {
        let mut waits = None;
        loop {
            let Err(error) = self.publisher.publish(message).await else {
                return Ok(());
            };
            let wait = waits.get_or_insert_with(outage_waits).next().expect("the waits have no end");
            events::publish_failed(&error, Some(wait));
            turn.sleep(wait, CancelOn::DeliveryLost).await?;
        }
    }

    /// Answers a body that is no request; one that cannot be attributed to any is set aside.
    pub(super) async fn reject_unacceptable(
        &self,
        turn: &DeliveryContext<'_>,
        unacceptable: &Unacceptable,
    ) -> Result<(), RequeueReason> {
        let fault = unacceptable.fault.by(self.channel).to_string();
        let Some(request) = &unacceptable.request_id else {
            return self.dead_letter(turn, "unattributable", &fault, None).await;
        };
        let purpose = unacceptable.purpose.clone().unwrap_or_default();
        let error = OutcomeError::detailed(ErrorCode::InvalidRequest, fault);
        let outcome = Outcome::refused(Status::Rejected, self.clock.now(), purpose.as_str(), error);
        self.publish_result(
            turn,
            &RequestResult { request, to: UNREADABLE, outcome: &outcome, replayed: false },
        )
        .await
    }

    /// Ends a request that made the worker panic again and again: the result first, then the message set aside.
    pub(super) async fn dead_letter_poison(&self, turn: &DeliveryContext<'_>) -> Result<(), RequeueReason> {
        let (delivery, now) = (turn.delivery, self.clock.now());
        let poison = PoisonCause::Panic;
        let failed = |purpose: &str| {
            let mut outcome =
                Outcome::refused(Status::Failed, now, purpose, OutcomeError::of(ErrorCode::Internal));
            outcome.history.add(now, HistoryEvent::DeadLettered(poison));
            outcome
        };
        let ended = match SendRequest::decode(&delivery.body, delivery.properties.timestamp) {
            Ok(request) => {
                let purpose = request.purpose.as_str();
                let (to, outcome) = match self.judge(&request) {
                    Ok(case) => {
                        let mut failed = failed(purpose);
                        failed.history.to = case.to.to_string();
                        (case.to.to_string(), self.complete_poison(turn, &case, failed).await?)
                    }
                    Err(refusal) => (refusal.to, failed(purpose)),
                };
                let answer =
                    RequestResult { request: &request.id, to: &to, outcome: &outcome, replayed: false };
                self.publish_result(turn, &answer).await?;
                Some((request.id, outcome.status))
            }
            Err(refused) => match *refused {
                Unacceptable { request_id: Some(request), purpose, .. } => {
                    let outcome = failed(purpose.unwrap_or_default().as_str());
                    let answer = RequestResult {
                        request: &request,
                        to: UNREADABLE,
                        outcome: &outcome,
                        replayed: false,
                    };
                    self.publish_result(turn, &answer).await?;
                    Some((request, outcome.status))
                }
                _ => None,
            },
        };
        self.dead_letter(turn, poison.as_str(), poison.message(), ended).await
    }

    /// A handling that panicked may have sent the message before: only where the store knows of no send has it failed.
    async fn complete_poison(
        &self,
        turn: &DeliveryContext<'_>,
        case: &ValidRequest<'_>,
        failed: Outcome,
    ) -> Result<Outcome, RequeueReason> {
        let handling = Lease { token: random_id(), ..case.handling(turn) };
        let error = Some(OutcomeError::of(ErrorCode::InDoubt));
        let unknown = Outcome { status: Status::Unknown, error, ..failed.clone() };
        for outcome in [failed, unknown] {
            let settle = CompleteRequest {
                lease: handling,
                outcome: &outcome,
                refund: Refund::None,
                found_by_lookup: false,
                suppression: None,
                receipt_due: None,
            };
            match turn.retry_store("settle", CancelOn::DeliveryLost, || self.store.complete(&settle)).await? {
                CompleteResult::Recorded => return Ok(outcome),
                CompleteResult::AlreadyCompleted(before) => return Ok(before),
                CompleteResult::NotOwner | CompleteResult::MessageClaimed => {}
            }
        }
        Err(RequeueReason::TakenOver)
    }

    pub(super) async fn dead_letter(
        &self,
        turn: &DeliveryContext<'_>,
        reason: &'static str,
        error: &str,
        ended: Option<(RequestId, Status)>,
    ) -> Result<(), RequeueReason> {
        let delivery = turn.delivery;
        let message_id = format!("dead:{:016x}", turn.owner);
        let contents = DeadLetterBody::of(
            &delivery.body,
            &message_id,
            self.recipients.dead_letter_key(),
            random_nonce(),
        );
        let body = serde_json::to_vec(&contents).expect("a letter is plain data");
        let message = Outgoing {
            target: Target::Dead(DeadHeaders {
                channel: self.channel,
                reason,
                error,
                delivery_count: delivery.properties.delivery_count,
                requested_at: delivery.properties.timestamp,
                request_id: ended.as_ref().map(|(request, _)| request.as_str()),
                status: ended.as_ref().map(|(_, status)| status.as_str()),
            }),
            body: &body,
            message_id: &message_id,
            correlation_id: delivery.properties.correlation_id.as_deref(),
            at: self.clock.now(),
            traceparent: delivery.properties.traceparent.as_deref(),
        };
        self.publish(turn, message).await?;
        events::dead_lettered(reason, error);
        Ok(())
    }
}

/// What a refusal stops, by the names of the store, and the masked recipient that is shown for it. A number of no country
/// stops none.
pub(super) fn new_suppression<'a>(
    stop: Suppression,
    country: Option<&'a str>,
    shown: &'a str,
) -> Option<NewSuppression<'a>> {
    let what = match stop.scope {
        SuppressionScope::Recipient => SuppressionTarget::Recipient,
        SuppressionScope::Country => SuppressionTarget::Country(country?),
    };
    Some(NewSuppression { target: what, code: stop.code, duration: stop.duration, masked: shown })
}

/// Chance for one sealed body.
fn random_nonce() -> [u8; NONCE_BYTES] {
    let mut nonce = [0; NONCE_BYTES];
    getrandom::fill(&mut nonce).expect("the operating system gives random bytes");
    nonce
}

/// What is not the recipient's doing is given back without being counted against it.
fn refund(outcome: &Outcome) -> Refund {
    let refused = outcome.error.as_ref().is_some_and(|error| error.code == ErrorCode::ProviderRejected);
    match outcome.status {
        Status::Sent | Status::Unknown => Refund::None,
        Status::Failed if refused => Refund::Counted,
        Status::Failed | Status::Rejected => Refund::Free,
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

/// Does a rule allow a name? A rule is the name itself, or its beginning and a `*`.
fn matches(rule: &str, name: &str) -> bool {
    match rule.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => name == rule,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_a_name_or_a_beginning() {
        assert!(matches("amq.gen-*", "amq.gen-x") && matches("reply.a", "reply.a"));
        assert!(!matches("reply.a", "reply.ab") && !matches("amq.gen-*", "otpost.send-sms"));
    }
}
