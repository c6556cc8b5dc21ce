//! What happens to a request, in the order in which it happens. Read this page first.
//!
//! A delivery is [received](receive), its request judged and [admitted](admit), its message [dispatched](dispatch),
//! and its outcome [settled](settle): recorded, published and confirmed, and only then acknowledged. Between a message
//! and the provider stands a [gate]; what may have been sent is [looked up](doubt) before it is sent again. The other
//! entrances are [verify], a code that a person typed, and [track], what the provider reports by itself. [`tend`] is
//! what happens beside, whether or not there are requests; [`explain`] tells afterwards what happened to one, and
//! [`inspect`] how everything stands.
//!
//! `Ok` is an answer: the caller gets a result. `GiveBack` means that the broker keeps the message.
//! Not here: what RabbitMQ, Redis or Twilio are. The flow knows three seams and no adapter.

pub mod admit;
pub mod complete;
pub mod dispatch;
pub mod explain;
pub mod inspect;
pub mod maintenance;
pub mod receipts;
pub mod reconcile;
pub mod reply;
pub mod send_gate;
pub mod verify;
pub mod worker;

use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

use self::admit::{Admitted, Rules};
use self::complete::{Completed, RequestResult};
use self::reply::Replies;
use self::send_gate::SendGate;
use self::worker::{DeliveryContext, RequeueReason};
use crate::broker::{Names, Publisher};
use crate::clock::Clock;
use crate::domain::channel::Channel;
use crate::domain::code::{CodeKeyring, CodeLength};
use crate::domain::limit::Limits;
use crate::domain::message_match::InDoubtPolicy;
use crate::domain::outcome::{Outcome, Status};
use crate::domain::recipient_keyring::RecipientKeyring;
use crate::domain::request::SendRequest;
use crate::domain::retry::RetryPolicy;
use crate::provider::Provider;
use crate::store::Store;
use crate::text::Texts;

/// Sends what it is asked to send. Shared by everything in flight.
pub struct Gateway {
    /// How its messages travel. Each channel has a gateway of its own, so that none waits for another's provider.
    pub channel: Channel,
    /// What all workers share.
    pub store: Arc<dyn Store>,
    /// Who carries the messages.
    pub provider: Arc<dyn Provider>,
    /// Where results go.
    pub publisher: Arc<dyn Publisher>,
    /// What stands between a message and the provider.
    pub gate: SendGate,
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
    /// What is done about a send whose answer was lost.
    pub in_doubt: InDoubtPolicy,
    /// How long a report is waited for that may settle a send in doubt, where the provider reports but shows nothing of
    /// its messages.
    pub doubt_report_wait: Duration,
    /// When the provider is asked what became of a message, if it has not said so by itself; never, if not told.
    pub receipt_due_after: Option<Duration>,
    /// Reply queues that may be used: names, or prefixes that end in `*`.
    pub reply_to_allowed: Vec<String>,
}

impl Gateway {
    /// Handles one delivery until its result is confirmed.
    async fn process(&self, turn: &mut DeliveryContext<'_>) -> Result<(), RequeueReason> {
        let delivery = turn.delivery;
        let request = match SendRequest::decode(&delivery.body, delivery.properties.timestamp) {
            Ok(request) => request,
            Err(unacceptable) => return self.reject_unacceptable(turn, &unacceptable).await,
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
                let answer = RequestResult {
                    request: &request.id,
                    to: &refusal.to,
                    outcome: &outcome,
                    replayed: false,
                };
                return self.publish_result(turn, &answer).await;
            }
        };
        let ended = match self.admit(turn, &case).await? {
            Admitted::Send(leave) => {
                let mut sending = self.begin(&case, leave);
                loop {
                    let end = self.dispatch(turn, &case, &mut sending).await?;
                    match self.complete(turn, &case, end).await? {
                        Ok(ended) => break ended,
                        // The message that was found is another request's: look again.
                        Err(message_id) => sending.doubt.rule_out(message_id),
                    }
                }
            }
            Admitted::Abandon(end) => self.complete(turn, &case, end).await?.expect("nothing was found"),
            Admitted::Completed(ended) => ended,
        };
        let Completed { outcome, replayed } = &ended;
        let (request, to) = (&request.id, &case.to.to_string());
        self.publish_result(turn, &RequestResult { request, to, outcome, replayed: *replayed }).await?;
        // Who ended it may have died before its message was set aside. Twice is better than never.
        match outcome.history.dead_lettered() {
            Some(poison) if !replayed || delivery.properties.redelivered => {
                let ended = Some((request.clone(), outcome.status));
                self.dead_letter(turn, poison.as_str(), poison.message(), ended).await
            }
            _ => Ok(()),
        }
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
