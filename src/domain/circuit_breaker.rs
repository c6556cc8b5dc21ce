//! When to stop asking a provider that fails everybody, and when to begin again.
//!
//! A refusal of our account stops at once; so do several failures in a row, and refusals that nobody knows if
//! different recipients get them. What concerns one recipient, country or sender, or comes of going too fast, never
//! does. A good answer to a probe lets one message through, and only that one's answer opens the way again.

use super::keyed_digest::Digest16;
use super::send_failure::{Scope, SendFailure};

/// Failures in a row that stop everything.
const FAILURES_MAX: u32 = 5;
/// Different recipients in a row with a refusal that nobody knows.
const STRANGE_MAX: usize = 5;

/// Whether messages go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// They do.
    Closed,
    /// None does.
    Open(Cause),
    /// One may, to see.
    HalfOpen(Cause),
}

/// Why messages were stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The provider refuses our account or its settings.
    Account,
    /// It fails, or does not answer.
    Failures,
}

impl Cause {
    /// The word of logs and notes.
    pub const fn as_str(self) -> &'static str {
        match self {
            Cause::Account => "provider_misconfigured",
            Cause::Failures => "provider_unavailable",
        }
    }
}

/// What the provider's answers to all messages say together.
#[derive(Debug)]
pub struct CircuitBreaker {
    state: BreakerState,
    failures: u32,
    strange: Vec<Digest16>,
}

impl Default for CircuitBreaker {
    fn default() -> Self {
        CircuitBreaker { state: BreakerState::Closed, failures: 0, strange: Vec::new() }
    }
}

impl CircuitBreaker {
    /// Whether messages go out.
    pub fn state(&self) -> BreakerState {
        self.state
    }

    /// Learns from the answer to a message for a recipient; nothing of a failure means that it was accepted.
    pub fn record_answer(&mut self, recipient: Digest16, failure: Option<&SendFailure>) {
        match failure {
            Some(SendFailure::Rejected { scope: Scope::Account, .. }) => self.open(Cause::Account),
            Some(SendFailure::Unreachable { .. } | SendFailure::InDoubt { .. }) => self.failed(),
            Some(SendFailure::Rejected { scope: Scope::Unrecognised, .. }) => {
                self.refused_strangely(recipient)
            }
            // Too fast is no fault of the provider's, and none says anything of the others' refusals.
            Some(
                SendFailure::Throttled { .. }
                | SendFailure::Deferred { .. }
                | SendFailure::Rejected { scope: Scope::Sender, .. },
            ) => self.answered(),
            Some(SendFailure::Rejected { .. }) | None => {
                self.strange.clear();
                self.answered();
            }
        }
    }

    /// A probe was answered well: one message may go, to see.
    pub fn probe_succeeded(&mut self) {
        if let BreakerState::Open(cause) = self.state {
            self.state = BreakerState::HalfOpen(cause);
        }
    }

    fn failed(&mut self) {
        self.failures += 1;
        if self.failures >= FAILURES_MAX || matches!(self.state, BreakerState::HalfOpen(_)) {
            self.open(Cause::Failures);
        }
    }

    fn refused_strangely(&mut self, recipient: Digest16) {
        if !self.strange.contains(&recipient) {
            self.strange.push(recipient);
        }
        if self.strange.len() >= STRANGE_MAX {
            self.strange.clear();
            self.open(Cause::Account);
        } else {
            self.answered();
        }
    }

    fn answered(&mut self) {
        self.failures = 0;
        // What was on its way when the others failed says nothing of now: that is what the trial is for.
        if let BreakerState::HalfOpen(_) = self.state {
            self.state = BreakerState::Closed;
        }
    }

    fn open(&mut self, cause: Cause) {
        self.failures = 0;
        self.state = BreakerState::Open(cause);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn person(n: u8) -> Digest16 {
        Digest16::from_random([n; 16])
    }

    fn lost() -> SendFailure {
        SendFailure::InDoubt { detail: "reset".to_owned() }
    }

    fn refused(scope: Scope) -> SendFailure {
        SendFailure::Rejected { code: Some(1), scope }
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
    fn what_concerns_one_recipient_country_or_sender_never_opens_it() {
        let mut breaker = CircuitBreaker::default();
        let throttled = SendFailure::Throttled { code: None, retry_after: None };
        for n in 0..50 {
            for scope in [Scope::Recipient, Scope::Request, Scope::Country, Scope::Sender] {
                breaker.record_answer(person(n), Some(&refused(scope)));
            }
            breaker.record_answer(person(n), Some(&throttled));
            breaker.record_answer(person(n), Some(&SendFailure::Deferred { code: None }));
        }
        assert_eq!(breaker.state(), BreakerState::Closed);
    }

    #[test]
    fn strange_refusals_open_it_when_five_people_in_a_row_get_them() {
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
            // A late answer to what was on its way does not close it.
            breaker.record_answer(person(1), None);
            assert_eq!(breaker.state(), BreakerState::Open(Cause::Account));
            breaker.probe_succeeded();
            breaker.record_answer(person(1), failure.as_ref());
            assert_eq!(breaker.state(), then);
        }
    }
}
