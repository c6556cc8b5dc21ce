//! The HTTP interface: users and back ends request and verify a code, operators ask about the gateway.
//!
//! Answers are JSON; errors are `application/problem+json` (RFC 9457) with a machine-readable `code`. A bearer token
//! identifies the caller. Every request is bounded in size and time. No answer, log line or metric holds a code or a
//! full number, except the numbers that an operator asks about.

mod api;
mod audited_readers;
mod auth;
mod body;
mod body_limit;
mod client_address;
mod connection_io;
mod connections;
mod console;
mod health_and_metrics;
mod inbound;
mod json;
mod jwks;
mod openapi;
mod operator;
mod otp_status;
pub mod page;
mod pending_limiter;
mod problem;
mod proof;
mod proof_keys;
mod received_result;
mod recipient;
mod refused_token;
mod request_ids;
mod router;
mod same_origin;
mod scale;
mod send;
mod send_for_service;
mod serve;
mod signed_call;
mod static_files;
mod token;
mod token_claims;
mod token_key;
mod verify;
mod webhooks;

pub use self::api::{Api, Console, VALIDATIONS_MAX};
pub use self::auth::{TokenSettingsError, Tokens, development_token};
pub(crate) use self::body_limit::ANSWER_WITHIN;
pub use self::connections::ConnectionLimits;
pub use self::health_and_metrics::{Readiness, ops_router};
pub use self::pending_limiter::PendingLimiter;
pub use self::proof::{ProofKeyError, ProofSigner};
pub use self::router::{router, router_with_page};
pub use self::serve::serve;
pub use self::webhooks::Webhooks;

pub type Routes = axum::Router;
