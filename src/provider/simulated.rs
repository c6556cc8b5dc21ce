//! The simulator: it shows messages instead of sending them, and the recipient's number chooses the result.
//!
//! Each message is one block on the console, written at once. The block, and the page of `otpost dev`, are the only places
//! of the gateway that show a code. So the simulator is for development: only `app/provider_choice.rs` makes one, and only
//! if `ENVIRONMENT` is `development`. A message that is not sent is not shown.
//!
//! The same seed gives the same message ids in the same order. The check of credentials succeeds while the provider lives.
//!
//! A simulator serves one channel, and refuses an address of the other as a real provider does.
//!
//! Every message is accepted and its receipt says delivered a second later, except to `+57 300 555 xxxx`, whose last
//! four digits choose:
//!
//! | digits | the send | the receipts |
//! |---|---|---|
//! | `0000` | accepted | `delivered` after 1 s, as of any number |
//! | `0001` | accepted | `delivered` after 60 s |
//! | `0002` | accepted | out of order: `delivered`, `sent`, `queued`, `delivered` again, a second apart |
//! | `0408` | times out, but the message is sent: a lookup finds it | `delivered` after 30 s |
//! | `0429` | throttled twice (20429, wait 2 s), then accepted | `delivered` after 1 s |
//! | `0430` | throttled once (20429, wait 60 s), then accepted | `delivered` after 1 s |
//! | `0503` | cannot be reached twice, then accepted | `delivered` after 1 s |
//! | `0504` | times out once with nothing sent, then accepted | `delivered` after 1 s |
//! | `0505` | always times out with nothing sent | none |
//! | `0900` | the provider dies for a minute: times out once with nothing sent, then accepted | `delivered` after 1 s |
//! | `0901` | the provider dies for a minute: times out, but the message is sent | `delivered` after 70 s |
//! | `1408` | refused: the country is not switched on (21408) | none |
//! | `1610` | refused: the recipient opted out (21610) | none |
//! | `1614` | refused: not a mobile number (21614) | none |
//! | `3003` | accepted | `undelivered` (30003: the phone is off or away) after 1 s |
//! | `3005` | accepted | `undelivered` (30005: no such phone) after 1 s |
//! | `3007` | accepted | `undelivered` (30007: filtered by the operator) after 1 s |
//!
//! A dead provider loses the messages to all recipients, answers no lookup and no check of its account. A [stand-in] never dies and accepts
//! what makes another provider die or wait for a minute.
//!
//! [stand-in]: SimulatedProvider::standing_in
//!
//! Receipts need a listener, and like those of a real provider they can be lost: with the process, or when too many are
//! due. Only the newest messages and attempts are remembered.

mod life;
mod script;

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::{Semaphore, mpsc};

use self::life::Life;
use self::script::{Plan, Step, kills, plan, plan_of_stand_in, scripted, timed_out};
use crate::clock::Clock;
use crate::domain::address::Address;
use crate::domain::channel::Channel;
use crate::domain::code::Code;
use crate::domain::printable::is_printable;
use crate::domain::receipt::{DeliveryStatus, merge};
use crate::domain::request_id::RequestId;
use crate::domain::send_failure::{RefusalReason, SendFailure};
use crate::domain::time::UnixMillis;
use crate::provider::{
    Accepted, CredentialError, DeliveryReceipt, FetchedMessage, LOOKUP_UNSUPPORTED, LookupError, Message,
    MessageObserver, Provider, ProviderMessage, WRONG_CHANNEL,
};

/// For development only: see the module.
pub struct SimulatedProvider {
    name: &'static str,
    channel: Channel,
    seed: u64,
    writes_texts: bool,
    sent: AtomicU64,
    clock: Clock,
    /// `None` of a stand-in.
    life: Option<Life>,
    output: Mutex<Box<dyn Write + Send>>,
    memory: Mutex<Memory>,
    listener: Mutex<Option<mpsc::Sender<DeliveryReceipt>>>,
    observer: Mutex<Option<Arc<dyn MessageObserver>>>,
    /// Permits of receipts that are due later.
    receipts_due: Arc<Semaphore>,
}

const RULER_WIDTH: usize = 60;
const MARGIN: &str = "   ";
/// The number of messages that a lookup can find, and of requests whose attempts are counted.
const REMEMBERED_MAX: usize = 1_000;
const NO_ANSWER: &str = "no answer in time (simulated)";
/// Receipts due at the same time; those of further messages are lost.
const RECEIPTS_DUE_MAX: usize = 10_000;

/// The messages sent, and the attempts of scripted requests. It holds texts, hence no `Debug`.
#[derive(Default)]
struct Memory {
    sent: VecDeque<Sent>,
    attempts: VecDeque<Attempts>,
}

struct Sent {
    to: Address,
    shown: ProviderMessage,
    steps: &'static [Step],
}

struct Attempts {
    request_id: RequestId,
    to: Address,
    count: u32,
}

impl SimulatedProvider {
    /// Shows messages on the standard output.
    pub fn on_stdout(channel: Channel) -> SimulatedProvider {
        SimulatedProvider::new(channel, fastrand::u64(..), Clock::System, Box::new(io::stdout()))
    }

    /// Shows each message by one write to `output`.
    pub fn new(
        channel: Channel,
        seed: u64,
        clock: Clock,
        output: Box<dyn Write + Send>,
    ) -> SimulatedProvider {
        SimulatedProvider {
            name: "simulated",
            channel,
            seed,
            writes_texts: false,
            sent: AtomicU64::new(0),
            clock,
            life: Some(Life::new(clock)),
            output: Mutex::new(output),
            memory: Mutex::default(),
            listener: Mutex::default(),
            observer: Mutex::default(),
            receipts_due: Arc::new(Semaphore::new(RECEIPTS_DUE_MAX)),
        }
    }

    /// Simulates a provider that writes the texts: requests that choose a text are refused. The codes are still ours.
    pub fn writing_texts(self, writes_texts: bool) -> SimulatedProvider {
        SimulatedProvider { writes_texts, ..self }
    }

    /// Simulates another provider beside the one that can die.
    pub fn standing_in(self) -> SimulatedProvider {
        SimulatedProvider { name: "standin", life: None, ..self }
    }

    fn is_dead(&self) -> bool {
        self.life.as_ref().is_some_and(Life::is_over)
    }

    fn plan(&self, message: &Message<'_>) -> Plan {
        let nth = if scripted(message.to).is_some() { lock(&self.memory).count(message) } else { 1 };
        let Some(life) = &self.life else { return plan_of_stand_in(message.to, nth) };
        let was_over = life.is_over();
        if kills(message.to, nth) {
            life.end();
        }
        match was_over {
            true => Plan { failure: Some(timed_out()), sent: None },
            false => plan(message.to, nth),
        }
    }

    /// Sends receipts to a listener from now on, and waits for a slow listener.
    pub fn on_receipts(&self, listener: mpsc::Sender<DeliveryReceipt>) {
        *lock(&self.listener) = Some(listener);
    }

    /// Passes each message to an observer from now on.
    pub fn on_messages(&self, observer: Arc<dyn MessageObserver>) {
        *lock(&self.observer) = Some(observer);
    }

    fn show(&self, message: &Message<'_>) -> io::Result<()> {
        let block = block(message, self.clock);
        let mut output = lock(&self.output);
        output.write_all(block.as_bytes())?;
        output.flush()
    }

    /// Shows the message, remembers it and schedules its receipts.
    fn deliver(&self, message: &Message<'_>, steps: &'static [Step]) -> Result<String, SendFailure> {
        let hidden = |_| SendFailure::NotConnected { detail: "the console cannot be written to".to_owned() };
        self.show(message).map_err(hidden)?;
        let number = self.sent.fetch_add(1, Ordering::Relaxed);
        let kind = match self.channel {
            Channel::Sms => "SM",
            Channel::Email => "EM",
        };
        let message_id = format!("{kind}{:016x}{number:016x}", self.seed);
        let shown = ProviderMessage {
            message_id: message_id.clone(),
            created: self.clock.now(),
            text: Some(message.body.to_owned()),
            segments: None,
            verification_sid: None,
        };
        if let Some(observer) = &*lock(&self.observer) {
            observer.shown(message, shown.created);
        }
        lock(&self.memory).keep(Sent { to: message.to.clone(), shown, steps });
        self.schedule_receipts(message, &message_id, steps);
        Ok(message_id)
    }

    fn schedule_receipts(&self, message: &Message<'_>, message_id: &str, steps: &[Step]) {
        let Some(listener) = lock(&self.listener).clone() else {
            return;
        };
        for step in steps {
            let Ok(room) = Arc::clone(&self.receipts_due).try_acquire_owned() else {
                return;
            };
            let receipt = DeliveryReceipt {
                request_id: message.request_id.clone(),
                to: message.to.clone(),
                message_id: message_id.to_owned(),
                status: step.status,
                provider_code: step.code,
                reason: step.reason,
            };
            let (listener, after) = (listener.clone(), step.after);
            tokio::spawn(async move {
                tokio::time::sleep(after).await;
                // Without a listener the receipt is lost.
                let _ = listener.send(receipt).await;
                drop(room);
            });
        }
    }
}

impl Memory {
    fn keep(&mut self, sent: Sent) {
        if self.sent.len() == REMEMBERED_MAX {
            self.sent.pop_front();
        }
        self.sent.push_back(sent);
    }

    /// The number of this attempt, from 1: the caller's, or our own count if the caller repeats a number.
    fn count(&mut self, message: &Message<'_>) -> u32 {
        let seen =
            self.attempts.iter_mut().find(|t| t.request_id == *message.request_id && t.to == *message.to);
        if let Some(attempts) = seen {
            attempts.count = attempts.count.saturating_add(1).max(message.attempt);
            return attempts.count;
        }
        if self.attempts.len() == REMEMBERED_MAX {
            self.attempts.pop_front();
        }
        let count = message.attempt.max(1);
        self.attempts.push_back(Attempts {
            request_id: message.request_id.clone(),
            to: message.to.clone(),
            count,
        });
        count
    }
}

#[async_trait]
impl Provider for SimulatedProvider {
    fn name(&self) -> &'static str {
        self.name
    }

    fn writes_texts(&self) -> bool {
        self.writes_texts
    }

    async fn send(&self, message: &Message<'_>) -> Result<Accepted, SendFailure> {
        if message.to.channel() != self.channel {
            return Err(WRONG_CHANNEL);
        }
        let Plan { failure, sent } = self.plan(message);
        let message_id = sent.map(|steps| self.deliver(message, steps)).transpose()?;
        match failure {
            Some(failure) => Err(failure),
            None => Ok(Accepted { message_id, segments: None, verification_sid: None }),
        }
    }

    async fn check_credentials(&self) -> Result<(), CredentialError> {
        match self.is_dead() {
            true => Err(CredentialError::Unanswered(NO_ANSWER.to_owned())),
            false => Ok(()),
        }
    }

    async fn find(&self, to: &Address, since: UnixMillis) -> Result<Vec<ProviderMessage>, LookupError> {
        if to.channel() != self.channel {
            return Err(LOOKUP_UNSUPPORTED);
        }
        if self.is_dead() {
            return Err(LookupError::Unanswered(NO_ANSWER.to_owned()));
        }
        let memory = lock(&self.memory);
        let theirs = memory.sent.iter().filter(|sent| sent.to == *to && sent.shown.created >= since);
        Ok(theirs.map(|sent| sent.shown.clone()).collect())
    }

    async fn fetch(&self, message_id: &str) -> Result<FetchedMessage, LookupError> {
        if self.is_dead() {
            return Err(LookupError::Unanswered(NO_ANSWER.to_owned()));
        }
        let memory = lock(&self.memory);
        let sent = memory.sent.iter().find(|sent| sent.shown.message_id == message_id);
        let sent = sent.ok_or(LookupError::NotFound)?;
        let age = self.clock.now().since(sent.shown.created);
        let reached = sent.steps.iter().filter(|step| step.after <= age);
        let queued = (DeliveryStatus::Queued, None, RefusalReason::Other);
        let (status, code, reason) = reached.fold(queued, |known, step| {
            merge(Some(known.0), step.status).map_or(known, |status| (status, step.code, step.reason))
        });
        Ok(FetchedMessage { to: Some(sent.to.clone()), status, provider_code: code, reason, price: None })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn block(message: &Message<'_>, clock: Clock) -> String {
    let ruler = "─".repeat(RULER_WIDTH);
    let at = i64::try_from(clock.now().as_seconds()).ok().and_then(|at| Timestamp::from_second(at).ok());
    let lines = [
        ("Para", message.to.masked()),
        ("Código", message.code.map_or("-", Code::expose).to_owned()),
        ("Usuario", on_one_line(message.user_name.unwrap_or("-"))),
        ("Mensaje", indented(message.body)),
        ("Timestamp", at.unwrap_or(Timestamp::MAX).to_string()),
    ];
    let title = match message.to.channel() {
        Channel::Sms => "📱 SIMULACIÓN SMS OTP:",
        Channel::Email => "📧 SIMULACIÓN EMAIL OTP:",
    };
    let mut block = format!("{ruler}\n{title}\n");
    for (name, value) in lines {
        writeln!(block, "{MARGIN}{name}: {value}").expect("a string takes any text");
    }
    block + &ruler + "\n"
}

/// A name must not forge a line or steer the terminal. The joiners in names and words are kept.
fn on_one_line(text: &str) -> String {
    text.replace(|character| !is_printable(character) && !matches!(character, '\u{200c}' | '\u{200d}'), " ")
}

/// The text with its own lines, all right of the margin.
fn indented(text: &str) -> String {
    let lines: Vec<String> = text.split('\n').map(on_one_line).collect();
    lines.join(&format!("\n{MARGIN}{MARGIN}"))
}
