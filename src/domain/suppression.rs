//! Suppressions: no message is sent to a recipient, or to a country, for a while or until the entry is removed.
//!
//! A provider's refusal or receipt makes one, and so does an operator. An opt-out has no end.

use std::time::Duration;

use super::send_failure::{RefusalReason, Scope};
use super::time::UnixMillis;

/// A suppression that follows from a refusal or a receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Suppression {
    pub scope: SuppressionScope,
    pub provider_code: u32,
    /// `None`: until it is removed.
    pub duration: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SuppressionScope {
    Recipient,
    Country,
}

impl SuppressionScope {
    pub const fn as_str(self) -> &'static str {
        match self {
            SuppressionScope::Recipient => "recipient",
            SuppressionScope::Country => "country",
        }
    }
}

/// A suppression by the names of the store, which never shortens an existing one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewSuppression<'a> {
    pub target: SuppressionTarget<'a>,
    pub provider_code: u32,
    /// `None`: until it is removed.
    pub duration: Option<Duration>,
    /// The recipient, masked: the form that a list shows.
    pub masked: &'a str,
}

impl NewSuppression<'_> {
    /// One of less than a millisecond suppresses nothing.
    pub fn lasts(&self) -> bool {
        self.duration.is_none_or(|duration| duration >= Duration::from_millis(1))
    }

    /// An opt-out with the provider's number: every other suppression of a recipient with a number ends.
    pub fn is_opt_out(&self) -> bool {
        self.target == SuppressionTarget::Recipient
            && self.duration.is_none()
            && self.provider_code != NO_CODE
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ManualSuppression<'a> {
    /// The recipient, masked: one word.
    pub masked: &'a str,
    /// One line; may be empty.
    pub reason: &'a str,
    /// `None`: until it is removed.
    pub duration: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SuppressionTarget<'a> {
    Recipient,
    Country(&'a str),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SuppressionEntry {
    /// The recipient, masked; `None` for an entry of an older version.
    pub to: Option<String>,
    /// The provider's own error number; `None` if the provider gave no number, or an operator made the entry.
    pub provider_code: Option<u32>,
    /// The operator's words.
    pub reason: Option<String>,
    pub since: Option<UnixMillis>,
    /// `None`: until it is removed.
    pub until: Option<UnixMillis>,
}

const HOUR: Duration = Duration::from_secs(3_600);
/// The store keeps this where the provider gave no number.
const NO_CODE: u32 = 0;

/// The suppression that follows from a provider's refusal of a message.
pub fn after_refusal(scope: Scope, reason: RefusalReason, provider_code: Option<u32>) -> Option<Suppression> {
    let provider_code = provider_code?;
    let (scope, duration) = match (scope, reason) {
        (Scope::Recipient, RefusalReason::OptedOut) => (SuppressionScope::Recipient, None),
        (Scope::Recipient, _) => (SuppressionScope::Recipient, Some(24 * HOUR)),
        (Scope::Country, RefusalReason::CountryDisabled) => (SuppressionScope::Country, Some(HOUR / 2)),
        // Other refusals concern a range of numbers that the provider does not name: a country has many of them.
        // A block by fraud protection lasts twelve hours.
        (Scope::Country, RefusalReason::FraudBlocked) => (SuppressionScope::Recipient, Some(12 * HOUR)),
        (Scope::Country, _) => (SuppressionScope::Recipient, Some(HOUR / 2)),
        (Scope::Request | Scope::Sender | Scope::Account | Scope::Unrecognised, _) => return None,
    };
    Some(Suppression { scope, provider_code, duration })
}

/// The suppression that follows from a receipt: an opt-out, or a recipient that no message reaches.
pub fn after_receipt(reason: RefusalReason, provider_code: Option<u32>) -> Option<Suppression> {
    let duration = match reason {
        RefusalReason::OptedOut => None,
        RefusalReason::Unreachable => Some(24 * HOUR),
        _ => return None,
    };
    Some(Suppression {
        scope: SuppressionScope::Recipient,
        provider_code: provider_code.unwrap_or(NO_CODE),
        duration,
    })
}

impl SuppressionEntry {
    /// True for an opt-out with the provider's number: every other suppression with a number ends.
    pub fn is_opt_out(&self) -> bool {
        self.provider_code.is_some() && self.until.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_suppresses_as_much_as_it_concerns() {
        use RefusalReason::{CountryDisabled, FraudBlocked, OptedOut, Other};
        use SuppressionScope::{Country, Recipient};
        let follows = |scope, reason, provider_code| {
            after_refusal(scope, reason, provider_code)
                .map(|suppression| (suppression.scope, suppression.duration))
        };
        assert_eq!(follows(Scope::Recipient, OptedOut, Some(21610)), Some((Recipient, None)));
        assert_eq!(follows(Scope::Recipient, Other, Some(21614)), Some((Recipient, Some(24 * HOUR))));
        assert_eq!(follows(Scope::Country, CountryDisabled, Some(21408)), Some((Country, Some(HOUR / 2))));
        assert_eq!(follows(Scope::Country, FraudBlocked, Some(60410)), Some((Recipient, Some(12 * HOUR))));
        assert_eq!(follows(Scope::Country, Other, Some(30450)), Some((Recipient, Some(HOUR / 2))));
        for scope in [Scope::Request, Scope::Sender, Scope::Account, Scope::Unrecognised] {
            assert_eq!(follows(scope, Other, Some(1)), None);
        }
        assert_eq!(follows(Scope::Recipient, Other, None), None);
    }

    #[test]
    fn a_receipt_suppresses_the_recipient_only_if_nothing_will_arrive() {
        let follows = |reason, provider_code| {
            after_receipt(reason, provider_code)
                .map(|found| (found.scope, found.provider_code, found.duration))
        };
        let recipient = SuppressionScope::Recipient;
        assert_eq!(follows(RefusalReason::OptedOut, Some(21610)), Some((recipient, 21610, None)));
        assert_eq!(
            follows(RefusalReason::Unreachable, Some(30005)),
            Some((recipient, 30005, Some(24 * HOUR)))
        );
        assert_eq!(follows(RefusalReason::Other, Some(30003)), None);
        assert_eq!(follows(RefusalReason::OptedOut, None), Some((recipient, 0, None)));
        assert_eq!(follows(RefusalReason::Unreachable, Some(550)), Some((recipient, 550, Some(24 * HOUR))));
    }
}
