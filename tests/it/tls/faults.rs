//! Faults of certificates, as a server of our own shows them, and the reach of a private root.

use std::sync::Arc;

use otpost::broker::rabbit::RabbitSettings;
use otpost::broker::rabbit::health_check::RabbitHealthCheck;
use otpost::broker::{HealthCheck as _, Names};
use otpost::tls::{TlsClient, TlsFiles};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::pki::Pki;
use crate::inspect::otpost;
use crate::real::install_crypto;
use crate::store_faults::server::key;

/// A server that answers everything inside TLS as HTTP does. Returns its port.
async fn server(certificate: &str, private_key: &str) -> u16 {
    let certificate = CertificateDer::from_pem_file(certificate).expect("a certificate");
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], PrivateKeyDer::from_pem_file(private_key).expect("a key"))
        .expect("a certificate with its key");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let mut stream = acceptor.accept(stream).await.ok()?;
                let mut asked = [0; 4_096];
                while stream.read(&mut asked).await.ok()? > 0 {
                    let answer = b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n";
                    stream.write_all(answer).await.ok()?;
                }
                Some(())
            });
        }
    });
    port
}

async fn fault(host: &str, port: u16, ca: &str) -> String {
    let tls = TlsClient::new(TlsFiles { ca: Some(ca.into()), client: None }).expect("valid files");
    let url = format!("amqps://u:hunter2@{host}:{port}");
    let settings = RabbitSettings::new(&url, Names::new("t"), 1).expect("a URL").with_tls(Some(tls));
    RabbitHealthCheck::new(settings).check().await.expect_err("it is no RabbitMQ")
}

#[tokio::test]
async fn faults_of_the_brokers_certificate_are_named_and_its_host_is_not() {
    install_crypto();
    let of = "the certificate of RabbitMQ";
    for (certificate, host, ca, expected) in [
        ("redis.certificate.pem", "127.0.0.1", "relay.certificate.pem", "has an unknown issuer"),
        ("redis.certificate.pem", "localhost", "redis.certificate.pem", "is for another host"),
        ("redis.expired.pem", "127.0.0.1", "redis.expired.pem", "has expired"),
        ("redis.not-valid-yet.pem", "127.0.0.1", "redis.not-valid-yet.pem", "is not valid yet"),
    ] {
        let port = server(&key(certificate), &key("redis.private.pem")).await;
        let fault = fault(host, port, &key(ca)).await;
        assert!(fault.starts_with(&format!("cannot be reached: {of} {expected}")), "{fault}");
        assert!(!fault.contains(host) && !fault.contains("hunter2"), "{fault}");
    }
    let plain = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let port = plain.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = plain.accept().await {
            let _ = stream.write_all(b"AMQP\x00\x00\x09\x01").await;
        }
    });
    let fault = fault("127.0.0.1", port, &key("redis.certificate.pem")).await;
    assert_eq!(fault, "cannot be reached: no TLS connection: the port in AMQP_URL must have TLS 1.2 or 1.3");
}

/// `SSL_CERT_FILE` stands for the system's store.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_private_root_is_trusted_beside_the_systems_and_for_its_server_alone() {
    let Some(pki) = Pki::new() else { return };
    for authority in ["public", "private"] {
        pki.authority(authority);
        pki.issue(authority, &format!("of-{authority}"), "localhost");
    }
    let of = async |authority: &str| {
        let file = |kind: &str| pki.path(&format!("of-{authority}.{kind}"));
        server(&file("crt"), &file("key")).await
    };
    let (public, private) = (of("public").await, of("private").await);
    let (system, ca) = (pki.path("public.pem"), pki.path("private.pem"));
    let status = async |amqp: u16, redis: u16, twilio: u16| {
        let (amqp, redis) = (format!("amqps://u:p@127.0.0.1:{amqp}"), format!("rediss://127.0.0.1:{redis}"));
        let twilio = format!("https://127.0.0.1:{twilio}");
        let settings = [
            ("ENVIRONMENT", "development"),
            ("AMQP_URL", amqp.as_str()),
            ("AMQP_CA_FILE", &ca),
            ("REDIS_URL", &redis),
            ("TWILIO_API_BASE_URL", &twilio),
            ("TWILIO_ACCOUNT_SID", "AC00000000000000000000000000000001"),
            ("TWILIO_AUTH_TOKEN", "token"),
            ("TWILIO_FROM_NUMBER", "+15005550006"),
            ("SSL_CERT_FILE", &system),
        ];
        let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let output = tokio::task::spawn_blocking(move || {
            let settings: Vec<_> = settings.iter().map(|(name, value)| (&**name, &**value)).collect();
            otpost(&settings, &["status", "--json"])
        });
        String::from_utf8(output.await.expect("no panic").stdout).expect("text")
    };
    let is_untrusted =
        |text: &str, of: &str| text.contains(&format!("the certificate of {of} has an unknown issuer"));
    // Each server answers in HTTP, so trust shows as another fault than an unknown issuer.
    let private_broker = status(private, public, public).await;
    assert!(
        !is_untrusted(&private_broker, "RabbitMQ") && !is_untrusted(&private_broker, "Redis"),
        "{private_broker}"
    );
    assert!(private_broker.contains("401"), "Twilio answers over the public root: {private_broker}");
    let public_broker = status(public, private, private).await;
    assert!(!is_untrusted(&public_broker, "RabbitMQ"), "both roots are trusted: {public_broker}");
    assert!(is_untrusted(&public_broker, "Redis"), "another server's root: {public_broker}");
    let refused = "could not be checked at the provider: no connection";
    assert!(public_broker.contains(refused) && !public_broker.contains("401"), "{public_broker}");
}
