//! The relay: its address, TLS and login.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{AsyncSmtpConnection, AsyncTokioStream};
use lettre::transport::smtp::commands::Starttls;
use lettre::transport::smtp::extension::{ClientId, Extension};
use percent_encoding::percent_decode_str;
use rustls::pki_types::ServerName;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use url::Url;

use super::errors::{Fault, SmtpSettingsError, Step};
use super::replies::{Lent, ReplyStream};
use crate::tls::TlsClient;
use crate::tls::fault::TlsFault;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Ports of RFC 8314 and RFC 6409.
const PORT_TLS: u16 = 465;
const PORT_SUBMISSION: u16 = 587;
/// Nearly every relay supports these. Both send the password, so TLS is required.
const MECHANISMS: [Mechanism; 2] = [Mechanism::Plain, Mechanism::Login];

/// A relay. It holds a password, hence no `Debug`.
pub(super) struct Relay {
    host: String,
    port: u16,
    security: Security,
    credentials: Option<Credentials>,
    /// The name in `EHLO`.
    name: ClientId,
}

enum Security {
    /// From the first byte.
    Tls(Tls),
    /// Required before anything else.
    StartTls(Tls),
    /// Nothing leaves this machine.
    Loopback,
}

struct Tls {
    client: TlsClient,
    /// The name that the certificate must have.
    server: ServerName<'static>,
}

impl Tls {
    /// The certificate must be trusted by `given`, or without it by this machine.
    fn new(host: &str, given: Option<TlsClient>) -> Result<Tls, SmtpSettingsError> {
        let server = ServerName::try_from(host.to_owned()).map_err(|_| SmtpSettingsError::Url)?;
        let client = match given {
            Some(client) => client,
            None => TlsClient::of_system().map_err(|_| SmtpSettingsError::Authorities)?,
        };
        Ok(Tls { client, server })
    }

    async fn handshake(&self, stream: TcpStream) -> Result<TlsStream<TcpStream>, Fault> {
        let connector = TlsConnector::from(self.client.config());
        let connected = connector.connect(self.server.clone(), stream).await;
        connected.map_err(|error| Fault::Tls(TlsFault::of(&self.client.explained(error))))
    }
}

impl Relay {
    pub(super) fn server(&self) -> (&str, u16) {
        (&self.host, self.port)
    }

    /// Reads the URL of a relay. `name` is a domain of ours. Without `given`, TLS trusts the system's roots.
    pub(super) fn parse(
        url: &SecretString,
        name: &str,
        given: Option<&TlsClient>,
    ) -> Result<Relay, SmtpSettingsError> {
        let url = Url::parse(url.expose_secret()).map_err(|_| SmtpSettingsError::Url)?;
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or(SmtpSettingsError::Url)?;
        let host = host.trim_matches(['[', ']']);
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return Err(SmtpSettingsError::Rest);
        }
        let tls = || Tls::new(host, given.cloned());
        let (security, port) = match url.scheme() {
            "smtps" => (Security::Tls(tls()?), PORT_TLS),
            "smtp" if is_loopback(host) => (Security::Loopback, PORT_SUBMISSION),
            "smtp" => (Security::StartTls(tls()?), PORT_SUBMISSION),
            _ => return Err(SmtpSettingsError::Scheme),
        };
        Ok(Relay {
            host: host.to_owned(),
            port: url.port().unwrap_or(port),
            security,
            credentials: credentials(&url)?,
            name: ClientId::Domain(name.to_owned()),
        })
    }

    pub(super) fn tls(&self) -> Option<&TlsClient> {
        match &self.security {
            Security::Tls(tls) | Security::StartTls(tls) => Some(&tls.client),
            Security::Loopback => None,
        }
    }

    /// A connection that can send e-mails. The caller bounds the time.
    pub(super) async fn connect(&self) -> Result<AsyncSmtpConnection, (Step, Fault)> {
        let mut connection = self.secured().await.map_err(|fault| (Step::Hello, fault))?;
        if let Some(credentials) = &self.credentials {
            let login = connection.auth(&MECHANISMS, credentials).await;
            login.map_err(|error| (Step::LogIn, error.into()))?;
        }
        Ok(connection)
    }

    /// A connection after `EHLO`, inside TLS unless the relay is on this machine.
    async fn secured(&self) -> Result<AsyncSmtpConnection, Fault> {
        let (stream, peer) = self.reach().await.map_err(Fault::Connect)?;
        let stream: Box<dyn AsyncTokioStream> = match &self.security {
            Security::Loopback => Lent::new(ReplyStream::new(stream, peer)).lend(),
            Security::Tls(tls) => Lent::new(ReplyStream::new(tls.handshake(stream).await?, peer)).lend(),
            Security::StartTls(tls) => {
                let stream = tls.handshake(self.start_tls(stream, peer).await?).await?;
                Lent::new(ReplyStream::after_starttls(stream, peer)).lend()
            }
        };
        Ok(AsyncSmtpConnection::connect_with_transport(stream, &self.name).await?)
    }

    /// Asks for TLS on a plain connection. No byte that was received before TLS gets beyond this function.
    async fn start_tls(&self, stream: TcpStream, peer: SocketAddr) -> Result<TcpStream, Fault> {
        let lent = Lent::new(ReplyStream::new(stream, peer));
        let mut plain = AsyncSmtpConnection::connect_with_transport(lent.lend(), &self.name).await?;
        if !plain.server_info().supports_feature(Extension::StartTls) {
            return Err(Fault::NoStartTls);
        }
        let reply = plain.command(Starttls).await?;
        if !reply.has_code(220) {
            return Err(Fault::OtherReply);
        }
        drop(plain);
        lent.into_inner().map_err(|_| Fault::Injected)
    }

    /// The first address of the relay that answers.
    async fn reach(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let mut failed = ErrorKind::NotFound.into();
        for address in lookup_host((self.host.as_str(), self.port)).await? {
            match timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Ok((stream, address)),
                Ok(Err(error)) => failed = error,
                Err(_) => failed = ErrorKind::TimedOut.into(),
            }
        }
        Err(failed)
    }
}

/// `None` without a user.
fn credentials(url: &Url) -> Result<Option<Credentials>, SmtpSettingsError> {
    let text = |text| percent_decode_str(text).decode_utf8().map_err(|_| SmtpSettingsError::Credentials);
    match (url.username(), url.password()) {
        ("", None) => Ok(None),
        ("", Some(_)) | (_, None) => Err(SmtpSettingsError::Credentials),
        (user, Some(password)) => {
            Ok(Some(Credentials::new(text(user)?.into_owned(), text(password)?.into_owned())))
        }
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relay(url: &str) -> Result<Relay, SmtpSettingsError> {
        Relay::parse(&url.into(), "shop.example", None)
    }

    #[track_caller]
    fn refused(url: &str, expected: SmtpSettingsError) {
        assert_eq!(relay(url).err(), Some(expected), "{url}");
    }

    #[test]
    fn the_scheme_decides_tls_and_the_default_port() {
        let found = relay("smtps://user:p%40ss@mail.example").expect("a relay");
        assert!(matches!(found.security, Security::Tls(_)));
        assert_eq!((found.host.as_str(), found.port), ("mail.example", 465));
        assert_eq!(found.credentials, Some(Credentials::new("user".to_owned(), "p@ss".to_owned())));
        let found = relay("smtp://mail.example:2525").expect("a relay");
        assert!(matches!(found.security, Security::StartTls(_)));
        assert_eq!((found.port, found.credentials), (2525, None));
        for local in ["smtp://127.0.0.1", "smtp://localhost:587", "smtp://[::1]:587/"] {
            let found = relay(local).expect("a relay");
            assert!(matches!(found.security, Security::Loopback), "{local}");
            assert_eq!(found.port, 587);
        }
    }

    #[test]
    fn an_invalid_url_is_refused_by_its_rule() {
        refused("mail.example", SmtpSettingsError::Url);
        refused("smtp://", SmtpSettingsError::Url);
        refused("https://mail.example", SmtpSettingsError::Scheme);
        refused("smtps://mail.example/path", SmtpSettingsError::Rest);
        refused("smtp://mail.example?tls=opportunistic", SmtpSettingsError::Rest);
        refused("smtps://user@mail.example", SmtpSettingsError::Credentials);
        refused("smtps://:secret@mail.example", SmtpSettingsError::Credentials);
        refused("smtps://u:%ff@mail.example", SmtpSettingsError::Credentials);
    }
}
