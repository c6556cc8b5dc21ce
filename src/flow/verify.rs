//! The other entrance: is the code that a person typed the right one?
//!
//! Where the provider has made the code, it is asked; the store counts the try before that, and decides who is verified.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::task::TaskTracker;

use super::random::random_id;
use crate::clock::Clock;
use crate::domain::address::Address;
use crate::domain::code::{Code, CodeKeyring, CodeScope};
use crate::domain::limit::Limits;
use crate::domain::purpose::Purpose;
use crate::domain::recipient_keyring::RecipientKeyring;
use crate::domain::verdict::Verdict;
use crate::provider::{CodeVerifier, CodeVerifierError, CredentialError, ProviderVerdict};
use crate::store::code_check::{CodeCheck, ProviderCheckResult, ProviderCheckStart};
use crate::store::{Store, StoreError};
use crate::telemetry::events;

/// Checks codes.
#[derive(Clone)]
pub struct Verifier {
    /// What all processes share.
    pub store: Arc<dyn Store>,
    /// What codes are checked with.
    pub codes: Arc<CodeKeyring>,
    /// What recipients are called in the store.
    pub recipients: Arc<RecipientKeyring>,
    /// How many tries there are.
    pub limits: Limits,
    /// Who checks the codes that are not ours, if somebody does.
    pub provider_verifier: Option<Arc<dyn CodeVerifier>>,
    /// Checks at a provider: each is finished, whoever hangs up, and a stop waits for them.
    pub in_flight: TaskTracker,
    /// What time it is.
    pub clock: Clock,
}

/// The longest wait for an answer to a check: a person is waiting.
const CHECKED_WITHIN: Duration = Duration::from_secs(4);
/// The longest wait for what became of a check whose answer was lost, or for whether there is anybody who checks.
const READ_WITHIN: Duration = Duration::from_secs(2);

impl Verifier {
    /// The verdict over one try. It is counted before it is compared, and a lost answer is asked for once more:
    /// the store knows the try by its id and counts it once.
    pub async fn verify(&self, to: &Address, purpose: &Purpose, code: &Code) -> Result<Verdict, StoreError> {
        let scope = CodeScope { channel: to.channel(), address: to.as_str(), purpose };
        let digests: Vec<_> =
            self.codes.iter().map(|key| (key.kid().as_str(), key.digest(scope, code))).collect();
        let check = CodeCheck {
            recipient: self.recipients.address(scope.channel, scope.address),
            purpose: purpose.as_str(),
            check_id: random_id(),
            digests: &digests,
            limits: &self.limits,
        };
        let verdict = match (twice("verify", || self.store.verify(&check)).await?, &self.provider_verifier) {
            (Verdict::KeyUnavailable, Some(checker)) => {
                let (verifier, checker) = (self.clone(), Arc::clone(checker));
                let (recipient, check_id) = (check.recipient, check.check_id);
                let (to, purpose) = (to.clone(), purpose.clone());
                let code = Code::parse(code.expose()).expect("a code reads back");
                // A provider that found a code right will not do so again: that somebody hangs up must not keep it from
                // being written down.
                let asked = self.in_flight.spawn(async move {
                    let limits = &verifier.limits;
                    let check =
                        CodeCheck { recipient, purpose: purpose.as_str(), check_id, digests: &[], limits };
                    verifier.verify_elsewhere(&*checker, &check, &to, &code).await
                });
                asked.await.unwrap_or_else(|failed| std::panic::resume_unwind(failed.into_panic()))?
            }
            (verdict, _) => verdict,
        };
        events::code_checked(to, purpose.as_str(), &verdict);
        Ok(verdict)
    }

    /// The verdict of whoever made the code, as far as the store lets it be asked.
    async fn verify_elsewhere(
        &self,
        checker: &dyn CodeVerifier,
        check: &CodeCheck<'_>,
        to: &Address,
        code: &Code,
    ) -> Result<Verdict, StoreError> {
        let verification = match twice("begin_check", || self.store.begin_provider_check(check)).await? {
            ProviderCheckStart::Ask(verification) => verification,
            ProviderCheckStart::Decided(verdict) => return Ok(verdict),
        };
        let verification = verification.as_deref();
        let asked = tokio::time::timeout(CHECKED_WITHIN, checker.check(to, verification, code)).await;
        let judged =
            match asked.unwrap_or_else(|_| Err(CodeVerifierError::Lost("no answer in time".to_owned()))) {
                Ok(ProviderVerdict::Gone) => is_there(checker).await.map(|()| ProviderVerdict::Gone),
                judged => judged,
            };
        let end = match &judged {
            Ok(ProviderVerdict::Right) => ProviderCheckResult::Right,
            Ok(ProviderVerdict::Wrong | ProviderVerdict::Gone | ProviderVerdict::TooManyTries) => {
                ProviderCheckResult::Wrong
            }
            Err(fault) => {
                events::code_check_failed(to, fault);
                match fault {
                    CodeVerifierError::NotCompared(_) => ProviderCheckResult::NotCompared,
                    CodeVerifierError::Lost(_) if is_approved(checker, verification).await => {
                        ProviderCheckResult::Found
                    }
                    // It stays open: whatever is found later may have been this one's doing.
                    CodeVerifierError::Lost(_) => return Ok(Verdict::Unanswered { counted: true }),
                }
            }
        };
        let verdict = twice("end_check", || self.store.finish_provider_check(check, end)).await?;
        // What the provider says besides counts only where nobody was verified meanwhile.
        Ok(match (&judged, verdict, verification) {
            // Nothing has been sent yet.
            (Ok(ProviderVerdict::Gone), Verdict::Wrong { .. }, None) => Verdict::NonePending,
            (Ok(ProviderVerdict::Gone), Verdict::Wrong { .. }, Some(_)) => {
                Verdict::Expired { at: self.clock.now() }
            }
            (Ok(ProviderVerdict::TooManyTries), Verdict::Wrong { .. }, _) => {
                Verdict::Locked { retry_after: None }
            }
            (_, verdict, _) => verdict,
        })
    }
}

/// Has the right code been told, as far as anybody says so in time?
async fn is_approved(checker: &dyn CodeVerifier, verification: Option<&str>) -> bool {
    let Some(verification) = verification else { return false };
    let asked = tokio::time::timeout(READ_WITHIN, checker.is_approved(verification)).await;
    matches!(asked, Ok(Ok(true)))
}

/// Is what is gone really over? Where it is the provider that is gone, or cannot be asked, nobody compared the code.
async fn is_there(checker: &dyn CodeVerifier) -> Result<(), CodeVerifierError> {
    let asked = tokio::time::timeout(READ_WITHIN, checker.is_there()).await;
    match asked.unwrap_or_else(|_| Err(CredentialError::Unanswered("no answer in time".to_owned()))) {
        // Who may check, but not look, is known there.
        Ok(()) | Err(CredentialError::MayNotRead { .. }) => Ok(()),
        Err(fault) => {
            if !matches!(fault, CredentialError::Unanswered(_)) {
                events::code_verifier_refused(&fault);
            }
            Err(CodeVerifierError::NotCompared(fault.to_string()))
        }
    }
}

/// Asks the store, and once more if it does not answer: it knows the check by its id.
async fn twice<T, Asked>(step: &'static str, mut ask: impl FnMut() -> Asked) -> Result<T, StoreError>
where
    Asked: Future<Output = Result<T, StoreError>>,
{
    match ask().await {
        Err(error) => {
            events::store_failed(step, &error, None);
            ask().await
        }
        answer => answer,
    }
}
