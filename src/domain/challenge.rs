//! A challenge: one code's life, from the send that starts it until it is used, locked or over.

use std::time::Duration;

use super::keyed_digest::Digest16;

/// Names a challenge; the code is derived from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ChallengeId(Digest16);

impl ChallengeId {
    /// A challenge named by a keyed digest of its request, or by chance.
    pub fn from_digest(digest: Digest16) -> ChallengeId {
        ChallengeId(digest)
    }

    /// Reads a stored name back.
    pub fn parse(text: &str) -> Option<ChallengeId> {
        Digest16::parse(text).map(ChallengeId)
    }

    /// 32 hexadecimal digits.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

/// The key of a code that we do not know: whoever carries it has made it, and checks it. No key of ours can have this name.
pub const PROVIDER_MADE: &str = "@provider";
/// The names of all keys of a worker whose provider makes the codes.
pub const PROVIDER_MADE_KIDS: &str = ",@provider,";

/// A resend continues a challenge only while at least this part of its life is left; else it starts a new one.
pub const CONTINUE_LIFE_LEFT_DIVISOR: u32 = 5;

/// A message with less time than this left is not sent: it would arrive too late to be typed.
pub const TIME_LEFT_MIN: Duration = Duration::from_secs(30);
