//! What providers tell us by themselves. A signature is proven before anything else is believed, or read.
//!
//! An answer other than 2xx makes a provider call again: so 204 means that every event was confirmed, or is of no use to
//! us. What was confirmed of a call that comes again is known then, and told no second time.

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

/// The names in events.
const TWILIO: &str = "twilio";
const SENDGRID: &str = "sendgrid";
const TWILIO_SIGNATURE: &str = "x-twilio-signature";
const SENDGRID_SIGNATURE: &str = "x-twilio-email-event-webhook-signature";
const SENDGRID_TIMESTAMP: &str = "x-twilio-email-event-webhook-timestamp";
/// Reports of one call that are dealt with at the same time.
const REPORTS_AT_ONCE: usize = 16;

pub(super) async fn twilio_status(
    State(webhooks): State<Arc<Webhooks>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let call = Callback {
        query: query.as_deref(),
        content_type: text(&headers, header::CONTENT_TYPE.as_str()),
        signature: text(&headers, TWILIO_SIGNATURE),
        timestamp: None,
        body: &body,
    };
    answer(TWILIO, webhooks.twilio.as_deref(), &webhooks.tracker, &call).await
}

pub(super) async fn sendgrid_events(
    State(webhooks): State<Arc<Webhooks>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let call = Callback {
        query: None,
        content_type: text(&headers, header::CONTENT_TYPE.as_str()),
        signature: text(&headers, SENDGRID_SIGNATURE),
        timestamp: text(&headers, SENDGRID_TIMESTAMP),
        body: &body,
    };
    answer(SENDGRID, webhooks.sendgrid.as_deref(), &webhooks.tracker, &call).await
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

async fn answer(
    provider: &'static str,
    callbacks: Option<&dyn Callbacks>,
    tracker: &ReceiptProcessor,
    call: &Callback<'_>,
) -> Response {
    let reports = match callbacks.map(|callbacks| callbacks.read(call)) {
        Some(Ok(reports)) => reports,
        Some(Err(fault)) => return refused(fault),
        None => return refused(CallbackError::Forged),
    };
    let taken = async |report: DeliveryReceipt| match tracker.process(provider, &report).await {
        Ok(()) => true,
        Err(error) => {
            events::receipt_failed(report.request.as_str(), &error);
            false
        }
    };
    let taken = stream::iter(reports).map(taken).buffer_unordered(REPORTS_AT_ONCE);
    // One that fails does not keep the others from being told.
    match taken.fold(true, async |all, taken| all && taken).await {
        true => StatusCode::NO_CONTENT.into_response(),
        false => Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not_recorded").into_response(),
    }
}

fn refused(fault: CallbackError) -> Response {
    let (word, answer) = match fault {
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
    events::callback_refused(word);
    answer
}
