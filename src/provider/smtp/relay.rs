//! The relay: its address, TLS and login.

use std::net::IpAddr;
use std::time::Duration;

use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{AsyncSmtpConnection, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use percent_encoding::percent_decode_str;
use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

use super::errors::{SmtpSettingsError, Step};

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
    Tls(TlsParameters),
    /// Required before anything else.
    StartTls(TlsParameters),
    /// Nothing leaves this machine.
    Loopback,
}

impl Relay {
    /// Reads the URL of a relay. `name` is a domain of ours.
    pub(super) fn parse(url: &SecretString, name: &str) -> Result<Relay, SmtpSettingsError> {
        let url = Url::parse(url.expose_secret()).map_err(|_| SmtpSettingsError::Url)?;
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or(SmtpSettingsError::Url)?;
        let host = host.trim_matches(['[', ']']);
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return Err(SmtpSettingsError::Rest);
        }
        let tls = || TlsParameters::new(host.to_owned()).map_err(|_| SmtpSettingsError::Url);
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

    /// A connection that can send e-mails. The caller bounds the time.
    pub(super) async fn connect(
        &self,
    ) -> Result<AsyncSmtpConnection, (Step, lettre::transport::smtp::Error)> {
        let from_the_start = match &self.security {
            Security::Tls(parameters) => Some(parameters.clone()),
            Security::StartTls(_) | Security::Loopback => None,
        };
        let address = (self.host.as_str(), self.port);
        let connection = AsyncSmtpConnection::connect_tokio1(
            address,
            Some(CONNECT_TIMEOUT),
            &self.name,
            from_the_start,
            None,
        );
        let mut connection = connection.await.map_err(|error| (Step::Hello, error))?;
        if let Security::StartTls(parameters) = &self.security {
            let upgraded = connection.starttls(parameters.clone(), &self.name).await;
            upgraded.map_err(|error| (Step::Hello, error))?;
        }
        if let Some(credentials) = &self.credentials {
            let login = connection.auth(&MECHANISMS, credentials).await;
            login.map_err(|error| (Step::LogIn, error))?;
        }
        Ok(connection)
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
        Relay::parse(&url.into(), "shop.example")
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
