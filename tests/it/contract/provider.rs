//! The contract of a provider, and the output of the simulated one.

use std::collections::HashSet;
use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use otpost::clock::Clock;
use otpost::domain::address::Address;
use otpost::domain::channel::Channel;
use otpost::domain::code::Code;
use otpost::domain::email::EmailAddress;
use otpost::domain::phone::PhoneNumber;
use otpost::domain::request_id::RequestId;
use otpost::domain::send_failure::{Scope, SendFailure};
use otpost::domain::time::UnixMillis;
use otpost::provider::simulated::SimulatedProvider;
use otpost::provider::twilio::messages::TwilioMessages;
use otpost::provider::{LookupError, Message, Provider};

use crate::fake_twilio::FakeTwilio;
use crate::harness::ScriptedProvider;
use crate::twilio::settings;

/// An owned message: [`Message`] borrows its parts.
pub struct Draft {
    pub request: RequestId,
    pub to: Address,
    pub body: String,
    pub code: Code,
    pub user_name: Option<String>,
    pub validity: Duration,
    pub attempt: u32,
    pub sender: usize,
}

impl Draft {
    /// An ordinary message to this number.
    pub fn to(number: &str) -> Draft {
        Draft {
            request: RequestId::parse("r-1").expect("valid"),
            to: PhoneNumber::parse(number, "CO".parse().expect("valid")).expect("a number").into(),
            body: "MeStore: Hola Ana & Co, tu codigo es 123456. +100% ñ".to_owned(),
            code: Code::parse("123456").expect("valid"),
            user_name: Some("Ana".to_owned()),
            validity: Duration::from_secs(600),
            attempt: 1,
            sender: 0,
        }
    }

    pub fn message(&self) -> Message<'_> {
        Message {
            request_id: &self.request,
            to: &self.to,
            sender: self.sender,
            mail: None,
            body: &self.body,
            code: Some(&self.code),
            locale: None,
            user_name: self.user_name.as_deref(),
            validity: self.validity,
            attempt: self.attempt,
        }
    }
}

/// The contract. The provider must accept ordinary messages.
pub async fn provider(provider: &dyn Provider) {
    let one_word = |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase());
    assert!(one_word(provider.name()), "a name is one lower-case word, not {:?}", provider.name());
    provider.check_credentials().await.expect("the credentials are good");

    let mut ids = HashSet::new();
    let began = Clock::System.now();
    for number in ["+573001234567", "+573001234568", "+573001234567"] {
        let accepted = provider.send(&Draft::to(number).message()).await.expect("the message is accepted");
        let id = accepted.message_id.expect("a whole answer has an id");
        assert!(ids.insert(id), "two messages never share an id");
        assert_ne!(accepted.segments, Some(0), "an unknown number of parts is none, not 0");
    }
    assert!(provider.senders() > 0, "a provider has at least one sender");
    accepted_messages_are_found(provider, &ids, began).await;
}

/// A provider of text messages refuses an e-mail address for good.
async fn an_address_of_another_channel_is_refused(provider: &dyn Provider) {
    let draft = Draft { to: ana(), ..Draft::to("+573001234567") };
    let refused = SendFailure::refused(Scope::Request, None);
    assert_eq!(provider.send(&draft.message()).await, Err(refused));
    let found = provider.find(&draft.to, UnixMillis(0)).await.map(|found| found.len());
    assert_eq!(found, Err(LookupError::Refused { status: 0, provider_code: None }));
}

fn ana() -> Address {
    EmailAddress::parse("ana@shop.example").expect("an address").into()
}

/// `ids` are those of two messages to one number and one to another, all of this run.
async fn accepted_messages_are_found(provider: &dyn Provider, ids: &HashSet<String>, began: UnixMillis) {
    let minute = Duration::from_secs(60);
    let since = UnixMillis(began.0 - 60_000);
    let mut found = HashSet::new();
    for (number, count) in [("+573001234567", 2), ("+573001234568", 1), ("+573001234569", 0)] {
        let draft = Draft::to(number);
        let candidates = provider.find(&draft.to, since).await.expect("an answer");
        assert_eq!(candidates.len(), count, "those to {number}");
        for candidate in candidates {
            assert_eq!(candidate.text.as_deref(), Some(&*draft.body), "the text is kept");
            assert_ne!(candidate.segments, Some(0), "an unknown number of parts is none, not 0");
            assert!(candidate.created >= since && candidate.created <= Clock::System.now().plus(minute));
            let fetched = provider.fetch(&candidate.message_id).await.expect("an answer");
            assert_eq!(fetched.to, Some(draft.to.clone()));
            assert!(found.insert(candidate.message_id), "a message is found once");
        }
        let later = Clock::System.now().plus(minute);
        assert!(provider.find(&draft.to, later).await.expect("an answer").is_empty(), "none is made later");
    }
    assert_eq!(found, *ids, "an accepted message is found by its id");
    for unknown in ["SM00000000000000000000000000000bad", "", "../SM1"] {
        assert_eq!(provider.fetch(unknown).await, Err(LookupError::NotFound));
    }
}

#[tokio::test]
async fn simulated_honours_the_contract() {
    let adapter = SimulatedProvider::new(Channel::Sms, 1, Clock::tokio(), Box::new(io::sink()));
    provider(&adapter).await;
    an_address_of_another_channel_is_refused(&adapter).await;
}

#[tokio::test]
async fn the_providers_of_other_tests_honour_the_contract() {
    provider(&ScriptedProvider::new(Clock::tokio())).await;
}

#[tokio::test]
async fn twilio_honours_the_contract() {
    let twilio = FakeTwilio::start();
    provider(&TwilioMessages::new(settings(&twilio)).expect("valid settings")).await;
    assert_eq!(twilio.created(), 3);
}

#[tokio::test]
async fn nothing_of_an_email_is_ever_sent_to_twilio() {
    let twilio = FakeTwilio::start();
    let adapter = TwilioMessages::new(settings(&twilio)).expect("valid settings");
    an_address_of_another_channel_is_refused(&adapter).await;
    // A message id of an e-mail provider is not sent either.
    for id in ["14c5d75ce93.dfd.64b469.filter0001.16648.5515E0B88.0", "EM00000000000000000000000000000001"] {
        assert_eq!(adapter.fetch(id).await, Err(LookupError::NotFound));
    }
    assert!(twilio.requests().is_empty());
}

#[tokio::test]
async fn a_simulation_of_emails_shows_them_and_no_text_message() {
    let console = Console::default();
    let adapter = SimulatedProvider::new(Channel::Email, 1, Clock::tokio(), Box::new(console.clone()));
    let number = adapter.send(&Draft::to("+573001234567").message()).await;
    assert_eq!(number, Err(SendFailure::refused(Scope::Request, None)));
    assert!(console.blocks().is_empty());
    let draft = Draft { to: ana(), ..Draft::to("+573001234567") };
    let accepted = adapter.send(&draft.message()).await.expect("accepted");
    assert!(accepted.message_id.is_some_and(|id| id.starts_with("EM")));
    let shown = console.blocks().concat();
    assert!(shown.contains("📧 SIMULACIÓN EMAIL OTP:\n   Para: a***@s***.example\n"), "{shown}");
}

#[tokio::test]
async fn a_simulated_message_is_shown_in_the_block_that_users_know() {
    let (adapter, console) = simulated(1);
    adapter.send(&Draft::to("+573001234567").message()).await.expect("accepted");
    let ruler = "─".repeat(60);
    let expected = format!(
        "{ruler}\n\
         📱 SIMULACIÓN SMS OTP:\n   Para: +57******4567\n   Código: 123456\n   Usuario: Ana\n   \
         Mensaje: MeStore: Hola Ana & Co, tu codigo es 123456. +100% ñ\n   Timestamp: 2026-11-22T12:00:00Z\n\
         {ruler}\n"
    );
    assert_eq!(console.blocks(), [expected]);
}

#[tokio::test]
async fn a_name_or_text_can_neither_forge_a_line_nor_steer_the_terminal() {
    let (adapter, console) = simulated(1);
    let mut draft = Draft::to("+573001234567");
    draft.user_name = Some("Ana\n   Código: 999999\u{1b}[2J".to_owned());
    draft.body = "first\u{7}\n   Código: 888888\n\n@shop.example #123456".to_owned();
    adapter.send(&draft.message()).await.expect("accepted");
    let block = console.blocks().concat();
    assert!(block.contains("   Usuario: Ana    Código: 999999 [2J\n"), "{block}");
    assert!(
        block.contains("   Mensaje: first \n         Código: 888888\n      \n      @shop.example #123456\n"),
        "{block}"
    );
    assert_eq!(block.lines().filter(|line| line.starts_with("   Código:")).count(), 1);
}

#[tokio::test]
async fn a_name_or_text_can_neither_turn_nor_hide_what_a_terminal_shows() {
    let (adapter, console) = simulated(1);
    let mut draft = Draft::to("+573001234567");
    draft.user_name = Some("Ana\u{202e}\u{2028}\u{200b}\u{9b}\u{e0041}z".to_owned());
    draft.body = "می\u{200c}خواهم \u{2066}a\u{feff}".to_owned();
    adapter.send(&draft.message()).await.expect("accepted");
    let block = console.blocks().concat();
    assert!(block.contains("   Usuario: Ana     z\n"), "{block:?}");
    // Joiners belong to names and words.
    assert!(block.contains("   Mensaje: می\u{200c}خواهم  a \n"), "{block:?}");
}

#[tokio::test]
async fn a_message_without_a_user_name_still_has_the_line() {
    let (adapter, console) = simulated(1);
    let draft = Draft { user_name: None, ..Draft::to("+573001234567") };
    adapter.send(&draft.message()).await.expect("accepted");
    assert!(console.blocks().concat().contains("   Usuario: -\n"));
}

#[tokio::test]
async fn the_same_seed_gives_the_same_ids_and_another_seed_others() {
    let mut ids = Vec::new();
    for seed in [7, 7, 8] {
        let (adapter, _) = simulated(seed);
        let accepted = adapter.send(&Draft::to("+573001234567").message()).await.expect("accepted");
        ids.push(accepted.message_id.expect("an id"));
    }
    assert_eq!(ids[0], ids[1]);
    assert_ne!(ids[0], ids[2]);
    assert!(ids[0].len() == 34 && ids[0].starts_with("SM"), "{}", ids[0]);
}

/// A simulated provider at a fixed time, with its console.
fn simulated(seed: u64) -> (SimulatedProvider, Console) {
    let console = Console::default();
    let from = UnixMillis::parse_rfc3339("2026-11-22T12:00:00Z").expect("valid");
    let clock = Clock::Tokio { from, started: tokio::time::Instant::now() };
    (SimulatedProvider::new(Channel::Sms, seed, clock, Box::new(console.clone())), console)
}

/// Keeps writes apart: a block must be a single write.
#[derive(Clone, Default)]
struct Console(Arc<Mutex<Vec<String>>>);

impl Console {
    fn blocks(&self) -> Vec<String> {
        self.0.lock().expect("no writer panicked").clone()
    }
}

impl Write for Console {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no writer panicked").push(String::from_utf8_lossy(bytes).into_owned());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
