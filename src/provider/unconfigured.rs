//! The provider of a channel without a provider: it refuses every message.
//!
//! Such a channel is off, so new requests never get here. A request that another worker started with a provider may: it is
//! refused, and an attempt in doubt stays in doubt.

use async_trait::async_trait;

use crate::domain::address::Address;
use crate::domain::send_failure::{Scope, SendFailure};
use crate::domain::time::UnixMillis;
use crate::provider::{
    Accepted, CredentialError, FetchedMessage, LOOKUP_UNSUPPORTED, LookupError, Message, Provider,
    ProviderMessage,
};

pub struct UnconfiguredProvider;

#[async_trait]
impl Provider for UnconfiguredProvider {
    fn name(&self) -> &'static str {
        "absent"
    }

    async fn send(&self, _message: &Message<'_>) -> Result<Accepted, SendFailure> {
        Err(SendFailure::refused(Scope::Request, None))
    }

    async fn check_credentials(&self) -> Result<(), CredentialError> {
        Err(CredentialError::Unanswered("the channel has no provider".to_owned()))
    }

    async fn find(&self, _to: &Address, _since: UnixMillis) -> Result<Vec<ProviderMessage>, LookupError> {
        Err(LOOKUP_UNSUPPORTED)
    }

    async fn fetch(&self, _message_id: &str) -> Result<FetchedMessage, LookupError> {
        Err(LOOKUP_UNSUPPORTED)
    }
}
