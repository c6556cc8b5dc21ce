//! TLS toward the servers of the settings: its errors by their settings, and the look at its files in a running process.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::anyhow;

use crate::clock::Clock;
use crate::config::{ConfigError, Settings, Smtp, TlsFiles as NamedFiles, Traces};
use crate::domain::time::UnixMillis;
use crate::telemetry::events;
use crate::tls::{FileFault, Look, TlsClient, TlsFile, TlsFiles, WeakTlsClient};

/// The settings of a server.
#[derive(Clone, Copy)]
pub(super) struct Names {
    pub(super) url: &'static str,
    ca: &'static str,
    client_certificate: &'static str,
    client_key: &'static str,
}

pub(super) const AMQP: Names = Names {
    url: "AMQP_URL",
    ca: "AMQP_CA_FILE",
    client_certificate: "AMQP_CLIENT_CERT_FILE",
    client_key: "AMQP_CLIENT_KEY_FILE",
};

pub(super) const REDIS: Names = Names {
    url: "REDIS_URL",
    ca: "REDIS_CA_FILE",
    client_certificate: "REDIS_CLIENT_CERT_FILE",
    client_key: "REDIS_CLIENT_KEY_FILE",
};

/// There are no settings of a client certificate.
pub(super) const SMTP: Names =
    Names { url: "SMTP_URL", ca: "SMTP_CA_FILE", client_certificate: "SMTP_URL", client_key: "SMTP_URL" };

/// There are no settings of a client certificate.
pub(super) const fn otlp(traces: &Traces) -> Names {
    const URL: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
    Names { url: URL, ca: traces.ca_setting, client_certificate: URL, client_key: URL }
}

const LOOK_INTERVAL: Duration = Duration::from_secs(60);

/// `None` without TLS.
pub(super) fn amqp_tls(settings: &Settings) -> Result<Option<TlsClient>, Vec<ConfigError>> {
    settings.amqp_tls.as_ref().map(|files| client(files, AMQP)).transpose()
}

/// `None` without TLS.
pub(super) fn redis_tls(settings: &Settings) -> Result<Option<TlsClient>, Vec<ConfigError>> {
    settings.redis_tls.as_ref().map(|files| client(files, REDIS)).transpose()
}

/// `None` without a file: then the adapter trusts the system's roots where it needs TLS.
pub(super) fn smtp_tls(smtp: &Smtp) -> Result<Option<TlsClient>, Vec<ConfigError>> {
    let files = |ca: &PathBuf| NamedFiles { ca: Some(ca.clone()), client: None };
    smtp.ca_file.as_ref().map(|ca| client(&files(ca), SMTP)).transpose()
}

/// `None` without a file: then the HTTP client trusts the system's roots.
pub(super) fn otlp_tls(traces: &Traces) -> Result<Option<TlsClient>, Vec<ConfigError>> {
    let files = |ca: &PathBuf| NamedFiles { ca: Some(ca.clone()), client: None };
    traces.ca_file.as_ref().map(|ca| client(&files(ca), otlp(traces))).transpose()
}

fn client(files: &NamedFiles, names: Names) -> Result<TlsClient, Vec<ConfigError>> {
    let client = files.client.as_ref().map(|client| (client.certificate.clone(), client.key.clone()));
    TlsClient::new(TlsFiles { ca: files.ca.clone(), client }).map_err(|faults| errors(&faults, names))
}

fn errors(faults: &[FileFault], names: Names) -> Vec<ConfigError> {
    let setting = |file| match file {
        TlsFile::Ca => names.ca,
        TlsFile::ClientCertificate => names.client_certificate,
        TlsFile::ClientKey => names.client_key,
        TlsFile::System => names.url,
    };
    faults.iter().map(|fault| ConfigError::new(setting(fault.file), &*fault.problem)).collect()
}

/// One error of the errors that the check of the settings reports one by one.
pub(super) fn failed(errors: &[ConfigError]) -> anyhow::Error {
    anyhow!("{}", in_one_line(errors))
}

fn in_one_line(errors: &[ConfigError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// Looks at the files until the last connection that uses them has gone.
pub(super) fn watch(client: Option<&TlsClient>, names: Names) {
    if let Some(client) = client {
        tokio::spawn(look_at_intervals(client.downgrade(), names));
    }
}

async fn look_at_intervals(weak: WeakTlsClient, names: Names) {
    let mut expiry = ExpiryLog::default();
    loop {
        let Some(client) = weak.upgrade() else { return };
        if let Some(at) = expiry.note(client.client_valid_until(), Clock::System.now()) {
            events::client_certificate_expired(names.client_certificate, at);
        }
        drop(client);
        tokio::time::sleep(LOOK_INTERVAL).await;
        let Some(client) = weak.upgrade() else { return };
        match client.look().await {
            Look::Unchanged => {}
            Look::Reloaded => events::certificates_reloaded(names.url),
            Look::Refused(faults) => {
                events::certificates_refused(names.url, &in_one_line(&errors(&faults, names)));
            }
        }
    }
}

/// Each certificate that has expired is reported once.
#[derive(Default)]
struct ExpiryLog(Option<UnixMillis>);

impl ExpiryLog {
    /// The end of our certificate, if it is to be reported.
    fn note(&mut self, valid_until: Option<UnixMillis>, now: UnixMillis) -> Option<UnixMillis> {
        let expired = valid_until.filter(|until| *until < now);
        let is_new = expired.is_some() && expired != self.0;
        self.0 = expired;
        expired.filter(|_| is_new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_that_has_expired_is_reported_once() {
        let mut log = ExpiryLog::default();
        let mut note = |until, now| log.note(until, UnixMillis(now));
        let (first, second) = (Some(UnixMillis(10)), Some(UnixMillis(20)));
        assert_eq!([note(None, 9), note(first, 9), note(first, 10)], [None; 3]);
        assert_eq!([note(first, 11), note(first, 12)], [first, None]);
        assert_eq!([note(second, 13), note(second, 21), note(second, 22)], [None, second, None]);
        assert_eq!([note(None, 23), note(second, 24)], [None, second]);
    }
}
