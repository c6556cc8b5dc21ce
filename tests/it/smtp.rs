//! E-mails through a relay, on the wire.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use otpost::domain::address::Address;
use otpost::domain::email::EmailAddress;
use otpost::domain::phone::PhoneNumber;
use otpost::domain::send_failure::{Scope, SendFailure};
use otpost::domain::time::UnixMillis;
use otpost::provider::smtp::{SmtpProvider, SmtpSettings};
use otpost::provider::{CredentialError, LookupError, Mail, Message, Provider};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::contract::provider::Letter;

/// What the relay does about a line.
#[derive(Clone, Copy)]
enum Answer {
    Say(&'static str),
    Close,
    Hang,
}

use Answer::{Close, Hang, Say};

/// A relay that speaks SMTP as far as these tests need it, and answers as told.
struct FakeRelay {
    port: u16,
    heard: Arc<Mutex<Vec<String>>>,
}

impl FakeRelay {
    /// `odd` are the verbs with an answer that is not the usual one. `.` is the end of a text.
    async fn start(odd: &'static [(&'static str, Answer)]) -> FakeRelay {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let hears = heard.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(converse(stream, odd, hears.clone()));
            }
        });
        FakeRelay { port, heard }
    }

    fn provider(&self) -> SmtpProvider {
        self.provider_at("", Duration::from_secs(5))
    }

    fn provider_at(&self, user: &str, timeout: Duration) -> SmtpProvider {
        let url = format!("smtp://{user}127.0.0.1:{}", self.port).into();
        let from = "Señal <codes@shop.example>".parse().expect("a sender");
        SmtpProvider::new(&SmtpSettings { url, from, timeout }).expect("valid settings")
    }

    fn heard(&self) -> Vec<String> {
        self.heard.lock().expect("no panic").clone()
    }

    fn count(&self, line: &str) -> usize {
        self.heard().iter().filter(|heard| heard.starts_with(line)).count()
    }
}

async fn converse(
    stream: TcpStream,
    odd: &'static [(&'static str, Answer)],
    heard: Arc<Mutex<Vec<String>>>,
) -> Option<()> {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    let mut answer = async |verb: &str, usual: &'static str| {
        let odd = odd.iter().find(|(odd, _)| *odd == verb).map(|(_, answer)| *answer);
        match odd.unwrap_or(Say(usual)) {
            Say(line) => write.write_all(format!("{line}\r\n").as_bytes()).await.ok(),
            Close => None,
            Hang => std::future::pending().await,
        }
    };
    answer("greeting", "220 relay").await?;
    let mut in_text = false;
    while let Ok(Some(line)) = lines.next_line().await {
        heard.lock().expect("no panic").push(line.clone());
        let verb = line.split([' ', ':']).next().unwrap_or_default();
        match verb {
            "." if in_text => {
                in_text = false;
                answer(".", "250 2.0.0 taken").await?;
            }
            _ if in_text => {}
            "DATA" => {
                answer("DATA", "354 go on").await?;
                in_text = true;
            }
            "EHLO" => answer("EHLO", "250-relay\r\n250-AUTH PLAIN LOGIN\r\n250 8BITMIME").await?,
            "AUTH" => answer("AUTH", "235 2.7.0 known").await?,
            verb => answer(verb, "250 2.1.0 fine").await?,
        }
    }
    Some(())
}

/// An e-mail with what it borrows.
fn letter(to: &str) -> Letter {
    let to = EmailAddress::parse(to).expect("an address").into();
    Letter {
        to,
        body: "Hola Ana:\n\n123456\n\n.\nVálido por 10 minutos.".to_owned(),
        ..Letter::to("+573001234567")
    }
}

fn message(letter: &Letter) -> Message<'_> {
    let mail = Mail { subject: "Tu código de Señal", html: "<p>Hola Ana: <b>123456</b></p>" };
    Message { mail: Some(mail), ..letter.message() }
}

async fn send(provider: &SmtpProvider) -> Result<Option<String>, SendFailure> {
    let letter = letter("ana@mail.example");
    provider.send(&message(&letter)).await.map(|accepted| accepted.message_id)
}

fn rejected(code: u32, scope: Scope) -> SendFailure {
    SendFailure::rejected(scope, Some(code))
}

#[tokio::test]
async fn an_email_goes_out_in_two_forms_and_tells_no_machine_to_answer() {
    let relay = FakeRelay::start(&[]).await;
    let id = send(&relay.provider()).await.expect("accepted").expect("a name");
    let heard = relay.heard();
    assert_eq!(
        heard[..4],
        ["EHLO shop.example", "MAIL FROM:<codes@shop.example>", "RCPT TO:<ana@mail.example>", "DATA"]
    );
    let text = heard[4..].join("\n");
    for line in [
        "From: =?utf-8?b?U2XDsWFs?= <codes@shop.example>\n",
        "To: ana@mail.example\n",
        "Subject: Tu =?utf-8?b?Y8OzZGlnbw==?= de =?utf-8?b?U2XDsWFs?=\n",
        "Auto-Submitted: auto-generated\n",
        "Content-Type: multipart/alternative;",
        "Content-Type: text/plain; charset=utf-8\n",
        "Content-Type: text/html; charset=utf-8\n",
        "\nDate: ",
        "V=C3=A1lido por 10 minutos.\n",
        // A lone dot would have ended the text.
        "\n..\n",
        "<b>123456</b>",
    ] {
        assert!(text.contains(line), "{line:?} is not in\n{text}");
    }
    assert!(text.contains(&format!("Message-ID: <{id}>\n")), "{text}");
    assert!(text.is_ascii() && id.ends_with("@shop.example"), "{text}");
    let head = text.split("\n\n").next().unwrap_or_default();
    assert!(!head.contains("123456"), "the code is in the head: {head}");
}

#[tokio::test]
async fn each_copy_of_a_request_has_the_same_message_id_and_no_other_request_has_it() {
    let relay = FakeRelay::start(&[]).await;
    let provider = relay.provider();
    let first = send(&provider).await.expect("accepted");
    let mut second = letter("ana@mail.example");
    second.attempt = 2;
    let again = provider.send(&message(&second)).await.expect("accepted").message_id;
    let other = letter("bob@mail.example");
    let other = provider.send(&message(&other)).await.expect("accepted").message_id;
    assert_eq!(first, again);
    assert_ne!(first, other);
    assert_eq!(relay.count("EHLO"), 1, "a fresh connection is used again");
}

#[tokio::test]
async fn a_connection_that_was_given_up_while_it_rested_costs_no_email() {
    // The relay says that it closes, as one does that was restarted.
    let closing = FakeRelay::start(&[("MAIL", Say("421 4.3.2 closing"))]).await;
    let gone = closing.provider();
    gone.check_credentials().await.expect("reached");
    let failure = send(&gone).await.expect_err("it always closes");
    assert_eq!(failure, SendFailure::Unreachable { detail: "answered with SMTP 421".to_owned() });
    assert_eq!(closing.count("EHLO"), 2, "another connection is tried once");
}

#[tokio::test]
async fn a_refusal_says_how_much_it_stops() {
    #[track_caller]
    fn check(odd: &'static [(&'static str, Answer)], expected: SendFailure) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        async move {
            let relay = FakeRelay::start(odd).await;
            let failure = send(&relay.provider_at("u:p@", Duration::from_secs(5))).await;
            assert_eq!(failure, Err(expected), "{caller}");
        }
    }
    let later = |code| SendFailure::Deferred { code: Some(code) };
    let slower = |code| SendFailure::Throttled { code: Some(code), retry_after: None };
    check(&[("RCPT", Say("550 5.1.1 <ana@mail.example>: none here"))], rejected(550, Scope::Recipient)).await;
    check(&[("RCPT", Say("550 5.7.1 relaying denied"))], rejected(550, Scope::Unrecognised)).await;
    check(&[("RCPT", Say("451 4.7.1 greylisted"))], later(451)).await;
    check(&[("RCPT", Say("452 4.2.2 mailbox full"))], later(452)).await;
    check(&[("MAIL", Say("451 4.7.1 too many"))], slower(451)).await;
    check(&[(".", Say("554 5.7.1 looks like spam"))], rejected(554, Scope::Unrecognised)).await;
    check(&[(".", Say("452 4.3.1 disk full"))], slower(452)).await;
    check(&[("MAIL", Say("550 5.7.1 not your domain"))], rejected(550, Scope::Account)).await;
    check(&[("AUTH", Say("535 5.7.8 bad credentials"))], rejected(535, Scope::Account)).await;
    let speechless = SendFailure::rejected(Scope::Account, None);
    check(&[("EHLO", Say("250 relay"))], speechless).await;
}

#[tokio::test]
async fn until_the_text_is_handed_over_nothing_is_in_doubt() {
    for odd in [
        &[("greeting", Close)] as &'static [_],
        &[("MAIL", Close)],
        &[("RCPT", Close)],
        &[("DATA", Close)],
        &[("greeting", Say("nonsense"))],
    ] {
        let relay = FakeRelay::start(odd).await;
        let failure = send(&relay.provider()).await.expect_err("no answer");
        assert!(matches!(failure, SendFailure::Unreachable { .. }), "{} {failure:?}", odd[0].0);
    }
    for odd in [&[("greeting", Hang)] as &'static [_], &[("DATA", Hang)]] {
        let relay = FakeRelay::start(odd).await;
        let failure = send(&relay.provider_at("", Duration::from_millis(200))).await;
        assert_eq!(
            failure,
            Err(SendFailure::Unreachable { detail: "timed out before the answer".to_owned() }),
            "{}",
            odd[0].0
        );
    }
}

#[tokio::test]
async fn a_lost_answer_to_the_text_is_in_doubt() {
    for odd in
        [&[(".", Close)] as &'static [_], &[(".", Hang)], &[(".", Say("what?"))], &[(".", Say("421 bye"))]]
    {
        let relay = FakeRelay::start(odd).await;
        let failure = send(&relay.provider_at("", Duration::from_millis(300))).await.expect_err("no answer");
        assert!(matches!(failure, SendFailure::InDoubt { .. }), "{failure:?}");
        assert!(!format!("{failure:?}").contains("ana"), "{failure:?}");
    }
}

#[tokio::test]
async fn a_relay_that_is_not_there_is_out_of_reach() {
    let relay = FakeRelay { port: 1, heard: Arc::default() };
    let failure = send(&relay.provider()).await.expect_err("nobody listens");
    assert!(matches!(failure, SendFailure::Unreachable { .. }), "{failure:?}");
}

#[tokio::test]
async fn credentials_are_tried_without_an_email() {
    let relay = FakeRelay::start(&[]).await;
    relay.provider_at("us%40er:p%3Aw@", Duration::from_secs(5)).check_credentials().await.expect("good");
    assert!(relay.heard()[1].starts_with("AUTH PLAIN "), "{:?}", relay.heard());
    assert_eq!(relay.count("MAIL"), 0);
    let refusing = FakeRelay::start(&[("AUTH", Say("535 5.7.8 no"))]).await;
    let fault = refusing.provider_at("u:hunter2@", Duration::from_secs(5)).check_credentials().await;
    let fault = fault.expect_err("refused");
    assert!(matches!(fault, CredentialError::Refused { status: 535, code: None }), "{fault:?}");
    assert!(!format!("{fault} {fault:?}").contains("hunter2"));
    let open = FakeRelay::start(&[("EHLO", Say("250 relay"))]).await;
    let fault = open.provider_at("u:hunter2@", Duration::from_secs(5)).check_credentials().await;
    let fault = fault.expect_err("no way to log in");
    assert!(matches!(fault, CredentialError::UnsupportedLogin(_)), "{fault:?}");
    let told = fault.to_string();
    assert!(
        told.contains("offers no log-in") && told.contains("leave the user and the password out"),
        "{told}"
    );
    let silent = FakeRelay::start(&[("greeting", Hang)]).await;
    let fault = silent.provider_at("", Duration::from_millis(200)).check_credentials().await;
    assert!(matches!(fault, Err(CredentialError::Unanswered(_))), "{fault:?}");
}

#[tokio::test]
async fn a_relay_elsewhere_without_starttls_hears_nothing_of_an_email() {
    let relay = FakeRelay::start(&[]).await;
    // It leads to this machine, but is no loopback address as one writes it: it counts as elsewhere.
    let url = format!("smtp://u:hunter2@0.0.0.0:{}", relay.port).into();
    let from = "codes@shop.example".parse().expect("a sender");
    let timeout = Duration::from_secs(5);
    let provider = SmtpProvider::new(&SmtpSettings { url, from, timeout }).expect("valid settings");
    assert_eq!(send(&provider).await, Err(SendFailure::rejected(Scope::Account, None)));
    let told = provider.check_credentials().await.expect_err("no way in").to_string();
    assert!(told.contains("offers no STARTTLS") && !told.contains("credentials"), "{told}");
    assert_eq!(relay.count("AUTH") + relay.count("MAIL"), 0, "{:?}", relay.heard());
}

#[tokio::test]
async fn a_relay_shows_nothing_and_carries_no_text_message() {
    let relay = FakeRelay::start(&[]).await;
    let provider = relay.provider();
    let to: Address = EmailAddress::parse("ana@mail.example").expect("an address").into();
    assert!(matches!(provider.find(&to, UnixMillis(0)).await, Err(LookupError::Refused { .. })));
    assert!(matches!(provider.fetch("x@shop.example").await, Err(LookupError::Refused { .. })));
    let number = PhoneNumber::parse("+573001234567", "CO".parse().expect("valid")).expect("a number");
    let letter = Letter { to: number.into(), ..letter("ana@mail.example") };
    let refused = SendFailure::rejected(Scope::Request, None);
    assert_eq!(provider.send(&message(&letter)).await, Err(refused));
    assert_eq!(relay.heard(), Vec::<String>::new());
}
