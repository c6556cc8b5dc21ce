//! Files of a page that are compiled into the program, and the headers that bound what a page may do.

use axum::http::{HeaderName, HeaderValue, header};
use axum::response::Response;
use axum::routing::{MethodRouter, get};

pub(super) const SCRIPT: &str = "text/javascript; charset=utf-8";

/// Serves a file that is compiled into the program.
pub(super) fn file(kind: &'static str, text: &'static str) -> MethodRouter {
    let kind = HeaderValue::from_static(kind);
    get(move || async move { ([(header::CONTENT_TYPE, kind)], text) })
}

const HEADERS: [(HeaderName, &str); 5] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-store"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

pub(super) async fn with_headers(mut response: Response) -> Response {
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}
