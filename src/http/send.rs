//! Asking for a code: the handler publishes a request like any other service.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, StatusCode};
use serde::Serialize;

use super::Api;
use super::auth::User;
use super::body::Body;
use super::client::client_address;
use super::problem::Problem;
use crate::broker::{Outgoing, Target};
use crate::domain::locale::is_bcp47;
use crate::domain::outcome::{ErrorCode, OutcomeError};
use crate::domain::phone::PhoneNumber;
use crate::domain::recipient::{Channel, Digest16, Purpose};
use crate::domain::request::RequestId;
use crate::domain::request::body::SendRequestBody;
use crate::domain::time::seconds_rounded_up;
use crate::domain::zone::Zone;
use crate::store::Subject;
use crate::telemetry::events;

/// The answer when the request is on its way.
#[derive(Serialize)]
pub(super) struct QueuedAnswer {
    request_id: String,
    status: &'static str,
    channel: Channel,
    to: String,
    resend_after: u64,
    code_length: usize,
}

/// `POST /api/v1/auth/send-verification-sms`: a code for the number in the caller's token.
pub(super) async fn send_verification_sms(
    State(api): State<Arc<Api>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    bytes: Bytes,
) -> Result<(StatusCode, Json<QueuedAnswer>), Problem> {
    let user = api.tokens.user(&headers)?;
    let body = Body::read(&headers, &bytes)?;
    body.required("otp_type", "must be \"SMS\"", |kind| (kind == "SMS").then_some(()))?;
    let number = user.claims.phone_number.as_deref().ok_or_else(|| {
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_recipient")
            .detail("the token has no `phone_number`")
    })?;
    let to = api.rules.recipient(number).map_err(|refusal| refused(&refusal.error))?;
    let client_ip = client_address(peer.ip(), &headers, &api.trusted_proxies);
    let request_id = match idempotency_key(&headers)? {
        Some(key) => api.request_id_for(&user.sub, key),
        None => random_request_id(),
    };
    api.refuse_if_limited(&request_id, &to, &user.sub, client_ip).await?;
    api.publish_request(&request_id, &to, &user, client_ip).await?;
    let resend_after = seconds_rounded_up(api.limits.cooldown);
    let (request_id, to, code_length) = (request_id.to_string(), to.to_string(), api.code_length);
    let answer =
        QueuedAnswer { request_id, status: "queued", channel: Channel::Sms, to, resend_after, code_length };
    Ok((StatusCode::ACCEPTED, Json(answer)))
}

impl Api {
    /// Says at once what the worker would say a moment later. Only the worker decides: this charges nothing. A repeat is
    /// answered as its first copy was, whatever the limits are by now.
    async fn refuse_if_limited(
        &self,
        request_id: &RequestId,
        to: &PhoneNumber,
        sub: &str,
        client_ip: IpAddr,
    ) -> Result<(), Problem> {
        let purpose = Purpose::default();
        let subject = Subject {
            recipient: self.recipients.address(Channel::Sms, to.e164()),
            purpose: purpose.as_str(),
            user: Some(self.recipients.user(sub)),
            ip: Some(self.recipients.ip(client_ip)),
        };
        let usage = self.store.usage(&subject, Some(request_id), &self.limits).await.map_err(|error| {
            events::store_failed("usage", &error, None);
            Problem::store_unavailable()
        })?;
        let too_many = |code: ErrorCode, wait| {
            let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, code.as_str());
            Err(problem.detail(code.message()).retry_after(wait))
        };
        if usage.known {
            return Ok(());
        }
        if !usage.limited_for.is_zero() {
            return too_many(ErrorCode::RateLimited, usage.limited_for);
        }
        if !usage.cooldown.is_zero() {
            return too_many(ErrorCode::Cooldown, usage.cooldown);
        }
        Ok(())
    }

    async fn publish_request(
        &self,
        request_id: &RequestId,
        to: &PhoneNumber,
        user: &User,
        client_ip: IpAddr,
    ) -> Result<(), Problem> {
        let at = self.clock.now();
        let request = SendRequestBody {
            request_id: request_id.to_string(),
            to: to.e164().to_owned(),
            user_id: Some(user.sub.clone()),
            user_name: user.claims.name.clone().filter(|name| name.chars().count() <= 200),
            client_ip: Some(client_ip.to_string()),
            locale: user.claims.locale.clone().filter(|locale| is_bcp47(locale)),
            timezone: user.claims.zoneinfo.clone().filter(|zone| Zone::parse(zone).is_some()),
            requested_at: Some(at.to_string()),
            ..SendRequestBody::default()
        };
        let body = serde_json::to_vec(&request).expect("a request is plain data");
        let message = Outgoing {
            target: Target::Requests(Channel::Sms),
            body: &body,
            message_id: request_id.as_str(),
            correlation_id: Some(request_id.as_str()),
            at,
            traceparent: None,
        };
        self.publisher.publish(message).await.map_err(|error| {
            events::publish_failed(&error, None);
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "queue_unavailable")
                .detail("the request could not be queued; it may be asked again")
        })
    }

    /// The same user's same key names the same request, and no other user's.
    fn request_id_for(&self, sub: &str, key: &str) -> RequestId {
        let named = self.recipients.idempotency_key(sub, key);
        RequestId::parse(&format!("http-{named}")).expect("hexadecimal digits are visible ASCII")
    }
}

fn random_request_id() -> RequestId {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
    let named = Digest16::from_random(bytes);
    RequestId::parse(&format!("http-{named}")).expect("hexadecimal digits are visible ASCII")
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let Some(key) = headers.get("idempotency-key") else {
        return Ok(None);
    };
    match key.to_str() {
        Ok(key) if (1..=255).contains(&key.len()) => Ok(Some(key)),
        _ => Err(Problem::new(StatusCode::BAD_REQUEST, "invalid_request")
            .detail("`Idempotency-Key` must be 1 to 255 visible ASCII characters")),
    }
}

fn refused(error: &OutcomeError) -> Problem {
    let detail =
        error.detail.as_deref().unwrap_or(error.code.message()).replace("`to`", "the token's `phone_number`");
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, error.code.as_str()).detail(detail)
}
