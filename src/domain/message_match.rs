//! The message match: does a message in the provider's list belong to an attempt in doubt?

use std::time::Duration;

use super::time::{UnixMillis, millis};

/// The treatment of an attempt in doubt (`IN_DOUBT_POLICY`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InDoubtPolicy {
    /// Look it up; send once more if it was not sent.
    Reconcile,
    /// Look it up; never send again.
    NeverResend,
    /// Send once more without a lookup: two messages rather than none.
    Resend,
}

/// The largest difference between our clock and the provider's.
pub const CLOCK_DIFFERENCE_MAX: Duration = Duration::from_secs(5);
/// A message counts as absent after two lookups without it, this far apart.
pub const ABSENT_APART: Duration = Duration::from_secs(10);

/// Matches the message of an attempt among the provider's messages to the recipient. It holds a code, hence no `Debug`.
pub struct MessageMatcher<'a> {
    /// The earliest time at which the provider can have created it.
    pub created_from: UnixMillis,
    /// The latest such time.
    pub created_until: UnixMillis,
    pub text: &'a str,
    pub code: &'a str,
}

impl MessageMatcher<'_> {
    /// An older message cannot match.
    pub fn list_since(&self) -> UnixMillis {
        UnixMillis(self.created_from.0.saturating_sub(millis(CLOCK_DIFFERENCE_MAX)))
    }

    /// A message of the right time (by our clock) matches by its text, by the code (the provider may alter a text), or
    /// without a text, which the provider may have deleted.
    pub fn matches(&self, created: UnixMillis, text: Option<&str>) -> bool {
        let in_time = (self.list_since()..=self.created_until.plus(CLOCK_DIFFERENCE_MAX)).contains(&created);
        in_time && text.is_none_or(|text| text == self.text || has_number(text, self.code))
    }
}

/// True if the text holds the digits as a whole number.
fn has_number(text: &str, digits: &str) -> bool {
    text.split(|character: char| !character.is_ascii_digit()).any(|run| run == digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(at: u64, text: Option<&str>) -> bool {
        let matcher = MessageMatcher {
            created_from: UnixMillis(100_000),
            created_until: UnixMillis(120_000),
            text: "MeStore: tu código es 123456.",
            code: "123456",
        };
        matcher.matches(UnixMillis(at), text)
    }

    #[test]
    fn a_message_matches_by_its_text_or_its_code_or_its_time_alone() {
        assert!(matches(110_000, Some("MeStore: tu código es 123456.")));
        assert!(matches(110_000, Some("MeStore: tu codigo es 123456.")));
        assert!(matches(110_000, None));
        assert!(!matches(110_000, Some("MeStore: tu codigo es 1234567.")));
        assert!(!matches(110_000, Some("Su pedido va en camino.")));
    }

    #[test]
    fn a_message_of_another_time_does_not_match() {
        for (at, is) in [(94_999, false), (95_000, true), (125_000, true), (125_001, false)] {
            assert_eq!(matches(at, None), is, "{at}");
        }
    }
}
