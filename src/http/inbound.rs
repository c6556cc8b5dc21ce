//! The webhook for messages of people: opt-in and opt-out.
//!
//! A call whose headers cannot be valid is refused before its body is read, and its signature is verified before anything
//! else. The answer is an empty TwiML document: nothing is replied to the person.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{RawQuery, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;

use super::body_limit::bounded;
use super::problem::Problem;
use super::signed_call::{callback, refused};
use crate::flow::opt_statuses::OptStatuses;
use crate::provider::{CallbackEndpoint, CallbackError};
use crate::telemetry::events;

const NO_REPLY: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Response/>\n";

pub(super) fn routes(opt_statuses: Arc<OptStatuses>) -> Router {
    let endpoint = opt_statuses.messages.endpoint();
    let route = Router::new().route(endpoint.path, post(receive)).with_state(opt_statuses);
    bounded(route, endpoint.body_bytes_max).layer(middleware::from_fn_with_state(endpoint, check_headers))
}

async fn check_headers(State(endpoint): State<CallbackEndpoint>, request: Request, next: Next) -> Response {
    let call = callback(endpoint, request.uri().query(), request.headers(), &[]);
    if request.method() == Method::POST && call.is_none_or(|call| call.signature.is_none()) {
        return refused(CallbackError::Forged, no_reply());
    }
    next.run(request).await
}

/// `POST /webhooks/twilio/inbound`.
async fn receive(
    State(opt_statuses): State<Arc<OptStatuses>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let messages = &opt_statuses.messages;
    let call = callback(messages.endpoint(), query.as_deref(), &headers, &body);
    let message = match call.ok_or(CallbackError::Forged).and_then(|call| messages.read(&call)) {
        Ok(message) => message,
        Err(error) => return refused(error, no_reply()),
    };
    match opt_statuses.record(&message).await {
        Ok(()) => no_reply(),
        Err(error) => {
            events::opt_message_failed(message.status, &error);
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not_recorded").into_response()
        }
    }
}

fn no_reply() -> Response {
    ([(header::CONTENT_TYPE, "text/xml")], NO_REPLY).into_response()
}
