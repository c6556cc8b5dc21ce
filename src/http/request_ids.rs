//! Identifiers of requests made over HTTP: `http-{user}-{unique}` for a person, `service-{channel}-{service}-{unique}`
//! for a back end.
//!
//! `{user}` is a digest of the token's subject, so that a person can ask for the status of their own requests only.
//! `{unique}` is random, or derived from the `Idempotency-Key`: the same key of the same user and recipient names the
//! same request. The recipient is part of it, because a reader would drop the second of two results with one id.
//!
//! A service's `{unique}` also covers the fields of its request. The store binds the key to it, so that a key used again
//! for another request is recognised.

use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use axum::http::{HeaderMap, StatusCode};

use super::api::{Api, store_problem};
use super::auth::Service;
use super::problem::Problem;
use crate::domain::address::Address;
use crate::domain::channel::Channel;
use crate::domain::keyed_digest::Digest16;
use crate::domain::request_id::RequestId;

/// Digits of a user's or service's digest in an id: enough that no two share them.
const OWNER_DIGITS: usize = 16;

impl Api {
    pub(super) fn new_request_id(&self, sub: &str, to: &Address, key: Option<&str>) -> RequestId {
        let recipient = self.recipient_keyring.address(to.channel(), to.as_str());
        let unique =
            key.map_or_else(random_digest, |key| self.recipient_keyring.idempotency_key(sub, recipient, key));
        RequestId::parse(&format!("{}{unique}", self.id_prefix(sub)))
            .expect("hexadecimal digits are visible ASCII")
    }

    /// True for a request that this user made over HTTP.
    pub(super) fn is_request_of(&self, request_id: &RequestId, sub: &str) -> bool {
        request_id.as_str().starts_with(&self.id_prefix(sub))
    }

    fn id_prefix(&self, sub: &str) -> String {
        let user = self.recipient_keyring.user_in_ids(sub);
        format!("http-{}-", &user.as_str()[..OWNER_DIGITS])
    }

    /// The id of a service's request.
    pub(super) fn service_request_id(
        &self,
        service: &Service,
        channel: Channel,
        unique: Option<Digest16>,
    ) -> RequestId {
        let unique = unique.unwrap_or_else(random_digest);
        RequestId::parse(&format!("{}{unique}", self.service_prefix(service, channel)))
            .expect("words and hexadecimal digits are visible ASCII")
    }

    /// The channel of a request that this service made over HTTP. `None`: it did not make the request.
    pub(super) fn channel_of_request(&self, request_id: &RequestId, service: &Service) -> Option<Channel> {
        let made =
            |channel: &Channel| request_id.as_str().starts_with(&self.service_prefix(service, *channel));
        Channel::ALL.into_iter().find(made)
    }

    /// The binding of a service's idempotency key to a request with these values.
    pub(super) fn key_binding(
        &self,
        service: &Service,
        to: &Address,
        key: &str,
        values: &[&str],
    ) -> KeyBinding {
        let recipient = self.recipient_keyring.address(to.channel(), to.as_str());
        let key = self.recipient_keyring.service_key(self.service_digest(service), recipient, key);
        KeyBinding { key, request: self.recipient_keyring.service_request(key, values) }
    }

    /// True if the key is bound to this request; an error if it is bound to another.
    pub(super) async fn is_bound(&self, KeyBinding { key, request }: KeyBinding) -> Result<bool, Problem> {
        let bound = self.store.bind_idempotency_key(key, None).await;
        match bound.map_err(|error| store_problem("idempotency_key", &error))? {
            Some(bound) if bound != request => Err(reused()),
            bound => Ok(bound.is_some()),
        }
    }

    /// Binds a key to a request, unless another request was faster.
    pub(super) async fn bind_key(&self, KeyBinding { key, request }: KeyBinding) -> Result<(), Problem> {
        let bound = self.store.bind_idempotency_key(key, Some(request)).await;
        let bound = bound.map_err(|error| store_problem("idempotency_key", &error))?;
        if bound == Some(request) { Ok(()) } else { Err(reused()) }
    }

    fn service_prefix(&self, service: &Service, channel: Channel) -> String {
        let owner = self.service_digest(service);
        format!("service-{}-{}-", channel.as_str(), &owner.as_str()[..OWNER_DIGITS])
    }

    fn service_digest(&self, Service { issuer, claim, id }: &Service) -> Digest16 {
        self.recipient_keyring.service_in_ids(issuer, claim, id)
    }
}

/// A service's idempotency key, and the request that it names.
#[derive(Clone, Copy)]
pub(super) struct KeyBinding {
    pub(super) key: Digest16,
    pub(super) request: Digest16,
}

fn reused() -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused")
        .detail("`Idempotency-Key` names another request to this recipient; use a new key")
}

fn random_digest() -> Digest16 {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
    Digest16::from_bytes(bytes)
}

pub(super) fn request_id_in(path: Result<Path<String>, PathRejection>) -> Result<RequestId, Problem> {
    path.ok()
        .and_then(|Path(id)| RequestId::parse(&id))
        .ok_or_else(|| Problem::invalid(format!("`request_id` {}", RequestId::RULE)))
}

pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let invalid = |rule| Err(Problem::new(StatusCode::BAD_REQUEST, "invalid_request").detail(rule));
    let mut given = headers.get_all("idempotency-key").iter();
    let Some(key) = given.next() else {
        return Ok(None);
    };
    if given.next().is_some() {
        return invalid("`Idempotency-Key` must be given once");
    }
    match key.to_str() {
        Ok(key) if (1..=255).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic()) => {
            Ok(Some(key))
        }
        _ => invalid("`Idempotency-Key` must be 1 to 255 visible ASCII characters"),
    }
}
