//! The HTTP interface: users ask for a code and check it; back ends check one; operators look.
//!
//! Answers are JSON, errors `application/problem+json` (RFC 9457) with a machine `code`. Who asks is told by a token;
//! what a request costs is bounded in size and time. No answer, log line or metric holds a code or a full number,
//! but for the numbers that an operator asks about and gets back.

mod auth;
mod body;
mod body_limit;
mod client;
mod inspect;
mod jwks;
mod openapi;
mod ops;
pub mod page;
mod pending_limiter;
mod problem;
mod recipient;
mod send;
mod send_result;
mod serve;
mod status;
mod verify;
mod webhooks;
mod why;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{MatchedPath, Request};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use ipnet::IpNet;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tower_http::catch_panic::CatchPanicLayer;

pub use self::auth::{TokenSettingsError, Tokens, development_token};
use self::body_limit::bounded;
pub use self::ops::{Readiness, ops_router};
use self::page::Page;
pub use self::pending_limiter::PendingLimiter;
use self::problem::Problem;
pub use self::serve::serve;
pub use self::webhooks::Webhooks;
use crate::broker::RpcClient;
use crate::clock::Clock;
use crate::domain::recipient_keyring::RecipientKeyring;
use crate::flow::admit::Rules;
use crate::flow::inspect::status::Inspector;
use crate::flow::verify::Verifier;
use crate::store::{Limits, Store};
use crate::telemetry::events;

/// The routes of a server.
pub type Routes = Router;

/// No request needs more.
const BODY_BYTES_MAX: usize = 16 * 1024;
/// The longest time for one answer.
pub(crate) const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// What the handlers work with.
pub struct Api {
    /// Who may ask.
    pub tokens: Tokens,
    /// Checks codes.
    pub verifier: Verifier,
    /// Takes requests for codes.
    pub requester: Arc<dyn RpcClient>,
    /// How long a request's result is waited for.
    pub send_wait: Duration,
    /// What was published and not heard of.
    pub unheard: PendingLimiter,
    /// Knows what is used up.
    pub store: Arc<dyn Store>,
    /// Names users and addresses.
    pub recipients: Arc<RecipientKeyring>,
    /// Whom we send to.
    pub rules: Rules,
    /// What is allowed.
    pub limits: Limits,
    /// Digits of a code.
    pub code_length: usize,
    /// Whose word on a client's address is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// What time it is.
    pub clock: Clock,
    /// Looks at everything, for operators.
    pub inspector: Inspector,
    /// Turns at looking at many numbers.
    pub validating: Arc<Semaphore>,
}

/// Looks at many numbers at once.
pub const VALIDATING_MAX: usize = 1;

/// The routes for users, back ends and those providers that report to us.
pub fn router(api: Arc<Api>, webhooks: Option<Webhooks>) -> Router {
    guarded(routes(api, webhooks))
}

/// The same, and the page to try it out on.
pub fn router_with_page(api: Arc<Api>, webhooks: Option<Webhooks>, page: Page) -> Router {
    let page = bounded(page::routes(page), BODY_BYTES_MAX);
    guarded(routes(api, webhooks).merge(page))
}

fn routes(api: Arc<Api>, webhooks: Option<Webhooks>) -> Router {
    let routes = Router::new()
        .route("/api/v1/auth/send-verification-sms", post(send::send_verification_sms))
        .route("/api/v1/auth/send-verification-email", post(send::send_verification_email))
        .route("/api/v1/auth/otp-status/{request_id}", get(status::otp_status))
        .route("/api/v1/auth/verify-phone-otp", post(verify::verify_phone_otp))
        .route("/api/v1/auth/verify-email-otp", post(verify::verify_email_otp))
        .route("/api/v1/otp/verify", post(verify::verify_for_service))
        .route("/api/v1/sms/status", get(inspect::status))
        .route("/api/v1/sms/rate-limit", post(inspect::rate_limit))
        .route("/api/v1/sms/validate", post(inspect::validate))
        .route("/api/v1/sms/requests", post(why::last_requests))
        .route("/api/v1/sms/requests/{request_id}", get(why::explain_request))
        .with_state(api)
        .route("/livez", get(ops::live))
        .route("/readyz", get(ops::live))
        .route("/openapi.json", get(openapi::openapi));
    bounded(routes, BODY_BYTES_MAX).merge(webhooks.map_or_else(Router::new, webhooks::routes))
}

/// What holds for every route: a bounded time, and an answer in JSON whatever happens.
fn guarded(routes: Router) -> Router {
    routes
        .method_not_allowed_fallback(async || {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed")
        })
        .fallback(async || Problem::new(StatusCode::NOT_FOUND, "not_found"))
        .layer(CatchPanicLayer::custom(|_| {
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal").into_response()
        }))
        .layer(middleware::from_fn(observe))
}

async fn observe(request: Request, next: Next) -> Response {
    let started = Instant::now();
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let response = match tokio::time::timeout(ANSWER_WITHIN, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::new(StatusCode::SERVICE_UNAVAILABLE, "timed_out").into_response(),
    };
    let route = route.as_ref().map_or("(none)", MatchedPath::as_str);
    events::http_answered(method.as_str(), route, response.status().as_u16(), started.elapsed());
    response
}
