//! The circuit breaker: stops sending while the provider fails for every recipient.
//!
//! A refusal of our account opens it at once. Several failures in a row open it, and so do unrecognised refusals of
//! different recipients in a row. A failure that concerns one recipient, country or sender never opens it, nor does
//! throttling. After a successful probe it is half-open: one message is sent, and its answer closes or opens it.

use super::keyed_digest::Digest16;
use super::send_failure::{Scope, SendFailure};

/// Failures in a row that open it.
const FAILURES_MAX: u32 = 5;
/// Different recipients in a row with an unrecognised refusal that open it.
const UNRECOGNISED_MAX: usize = 5;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BreakerState {
    #[default]
    Closed,
    Open(Cause),
    /// One message may be sent, as a test.
    HalfOpen(Cause),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    Account,
    /// The provider fails, or does not answer.
    Failures,
}

impl Cause {
    /// The word of logs and of the history.
    pub const fn as_str(self) -> &'static str {
        match self {
            Cause::Account => "provider_misconfigured",
            Cause::Failures => "provider_unavailable",
        }
    }
}

#[derive(Debug)]
pub struct CircuitBreaker {
    state: BreakerState,
    failures: u32,
    /// The recipients of the unrecognised refusals in a row.
    unrecognised: Vec<Digest16>,
    /// The provider's number that last opened it.
    opened_by: Option<u32>,
}

impl Default for CircuitBreaker {
    fn default() -> Self {
        CircuitBreaker { state: BreakerState::Closed, failures: 0, unrecognised: Vec::new(), opened_by: None }
    }
}

impl CircuitBreaker {
    pub fn state(&self) -> BreakerState {
        self.state
    }

    /// The provider's number that opened it. `None` while it is closed, and after failures without a number.
    pub fn provider_code(&self) -> Option<u32> {
        self.opened_by.filter(|_| self.state != BreakerState::Closed)
    }

    /// Updates the state by the answer to a message; `None` means that the provider accepted it.
    pub fn record_answer(&mut self, recipient: Digest16, failure: Option<&SendFailure>) {
        match failure {
            Some(SendFailure::Refused { scope: Scope::Account, provider_code, .. }) => {
                self.open(Cause::Account, *provider_code);
            }
            Some(SendFailure::NotConnected { .. } | SendFailure::InDoubt { .. }) => self.failed(),
            Some(SendFailure::Refused { scope: Scope::Unrecognised, provider_code, .. }) => {
                self.refused_unrecognised(recipient, *provider_code);
            }
            // Each shows that the provider answers, but says nothing of the unrecognised refusals.
            Some(
                SendFailure::Throttled { .. }
                | SendFailure::Deferred { .. }
                | SendFailure::Refused { scope: Scope::Sender, .. },
            ) => self.answered(),
            Some(SendFailure::Refused { .. }) | None => {
                self.unrecognised.clear();
                self.answered();
            }
        }
    }

    /// The account is good again: the next message decides.
    pub fn probe_succeeded(&mut self) {
        if let BreakerState::Open(cause) = self.state {
            self.state = BreakerState::HalfOpen(cause);
        }
    }

    fn failed(&mut self) {
        self.failures += 1;
        if self.failures >= FAILURES_MAX || matches!(self.state, BreakerState::HalfOpen(_)) {
            self.open(Cause::Failures, None);
        }
    }

    fn refused_unrecognised(&mut self, recipient: Digest16, provider_code: Option<u32>) {
        if !self.unrecognised.contains(&recipient) {
            self.unrecognised.push(recipient);
        }
        if self.unrecognised.len() >= UNRECOGNISED_MAX {
            self.unrecognised.clear();
            self.open(Cause::Account, provider_code);
        } else {
            self.answered();
        }
    }

    fn answered(&mut self) {
        self.failures = 0;
        // While it is open, answers to messages sent before say nothing of the present state.
        if let BreakerState::HalfOpen(_) = self.state {
            self.state = BreakerState::Closed;
        }
    }

    fn open(&mut self, cause: Cause, provider_code: Option<u32>) {
        self.failures = 0;
        self.opened_by = provider_code;
        self.state = BreakerState::Open(cause);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn person(n: u8) -> Digest16 {
        Digest16::from_bytes([n; 16])
    }

    fn lost() -> SendFailure {
        SendFailure::InDoubt { detail: "reset".to_owned() }
    }

    fn refused(scope: Scope) -> SendFailure {
        SendFailure::refused(scope, Some(1))
    }

    #[test]
    fn failures_in_a_row_open_it_and_a_good_answer_between_does_not_let_them() {
        let mut breaker = CircuitBreaker::default();
        (0..4).for_each(|_| breaker.record_answer(person(1), Some(&lost())));
        breaker.record_answer(person(1), None);
        (0..4).for_each(|_| breaker.record_answer(person(1), Some(&lost())));
        assert_eq!(breaker.state(), BreakerState::Closed);
        breaker.record_answer(person(1), Some(&lost()));
        assert_eq!(breaker.state(), BreakerState::Open(Cause::Failures));
    }

    #[test]
    fn one_refusal_of_the_account_opens_it() {
        let mut breaker = CircuitBreaker::default();
        breaker.record_answer(person(1), Some(&refused(Scope::Account)));
        assert_eq!(breaker.state(), BreakerState::Open(Cause::Account));
    }

    #[test]
    fn the_number_that_opened_it_is_known_until_it_closes() {
        let mut breaker = CircuitBreaker::default();
        breaker.record_answer(person(1), Some(&refused(Scope::Account)));
        assert_eq!(breaker.provider_code(), Some(1));
        breaker.probe_succeeded();
        assert_eq!(breaker.provider_code(), Some(1));
        breaker.record_answer(person(1), None);
        assert_eq!(breaker.provider_code(), None);
        (0..5).for_each(|_| breaker.record_answer(person(1), Some(&lost())));
        assert_eq!((breaker.state(), breaker.provider_code()), (BreakerState::Open(Cause::Failures), None));
    }

    #[test]
    fn a_failure_of_one_recipient_country_or_sender_never_opens_it() {
        let mut breaker = CircuitBreaker::default();
        let throttled = SendFailure::Throttled { provider_code: None, retry_after: None };
        for n in 0..50 {
            for scope in [Scope::Recipient, Scope::Request, Scope::Country, Scope::Sender] {
                breaker.record_answer(person(n), Some(&refused(scope)));
            }
            breaker.record_answer(person(n), Some(&throttled));
            breaker.record_answer(person(n), Some(&SendFailure::Deferred { provider_code: None }));
        }
        assert_eq!(breaker.state(), BreakerState::Closed);
    }

    #[test]
    fn unrecognised_refusals_open_it_when_five_people_in_a_row_get_them() {
        let mut breaker = CircuitBreaker::default();
        (0..50).for_each(|n| breaker.record_answer(person(n % 4), Some(&refused(Scope::Unrecognised))));
        assert_eq!(breaker.state(), BreakerState::Closed);
        // A sender's refusal between says nothing of them.
        breaker.record_answer(person(8), Some(&refused(Scope::Sender)));
        breaker.record_answer(person(9), Some(&refused(Scope::Unrecognised)));
        assert_eq!(breaker.state(), BreakerState::Open(Cause::Account));
    }

    #[test]
    fn after_a_probe_one_message_decides() {
        for (failure, then) in
            [(None, BreakerState::Closed), (Some(lost()), BreakerState::Open(Cause::Failures))]
        {
            let mut breaker = CircuitBreaker::default();
            breaker.record_answer(person(1), Some(&refused(Scope::Account)));
            // A late answer to a message in flight does not close it.
            breaker.record_answer(person(1), None);
            assert_eq!(breaker.state(), BreakerState::Open(Cause::Account));
            breaker.probe_succeeded();
            breaker.record_answer(person(1), failure.as_ref());
            assert_eq!(breaker.state(), then);
        }
    }
}
