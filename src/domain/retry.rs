//! The next step after a failed attempt: another attempt after a backoff, a lookup, or the end.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};

use super::outcome::{ErrorCode, OutcomeError, Status};
use super::send_failure::{Scope, SendFailure};
use super::sender_pool;

#[derive(Clone, Debug)]
pub struct RetryPolicy {
    pub delay_first: Duration,
    /// A provider may ask for a longer wait.
    pub delay_max: Duration,
    pub attempts_max: u32,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        RetryPolicy {
            delay_first: Duration::from_millis(500),
            delay_max: Duration::from_secs(30),
            attempts_max: 8,
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
pub enum Retry {
    After(Duration),
    /// Another attempt as soon as the gate allows it: when the circuit breaker closes, or another sender is available.
    /// Without one before the deadline, the request ends with this error.
    WhenGateAllows(OutcomeError),
    /// Look the message up first: it may have been sent.
    LookUp,
    GiveUp(Status, OutcomeError),
}

/// Decides the step after the failure of attempt number `attempt`, counted from 1, with `time_left` until the deadline.
///
/// `jitter` is a random fraction in `[0, 1)`: the wait lies between its base and twice the base, so that workers that
/// failed together do not come back together. A wait that the provider asked for is never shortened, and no wait reaches
/// past `time_left`.
pub fn after_failure(
    policy: &RetryPolicy,
    attempt: u32,
    failure: &SendFailure,
    time_left: Duration,
    jitter: f64,
) -> Retry {
    let (asked, provider_code) = match failure {
        SendFailure::Refused { provider_code, scope: Scope::Account, .. } => {
            return Retry::WhenGateAllows(error(ErrorCode::ProviderMisconfigured, *provider_code));
        }
        SendFailure::Refused { provider_code, scope: Scope::Sender, reason } => {
            return Retry::WhenGateAllows(error(sender_pool::error_code(*reason), *provider_code));
        }
        SendFailure::Refused { provider_code, .. } => {
            return Retry::GiveUp(Status::Failed, error(ErrorCode::ProviderRejected, *provider_code));
        }
        SendFailure::InDoubt { .. } => return Retry::LookUp,
        SendFailure::Throttled { retry_after, provider_code } => {
            (retry_after.unwrap_or_default(), *provider_code)
        }
        SendFailure::Deferred { provider_code } => (Duration::ZERO, *provider_code),
        SendFailure::NotConnected { .. } => (Duration::ZERO, None),
    };
    let wait = backoff(policy, attempt).map(|base| base.mul_f64(1.0 + jitter.clamp(0.0, 1.0)).max(asked));
    match wait {
        Some(wait) if wait < time_left => Retry::After(wait),
        _ => Retry::GiveUp(Status::Failed, error(ErrorCode::ProviderUnavailable, provider_code)),
    }
}

fn error(error_code: ErrorCode, provider_code: Option<u32>) -> OutcomeError {
    OutcomeError { provider_code, ..OutcomeError::of(error_code) }
}

/// The base of the wait after attempt number `attempt`; `None` after the last one.
fn backoff(policy: &RetryPolicy, attempt: u32) -> Option<Duration> {
    let waits = usize::try_from(policy.attempts_max.saturating_sub(1)).ok()?;
    let nth = usize::try_from(attempt.checked_sub(1)?).ok()?;
    ExponentialBuilder::default()
        .with_min_delay(policy.delay_first)
        .with_max_delay(policy.delay_max)
        .with_max_times(waits)
        .build()
        .nth(nth)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::send_failure::RefusalReason;

    const MINUTE: Duration = Duration::from_secs(60);

    fn throttled(seconds: Option<u64>) -> SendFailure {
        SendFailure::Throttled { provider_code: Some(20429), retry_after: seconds.map(Duration::from_secs) }
    }

    fn unreachable() -> SendFailure {
        SendFailure::NotConnected { detail: "refused".to_owned() }
    }

    #[track_caller]
    fn wait(attempt: u32, failure: &SendFailure, time_left: Duration, jitter: f64) -> Option<u128> {
        match after_failure(&RetryPolicy::default(), attempt, failure, time_left, jitter) {
            Retry::After(wait) => Some(wait.as_millis()),
            Retry::GiveUp(..) | Retry::WhenGateAllows(_) | Retry::LookUp => None,
        }
    }

    #[test]
    fn waits_grow_from_the_first_to_the_longest() {
        let waits: Vec<_> = (1..=8).map(|attempt| wait(attempt, &unreachable(), MINUTE, 0.0)).collect();
        let expected = [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000].map(Some);
        assert_eq!(waits[..7], expected);
        assert_eq!(waits[7], None, "the eighth attempt is the last");
    }

    #[test]
    fn jitter_only_lengthens_a_wait_and_at_most_doubles_it() {
        assert_eq!(wait(1, &unreachable(), MINUTE, 0.5), Some(750));
        assert_eq!(wait(1, &unreachable(), MINUTE, 7.0), Some(1_000));
    }

    #[test]
    fn a_throttled_send_waits_as_long_as_the_provider_asked() {
        assert_eq!(wait(1, &throttled(Some(20)), MINUTE, 0.9), Some(20_000));
        assert_eq!(wait(6, &throttled(Some(1)), MINUTE, 0.0), Some(16_000));
    }

    #[test]
    fn no_wait_reaches_the_deadline() {
        assert_eq!(wait(1, &throttled(Some(60)), MINUTE, 0.0), None);
        assert_eq!(wait(1, &unreachable(), Duration::from_millis(500), 0.0), None);
    }

    #[test]
    fn an_attempt_in_doubt_is_looked_up_first() {
        let failure = SendFailure::InDoubt { detail: "reset".to_owned() };
        let next = after_failure(&RetryPolicy::default(), 1, &failure, MINUTE, 0.0);
        assert_eq!(next, Retry::LookUp);
    }

    #[test]
    fn a_refusal_of_the_account_or_of_a_sender_waits_at_the_gate_however_often_it_comes() {
        use RefusalReason::{Other, QueueFull};
        for (provider_code, scope, reason, expected) in [
            (20003, Scope::Account, Other, ErrorCode::ProviderMisconfigured),
            (21606, Scope::Sender, Other, ErrorCode::ProviderMisconfigured),
            (21611, Scope::Sender, QueueFull, ErrorCode::ProviderUnavailable),
        ] {
            let failure = SendFailure::Refused { scope, reason, provider_code: Some(provider_code) };
            for attempt in [1, 20] {
                let next = after_failure(&RetryPolicy::default(), attempt, &failure, MINUTE, 0.0);
                assert_eq!(next, Retry::WhenGateAllows(error(expected, Some(provider_code))));
            }
        }
    }

    #[test]
    fn a_refusal_keeps_the_providers_number() {
        let failure = SendFailure::refused(Scope::Recipient, Some(21211));
        let Retry::GiveUp(status, error) = after_failure(&RetryPolicy::default(), 1, &failure, MINUTE, 0.0)
        else {
            panic!("a refusal is final")
        };
        assert_eq!(
            (status, error.code, error.provider_code),
            (Status::Failed, ErrorCode::ProviderRejected, Some(21211))
        );
    }

    proptest::proptest! {
        #[test]
        fn every_wait_ends_before_the_deadline(
            attempt in 1_u32..12, asked in 0_u64..100, left_ms in 0_u64..100_000, jitter in 0.0..1.0_f64,
        ) {
            let left = Duration::from_millis(left_ms);
            if let Retry::After(wait) = after_failure(&RetryPolicy::default(), attempt, &throttled(Some(asked)), left, jitter) {
                proptest::prop_assert!(wait < left && wait >= Duration::from_secs(asked));
            }
        }
    }
}
