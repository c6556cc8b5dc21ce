//! Errors of a RabbitMQ connection, by the action that they need.

use std::time::Duration;

use lapin::ErrorKind;
use lapin::protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError};

use crate::tls::fault::{ServerWords, TlsFault};

pub(super) const CONNECT: &str = "connect";
pub(super) const DECLARE_EXCHANGE: &str = "declare an exchange";
pub(super) const DECLARE_QUEUE: &str = "declare a queue";
pub(super) const BIND_QUEUE: &str = "bind a queue";
const DECLARATIONS: [&str; 3] = [DECLARE_EXCHANGE, DECLARE_QUEUE, BIND_QUEUE];

/// Why a session with the broker ended, or a topology could not be declared.
#[derive(Debug, thiserror::Error)]
pub enum RabbitError {
    /// Retry: no answer within the limit.
    #[error("no answer in time: {0}")]
    TimedOut(&'static str),
    /// Retry: the broker or the network failed.
    #[error("{step}: {}", shown(source))]
    Failed { step: &'static str, source: lapin::Error },
    /// Retry: no host of several could be connected. With their numbers, in order.
    #[error("{}", of_each(.0))]
    NoHost(Vec<(usize, RabbitError)>),
    /// An operator has to act: a retry alone will not help.
    #[error(
        "an object exists with other arguments than our {wanted}: delete it once it is empty, or choose \
         another AMQP_PREFIX ({detail})"
    )]
    Refused { wanted: String, detail: String },
    /// An operator has to act, at the broker.
    #[error(
        "the user of AMQP_URL may not declare our {wanted}: let it configure, write and read what AMQP_PREFIX names ({detail})"
    )]
    Forbidden { wanted: String, detail: String },
    /// Reconnect: the broker ended something without an error.
    #[error("{0}")]
    Ended(&'static str),
}

impl RabbitError {
    /// Of a round over all hosts, with their numbers.
    pub(super) fn of_round(mut failures: Vec<(usize, RabbitError)>) -> RabbitError {
        failures.sort_by_key(|(host, _)| *host);
        match failures.pop() {
            Some((_, error)) if failures.is_empty() => error,
            Some(last) => {
                failures.push(last);
                RabbitError::NoHost(failures)
            }
            None => RabbitError::Ended("no host was tried"),
        }
    }

    /// The connection was not opened: no host, or the only one, took it.
    pub(super) fn is_of_connecting(&self) -> bool {
        match self {
            RabbitError::NoHost(_) | RabbitError::TimedOut(CONNECT) => true,
            RabbitError::Failed { step, .. } => *step == CONNECT,
            _ => false,
        }
    }

    /// Another host may do better. An object that a host refuses is refused by all.
    pub(super) fn blames_host(&self) -> bool {
        let failed = matches!(self, RabbitError::Failed { .. } | RabbitError::TimedOut(_));
        failed && !self.is_of_connecting() && !self.is_unparsable() && self.soft().is_none()
    }

    /// The declaration itself is right: RabbitMQ fails when several processes make the same objects at once.
    pub(super) fn is_declaration_race(&self) -> bool {
        let RabbitError::Failed { step, source } = self else {
            return false;
        };
        let ErrorKind::ProtocolError(error) = source.kind() else {
            return false;
        };
        DECLARATIONS.contains(step) && *error.kind() == AMQPErrorKind::Hard(AMQPHardError::INTERNALERROR)
    }

    /// An error that closes the channel and leaves the connection open.
    pub(super) fn soft(&self) -> Option<AMQPSoftError> {
        let RabbitError::Failed { source, .. } = self else {
            return None;
        };
        let ErrorKind::ProtocolError(error) = source.kind() else {
            return None;
        };
        match error.kind() {
            AMQPErrorKind::Soft(soft) => Some(soft.clone()),
            AMQPErrorKind::Hard(_) => None,
        }
    }

    /// The reason for which there is no connection, for everybody who may read the readiness: without the broker's own texts, which name
    /// users and virtual hosts.
    pub(super) fn for_readiness(&self) -> String {
        match self {
            RabbitError::Refused { wanted, .. } => {
                format!("an object exists with other arguments than our {wanted}, see the log")
            }
            RabbitError::Forbidden { wanted, .. } => {
                format!("the user of AMQP_URL may not declare our {wanted}, see the log")
            }
            RabbitError::Failed { step, source } if *step != CONNECT => match source.kind() {
                ErrorKind::ProtocolError(error) => format!("refused to {step}: {}", error.kind()),
                _ => self.in_words(),
            },
            _ => self.in_words(),
        }
    }

    /// True if the broker refuses this one object; the connection stays open.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(self, RabbitError::Refused { .. } | RabbitError::Forbidden { .. }) || self.soft().is_some()
    }

    /// The last cause alone, with advice, for the operator who set the URL.
    pub fn in_words(&self) -> String {
        let (step, source) = match self {
            RabbitError::Failed { step, source } => (*step, source.kind()),
            RabbitError::TimedOut(CONNECT) => return "cannot be reached: no answer in time".to_owned(),
            other => return other.to_string(),
        };
        match source {
            ErrorKind::IOError(error) => format!("cannot be reached: {}", unreached(error)),
            ErrorKind::ProtocolError(error) if step == CONNECT => match error.kind() {
                AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED) => {
                    "refuses us (ACCESS_REFUSED): check the user and password in AMQP_URL".to_owned()
                }
                AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED) => {
                    "refuses us (NOT_ALLOWED): check the virtual host in AMQP_URL, and that its user may use it"
                        .to_owned()
                }
                kind => format!("refuses us: {kind}"),
            },
            ErrorKind::ProtocolError(error) => format!("refused to {step}: {}", error.get_message()),
            _ => self.to_string(),
        }
    }

    /// True if `lapin` cannot parse a frame.
    pub(super) fn is_unparsable(&self) -> bool {
        matches!(self, RabbitError::Failed { source, .. } if matches!(source.kind(), ErrorKind::ParsingError(_)))
    }
}

/// The errors of several hosts; once, if they are the same.
fn of_each(failures: &[(usize, RabbitError)]) -> String {
    let words: Vec<String> = failures.iter().map(|(_, error)| error.in_words()).collect();
    if words.windows(2).all(|two| two[0] == two[1])
        && let Some(first) = words.first()
    {
        return format!("{first} (each of {} hosts)", words.len());
    }
    let numbered = failures.iter().zip(&words).map(|((host, _), words)| format!("host {host} {words}"));
    format!("answers on no host: {}", numbered.collect::<Vec<_>>().join("; "))
}

const WORDS: ServerWords = ServerWords {
    server: "RabbitMQ",
    url: "AMQP_URL",
    ca: "AMQP_CA_FILE",
    client_certificate: Some("AMQP_CLIENT_CERT_FILE"),
};

/// The texts of errors of a connection could name the host.
fn shown(error: &lapin::Error) -> String {
    match error.kind() {
        ErrorKind::IOError(error) => unreached(error),
        _ => error.to_string(),
    }
}

/// The system's text for errors of connecting and of name lookup, a sentence for those of TLS, and of others only the kind:
/// their texts could name the host.
fn unreached(error: &std::io::Error) -> String {
    if let Some(fault) = TlsFault::of(error) {
        return fault.sentence(&WORDS);
    }
    let text = error.to_string().to_lowercase();
    match error.raw_os_error().is_some() || text.starts_with("failed to lookup") {
        true => text.split(" (os error").next().unwrap_or_default().to_owned(),
        false => error.kind().to_string(),
    }
}

/// Awaits one answer of `lapin` for at most `limit`.
pub(super) async fn within<T>(
    step: &'static str,
    limit: Duration,
    work: impl Future<Output = lapin::Result<T>>,
) -> Result<T, RabbitError> {
    match tokio::time::timeout(limit, work).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(source)) => Err(RabbitError::Failed { step, source }),
        Err(_) => Err(RabbitError::TimedOut(step)),
    }
}
