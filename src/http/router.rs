//! Every route of the public API, with the bounds that hold for all of them.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{ConnectInfo, MatchedPath, Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use ipnet::IpNet;
use tokio::time::Instant;
use tower_http::catch_panic::CatchPanicLayer;

use super::api::Api;
use super::body_limit::bounded;
use super::page::{self, Page};
use super::problem::Problem;
use super::refused_token::RefusedToken;
use super::webhooks::{self, Webhooks};
use super::{health_and_metrics, openapi, operator, otp_status, proof_keys, send, send_for_service, verify};
use crate::telemetry::events;
use crate::telemetry::trace::RequestSpan;
use crate::telemetry::trace::spans;

const BODY_BYTES_MAX: usize = 16 * 1024;

/// The routes for users, back ends, operators, and the providers that call back.
pub fn router(api: Arc<Api>, webhooks: Option<Webhooks>) -> Router {
    let trusted_proxies = api.trusted_proxies.as_slice().into();
    guarded(routes(api, webhooks), trusted_proxies)
}

/// The same routes and the development page.
pub fn router_with_page(api: Arc<Api>, webhooks: Option<Webhooks>, page: Page) -> Router {
    let page = bounded(page::routes(page), BODY_BYTES_MAX);
    let trusted_proxies = api.trusted_proxies.as_slice().into();
    guarded(routes(api, webhooks).merge(page), trusted_proxies)
}

fn routes(api: Arc<Api>, webhooks: Option<Webhooks>) -> Router {
    let routes = Router::new()
        .route("/api/v1/auth/send-verification-sms", post(send::send_verification_sms))
        .route("/api/v1/auth/send-verification-email", post(send::send_verification_email))
        .route("/api/v1/auth/otp-status/{request_id}", get(otp_status::otp_status))
        .route("/api/v1/auth/verify-phone-otp", post(verify::verify_phone_otp))
        .route("/api/v1/auth/verify-email-otp", post(verify::verify_email_otp))
        .route("/api/v1/otp/send", post(send_for_service::send_for_service))
        .route("/api/v1/otp/status/{request_id}", get(otp_status::otp_status_for_service))
        .route("/api/v1/otp/verify", post(verify::verify_for_service))
        .route("/api/v1/sms/status", get(operator::status::status))
        .route("/api/v1/sms/rate-limit", post(operator::rate_limit::rate_limit))
        .route("/api/v1/sms/validate", post(operator::validate::validate))
        .route("/api/v1/sms/requests", post(operator::requests::recent_requests))
        .route("/api/v1/sms/requests/{request_id}", get(operator::requests::explain_request))
        .route("/.well-known/jwks.json", get(proof_keys::key_set))
        .with_state(api)
        .route("/livez", get(health_and_metrics::live))
        .route("/readyz", get(health_and_metrics::live))
        .route("/openapi.json", get(openapi::openapi));
    bounded(routes, BODY_BYTES_MAX).merge(webhooks.map_or_else(Router::new, webhooks::routes))
}

/// Gives every error a JSON body, and counts the answers.
fn guarded(routes: Router, trusted_proxies: Arc<[IpNet]>) -> Router {
    routes
        .method_not_allowed_fallback(async || {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed")
        })
        .fallback(async || Problem::new(StatusCode::NOT_FOUND, "not_found"))
        .layer(CatchPanicLayer::custom(|_| {
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal").into_response()
        }))
        .layer(middleware::from_fn_with_state(trusted_proxies, observe))
}

async fn observe(State(trusted_proxies): State<Arc<[IpNet]>>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0.ip());
    let span = span_of(&request, route.as_ref().map(MatchedPath::as_str));
    let response = span.scope(next.run(request)).await;
    span.http_answered(response.status().as_u16());
    let route = route.as_ref().map_or("(none)", MatchedPath::as_str);
    if let Some(refused) = response.extensions().get::<RefusedToken>() {
        refused.log(route, peer, &trusted_proxies);
    }
    events::http_answered(method.as_str(), route, response.status().as_u16(), started.elapsed());
    response
}

/// A header that comes twice counts as absent.
fn span_of(request: &Request, route: Option<&str>) -> RequestSpan {
    let mut values = request.headers().get_all("traceparent").iter();
    let traceparent = values.next().filter(|_| values.next().is_none()).and_then(|value| value.to_str().ok());
    spans::http_request(request.method().as_str(), route, traceparent)
}
