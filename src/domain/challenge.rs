//! Challenges. A challenge is one code with its life: it starts with a send, and ends when it is used, locked or expired.

use std::time::Duration;

use super::keyed_digest::Digest16;

/// Identifies a challenge. The code is derived from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ChallengeId(Digest16);

impl ChallengeId {
    /// From a keyed digest of the request, or from random bytes.
    pub fn from_digest(digest: Digest16) -> ChallengeId {
        ChallengeId(digest)
    }

    pub fn parse(text: &str) -> Option<ChallengeId> {
        Digest16::parse(text).map(ChallengeId)
    }

    pub fn bytes(&self) -> [u8; 16] {
        self.0.bytes()
    }

    /// 32 hexadecimal digits.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

/// The key id of codes that the provider makes and checks. A [`super::code::Kid`] never has this value.
pub const PROVIDER_MADE: &str = "@provider";
/// The key ids of a worker whose provider makes the codes, in the form of [`super::code::CodeKeyring::kids`].
pub const PROVIDER_MADE_KIDS: &str = ",@provider,";

/// A resend continues a challenge while at least a fifth of the code's life is left. Later it starts a new one.
pub const CONTINUE_LIFE_LEFT_DIVISOR: u32 = 5;

/// A message is not sent with less time than this left: it would arrive too late.
pub const TIME_LEFT_MIN: Duration = Duration::from_secs(30);
