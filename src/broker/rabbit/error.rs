//! What can go wrong between us and RabbitMQ, by what to do about it.

use std::time::Duration;

use lapin::ErrorKind;
use lapin::protocol::{AMQPErrorKind, AMQPSoftError};

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
        "the {what} exists with other arguments than ours ({wanted}): delete it once it is empty, or choose \
         another AMQP_PREFIX ({detail})"
    )]
    Refused {
        /// `queue` or `exchange`, and its name.
        what: String,
        /// The arguments that it should have.
        wanted: String,
        /// The broker's own words.
        detail: String,
    },
    /// Start anew: the broker took something away without an error.
    #[error("{0}")]
    Ended(&'static str),
}

impl RabbitError {
    /// True if the broker said that something exists with other arguments.
    pub(super) fn is_precondition_failed(&self) -> bool {
        let RabbitError::Failed { source, .. } = self else {
            return false;
        };
        let ErrorKind::ProtocolError(error) = source.kind() else {
            return false;
        };
        *error.kind() == AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED)
    }

    /// True if the broker sent bytes that `lapin` cannot read.
    pub(super) fn is_unreadable(&self) -> bool {
        matches!(self, RabbitError::Failed { source, .. } if matches!(source.kind(), ErrorKind::ParsingError(_)))
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
