//! What Twilio tells us by itself. Its signature is proven before anything else is believed, or read.
//!
//! An answer other than 2xx makes Twilio call again: so 204 means that the event was confirmed, or is of no use to us.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};

use super::problem::Problem;
use crate::flow::track::Tracker;
use crate::provider::{Callback, CallbackFault, Callbacks};
use crate::telemetry::events;

/// What the webhook works with.
pub struct Webhooks {
    /// Proves and reads calls.
    pub callbacks: Arc<dyn Callbacks>,
    /// Follows messages to their end.
    pub tracker: Arc<Tracker>,
}

/// The name in events.
const TWILIO: &str = "twilio";
const SIGNATURE: &str = "x-twilio-signature";

pub(super) async fn twilio_status(
    State(webhooks): State<Arc<Webhooks>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let call = Callback {
        query: query.as_deref(),
        content_type: text(header::CONTENT_TYPE.as_str()),
        signature: text(SIGNATURE),
        body: &body,
    };
    let report = match webhooks.callbacks.read(&call) {
        Ok(report) => report,
        Err(fault) => return refused(fault),
    };
    match webhooks.tracker.report(TWILIO, &report).await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => {
            events::receipt_failed(report.request.as_str(), &error);
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not_recorded").into_response()
        }
    }
}

fn refused(fault: CallbackFault) -> Response {
    let (word, answer) = match fault {
        CallbackFault::Forged => {
            ("forged", Problem::new(StatusCode::FORBIDDEN, "signature_refused").into_response())
        }
        CallbackFault::Unreadable(field) => {
            let detail = format!("`{field}` is missing or cannot be read");
            (
                "unreadable",
                Problem::new(StatusCode::BAD_REQUEST, "invalid_request").detail(detail).into_response(),
            )
        }
        CallbackFault::Ignored => ("ignored", StatusCode::NO_CONTENT.into_response()),
    };
    events::callback_refused(word);
    answer
}
