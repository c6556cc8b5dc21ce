//! Exponential backoff with jitter between reconnects, at most 10 s, unlimited.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

use super::error::RabbitError;
use crate::domain::channel::Channel;
use crate::telemetry::events;

pub(super) struct ReconnectBackoff {
    role: &'static str,
    channel: Option<Channel>,
    delays: ExponentialBackoff,
}

const DELAY_MIN: Duration = Duration::from_millis(100);
/// Half of the longest wait: the jitter adds up to as much again.
const DELAY_MAX: Duration = Duration::from_secs(5);
/// The broker dead-letters an unparsable message after 100 returns. Until then it delays others, so it should return
/// quickly.
const UNPARSABLE_DELAY: Duration = Duration::from_millis(20);
/// A session must live this long to reset the backoff. Else a queue that is deleted again and again would cause a busy
/// loop.
const STEADY: Duration = Duration::from_secs(10);

impl ReconnectBackoff {
    /// Without a channel the connection serves all channels.
    pub(super) fn new(role: &'static str, channel: Option<Channel>) -> ReconnectBackoff {
        ReconnectBackoff { role, channel, delays: delays() }
    }

    /// Logs the end of a session that lived for `lived`; answers the wait before the next one.
    pub(super) fn after(&mut self, error: &RabbitError, lived: Duration) -> Duration {
        if lived >= STEADY {
            self.delays = delays();
        }
        let delay = match error.is_unparsable() {
            true => UNPARSABLE_DELAY,
            false => self.delays.next().unwrap_or(DELAY_MAX),
        };
        match error {
            RabbitError::Refused { .. } | RabbitError::Forbidden { .. } => {
                events::topology_refused(self.role, self.channel, error, Some(delay));
            }
            _ => events::broker_lost(self.role, self.channel, error, delay),
        }
        delay
    }
}

fn delays() -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(DELAY_MIN)
        .with_max_delay(DELAY_MAX)
        .with_factor(2.0)
        .with_jitter()
        .without_max_times()
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOST: RabbitError = RabbitError::Ended("test");

    #[test]
    fn waits_grow_to_a_limit_and_never_end() {
        let mut backoff = ReconnectBackoff::new("test", None);
        let waits: Vec<Duration> = (0..200).map(|_| backoff.after(&LOST, Duration::ZERO)).collect();
        assert!(waits[0] >= DELAY_MIN && waits[0] < 2 * DELAY_MIN);
        assert!(waits[20..].iter().all(|wait| *wait >= DELAY_MAX && *wait <= 2 * DELAY_MAX));
    }

    #[test]
    fn a_refused_topology_counts_as_disconnected() {
        let role = "refused in a test";
        events::broker_connected(role, None);
        let refused = RabbitError::Refused { wanted: "queue".to_owned(), detail: String::new() };
        ReconnectBackoff::new(role, None).after(&refused, Duration::ZERO);
        let metrics = crate::telemetry::metrics::render();
        assert!(
            metrics.contains(&format!("otpost_broker_connected{{role=\"{role}\",channel=\"\"}} 0")),
            "{metrics}"
        );
    }

    #[test]
    fn only_a_session_that_lived_for_a_while_resets_the_backoff() {
        let mut backoff = ReconnectBackoff::new("test", None);
        for _ in 0..20 {
            backoff.after(&LOST, Duration::ZERO);
        }
        assert!(backoff.after(&LOST, STEADY - Duration::from_millis(1)) >= DELAY_MAX);
        assert!(backoff.after(&LOST, STEADY) < 2 * DELAY_MIN);
    }
}
