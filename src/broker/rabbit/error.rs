//! What can go wrong between us and RabbitMQ, by what to do about it.

use std::time::Duration;

use lapin::ErrorKind;
use lapin::protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError};

/// The step that makes a connection.
pub(super) const CONNECT: &str = "connect";

/// Why a session with the broker ended, or a topology could not be declared.
#[derive(Debug, thiserror::Error)]
pub enum RabbitError {
    /// Try again: the broker did not answer within the limit.
    #[error("no answer in time: {0}")]
    TimedOut(&'static str),
    /// Try again: the broker or the network refused.
    #[error("{step}: {source}")]
    Failed {
        /// What was being done.
        step: &'static str,
        /// What `lapin` says of it.
        source: lapin::Error,
    },
    /// Somebody has to act: trying again alone will not help.
    #[error(
        "something exists with other arguments than our {wanted}: delete it once it is empty, or choose \
         another AMQP_PREFIX ({detail})"
    )]
    Refused {
        /// What it should be: its kind, name and arguments.
        wanted: String,
        /// The broker's own words.
        detail: String,
    },
    /// Somebody has to act, at the broker.
    #[error(
        "the user of AMQP_URL may not declare our {wanted}: let it configure, write and read what AMQP_PREFIX names ({detail})"
    )]
    Forbidden {
        /// What it should be.
        wanted: String,
        /// The broker's own words.
        detail: String,
    },
    /// Start anew: the broker took something away without an error.
    #[error("{0}")]
    Ended(&'static str),
}

impl RabbitError {
    /// What the broker refuses of one channel, its connection being well.
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

    /// True if the broker refuses this one thing, and goes on with all others.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(self, RabbitError::Refused { .. } | RabbitError::Forbidden { .. }) || self.soft().is_some()
    }

    /// The last cause alone, for whoever set the address: what happened, and where to look.
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

    /// True if the broker sent bytes that `lapin` cannot read.
    pub(super) fn is_unreadable(&self) -> bool {
        matches!(self, RabbitError::Failed { source, .. } if matches!(source.kind(), ErrorKind::ParsingError(_)))
    }
}

/// The system's own words for what it says of a connection or a name; of anything else, as a certificate, the kind alone:
/// those words could name the host.
fn unreached(error: &std::io::Error) -> String {
    let text = error.to_string().to_lowercase();
    match error.raw_os_error().is_some() || text.starts_with("failed to lookup") {
        true => text.split(" (os error").next().unwrap_or_default().to_owned(),
        false => error.kind().to_string(),
    }
}

/// Awaits one answer of `lapin`'s, for as long as `limit`.
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
