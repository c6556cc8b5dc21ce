//! Questions about a typed code, and the answers to those that a provider must be asked.

use super::Limits;
use crate::domain::keyed_digest::Digest16;
use crate::domain::verdict::Verdict;

/// The question whether a typed code is right.
#[derive(Clone, Copy, Debug)]
pub struct CodeCheck<'a> {
    /// Whose code.
    pub recipient: Digest16,
    /// For what.
    pub purpose: &'a str,
    /// 64 random bits, the same when the question is asked again after its answer was lost.
    pub check_id: u64,
    /// The keyed digest of the typed code under each key that we have, with the key's name.
    pub digests: &'a [(&'a str, Digest16)],
    /// What is allowed.
    pub limits: &'a Limits,
}

/// The answer to the question whether a code may be checked by whoever made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProviderCheckStart {
    /// Ask, about the verification of this name if it is known. The try is counted.
    Ask(Option<String>),
    /// There is nothing to ask.
    Decided(Verdict),
}

/// What came of asking whoever made a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProviderCheckResult {
    /// The code is right.
    Right,
    /// No answer came, but the right code has been told, if not by another check that is not over either.
    Found,
    /// It is wrong.
    Wrong,
    /// It was not compared: the try is given back.
    NotCompared,
}
