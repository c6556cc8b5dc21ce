//! STARTTLS (RFC 3207): nothing that was received before TLS answers inside it.
//!
//! The relay's certificate is trusted through `SSL_CERT_FILE`, which holds for a whole process. So each test runs once
//! more as a process of its own.

use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use otpost::domain::send_failure::{Scope, SendFailure};
use otpost::provider::smtp::{SmtpProvider, SmtpSettings};
use otpost::tls::{TlsClient, TlsFiles};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::Answer::{self, Bytes, Say};
use super::{converse, rejected, send};

const CERTIFICATE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/keys/relay.certificate.pem");

/// True in the process that trusts the relay; elsewhere the test has run there.
fn trusts_the_relay(test: &str) -> bool {
    if std::env::var_os("SSL_CERT_FILE").is_some_and(|file| file == CERTIFICATE) {
        return true;
    }
    let test = format!("smtp::starttls::{test}");
    let ourselves = std::env::current_exe().expect("a test binary");
    let run = Command::new(ourselves)
        .args([&test, "--exact", "--nocapture"])
        .env("SSL_CERT_FILE", CERTIFICATE)
        .env_remove("SSL_CERT_DIR")
        .output()
        .expect("it starts");
    let printed = String::from_utf8_lossy(&run.stdout);
    assert!(
        run.status.success() && printed.contains("1 passed"),
        "{printed}{}",
        String::from_utf8_lossy(&run.stderr)
    );
    false
}

/// The replies in clear text, up to TLS.
#[derive(Clone, Copy)]
struct Plain {
    greeting: &'static [u8],
    ehlo: &'static [u8],
    starttls: &'static [u8],
    /// Sent a moment later, before the handshake.
    later: &'static [u8],
}

const USUAL: Plain = Plain {
    greeting: b"220 relay\r\n",
    ehlo: b"250-relay\r\n250-STARTTLS\r\n250 8BITMIME\r\n",
    starttls: b"220 go\r\n",
    later: b"",
};

/// All that a successful exchange has.
const REPLIES: &[u8] = b"250-relay\r\n250 8BITMIME\r\n250 fine\r\n250 fine\r\n354 go on\r\n250 taken\r\n";

struct Relay {
    port: u16,
    /// The lines inside TLS.
    received: Arc<Mutex<Vec<String>>>,
}

/// A relay with STARTTLS, and its replies inside TLS as in [`converse`].
async fn start(plain: Plain, odd: &'static [(&'static str, Answer)]) -> Relay {
    let certificate = CertificateDer::from_pem_file(CERTIFICATE).expect("a certificate");
    let key = CERTIFICATE.replace("certificate", "private");
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], PrivateKeyDer::from_pem_file(key).expect("a key"))
        .expect("a certificate with its key");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let received = Arc::new(Mutex::new(Vec::new()));
    let recorded = received.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, acceptor.clone(), plain, odd, recorded.clone()));
        }
    });
    Relay { port, received }
}

async fn serve(
    mut stream: TcpStream,
    acceptor: TlsAcceptor,
    plain: Plain,
    odd: &'static [(&'static str, Answer)],
    received: Arc<Mutex<Vec<String>>>,
) -> Option<()> {
    stream.write_all(plain.greeting).await.ok()?;
    for reply in [plain.ehlo, plain.starttls] {
        let mut line = String::new();
        // Nothing is read ahead: the client waits.
        BufReader::with_capacity(1, &mut stream).read_line(&mut line).await.ok()?;
        stream.write_all(reply).await.ok()?;
    }
    stream.write_all(plain.later).await.ok()?;
    let stream = acceptor.accept(stream).await.ok()?;
    converse(stream, odd, received).await
}

/// A relay that refuses the text inside TLS. It does not greet there.
const REFUSING: &[(&str, Answer)] = &[("greeting", Bytes(b"")), (".", Say("554 5.7.1 no"))];

impl Relay {
    async fn send(&self) -> Result<(), SendFailure> {
        self.send_with(None).await
    }

    async fn send_with(&self, tls: Option<TlsClient>) -> Result<(), SendFailure> {
        // The address leads to this machine, but is no written loopback address, so it counts as remote.
        let url = format!("smtp://0.0.0.0:{}", self.port).into();
        let from = "codes@shop.example".parse().expect("a sender");
        let timeout = Duration::from_secs(5);
        let provider = SmtpProvider::new(&SmtpSettings { url, tls, from, timeout }).expect("valid settings");
        send(&provider).await.map(drop)
    }

    fn received(&self) -> Vec<String> {
        self.received.lock().expect("no panic").clone()
    }
}

#[tokio::test]
async fn replies_in_plain_text_behind_starttls_are_never_believed_inside_tls() {
    if !trusts_the_relay("replies_in_plain_text_behind_starttls_are_never_believed_inside_tls") {
        return;
    }
    let behind = |starttls: &'static [u8]| [starttls, REPLIES].concat().leak() as &'static [u8];
    let at_once = [USUAL.greeting, USUAL.ehlo, USUAL.starttls, REPLIES].concat().leak();
    for (case, plain) in [
        ("in the same segment", Plain { starttls: behind(b"220 go\r\n"), ..USUAL }),
        ("behind several lines", Plain { starttls: behind(b"220-go\r\n220 on\r\n"), ..USUAL }),
        ("behind a bare code", Plain { starttls: behind(b"220\r\n"), ..USUAL }),
        ("a line that has no end yet", Plain { starttls: b"220 go\r\n250-relay", ..USUAL }),
        ("one byte", Plain { starttls: b"220 go\r\n\n", ..USUAL }),
        ("in a later segment", Plain { later: REPLIES, ..USUAL }),
        (
            "behind EHLO",
            Plain { ehlo: behind(b"250-relay\r\n250 STARTTLS\r\n220 go\r\n"), starttls: b"", ..USUAL },
        ),
        ("behind the greeting", Plain { greeting: at_once, ehlo: b"", starttls: b"", ..USUAL }),
    ] {
        let relay = start(plain, REFUSING).await;
        let failure = relay.send().await;
        assert!(matches!(failure, Err(SendFailure::NotConnected { .. })), "{case}: {failure:?}");
        assert_eq!(relay.received(), Vec::<String>::new(), "{case}");
    }
}

#[tokio::test]
async fn only_replies_inside_tls_decide() {
    if !trusts_the_relay("only_replies_inside_tls_decide") {
        return;
    }
    let refused = start(USUAL, REFUSING).await.send().await;
    assert_eq!(refused, Err(rejected(554, Scope::Unrecognised)));
    let relay = start(USUAL, &[("greeting", Bytes(b""))]).await;
    assert_eq!(relay.send().await, Ok(()));
    assert_eq!(relay.received()[0], "EHLO shop.example");
    for starttls in [b"220\r\n" as &'static [u8], b"220-go\r\n220 on\r\n", b"220 go\n"] {
        let relay = start(Plain { starttls, ..USUAL }, &[("greeting", Bytes(b"")), (".", Say("250"))]).await;
        assert_eq!(relay.send().await, Ok(()), "{}", starttls.escape_ascii());
    }
}

#[tokio::test]
async fn a_relay_that_refuses_tls_gets_no_email() {
    if !trusts_the_relay("a_relay_that_refuses_tls_gets_no_email") {
        return;
    }
    let lacking = SendFailure::refused(Scope::Account, None);
    let closed = SendFailure::NotConnected { detail: "answered with SMTP 454".to_owned() };
    let other = SendFailure::NotConnected {
        detail: "the mail server sent another reply than the step has".to_owned(),
    };
    for (plain, expected) in [
        (Plain { ehlo: b"250-relay\r\n250 8BITMIME\r\n", ..USUAL }, lacking),
        (Plain { starttls: b"454 4.7.0 not now\r\n", ..USUAL }, closed),
        (Plain { starttls: b"502 5.5.1 no\r\n", ..USUAL }, rejected(502, Scope::Account)),
        (Plain { starttls: b"250 fine\r\n", ..USUAL }, other),
    ] {
        let relay = start(plain, &[]).await;
        assert_eq!(relay.send().await, Err(expected));
        assert_eq!(relay.received(), Vec::<String>::new());
    }
}

const UNTRUSTED: &str = "the certificate of the mail server has an unknown issuer: ";

#[tokio::test]
async fn a_certificate_that_is_not_trusted_gets_no_email() {
    let relay = start(USUAL, &[]).await;
    let detail = format!("{UNTRUSTED}name the issuer's file in SMTP_CA_FILE");
    assert_eq!(relay.send().await, Err(SendFailure::NotConnected { detail }));
}

#[tokio::test]
async fn a_private_root_makes_a_relay_trusted() {
    let relay = start(USUAL, &[("greeting", Bytes(b""))]).await;
    let trusting =
        |file: &str| TlsClient::new(TlsFiles { ca: Some(file.into()), client: None }).expect("a file");
    let other = CERTIFICATE.replace("relay.", "redis.");
    let detail = format!("{UNTRUSTED}SMTP_CA_FILE names the file of another; correct it");
    let untrusted = Err(SendFailure::NotConnected { detail });
    assert_eq!(relay.send_with(Some(trusting(&other))).await, untrusted);
    assert_eq!(relay.send_with(Some(trusting(CERTIFICATE))).await, Ok(()));
}
