//! Exponential backoff with jitter between reconnects, at most 4 s, unlimited. Where there are several hosts, each wait
//! follows a round over all of them.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use tokio::time::Instant;

use super::error::RabbitError;
use super::hosts::Hosts;
use crate::domain::channel::Channel;
use crate::telemetry::events;

pub(super) struct ReconnectBackoff {
    role: &'static str,
    channel: Option<Channel>,
    delays: ExponentialBackoff,
    /// Declarations that failed one after the other.
    declarations: u32,
    /// The last line about a broker that is away.
    logged: Option<Instant>,
}

const DELAY_MIN: Duration = Duration::from_millis(100);
/// Half of the longest wait: the jitter adds up to as much again.
const DELAY_MAX: Duration = Duration::from_secs(2);
/// While no session lasts, a line is repeated after this long.
const LOG_INTERVAL: Duration = Duration::from_secs(30);
/// Processes that start at once on a fresh broker need a few tries.
const QUIET_DECLARATIONS: u32 = 5;
/// The broker dead-letters an unparsable message after 100 returns. Until then it delays others, so it should return
/// quickly.
const UNPARSABLE_DELAY: Duration = Duration::from_millis(20);
/// A session must live this long to reset the backoff. Else a queue that is deleted again and again would cause a busy
/// loop.
const STEADY: Duration = Duration::from_secs(10);

impl ReconnectBackoff {
    /// Without a channel the connection serves all channels.
    pub(super) fn new(role: &'static str, channel: Option<Channel>) -> ReconnectBackoff {
        events::broker_connecting(role, channel);
        ReconnectBackoff { role, channel, delays: delays(), declarations: 0, logged: None }
    }

    /// Logs the end of a session that lived for `lived`; answers the wait before the next one, with another host if this
    /// one failed.
    pub(super) fn after(&mut self, error: &RabbitError, lived: Duration, hosts: &mut Hosts) -> Duration {
        if lived >= STEADY {
            self.delays = delays();
        }
        let delay = match error.is_unparsable() {
            true => UNPARSABLE_DELAY,
            false => self.delays.next().unwrap_or(DELAY_MAX),
        };
        self.log(error, delay, lived < STEADY, hosts);
        if error.blames_host() {
            hosts.lose();
        }
        delay
    }

    fn log(&mut self, error: &RabbitError, delay: Duration, was_short: bool, hosts: &Hosts) {
        let (role, channel) = (self.role, self.channel);
        self.declarations = if error.is_declaration_race() { self.declarations + 1 } else { 0 };
        let is_known = was_short && self.logged.is_some_and(|at| at.elapsed() < LOG_INTERVAL);
        match error {
            RabbitError::Refused { .. } | RabbitError::Forbidden { .. } => {
                events::topology_refused(role, channel, error, Some(delay));
            }
            _ if (1..=QUIET_DECLARATIONS).contains(&self.declarations) => {
                events::broker_still_lost(role, channel, error, delay);
            }
            _ if is_known && !error.is_unparsable() => {
                events::broker_still_lost(role, channel, error, delay);
            }
            _ => {
                self.logged = Some(Instant::now());
                // A round names its hosts itself.
                let place = hosts.place().filter(|_| !error.is_of_connecting());
                events::broker_lost(role, channel, place.as_deref(), error, delay);
            }
        }
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

    fn hosts(count: usize) -> Hosts {
        Hosts::in_random_order(&(0..count).map(|nth| (format!("h{nth}"), 1)).collect())
    }

    #[test]
    fn waits_grow_to_a_limit_and_never_end() {
        let mut backoff = ReconnectBackoff::new("test", None);
        let waits: Vec<Duration> =
            (0..200).map(|_| backoff.after(&LOST, Duration::ZERO, &mut hosts(1))).collect();
        assert!(waits[0] >= DELAY_MIN && waits[0] < 2 * DELAY_MIN);
        assert!(waits[20..].iter().all(|wait| *wait >= DELAY_MAX && *wait <= 2 * DELAY_MAX));
    }

    #[test]
    fn a_refused_topology_counts_as_disconnected() {
        let role = "refused in a test";
        events::broker_connected(role, None, None);
        let refused = RabbitError::Refused { wanted: "queue".to_owned(), detail: String::new() };
        ReconnectBackoff::new(role, None).after(&refused, Duration::ZERO, &mut hosts(1));
        let metrics = crate::telemetry::metrics::render();
        assert!(
            metrics.contains(&format!("otpost_broker_connected{{role=\"{role}\",channel=\"\"}} 0")),
            "{metrics}"
        );
    }

    #[test]
    fn each_loss_counts_though_a_line_is_not_repeated() {
        let role = "lost twice in a test";
        let mut backoff = ReconnectBackoff::new(role, None);
        for _ in 0..2 {
            events::broker_connected(role, None, None);
            events::broker_blocked(role, "test");
            backoff.after(&LOST, Duration::ZERO, &mut hosts(1));
            let metrics = crate::telemetry::metrics::render();
            let is_zero = |name: &str| metrics.contains(&format!("{name}{{role=\"{role}\"}} 0"));
            assert!(is_zero("otpost_broker_blocked"), "{metrics}");
            assert!(metrics.contains(&format!("otpost_broker_connected{{role=\"{role}\",channel=\"\"}} 0")));
        }
    }

    #[test]
    fn only_a_session_that_lived_for_a_while_resets_the_backoff() {
        let mut backoff = ReconnectBackoff::new("test", None);
        for _ in 0..20 {
            backoff.after(&LOST, Duration::ZERO, &mut hosts(1));
        }
        assert!(backoff.after(&LOST, STEADY - Duration::from_millis(1), &mut hosts(1)) >= DELAY_MAX);
        assert!(backoff.after(&LOST, STEADY, &mut hosts(1)) < 2 * DELAY_MIN);
    }

    #[test]
    fn the_next_session_begins_with_another_host_if_this_one_failed() {
        let (mut backoff, mut hosts) = (ReconnectBackoff::new("test", None), hosts(3));
        let first = hosts.number();
        let refused = RabbitError::Refused { wanted: "queue".to_owned(), detail: String::new() };
        for of_all_hosts in [refused, LOST, RabbitError::NoHost(Vec::new())] {
            backoff.after(&of_all_hosts, STEADY, &mut hosts);
            assert_eq!(hosts.number(), first, "{of_all_hosts}");
        }
        backoff.after(&RabbitError::TimedOut("consume"), STEADY, &mut hosts);
        assert_ne!(hosts.number(), first);
    }
}
