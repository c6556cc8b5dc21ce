//! Refuses requests that a browser makes for a page of another site.

use axum::extract::Request;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::problem::Problem;

/// For a page that is served without TLS.
pub(super) async fn require_same_http_origin(request: Request, next: Next) -> Response {
    require(&["http"], request, next).await
}

/// For a page behind a proxy that may end TLS: either scheme is its own.
pub(super) async fn require_same_origin(request: Request, next: Next) -> Response {
    require(&["http", "https"], request, next).await
}

/// Browsers send these headers, and no page can set them; other clients may omit them.
async fn require(schemes: &[&str], request: Request, next: Next) -> Response {
    let headers = request.headers();
    let same_site = |site: &HeaderValue| site == "same-origin" || site == "none";
    let own = host(headers);
    let same_origin = |origin: &HeaderValue| {
        let origin = origin.to_str().ok().and_then(|text| text.split_once("://"));
        let authority = origin.filter(|(scheme, _)| schemes.contains(scheme)).map(|(_, rest)| rest);
        own.as_ref().is_some_and(|own| authority == Some(own.as_str()))
    };
    let sites_agree = headers.get_all("sec-fetch-site").iter().all(same_site);
    if sites_agree && headers.get_all(header::ORIGIN).iter().all(same_origin) {
        return next.run(request).await;
    }
    Problem::new(StatusCode::FORBIDDEN, "foreign_origin")
        .detail("only the page of otpost may call this")
        .into_response()
}

pub(super) fn host(headers: &HeaderMap) -> Option<Authority> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = hosts.next()?.to_str().ok()?.parse().ok()?;
    hosts.next().is_none().then_some(host)
}
