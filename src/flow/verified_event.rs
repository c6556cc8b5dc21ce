//! Publishes that a code was verified, before its check is answered.

use std::time::Duration;

use crate::broker::{Outgoing, PublishError, Publisher, Target};
use crate::domain::address::Address;
use crate::domain::channel::Channel;
use crate::domain::outcome::Status;
use crate::domain::request_id::RequestId;
use crate::domain::time::UnixMillis;
use crate::domain::verified_event::{VerifiedEvent, VerifiedEventStatus};
use crate::store::code_check::CodeCheck;
use crate::store::{RequestState, Store, StoreError};
use crate::telemetry::events;

/// A person is waiting.
const CONFIRM_WITHIN: Duration = Duration::from_secs(3);

#[derive(Debug, thiserror::Error)]
pub(super) enum VerifiedEventError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Publish(#[from] PublishError),
}

/// The request that a verified code belongs to.
struct CodeRequest {
    id: RequestId,
    correlation_id: Option<String>,
}

pub(super) async fn publish_verified(
    store: &dyn Store,
    publisher: &dyn Publisher,
    check: &CodeCheck<'_>,
    to: &Address,
    at: UnixMillis,
) -> Result<(), VerifiedEventError> {
    let Some(request) = request_of_code(store, check).await? else {
        events::verified_without_request(to, check.purpose);
        return Ok(());
    };
    let masked = to.masked();
    let event = VerifiedEvent {
        request_id: request.id.as_str(),
        channel: to.channel(),
        purpose: check.purpose,
        to: &masked,
        status: VerifiedEventStatus::Verified,
        at,
    };
    let body = serde_json::to_vec(&event).expect("an event is plain data");
    let outgoing = Outgoing {
        target: Target::Results {
            routing_key: match to.channel() {
                Channel::Sms => "sms.verified",
                Channel::Email => "email.verified",
            },
        },
        body: &body,
        message_id: &format!("{}:verified", request.id),
        correlation_id: Some(request.correlation_id.as_deref().unwrap_or(request.id.as_str())),
        at,
        traceparent: None,
    };
    let confirmed = tokio::time::timeout(CONFIRM_WITHIN, publisher.publish(outgoing)).await;
    confirmed.unwrap_or_else(|_| Err(PublishError::Unconfirmed("no confirm in time".to_owned())))?;
    Ok(())
}

/// The newest request of the recipient that sent the used code. If none sent it, the person knows the code from the caller
/// that chose it: then the newest request that tried to send it.
async fn request_of_code(
    store: &dyn Store,
    check: &CodeCheck<'_>,
) -> Result<Option<CodeRequest>, StoreError> {
    let mut unsent = None;
    for recent in store.recent_requests(check.recipient).await? {
        let record = store.request_record(&recent.request_id, Some(check.recipient)).await?;
        // `code` is the state of the record's own challenge.
        let Some(record) = record.filter(|record| record.code.is_some_and(|code| code.used)) else {
            continue;
        };
        let (purpose, history, may_have_been_sent) = match record.state {
            RequestState::InProgress { purpose, history, .. } => (purpose, history, true),
            RequestState::Completed(outcome) => {
                let may_have_been_sent = matches!(outcome.status, Status::Sent | Status::Unknown);
                (outcome.purpose, outcome.history, may_have_been_sent)
            }
        };
        if purpose != check.purpose {
            continue;
        }
        let request = CodeRequest { id: recent.request_id, correlation_id: history.correlation_id };
        if may_have_been_sent {
            return Ok(Some(request));
        }
        unsent.get_or_insert(request);
    }
    Ok(unsent)
}
