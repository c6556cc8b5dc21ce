//! Was a message sent whose answer was lost? What the provider shows of its messages decides.

use std::time::Duration;

use super::time::{UnixMillis, millis};

/// What is done about a send in doubt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InDoubtPolicy {
    /// It is looked up, and sent once more if it was not sent.
    Reconcile,
    /// It is looked up, and never sent again.
    NeverResend,
    /// It is sent once more without looking: better twice than not at all.
    Resend,
}

/// Clocks differ by this much.
pub const CLOCKS_DIFFER: Duration = Duration::from_secs(5);
/// Only what is absent twice, so far apart, is absent.
pub const ABSENT_APART: Duration = Duration::from_secs(10);

/// One of the provider's messages to the recipient. It may hold a code, hence no `Debug`.
pub struct ListedMessage<'a> {
    /// When it was made, by our clock.
    pub created: UnixMillis,
    /// What it says, if the provider still knows.
    pub text: Option<&'a str>,
}

/// What is looked for: no `Debug`, as it holds a code.
pub struct MessageMatcher<'a> {
    /// The earliest time at which it can have been made.
    pub from: UnixMillis,
    /// The latest.
    pub to: UnixMillis,
    /// The text that was sent.
    pub text: &'a str,
    /// The code in it.
    pub code: &'a str,
}

impl MessageMatcher<'_> {
    /// Nothing older can be it.
    pub fn earliest(&self) -> UnixMillis {
        UnixMillis(self.from.0.saturating_sub(millis(CLOCKS_DIFFER)))
    }

    /// Is this the message? It has our text; or, as the provider may alter one, the code; or no text any more and the
    /// right time.
    pub fn matches(&self, seen: &ListedMessage<'_>) -> bool {
        let in_time = (self.earliest()..=self.to.plus(CLOCKS_DIFFER)).contains(&seen.created);
        in_time && seen.text.is_none_or(|text| text == self.text || has_number(text, self.code))
    }
}

/// Does a text have these digits as a whole number?
fn has_number(text: &str, digits: &str) -> bool {
    text.split(|character: char| !character.is_ascii_digit()).any(|run| run == digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(at: u64, text: Option<&str>) -> bool {
        let wanted = MessageMatcher {
            from: UnixMillis(100_000),
            to: UnixMillis(120_000),
            text: "MeStore: tu código es 123456.",
            code: "123456",
        };
        wanted.matches(&ListedMessage { created: UnixMillis(at), text })
    }

    #[test]
    fn a_message_is_known_by_its_text_or_its_code_or_its_time_alone() {
        assert!(found(110_000, Some("MeStore: tu código es 123456.")));
        assert!(found(110_000, Some("MeStore: tu codigo es 123456.")));
        assert!(found(110_000, None));
        assert!(!found(110_000, Some("MeStore: tu codigo es 1234567.")));
        assert!(!found(110_000, Some("Su pedido va en camino.")));
    }

    #[test]
    fn a_message_of_another_time_is_another() {
        for (at, is) in [(94_999, false), (95_000, true), (125_000, true), (125_001, false)] {
            assert_eq!(found(at, None), is, "{at}");
        }
    }
}
