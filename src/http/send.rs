//! Requests for a code: the handler publishes a request, as any back end can, and waits briefly for its result.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, StatusCode};

use super::api::{Api, store_problem};
use super::body::Body;
use super::client_address::client_address;
use super::pending_limiter::PendingSubject;
use super::problem::Problem;
use super::received_result::{ReceivedResult, SendResponse, http_status};
use super::recipient::claim_name;
use super::request_ids::{KeyBinding, idempotency_key};
use crate::broker::{Outgoing, PublishError, Target};
use crate::domain::address::Address;
use crate::domain::channel::Channel;
use crate::domain::language_tag::is_bcp47;
use crate::domain::limit::Limit;
use crate::domain::outcome::{ErrorCode, OutcomeError, Status};
use crate::domain::purpose::Purpose;
use crate::domain::reached_limit::ReachedLimit;
use crate::domain::request::body::SendRequestBody;
use crate::domain::request_id::RequestId;
use crate::domain::time::seconds_rounded_up;
use crate::domain::time_zone::Zone;
use crate::store::{LimitSubject, RequestState};
use crate::telemetry::events;
use crate::telemetry::trace;

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
        let to = to.map_err(|rejection| {
            let claim = format!("the token's `{}`", claim_name(channel));
            rejected(&rejection.error, &claim)
        })?;
        let client_ip = client_address(peer, headers, &self.trusted_proxies);
        self.send(&NewRequest {
            request_id: self.new_request_id(&user.sub, &to, idempotency_key(headers)?),
            to: &to,
            purpose: Purpose::default().as_str(),
            client_ip: Some(client_ip),
            fields: SendRequestBody {
                user_id: Some(user.sub),
                user_name: user.claims.name.filter(|name| name.chars().count() <= 200),
                locale: user.claims.locale.filter(|locale| is_bcp47(locale)),
                timezone: user.claims.zoneinfo.filter(|zone| Zone::parse(zone).is_some()),
                ..SendRequestBody::default()
            },
            key: None,
            to_in_errors: "the recipient in the token",
        })
        .await
    }

    /// Publishes a request, unless it is a repeat or reaches a limit, and waits briefly for its result.
    pub(super) async fn send(&self, request: &NewRequest<'_>) -> Result<SendResponse, Problem> {
        let (result, cooldown) = match self.check_limits(request).await? {
            PreCheck::Completed(result) => (Some(result), Duration::ZERO),
            PreCheck::InProgress { cooldown } => (None, cooldown),
            PreCheck::Publish => (self.publish_bounded(request).await?, self.limits.cooldown),
        };
        let now = self.clock.now();
        if let Some(problem) = result.as_ref().and_then(|result| result.problem(request.to_in_errors, now)) {
            return Err(problem.request_id(&request.request_id));
        }
        let resend_after = result.as_ref().and_then(|result| result.resend_after(now));
        Ok(SendResponse {
            request_id: request.request_id.to_string(),
            status: result.as_ref().map_or("queued", |result| result.status.as_str()),
            channel: request.to.channel(),
            to: request.to.masked(),
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
    async fn check_limits(&self, request: &NewRequest<'_>) -> Result<PreCheck, Problem> {
        let subject = self.limit_subject(request);
        let limits = self.limits.on(request.to.channel());
        let usage = self.store.usage(&subject, Some(&request.request_id), &limits).await;
        let usage = usage.map_err(|error| store_problem("usage", &error))?;
        if usage.has_record
            && let Some(record) = self.request_record(&request.request_id, Some(subject.recipient)).await?
        {
            return Ok(match record.state {
                RequestState::InProgress { .. } => PreCheck::InProgress { cooldown: usage.cooldown_left },
                RequestState::Completed(outcome) => PreCheck::Completed(ReceivedResult::stored(&outcome)),
            });
        }
        let channel = request.to.channel();
        if !usage.limited_for.is_zero() {
            return Err(self.too_many(channel, usage.limited_by, usage.limited_for));
        }
        if !usage.cooldown_left.is_zero() {
            return Err(self.too_many(channel, Some(ReachedLimit::Cooldown), usage.cooldown_left));
        }
        Ok(PreCheck::Publish)
    }

    /// The limit is unknown where only a later version of the store knows it.
    fn too_many(&self, channel: Channel, limit: Option<ReachedLimit>, wait: Duration) -> Problem {
        self.limit_counter.add(limit);
        limit.into_iter().for_each(|limit| events::limit_refused(channel, limit));
        let code = match limit {
            Some(ReachedLimit::Cooldown) => ErrorCode::Cooldown,
            _ => ErrorCode::RateLimited,
        };
        Problem::new(http_status(code), code.as_str()).detail(code.message()).retry_after(wait)
    }

    fn limit_subject<'a>(&self, request: &NewRequest<'a>) -> LimitSubject<'a> {
        LimitSubject {
            recipient: self.recipient_keyring.address(request.to.channel(), request.to.as_str()),
            purpose: request.purpose,
            user: request.fields.user_id.as_deref().map(|user| self.recipient_keyring.user(user)),
            ip: request.client_ip.map(|ip| self.recipient_keyring.ip(ip)),
            network: request.client_ip.map(|ip| self.recipient_keyring.network(ip)),
        }
    }

    /// Publishes a request, unless too many of the same user or client address are pending in the queue. Without a user
    /// the recipient counts.
    async fn publish_bounded(&self, request: &NewRequest<'_>) -> Result<Option<ReceivedResult>, Problem> {
        let subject = self.limit_subject(request);
        let counted_by =
            |digest, limit: Limit| PendingSubject { digest, limit: limit.into(), quota: self.limits[limit] };
        let by_user = match subject.user {
            Some(user) => counted_by(user, Limit::User),
            None => counted_by(subject.recipient, Limit::Recipient),
        };
        let by_ip = subject.ip.map(|ip| counted_by(ip, Limit::Ip));
        let by_network = subject.network.map(|network| counted_by(network, Limit::Network));
        let counted: Vec<_> = [Some(by_user), by_ip, by_network].into_iter().flatten().collect();
        let count = self
            .pending
            .add(&counted)
            .map_err(|full| self.too_many(request.to.channel(), Some(full.limit), full.wait))?;
        let remove = |counted: &[PendingSubject]| self.pending.remove(count, counted);
        if let Some(binding) = request.key {
            self.bind_key(binding).await.inspect_err(|_| remove(&counted))?;
        }
        let result = self.publish_request(request).await;
        match &result {
            // It is in the queue, or may be: a missing confirm proves nothing.
            Ok(None) | Err(PublishError::Unconfirmed(_)) => {}
            // A rejection charges no limit, so it keeps counting against the user.
            Ok(Some(result)) if result.status == Status::Rejected => remove(&counted[1..]),
            Ok(Some(_))
            | Err(PublishError::NotTaken(_) | PublishError::Blocked | PublishError::Unroutable) => {
                remove(&counted);
            }
        }
        result.map_err(|error| {
            events::publish_failed(&error, error.is_blocked(), None);
            let detail = match error.is_blocked() {
                true => "the broker is short of memory or disk space and takes no requests; try again later",
                false => "the request could not be queued; try again",
            };
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "queue_unavailable").detail(detail)
        })
    }

    async fn publish_request(
        &self,
        request: &NewRequest<'_>,
    ) -> Result<Option<ReceivedResult>, PublishError> {
        let at = self.clock.now();
        let body = SendRequestBody {
            request_id: request.request_id.to_string(),
            to: request.to.as_str().to_owned(),
            client_ip: request.client_ip.map(|ip| ip.to_string()),
            requested_at: Some(at.to_string()),
            ..request.fields.clone()
        };
        let body = serde_json::to_vec(&body).expect("a request is plain data");
        let traceparent = trace::context().map(|context| context.traceparent());
        let message = Outgoing {
            target: Target::Requests(request.to.channel()),
            body: &body,
            message_id: request.request_id.as_str(),
            correlation_id: Some(request.request_id.as_str()),
            at,
            traceparent: traceparent.as_deref(),
            tracestate: None,
        };
        let body = self.rpc_client.request(message, self.send_wait).await?;
        Ok(body.as_deref().and_then(ReceivedResult::read))
    }
}

/// A checked request for a code, before it is published.
pub(super) struct NewRequest<'a> {
    pub(super) request_id: RequestId,
    pub(super) to: &'a Address,
    pub(super) purpose: &'a str,
    pub(super) client_ip: Option<IpAddr>,
    /// The other fields of the message.
    pub(super) fields: SendRequestBody,
    /// The idempotency key to bind when the request is published.
    pub(super) key: Option<KeyBinding>,
    /// The recipient's field, as errors name it to this caller.
    pub(super) to_in_errors: &'static str,
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

/// `to` names the recipient's field to this caller.
pub(super) fn rejected(error: &OutcomeError, to: &str) -> Problem {
    let detail = error.detail.as_deref().unwrap_or(error.message()).replace("`to`", to);
    Problem::new(http_status(error.code), error.code.as_str()).detail(detail)
}
