//! Reads the stream of audit records, for an operator.

use std::time::Duration;

use async_trait::async_trait;

use crate::domain::time::UnixMillis;

/// The first record to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditFrom {
    /// The records since a time, and a few before it.
    Since(UnixMillis),
    /// Those that are published from now on.
    Now,
}

#[async_trait]
pub trait AuditStream: Send {
    /// The body of the next record; `None` if none comes within a time.
    async fn next(&mut self, within: Duration) -> Result<Option<Vec<u8>>, AuditStreamError>;

    async fn close(self: Box<Self>);
}

/// Opens the stream, over a connection of its own.
#[async_trait]
pub trait AuditStreamSource: Send + Sync {
    /// `None` if there is no stream yet.
    async fn open(&self, from: AuditFrom) -> Result<Option<Box<dyn AuditStream>>, AuditStreamError>;
}

/// The broker did not answer, or refused.
#[derive(Debug, thiserror::Error)]
#[error("the audit stream cannot be read: {0}")]
pub struct AuditStreamError(pub String);
