//! Asking for a code: the handler publishes a request like any other service, and waits a moment for its result.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, StatusCode};

use super::Api;
use super::auth::User;
use super::body::Body;
use super::client::client_address;
use super::problem::Problem;
use super::recipient::claim_of;
use super::send_result::{ReceivedResult, SendAnswer, status_of};
use crate::broker::{Outgoing, PublishError, Target};
use crate::domain::address::Address;
use crate::domain::channel::Channel;
use crate::domain::keyed_digest::Digest16;
use crate::domain::language_tag::is_bcp47;
use crate::domain::limit::Limit;
use crate::domain::outcome::{ErrorCode, OutcomeError, Status};
use crate::domain::purpose::Purpose;
use crate::domain::request::body::SendRequestBody;
use crate::domain::request_id::RequestId;
use crate::domain::time::seconds_rounded_up;
use crate::domain::zone::Zone;
use crate::store::{RequestState, Subject};
use crate::telemetry::events;

/// `POST /api/v1/auth/send-verification-sms`: a code for the number in the caller's token.
pub(super) async fn send_verification_sms(
    State(api): State<Arc<Api>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    bytes: Bytes,
) -> Result<SendAnswer, Problem> {
    api.send_verification(Channel::Sms, peer.ip(), &headers, &bytes).await
}

/// `POST /api/v1/auth/send-verification-email`: a code for the e-mail address in the caller's token.
pub(super) async fn send_verification_email(
    State(api): State<Arc<Api>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    bytes: Bytes,
) -> Result<SendAnswer, Problem> {
    api.send_verification(Channel::Email, peer.ip(), &headers, &bytes).await
}

impl Api {
    async fn send_verification(
        &self,
        channel: Channel,
        peer: IpAddr,
        headers: &HeaderMap,
        bytes: &Bytes,
    ) -> Result<SendAnswer, Problem> {
        let user = self.tokens.user(headers).await?;
        let body = Body::read(headers, bytes)?;
        let (word, rule) = match channel {
            Channel::Sms => ("SMS", "must be \"SMS\""),
            Channel::Email => ("EMAIL", "must be \"EMAIL\""),
        };
        body.required("otp_type", rule, |kind| (kind == word).then_some(()))?;
        let to = self.rules.recipient(channel, user.written(channel)?);
        let to = to.map_err(|refusal| refused(channel, &refusal.error))?;
        self.send(headers, peer, &user, &to).await
    }

    /// Asks for a code like any other service, and tells what became of that.
    pub(super) async fn send(
        &self,
        headers: &HeaderMap,
        peer: IpAddr,
        user: &User,
        to: &Address,
    ) -> Result<SendAnswer, Problem> {
        let client_ip = client_address(peer, headers, &self.trusted_proxies);
        let request_id = self.request_id(&user.sub, to, idempotency_key(headers)?);
        let (heard, cooldown) = match self.known(&request_id, to, &user.sub, client_ip).await? {
            Known::Ended(heard) => (Some(heard), Duration::ZERO),
            Known::Live(cooldown) => (None, cooldown),
            Known::New => {
                (self.publish_counted(&request_id, to, user, client_ip).await?, self.limits.cooldown)
            }
        };
        let now = self.clock.now();
        if let Some(problem) = heard.as_ref().and_then(|heard| heard.problem(now)) {
            return Err(problem.request_id(&request_id));
        }
        let resend_after = heard.as_ref().and_then(|heard| heard.resend_after(now));
        Ok(SendAnswer {
            request_id: request_id.to_string(),
            status: heard.as_ref().map_or("queued", |heard| heard.status.as_str()),
            channel: to.channel(),
            to: to.to_string(),
            expires_at: heard.as_ref().and_then(ReceivedResult::expires_at),
            resend_after: resend_after.unwrap_or_else(|| seconds_rounded_up(cooldown)),
            code_length: self.code_length,
            replayed: heard.is_some_and(|heard| heard.replayed),
        })
    }

    /// Says at once what the worker would say a moment later, so that whoever keeps pressing costs the queue nothing, and
    /// hears it while no worker runs, too. Only the worker decides: this charges nothing.
    ///
    /// A repeat is answered as its first copy was, whatever the limits are by now, and never published. It need not be:
    /// there is a record once a worker has taken the first copy up, and until that one is told and acknowledged the broker
    /// gives its message to another.
    async fn known(
        &self,
        request_id: &RequestId,
        to: &Address,
        sub: &str,
        client_ip: IpAddr,
    ) -> Result<Known, Problem> {
        let purpose = Purpose::default();
        let subject = Subject {
            recipient: self.recipients.address(to.channel(), to.as_str()),
            purpose: purpose.as_str(),
            user: Some(self.recipients.user(sub)),
            ip: Some(self.recipients.ip(client_ip)),
        };
        let limits = self.limits.on(to.channel());
        let usage = self.store.usage(&subject, Some(request_id), &limits).await.map_err(|error| {
            events::store_failed("usage", &error, None);
            Problem::store_unavailable()
        })?;
        if usage.known
            && let Some(story) = self.story(request_id, subject.recipient).await?
        {
            return Ok(match story.state {
                RequestState::Live { .. } => Known::Live(usage.cooldown),
                RequestState::Ended(outcome) => Known::Ended(ReceivedResult::stored(&outcome)),
            });
        }
        if !usage.limited_for.is_zero() {
            return Err(too_many(ErrorCode::RateLimited, usage.limited_for));
        }
        if !usage.cooldown.is_zero() {
            return Err(too_many(ErrorCode::Cooldown, usage.cooldown));
        }
        Ok(Known::New)
    }

    /// Publishes a request, unless too many of the same user or address may be queued that nobody takes up.
    async fn publish_counted(
        &self,
        request_id: &RequestId,
        to: &Address,
        user: &User,
        client_ip: IpAddr,
    ) -> Result<Option<ReceivedResult>, Problem> {
        let (by_user, by_ip) = (self.recipients.user(&user.sub), self.recipients.ip(client_ip));
        let counted = self
            .unheard
            .enter(&[(by_user, self.limits[Limit::User]), (by_ip, self.limits[Limit::Ip])])
            .map_err(|wait| too_many(ErrorCode::RateLimited, wait))?;
        let heard = self.publish_request(request_id, to, user, client_ip).await;
        match &heard {
            // It is in the queue, or may be: no confirm is no proof that it is not.
            Ok(None) | Err(PublishError::Unconfirmed(_)) => {}
            // No limit is charged for it, so this is the one that whoever presses on is held by.
            Ok(Some(heard)) if heard.status == Status::Rejected => self.unheard.forget(counted, &[by_ip]),
            Ok(Some(_)) | Err(PublishError::NotTaken(_) | PublishError::Unroutable) => {
                self.unheard.forget(counted, &[by_user, by_ip]);
            }
        }
        heard.map_err(|error| {
            events::publish_failed(&error, None);
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "queue_unavailable")
                .detail("the request could not be queued; it may be asked again")
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
        let heard = self.requester.request(message, self.send_wait).await?;
        Ok(heard.as_deref().and_then(ReceivedResult::read))
    }

    /// A user's own beginning, and what nobody guesses, or what the user's own key makes of it: the same user's same key
    /// names the same request to the same recipient. With the recipient in it no id is that of two requests, of which a
    /// reader would drop one result as a repeat of the other.
    fn request_id(&self, sub: &str, to: &Address, key: Option<&str>) -> RequestId {
        let recipient = self.recipients.address(to.channel(), to.as_str());
        let named =
            key.map_or_else(random_digest, |key| self.recipients.idempotency_key(sub, recipient, key));
        RequestId::parse(&format!("{}{named}", self.beginning_of_ids(sub)))
            .expect("hexadecimal digits are visible ASCII")
    }

    /// True for a request that was made here for this user.
    pub(super) fn is_of(&self, request_id: &RequestId, sub: &str) -> bool {
        request_id.as_str().starts_with(&self.beginning_of_ids(sub))
    }

    fn beginning_of_ids(&self, sub: &str) -> String {
        let user = self.recipients.user_in_ids(sub);
        format!("http-{}-", &user.as_str()[..USER_DIGITS])
    }
}

/// What is known of a request before it is published.
enum Known {
    /// Nothing, and no limit is reached.
    New,
    /// A worker has it, or it waits for one. Its recipient cools down for this long.
    Live(Duration),
    /// How it ended.
    Ended(ReceivedResult),
}

fn too_many(code: ErrorCode, wait: Duration) -> Problem {
    Problem::new(status_of(code), code.as_str()).detail(code.message()).retry_after(wait)
}

/// How much of a user's digest begins its ids: enough that no two users meet.
const USER_DIGITS: usize = 16;

fn random_digest() -> Digest16 {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
    Digest16::from_random(bytes)
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let invalid = |rule| Err(Problem::new(StatusCode::BAD_REQUEST, "invalid_request").detail(rule));
    let mut given = headers.get_all("idempotency-key").iter();
    let Some(key) = given.next() else {
        return Ok(None);
    };
    if given.next().is_some() {
        return invalid("`Idempotency-Key` must stand there once");
    }
    match key.to_str() {
        Ok(key) if (1..=255).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic()) => {
            Ok(Some(key))
        }
        _ => invalid("`Idempotency-Key` must be 1 to 255 visible ASCII characters"),
    }
}

fn refused(channel: Channel, error: &OutcomeError) -> Problem {
    let told = error.detail.as_deref().unwrap_or(error.code.message());
    let detail = told.replace("`to`", &format!("the token's `{}`", claim_of(channel)));
    Problem::new(status_of(error.code), error.code.as_str()).detail(detail)
}
