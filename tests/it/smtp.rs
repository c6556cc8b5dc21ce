//! E-mails through a relay, on the wire.

mod replies;
mod starttls;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use otpost::domain::address::Address;
use otpost::domain::email::EmailAddress;
use otpost::domain::phone::PhoneNumber;
use otpost::domain::send_failure::{Scope, SendFailure};
use otpost::domain::time::UnixMillis;
use otpost::provider::smtp::{SmtpProvider, SmtpSettings};
use otpost::provider::{CredentialError, LookupError, Mail, Message, Provider};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;

use crate::contract::provider::Draft;

/// The reaction of the relay to a line.
#[derive(Clone, Copy)]
enum Answer {
    /// A line, without its end.
    Say(&'static str),
    /// Exactly these bytes.
    Bytes(&'static [u8]),
    Close,
    Hang,
}

use Answer::{Bytes, Close, Hang, Say};

/// A relay with the part of SMTP that these tests need. Its answers can be scripted.
struct FakeRelay {
    port: u16,
    received: Arc<Mutex<Vec<String>>>,
}

impl FakeRelay {
    /// `odd` has the verbs with another answer than the usual one. `.` is the end of a text.
    async fn start(odd: &'static [(&'static str, Answer)]) -> FakeRelay {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let received = Arc::new(Mutex::new(Vec::new()));
        let recorded = received.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(converse(stream, odd, recorded.clone()));
            }
        });
        FakeRelay { port, received }
    }

    fn provider(&self) -> SmtpProvider {
        self.provider_at("", Duration::from_secs(5))
    }

    fn provider_at(&self, user: &str, timeout: Duration) -> SmtpProvider {
        let url = format!("smtp://{user}127.0.0.1:{}", self.port).into();
        let from = "Señal <codes@shop.example>".parse().expect("a sender");
        SmtpProvider::new(&SmtpSettings { url, tls: None, from, timeout }).expect("valid settings")
    }

    fn received(&self) -> Vec<String> {
        self.received.lock().expect("no panic").clone()
    }

    fn count(&self, line: &str) -> usize {
        self.received().iter().filter(|received| received.starts_with(line)).count()
    }
}

async fn converse(
    stream: impl AsyncRead + AsyncWrite,
    odd: &'static [(&'static str, Answer)],
    received: Arc<Mutex<Vec<String>>>,
) -> Option<()> {
    let (read, mut write) = tokio::io::split(stream);
    let mut lines = BufReader::new(read).lines();
    let mut answer = async |verb: &str, usual: &'static str| {
        let odd = odd.iter().find(|(odd, _)| *odd == verb).map(|(_, answer)| *answer);
        match odd.unwrap_or(Say(usual)) {
            Say(line) => write.write_all(format!("{line}\r\n").as_bytes()).await.ok(),
            Bytes(bytes) => write.write_all(bytes).await.ok(),
            Close => None,
            Hang => std::future::pending().await,
        }
    };
    answer("greeting", "220 relay").await?;
    let mut in_text = false;
    while let Ok(Some(line)) = lines.next_line().await {
        received.lock().expect("no panic").push(line.clone());
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

fn email(to: &str) -> Draft {
    let to = EmailAddress::parse(to).expect("an address").into();
    Draft {
        to,
        body: "Hola Ana:\n\n123456\n\n.\nVálido por 10 minutos.".to_owned(),
        ..Draft::to("+573001234567")
    }
}

fn message(draft: &Draft) -> Message<'_> {
    let mail = Mail { subject: "Tu código de Señal", html: "<p>Hola Ana: <b>123456</b></p>" };
    Message { mail: Some(mail), ..draft.message() }
}

async fn send(provider: &SmtpProvider) -> Result<Option<String>, SendFailure> {
    let draft = email("ana@mail.example");
    provider.send(&message(&draft)).await.map(|accepted| accepted.message_id)
}

fn rejected(code: u32, scope: Scope) -> SendFailure {
    SendFailure::refused(scope, Some(code))
}

#[tokio::test]
async fn an_email_has_a_text_and_an_html_part_and_asks_for_no_automatic_reply() {
    let relay = FakeRelay::start(&[]).await;
    let id = send(&relay.provider()).await.expect("accepted").expect("a name");
    let received = relay.received();
    assert_eq!(
        received[..4],
        ["EHLO shop.example", "MAIL FROM:<codes@shop.example>", "RCPT TO:<ana@mail.example>", "DATA"]
    );
    let text = received[4..].join("\n");
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
    let mut second = email("ana@mail.example");
    second.attempt = 2;
    let again = provider.send(&message(&second)).await.expect("accepted").message_id;
    let other = email("bob@mail.example");
    let other = provider.send(&message(&other)).await.expect("accepted").message_id;
    assert_eq!(first, again);
    assert_ne!(first, other);
    assert_eq!(relay.count("EHLO"), 1, "a fresh connection is used again");
}

#[tokio::test]
async fn a_connection_that_the_relay_closed_while_idle_is_replaced_once() {
    // A relay that restarts announces that it closes the connection.
    let closing = FakeRelay::start(&[("MAIL", Say("421 4.3.2 closing"))]).await;
    let gone = closing.provider();
    gone.check_credentials().await.expect("reached");
    let failure = send(&gone).await.expect_err("it always closes");
    assert_eq!(failure, SendFailure::NotConnected { detail: "answered with SMTP 421".to_owned() });
    assert_eq!(closing.count("EHLO"), 2, "one other connection is opened");
}

#[tokio::test]
async fn every_refusal_has_its_scope() {
    #[track_caller]
    fn check(odd: &'static [(&'static str, Answer)], expected: SendFailure) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        async move {
            let relay = FakeRelay::start(odd).await;
            let failure = send(&relay.provider_at("u:p@", Duration::from_secs(5))).await;
            assert_eq!(failure, Err(expected), "{caller}");
        }
    }
    let later = |code| SendFailure::Deferred { provider_code: Some(code) };
    let slower = |code| SendFailure::Throttled { provider_code: Some(code), retry_after: None };
    check(&[("RCPT", Say("550 5.1.1 <ana@mail.example>: none here"))], rejected(550, Scope::Recipient)).await;
    check(&[("RCPT", Say("550 5.7.1 relaying denied"))], rejected(550, Scope::Unrecognised)).await;
    check(&[("RCPT", Say("451 4.7.1 greylisted"))], later(451)).await;
    check(&[("RCPT", Say("452 4.2.2 mailbox full"))], later(452)).await;
    check(&[("MAIL", Say("451 4.7.1 too many"))], slower(451)).await;
    check(&[(".", Say("554 5.7.1 looks like spam"))], rejected(554, Scope::Unrecognised)).await;
    check(&[(".", Say("452 4.3.1 disk full"))], slower(452)).await;
    check(&[("MAIL", Say("550 5.7.1 not your domain"))], rejected(550, Scope::Account)).await;
    check(&[("AUTH", Say("535 5.7.8 bad credentials"))], rejected(535, Scope::Account)).await;
    let speechless = SendFailure::refused(Scope::Account, None);
    check(&[("EHLO", Say("250 relay"))], speechless).await;
}

#[tokio::test]
async fn nothing_is_in_doubt_before_the_text_is_sent() {
    for odd in [
        &[("greeting", Close)] as &'static [_],
        &[("MAIL", Close)],
        &[("RCPT", Close)],
        &[("DATA", Close)],
        &[("greeting", Say("nonsense"))],
    ] {
        let relay = FakeRelay::start(odd).await;
        let failure = send(&relay.provider()).await.expect_err("no answer");
        assert!(matches!(failure, SendFailure::NotConnected { .. }), "{} {failure:?}", odd[0].0);
    }
    for odd in [&[("greeting", Hang)] as &'static [_], &[("DATA", Hang)]] {
        let relay = FakeRelay::start(odd).await;
        let failure = send(&relay.provider_at("", Duration::from_millis(200))).await;
        assert_eq!(
            failure,
            Err(SendFailure::NotConnected { detail: "timed out before the answer".to_owned() }),
            "{}",
            odd[0].0
        );
    }
}

#[tokio::test]
async fn a_lost_answer_to_the_text_is_in_doubt() {
    for odd in [&[(".", Close)] as &'static [_], &[(".", Hang)], &[(".", Say("what?"))]] {
        let relay = FakeRelay::start(odd).await;
        let failure = send(&relay.provider_at("", Duration::from_millis(300))).await.expect_err("no answer");
        assert!(matches!(failure, SendFailure::InDoubt { .. }), "{failure:?}");
        assert!(!format!("{failure:?}").contains("ana"), "{failure:?}");
    }
}

#[tokio::test]
async fn a_missing_relay_is_unreachable() {
    let relay = FakeRelay { port: 1, received: Arc::default() };
    let failure = send(&relay.provider()).await.expect_err("no listener");
    assert!(matches!(failure, SendFailure::NotConnected { .. }), "{failure:?}");
}

#[tokio::test]
async fn credentials_are_checked_without_an_email() {
    let relay = FakeRelay::start(&[]).await;
    relay.provider_at("us%40er:p%3Aw@", Duration::from_secs(5)).check_credentials().await.expect("good");
    assert!(relay.received()[1].starts_with("AUTH PLAIN "), "{:?}", relay.received());
    assert_eq!(relay.count("MAIL"), 0);
    let refusing = FakeRelay::start(&[("AUTH", Say("535 5.7.8 no"))]).await;
    let fault = refusing.provider_at("u:hunter2@", Duration::from_secs(5)).check_credentials().await;
    let fault = fault.expect_err("refused");
    assert!(matches!(fault, CredentialError::Refused { status: 535, provider_code: None }), "{fault:?}");
    assert!(!format!("{fault} {fault:?}").contains("hunter2"));
    let open = FakeRelay::start(&[("EHLO", Say("250 relay"))]).await;
    let fault = open.provider_at("u:hunter2@", Duration::from_secs(5)).check_credentials().await;
    let fault = fault.expect_err("no way to log in");
    assert!(matches!(fault, CredentialError::UnsupportedLogin(_)), "{fault:?}");
    let text = fault.to_string();
    assert!(
        text.contains("offers no log-in") && text.contains("leave the user and the password out"),
        "{text}"
    );
    let silent = FakeRelay::start(&[("greeting", Hang)]).await;
    let fault = silent.provider_at("", Duration::from_millis(200)).check_credentials().await;
    assert!(matches!(fault, Err(CredentialError::Unanswered(_))), "{fault:?}");
}

#[tokio::test]
async fn a_remote_relay_without_starttls_receives_nothing_of_an_email() {
    let relay = FakeRelay::start(&[]).await;
    // The address leads to this machine, but is no written loopback address, so it counts as remote.
    let url = format!("smtp://u:hunter2@0.0.0.0:{}", relay.port).into();
    let from = "codes@shop.example".parse().expect("a sender");
    let timeout = Duration::from_secs(5);
    let provider =
        SmtpProvider::new(&SmtpSettings { url, tls: None, from, timeout }).expect("valid settings");
    assert_eq!(send(&provider).await, Err(SendFailure::refused(Scope::Account, None)));
    let text = provider.check_credentials().await.expect_err("no log-in").to_string();
    assert!(text.contains("offers no STARTTLS") && !text.contains("credentials"), "{text}");
    assert_eq!(relay.count("AUTH") + relay.count("MAIL"), 0, "{:?}", relay.received());
}

#[tokio::test]
async fn a_relay_has_no_lookups_and_sends_no_text_message() {
    let relay = FakeRelay::start(&[]).await;
    let provider = relay.provider();
    let to: Address = EmailAddress::parse("ana@mail.example").expect("an address").into();
    assert!(matches!(provider.find(&to, UnixMillis(0)).await, Err(LookupError::Refused { .. })));
    assert!(matches!(provider.fetch("x@shop.example").await, Err(LookupError::Refused { .. })));
    let number = PhoneNumber::parse("+573001234567", "CO".parse().expect("valid")).expect("a number");
    let draft = Draft { to: number.into(), ..email("ana@mail.example") };
    let refused = SendFailure::refused(Scope::Request, None);
    assert_eq!(provider.send(&message(&draft)).await, Err(refused));
    assert_eq!(relay.received(), Vec::<String>::new());
}
