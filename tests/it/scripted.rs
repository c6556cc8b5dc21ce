//! A provider with scripted answers. It records all calls and the messages that it made.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use otpost::clock::Clock;
use otpost::domain::address::Address;
use otpost::domain::code::Code;
use otpost::domain::receipt::DeliveryStatus;
use otpost::domain::send_failure::{RefusalReason, Scope, SendFailure};
use otpost::domain::time::UnixMillis;
use otpost::provider::twilio::errors::refusal_reason;
use otpost::provider::{
    Accepted, CredentialError, FetchedMessage, LookupError, Message, Provider, ProviderMessage,
};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::harness::within;

/// A message that was passed to the provider.
#[derive(Clone)]
pub struct Posted {
    pub to: String,
    /// Index of the sender.
    pub sender: usize,
    pub body: String,
    pub code: String,
    pub validity: Duration,
    pub at: Instant,
    /// The provider made the message, whatever it answered.
    pub made: bool,
}

/// The verification id of a provider that makes codes. All codes share it.
pub const VERIFICATION: &str = "VE00000000000000000000000000000001";

/// A refusal with the reject reason of Twilio's error number.
pub fn refused(scope: Scope, code: u32) -> SendFailure {
    SendFailure::Refused { scope, reason: refusal_reason(Some(code)), provider_code: Some(code) }
}

/// The answer to one message.
#[derive(Clone, Debug)]
pub enum Script {
    /// The message is made.
    Accept,
    /// The message is made, and the answer breaks off after its status.
    AcceptUnnamed,
    /// The message is made, and the answer is lost.
    AcceptAndLoseAnswer,
    /// The message is made, and no answer ever comes.
    AcceptAndHang,
    /// The message is not made.
    Fail(SendFailure),
    /// The message is made, unless it has this sender, which is refused with this error number.
    RefuseSender(usize, u32),
    /// The message is made, unless its recipient has this prefix: then its sender is refused with this error number.
    RefuseFor(&'static str, u32),
}

/// The answer to a message lookup.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LookupScript {
    Show,
    /// An empty list, as when the real list lags.
    Hide,
    Unanswered,
    Refused,
}

/// A provider that accepts every message without a script.
pub struct ScriptedProvider {
    name: &'static str,
    state: Mutex<State>,
    clock: Clock,
    panics: AtomicUsize,
    /// While it is closed, every send waits.
    gate: Semaphore,
    /// The number of senders.
    pub senders: AtomicUsize,
    /// The provider makes the codes.
    pub makes_codes: AtomicBool,
    /// The provider keeps no texts.
    pub discards_texts: AtomicBool,
    in_flight: AtomicUsize,
    pub in_flight_max: AtomicUsize,
}

struct State {
    scripts: VecDeque<Script>,
    default_script: Script,
    lookup_scripts: VecDeque<LookupScript>,
    default_lookup: LookupScript,
    posted: Vec<Posted>,
    made: Vec<(Address, ProviderMessage)>,
    lookups: Vec<Instant>,
    lookup_recipients: Vec<Address>,
    probes: Vec<Instant>,
    fetches: usize,
    healthy: bool,
    status: DeliveryStatus,
}

impl ScriptedProvider {
    pub fn new(clock: Clock) -> ScriptedProvider {
        ScriptedProvider::named("scripted", clock)
    }

    /// One beside the first.
    pub fn named(name: &'static str, clock: Clock) -> ScriptedProvider {
        ScriptedProvider {
            name,
            state: Mutex::new(State {
                scripts: VecDeque::new(),
                default_script: Script::Accept,
                lookup_scripts: VecDeque::new(),
                default_lookup: LookupScript::Show,
                posted: Vec::new(),
                made: Vec::new(),
                lookups: Vec::new(),
                lookup_recipients: Vec::new(),
                probes: Vec::new(),
                fetches: 0,
                healthy: true,
                status: DeliveryStatus::Sent,
            }),
            clock,
            panics: AtomicUsize::default(),
            gate: Semaphore::new(Semaphore::MAX_PERMITS),
            senders: AtomicUsize::new(1),
            makes_codes: AtomicBool::default(),
            discards_texts: AtomicBool::default(),
            in_flight: AtomicUsize::default(),
            in_flight_max: AtomicUsize::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Scripts failures of the next messages.
    pub fn fail_next(&self, failures: impl IntoIterator<Item = SendFailure>) {
        self.script_next(failures.into_iter().map(Script::Fail));
    }

    /// Scripts the answers to the next messages.
    pub fn script_next(&self, scripts: impl IntoIterator<Item = Script>) {
        self.lock().scripts.extend(scripts);
    }

    /// Scripts the answer to all other messages.
    pub fn script_default(&self, script: Script) {
        self.lock().default_script = script;
    }

    /// Scripts the answers to the next message lookups.
    pub fn script_lookups(&self, lookup_scripts: impl IntoIterator<Item = LookupScript>) {
        self.lock().lookup_scripts.extend(lookup_scripts);
    }

    /// Scripts the answer to all other lookups.
    pub fn script_default_lookup(&self, lookup: LookupScript) {
        self.lock().default_lookup = lookup;
    }

    /// Makes probes succeed or fail.
    pub fn set_healthy(&self, healthy: bool) {
        self.lock().healthy = healthy;
    }

    /// Sets the status that every fetched message has.
    pub fn set_status(&self, status: DeliveryStatus) {
        self.lock().status = status;
    }

    pub fn panic_next(&self, times: usize) {
        self.panics.store(times, Ordering::SeqCst);
    }

    pub fn close_gate(&self) {
        self.gate.forget_permits(Semaphore::MAX_PERMITS);
    }

    pub fn open_gate(&self, messages: usize) {
        self.gate.add_permits(messages);
    }

    pub fn posted(&self) -> Vec<Posted> {
        self.lock().posted.clone()
    }

    /// The messages that the provider made.
    pub fn made(&self) -> Vec<Posted> {
        self.posted().into_iter().filter(|post| post.made).collect()
    }

    pub fn lookups(&self) -> Vec<Instant> {
        self.lock().lookups.clone()
    }

    /// The number of lookups for messages to a recipient.
    pub fn lookups_of(&self, to: &str) -> usize {
        self.lock().lookup_recipients.iter().filter(|recipient| recipient.as_str() == to).count()
    }

    /// The number of fetches of single messages.
    pub fn fetches(&self) -> usize {
        self.lock().fetches
    }

    pub fn probes(&self) -> Vec<Instant> {
        self.lock().probes.clone()
    }

    /// Waits until this many messages were posted.
    pub async fn until_posted(&self, count: usize) {
        within(async {
            while self.lock().posted.len() < count {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
    }

    /// The verification id, if the provider makes codes.
    fn verification(&self) -> Option<String> {
        self.makes_codes().then(|| VERIFICATION.to_owned())
    }

    fn make(&self, message: &Message<'_>, nth: usize) -> String {
        let kind = if self.name == "scripted" { "SM" } else { self.name };
        let message_id = format!("{kind}{nth:032x}");
        let made = ProviderMessage {
            message_id: message_id.clone(),
            created: self.clock.now(),
            text: (!self.makes_codes() && !self.discards_texts.load(Ordering::SeqCst))
                .then(|| message.body.to_owned()),
            segments: None,
            verification_sid: self.verification(),
        };
        let mut state = self.lock();
        state.made.push((message.to.clone(), made));
        state.posted[nth - 1].made = true;
        message_id
    }
}

#[async_trait]
impl Provider for ScriptedProvider {
    fn name(&self) -> &'static str {
        self.name
    }

    fn senders(&self) -> usize {
        self.senders.load(Ordering::SeqCst)
    }

    fn makes_codes(&self) -> bool {
        self.makes_codes.load(Ordering::SeqCst)
    }

    async fn send(&self, message: &Message<'_>) -> Result<Accepted, SendFailure> {
        let nth = {
            let mut state = self.lock();
            state.posted.push(Posted {
                to: message.to.as_str().to_owned(),
                sender: message.sender,
                body: message.body.to_owned(),
                code: message.code.map_or("", Code::expose).to_owned(),
                validity: message.validity,
                at: Instant::now(),
                made: false,
            });
            state.posted.len()
        };
        let panics = self.panics.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        assert!(panics.is_err(), "the test wants a panic");
        let now = self.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
        self.in_flight_max.fetch_max(now, Ordering::SeqCst);
        let passed = self.gate.acquire().await.expect("the gate is never torn down");
        passed.forget();
        self.in_flight.fetch_sub(1, Ordering::SeqCst);
        let script = {
            let mut state = self.lock();
            state.scripts.pop_front().unwrap_or_else(|| state.default_script.clone())
        };
        match script {
            Script::Accept => Ok(Accepted {
                message_id: Some(self.make(message, nth)),
                segments: None,
                verification_sid: self.verification(),
            }),
            Script::AcceptUnnamed => {
                self.make(message, nth);
                // Verify names the Verification, which is no message.
                let verification_sid = self.verification();
                Ok(Accepted { message_id: verification_sid.clone(), segments: None, verification_sid })
            }
            Script::AcceptAndLoseAnswer => {
                self.make(message, nth);
                Err(SendFailure::InDoubt { detail: "reset".to_owned() })
            }
            Script::AcceptAndHang => {
                self.make(message, nth);
                std::future::pending().await
            }
            Script::RefuseSender(sender, code) if sender == message.sender => {
                Err(refused(Scope::Sender, code))
            }
            Script::RefuseFor(to, code) if message.to.as_str().starts_with(to) => {
                Err(refused(Scope::Sender, code))
            }
            Script::RefuseSender(..) | Script::RefuseFor(..) => Ok(Accepted {
                message_id: Some(self.make(message, nth)),
                segments: None,
                verification_sid: self.verification(),
            }),
            Script::Fail(failure) => Err(failure),
        }
    }

    async fn check_credentials(&self) -> Result<(), CredentialError> {
        let mut state = self.lock();
        state.probes.push(Instant::now());
        if state.healthy { Ok(()) } else { Err(CredentialError::Unanswered("not healthy".to_owned())) }
    }

    async fn find(&self, to: &Address, since: UnixMillis) -> Result<Vec<ProviderMessage>, LookupError> {
        let mut state = self.lock();
        state.lookups.push(Instant::now());
        state.lookup_recipients.push(to.clone());
        let script = state.lookup_scripts.pop_front().unwrap_or(state.default_lookup);
        let to_them = state.made.iter().filter(|(number, made)| number == to && made.created >= since);
        match script {
            LookupScript::Show => Ok(to_them.map(|(_, made)| made.clone()).collect()),
            LookupScript::Hide => Ok(Vec::new()),
            LookupScript::Unanswered => Err(LookupError::Unanswered("no answer".to_owned())),
            LookupScript::Refused => Err(LookupError::Refused { status: 401, provider_code: None }),
        }
    }

    async fn fetch(&self, message_id: &str) -> Result<FetchedMessage, LookupError> {
        let mut state = self.lock();
        state.fetches += 1;
        if state.default_lookup == LookupScript::Unanswered {
            return Err(LookupError::Unanswered("no answer in time".to_owned()));
        }
        let (to, _) =
            state.made.iter().find(|(_, made)| made.message_id == message_id).ok_or(LookupError::NotFound)?;
        Ok(FetchedMessage {
            to: Some(to.clone()),
            status: state.status,
            provider_code: None,
            reason: RefusalReason::Other,
            price: None,
        })
    }
}
