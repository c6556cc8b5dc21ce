//! Step 3: the outcome is recorded, its result published, and the broker's confirm awaited.

use super::admit::{Case, UNREADABLE};
use super::receive::{GiveBack, Turn, Until};
use super::{Gateway, outage_waits, random_id};
use crate::broker::{DeadHeaders, Outgoing, Target};
use crate::domain::block::{Block, Blocked, Stop, Stopped};
use crate::domain::challenge::ChallengeId;
use crate::domain::channel::Channel;
use crate::domain::dead_letter::Contents;
use crate::domain::outcome::{ErrorCode, Outcome, OutcomeError, SendResult, Status};
use crate::domain::request::{SendRequest, Unacceptable};
use crate::domain::request_id::RequestId;
use crate::domain::sealed::NONCE_BYTES;
use crate::domain::trail::{Event, Poison};
use crate::store::{Handling, Refund, Settle, Settled};
use crate::telemetry::events;

/// What a caller is told.
pub(super) struct Answer<'a> {
    pub(super) request: &'a RequestId,
    /// The recipient, masked.
    pub(super) to: &'a str,
    pub(super) outcome: &'a Outcome,
    pub(super) replayed: bool,
}

/// How a request ends, and what follows from that.
pub(super) struct End {
    pub(super) outcome: Outcome,
    /// Its message was found by looking for it.
    pub(super) found: bool,
    /// The provider refused more than the message.
    pub(super) stop: Option<Stop>,
    /// The challenge whose code the provider has made, and under which name it checks that.
    pub(super) verification: Option<(ChallengeId, String)>,
}

impl End {
    pub(super) fn of(outcome: Outcome) -> End {
        End { outcome, found: false, stop: None, verification: None }
    }
}

/// How a request has ended.
pub(super) struct Ended {
    pub(super) outcome: Outcome,
    /// It was ended by another handling.
    pub(super) replayed: bool,
}

impl Gateway {
    /// Records the outcome. Another one that was recorded before it stays, and is the answer. A message that was found
    /// but is another request's is an error, which names it.
    pub(super) async fn settle(
        &self,
        turn: &Turn<'_>,
        case: &Case<'_>,
        end: End,
    ) -> Result<Result<Ended, String>, GiveBack> {
        let End { outcome, found, stop, verification } = end;
        let country = case.to.country();
        let shown = case.to.to_string();
        let asked_about = self.channel.is_asked_about();
        let settle = Settle {
            handling: case.handling(turn),
            outcome: &outcome,
            refund: refund(&outcome),
            found,
            block: stop.and_then(|stop| stop_to_block(stop, country.as_deref(), &shown)),
            receipt_due: self.policy.receipt_due.filter(|_| asked_about && outcome.status == Status::Sent),
        };
        match turn.asked("settle", Until::Recorded, || self.store.settle(&settle)).await? {
            Settled::AsSaid => {
                if let Some((challenge, name)) = verification {
                    let subject = &settle.handling.subject;
                    let name = || self.store.name_challenge(subject, &challenge, &name);
                    turn.asked("name_challenge", Until::Recorded, name).await?;
                }
                Ok(Ok(Ended { outcome, replayed: false }))
            }
            Settled::Before(outcome) => Ok(Ok(Ended { outcome, replayed: true })),
            Settled::Held => Err(GiveBack::TakenOver),
            Settled::Taken => Ok(Err(outcome.provider_message_id.unwrap_or_default())),
        }
    }

    /// Publishes a result, to its reply queue too where that is allowed, and waits until the broker has it.
    pub(super) async fn announce(&self, turn: &Turn<'_>, answer: &Answer<'_>) -> Result<(), GiveBack> {
        let Answer { request, to, outcome, replayed } = answer;
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
        events::request_ended(self.channel, request.as_str(), to, outcome, *replayed, turn.taken.elapsed());
        Ok(())
    }

    fn reply_queue<'a>(&self, turn: &Turn<'a>, request: &RequestId) -> Option<&'a str> {
        let queue = turn.delivery.properties.reply_to.as_deref()?;
        let allowed = !self.names.is_ours(queue)
            && self.policy.reply_to_allowed.iter().any(|rule| matches(rule, queue));
        if !allowed {
            events::reply_ignored(request.as_str());
        }
        allowed.then_some(queue)
    }

    async fn publish(&self, turn: &Turn<'_>, message: Outgoing<'_>) -> Result<(), GiveBack> {
        let mut waits = None;
        loop {
            let Err(error) = self.publisher.publish(message).await else {
                return Ok(());
            };
            let wait = waits.get_or_insert_with(outage_waits).next().expect("the waits have no end");
            events::publish_failed(&error, Some(wait));
            turn.rest(wait, Until::Told).await?;
        }
    }

    /// Answers a body that is no request; one that cannot be attributed to any is set aside.
    pub(super) async fn answer_unacceptable(
        &self,
        turn: &Turn<'_>,
        unacceptable: &Unacceptable,
    ) -> Result<(), GiveBack> {
        let fault = unacceptable.fault.by(self.channel).to_string();
        let Some(request) = &unacceptable.request_id else {
            return self.set_aside(turn, "unattributable", &fault, None).await;
        };
        let purpose = unacceptable.purpose.clone().unwrap_or_default();
        let error = OutcomeError::detailed(ErrorCode::InvalidRequest, fault);
        let outcome = Outcome::refused(Status::Rejected, self.clock.now(), purpose.as_str(), error);
        self.announce(turn, &Answer { request, to: UNREADABLE, outcome: &outcome, replayed: false }).await
    }

    /// Ends a request that made the worker panic again and again: the result first, then the message set aside.
    pub(super) async fn set_aside_poison(&self, turn: &Turn<'_>) -> Result<(), GiveBack> {
        let (delivery, now) = (turn.delivery, self.clock.now());
        let poison = Poison::Panic;
        let failed = |purpose: &str| {
            let mut outcome =
                Outcome::refused(Status::Failed, now, purpose, OutcomeError::of(ErrorCode::Internal));
            outcome.notes.add(now, Event::SetAside(poison));
            outcome
        };
        let ended = match SendRequest::decode(&delivery.body, delivery.properties.timestamp) {
            Ok(request) => {
                let purpose = request.purpose.as_str();
                let (to, outcome) = match self.judge(&request) {
                    Ok(case) => {
                        let mut failed = failed(purpose);
                        failed.notes.to = case.to.to_string();
                        (case.to.to_string(), self.settle_poison(turn, &case, failed).await?)
                    }
                    Err(refusal) => (refusal.to, failed(purpose)),
                };
                let answer = Answer { request: &request.id, to: &to, outcome: &outcome, replayed: false };
                self.announce(turn, &answer).await?;
                Some((request.id, outcome.status))
            }
            Err(refused) => match *refused {
                Unacceptable { request_id: Some(request), purpose, .. } => {
                    let outcome = failed(purpose.unwrap_or_default().as_str());
                    let answer =
                        Answer { request: &request, to: UNREADABLE, outcome: &outcome, replayed: false };
                    self.announce(turn, &answer).await?;
                    Some((request, outcome.status))
                }
                _ => None,
            },
        };
        self.set_aside(turn, poison.as_str(), poison.message(), ended).await
    }

    /// A handling that panicked may have sent the message before: only where the store knows of no send has it failed.
    async fn settle_poison(
        &self,
        turn: &Turn<'_>,
        case: &Case<'_>,
        failed: Outcome,
    ) -> Result<Outcome, GiveBack> {
        let handling = Handling { owner: random_id(), ..case.handling(turn) };
        let error = Some(OutcomeError::of(ErrorCode::InDoubt));
        let unknown = Outcome { status: Status::Unknown, error, ..failed.clone() };
        for outcome in [failed, unknown] {
            let settle = Settle {
                handling,
                outcome: &outcome,
                refund: Refund::None,
                found: false,
                block: None,
                receipt_due: None,
            };
            match turn.asked("settle", Until::Told, || self.store.settle(&settle)).await? {
                Settled::AsSaid => return Ok(outcome),
                Settled::Before(before) => return Ok(before),
                Settled::Held | Settled::Taken => {}
            }
        }
        Err(GiveBack::TakenOver)
    }

    pub(super) async fn set_aside(
        &self,
        turn: &Turn<'_>,
        reason: &'static str,
        error: &str,
        ended: Option<(RequestId, Status)>,
    ) -> Result<(), GiveBack> {
        let delivery = turn.delivery;
        let message_id = format!("dead:{:016x}", turn.owner);
        let contents = Contents::of(&delivery.body, &message_id, self.recipients.letters(), random_nonce());
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
        events::set_aside(reason, error);
        Ok(())
    }
}

/// What a refusal stops, by the names of the store, and the masked recipient that is shown for it. A number of no country
/// stops none.
pub(super) fn stop_to_block<'a>(stop: Stop, country: Option<&'a str>, shown: &'a str) -> Option<Block<'a>> {
    let what = match stop.what {
        Stopped::Recipient => Blocked::Recipient,
        Stopped::Country => Blocked::Country(country?),
    };
    Some(Block { what, code: stop.code, lasts: stop.lasts, shown })
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
