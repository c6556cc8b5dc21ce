//! The yardstick of a check: a handler that verifies the same token, calls one script and answers.

use std::net::Ipv4Addr;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::routing::post;
use axum::{Json, Router};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use redis::aio::ConnectionManager;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;

use crate::bare::{Flavor, STORE_WITHIN};
use crate::run::{AUDIENCE, JWT_SECRET};

/// One script, as `verify.lua` is one: compare, count or use up.
const CHECK: &str = r"
local code = redis.call('HGET', KEYS[1], 'code')
if not code or redis.call('HEXISTS', KEYS[1], 'used') == 1 then return -1 end
if code ~= ARGV[1] then return redis.call('HINCRBY', KEYS[1], 'wrong', 1) end
redis.call('HSET', KEYS[1], 'used', ARGV[2])
return 0";

#[derive(clap::Args)]
pub struct Settings {
    #[arg(long)]
    pub port: u16,
    #[arg(long)]
    pub redis_url: String,
    #[arg(long)]
    pub prefix: String,
    #[arg(long, value_enum)]
    pub runtime: Flavor,
}

struct Checker {
    redis: ConnectionManager,
    script: redis::Script,
    prefix: String,
    key: DecodingKey,
    validation: Validation,
}

#[derive(Deserialize)]
struct Claims {
    scope: String,
}

#[derive(Deserialize)]
struct Body {
    to: String,
    otp_code: String,
}

pub fn key(prefix: &str, to: &str) -> String {
    format!("{prefix}:{{{:0>32}}}:code", &to[1..])
}

pub async fn serve(settings: &Settings) -> anyhow::Result<()> {
    tracing_subscriber::fmt().json().init();
    let mut validation = Validation::new(Algorithm::HS256);
    validation.set_audience(&[AUDIENCE]);
    let checker = Checker {
        redis: redis::Client::open(settings.redis_url.as_str())?.get_connection_manager().await?,
        script: redis::Script::new(CHECK),
        prefix: settings.prefix.clone(),
        key: DecodingKey::from_secret(JWT_SECRET.as_bytes()),
        validation,
    };
    let router = Router::new().route("/api/v1/otp/verify", post(check)).with_state(Arc::new(checker));
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, settings.port)).await?;
    let mut stop = signal(SignalKind::terminate())?;
    axum::serve(listener, router)
        .with_graceful_shutdown(async move {
            let _ = stop.recv().await;
        })
        .await?;
    Ok(())
}

async fn check(
    State(checker): State<Arc<Checker>>,
    headers: HeaderMap,
    Json(Body { to, otp_code }): Json<Body>,
) -> (StatusCode, Json<Value>) {
    let bearer =
        headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let claims = bearer.and_then(|token| decode::<Claims>(token, &checker.key, &checker.validation).ok());
    if !claims.is_some_and(|token| token.claims.scope.split(' ').any(|scope| scope == "otp:verify")) {
        return (StatusCode::UNAUTHORIZED, Json(json!({ "code": "invalid_token" })));
    }
    let mut script = checker.script.key(key(&checker.prefix, &to));
    script.arg(&otp_code).arg(jiff::Timestamp::now().as_millisecond());
    let mut redis = checker.redis.clone();
    let wrong = timeout(STORE_WITHIN, script.invoke_async::<i64>(&mut redis)).await;
    let (status, verdict, body) = match wrong {
        Ok(Ok(0)) => {
            let body = json!({ "verified": true, "channel": "sms", "purpose": "verification", "to": crate::bare::masked(&to) });
            (StatusCode::OK, "verified", body)
        }
        Ok(Ok(wrong)) => {
            let body = json!({ "status": 422, "code": "wrong_code", "detail": "the code is wrong", "attempts_remaining": 5 - wrong });
            (StatusCode::UNPROCESSABLE_ENTITY, "wrong_code", body)
        }
        _ => (StatusCode::SERVICE_UNAVAILABLE, "store_unavailable", json!({ "code": "store_unavailable" })),
    };
    tracing::info!(to = %crate::bare::masked(&to), purpose = "verification", verdict, "code checked");
    (status, Json(body))
}
