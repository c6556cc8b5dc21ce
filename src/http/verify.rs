//! Endpoints that verify a typed code, for a person or for a back end.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde::Serialize;

use super::api::Api;
use super::body::Body;
use super::json::JsonAnswer;
use super::problem::Problem;
use super::proof::{NONCE_RULE, Verified, nonce};
use crate::domain::address::Address;
use crate::domain::channel::Channel;
use crate::domain::code::Code;
use crate::domain::purpose::Purpose;
use crate::domain::time::seconds_rounded_up;
use crate::domain::verdict::Verdict;
use crate::flow::verify::Verification;

#[derive(Serialize)]
pub(super) struct VerifiedResponse {
    verified: bool,
    channel: Channel,
    purpose: String,
    to: String,
    /// A signed proof, if this gateway makes them.
    #[serde(skip_serializing_if = "Option::is_none")]
    proof: Option<String>,
    /// The code of a test number.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    test: bool,
}

/// A code to check, with what its proof repeats.
struct Check {
    to: Address,
    purpose: Purpose,
    code: Code,
    nonce: Option<String>,
    /// The person that the token names.
    sub: Option<String>,
}

/// `POST /api/v1/auth/verify-phone-otp`: the number is in the token.
pub(super) async fn verify_phone_otp(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    bytes: Bytes,
) -> Result<JsonAnswer<VerifiedResponse>, Problem> {
    api.verify_for_person(Channel::Sms, &headers, &bytes).await
}

/// `POST /api/v1/auth/verify-email-otp`: the e-mail address is in the token.
pub(super) async fn verify_email_otp(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    bytes: Bytes,
) -> Result<JsonAnswer<VerifiedResponse>, Problem> {
    api.verify_for_person(Channel::Email, &headers, &bytes).await
}

/// `POST /api/v1/otp/verify`: for back ends that know the recipient.
pub(super) async fn verify_for_service(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    bytes: Bytes,
) -> Result<JsonAnswer<VerifiedResponse>, Problem> {
    api.tokens.service(&headers, "otp:verify").await?;
    let body = Body::read(&headers, &bytes)?;
    let purpose = body.optional("purpose", Purpose::RULE_SENTENCE, Purpose::parse)?.unwrap_or_default();
    let code = typed_code(&body)?;
    let to = api.address_in(&body)?;
    let nonce = body.optional("nonce", NONCE_RULE, nonce)?;
    api.check(&Check { to, purpose, code, nonce, sub: None }).await
}

impl Api {
    /// Checks a code for the recipient that the caller's token names.
    async fn verify_for_person(
        &self,
        channel: Channel,
        headers: &HeaderMap,
        bytes: &Bytes,
    ) -> Result<JsonAnswer<VerifiedResponse>, Problem> {
        let user = self.tokens.user(headers).await?;
        let body = Body::read(headers, bytes)?;
        let code = typed_code(&body)?;
        let to = self.token_recipient(&user, channel)?;
        let nonce = body.optional("nonce", NONCE_RULE, nonce)?;
        self.check(&Check { to, purpose: Purpose::default(), code, nonce, sub: Some(user.sub) }).await
    }

    async fn check(&self, check: &Check) -> Result<JsonAnswer<VerifiedResponse>, Problem> {
        let Check { to, purpose, code, .. } = check;
        let verification = self.verifier.verify(to, purpose, code).await;
        let verification = verification.map_err(|error| Problem::store_failed(&error))?;
        match verification.verdict {
            Verdict::Verified => Ok(JsonAnswer(VerifiedResponse {
                verified: true,
                channel: to.channel(),
                purpose: purpose.as_str().to_owned(),
                to: to.masked(),
                proof: self.proof(check, &verification),
                test: verification.request.is_some_and(|request| request.test),
            })),
            verdict => Err(problem(&verdict)),
        }
    }

    /// Without a record of the request nothing is known of the code but that it is right: too little for a proof. A code that
    /// is known without a message, as a test number's or one that the caller chose, proves nothing. A record that cannot be read may
    /// be that of such a request.
    fn proof(&self, check: &Check, verification: &Verification) -> Option<String> {
        let (proofs, request) = (self.proofs.as_ref()?, verification.request.as_ref()?);
        if request.test || request.callers_code || verification.is_record_unreadable {
            return None;
        }
        let verified = Verified {
            to: &check.to,
            purpose: &check.purpose,
            request_id: &request.id,
            nonce: check.nonce.as_deref(),
            sub: check.sub.as_deref(),
        };
        Some(proofs.sign(&verified, self.clock.now()))
    }
}

fn typed_code(body: &Body) -> Result<Code, Problem> {
    body.required("otp_code", "must be a string of 4 to 10 digits", Code::parse_typed)
}

fn problem(verdict: &Verdict) -> Problem {
    let problem = |status, detail: &str| Problem::new(status, verdict.as_str()).detail(detail);
    match verdict {
        Verdict::Verified => unreachable!("a verified code is no problem"),
        Verdict::Wrong { attempts_left } => {
            problem(StatusCode::UNPROCESSABLE_ENTITY, "the code is wrong").attempts_remaining(*attempts_left)
        }
        Verdict::Expired { .. } => problem(StatusCode::GONE, "the code has expired; ask for a new one"),
        Verdict::NonePending => {
            problem(StatusCode::NOT_FOUND, "no code is pending for this recipient and purpose")
        }
        Verdict::AlreadyUsed => problem(StatusCode::CONFLICT, "the code was already used"),
        Verdict::Locked { retry_after: None } => {
            problem(StatusCode::TOO_MANY_REQUESTS, "too many wrong attempts; ask for a new code")
        }
        Verdict::Locked { retry_after: Some(wait) } => {
            let minutes = seconds_rounded_up(*wait).div_ceil(60);
            problem(
                StatusCode::TOO_MANY_REQUESTS,
                &format!("too many wrong attempts; try again in {minutes} minutes"),
            )
            .retry_after(*wait)
        }
        Verdict::Unpublished => problem(
            StatusCode::SERVICE_UNAVAILABLE,
            "the result could not be published, and the check was not counted; check the same code again",
        )
        .retry_after(Duration::from_secs(2)),
        Verdict::KeyUnavailable => problem(
            StatusCode::SERVICE_UNAVAILABLE,
            "the key of this code is not configured here; no attempt was counted",
        ),
        Verdict::Unanswered { counted: false } => {
            problem(StatusCode::SERVICE_UNAVAILABLE, "the code could not be checked; no attempt was counted")
        }
        Verdict::Unanswered { counted: true } => problem(
            StatusCode::SERVICE_UNAVAILABLE,
            "the result of the check is unknown; the attempt was counted",
        ),
    }
}
