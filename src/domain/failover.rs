//! Failover: which provider of a route sends a message, and when the next one takes over.
//!
//! The next provider is taken while the circuit breaker of the first is open, while it has no sender for the message, and after an answer
//! that shows that the message was not sent and that the refusal is neither the recipient's nor the request's. An attempt in doubt never
//! leads to the next provider by itself: see [`doubt_may_fail_over`].

use std::time::Duration;

use super::failover_reason::FailoverReason;
use super::message_match::InDoubtPolicy;
use super::retry::Retry;
use super::routes::ProviderIndex;
use super::send_failure::{Scope, SendFailure};
use super::sender_pool::RecipientHash;

/// With this many attempts in doubt, at whatever providers, nothing more is sent.
pub const ATTEMPTS_IN_DOUBT_MAX: u32 = 2;
/// A throttled message waits so long for its provider rather than go to the next one.
const THROTTLED_WAIT_MAX: Duration = Duration::from_secs(2);
/// The share of its recipients that a provider gets at first after its circuit breaker has closed. It doubles each
/// [`RAMP_STEP`].
const RAMP_FIRST: f64 = 0.1;
const RAMP_STEP: Duration = Duration::from_secs(5);
/// Of [`RecipientHash::fraction`]: none of the choices of routes.
const RAMP_CHOICE: u64 = 1_000;

/// The present state of a provider, for one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Availability {
    Open,
    /// Its circuit breaker closed a moment ago, and its share does not reach this recipient yet.
    Recovering,
    /// Its circuit breaker is half-open, and the one message that it lets through is in flight.
    Probing,
    NoSender,
    /// Its circuit breaker is open.
    Shut,
}

impl Availability {
    /// Why another provider sends; `None`: nothing speaks against this one.
    fn reason(self) -> Option<FailoverReason> {
        match self {
            Availability::Open => None,
            Availability::Recovering | Availability::Probing | Availability::Shut => {
                Some(FailoverReason::BreakerOpen)
            }
            Availability::NoSender => Some(FailoverReason::NoSender),
        }
    }
}

/// The end of the time without a further attempt at a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exclusion {
    /// Until no other provider can take the message.
    ForNow,
    /// It would refuse the message again, or may have sent it.
    ForGood,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub provider: ProviderIndex,
    pub availability: Availability,
    pub exclusion: Option<Exclusion>,
}

/// The provider that sends the message, or at whose gate it waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    pub provider: ProviderIndex,
    /// Why the first one of the route does not send; `None` if it does, or if it is excluded.
    pub reason: Option<FailoverReason>,
}

/// Chooses among the providers of a route, in its order. `None`: each is shut or excluded.
///
/// One that can send now comes before one that is recovering, that before one whose half-open breaker is busy, and that before one without
/// a sender. A full concurrency limit is no reason: the message waits for it.
pub fn choose(candidates: &[Candidate]) -> Option<Choice> {
    use Availability::{NoSender, Open, Probing, Recovering};
    let choice = [Open, Recovering, Probing, NoSender].into_iter().find_map(|availability| {
        candidates.iter().find(|one| one.exclusion.is_none() && one.availability == availability)
    })?;
    let first =
        candidates.first().filter(|first| first.provider != choice.provider && first.exclusion.is_none());
    Some(Choice { provider: choice.provider, reason: first.and_then(|first| first.availability.reason()) })
}

/// True if one of the providers can send the message now.
pub fn can_send(candidates: &[Candidate]) -> bool {
    use Availability::{Open, Recovering};
    candidates.iter().any(|one| one.exclusion.is_none() && matches!(one.availability, Open | Recovering))
}

/// The reason to hand the message to the next provider after this failure, if there is one. `next` is the step without another provider.
pub fn after_refusal(failure: &SendFailure, next: &Retry) -> Option<(FailoverReason, Exclusion)> {
    match failure {
        // Another sender of the same provider comes first; without one the provider is not available.
        SendFailure::Refused { scope: Scope::Recipient | Scope::Request | Scope::Sender, .. }
        | SendFailure::InDoubt { .. } => None,
        SendFailure::Refused { scope: Scope::Account, .. } | SendFailure::Deferred { .. } => {
            Some((FailoverReason::Refused, Exclusion::ForNow))
        }
        SendFailure::Refused { scope: Scope::Country | Scope::Unrecognised, .. } => {
            Some((FailoverReason::Refused, Exclusion::ForGood))
        }
        SendFailure::NotConnected { .. } => Some((FailoverReason::Unreachable, Exclusion::ForNow)),
        SendFailure::Throttled { .. } => match next {
            Retry::After(wait) if *wait <= THROTTLED_WAIT_MAX => None,
            _ => Some((FailoverReason::Throttled, Exclusion::ForNow)),
        },
    }
}

/// When the next provider may send a message although an attempt is in doubt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DoubtFailover {
    /// After the end of the call that has the doubt; `None`: never.
    pub after: Option<Duration>,
    pub policy: InDoubtPolicy,
}

impl DoubtFailover {
    /// True if time alone may allow it: few attempts are in doubt, and the policy allows another message.
    pub fn is_possible(self, attempts_in_doubt: u32) -> bool {
        self.after.is_some()
            && self.policy != InDoubtPolicy::NeverResend
            && attempts_in_doubt < ATTEMPTS_IN_DOUBT_MAX
    }
}

/// True if the next provider may send the same code once, `waited` after the end of the call. `is_shut`: the circuit breaker is open of
/// every provider that has the doubt.
pub fn doubt_may_fail_over(
    rule: DoubtFailover,
    attempts_in_doubt: u32,
    waited: Duration,
    is_shut: bool,
) -> bool {
    rule.is_possible(attempts_in_doubt) && is_shut && rule.after.is_some_and(|after| waited >= after)
}

/// True if a provider whose circuit breaker has closed this long ago gets the messages to this recipient again.
pub fn ramp_reaches(recipient: RecipientHash, closed_for: Duration) -> bool {
    let steps = closed_for.as_secs() / RAMP_STEP.as_secs();
    let share = RAMP_FIRST * 2_f64.powi(i32::try_from(steps.min(10)).expect("few"));
    recipient.fraction(RAMP_CHOICE) < share
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::outcome::{ErrorCode, OutcomeError, Status};

    const SECOND: Duration = Duration::from_secs(1);

    fn provider(index: usize) -> ProviderIndex {
        ProviderIndex::new(index).expect("one of few")
    }

    type Given = (Availability, Option<Exclusion>);
    type Chosen = Option<(usize, Option<FailoverReason>)>;

    fn candidates(them: &[Given]) -> Vec<Candidate> {
        let candidate = |(index, (availability, exclusion)): (usize, &Given)| Candidate {
            provider: provider(index),
            availability: *availability,
            exclusion: *exclusion,
        };
        them.iter().enumerate().map(candidate).collect()
    }

    #[test]
    fn the_first_that_can_send_is_chosen_and_the_reason_is_that_of_the_first_of_the_route() {
        use Availability::{NoSender, Open, Probing, Recovering, Shut};
        use Exclusion::{ForGood, ForNow};
        use FailoverReason as Why;
        let cases: [(&[Given], Chosen); 12] = [
            (&[(Open, None), (Open, None)], Some((0, None))),
            (&[(Shut, None), (Open, None)], Some((1, Some(Why::BreakerOpen)))),
            (&[(NoSender, None), (Open, None)], Some((1, Some(Why::NoSender)))),
            (&[(Probing, None), (Open, None)], Some((1, Some(Why::BreakerOpen)))),
            (&[(Recovering, None), (Open, None)], Some((1, Some(Why::BreakerOpen)))),
            // Alone it gets everything.
            (&[(Recovering, None), (Shut, None)], Some((0, None))),
            (&[(Shut, None), (NoSender, None), (Probing, None)], Some((2, Some(Why::BreakerOpen)))),
            (&[(NoSender, None), (Shut, None)], Some((0, None))),
            (&[(Open, Some(ForNow)), (Open, None)], Some((1, None))),
            (&[(Open, Some(ForGood)), (Shut, None)], None),
            (&[(Shut, None), (Shut, None)], None),
            (&[], None),
        ];
        for (them, expected) in cases {
            let choice = choose(&candidates(them)).map(|choice| (choice.provider.get(), choice.reason));
            assert_eq!(choice, expected, "{them:?}");
        }
    }

    #[test]
    fn only_a_message_that_was_surely_not_sent_goes_on_to_the_next_provider() {
        use Exclusion::{ForGood, ForNow};
        use FailoverReason::{Refused, Throttled, Unreachable};
        let refused = |scope| SendFailure::refused(scope, Some(1));
        let throttled = SendFailure::Throttled { provider_code: None, retry_after: None };
        let gives_up = || Retry::GiveUp(Status::Failed, OutcomeError::of(ErrorCode::ProviderUnavailable));
        let after = |seconds: u32| Retry::After(seconds * SECOND);
        let unreachable = SendFailure::NotConnected { detail: String::new() };
        let in_doubt = SendFailure::InDoubt { detail: String::new() };
        for (failure, next, expected) in [
            (&refused(Scope::Recipient), gives_up(), None),
            (&refused(Scope::Request), gives_up(), None),
            (&refused(Scope::Sender), gives_up(), None),
            (&refused(Scope::Account), gives_up(), Some((Refused, ForNow))),
            (&refused(Scope::Country), gives_up(), Some((Refused, ForGood))),
            (&refused(Scope::Unrecognised), gives_up(), Some((Refused, ForGood))),
            (&SendFailure::Deferred { provider_code: None }, after(1), Some((Refused, ForNow))),
            (&unreachable, after(1), Some((Unreachable, ForNow))),
            (&throttled, after(1), None),
            (&throttled, after(2), None),
            (&throttled, after(10), Some((Throttled, ForNow))),
            (&throttled, gives_up(), Some((Throttled, ForNow))),
            (&in_doubt, Retry::LookUp, None),
        ] {
            assert_eq!(after_refusal(failure, &next), expected, "{failure:?}");
        }
    }

    #[test]
    fn a_doubt_goes_on_to_the_next_provider_only_after_its_time_and_while_its_own_is_shut() {
        let rule = DoubtFailover { after: Some(30 * SECOND), policy: InDoubtPolicy::Reconcile };
        assert!(doubt_may_fail_over(rule, 1, 30 * SECOND, true));
        assert!(!doubt_may_fail_over(rule, 1, 29 * SECOND, true));
        assert!(!doubt_may_fail_over(rule, 1, 300 * SECOND, false), "its lookups can be answered");
        assert!(!doubt_may_fail_over(rule, 2, 300 * SECOND, true), "two hand-overs are the most");
        let never = DoubtFailover { policy: InDoubtPolicy::NeverResend, ..rule };
        assert!(!doubt_may_fail_over(never, 1, 300 * SECOND, true));
        let off = DoubtFailover { after: None, ..rule };
        assert!(!doubt_may_fail_over(off, 1, 300 * SECOND, true));
    }

    #[test]
    fn a_provider_gets_its_recipients_back_a_tenth_first_and_then_twice_as_many_every_five_seconds() {
        let share = |seconds: u32| {
            let hashes = (0..10_000).map(|n| RecipientHash::of(&format!("+57300123{n:04}")));
            hashes.filter(|hash| ramp_reaches(*hash, seconds * SECOND)).count()
        };
        let shares = [0, 4, 5, 10, 15, 20].map(share);
        for (share, expected) in shares.into_iter().zip([1_000, 1_000, 2_000, 4_000, 8_000, 10_000]) {
            assert!(share.abs_diff(expected) < 200, "{shares:?}");
        }
    }

    #[test]
    fn a_recipient_that_has_come_back_stays() {
        for n in 0..1_000 {
            let hash = RecipientHash::of(&format!("+57300123{n:04}"));
            let reached: Vec<bool> = (0..30).map(|seconds| ramp_reaches(hash, seconds * SECOND)).collect();
            assert!(reached.is_sorted(), "{reached:?}");
        }
    }
}
