//! Has the provider delete the texts of messages to people whom an operator has forgotten. The store keeps the list, so any worker goes on
//! where another has stopped.

use std::time::Duration;

use super::gateway::ChannelGateway;
use super::providers::SendingProvider;
use crate::provider::{LookupError, Redacted};
use crate::store::forget::{Redaction, RedactionEnd};
use crate::telemetry::events;

/// With [`BATCH`] messages a round, far below what an account may ask.
const ROUND_EVERY: Duration = Duration::from_secs(5);
const BATCH: u32 = 5;
/// A later answer of the store counts as none.
const STORE_TIMEOUT: Duration = Duration::from_millis(500);
/// A message on its way has left soon. Missing permissions take an operator.
const LONG_WAIT: Duration = Duration::from_secs(600);
const UNANSWERED_WAIT: Duration = Duration::from_secs(60);

impl ChannelGateway {
    pub(super) async fn redact_messages(&self) {
        if self.redacting().next().is_none() {
            return;
        }
        loop {
            // ±25 % keep workers apart.
            tokio::time::sleep(ROUND_EVERY.mul_f64(0.75 + fastrand::f64() / 2.0)).await;
            let is_reachable = self.redacting().any(|one| !one.gate.is_breaker_open());
            if self.gate.store_silence().is_none() && is_reachable {
                self.redact_some().await;
            }
        }
    }

    /// Messages that an error leaves undone come again.
    async fn redact_some(&self) {
        let take = self.store.take_redactions(BATCH);
        let Ok(Ok(taken)) = tokio::time::timeout(STORE_TIMEOUT, take).await else { return };
        for redaction in taken {
            let (end, is_answered) = self.redact(&redaction).await;
            let ended = self.store.end_redaction(&redaction, end);
            let is_recorded = matches!(tokio::time::timeout(STORE_TIMEOUT, ended).await, Ok(Ok(())));
            // The provider would not answer for the next one either.
            if !is_answered || !is_recorded {
                return;
            }
        }
    }

    fn redacting(&self) -> impl Iterator<Item = &SendingProvider> {
        self.providers.all().iter().filter(|one| one.provider.redacts())
    }

    /// The job does not name the provider of a message: each is asked that does not know it.
    async fn redact(&self, redaction: &Redaction) -> (RedactionEnd, bool) {
        let id = &redaction.message_id;
        let mut answer = Err(LookupError::NotFound);
        for one in self.redacting() {
            // A message is read before it is redacted.
            let call = tokio::time::timeout(2 * self.policy.provider_call_max(), one.provider.redact(id));
            let unanswered = || Err(LookupError::Unanswered("no answer in time".to_owned()));
            answer = call.await.unwrap_or_else(|_| unanswered());
            events::message_redaction_tried(one.name(), id, answer.as_ref().err());
            if answer != Err(LookupError::NotFound) {
                break;
            }
        }
        match answer {
            Ok(Redacted::Done) | Err(LookupError::NotFound) => (RedactionEnd::Done, true),
            Ok(Redacted::TooEarly) => (RedactionEnd::Later(LONG_WAIT), true),
            Err(LookupError::Unanswered(_)) => (RedactionEnd::Later(UNANSWERED_WAIT), false),
            Err(LookupError::Refused { .. }) => (RedactionEnd::Later(LONG_WAIT), false),
        }
    }
}
