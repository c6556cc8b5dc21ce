//! How long to wait before a lost connection is built anew.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

use super::error::RabbitError;
use crate::domain::channel::Channel;
use crate::telemetry::events;

/// A growing wait with jitter and no last try.
pub(super) struct ReconnectBackoff {
    role: &'static str,
    channel: Option<Channel>,
    delays: ExponentialBackoff,
}

const DELAY_MIN: Duration = Duration::from_millis(100);
/// Half of the longest wait, 10 s: the jitter adds up to as much again.
const DELAY_MAX: Duration = Duration::from_secs(5);
/// The broker sets a message that cannot be read aside after it came a hundred times; until then it may keep others
/// waiting, so it had better come quickly.
const UNREADABLE_DELAY: Duration = Duration::from_millis(20);
/// A session that lived this long was a good one. A shorter one is not, or a queue that somebody keeps deleting would
/// make us spin.
const STEADY: Duration = Duration::from_secs(10);

impl ReconnectBackoff {
    /// For a connection of one channel's, or of everybody's.
    pub(super) fn new(role: &'static str, channel: Option<Channel>) -> ReconnectBackoff {
        ReconnectBackoff { role, channel, delays: delays() }
    }

    /// Tells of the end of a session that lived for `lived`, and how long to wait before the next.
    pub(super) fn after(&mut self, error: &RabbitError, lived: Duration) -> Duration {
        if lived >= STEADY {
            self.delays = delays();
        }
        let delay = match error.is_unreadable() {
            true => UNREADABLE_DELAY,
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
        let mut pace = ReconnectBackoff::new("test", None);
        let waits: Vec<Duration> = (0..200).map(|_| pace.after(&LOST, Duration::ZERO)).collect();
        assert!(waits[0] >= DELAY_MIN && waits[0] < 2 * DELAY_MIN);
        assert!(waits[20..].iter().all(|wait| *wait >= DELAY_MAX && *wait <= 2 * DELAY_MAX));
    }

    #[test]
    fn a_refusal_is_no_connection() {
        let role = "refused in a test";
        events::broker_connected(role, None);
        let refused = RabbitError::Refused { wanted: "queue".to_owned(), detail: String::new() };
        ReconnectBackoff::new(role, None).after(&refused, Duration::ZERO);
        let told = crate::telemetry::metrics::render();
        assert!(
            told.contains(&format!("otpost_broker_connected{{role=\"{role}\",channel=\"\"}} 0")),
            "{told}"
        );
    }

    #[test]
    fn only_a_session_that_lived_for_a_while_starts_the_waits_anew() {
        let mut pace = ReconnectBackoff::new("test", None);
        for _ in 0..20 {
            pace.after(&LOST, Duration::ZERO);
        }
        assert!(pace.after(&LOST, STEADY - Duration::from_millis(1)) >= DELAY_MAX);
        assert!(pace.after(&LOST, STEADY) < 2 * DELAY_MIN);
    }
}
