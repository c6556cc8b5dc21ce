//! The other entrance: is the code that a person typed the right one?

use std::sync::Arc;

use super::random_id;
use crate::domain::address::Address;
use crate::domain::code::{Code, CodeKeyring, CodeScope};
use crate::domain::recipient::{Purpose, RecipientKeyring};
use crate::domain::verdict::Verdict;
use crate::store::{Check, Limits, Store, StoreError};
use crate::telemetry::events;

/// Checks codes.
pub struct Verifier {
    /// What all processes share.
    pub store: Arc<dyn Store>,
    /// What codes are checked with.
    pub codes: Arc<CodeKeyring>,
    /// What recipients are called in the store.
    pub recipients: Arc<RecipientKeyring>,
    /// How many tries there are.
    pub limits: Limits,
}

impl Verifier {
    /// The verdict over one try. It is counted before it is compared, and a lost answer is asked for once more:
    /// the store knows the try by its id and counts it once.
    pub async fn verify(&self, to: &Address, purpose: &Purpose, code: &Code) -> Result<Verdict, StoreError> {
        let scope = CodeScope { channel: to.channel(), address: to.as_str(), purpose };
        let digests: Vec<_> =
            self.codes.iter().map(|key| (key.kid().as_str(), key.digest(scope, code))).collect();
        let check = Check {
            recipient: self.recipients.address(scope.channel, scope.address),
            purpose: purpose.as_str(),
            check_id: random_id(),
            digests: &digests,
            limits: &self.limits,
        };
        let verdict = match self.store.verify(&check).await {
            Ok(verdict) => verdict,
            Err(error) => {
                events::store_failed("verify", &error, None);
                self.store.verify(&check).await?
            }
        };
        events::code_checked(to, purpose.as_str(), &verdict);
        Ok(verdict)
    }
}
