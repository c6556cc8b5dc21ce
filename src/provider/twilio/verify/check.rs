//! Checks a typed code at Verify.
//!
//! A wrong code gets a 2xx like the correct one: only `approved` is correct. An expired Verification gets a 404, and Twilio
//! answers with the same number and text if the whole service does not exist: a check of the service shows the
//! difference. Twilio counts wrong attempts itself, five for a Verification.
//!
//! Fields and answers: Twilio's OpenAPI file `twilio_verify_v2` (`CreateVerificationCheck`, `FetchVerification`).

use async_trait::async_trait;
use form_urlencoded::Serializer;
use reqwest::StatusCode;

use super::super::{BODY_BYTES_MAX, errors, is_sid};
use super::{CODE_CHECKS_MAX, TwilioVerify};
use crate::domain::address::Address;
use crate::domain::code::Code;
use crate::domain::json::Json;
use crate::domain::send_failure::SendFailure;
use crate::provider::http_client::{Answer, failure};
use crate::provider::{
    CodeVerifier, CodeVerifierError, CredentialError, LookupError, Provider as _, ProviderVerdict,
};

/// An invalid parameter: the code is the only one that a person typed.
const CODE_INVALID: u32 = 60200;
const CODE_NOT_FOUND: u32 = 20404;

#[async_trait]
impl CodeVerifier for TwilioVerify {
    async fn check(
        &self,
        to: &Address,
        verification_sid: Option<&str>,
        code: &Code,
    ) -> Result<ProviderVerdict, CodeVerifierError> {
        let request = self.post(&self.checks, form(to, verification_sid, code));
        let answer = self.service.exchange(request, BODY_BYTES_MAX).await;
        verdict(&answer.map_err(|error| lost(&error))?)
    }

    async fn is_approved(&self, verification_sid: &str) -> Result<bool, LookupError> {
        if !is_sid("VE", verification_sid) {
            return Err(LookupError::NotFound);
        }
        let url = self.service.url(&format!("/Verifications/{verification_sid}"));
        let unanswered =
            |error: reqwest::Error| LookupError::Unanswered(failure::transport_detail(&error).to_owned());
        let answer = self.service.get(url, BODY_BYTES_MAX).await.map_err(unanswered)?;
        match status(&answer) {
            Some(status) => Ok(status == "approved"),
            None if answer.status == StatusCode::NOT_FOUND => Err(LookupError::NotFound),
            None => Err(LookupError::Unanswered(failure::answered(
                answer.status,
                errors::error_code(&answer.body),
            ))),
        }
    }

    async fn is_there(&self) -> Result<(), CredentialError> {
        self.check_credentials().await
    }
}

fn form(to: &Address, verification_sid: Option<&str>, code: &Code) -> String {
    let (name, value) = match verification_sid {
        Some(sid) => ("VerificationSid", sid),
        None => ("To", to.as_str()),
    };
    Serializer::new(String::new()).append_pair(name, value).append_pair("Code", code.expose()).finish()
}

fn lost(error: &reqwest::Error) -> CodeVerifierError {
    let detail = failure::transport_detail(error).to_owned();
    match failure::transport(error) {
        SendFailure::InDoubt { .. } => CodeVerifierError::Lost(detail),
        _ => CodeVerifierError::NotCompared(detail),
    }
}

fn verdict(answer: &Answer) -> Result<ProviderVerdict, CodeVerifierError> {
    let provider_code = errors::error_code(&answer.body);
    let detail = || failure::answered(answer.status, provider_code);
    match (answer.status, provider_code) {
        (status, _) if status.is_success() => self::status(answer)
            .as_deref()
            .and_then(verdict_of)
            .ok_or_else(|| CodeVerifierError::Lost(detail())),
        (status, _) if status.is_server_error() => Err(CodeVerifierError::Lost(detail())),
        (StatusCode::REQUEST_TIMEOUT, None) => Err(CodeVerifierError::Lost(detail())),
        (_, Some(CODE_CHECKS_MAX)) => Ok(ProviderVerdict::TooManyChecks),
        (_, Some(CODE_INVALID)) => Ok(ProviderVerdict::Wrong),
        (StatusCode::NOT_FOUND, None | Some(CODE_NOT_FOUND)) => Ok(ProviderVerdict::Gone),
        _ => Err(CodeVerifierError::NotCompared(detail())),
    }
}

/// The status in a complete answer.
fn status(answer: &Answer) -> Option<String> {
    let body = Json::read(&answer.body).ok().filter(|_| answer.status.is_success())?;
    Some(body.pick(["status"])[0]?.text()?.into_owned())
}

fn verdict_of(status: &str) -> Option<ProviderVerdict> {
    match status {
        "approved" => Some(ProviderVerdict::Right),
        "pending" => Some(ProviderVerdict::Wrong),
        "max_attempts_reached" => Some(ProviderVerdict::TooManyChecks),
        "canceled" | "deleted" | "expired" | "failed" => Some(ProviderVerdict::Gone),
        _ => None,
    }
}
