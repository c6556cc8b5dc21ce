//! Status callbacks of providers. The signature is verified before the body is parsed.
//!
//! A provider repeats a callback after any answer other than 2xx, so 204 means that every receipt is recorded or
//! irrelevant. In a repeated callback, receipts that are already recorded publish no second event.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures_util::{StreamExt as _, stream};

use super::problem::Problem;
use crate::flow::receipts::ReceiptProcessor;
use crate::provider::{Callback, CallbackError, Callbacks, DeliveryReceipt};
use crate::telemetry::events;

/// What the webhooks work with. There is none of a provider whose calls nobody could prove.
pub struct Webhooks {
    /// Proves and reads Twilio's calls.
    pub twilio: Option<Arc<dyn Callbacks>>,
    /// Proves and reads SendGrid's calls.
    pub sendgrid: Option<Arc<dyn Callbacks>>,
    /// Follows messages to their end.
    pub tracker: Arc<ReceiptProcessor>,
}

const TWILIO: &str = "twilio";
const SENDGRID: &str = "sendgrid";
const TWILIO_SIGNATURE: &str = "x-twilio-signature";
const SENDGRID_SIGNATURE: &str = "x-twilio-email-event-webhook-signature";
const SENDGRID_TIMESTAMP: &str = "x-twilio-email-event-webhook-timestamp";
/// Receipts of one callback that are processed concurrently.
const RECEIPTS_AT_ONCE: usize = 16;

pub(super) async fn twilio_status(
    State(webhooks): State<Arc<Webhooks>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let callback = Callback {
        query: query.as_deref(),
        content_type: text(&headers, header::CONTENT_TYPE.as_str()),
        signature: text(&headers, TWILIO_SIGNATURE),
        timestamp: None,
        body: &body,
    };
    answer(TWILIO, webhooks.twilio.as_deref(), &webhooks.tracker, &callback).await
}

pub(super) async fn sendgrid_events(
    State(webhooks): State<Arc<Webhooks>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let callback = Callback {
        query: None,
        content_type: text(&headers, header::CONTENT_TYPE.as_str()),
        signature: text(&headers, SENDGRID_SIGNATURE),
        timestamp: text(&headers, SENDGRID_TIMESTAMP),
        body: &body,
    };
    answer(SENDGRID, webhooks.sendgrid.as_deref(), &webhooks.tracker, &callback).await
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

async fn answer(
    provider: &'static str,
    callbacks: Option<&dyn Callbacks>,
    processor: &ReceiptProcessor,
    callback: &Callback<'_>,
) -> Response {
    let receipts = match callbacks.map(|callbacks| callbacks.read(callback)) {
        Some(Ok(receipts)) => receipts,
        Some(Err(error)) => return refused(error),
        None => return refused(CallbackError::Forged),
    };
    let process = async |receipt: DeliveryReceipt| match processor.process(provider, &receipt).await {
        Ok(()) => true,
        Err(error) => {
            events::receipt_failed(receipt.request.as_str(), &error);
            false
        }
    };
    let processed = stream::iter(receipts).map(process).buffer_unordered(RECEIPTS_AT_ONCE);
    // One failure does not keep the other receipts from being processed.
    match processed.fold(true, async |all, one| all && one).await {
        true => StatusCode::NO_CONTENT.into_response(),
        false => Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not_recorded").into_response(),
    }
}

fn refused(error: CallbackError) -> Response {
    let (reason, response) = match error {
        CallbackError::Forged => {
            ("forged", Problem::new(StatusCode::FORBIDDEN, "signature_refused").into_response())
        }
        CallbackError::Unreadable(field) => {
            let detail = format!("`{field}` is missing or cannot be read");
            (
                "unreadable",
                Problem::new(StatusCode::BAD_REQUEST, "invalid_request").detail(detail).into_response(),
            )
        }
        CallbackError::Ignored => ("ignored", StatusCode::NO_CONTENT.into_response()),
    };
    events::callback_refused(reason);
    response
}
