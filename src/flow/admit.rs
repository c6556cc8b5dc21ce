//! Step 1: may this be sent? First what needs no store, then the one atomic question that does.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

use super::complete::{Completed, Completion};
use super::worker::{CancelOn, DeliveryContext, RequeueReason};
use super::{Gateway, outage_waits};
use crate::domain::address::{Address, AddressError};
use crate::domain::challenge::{ChallengeId, PROVIDER_MADE, PROVIDER_MADE_KIDS};
use crate::domain::channel::Channel;
use crate::domain::code::{Code, CodeKey, CodeScope};
use crate::domain::history::{HistoryEvent, PoisonCause, RequestHistory};
use crate::domain::keyed_digest::Digest16;
use crate::domain::outcome::{ErrorCode, Outcome, OutcomeError, Status};
use crate::domain::phone::{PhoneNumber, Region};
use crate::domain::request::{AutofillField, SendRequest};
use crate::store::{Admission, Admit, Grant, Lease, Progress, ProposedChallenge, Subject};
use crate::telemetry::events;
use crate::text::autofill::{AndroidAppHash, Autofill, WebOtpDomain};

/// Whom we send to. Judged without the store, and judged again for every copy of a request.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Text messages are sent at all.
    pub sms_enabled: bool,
    /// E-mails are.
    pub email_enabled: bool,
    /// The region of numbers without a country code.
    pub default_region: Region,
    /// Countries that messages go to; nothing for all.
    pub allowed_countries: Option<BTreeSet<String>>,
    /// Landlines are sent to.
    pub allow_landline: bool,
}

impl Rules {
    /// Whether anything is sent on a channel.
    pub fn is_open(&self, channel: Channel) -> bool {
        match channel {
            Channel::Sms => self.sms_enabled,
            Channel::Email => self.email_enabled,
        }
    }

    /// The address, if we send to it now.
    pub fn recipient(&self, channel: Channel, to: &str) -> Result<Address, Rejection> {
        let to = self.reachable(channel, to);
        match to {
            Ok(to) if !self.is_open(channel) => Err(Rejection::of(&to, ErrorCode::ChannelDisabled)),
            _ => to,
        }
    }

    /// The address, if it is one that we send to.
    fn reachable(&self, channel: Channel, to: &str) -> Result<Address, Rejection> {
        let to = Address::parse_for(channel, to, self.default_region).map_err(unreadable)?;
        match to.phone().and_then(|number| self.unreachable(number)) {
            Some(code) => Err(Rejection::of(&to, code)),
            None => Ok(to),
        }
    }

    /// Why nothing is sent to a number, if nothing is.
    pub fn refusal(&self, number: &PhoneNumber) -> Option<ErrorCode> {
        if !self.sms_enabled { Some(ErrorCode::ChannelDisabled) } else { self.unreachable(number) }
    }

    /// Why a number is none that we send to, whether or not anything is sent now.
    fn unreachable(&self, number: &PhoneNumber) -> Option<ErrorCode> {
        let allowed = |countries: &BTreeSet<String>| {
            number.region().is_some_and(|region| countries.contains(&region.to_string()))
        };
        if !self.allowed_countries.as_ref().is_none_or(allowed) {
            Some(ErrorCode::CountryNotAllowed)
        } else if !self.allow_landline && !number.line().takes_sms() {
            Some(ErrorCode::Landline)
        } else {
            None
        }
    }
}

fn unreadable(fault: AddressError) -> Rejection {
    Rejection {
        to: UNREADABLE.to_owned(),
        error: OutcomeError::detailed(ErrorCode::InvalidRecipient, format!("`to` {fault}")),
    }
}

/// Stands for a recipient that could not be read.
pub(super) const UNREADABLE: &str = "***";

/// A request that is refused without asking the store.
pub struct Rejection {
    /// The recipient, masked.
    pub to: String,
    /// Why.
    pub error: OutcomeError,
}

impl Rejection {
    fn of(to: &Address, code: ErrorCode) -> Rejection {
        Rejection { to: to.to_string(), error: OutcomeError::of(code) }
    }
}

/// A request that could be sent, with what its fields mean.
pub(super) struct ValidRequest<'a> {
    pub(super) request: &'a SendRequest<'a>,
    pub(super) to: Address,
    pub(super) autofill: Option<Autofill>,
    pub(super) recipient: Digest16,
    user: Option<Digest16>,
    ip: Option<Digest16>,
}

impl ValidRequest<'_> {
    pub(super) fn handling(&self, turn: &DeliveryContext<'_>) -> Lease<'_> {
        let purpose = self.request.purpose.as_str();
        Lease {
            subject: Subject { recipient: self.recipient, purpose, user: self.user, ip: self.ip },
            request: &self.request.id,
            token: turn.owner,
        }
    }

    fn scope(&self) -> CodeScope<'_> {
        CodeScope { channel: self.to.channel(), address: self.to.as_str(), purpose: &self.request.purpose }
    }
}

/// What came of asking.
pub(super) enum Admitted {
    /// Send it.
    Send(SendGrant),
    /// It was begun, but is not gone on with: its code cannot be made here, or handling it has ended the worker again
    /// and again.
    Abandon(Completion),
    /// It has ended.
    Completed(Completed),
}

/// Leave to send a message, with its code.
pub(super) struct SendGrant {
    pub(super) grant: Grant,
    /// Nothing where the provider makes it.
    pub(super) code: Option<Code>,
    /// When the store was asked.
    pub(super) granted: Instant,
    /// It may have been sent before.
    pub(super) in_doubt: bool,
    /// What is noted of the request.
    pub(super) notes: RequestHistory,
}

/// A request whose handling ended this often without any end of the request is set aside.
const STARTS_MAX: u32 = 5;
/// After so many it may be the reason, or have stood beside it. What kills a process does so at once and again, so each
/// of them is taken up at a time of its own: the one that kills then finds few beside it, and those are not the same.
const STARTS_SUSPECT: u32 = 2;
/// The longest wait of a request that was begun for as often as makes it a suspect; it doubles with each further time.
const APART: Duration = Duration::from_secs(20);

impl Gateway {
    /// Judges a request by what needs no store.
    pub(super) fn judge<'a>(&self, request: &'a SendRequest<'a>) -> Result<ValidRequest<'a>, Rejection> {
        // A channel that is turned off refuses what is new; what was sent before is still told, so the store is asked.
        let to = self.rules.reachable(self.channel, &request.to)?;
        let invalid = |detail: String| Rejection {
            to: to.to_string(),
            error: OutcomeError::detailed(ErrorCode::InvalidRequest, detail),
        };
        if self.provider.writes_texts()
            && let Some(field) = wording(request)
        {
            return Err(invalid(format!("`{field}` cannot be chosen: the provider makes codes and texts")));
        }
        let autofill = request.autofill.as_ref().map(autofill).transpose().map_err(invalid)?;
        if let Some(template) =
            request.template.as_deref().filter(|template| !self.texts.has_template(self.channel, template))
        {
            return Err(invalid(format!(
                "`template` names no text; got a string of {} characters",
                template.len()
            )));
        }
        Ok(ValidRequest {
            recipient: self.recipients.address(to.channel(), to.as_str()),
            user: request.user_id.as_deref().map(|user| self.recipients.user(user)),
            ip: request.client_ip.map(|ip| self.recipients.ip(ip)),
            request,
            to,
            autofill,
        })
    }

    /// Asks the store whether the request may be sent, waiting out an outage, another handling's lease and a shut gate:
    /// while that is shut nothing is begun, or charged, and only what has ended is told.
    pub(super) async fn admit(
        &self,
        turn: &mut DeliveryContext<'_>,
        case: &ValidRequest<'_>,
    ) -> Result<Admitted, RequeueReason> {
        let proposed = self.propose(case);
        let correlation_id = turn.delivery.properties.correlation_id.clone();
        let notes = RequestHistory { to: case.to.to_string(), correlation_id, ..RequestHistory::default() };
        let country = case.to.country();
        let mut waits = outage_waits();
        let mut starts_below = STARTS_SUSPECT;
        loop {
            // From before it was asked: the lease and the deadline end later for the store, not sooner.
            let mut asked_at = Instant::now();
            let ask = Admit {
                lease: case.handling(turn),
                requested_at: case.request.requested_at,
                not_after: case.request.not_after,
                code_life: self.policy.code_life,
                lease_duration: self.lease(),
                proposal: ProposedChallenge {
                    id: proposed.challenge,
                    kid: proposed.kid,
                    digest: proposed.digest,
                    callers_code: case.request.code.is_some(),
                },
                known_kids: if self.provider.makes_codes() { PROVIDER_MADE_KIDS } else { self.codes.kids() },
                limits: &self.policy.limits,
                channel_disabled: !self.rules.is_open(self.channel),
                paused: self.gate.closed_by().is_some(),
                unfinished_leases_below: starts_below,
                country: country.as_deref(),
                history: &notes,
            };
            let admit = || {
                asked_at = Instant::now();
                self.store.admit(&ask)
            };
            let asked = turn.retry_store("admit", CancelOn::Shutdown, admit).await;
            let admission = match asked {
                Ok(admission) => admission,
                Err(reason) => {
                    // An answer that was lost may have been a grant.
                    let back = Progress::Requeued { due: Duration::ZERO, in_doubt: false };
                    self.give_back(turn, case, None, back, None).await;
                    return Err(reason);
                }
            };
            events::admitted(asked_at.elapsed());
            match admission {
                Admission::Granted(grant) => {
                    // What a forgetful store does not know may have been sent by the handling before.
                    let is_new = grant.history.is_none() && grant.attempt == 1;
                    let in_doubt =
                        is_new && turn.delivery.properties.redelivered && self.store.may_have_lost_writes();
                    return Ok(self.send_grant(case, grant, asked_at, proposed, in_doubt, notes));
                }
                Admission::InDoubt(grant) => {
                    events::in_doubt_taken_over(case.request.id.as_str(), grant.attempt);
                    return Ok(self.send_grant(case, grant, asked_at, proposed, true, notes));
                }
                Admission::Completed { outcome, ours } => {
                    return Ok(Admitted::Completed(Completed { outcome, replayed: !ours }));
                }
                Admission::Paused => {
                    turn.wait_for(self.gate.opened(), Duration::MAX, CancelOn::Shutdown).await?;
                }
                Admission::Busy(lease_left) => {
                    // It ends with its lease at the latest, and mostly at once.
                    turn.slot.release();
                    let wait = waits.next().expect("the waits have no end").min(lease_left);
                    turn.sleep(wait, CancelOn::Shutdown).await?;
                    turn.reacquire_slot().await?;
                }
                Admission::CrashSuspect { unfinished_leases, time_left } => {
                    turn.slot.release();
                    // What nothing can be sent for any more is over at once.
                    turn.sleep(apart(unfinished_leases).min(time_left), CancelOn::Shutdown).await?;
                    turn.reacquire_slot().await?;
                    starts_below = u32::MAX;
                }
            }
        }
    }

    fn propose(&self, case: &ValidRequest<'_>) -> Proposed<'_> {
        let key = self.codes.first();
        let challenge = match case.request.requested_at {
            Some(requested_at) => key.challenge_id(&case.request.id, case.scope(), requested_at),
            None => random_challenge(),
        };
        if self.provider.makes_codes() {
            return Proposed { challenge, kid: PROVIDER_MADE, digest: Digest16::NONE, code: None };
        }
        let code = match &case.request.code {
            Some(code) => Code::parse(code.expose()).expect("a code reads back"),
            None => key.derive(&challenge, case.scope(), self.policy.code_length),
        };
        let digest = key.digest(case.scope(), &code);
        Proposed { challenge, kid: key.kid().as_str(), digest, code: Some(code) }
    }

    /// Finds the code of the challenge that the store granted: the proposed one, or that of a pending challenge.
    fn send_grant(
        &self,
        case: &ValidRequest<'_>,
        grant: Grant,
        granted: Instant,
        proposed: Proposed<'_>,
        in_doubt: bool,
        notes: RequestHistory,
    ) -> Admitted {
        let notes = grant.history.clone().unwrap_or(notes);
        let over = |error| self.over(case, &grant, in_doubt, notes.clone(), error);
        if grant.unfinished_leases > STARTS_MAX {
            let mut end = over(OutcomeError::of(ErrorCode::Internal));
            end.outcome.history.add(self.clock.now(), HistoryEvent::DeadLettered(PoisonCause::Crash));
            return Admitted::Abandon(end);
        }
        // Begun while another provider was set: its code is none that this one sends, or could.
        if self.provider.makes_codes() != (grant.kid == PROVIDER_MADE) {
            return Admitted::Abandon(over(OutcomeError::of(ErrorCode::Internal)));
        }
        let same = grant.challenge == proposed.challenge && grant.digest == proposed.digest;
        let code = if same || grant.kid == PROVIDER_MADE {
            proposed.code
        } else {
            match self.codes.get(&grant.kid) {
                Some(key) if !grant.callers_code => {
                    Some(key.derive(&grant.challenge, case.scope(), self.policy.code_length))
                }
                Some(key) if proposed.is_of(key, case.scope(), grant.digest) => proposed.code,
                // Only the caller knows its own code: a repeat that brings another one cannot stand in for it.
                Some(_) => {
                    let detail = "`code` is not that of the first copy";
                    return Admitted::Abandon(over(OutcomeError::detailed(
                        ErrorCode::InvalidRequest,
                        detail,
                    )));
                }
                None => return Admitted::Abandon(over(OutcomeError::of(ErrorCode::Internal))),
            }
        };
        Admitted::Send(SendGrant { grant, code, granted, in_doubt, notes })
    }

    /// The end of a request that is not gone on with: what may have been sent stays in doubt.
    fn over(
        &self,
        case: &ValidRequest<'_>,
        grant: &Grant,
        in_doubt: bool,
        notes: RequestHistory,
        error: OutcomeError,
    ) -> Completion {
        let (status, error, attempts) = match in_doubt || grant.attempts_in_doubt > 0 {
            true => (Status::Unknown, OutcomeError::of(ErrorCode::InDoubt), grant.attempt),
            false => (Status::Failed, error, grant.attempt - 1),
        };
        let refused = Outcome::refused(status, self.clock.now(), case.request.purpose.as_str(), error);
        let provider = (attempts > 0).then(|| self.provider.name().to_owned());
        Completion::of(Outcome { attempts, provider, history: notes, ..refused })
    }

    /// How long one handling may take to its next step: a provider's whole answer, and room to write it down.
    pub(super) fn lease(&self) -> Duration {
        self.policy.provider_timeout + Duration::from_secs(5)
    }
}

struct Proposed<'a> {
    challenge: ChallengeId,
    kid: &'a str,
    digest: Digest16,
    code: Option<Code>,
}

impl Proposed<'_> {
    fn is_of(&self, key: &CodeKey, scope: CodeScope<'_>, digest: Digest16) -> bool {
        self.code.as_ref().is_some_and(|code| key.digest(scope, code) == digest)
    }
}

/// The first field of a request that chooses what the code or the text is.
fn wording(request: &SendRequest<'_>) -> Option<&'static str> {
    let given = [
        ("code", request.code.is_some()),
        ("template", request.template.is_some()),
        ("autofill", request.autofill.is_some()),
    ];
    given.into_iter().find_map(|(field, given)| given.then_some(field))
}

/// When to take up a request that was begun so often. One that was given its last chance ends at once.
fn apart(starts: u32) -> Duration {
    if starts >= STARTS_MAX {
        return Duration::ZERO;
    }
    APART.mul_f64(fastrand::f64()) * 2_u32.pow(starts.saturating_sub(STARTS_SUSPECT))
}

fn random_challenge() -> ChallengeId {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
    ChallengeId::from_digest(Digest16::from_random(bytes))
}

fn autofill(field: &AutofillField<'_>) -> Result<Autofill, String> {
    match field {
        AutofillField::WebOtpDomain(domain) => WebOtpDomain::parse(domain)
            .map(|domain| Autofill::WebOtp { domain })
            .map_err(|fault| format!("`autofill.webotp_domain` {fault}")),
        AutofillField::AndroidHash(hash) => AndroidAppHash::parse(hash)
            .map(|hash| Autofill::AndroidHash { hash })
            .map_err(|fault| format!("`autofill.android_hash` {fault}")),
    }
}
