//! Opt-in and opt-out: records what people decide by a message to us.

use std::sync::Arc;
use std::time::Duration;

use super::retry_once::retry_once;
use crate::domain::opt_status::OptMessage;
use crate::domain::recipient_keyring::RecipientKeyring;
use crate::provider::{InboundMessage, InboundMessages, LookupError};
use crate::store::{Store, StoreError};
use crate::telemetry::events;

/// The provider waits for our answer.
const LOOKUP_WITHIN: Duration = Duration::from_secs(4);

pub struct OptStatuses {
    pub store: Arc<dyn Store>,
    pub recipient_keyring: Arc<RecipientKeyring>,
    pub messages: Arc<dyn InboundMessages>,
}

/// A message was not recorded: the provider may call again.
#[derive(Debug, thiserror::Error)]
pub enum NotRecorded {
    #[error(transparent)]
    Lookup(#[from] LookupError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl OptStatuses {
    /// The time comes from the provider, as calls arrive late and out of order.
    pub async fn record(&self, message: &InboundMessage) -> Result<(), NotRecorded> {
        let (to, status) = (message.from.masked(), message.status);
        let lookup = tokio::time::timeout(LOOKUP_WITHIN, self.messages.sent_at(message)).await;
        let sent_at = match lookup {
            Ok(Ok(sent_at)) => sent_at,
            // A call about a message that the account does not have: a repeat would find none either.
            Ok(Err(LookupError::NotFound)) => {
                events::opt_message_unknown(status);
                return Ok(());
            }
            Ok(Err(error)) => return Err(error.into()),
            Err(_) => return Err(LookupError::Unanswered("no answer in time".to_owned()).into()),
        };
        let recipient = self.recipient_keyring.address(message.from.channel(), message.from.as_str());
        let message = OptMessage { status, sent_at, provider_code: message.provider_code, masked: &to };
        let record = || self.store.record_opt_status(recipient, &message);
        let answer = retry_once("suppress", record).await?;
        events::opt_status_changed(&to, status, answer);
        Ok(())
    }
}
