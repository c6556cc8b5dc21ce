//! What to do after a send failed, decided from values alone.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};

use super::outcome::{ErrorCode, OutcomeError, Status};
use super::send_failure::{Scope, SendFailure};
use super::sender_pool;

/// How often and how patiently a send is tried.
#[derive(Clone, Debug)]
pub struct RetryPolicy {
    /// The wait after the first failure.
    pub delay_first: Duration,
    /// No wait is longer, unless the provider asks for it.
    pub delay_max: Duration,
    /// Tries in all.
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

/// The next step after a failure.
#[derive(Debug, PartialEq, Eq)]
pub enum Retry {
    /// Try again after this long.
    After(Duration),
    /// Try again as soon as a message may go: nobody's may while the provider takes none, and another sender's may while
    /// one rests. The end otherwise.
    Hold(OutcomeError),
    /// Find out whether it was sent.
    LookUp,
    /// The request has ended.
    GiveUp(Status, OutcomeError),
}

/// Decides what follows the failure of try number `attempt` (from 1) when `time_left` remains until the deadline.
///
/// `jitter` is a fraction in `[0, 1)` from chance: the wait lies between its base and twice that, so that workers
/// that failed together do not come back together. A wait that the provider asked for is never shortened, and no
/// wait reaches past `time_left`.
pub fn after_failure(
    policy: &RetryPolicy,
    attempt: u32,
    failure: &SendFailure,
    time_left: Duration,
    jitter: f64,
) -> Retry {
    let (asked, code) = match failure {
        SendFailure::Rejected { code, scope: Scope::Account } => {
            return Retry::Hold(told(ErrorCode::ProviderMisconfigured, *code));
        }
        // It rests, and the message was not processed.
        SendFailure::Rejected { code, scope: Scope::Sender } => {
            return Retry::Hold(told(sender_pool::told(*code), *code));
        }
        SendFailure::Rejected { code, .. } => {
            return Retry::GiveUp(Status::Failed, told(ErrorCode::ProviderRejected, *code));
        }
        SendFailure::InDoubt { .. } => return Retry::LookUp,
        SendFailure::Throttled { retry_after, code } => (retry_after.unwrap_or_default(), *code),
        SendFailure::Deferred { code } => (Duration::ZERO, *code),
        SendFailure::Unreachable { .. } => (Duration::ZERO, None),
    };
    let wait = backoff(policy, attempt).map(|base| base.mul_f64(1.0 + jitter.clamp(0.0, 1.0)).max(asked));
    match wait {
        Some(wait) if wait < time_left => Retry::After(wait),
        _ => Retry::GiveUp(Status::Failed, told(ErrorCode::ProviderUnavailable, code)),
    }
}

fn told(word: ErrorCode, provider_code: Option<u32>) -> OutcomeError {
    OutcomeError { provider_code, ..OutcomeError::of(word) }
}

/// The base of the wait after try number `attempt`; `None` when it was the last.
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

    const MINUTE: Duration = Duration::from_secs(60);

    fn throttled(seconds: Option<u64>) -> SendFailure {
        SendFailure::Throttled { code: Some(20429), retry_after: seconds.map(Duration::from_secs) }
    }

    fn unreachable() -> SendFailure {
        SendFailure::Unreachable { detail: "refused".to_owned() }
    }

    #[track_caller]
    fn wait(attempt: u32, failure: &SendFailure, time_left: Duration, jitter: f64) -> Option<u128> {
        match after_failure(&RetryPolicy::default(), attempt, failure, time_left, jitter) {
            Retry::After(wait) => Some(wait.as_millis()),
            Retry::GiveUp(..) | Retry::Hold(_) | Retry::LookUp => None,
        }
    }

    #[test]
    fn waits_grow_from_the_first_to_the_longest() {
        let waits: Vec<_> = (1..=8).map(|attempt| wait(attempt, &unreachable(), MINUTE, 0.0)).collect();
        let expected = [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000].map(Some);
        assert_eq!(waits[..7], expected);
        assert_eq!(waits[7], None, "the eighth try is the last");
    }

    #[test]
    fn chance_only_lengthens_a_wait_and_at_most_doubles_it() {
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
    fn what_is_in_doubt_is_looked_up_first() {
        let failure = SendFailure::InDoubt { detail: "reset".to_owned() };
        let next = after_failure(&RetryPolicy::default(), 1, &failure, MINUTE, 0.0);
        assert_eq!(next, Retry::LookUp);
    }

    #[test]
    fn a_refusal_of_the_account_or_of_a_sender_is_held_however_often_it_comes() {
        for (code, scope, word) in [
            (20003, Scope::Account, ErrorCode::ProviderMisconfigured),
            (21606, Scope::Sender, ErrorCode::ProviderMisconfigured),
            (21611, Scope::Sender, ErrorCode::ProviderUnavailable),
        ] {
            let failure = SendFailure::Rejected { code: Some(code), scope };
            for attempt in [1, 20] {
                let next = after_failure(&RetryPolicy::default(), attempt, &failure, MINUTE, 0.0);
                assert_eq!(next, Retry::Hold(told(word, Some(code))));
            }
        }
    }

    #[test]
    fn a_refusal_keeps_the_providers_number() {
        let failure = SendFailure::Rejected { code: Some(21211), scope: Scope::Recipient };
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
