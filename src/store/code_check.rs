//! Checks of typed codes: against our own digests, or by the provider that made the code.

use crate::domain::keyed_digest::Digest16;
use crate::domain::limit::Limits;
use crate::domain::verdict::Verdict;

#[derive(Clone, Copy, Debug)]
pub struct CodeCheck<'a> {
    pub recipient: Digest16,
    pub purpose: &'a str,
    /// 64 random bits. A check that is repeated because its answer was lost keeps them.
    pub check_id: u64,
    /// The id of each of our code keys, with the keyed digest of the typed code under it.
    pub digests: &'a [(&'a str, Digest16)],
    pub limits: &'a Limits,
}

/// The first half of a check by a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProviderCheckStart {
    /// The check is counted. Ask the provider, about the verification with this SID if it is known.
    Ask(Option<String>),
    /// The verdict needs no provider.
    Decided(Verdict),
}

/// The end of the provider's part of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProviderCheckEnd {
    Right,
    /// The answer was lost, and the provider shows that a right code was checked. Another unfinished check with the same SID
    /// could have been the right one.
    ApprovedAfterLostAnswer,
    Wrong,
    /// The provider did not compare the code, so the check no longer counts.
    NotCompared,
}
