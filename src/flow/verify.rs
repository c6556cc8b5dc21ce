//! Verifies a typed code.
//!
//! The store counts every check before the code is compared, and decides the verdict. A code that the provider made is
//! compared by the provider.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::task::TaskTracker;

use super::conversion::ConversionCounter;
use super::defence::Defence;
use super::random::random_id;
use super::retry_once::retry_once;
use super::verified_event::publish_verified;
use crate::broker::Publisher;
use crate::clock::Clock;
use crate::domain::address::Address;
use crate::domain::code::{Code, CodeKeyring, CodeScope};
use crate::domain::limit::Limits;
use crate::domain::purpose::Purpose;
use crate::domain::recipient_keyring::RecipientKeyring;
use crate::domain::verdict::Verdict;
use crate::provider::{CodeVerifier, CodeVerifierError, CredentialError, ProviderVerdict};
use crate::store::code_check::{CheckAnswer, CodeCheck, CodeRequest, ProviderCheckEnd, ProviderCheckStart};
use crate::store::{Store, StoreError};
use crate::telemetry::events;
use crate::telemetry::trace;

#[derive(Clone)]
pub struct Verifier {
    pub store: Arc<dyn Store>,
    /// Of verified events.
    pub publisher: Arc<dyn Publisher>,
    pub code_keyring: Arc<CodeKeyring>,
    pub recipient_keyring: Arc<RecipientKeyring>,
    pub limits: Limits,
    pub provider_verifier: Option<Arc<dyn CodeVerifier>>,
    pub conversion: Arc<ConversionCounter>,
    pub defence: Arc<Defence>,
    /// Shutdown waits for these checks.
    pub in_flight: TaskTracker,
    pub clock: Clock,
}

/// The end of one check.
#[derive(Debug)]
pub struct Verification {
    pub verdict: Verdict,
    /// The request that the code belongs to, if it is verified. `None`: it has no record.
    pub request: Option<CodeRequest>,
    /// A record of the recipient cannot be read: it may have the code, too.
    pub is_record_unreadable: bool,
}

/// A person is waiting.
const CHECK_TIMEOUT: Duration = Duration::from_secs(4);
/// For reading a Verification or the Verify service after a check.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(2);

/// In logs and in a metric's label: part of the interface, and older than the glossary.
const BEGIN_PROVIDER_CHECK: &str = "begin_check";
const FINISH_PROVIDER_CHECK: &str = "end_check";

impl Verifier {
    /// The check runs to its end even if the client disconnects: a right code is right only once, and its event must be
    /// published.
    pub async fn verify(
        &self,
        to: &Address,
        purpose: &Purpose,
        code: &Code,
    ) -> Result<Verification, StoreError> {
        let (verifier, to, purpose) = (self.clone(), to.clone(), purpose.clone());
        let code = code.copy();
        let check = async move { verifier.check(&to, &purpose, &code).await };
        let check = self.in_flight.spawn(trace::carried(check));
        check.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
    }

    /// The check has an id, so that a repeated call to the store counts it once.
    async fn check(&self, to: &Address, purpose: &Purpose, code: &Code) -> Result<Verification, StoreError> {
        let scope = CodeScope { channel: to.channel(), address: to.as_str(), purpose };
        let digests: Vec<_> =
            self.code_keyring.iter().map(|key| (key.kid().as_str(), key.digest(scope, code))).collect();
        let check = CodeCheck {
            recipient: self.recipient_keyring.address(scope.channel, scope.address),
            purpose: purpose.as_str(),
            check_id: random_id(),
            digests: &digests,
            limits: &self.limits,
        };
        let mut answer = retry_once("verify", || self.store.verify(&check)).await?;
        // None of our keys made the code, so the provider may have.
        if let (CheckAnswer::NotVerified(Verdict::KeyUnavailable), Some(provider)) =
            (&answer, &self.provider_verifier)
        {
            answer = self.verify_at_provider(&**provider, &check, to, code).await?;
        }
        let verification = match answer {
            CheckAnswer::Verified { request, unreadable } => {
                if let Some(error) = &unreadable {
                    events::store_failed("verify", error, error.is_outage(), None);
                }
                let verdict = self.publish_or_reopen(&check, to, request.as_ref()).await?;
                Verification { verdict, request, is_record_unreadable: unreadable.is_some() }
            }
            CheckAnswer::NotVerified(verdict) => {
                Verification { verdict, request: None, is_record_unreadable: false }
            }
        };
        events::code_checked(to, purpose.as_str(), &verification.verdict);
        Ok(verification)
    }

    /// If the event is not published, the check is undone: else the next one would find the code used, and no caller would
    /// have had the verdict.
    async fn publish_or_reopen(
        &self,
        check: &CodeCheck<'_>,
        to: &Address,
        request: Option<&CodeRequest>,
    ) -> Result<Verdict, StoreError> {
        let Some(request) = request else {
            events::verified_without_request(to, check.purpose);
            return Ok(Verdict::Verified);
        };
        let at = self.clock.now();
        let Err(error) = publish_verified(&*self.publisher, request, check.purpose, to, at).await else {
            self.conversion.verified(to, request.first_send);
            self.defence.code_verified(to, check.recipient, request);
            return Ok(Verdict::Verified);
        };
        events::publish_failed(&error, error.is_blocked(), None);
        retry_once("reopen", || self.store.reopen_challenge(check)).await?;
        Ok(Verdict::Unpublished)
    }

    async fn verify_at_provider(
        &self,
        provider: &dyn CodeVerifier,
        check: &CodeCheck<'_>,
        to: &Address,
        code: &Code,
    ) -> Result<CheckAnswer, StoreError> {
        let verification_sid =
            match retry_once(BEGIN_PROVIDER_CHECK, || self.store.begin_provider_check(check)).await? {
                ProviderCheckStart::Ask(verification_sid) => verification_sid,
                ProviderCheckStart::Decided(verdict) => return Ok(CheckAnswer::NotVerified(verdict)),
            };
        let verification_sid = verification_sid.as_deref();
        let answer = tokio::time::timeout(CHECK_TIMEOUT, provider.check(to, verification_sid, code)).await;
        let answer =
            match answer.unwrap_or_else(|_| Err(CodeVerifierError::Lost("no answer in time".to_owned()))) {
                Ok(ProviderVerdict::Gone) => service_exists(provider).await.map(|()| ProviderVerdict::Gone),
                answer => answer,
            };
        let answer_for_store = match &answer {
            Ok(ProviderVerdict::Right) => ProviderCheckEnd::Right,
            Ok(ProviderVerdict::Wrong | ProviderVerdict::Gone | ProviderVerdict::TooManyChecks) => {
                ProviderCheckEnd::Wrong
            }
            Err(CodeVerifierError::Lost(_)) if is_approved(provider, verification_sid).await => {
                ProviderCheckEnd::ApprovedAfterLostAnswer
            }
            Err(error) => {
                events::code_check_failed(to, error);
                match error {
                    CodeVerifierError::NotCompared(_) => ProviderCheckEnd::NotCompared,
                    // The check stays unfinished in the store: it may be the one that approved the Verification.
                    CodeVerifierError::Lost(_) => {
                        return Ok(CheckAnswer::NotVerified(Verdict::Unanswered { counted: true }));
                    }
                }
            }
        };
        let finish = || self.store.finish_provider_check(check, answer_for_store);
        let verdict = match retry_once(FINISH_PROVIDER_CHECK, finish).await? {
            CheckAnswer::NotVerified(verdict) => verdict,
            verified => return Ok(verified),
        };
        // The provider's reason is more exact than the store's `Wrong`. Any other verdict stays: a concurrent check may
        // have verified the code.
        Ok(CheckAnswer::NotVerified(match (&answer, verdict, verification_sid) {
            // No message is known to have been sent.
            (Ok(ProviderVerdict::Gone), Verdict::Wrong { .. }, None) => Verdict::NonePending,
            (Ok(ProviderVerdict::Gone), Verdict::Wrong { .. }, Some(_)) => {
                Verdict::Expired { at: self.clock.now() }
            }
            (Ok(ProviderVerdict::TooManyChecks), Verdict::Wrong { .. }, _) => {
                Verdict::Locked { retry_after: None }
            }
            (_, verdict, _) => verdict,
        }))
    }
}

/// False without an answer in time.
async fn is_approved(provider: &dyn CodeVerifier, verification_sid: Option<&str>) -> bool {
    let Some(verification_sid) = verification_sid else { return false };
    let approved = tokio::time::timeout(LOOKUP_TIMEOUT, provider.is_approved(verification_sid)).await;
    matches!(approved, Ok(Ok(true)))
}

/// Tells a missing verification from a missing service: without the service, the code was not compared.
async fn service_exists(provider: &dyn CodeVerifier) -> Result<(), CodeVerifierError> {
    let answer = tokio::time::timeout(LOOKUP_TIMEOUT, provider.is_there()).await;
    match answer.unwrap_or_else(|_| Err(CredentialError::Unanswered("no answer in time".to_owned()))) {
        // They may check but not read: the service exists.
        Ok(()) | Err(CredentialError::MayNotRead { .. }) => Ok(()),
        Err(error) => {
            if !matches!(error, CredentialError::Unanswered(_)) {
                events::code_verifier_refused(&error);
            }
            Err(CodeVerifierError::NotCompared(error.to_string()))
        }
    }
}
