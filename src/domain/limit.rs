//! Limits on sends and wrong attempts. Each is one variant of [`Limit`], and counts events in a sliding window.
//!
//! A window is pure arithmetic over the times of earlier events; the store keeps those times.

use std::ops::{Index, IndexMut};
use std::time::Duration;

use super::channel::Channel;
use super::time::{UnixMillis, millis};

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

/// A limit. Its discriminant is its place in [`Limits`] and in the arguments of the Redis scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Sends to one recipient in a window whose length is a setting.
    Recipient,
    /// Sends to one recipient in a day.
    RecipientDay,
    /// Sends for one user in an hour.
    User,
    /// Sends for one client IP in an hour.
    Ip,
    /// Sends for the network around one client IP in an hour.
    Network,
    /// All sends in an hour.
    All,
    /// Wrong attempts at the codes of one recipient in an hour.
    Wrong,
    /// Refunds after a provider's refusal, for one recipient in a day. Once it is reached, requests to the recipient are
    /// `rate_limited`.
    Refunds,
}

/// The events that a limit counts. Two limits may count the same events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventLog {
    Sends,
    UserSends,
    IpSends,
    NetworkSends,
    AllSends,
    Wrong,
    Refunds,
}

/// A setting that is a whole number, with its default and its bounds.
#[derive(Clone, Copy, Debug)]
pub struct NumberSetting {
    pub name: &'static str,
    pub default: u32,
    pub min: u32,
    pub max: u32,
}

/// The least time between two sends to one recipient; 0 turns it off.
pub const COOLDOWN_SECONDS: NumberSetting =
    NumberSetting { name: "OTP_RESEND_COOLDOWN_SECONDS", default: 30, min: 0, max: 3_600 };
pub const WRONG_PER_CHALLENGE: NumberSetting =
    NumberSetting { name: "OTP_MAX_ATTEMPTS", default: 5, min: 1, max: 10 };

impl Limit {
    /// The limits that a send is charged to, in the order of their settings.
    pub const OF_SENDS: [Limit; 6] =
        [Limit::Recipient, Limit::RecipientDay, Limit::User, Limit::Ip, Limit::Network, Limit::All];
    /// Every limit, in the order of the variants.
    pub const ALL: [Limit; 8] = [
        Limit::Recipient,
        Limit::RecipientDay,
        Limit::User,
        Limit::Ip,
        Limit::Network,
        Limit::All,
        Limit::Wrong,
        Limit::Refunds,
    ];

    pub const fn log(self) -> EventLog {
        match self {
            Limit::Recipient | Limit::RecipientDay => EventLog::Sends,
            Limit::User => EventLog::UserSends,
            Limit::Ip => EventLog::IpSends,
            Limit::Network => EventLog::NetworkSends,
            Limit::All => EventLog::AllSends,
            Limit::Wrong => EventLog::Wrong,
            Limit::Refunds => EventLog::Refunds,
        }
    }

    /// The setting of the count; 0 turns the limit off. `None`: the count is fixed.
    pub const fn count_setting(self) -> Option<NumberSetting> {
        let (name, default, max) = match self {
            Limit::Recipient => ("SMS_RATE_LIMIT_PER_NUMBER", 5, 1_000),
            Limit::RecipientDay => ("SMS_RATE_LIMIT_PER_DAY", 10, 1_000),
            Limit::User => ("SMS_RATE_LIMIT_PER_USER", 10, 100_000),
            Limit::Ip => ("SMS_RATE_LIMIT_PER_IP", 30, 100_000),
            Limit::Network => ("SMS_RATE_LIMIT_PER_NETWORK", 120, 100_000),
            Limit::All => ("SMS_MAX_PER_HOUR", 10_000, 10_000_000),
            Limit::Wrong => ("OTP_WRONG_PER_HOUR", 10, 100),
            Limit::Refunds => return None,
        };
        Some(NumberSetting { name, default, min: 0, max })
    }

    /// The setting of the window in seconds. `None`: the window is fixed.
    pub const fn window_setting(self) -> Option<NumberSetting> {
        match self {
            Limit::Recipient => {
                Some(NumberSetting { name: "SMS_RATE_LIMIT_WINDOW", default: 3_600, min: 1, max: 604_800 })
            }
            _ => None,
        }
    }

    const fn default_quota(self) -> Quota {
        let window = match self {
            Limit::RecipientDay | Limit::Refunds => DAY,
            Limit::Recipient | Limit::User | Limit::Ip | Limit::Network | Limit::All | Limit::Wrong => HOUR,
        };
        match self.count_setting() {
            Some(setting) => Quota { count: setting.default, window },
            None => Quota { count: 10, window },
        }
    }
}

/// All limits, indexed by [`Limit`], and the two that count no events in a window.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub quotas: [Quota; Limit::ALL.len()],
    pub cooldown: Duration,
    pub wrong_per_challenge: u32,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            quotas: Limit::ALL.map(Limit::default_quota),
            cooldown: Duration::from_secs(COOLDOWN_SECONDS.default.into()),
            wrong_per_challenge: WRONG_PER_CHALLENGE.default,
        }
    }
}

impl Limits {
    #[must_use]
    pub fn with(mut self, limit: Limit, count: u32) -> Limits {
        self[limit].count = count;
        self
    }

    /// The limits of a channel. [`Limit::All`] bounds the cost of text messages, so e-mail has none.
    pub fn on(&self, channel: Channel) -> Limits {
        match channel {
            Channel::Sms => *self,
            Channel::Email => self.with(Limit::All, 0),
        }
    }
}

impl Index<Limit> for Limits {
    type Output = Quota;

    fn index(&self, limit: Limit) -> &Quota {
        &self.quotas[limit as usize]
    }
}

impl IndexMut<Limit> for Limits {
    fn index_mut(&mut self, limit: Limit) -> &mut Quota {
        &mut self.quotas[limit as usize]
    }
}

/// At most `count` events in any `window`. A count of 0 means no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    pub count: u32,
    pub window: Duration,
}

/// The time until one more event is allowed; zero if it is allowed now.
///
/// `events` are times in rising order. The limit is reached exactly while the `count`-th newest event is inside the
/// window, and it ends when that event leaves it.
pub fn wait(quota: Quota, events: &[UnixMillis], now: UnixMillis) -> Duration {
    let Some(blocking) = quota.count.checked_sub(1).and_then(|newer| nth_newest(events, newer)) else {
        return Duration::ZERO;
    };
    UnixMillis(blocking.0 + millis(quota.window)).since(now)
}

pub fn used(window: Duration, events: &[UnixMillis], now: UnixMillis) -> u32 {
    let inside = events.iter().filter(|at| at.0 + millis(window) > now.0).count();
    u32::try_from(inside).unwrap_or(u32::MAX)
}

fn nth_newest(events: &[UnixMillis], n: u32) -> Option<UnixMillis> {
    let from_end = usize::try_from(n).ok()?.checked_add(1)?;
    events.len().checked_sub(from_end).map(|at| events[at])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(count: u32, events: &[u64], now: u64, expected_ms: u64) {
        let events: Vec<_> = events.iter().copied().map(UnixMillis).collect();
        let quota = Quota { count, window: HOUR };
        assert_eq!(wait(quota, &events, UnixMillis(now)), Duration::from_millis(expected_ms));
    }

    #[test]
    fn a_limit_blocks_until_its_oldest_counted_event_leaves_the_window() {
        check(2, &[], 5, 0);
        check(2, &[10], 20, 0);
        check(2, &[10, 15], 20, 3_599_990);
        check(2, &[10, 15], 3_600_009, 1);
        check(2, &[10, 15], 3_600_010, 0);
        check(1, &[10, 15], 3_600_010, 5);
    }

    #[test]
    fn zero_turns_a_limit_off() {
        check(0, &[1, 2, 3], 4, 0);
    }

    #[test]
    fn an_event_that_left_the_window_no_longer_counts() {
        let events = [UnixMillis(0), UnixMillis(1)];
        assert_eq!(used(HOUR, &events, UnixMillis(3_600_000)), 1);
    }

    #[test]
    fn every_limit_has_the_place_of_its_variant() {
        for (place, limit) in Limit::ALL.into_iter().enumerate() {
            assert_eq!(limit as usize, place, "{limit:?}");
        }
    }
}
