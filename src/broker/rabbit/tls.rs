//! Replaces a connection once there are newer certificates.

use std::time::Duration;

use super::error::RabbitError;
use crate::domain::channel::Channel;
use crate::telemetry::events;
use crate::tls::TlsClient;

/// A connection that works is kept while a new one cannot be opened.
const REPLACE_AGAIN_AFTER: Duration = Duration::from_secs(30);

/// The certificates that a connection was opened with.
pub(super) struct Certificates {
    tls: Option<TlsClient>,
    generation: u64,
}

impl Certificates {
    /// Those of the next connection.
    pub(super) fn of(tls: Option<&TlsClient>) -> Certificates {
        let tls = tls.cloned();
        let generation = tls.as_ref().map_or(0, TlsClient::generation);
        Certificates { tls, generation }
    }

    pub(super) fn are_old(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.generation() != self.generation)
    }

    async fn replaced(&self) {
        match &self.tls {
            Some(tls) => tls.newer_than(self.generation).await,
            None => std::future::pending().await,
        }
    }

    /// Waits for newer certificates, and opens a session with them. Until that succeeds the old one stays in use.
    pub(super) async fn replacement<T, O: Future<Output = Result<T, RabbitError>>>(
        &self,
        role: &'static str,
        channel: Option<Channel>,
        open: impl Fn() -> O,
    ) -> T {
        self.replaced().await;
        let mut has_failed = false;
        loop {
            match open().await {
                Ok(opened) => {
                    if has_failed {
                        events::broker_replaced(role, channel);
                    }
                    return opened;
                }
                Err(error) => events::broker_not_replaced(role, channel, &error, REPLACE_AGAIN_AFTER),
            }
            has_failed = true;
            tokio::time::sleep(REPLACE_AGAIN_AFTER).await;
        }
    }
}
