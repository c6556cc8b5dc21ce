//! Error responses in the format of RFC 9457: a status, a machine-readable `code`, a sentence.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::json::json_line;
use super::refused_token::RefusedToken;
use crate::domain::request_id::RequestId;
use crate::domain::time::seconds_rounded_up;
use crate::store::StoreError;
use crate::telemetry::TokenRefusal;

/// An error response. No field repeats a value that the client sent.
#[derive(Clone, Debug, Serialize)]
pub struct Problem {
    #[serde(skip)]
    http_status: StatusCode,
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'static str,
    status: u16,
    code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attempts_remaining: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<Box<str>>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    replayed: bool,
    #[serde(skip)]
    refused_token: Option<Box<RefusedToken>>,
}

impl Problem {
    pub(super) fn new(status: StatusCode, code: &'static str) -> Problem {
        Problem {
            http_status: status,
            kind: "about:blank",
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            code,
            detail: None,
            attempts_remaining: None,
            retry_after: None,
            request_id: None,
            replayed: false,
            refused_token: None,
        }
    }

    pub(super) fn detail(self, detail: impl ToString) -> Problem {
        Problem { detail: Some(detail.to_string().into()), ..self }
    }

    pub(super) fn attempts_remaining(self, attempts: u32) -> Problem {
        Problem { attempts_remaining: Some(attempts), ..self }
    }

    pub(super) fn retry_after(self, wait: Duration) -> Problem {
        Problem { retry_after: Some(seconds_rounded_up(wait)), ..self }
    }

    /// The request that was made and ended with this problem.
    pub(super) fn request_id(self, request_id: &RequestId) -> Problem {
        Problem { request_id: Some(request_id.as_str().into()), ..self }
    }

    /// True if this is the recorded outcome of a repeated request.
    pub(super) fn replayed(self, replayed: bool) -> Problem {
        Problem { replayed, ..self }
    }

    /// The router logs the refusal.
    pub(super) fn token_refused(self, refusal: TokenRefusal) -> Problem {
        Problem { refused_token: Some(Box::new(RefusedToken::new(refusal))), ..self }
    }

    /// If it refuses a token: the log shows the client's network.
    pub(super) fn of_client(mut self, headers: &HeaderMap) -> Problem {
        if let Some(refused) = &mut self.refused_token {
            refused.keep_forwarded(headers);
        }
        self
    }

    pub(super) fn invalid(detail: impl ToString) -> Problem {
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_request").detail(detail)
    }

    /// The store gave no usable answer. A retry may succeed, unless something stored is damaged.
    pub(super) fn store_failed(error: &StoreError) -> Problem {
        if error.is_permanent() {
            return Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "record_unreadable").detail(
                "something stored for this request or recipient cannot be read; \
                 a retry does not help: an operator must mend or delete it",
            );
        }
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "store_unavailable").retry_after(Duration::from_secs(2))
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = json_line(&self);
        let kind = HeaderValue::from_static("application/problem+json");
        let mut response = (self.http_status, [(header::CONTENT_TYPE, kind)], body).into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        // RFC 6750 §3.1: the challenge for a request without a token has no error code.
        let challenge = match self.code {
            "unauthenticated" => Some("Bearer"),
            "invalid_token" => Some("Bearer error=\"invalid_token\""),
            "insufficient_scope" => Some("Bearer error=\"insufficient_scope\""),
            _ => None,
        };
        if let Some(challenge) = challenge {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        if let Some(refused) = self.refused_token {
            response.extensions_mut().insert(*refused);
        }
        response
    }
}
