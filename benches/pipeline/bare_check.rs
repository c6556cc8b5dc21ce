//! The yardstick of a check: a handler that verifies the same token, calls one script and answers. With a broker it also
//! publishes the event of a right code, and answers after its confirm.

use std::net::Ipv4Addr;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::routing::post;
use axum::{Json, Router};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};
use redis::aio::ConnectionManager;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;

use crate::bare::{BROKER_WITHIN, Flavor, STORE_WITHIN};
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
    /// Without it, no event is published.
    #[arg(long)]
    pub amqp_url: Option<String>,
    #[arg(long)]
    pub prefix: String,
    #[arg(long)]
    pub redis_prefix: String,
    #[arg(long, value_enum)]
    pub runtime: Flavor,
}

struct Checker {
    redis: ConnectionManager,
    script: redis::Script,
    prefix: String,
    key: DecodingKey,
    validation: Validation,
    events: Option<Events>,
}

/// Like `bare.rs`: one connection, and a channel that all checks share at once.
struct Events {
    _connection: Connection,
    channel: Channel,
    exchange: String,
}

impl Events {
    async fn connect(url: &str, prefix: &str) -> anyhow::Result<Events> {
        let connection = Connection::connect(url, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok(Events { _connection: connection, channel, exchange: format!("{prefix}.results") })
    }

    /// The event of otpost: persistent, mandatory and confirmed.
    async fn publish(&self, to: &str) -> anyhow::Result<()> {
        let (now, request_id) = (jiff::Timestamp::now(), format!("bench-{}", &to[1..]));
        let event = json!({ "request_id": request_id, "channel": "sms", "purpose": "verification",
            "to": crate::bare::masked(to), "status": "verified", "at": now.to_string() });
        let body = serde_json::to_vec(&event)?;
        let properties = BasicProperties::default()
            .with_content_type("application/json".into())
            .with_delivery_mode(2)
            .with_app_id("otpost".into())
            .with_message_id(format!("{request_id}:verified").into())
            .with_correlation_id(request_id.into())
            .with_timestamp(now.as_second().unsigned_abs());
        let options = BasicPublishOptions { mandatory: true, ..Default::default() };
        let exchange = self.exchange.as_str().into();
        let confirmed = async {
            let key = "sms.verified".into();
            self.channel.basic_publish(exchange, key, options, &body, properties).await?.await
        };
        let confirmation = timeout(BROKER_WITHIN, confirmed).await??;
        anyhow::ensure!(matches!(confirmation, Confirmation::Ack(_)), "the broker refused an event");
        Ok(())
    }
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
        prefix: settings.redis_prefix.clone(),
        key: DecodingKey::from_secret(JWT_SECRET.as_bytes()),
        validation,
        events: match &settings.amqp_url {
            Some(url) => Some(Events::connect(url, &settings.prefix).await?),
            None => None,
        },
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
    let is_published = match (&wrong, &checker.events) {
        (Ok(Ok(0)), Some(events)) => events.publish(&to).await.is_ok(),
        _ => true,
    };
    let (status, verdict, body) = match wrong {
        Ok(Ok(0)) if !is_published => {
            (StatusCode::SERVICE_UNAVAILABLE, "queue_unavailable", json!({ "code": "queue_unavailable" }))
        }
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
