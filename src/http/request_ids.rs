//! Identifiers of requests made over HTTP: `http-{user}-{unique}`.
//!
//! `{user}` is a digest of the token's subject, so that a person can ask for the status of their own requests only.
//! `{unique}` is random, or derived from the `Idempotency-Key`: the same key of the same user and recipient names the
//! same request. The recipient is part of it, because a reader would drop the second of two results with one id.

use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use axum::http::{HeaderMap, StatusCode};

use super::api::Api;
use super::problem::Problem;
use crate::domain::address::Address;
use crate::domain::keyed_digest::Digest16;
use crate::domain::request_id::RequestId;

/// Digits of a user's digest in an id: enough that no two users share them.
const USER_DIGITS: usize = 16;

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
        format!("http-{}-", &user.as_str()[..USER_DIGITS])
    }
}

fn random_digest() -> Digest16 {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
    Digest16::from_random(bytes)
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
