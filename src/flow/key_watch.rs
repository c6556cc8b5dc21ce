//! Compares the keys of this process with those that other processes have recorded. Another key under the same name splits
//! limits and makes right codes wrong. Sending goes on: an operator decides which key is right.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use crate::domain::code::CodeKeyring;
use crate::domain::key_check::{KeyCheck, KeyUse};
use crate::domain::recipient_keyring::RecipientKeyring;
use crate::store::{Store, StoreError, StoreFault};
use crate::telemetry::events;

const EVERY: Duration = Duration::from_secs(60);
/// After a comparison without an answer.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// Fewer may pass.
const FAILURES_LOGGED_AT: u32 = 3;
/// A later answer counts as none.
const TIMEOUT: Duration = Duration::from_secs(2);

pub struct KeyWatch {
    store: Arc<dyn Store>,
    keys: Vec<KeyCheck>,
}

/// The check values of all keys, the recipient key first.
pub fn key_checks(
    code_keyring: Option<&CodeKeyring>,
    recipients: Option<&RecipientKeyring>,
) -> Vec<KeyCheck> {
    let recipient = recipients.map(RecipientKeyring::key_check);
    recipient.into_iter().chain(code_keyring.into_iter().flat_map(CodeKeyring::key_checks)).collect()
}

impl KeyWatch {
    pub fn new(store: Arc<dyn Store>, keys: Vec<KeyCheck>) -> KeyWatch {
        keys.iter().for_each(events::key_in_use);
        KeyWatch { store, keys }
    }

    /// Never returns.
    pub async fn run(&self) {
        let mut differing = BTreeSet::new();
        let mut failures = 0;
        loop {
            let wait = match self.compare(&mut differing).await {
                Ok(()) => {
                    failures = 0;
                    EVERY
                }
                // It is logged where it is noticed first.
                Err(error) if error.is_outage() => RETRY_AFTER,
                Err(error) => {
                    failures += 1;
                    if failures == FAILURES_LOGGED_AT {
                        events::keys_not_compared(&error);
                    }
                    RETRY_AFTER
                }
            };
            tokio::time::sleep(wait).await;
        }
    }

    async fn compare(&self, differing: &mut BTreeSet<KeyCheck>) -> Result<(), StoreError> {
        let answer = timeout(TIMEOUT, self.store.check_keys(&self.keys)).await;
        let now: BTreeSet<KeyCheck> =
            answer.unwrap_or(Err(StoreError::Unavailable(StoreFault::NoAnswer)))?.into_iter().collect();
        now.difference(differing).for_each(events::key_differs);
        differing.difference(&now).for_each(events::key_agrees);
        for key_use in KeyUse::ALL {
            events::key_mismatch(key_use, now.iter().any(|key| key.key_use == key_use));
        }
        *differing = now;
        Ok(())
    }
}
