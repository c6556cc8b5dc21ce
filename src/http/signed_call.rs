//! Calls of providers: their signed parts, and the answers to those that are refused.

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};

use super::problem::Problem;
use crate::provider::{Callback, CallbackEndpoint, CallbackError};
use crate::telemetry::events;

/// `None` if a header that decides cannot be read, or is given twice: a proxy may have checked the other one.
pub(super) fn callback<'c>(
    endpoint: CallbackEndpoint,
    query: Option<&'c str>,
    headers: &'c HeaderMap,
    body: &'c [u8],
) -> Option<Callback<'c>> {
    let timestamp = match endpoint.timestamp_header {
        Some(name) => text(headers, name)?,
        None => None,
    };
    let content_type = text(headers, header::CONTENT_TYPE.as_str())?;
    Some(Callback {
        query,
        content_type,
        signature: text(headers, endpoint.signature_header)?,
        timestamp,
        body,
    })
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<Option<&'h str>> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().map(HeaderValue::to_str).transpose().ok()?;
    values.next().is_none().then_some(value)
}

/// `ignored` is the answer to a call that is of no use to us.
pub(super) fn refused(error: CallbackError, ignored: Response) -> Response {
    events::callback_refused(error.as_str());
    match error {
        CallbackError::Forged => Problem::new(StatusCode::FORBIDDEN, "signature_refused").into_response(),
        CallbackError::Unreadable(field) => {
            let detail = format!("`{field}` is missing or cannot be read");
            Problem::new(StatusCode::BAD_REQUEST, "invalid_request").detail(detail).into_response()
        }
        CallbackError::Foreign | CallbackError::Ignored => ignored,
    }
}
