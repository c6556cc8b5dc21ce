//! Pumping defence: records of unverified sends, holds, overrides, and recently verified numbers.

use async_trait::async_trait;

use super::error::StoreError;
use crate::domain::defence::{DefenceBatch, Scope};
use crate::domain::defence_list::{DefenceList, DefenceOverride, DefenceState, NewOverride, OverrideTarget};
use crate::domain::keyed_digest::Digest16;

#[async_trait]
pub trait DefenceStore: Send + Sync {
    /// Adds the changes of a batch, once, and decides which scopes are held. Returns everything that is in force now.
    ///
    /// A scope whose record does not exist is not created by a verification. While a block is held, its changes do not count to its
    /// prefix. A prefix over its budget first has its blocks with many unverified sends held, and is held only if it still is.
    async fn add_defence(&self, batch: &DefenceBatch) -> Result<DefenceList, StoreError>;

    /// The same list, and the records of some scopes. That of a block names its prefix first.
    async fn defence(&self, scopes: &[(u64, Scope)]) -> Result<DefenceState, StoreError>;

    /// Sets an override, or removes it with `None`. Returns the one that was in force before.
    async fn set_defence_override(
        &self,
        target: &OverrideTarget,
        new: Option<&NewOverride<'_>>,
    ) -> Result<OverrideChange, StoreError>;

    /// Recipients, or users, that have verified a code today. Of more than there is room for, the oldest are dropped.
    async fn note_verified(&self, digests: &[Digest16]) -> Result<(), StoreError>;

    /// True if a code was verified within [`VERIFIED_FOR`](crate::domain::defence_list::VERIFIED_FOR).
    async fn has_verified(&self, digest: Digest16) -> Result<bool, StoreError>;

    /// Forgets that a recipient, or a user, has verified a code.
    async fn forget_verified(&self, digest: Digest16) -> Result<(), StoreError>;
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OverrideChange {
    Done {
        before: Option<DefenceOverride>,
    },
    /// There are [`OVERRIDES_MAX`](crate::domain::defence_list::OVERRIDES_MAX).
    Full,
}
