//! Reads the settings of TLS toward RabbitMQ, Redis and the mail server: the names of files. Their contents are checked by
//! the adapters.

use std::path::PathBuf;

use secrecy::{ExposeSecret as _, SecretString};

use super::reader::Reader;
use super::settings::{ClientFiles, TlsFiles};
use super::validators::is_loopback;

/// The names of the settings of a server.
struct Names {
    url: &'static str,
    /// The group in `Reader::needs`.
    group: &'static str,
    /// The scheme of its URL with TLS.
    scheme: &'static str,
    ca: &'static str,
    certificate: &'static str,
    key: &'static str,
}

const AMQP: Names = Names {
    url: "AMQP_URL",
    group: "AMQP_TLS",
    scheme: "amqps",
    ca: "AMQP_CA_FILE",
    certificate: "AMQP_CLIENT_CERT_FILE",
    key: "AMQP_CLIENT_KEY_FILE",
};

const REDIS: Names = Names {
    url: "REDIS_URL",
    group: "REDIS_TLS",
    scheme: "rediss",
    ca: "REDIS_CA_FILE",
    certificate: "REDIS_CLIENT_CERT_FILE",
    key: "REDIS_CLIENT_KEY_FILE",
};

const SMTP_CA_FILE: &str = "SMTP_CA_FILE";

impl Reader<'_> {
    pub(super) fn amqp_tls(&mut self, url: Option<&SecretString>) -> Option<TlsFiles> {
        let files = self.tls_files(url, &AMQP)?;
        if files.client.is_none() && url.is_some_and(logs_in_by_certificate) {
            self.error(AMQP.certificate, "must be set beside auth_mechanism=external in AMQP_URL");
        }
        Some(files)
    }

    pub(super) fn redis_tls(&mut self, url: Option<&SecretString>) -> Option<TlsFiles> {
        self.tls_files(url, &REDIS)
    }

    /// `None` without TLS, or for a process that does not connect. A file that is named for a connection in plain text is an error: it shows that TLS was wanted.
    fn tls_files(&mut self, url: Option<&SecretString>, names: &Names) -> Option<TlsFiles> {
        let [ca, certificate, key] = [names.ca, names.certificate, names.key].map(|name| self.file(name));
        let url = url.filter(|_| self.needs(names.group))?;
        if !has_scheme(url, names.scheme) {
            let given = [(names.ca, &ca), (names.certificate, &certificate), (names.key, &key)];
            for (name, _) in given.into_iter().filter(|(_, file)| file.is_some()) {
                let Names { url, scheme, .. } = names;
                self.error(
                    name,
                    format!("has no effect without TLS: begin {url} with {scheme}, or unset it"),
                );
            }
            return None;
        }
        let client = match (certificate, key) {
            (Some(certificate), Some(key)) => Some(ClientFiles { certificate, key }),
            (Some(_), None) => {
                self.error(names.key, format!("must be set beside {}", names.certificate));
                None
            }
            (None, Some(_)) => {
                self.error(names.certificate, format!("must be set beside {}", names.key));
                None
            }
            (None, None) => None,
        };
        Some(TlsFiles { ca, client })
    }

    /// The roots of the mail server, unless it is another provider's turn.
    pub(super) fn smtp_ca_file(&mut self, by_smtp: bool, url: Option<&str>) -> Option<PathBuf> {
        let file = self.file(SMTP_CA_FILE)?;
        if !by_smtp {
            self.notices
                .push("SMTP_CA_FILE is set, but EMAIL_PROVIDER is not smtp: it has no effect".to_owned());
            return None;
        }
        if url.and_then(|url| url.strip_prefix("smtp://")).is_some_and(leads_to_this_machine) {
            self.error(SMTP_CA_FILE, "has no effect: SMTP_URL leads to this machine, without TLS");
            return None;
        }
        Some(file)
    }

    fn file(&mut self, name: &'static str) -> Option<PathBuf> {
        Some(self.text(name, "")).filter(|path| !path.is_empty()).map(PathBuf::from)
    }
}

/// True for the scheme alone and before `+`.
fn has_scheme(url: &SecretString, wanted: &str) -> bool {
    let scheme = url.expose_secret().split([':', '+']).next().unwrap_or_default();
    scheme.eq_ignore_ascii_case(wanted)
}

/// SASL EXTERNAL: the certificate names the user.
fn logs_in_by_certificate(url: &SecretString) -> bool {
    let query = url.expose_secret().split_once('?').map_or("", |(_, query)| query);
    query.split('&').any(|parameter| parameter == "auth_mechanism=external")
}

/// The rest of a URL, whose user may stand before the host.
fn leads_to_this_machine(rest: &str) -> bool {
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    is_loopback(host) || host.starts_with("[::1]")
}
