//! A provider that does what a test says, remembers all of it, and knows which messages it really made.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use otpost::clock::Clock;
use otpost::domain::address::Address;
use otpost::domain::code::Code;
use otpost::domain::receipt::DeliveryStatus;
use otpost::domain::send_failure::{RejectReason, Scope, SendFailure};
use otpost::domain::time::UnixMillis;
use otpost::provider::twilio::errors::reject_reason;
use otpost::provider::{
    Accepted, CredentialError, FetchedMessage, LookupError, Message, Provider, ProviderMessage,
};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::harness::within;

/// What a provider was handed, and when.
#[derive(Clone)]
pub struct Posted {
    pub to: String,
    /// By which of the senders.
    pub sender: usize,
    pub body: String,
    pub code: String,
    pub validity: Duration,
    pub at: Instant,
    /// It really made the message.
    pub made: bool,
}

/// Under which name a provider that makes codes knows them.
pub const VERIFICATION: &str = "VE00000000000000000000000000000001";

/// A refusal with the reason that Twilio's number stands for.
pub fn refused(scope: Scope, code: u32) -> SendFailure {
    SendFailure::Rejected { scope, reason: reject_reason(Some(code)), code: Some(code) }
}

/// What becomes of one message.
#[derive(Clone, Debug)]
pub enum Script {
    /// It is made.
    Accept,
    /// It is made, and the answer is lost.
    AcceptUnheard,
    /// It is made, and no answer ever comes.
    AcceptAndHang,
    /// It is not made.
    Fail(SendFailure),
    /// It is made, unless this sender carries it: that one is refused, with this number.
    RefuseSender(usize, u32),
    /// It is made, unless its recipient begins like this: whichever sender carries it is refused, with this number.
    RefuseFor(&'static str, u32),
}

/// What the provider says when it is asked for its messages.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Look {
    Show,
    /// As if there were none, as when its list lags.
    Hide,
    Unanswered,
    Refused,
}

/// A provider that answers as a test says, and accepts where it says nothing.
pub struct ScriptedProvider {
    state: Mutex<State>,
    clock: Clock,
    panics: AtomicUsize,
    /// Closed: a message is held until the test opens it.
    gate: Semaphore,
    /// Senders that carry messages.
    pub senders: AtomicUsize,
    /// It makes codes of its own.
    pub makes_codes: AtomicBool,
    in_flight: AtomicUsize,
    pub in_flight_max: AtomicUsize,
}

struct State {
    scripts: VecDeque<Script>,
    otherwise: Script,
    looks: VecDeque<Look>,
    look_otherwise: Look,
    posted: Vec<Posted>,
    made: Vec<(Address, ProviderMessage)>,
    looked: Vec<Instant>,
    sought: Vec<Address>,
    probed: Vec<Instant>,
    fetched: usize,
    well: bool,
    status: DeliveryStatus,
}

impl ScriptedProvider {
    pub fn new(clock: Clock) -> ScriptedProvider {
        ScriptedProvider {
            state: Mutex::new(State {
                scripts: VecDeque::new(),
                otherwise: Script::Accept,
                looks: VecDeque::new(),
                look_otherwise: Look::Show,
                posted: Vec::new(),
                made: Vec::new(),
                looked: Vec::new(),
                sought: Vec::new(),
                probed: Vec::new(),
                fetched: 0,
                well: true,
                status: DeliveryStatus::Sent,
            }),
            clock,
            panics: AtomicUsize::default(),
            gate: Semaphore::new(Semaphore::MAX_PERMITS),
            senders: AtomicUsize::new(1),
            makes_codes: AtomicBool::default(),
            in_flight: AtomicUsize::default(),
            in_flight_max: AtomicUsize::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// The next messages fail.
    pub fn answer(&self, failures: impl IntoIterator<Item = SendFailure>) {
        self.will(failures.into_iter().map(Script::Fail));
    }

    /// What becomes of the next messages.
    pub fn will(&self, scripts: impl IntoIterator<Item = Script>) {
        self.lock().scripts.extend(scripts);
    }

    /// What becomes of all others.
    pub fn otherwise(&self, script: Script) {
        self.lock().otherwise = script;
    }

    /// What is said to the next questions for messages.
    pub fn shows(&self, looks: impl IntoIterator<Item = Look>) {
        self.lock().looks.extend(looks);
    }

    /// What is said to all others.
    pub fn shows_otherwise(&self, look: Look) {
        self.lock().look_otherwise = look;
    }

    /// Whether probes are answered well.
    pub fn is_well(&self, well: bool) {
        self.lock().well = well;
    }

    /// What became of every message, to whoever asks.
    pub fn status(&self, status: DeliveryStatus) {
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

    /// The messages that people really get.
    pub fn made(&self) -> Vec<Posted> {
        self.posted().into_iter().filter(|post| post.made).collect()
    }

    pub fn looked(&self) -> Vec<Instant> {
        self.lock().looked.clone()
    }

    /// How often the messages to an address were looked for.
    pub fn sought(&self, to: &str) -> usize {
        self.lock().sought.iter().filter(|sought| sought.as_str() == to).count()
    }

    /// How often it was asked about one message.
    pub fn fetched(&self) -> usize {
        self.lock().fetched
    }

    pub fn probed(&self) -> Vec<Instant> {
        self.lock().probed.clone()
    }

    /// Waits until this many messages were handed over.
    pub async fn until_posted(&self, count: usize) {
        within(async {
            while self.lock().posted.len() < count {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
    }

    /// The name of everybody's code, where it makes codes.
    fn verification(&self) -> Option<String> {
        self.makes_codes().then(|| VERIFICATION.to_owned())
    }

    fn make(&self, message: &Message<'_>, nth: usize) -> String {
        let message_id = format!("SM{nth:032x}");
        let made = ProviderMessage {
            message_id: message_id.clone(),
            created: self.clock.now(),
            text: (!self.makes_codes()).then(|| message.body.to_owned()),
            segments: None,
            verification: self.verification(),
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
        "scripted"
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
            state.scripts.pop_front().unwrap_or_else(|| state.otherwise.clone())
        };
        match script {
            Script::Accept => Ok(Accepted {
                message_id: Some(self.make(message, nth)),
                segments: None,
                verification: self.verification(),
            }),
            Script::AcceptUnheard => {
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
                verification: self.verification(),
            }),
            Script::Fail(failure) => Err(failure),
        }
    }

    async fn check_credentials(&self) -> Result<(), CredentialError> {
        let mut state = self.lock();
        state.probed.push(Instant::now());
        if state.well { Ok(()) } else { Err(CredentialError::Unanswered("not well".to_owned())) }
    }

    async fn find(&self, to: &Address, since: UnixMillis) -> Result<Vec<ProviderMessage>, LookupError> {
        let mut state = self.lock();
        state.looked.push(Instant::now());
        state.sought.push(to.clone());
        let look = state.looks.pop_front().unwrap_or(state.look_otherwise);
        let to_them = state.made.iter().filter(|(number, made)| number == to && made.created >= since);
        match look {
            Look::Show => Ok(to_them.map(|(_, made)| made.clone()).collect()),
            Look::Hide => Ok(Vec::new()),
            Look::Unanswered => Err(LookupError::Unanswered("no answer".to_owned())),
            Look::Refused => Err(LookupError::Refused { status: 401, code: None }),
        }
    }

    async fn fetch(&self, message_id: &str) -> Result<FetchedMessage, LookupError> {
        let mut state = self.lock();
        state.fetched += 1;
        let (to, _) =
            state.made.iter().find(|(_, made)| made.message_id == message_id).ok_or(LookupError::NotFound)?;
        Ok(FetchedMessage {
            to: Some(to.clone()),
            status: state.status,
            code: None,
            reason: RejectReason::Other,
        })
    }
}
