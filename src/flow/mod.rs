//! What happens to a request, in the order in which it happens. Read this page first.
//!
//! A delivery is [received](receive), its request judged and [admitted](admit), its message [dispatched](dispatch),
//! and its outcome [settled](settle): recorded, published and confirmed, and only then acknowledged. The other
//! entrance is [verify]: a code that a person typed.
//!
//! `Ok` is an answer: the caller gets a result. `GiveBack` means that the broker keeps the message.
//! Not here: what RabbitMQ, Redis or Twilio are. The flow knows three seams and no adapter.

pub mod admit;
pub mod dispatch;
pub mod receive;
pub mod reply;
pub mod settle;
pub mod verify;

use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

use self::admit::{Admitted, Rules};
use self::receive::{GiveBack, Turn};
use self::reply::Replies;
use self::settle::Answer;
use crate::broker::{Names, Publisher};
use crate::clock::Clock;
use crate::domain::code::{CodeKeyring, CodeLength};
use crate::domain::outcome::{Outcome, Status};
use crate::domain::recipient::RecipientKeyring;
use crate::domain::request::SendRequest;
use crate::domain::retry::RetryPolicy;
use crate::provider::Provider;
use crate::store::{Limits, Store};
use crate::text::Texts;

/// Sends what it is asked to send. Shared by everything in flight.
pub struct Gateway {
    /// What all workers share.
    pub store: Arc<dyn Store>,
    /// Who carries the messages.
    pub provider: Arc<dyn Provider>,
    /// Where results go.
    pub publisher: Arc<dyn Publisher>,
    /// Copies of results for callers' own queues.
    pub replies: Replies,
    /// What messages say.
    pub texts: Texts,
    /// What codes are made with.
    pub codes: Arc<CodeKeyring>,
    /// What recipients are called in the store.
    pub recipients: Arc<RecipientKeyring>,
    /// Whom we send to.
    pub rules: Rules,
    /// Everything that has a number.
    pub policy: Policy,
    /// The names of our own exchanges and queues.
    pub names: Names,
    /// What time it is.
    pub clock: Clock,
}

/// The numbers of the flow.
#[derive(Clone, Debug)]
pub struct Policy {
    /// What is allowed.
    pub limits: Limits,
    /// A code's life.
    pub code_life: Duration,
    /// Digits of a code.
    pub code_length: CodeLength,
    /// How sends are tried again.
    pub retry: RetryPolicy,
    /// The longest wait for a provider's answer.
    pub provider_timeout: Duration,
    /// Reply queues that may be used: names, or prefixes that end in `*`.
    pub reply_to_allowed: Vec<String>,
}

impl Gateway {
    /// Handles one delivery until its result is confirmed.
    async fn process(&self, turn: &mut Turn<'_>) -> Result<(), GiveBack> {
        let delivery = turn.delivery;
        let request = match SendRequest::decode(&delivery.body, delivery.properties.timestamp) {
            Ok(request) => request,
            Err(unacceptable) => return self.answer_unacceptable(turn, &unacceptable).await,
        };
        let case = match self.judge(&request) {
            Ok(case) => case,
            Err(refusal) => {
                let outcome = Outcome::refused(
                    Status::Rejected,
                    self.clock.now(),
                    request.purpose.as_str(),
                    refusal.error,
                );
                let answer =
                    Answer { request: &request.id, to: &refusal.to, outcome: &outcome, replayed: false };
                return self.announce(turn, &answer).await;
            }
        };
        let (outcome, replayed) = match self.admit(turn, &case).await? {
            Admitted::Send(leave) => {
                self.settle(turn, &case, self.dispatch(turn, &case, leave).await?).await?
            }
            Admitted::Doubt(grant) => self.settle(turn, &case, self.doubted(&case, &grant)).await?,
            Admitted::NoCode { grant, error } => {
                self.settle(turn, &case, self.failed(&case, &grant, error)).await?
            }
            Admitted::Ended { outcome, replayed } => (outcome, replayed),
        };
        let answer = Answer { request: &request.id, to: &case.to.to_string(), outcome: &outcome, replayed };
        self.announce(turn, &answer).await
    }
}

/// How long to wait between tries while a server is gone: growing to five seconds, with chance, without end.
fn outage_waits() -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(100))
        .with_max_delay(Duration::from_secs(3))
        .with_jitter()
        .without_max_times()
        .build()
}

/// 64 bits of chance, to name a handling or a check.
fn random_id() -> u64 {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
    u64::from_ne_bytes(bytes)
}
