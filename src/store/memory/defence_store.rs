//! The steps of the pumping defence.

use async_trait::async_trait;

use super::MemoryStore;
use crate::domain::defence::{DefenceBatch, Scope};
use crate::domain::defence_list::{DefenceList, DefenceState, NewOverride, OverrideTarget};
use crate::domain::keyed_digest::Digest16;
use crate::store::StoreError;
use crate::store::defence::{DefenceStore, OverrideChange};

#[async_trait]
impl DefenceStore for MemoryStore {
    async fn add_defence(&self, batch: &DefenceBatch) -> Result<DefenceList, StoreError> {
        Ok(self.step(|state, now| state.defence.add(batch, now)))
    }

    async fn defence(&self, scopes: &[(u64, Scope)]) -> Result<DefenceState, StoreError> {
        Ok(self.step(|state, now| state.defence.state(scopes, now)))
    }

    async fn set_defence_override(
        &self,
        target: &OverrideTarget,
        new: Option<&NewOverride<'_>>,
    ) -> Result<OverrideChange, StoreError> {
        Ok(self.step(|state, now| state.defence.set_override(target, new, now)))
    }

    async fn note_verified(&self, digests: &[Digest16]) -> Result<(), StoreError> {
        self.step(|state, now| state.defence.note_verified(digests, now));
        Ok(())
    }

    async fn has_verified(&self, digest: Digest16) -> Result<bool, StoreError> {
        Ok(self.step(|state, now| state.defence.has_verified(digest, now)))
    }

    async fn forget_verified(&self, digest: Digest16) -> Result<(), StoreError> {
        self.step(|state, _| state.defence.forget_verified(digest));
        Ok(())
    }
}
