//! The provider of a simulated run, and its faults.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use otpost::clock::Clock;
use otpost::domain::address::Address;
use otpost::domain::code::Code;
use otpost::domain::receipt::DeliveryStatus;
use otpost::domain::send_failure::{RefusalReason, Scope, SendFailure};
use otpost::domain::time::UnixMillis;
use otpost::flow::receipts::ReceiptProcessor;
use otpost::provider::{
    Accepted, CredentialError, DeliveryReceipt, FetchedMessage, LookupError, Message, Provider,
    ProviderMessage,
};
use tokio::time::Instant;

use super::seams::Weather;
use crate::history::Post;
use crate::scripted::refused;

pub const PROVIDER_TIMEOUT: Duration = Duration::from_secs(15);
const SENDERS: usize = 3;
/// The provider refuses every sender for this recipient, as for a number of another country.
const REFUSED_BY_ALL: &str = "+573001000005";

/// A provider that loses answers and messages, and records every message it made.
pub struct SeamProvider {
    name: &'static str,
    weather: Weather,
    clock: Clock,
    posts: Arc<Mutex<Vec<Post>>>,
    made: Mutex<Vec<(Address, ProviderMessage)>>,
    receipts: Mutex<Option<Arc<ReceiptProcessor>>>,
    /// Until then nothing is answered.
    dead_until: Mutex<Option<Instant>>,
}

impl SeamProvider {
    pub fn new(weather: Weather, clock: Clock) -> SeamProvider {
        SeamProvider {
            name: "seam",
            weather,
            clock,
            posts: Arc::default(),
            made: Mutex::default(),
            receipts: Mutex::default(),
            dead_until: Mutex::default(),
        }
    }

    /// Another one, whose messages are recorded among those of the first.
    pub fn second(&self) -> SeamProvider {
        let first = SeamProvider::new(self.weather.clone(), self.clock);
        SeamProvider { name: "second", posts: self.posts.clone(), ..first }
    }

    pub fn die(&self, lasting: Duration) {
        *self.dead_until.lock().unwrap() = Some(Instant::now() + lasting);
    }

    fn is_dead(&self) -> bool {
        let dead_until = *self.dead_until.lock().unwrap();
        dead_until.is_some_and(|until| Instant::now() < until && !self.weather.is_calm())
    }

    pub fn report_to(&self, processor: Arc<ReceiptProcessor>) {
        *self.receipts.lock().unwrap() = Some(processor);
    }

    pub fn posts(&self) -> Vec<Post> {
        self.posts.lock().unwrap().clone()
    }

    fn make(&self, message: &Message<'_>, nth: usize) -> String {
        let message_id = format!("SM{nth:032x}");
        {
            let mut posts = self.posts.lock().unwrap();
            (posts[nth].accepted, posts[nth].sid) = (true, Some(message_id.clone()));
        }
        let made = ProviderMessage {
            message_id: message_id.clone(),
            created: self.clock.now(),
            text: (fastrand::f64() < 0.8).then(|| message.body.to_owned()),
            segments: None,
            verification_sid: None,
        };
        self.made.lock().unwrap().push((message.to.clone(), made));
        self.report(message, &message_id);
        message_id
    }

    /// Sends receipts late, out of order, or not at all.
    fn report(&self, message: &Message<'_>, message_id: &str) {
        for status in [DeliveryStatus::Queued, DeliveryStatus::Sent, DeliveryStatus::Delivered] {
            if fastrand::f64() < 0.3 {
                continue;
            }
            let Some(processor) = self.receipts.lock().unwrap().clone() else { return };
            let receipt = DeliveryReceipt {
                request_id: message.request_id.clone(),
                to: message.to.clone(),
                message_id: message_id.to_owned(),
                status,
                provider_code: None,
                reason: RefusalReason::Other,
            };
            let (delay, name) = (Duration::from_millis(fastrand::u64(..20_000)), self.name);
            tokio::spawn(async move {
                tokio::time::sleep(delay).await;
                let _ = processor.process(name, &receipt).await;
            });
        }
    }
}

#[async_trait]
impl Provider for SeamProvider {
    fn name(&self) -> &'static str {
        self.name
    }

    fn senders(&self) -> usize {
        SENDERS
    }

    async fn send(&self, message: &Message<'_>) -> Result<Accepted, SendFailure> {
        let nth = {
            let mut posts = self.posts.lock().unwrap();
            posts.push(Post {
                provider: self.name(),
                request: Some(message.request_id.as_str().to_owned()),
                to: message.to.as_str().to_owned(),
                code: message.code.map_or("", Code::expose).to_owned(),
                at: self.clock.now().0,
                accepted: false,
                // Until the sender has the answer.
                in_doubt: true,
                sid: None,
            });
            posts.len() - 1
        };
        let certain = || self.posts.lock().unwrap()[nth].in_doubt = false;
        let lost = || SendFailure::InDoubt { detail: "reset".to_owned() };
        tokio::time::sleep(Duration::from_millis(fastrand::u64(20..300))).await;
        if self.is_dead() {
            if fastrand::bool() {
                self.make(message, nth);
            }
            tokio::time::sleep(PROVIDER_TIMEOUT).await;
            return Err(lost());
        }
        if self.weather.strikes("message is refused for now", 0.05) {
            certain();
            let retry_after = Some(Duration::from_secs(fastrand::u64(1..5)));
            return Err(SendFailure::Throttled { provider_code: Some(20429), retry_after });
        }
        if self.weather.strikes("provider is unreachable", 0.05) {
            certain();
            return Err(SendFailure::NotConnected { detail: "refused".to_owned() });
        }
        if self.weather.strikes("account is refused", 0.01) {
            certain();
            return Err(SendFailure::refused(Scope::Account, Some(20003)));
        }
        let sender_refused = |code| refused(Scope::Sender, code);
        if self.weather.strikes("sender has a full queue", 0.01) {
            certain();
            return Err(sender_refused(21611));
        }
        if self.weather.strikes("sender is refused", 0.02) || message.to.as_str() == REFUSED_BY_ALL {
            certain();
            return Err(sender_refused(21606));
        }
        if self.weather.strikes("message is refused", 0.03) {
            certain();
            return Err(SendFailure::refused(Scope::Request, Some(21617)));
        }
        if self.weather.strikes("message is not made and the answer lost", 0.05) {
            self.weather.delay("provider hangs, and has made nothing", 0.3, PROVIDER_TIMEOUT).await;
            return Err(lost());
        }
        let message_id = self.make(message, nth);
        if self.weather.strikes("message is made and the answer lost", 0.05) {
            self.weather.delay("provider hangs, and has made it", 0.3, PROVIDER_TIMEOUT).await;
            return Err(lost());
        }
        tokio::time::sleep(Duration::from_millis(fastrand::u64(..100))).await;
        certain();
        let is_cut = self.weather.strikes("answer is cut after its status", 0.05);
        Ok(Accepted { message_id: (!is_cut).then_some(message_id), segments: None, verification_sid: None })
    }

    async fn check_credentials(&self) -> Result<(), CredentialError> {
        match self.weather.strikes("probe fails", 0.3) || self.is_dead() {
            true => Err(CredentialError::Unanswered("lost".to_owned())),
            false => Ok(()),
        }
    }

    /// Lists every message after a lag of at most 10 s, seldom 90 s.
    async fn find(&self, to: &Address, since: UnixMillis) -> Result<Vec<ProviderMessage>, LookupError> {
        self.weather.delay("lookup is late", 0.1, Duration::from_secs(3)).await;
        if self.is_dead() {
            tokio::time::sleep(PROVIDER_TIMEOUT).await;
            return Err(LookupError::Unanswered("dead".to_owned()));
        }
        if self.weather.strikes("lookup is not answered", 0.2) {
            return Err(LookupError::Unanswered("lost".to_owned()));
        }
        let now = self.clock.now();
        // A message that is listed too late can cause a second one. The rules allow that after an attempt in doubt.
        let lag_max = if self.weather.strikes("list lags", 0.1) { 90_000 } else { 10_000 };
        let lag = Duration::from_millis(fastrand::u64(..lag_max));
        let made = self.made.lock().unwrap();
        let shown = made
            .iter()
            .filter(|(number, made)| number == to && made.created >= since && made.created.plus(lag) <= now);
        Ok(shown.map(|(_, made)| made.clone()).collect())
    }

    async fn fetch(&self, message_id: &str) -> Result<FetchedMessage, LookupError> {
        let made = self.made.lock().unwrap();
        let (to, _) =
            made.iter().find(|(_, made)| made.message_id == message_id).ok_or(LookupError::NotFound)?;
        Ok(FetchedMessage {
            to: Some(to.clone()),
            status: DeliveryStatus::Delivered,
            provider_code: None,
            reason: RefusalReason::Other,
            price: None,
        })
    }
}
