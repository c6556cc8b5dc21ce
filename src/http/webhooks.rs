//! Webhooks: the callbacks by which providers report the status of messages. `inbound.rs` has those for messages of people.
//!
//! A call whose headers cannot be valid is refused before its body is read, and its signature is verified before
//! anything else. A provider repeats a call after an answer other than 2xx, so 204, or the reply that it expects, means that every receipt was recorded
//! or is of no use to us. A repeated call changes nothing.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{RawQuery, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use futures_util::{StreamExt as _, stream};

use super::body_limit::bounded;
use super::inbound;
use super::problem::Problem;
use super::signed_call::{self, callback};
use crate::flow::opt_statuses::OptStatuses;
use crate::flow::receipts::ReceiptProcessor;
use crate::provider::{Callback, CallbackEndpoint, CallbackError, Callbacks, DeliveryReceipt};
use crate::telemetry::events;

/// The callbacks that are accepted, one reader per provider.
pub struct Webhooks {
    pub callbacks: Vec<Arc<dyn Callbacks>>,
    pub receipts: Arc<ReceiptProcessor>,
    /// `None`: no messages of people are accepted.
    pub opt_statuses: Option<Arc<OptStatuses>>,
}

/// Receipts of one call that are processed at the same time.
const RECEIPTS_AT_ONCE: usize = 16;

pub(super) fn routes(webhooks: Webhooks) -> Router {
    let Webhooks { callbacks, receipts, opt_statuses } = webhooks;
    let inbound = opt_statuses.map_or_else(Router::new, inbound::routes);
    callbacks.into_iter().fold(inbound, |routes, callbacks| {
        let endpoint = callbacks.endpoint();
        let (receipts, reader) = (receipts.clone(), callbacks.clone());
        let handler = async move |RawQuery(query): RawQuery, headers: HeaderMap, body: Bytes| {
            let call = callback(endpoint, query.as_deref(), &headers, &body);
            let Some(call) = call else { return refused(endpoint, CallbackError::Forged) };
            answer(endpoint, &*reader, &receipts, &call).await
        };
        let methods = if endpoint.by_get { get(handler.clone()).post(handler) } else { post(handler) };
        let route = bounded(Router::new().route(endpoint.path, methods), endpoint.body_bytes_max);
        routes.merge(route.layer(middleware::from_fn_with_state((endpoint, callbacks), check_headers)))
    })
}

async fn check_headers(
    State((endpoint, callbacks)): State<(CallbackEndpoint, Arc<dyn Callbacks>)>,
    request: Request,
    next: Next,
) -> Response {
    let call = callback(endpoint, request.uri().query(), request.headers(), &[]);
    let by_get = endpoint.by_get && request.method() == Method::GET;
    if by_get && let Some(challenge) = call.as_ref().and_then(|call| callbacks.handshake(call)) {
        return plain_text(challenge);
    }
    let is_call = request.method() == Method::POST || by_get;
    if is_call && !call.is_some_and(|call| callbacks.may_be_signed(&call)) {
        return refused(endpoint, CallbackError::Forged);
    }
    next.run(request).await
}

async fn answer(
    endpoint: CallbackEndpoint,
    callbacks: &dyn Callbacks,
    processor: &ReceiptProcessor,
    call: &Callback<'_>,
) -> Response {
    let receipts = match callbacks.read(call) {
        Ok(receipts) => receipts,
        Err(error) => return refused(endpoint, error),
    };
    let record = async |receipt: DeliveryReceipt| match processor.process(endpoint.provider, &receipt).await {
        Ok(()) => true,
        Err(error) => {
            events::receipt_failed(receipt.request_id.as_str(), &error);
            false
        }
    };
    let recorded = stream::iter(receipts).map(record).buffer_unordered(RECEIPTS_AT_ONCE);
    // A receipt that fails does not prevent the others.
    match recorded.fold(true, async |all, recorded| all && recorded).await {
        true => done(endpoint),
        false => Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not_recorded").into_response(),
    }
}

fn refused(endpoint: CallbackEndpoint, error: CallbackError) -> Response {
    signed_call::refused(error, done(endpoint))
}

fn done(endpoint: CallbackEndpoint) -> Response {
    match endpoint.reply {
        Some(reply) => plain_text(reply),
        None => StatusCode::NO_CONTENT.into_response(),
    }
}

/// ASCII, as vendors expect and document it.
fn plain_text(body: impl Into<Body>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain")], body.into()).into_response()
}
