//! Every route of the public API, with the bounds that hold for all of them.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{ConnectInfo, MatchedPath, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
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
use super::same_origin::require_same_origin;
use super::webhooks::{self, Webhooks};
use super::{
    console, health_and_metrics, openapi, operator, otp_status, proof_keys, send, send_for_service, verify,
};
use crate::telemetry::events;
use crate::telemetry::trace::RequestSpan;
use crate::telemetry::trace::spans;

const BODY_BYTES_MAX: usize = 16 * 1024;
/// The label value of other paths.
const NO_ROUTE: &str = "(none)";

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
    let measured = openapi::paths().filter(|path| measured_route(path) != NO_ROUTE);
    measured.chain([NO_ROUTE]).for_each(events::http_route_served);
    let console = if api.console.is_some() { console_routes(&api) } else { Router::new() };
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
        .route("/api/v1/sms/conversion", get(operator::conversion::conversion))
        .route("/api/v1/sms/spend", get(operator::spend::spend))
        .route("/api/v1/sms/defence", get(operator::defence::defence))
        .route("/api/v1/sms/rate-limit", post(operator::rate_limit::rate_limit))
        .route("/api/v1/sms/validate", post(operator::validate::validate))
        .route("/api/v1/sms/requests", post(operator::requests::recent_requests))
        .route("/api/v1/sms/requests/{request_id}", get(operator::requests::explain_request))
        .route("/.well-known/jwks.json", get(proof_keys::key_set))
        .with_state(api)
        .route("/livez", get(health_and_metrics::live))
        .route("/readyz", get(health_and_metrics::live))
        .route("/openapi.json", get(openapi::openapi));
    bounded(routes.merge(console), BODY_BYTES_MAX).merge(webhooks.map_or_else(Router::new, webhooks::routes))
}

/// The operators' console and its endpoints, whose answers no browser keeps.
fn console_routes(api: &Arc<Api>) -> Router {
    Router::new()
        .route("/api/v1/ops/overview", get(operator::overview::overview))
        .route("/api/v1/ops/kill-switch/on", post(operator::kill_switch::turn_on))
        .route("/api/v1/ops/kill-switch/off", post(operator::kill_switch::turn_off))
        .route(
            "/api/v1/ops/suppressions",
            get(operator::suppressions::list).post(operator::suppressions::add),
        )
        .route("/api/v1/ops/suppressions/remove", post(operator::suppressions::remove))
        .route("/api/v1/ops/forget", get(operator::forget::jobs).post(operator::forget::forget))
        .route("/api/v1/ops/audit", get(operator::acts::acts))
        .route("/api/v1/ops/defence/explain", post(operator::defence_acts::explain))
        .route("/api/v1/ops/defence/overrides", post(operator::defence_acts::set))
        .route("/api/v1/ops/defence/overrides/remove", post(operator::defence_acts::remove))
        .route("/api/v1/ops/dead-letters", get(operator::dead_letters::list))
        .route("/api/v1/ops/dead-letters/replay", post(operator::dead_letters::replay))
        .route("/api/v1/ops/dead-letters/drop", post(operator::dead_letters::drop))
        .with_state(api.clone())
        .route_layer(middleware::from_fn(require_same_origin))
        .route_layer(middleware::map_response(not_kept))
        .merge(console::routes())
}

async fn not_kept(mut response: Response) -> Response {
    for (name, value) in [(header::CACHE_CONTROL, "no-store"), (header::X_CONTENT_TYPE_OPTIONS, "nosniff")] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
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
    let answered = async {
        let response = next.run(request).await;
        let route = route.as_ref().map_or(NO_ROUTE, MatchedPath::as_str);
        if let Some(refused) = response.extensions().get::<RefusedToken>() {
            let route = openapi::paths().find(|path| *path == route).unwrap_or(NO_ROUTE);
            refused.log(route, peer, &trusted_proxies);
        }
        let measured = measured_route(route);
        events::http_answered(method.as_str(), measured, response.status().as_u16(), started.elapsed());
        response
    };
    // The lines are those of the request's trace.
    let response = span.scope(answered).await;
    span.http_answered(response.status().as_u16());
    response
}

/// The console's paths have no series of their own: `operator_requests_total` counts its endpoints one by one.
fn measured_route(route: &str) -> &str {
    if route.starts_with("/api/v1/ops/") || route.starts_with("/console") { NO_ROUTE } else { route }
}

/// A header that comes twice counts as absent.
fn span_of(request: &Request, route: Option<&str>) -> RequestSpan {
    let mut values = request.headers().get_all("traceparent").iter();
    let traceparent = values.next().filter(|_| values.next().is_none()).and_then(|value| value.to_str().ok());
    spans::http_request(request.method().as_str(), route, traceparent)
}
