//! Admission: asks the store whether a request may be sent, and finds the code to send.
//!
//! The handler waits here through an outage of the store, while another handler has the lease, and while the send gate
//! is closed.

use std::time::Duration;

use tokio::time::Instant;

use super::complete::{Completion, RecordedOutcome};
use super::context::{CancelOn, DeliveryContext, SendState, StopReason, ValidRequest};
use super::gateway::ChannelGateway;
use super::hand_overs::HandOvers;
use super::outage_backoff::OutageBackoff;
use super::random::random_bytes;
use crate::domain::challenge::{ChallengeId, PROVIDER_MADE, PROVIDER_MADE_KIDS};
use crate::domain::code::{Code, CodeKey, CodeScope};
use crate::domain::failover::Exclusion;
use crate::domain::history::{HistoryEvent, PoisonCause, RequestHistory};
use crate::domain::keyed_digest::Digest16;
use crate::domain::outcome::{ErrorCode, Outcome, OutcomeError, Status};
use crate::domain::routes::ProviderIndex;
use crate::store::{Admission, AdmissionInput, Grant, Lease, Progress, ProposedChallenge};
use crate::telemetry::events;

/// A crash leaves a lease unfinished. A request that this many earlier handlers left so is dead-lettered.
const UNFINISHED_LEASES_MAX: u32 = 5;
/// One that this many left so is a suspect: it crashed its workers, or was in flight beside a request that did. A random
/// wait separates the poison message from the others before the next crash.
const UNFINISHED_LEASES_SUSPECT: u32 = 2;
/// The longest wait of a new suspect. It doubles with each further crash.
const SUSPECT_WAIT_FIRST: Duration = Duration::from_secs(20);

#[expect(clippy::large_enum_variant, reason = "there is one at a time, and it is read at once")]
pub(super) enum AfterAdmission {
    Send(SendState),
    /// No code can be sent: it cannot be made here, or is not that of the first request. Or the request crashed too many
    /// workers.
    Abandon(Completion),
    /// The outcome is an earlier one, or the rejection that this admission has just recorded.
    Completed(RecordedOutcome),
}

impl AfterAdmission {
    /// No copy of the request was admitted or rejected before.
    pub(super) fn is_first(&self) -> bool {
        match self {
            AfterAdmission::Send(state) => state.grant.history.is_none(),
            AfterAdmission::Abandon(_) => false,
            AfterAdmission::Completed(recorded) => !recorded.replayed,
        }
    }
}

/// A grant of the store, with what only the handler knows.
struct GrantedRequest {
    grant: Grant,
    /// Before the store answered, so our deadline and lease never end later than the store's.
    asked_at: Instant,
    is_in_doubt: bool,
    history: RequestHistory,
    /// The provider that the history of a new request names.
    planned: Option<ProviderIndex>,
}

impl ChannelGateway {
    /// Asks until the request is granted or has ended. While the gate is closed only a completed request gets its outcome.
    pub(super) async fn admit(
        &self,
        handler: &mut DeliveryContext<'_>,
        valid: &ValidRequest<'_>,
    ) -> Result<AfterAdmission, StopReason> {
        let (request, proposed) = (valid.request, self.propose_code(valid));
        let planned = self.plan(valid);
        let history = self.new_history(handler, valid, planned);
        let refusal = self.defence.refusal(handler, valid).await;
        let country = valid.to.country();
        let mut input = AdmissionInput {
            lease: valid.lease(handler),
            requested_at: request.requested_at,
            not_after: request.not_after,
            code_life: self.policy.code_life,
            lease_duration: self.policy.lease_duration(),
            proposal: ProposedChallenge {
                id: proposed.challenge,
                kid: proposed.kid,
                digest: proposed.digest,
                // Neither is derived from the challenge.
                callers_code: request.code.is_some() || valid.test_code.is_some(),
            },
            code_key_ids: if self.providers.make_codes() && valid.test_code.is_none() {
                PROVIDER_MADE_KIDS
            } else {
                self.code_keyring.kids()
            },
            limits: &self.policy.limits,
            reject_if_new: valid.reject_if_new.as_ref().or(refusal.as_ref()),
            gate_closed: false,
            crash_suspect_leases_min: UNFINISHED_LEASES_SUSPECT,
            country: country.as_deref(),
            history: &history,
            spend: self.reservation(valid),
        };
        let mut backoff = OutageBackoff::new();
        loop {
            // A request whose route alone is shut is admitted, so that it ends at its deadline.
            input.gate_closed = self.gate.closed_by().is_some();
            let (admission, asked_at) = self.ask_admission(handler, &input).await?;
            match admission {
                Admission::Granted(grant) => {
                    let is_in_doubt = self.may_have_lost_record(handler, &input.lease, &grant).await;
                    let granted = GrantedRequest { grant, asked_at, is_in_doubt, history, planned };
                    return Ok(self.after_grant(valid, granted, proposed));
                }
                Admission::InDoubt(grant) => {
                    events::in_doubt_taken_over(request.id.as_str(), grant.attempt);
                    let granted = GrantedRequest { grant, asked_at, is_in_doubt: true, history, planned };
                    return Ok(self.after_grant(valid, granted, proposed));
                }
                Admission::Completed { outcome, ours } => {
                    return Ok(AfterAdmission::Completed(RecordedOutcome { outcome, replayed: !ours }));
                }
                Admission::GateClosed => self.wait_until_open(handler).await?,
                Admission::Busy(ask_again_in) => {
                    handler.sleep_without_slot(backoff.next_wait().min(ask_again_in)).await?;
                }
                Admission::CrashSuspect { unfinished_leases, time_left } => {
                    handler.sleep_without_slot(suspect_wait(unfinished_leases).min(time_left)).await?;
                    // A suspect waits once.
                    input.crash_suspect_leases_min = u32::MAX;
                }
            }
        }
    }

    async fn wait_until_open(&self, handler: &DeliveryContext<'_>) -> Result<(), StopReason> {
        let counted = handler.slot.wait_begins();
        let open = self.gate.wait_until(|| self.gate.closed_by().is_none());
        handler.wait_for(open, Duration::MAX, CancelOn::AnyCause).await?;
        drop(counted);
        Ok(())
    }

    /// The provider that is to send a new request. The gate may then choose another one.
    fn plan(&self, valid: &ValidRequest<'_>) -> Option<ProviderIndex> {
        let choice = self.providers.choose(&valid.order, valid.recipient_hash(), &HandOvers::default());
        choice.map(|choice| choice.provider).or(valid.order.first().copied())
    }

    /// The history of a request that has no record.
    fn new_history(
        &self,
        handler: &DeliveryContext<'_>,
        valid: &ValidRequest<'_>,
        planned: Option<ProviderIndex>,
    ) -> RequestHistory {
        let named = planned.filter(|_| self.providers.are_several());
        let correlation_id = handler.delivery.properties.correlation_id.clone();
        let (to, trace) = (valid.to.masked(), handler.trace.clone());
        let callers_code = valid.request.code.is_some();
        let mut history = RequestHistory {
            to,
            correlation_id,
            trace,
            user: valid.user,
            network: valid.network.filter(|_| self.defence.counts(&valid.to)),
            counted: self.defence.counted_scopes(valid),
            callers_code,
            handed_to: named.map(|it| self.providers.get(it).name().to_owned()).into_iter().collect(),
            ..RequestHistory::default()
        };
        if valid.test_code.is_some() {
            history.add(self.clock.now(), HistoryEvent::TestNumber);
        }
        history
    }

    /// Returns the time just before the call, too.
    async fn ask_admission(
        &self,
        handler: &mut DeliveryContext<'_>,
        input: &AdmissionInput<'_>,
    ) -> Result<(Admission, Instant), StopReason> {
        match self.repeat_admission(handler, input).await {
            Ok(answered) => Ok(answered),
            Err(reason) => {
                // A lost answer may have been a grant.
                let progress = Progress::Requeued { retry_in: Duration::ZERO, in_doubt: false };
                self.release_lease(&input.lease, None, progress, None).await;
                Err(reason)
            }
        }
    }

    /// Asks until the store answers. Only a part of the store may be down, so other requests get the slot meanwhile.
    async fn repeat_admission(
        &self,
        handler: &mut DeliveryContext<'_>,
        input: &AdmissionInput<'_>,
    ) -> Result<(Admission, Instant), StopReason> {
        let mut backoff = OutageBackoff::new();
        loop {
            let asked_at = Instant::now();
            match self.store.admit(input).await {
                Ok(admission) => return Ok((admission, asked_at)),
                Err(error) => {
                    let wait = handler.wait_after_failure("admit", &error, &mut backoff)?;
                    handler.sleep_without_slot(wait).await?;
                }
            }
        }
    }

    /// The store may have lost the record of an earlier delivery.
    async fn may_have_lost_record(
        &self,
        handler: &DeliveryContext<'_>,
        lease: &Lease<'_>,
        grant: &Grant,
    ) -> bool {
        let is_new = grant.history.is_none() && grant.attempt == 1;
        let is_redelivered = handler.delivery.properties.redelivered;
        is_new && is_redelivered && self.store.may_have_lost_writes(&lease.subject.recipient).await
    }

    fn propose_code(&self, valid: &ValidRequest<'_>) -> ProposedCode<'_> {
        let (scope, key) = (valid.code_scope(), self.code_keyring.first());
        let challenge = match valid.request.requested_at {
            Some(requested_at) => key.challenge_id(&valid.request.id, scope, requested_at),
            None => ChallengeId::from_digest(Digest16::from_bytes(random_bytes())),
        };
        if self.providers.make_codes() && valid.test_code.is_none() {
            return ProposedCode { challenge, kid: PROVIDER_MADE, digest: Digest16::NONE, code: None };
        }
        let code = match valid.test_code.as_ref().or(valid.request.code.as_ref()) {
            Some(code) => code.copy(),
            None => key.derive(&challenge, scope, self.policy.code_length),
        };
        let digest = key.digest(scope, &code);
        ProposedCode { challenge, kid: key.kid().as_str(), digest, code: Some(code) }
    }

    fn after_grant(
        &self,
        valid: &ValidRequest<'_>,
        granted: GrantedRequest,
        proposed: ProposedCode<'_>,
    ) -> AfterAdmission {
        // Our own lease is one of the unfinished.
        if granted.grant.unfinished_leases.saturating_sub(1) >= UNFINISHED_LEASES_MAX {
            let mut completion = self.abandon(valid, granted, OutcomeError::of(ErrorCode::Internal));
            let event = HistoryEvent::DeadLettered(PoisonCause::Crash);
            completion.outcome.history.add(self.clock.now(), event);
            return AfterAdmission::Abandon(completion);
        }
        match self.granted_code(valid, &granted.grant, proposed) {
            Ok(code) => AfterAdmission::Send(self.send_state(valid, granted, code)),
            Err(error) => AfterAdmission::Abandon(self.abandon(valid, granted, error)),
        }
    }

    /// The proposed code, or that of a pending challenge; `None` if the provider makes it.
    fn granted_code(
        &self,
        valid: &ValidRequest<'_>,
        grant: &Grant,
        proposed: ProposedCode<'_>,
    ) -> Result<Option<Code>, OutcomeError> {
        // Nothing is sent. The first handler has decided this: the setting may have changed since.
        if grant.history.as_ref().map_or(valid.test_code.is_some(), RequestHistory::is_test) {
            return Ok(None);
        }
        // The challenge began with another provider configured, and this provider cannot send its code.
        if self.providers.make_codes() != (grant.kid == PROVIDER_MADE) {
            return Err(OutcomeError::of(ErrorCode::Internal));
        }
        let is_proposed = grant.challenge == proposed.challenge && grant.digest == proposed.digest;
        if is_proposed || grant.kid == PROVIDER_MADE {
            return Ok(proposed.code);
        }
        let scope = valid.code_scope();
        match self.code_keyring.get(&grant.kid) {
            Some(key) if !grant.callers_code => {
                Ok(Some(key.derive(&grant.challenge, scope, self.policy.code_length)))
            }
            Some(key) if proposed.matches(key, scope, grant.digest) => Ok(proposed.code),
            // The store has only a digest of the first code, so that code cannot be sent again.
            Some(_) => Err(OutcomeError::detailed(
                ErrorCode::InvalidRequest,
                "`code` differs from that of the first request with this `request_id`",
            )),
            None => Err(OutcomeError::of(ErrorCode::Internal)),
        }
    }

    fn send_state(&self, valid: &ValidRequest<'_>, granted: GrantedRequest, code: Option<Code>) -> SendState {
        let GrantedRequest { grant, asked_at, is_in_doubt, history, planned } = granted;
        let doubt = self.inherited_doubt(valid, &grant, asked_at, is_in_doubt);
        let mut hand_overs = HandOvers::default();
        match grant.history {
            _ if !self.providers.are_several() => hand_overs.recorded = planned,
            None => hand_overs.recorded = planned,
            // A doubt of an earlier handler went on to another provider: its own may have the message.
            Some(_) if !is_in_doubt => {
                doubt.providers().into_iter().for_each(|it| hand_overs.exclude(it, Exclusion::ForGood));
            }
            Some(_) => {}
        }
        let trace = history.trace.clone();
        let mut history = grant.history.clone().unwrap_or(history);
        history.trace = trace.or(history.trace);
        history.challenge = Some(grant.challenge.as_str().to_owned());
        let event = match grant.history {
            None => HistoryEvent::Admitted(grant.sends),
            Some(_) => HistoryEvent::TookOver(is_in_doubt),
        };
        history.add(self.clock.now(), event);
        SendState {
            attempts_made: grant.attempts_made(is_in_doubt),
            doubt,
            hand_overs,
            deadline: asked_at + grant.deadline.since(grant.now),
            // Before a later attempt the lease is renewed, which checks that the code is still unused.
            lease_enough_until: if grant.attempt > 1 {
                asked_at
            } else {
                asked_at + self.policy.lease_duration()
            },
            last_error: None,
            grant,
            code,
            history,
        }
    }

    /// The completion of a request that gets no attempt here. An earlier attempt in doubt stays in doubt.
    fn abandon(&self, valid: &ValidRequest<'_>, granted: GrantedRequest, error: OutcomeError) -> Completion {
        let GrantedRequest { grant, is_in_doubt, history, .. } = granted;
        let (status, error, attempts) = if is_in_doubt || grant.attempts_in_doubt > 0 {
            (Status::Unknown, OutcomeError::of(ErrorCode::InDoubt), grant.attempt)
        } else {
            (Status::Failed, error, grant.attempt - 1)
        };
        let purpose = valid.request.purpose.as_str();
        let outcome = Outcome::with_error(status, self.clock.now(), purpose, error);
        let history = grant.history.unwrap_or(history);
        let provider = if attempts > 0 { self.providers.last_of(&history) } else { None };
        Completion::of(Outcome { attempts, provider, history, ..outcome })
    }
}

struct ProposedCode<'a> {
    challenge: ChallengeId,
    kid: &'a str,
    digest: Digest16,
    code: Option<Code>,
}

impl ProposedCode<'_> {
    fn matches(&self, key: &CodeKey, scope: CodeScope<'_>, digest: Digest16) -> bool {
        self.code.as_ref().is_some_and(|code| key.digest(scope, code) == digest)
    }
}

/// Zero if the next admission only dead-letters the suspect.
fn suspect_wait(unfinished_leases: u32) -> Duration {
    if unfinished_leases >= UNFINISHED_LEASES_MAX {
        return Duration::ZERO;
    }
    let doublings = unfinished_leases.saturating_sub(UNFINISHED_LEASES_SUSPECT);
    SUSPECT_WAIT_FIRST.mul_f64(fastrand::f64()) * 2_u32.pow(doublings)
}
