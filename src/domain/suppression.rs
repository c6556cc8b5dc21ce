//! What a refusal stops beyond the message that got it: a recipient for a day, an opt-out for good, a country for a while.
//! And what a person stops: a recipient.
//!
//! Numbers: Twilio's error pages. 21610 is an opt-out; 21408 and 60605 say that a country is not switched on; 60410 is
//! Fraud Guard, which blocks a range for twelve hours.

use std::time::Duration;

use super::send_failure::Scope;
use super::time::UnixMillis;

/// What is stopped, why and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Suppression {
    /// How much.
    pub scope: SuppressionScope,
    /// The provider's own error number.
    pub code: u32,
    /// For how long; until somebody takes it away, if not told.
    pub duration: Option<Duration>,
}

/// How much is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SuppressionScope {
    /// The recipient.
    Recipient,
    /// Its country.
    Country,
}

/// What a report says of the recipient, beyond the one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecipientFault {
    /// They have told the provider to send nothing more.
    OptedOut,
    /// No message gets there.
    Unreachable,
}

/// A stop by the names of the store, which never shortens one that stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewSuppression<'a> {
    /// How much of it.
    pub target: SuppressionTarget<'a>,
    /// The provider's own error number.
    pub code: u32,
    /// For how long; until somebody takes it away, if not told.
    pub duration: Option<Duration>,
    /// The recipient, masked: what is shown of it in a list.
    pub masked: &'a str,
}

/// A suppression that a person makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ManualSuppression<'a> {
    /// The recipient, masked: one word.
    pub masked: &'a str,
    /// Why, in one line; may be empty.
    pub reason: &'a str,
    /// For how long; until somebody takes it away, if not told.
    pub duration: Option<Duration>,
}

/// How much a block stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SuppressionTarget<'a> {
    /// The recipient of the request.
    Recipient,
    /// A country.
    Country(&'a str),
}

/// A recipient that nothing is sent to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SuppressionEntry {
    /// The recipient, masked; nothing of one that an older version suppressed.
    pub to: Option<String>,
    /// The provider's own error number; nothing if it told none, or a person did it.
    pub code: Option<u32>,
    /// Why, in the words of whoever did it.
    pub reason: Option<String>,
    /// Since when, where that is known.
    pub since: Option<UnixMillis>,
    /// Until when; until somebody takes it away, if nothing.
    pub until: Option<UnixMillis>,
}

const HOUR: Duration = Duration::from_secs(3_600);
/// The recipient has told the provider to send nothing more.
pub const OPTED_OUT: u32 = 21610;
const FRAUD_GUARD: u32 = 60410;
/// Stands for the number that a provider has not told.
const NO_CODE: u32 = 0;

/// What follows from a provider's refusal of a message.
pub fn after_refusal(scope: Scope, code: Option<u32>) -> Option<Suppression> {
    let (what, lasts) = match (scope, code?) {
        (Scope::Recipient, OPTED_OUT) => (SuppressionScope::Recipient, None),
        (Scope::Recipient, _) => (SuppressionScope::Recipient, Some(24 * HOUR)),
        (Scope::Country, 21408 | 60605) => (SuppressionScope::Country, Some(HOUR / 2)),
        // The others are about a range of numbers that the provider does not tell: a country has many of them.
        (Scope::Country, FRAUD_GUARD) => (SuppressionScope::Recipient, Some(12 * HOUR)),
        (Scope::Country, _) => (SuppressionScope::Recipient, Some(HOUR / 2)),
        (Scope::Request | Scope::Sender | Scope::Account | Scope::Unrecognised, _) => return None,
    };
    Some(Suppression { scope: what, code: code?, duration: lasts })
}

/// What follows from a report that a message did not arrive: an opt-out, or a number that no message reaches (30005
/// unknown, 30006 a landline or unreachable).
pub fn after_report(code: u32) -> Option<Suppression> {
    let lasts = match code {
        OPTED_OUT => None,
        30005 | 30006 => Some(24 * HOUR),
        _ => return None,
    };
    Some(Suppression { scope: SuppressionScope::Recipient, code, duration: lasts })
}

/// What follows from a report of a provider that tells such things in words.
pub fn after_fault(fault: RecipientFault, code: Option<u32>) -> Suppression {
    let lasts = match fault {
        RecipientFault::OptedOut => None,
        RecipientFault::Unreachable => Some(24 * HOUR),
    };
    Suppression { scope: SuppressionScope::Recipient, code: code.unwrap_or(NO_CODE), duration: lasts }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_stops_as_much_as_it_concerns() {
        let lasts = |scope, code| after_refusal(scope, code).map(|stop| (stop.scope, stop.duration));
        assert_eq!(lasts(Scope::Recipient, Some(21610)), Some((SuppressionScope::Recipient, None)));
        assert_eq!(
            lasts(Scope::Recipient, Some(21614)),
            Some((SuppressionScope::Recipient, Some(24 * HOUR)))
        );
        assert_eq!(lasts(Scope::Country, Some(21408)), Some((SuppressionScope::Country, Some(HOUR / 2))));
        assert_eq!(lasts(Scope::Country, Some(60410)), Some((SuppressionScope::Recipient, Some(12 * HOUR))));
        assert_eq!(lasts(Scope::Country, Some(30450)), Some((SuppressionScope::Recipient, Some(HOUR / 2))));
        for scope in [Scope::Request, Scope::Sender, Scope::Account, Scope::Unrecognised] {
            assert_eq!(lasts(scope, Some(1)), None);
        }
        assert_eq!(lasts(Scope::Recipient, None), None);
    }

    #[test]
    fn a_report_stops_the_recipient_only_where_nothing_will_arrive() {
        assert_eq!(after_report(21610).map(|stop| stop.duration), Some(None));
        assert_eq!(after_report(30005).map(|stop| stop.duration), Some(Some(24 * HOUR)));
        assert_eq!(after_report(30003), None);
        let told = after_fault(RecipientFault::OptedOut, None);
        assert_eq!((told.scope, told.code, told.duration), (SuppressionScope::Recipient, 0, None));
        let told = after_fault(RecipientFault::Unreachable, Some(550));
        assert_eq!(
            (told.scope, told.code, told.duration),
            (SuppressionScope::Recipient, 550, Some(24 * HOUR))
        );
    }
}
