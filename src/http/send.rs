//! Requests for a code: the handler publishes a request, as any back end can, and waits briefly for its result.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, StatusCode};

use super::api::{Api, store_unavailable};
use super::auth::User;
use super::body::Body;
use super::client_address::client_address;
use super::problem::Problem;
use super::received_result::{ReceivedResult, SendResponse, http_status};
use super::recipient::claim_name;
use super::request_ids::idempotency_key;
use crate::broker::{Outgoing, PublishError, Target};
use crate::domain::address::Address;
use crate::domain::channel::Channel;
use crate::domain::language_tag::is_bcp47;
use crate::domain::limit::Limit;
use crate::domain::outcome::{ErrorCode, OutcomeError, Status};
use crate::domain::purpose::Purpose;
use crate::domain::request::body::SendRequestBody;
use crate::domain::request_id::RequestId;
use crate::domain::time::seconds_rounded_up;
use crate::domain::time_zone::Zone;
use crate::store::{LimitSubject, RequestState};
use crate::telemetry::events;

/// `POST /api/v1/auth/send-verification-sms`: a code for the number in the caller's token.
pub(super) async fn send_verification_sms(
    State(api): State<Arc<Api>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    bytes: Bytes,
) -> Result<SendResponse, Problem> {
    api.send_verification(Channel::Sms, peer.ip(), &headers, &bytes).await
}

/// `POST /api/v1/auth/send-verification-email`: a code for the e-mail address in the caller's token.
pub(super) async fn send_verification_email(
    State(api): State<Arc<Api>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    bytes: Bytes,
) -> Result<SendResponse, Problem> {
    api.send_verification(Channel::Email, peer.ip(), &headers, &bytes).await
}

impl Api {
    async fn send_verification(
        &self,
        channel: Channel,
        peer: IpAddr,
        headers: &HeaderMap,
        bytes: &Bytes,
    ) -> Result<SendResponse, Problem> {
        let user = self.tokens.user(headers).await?;
        let body = Body::read(headers, bytes)?;
        let (otp_type, rule) = match channel {
            Channel::Sms => ("SMS", "must be \"SMS\""),
            Channel::Email => ("EMAIL", "must be \"EMAIL\""),
        };
        body.required("otp_type", rule, |kind| (kind == otp_type).then_some(()))?;
        let to = self.rules.recipient(channel, user.claimed_recipient(channel)?);
        let to = to.map_err(|rejection| rejected(channel, &rejection.error))?;
        self.send(headers, peer, &user, &to).await
    }

    async fn send(
        &self,
        headers: &HeaderMap,
        peer: IpAddr,
        user: &User,
        to: &Address,
    ) -> Result<SendResponse, Problem> {
        let client_ip = client_address(peer, headers, &self.trusted_proxies);
        let request_id = self.new_request_id(&user.sub, to, idempotency_key(headers)?);
        let (result, cooldown) = match self.check_limits(&request_id, to, &user.sub, client_ip).await? {
            PreCheck::Completed(result) => (Some(result), Duration::ZERO),
            PreCheck::InProgress { cooldown } => (None, cooldown),
            PreCheck::Publish => {
                (self.publish_bounded(&request_id, to, user, client_ip).await?, self.limits.cooldown)
            }
        };
        let now = self.clock.now();
        if let Some(problem) = result.as_ref().and_then(|result| result.problem(now)) {
            return Err(problem.request_id(&request_id));
        }
        let resend_after = result.as_ref().and_then(|result| result.resend_after(now));
        Ok(SendResponse {
            request_id: request_id.to_string(),
            status: result.as_ref().map_or("queued", |result| result.status.as_str()),
            channel: to.channel(),
            to: to.to_string(),
            expires_at: result.as_ref().and_then(ReceivedResult::expires_at),
            resend_after: resend_after.unwrap_or_else(|| seconds_rounded_up(cooldown)),
            code_length: self.code_length,
            replayed: result.is_some_and(|result| result.replayed),
        })
    }

    /// Checks limits before publishing, so that repeated clicks never reach the queue, even while no worker runs. It
    /// charges nothing: the worker decides.
    ///
    /// A repeat of a request with a record is answered from the record, whatever the limits are by now, and is not
    /// published. The first copy is safe: the broker redelivers it until a worker has completed it.
    async fn check_limits(
        &self,
        request_id: &RequestId,
        to: &Address,
        sub: &str,
        client_ip: IpAddr,
    ) -> Result<PreCheck, Problem> {
        let purpose = Purpose::default();
        let subject = LimitSubject {
            recipient: self.recipient_keyring.address(to.channel(), to.as_str()),
            purpose: purpose.as_str(),
            user: Some(self.recipient_keyring.user(sub)),
            ip: Some(self.recipient_keyring.ip(client_ip)),
        };
        let limits = self.limits.on(to.channel());
        let usage = self.store.usage(&subject, Some(request_id), &limits).await;
        let usage = usage.map_err(|error| store_unavailable("usage", &error))?;
        if usage.has_record
            && let Some(record) = self.request_record(request_id, Some(subject.recipient)).await?
        {
            return Ok(match record.state {
                RequestState::InProgress { .. } => PreCheck::InProgress { cooldown: usage.cooldown_left },
                RequestState::Completed(outcome) => PreCheck::Completed(ReceivedResult::stored(&outcome)),
            });
        }
        if !usage.limited_for.is_zero() {
            return Err(too_many(ErrorCode::RateLimited, usage.limited_for));
        }
        if !usage.cooldown_left.is_zero() {
            return Err(too_many(ErrorCode::Cooldown, usage.cooldown_left));
        }
        Ok(PreCheck::Publish)
    }

    /// Publishes a request, unless too many of the same user or client address are pending in the queue.
    async fn publish_bounded(
        &self,
        request_id: &RequestId,
        to: &Address,
        user: &User,
        client_ip: IpAddr,
    ) -> Result<Option<ReceivedResult>, Problem> {
        let (by_user, by_ip) = (self.recipient_keyring.user(&user.sub), self.recipient_keyring.ip(client_ip));
        let count = self
            .pending
            .add(&[(by_user, self.limits[Limit::User]), (by_ip, self.limits[Limit::Ip])])
            .map_err(|wait| too_many(ErrorCode::RateLimited, wait))?;
        let result = self.publish_request(request_id, to, user, client_ip).await;
        match &result {
            // It is in the queue, or may be: a missing confirm proves nothing.
            Ok(None) | Err(PublishError::Unconfirmed(_)) => {}
            // A rejection charges no limit, so it keeps counting against the user.
            Ok(Some(result)) if result.status == Status::Rejected => self.pending.remove(count, &[by_ip]),
            Ok(Some(_)) | Err(PublishError::NotTaken(_) | PublishError::Unroutable) => {
                self.pending.remove(count, &[by_user, by_ip]);
            }
        }
        result.map_err(|error| {
            events::publish_failed(&error, None);
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "queue_unavailable")
                .detail("the request could not be queued; try again")
        })
    }

    async fn publish_request(
        &self,
        request_id: &RequestId,
        to: &Address,
        user: &User,
        client_ip: IpAddr,
    ) -> Result<Option<ReceivedResult>, PublishError> {
        let at = self.clock.now();
        let request = SendRequestBody {
            request_id: request_id.to_string(),
            to: to.as_str().to_owned(),
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
            target: Target::Requests(to.channel()),
            body: &body,
            message_id: request_id.as_str(),
            correlation_id: Some(request_id.as_str()),
            at,
            traceparent: None,
        };
        let body = self.rpc_client.request(message, self.send_wait).await?;
        Ok(body.as_deref().and_then(ReceivedResult::read))
    }
}

/// The answer of the checks before a request is published.
enum PreCheck {
    /// The request has no record, and no limit is reached.
    Publish,
    /// A repeat of a request that a worker has admitted and not completed.
    InProgress { cooldown: Duration },
    /// A repeat of a request that has ended.
    Completed(ReceivedResult),
}

fn too_many(code: ErrorCode, wait: Duration) -> Problem {
    Problem::new(http_status(code), code.as_str()).detail(code.message()).retry_after(wait)
}

fn rejected(channel: Channel, error: &OutcomeError) -> Problem {
    let detail = error.detail.as_deref().unwrap_or(error.code.message());
    let detail = detail.replace("`to`", &format!("the token's `{}`", claim_name(channel)));
    Problem::new(http_status(error.code), error.code.as_str()).detail(detail)
}
