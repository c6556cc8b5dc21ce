//! Step 2: the message goes to the provider, again if that is safe, and never too late.
//!
//! What may have been sent is not sent again before it was [looked up](super::doubt).

use std::time::Duration;

use tokio::time::Instant;

use super::Gateway;
use super::admit::{SendGrant, ValidRequest};
use super::complete::Completion;
use super::reconcile::{DoubtState, Reconciliation};
use super::send_gate::{ClosedBy, GateTicket, SENDERS_COOLING_DOWN};
use super::worker::{CancelOn, DeliveryContext, RequeueReason};
use crate::domain::challenge::TIME_LEFT_MIN;
use crate::domain::channel::Channel;
use crate::domain::code::Code;
use crate::domain::history::{Attempt, HistoryEvent, RequestHistory};
use crate::domain::outcome::{ErrorCode, Outcome, OutcomeError, Status};
use crate::domain::retry::{Retry, after_failure};
use crate::domain::send_failure::{Scope, SendFailure};
use crate::domain::sender_pool::{RecipientHash, RecipientInfo, SenderRefusals, SenderVerdict};
use crate::domain::suppression::{self, Suppression};
use crate::domain::time::{millis, seconds_rounded_up};
use crate::provider::{Accepted, Mail, Message};
use crate::store::{Grant, Progress, ProgressResult};
use crate::telemetry::events;
use crate::text::email::EmailText;
use crate::text::{Rendered, SmsText};

/// A provider has its own time limit; this is the fence behind it.
const PROVIDER_FENCE: Duration = Duration::from_secs(2);
/// Whether a request that waits for its turn is still waited for is written down this often at least.
const GATE_STEP_MAX: Duration = Duration::from_secs(15);
/// A handling that waits is taken for dead this long after its next step was due.
const WAITING_LEASE_SLACK: Duration = Duration::from_secs(5);

/// A request between its admission and its end.
pub(super) struct SendState {
    pub(super) grant: Grant,
    /// Nothing where the provider makes it.
    pub(super) code: Option<Code>,
    pub(super) notes: RequestHistory,
    /// Tries so far.
    pub(super) attempts_made: u32,
    /// What is not known of the tries so far.
    pub(super) doubt: DoubtState,
    /// Which senders refused it.
    refusals: SenderRefusals,
    /// When a message would be too late.
    pub(super) deadline: Instant,
    /// Until when a whole answer surely belongs to this handling.
    lease_ends: Instant,
    /// How it ends if time runs out.
    last_error: Option<OutcomeError>,
}

/// What a request waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wait {
    /// The time of its next try.
    NextTry,
    /// Its turn.
    Gate,
}

impl SendState {
    pub(super) fn time_left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}

impl Gateway {
    /// Takes up what was admitted.
    pub(super) fn begin(&self, case: &ValidRequest<'_>, leave: SendGrant) -> SendState {
        let SendGrant { grant, code, granted, in_doubt, mut notes } = leave;
        let now = self.clock.now();
        notes.challenge = Some(grant.challenge.as_str().to_owned());
        notes.add(
            now,
            match grant.history {
                None => HistoryEvent::Admitted(grant.sends),
                Some(_) => HistoryEvent::TakenOver(in_doubt),
            },
        );
        let doubt = self.doubt_left(case, &grant, granted, in_doubt);
        SendState {
            attempts_made: if in_doubt { grant.attempt } else { grant.attempt - 1 },
            doubt,
            refusals: SenderRefusals::default(),
            deadline: granted + grant.deadline.since(grant.now),
            // A try after the first asks once more: the code may have been used while it waited.
            lease_ends: if grant.attempt > 1 { granted } else { granted + self.lease() },
            last_error: None,
            grant,
            code,
            notes,
        }
    }

    /// Sends the message of an admitted request, and says what became of it.
    pub(super) async fn dispatch(
        &self,
        turn: &DeliveryContext<'_>,
        case: &ValidRequest<'_>,
        sending: &mut SendState,
    ) -> Result<Completion, RequeueReason> {
        let Some(text) = self.compose(case, sending) else {
            return Ok(self.failed(case, sending, OutcomeError::of(ErrorCode::Internal)));
        };
        loop {
            if sending.doubt.is_open {
                match self.reconcile(turn, case, sending, &text).await? {
                    Reconciliation::Sent { accepted, found } => {
                        return Ok(Completion { found, ..self.sent(case, sending, accepted, &text) });
                    }
                    Reconciliation::Unknown => return Ok(self.doubted(case, sending)),
                    Reconciliation::NotSent => {
                        sending.doubt.is_open = false;
                        sending.lease_ends = Instant::now();
                        sending.notes.add(self.clock.now(), HistoryEvent::Resent(sending.attempts_made + 1));
                        events::send_repeated(case.request.id.as_str(), sending.attempts_made + 1);
                    }
                }
            }
            if sending.time_left() < TIME_LEFT_MIN {
                return Ok(self.too_late(case, sending));
            }
            let Some(pass) = self.pass(turn, case, sending).await? else { continue };
            // A whole answer must fit, or another handling could take this one for dead.
            let answer_within = self.policy.provider_timeout + PROVIDER_FENCE;
            if sending.lease_ends.saturating_duration_since(Instant::now()) < answer_within {
                match self.mark_sending(turn, case, sending).await? {
                    ProgressResult::Applied => {}
                    // The doubt that was taken for absent was not: no second message.
                    ProgressResult::AlreadySent(message_id) => {
                        let accepted =
                            Accepted { message_id: Some(message_id), segments: None, verification: None };
                        return Ok(self.sent(case, sending, accepted, &text));
                    }
                    ProgressResult::NotOwner => return Err(RequeueReason::TakenOver),
                    ProgressResult::ChallengeReplaced => return Ok(self.too_late(case, sending)),
                }
            }
            // Last before the POST: whatever was waited for, nothing goes out too late, or after it was stopped.
            if sending.time_left() < TIME_LEFT_MIN || self.gate.closed_by().is_some() {
                continue;
            }
            let (began, began_at) = (Instant::now(), self.clock.now());
            let answer = self.hand_over(case, sending, &text, pass).await;
            let failure = match answer {
                Ok(accepted) => return Ok(self.sent(case, sending, accepted, &text)),
                Err(failure) => failure,
            };
            let time_left = sending.time_left().saturating_sub(TIME_LEFT_MIN);
            match after_failure(&self.policy.retry, sending.attempts_made, &failure, time_left, jitter()) {
                Retry::GiveUp(status, error) => {
                    let end = self.unsent(case, sending, status, error);
                    return Ok(Completion { stop: stop(&failure), ..end });
                }
                Retry::LookUp => sending.doubt.add(began_at, began + self.lease()),
                Retry::AtGate(error) => sending.last_error = Some(error),
                Retry::After(wait) => {
                    events::send_retried(case.request.id.as_str(), sending.attempts_made, &failure, wait);
                    self.wait(turn, case, sending, wait, Wait::NextTry, std::future::pending::<()>()).await?;
                }
            }
        }
    }

    fn compose(&self, case: &ValidRequest<'_>, sending: &SendState) -> Option<Rendered> {
        let grant = &sending.grant;
        let Some(code) = sending.code.as_ref().map(Code::expose) else { return Some(Rendered::Elsewhere) };
        let minutes = grant.expires_at.since(grant.admitted_at).as_secs() / 60;
        let minutes = u32::try_from(minutes.max(1)).unwrap_or(u32::MAX);
        let (locale, user_name) = (case.request.locale.as_deref(), case.request.user_name.as_deref());
        if self.channel == Channel::Email {
            let text = EmailText { locale, code, user_name, minutes };
            return Some(Rendered::Email(self.texts.render_email(&text)));
        }
        let text = SmsText {
            template: case.request.template.as_deref(),
            locale,
            code,
            user_name,
            minutes,
            expires_at: grant.expires_at,
            zone: case.request.timezone.as_ref(),
            autofill: case.autofill.as_ref(),
        };
        self.texts.render_sms(&text).ok().map(Rendered::Sms)
    }

    /// Leave to hand the message over now. Nothing if there was a wait for it that ended otherwise: then look again.
    async fn pass(
        &self,
        turn: &DeliveryContext<'_>,
        case: &ValidRequest<'_>,
        sending: &mut SendState,
    ) -> Result<Option<GateTicket<'_>>, RequeueReason> {
        let share = RecipientHash::of(case.to.as_str());
        if let Some(pass) = self.gate.try_enter(share, &sending.refusals) {
            return Ok(Some(pass));
        }
        // In steps, so that the request is free soon after a worker that dies with it.
        let useful = sending.time_left().saturating_sub(TIME_LEFT_MIN) + Duration::from_millis(1);
        let useful = useful.min(GATE_STEP_MAX);
        let shut = self.gate.closed_by();
        let rest = self.gate.senders_cooling_down(&sending.refusals).then_some(SENDERS_COOLING_DOWN);
        if let Some(holder) = shut.map(ClosedBy::as_str).or(rest) {
            let held = HistoryEvent::Paused(holder.to_owned());
            if sending.notes.entries.last().is_none_or(|last| last.event != held) {
                sending.notes.add(self.clock.now(), held);
                events::send_paused(self.channel, case.request.id.as_str(), holder);
            }
        }
        if shut.is_some() {
            self.wait(turn, case, sending, useful, Wait::Gate, self.gate.opened()).await?;
            return Ok(None);
        }
        let entered = self.gate.enter(share, sending.refusals.clone());
        Ok(self.wait(turn, case, sending, useful, Wait::Gate, entered).await?.flatten())
    }

    async fn hand_over(
        &self,
        case: &ValidRequest<'_>,
        sending: &mut SendState,
        text: &Rendered,
        pass: GateTicket<'_>,
    ) -> Result<Accepted, SendFailure> {
        let message = Message {
            request: &case.request.id,
            to: &case.to,
            sender: pass.sender(),
            body: text.expose(),
            mail: text.mail().map(|mail| Mail { subject: mail.subject(), html: mail.html() }),
            code: sending.code.as_ref(),
            locale: case.request.locale.as_deref(),
            user_name: case.request.user_name.as_deref(),
            validity: sending.time_left(),
            attempt: sending.attempts_made + 1,
        };
        let (started, provider, attempt) = (Instant::now(), self.provider.name(), sending.attempts_made + 1);
        let fence = self.policy.provider_timeout + PROVIDER_FENCE;
        let answer = tokio::time::timeout(fence, self.provider.send(&message)).await;
        let mut answer =
            answer.unwrap_or_else(|_| Err(SendFailure::InDoubt { detail: "no answer in time".to_owned() }));
        let took = started.elapsed();
        // People know a sender by its place in the settings.
        let place = u32::try_from(pass.sender() + 1).expect("settings list few senders");
        let country = case.to.country();
        let to = RecipientInfo { recipient: case.recipient, country: country.as_deref() };
        let lesson = pass.answered(to, &mut sending.refusals, answer.as_ref().err(), took);
        match (lesson, &mut answer) {
            (SenderVerdict::CoolingDown(rest), Err(SendFailure::Rejected { code, .. })) => {
                events::sender_cooling_down(provider, place, *code, rest);
            }
            (SenderVerdict::NotTheSender, Err(SendFailure::Rejected { scope, .. })) => {
                *scope = Scope::Unrecognised;
            }
            _ => {}
        }
        let sender = (self.provider.senders() > 1).then_some(place);
        let tried = match &answer {
            Ok(_) => {
                events::provider_accepted(provider, took);
                Attempt { attempt, sender, answer: "accepted".to_owned(), code: None, ms: millis(took) }
            }
            Err(failure) => {
                events::provider_failed(provider, case.request.id.as_str(), attempt, failure, took);
                Attempt::failed(attempt, sender, failure, millis(took))
            }
        };
        sending.notes.add(self.clock.now(), HistoryEvent::Attempted(tried));
        sending.attempts_made = attempt;
        // The next try asks for a lease of its own.
        sending.lease_ends = Instant::now();
        answer
    }

    /// Waits for something, the store knowing that nothing is in doubt; a stop gives the request back meanwhile.
    async fn wait<T>(
        &self,
        turn: &DeliveryContext<'_>,
        case: &ValidRequest<'_>,
        sending: &mut SendState,
        at_most: Duration,
        why: Wait,
        what: impl Future<Output = T>,
    ) -> Result<Option<T>, RequeueReason> {
        let handling = case.handling(turn);
        let waiting = Progress::Waiting(at_most + WAITING_LEASE_SLACK);
        let (made, notes) = (Some(sending.attempts_made), Some(&sending.notes));
        let mark = || self.store.update_progress(&handling, made, waiting, notes);
        match turn.retry_store("mark", CancelOn::DeliveryLost, mark).await {
            Ok(ProgressResult::NotOwner) => return Err(RequeueReason::TakenOver),
            Ok(_) => {}
            Err(reason) => {
                self.give_back_noted(turn, case, sending, Duration::ZERO, reason).await;
                return Err(reason);
            }
        }
        sending.lease_ends = Instant::now();
        let until = Instant::now() + at_most;
        let waited = turn.wait_for(what, at_most, CancelOn::Shutdown).await;
        if let Err(reason) = waited {
            // What waits for its next try waits elsewhere too; another worker's gate may be open.
            let due = match why {
                Wait::NextTry => until.saturating_duration_since(Instant::now()),
                Wait::Gate => Duration::ZERO,
            };
            self.give_back_noted(turn, case, sending, due, reason).await;
        }
        waited
    }

    async fn mark_sending(
        &self,
        turn: &DeliveryContext<'_>,
        case: &ValidRequest<'_>,
        sending: &mut SendState,
    ) -> Result<ProgressResult, RequeueReason> {
        let handling = case.handling(turn);
        let (made, notes) = (Some(sending.attempts_made), Some(&sending.notes));
        let mut asked_at = Instant::now();
        let mark = || {
            asked_at = Instant::now();
            self.store.update_progress(&handling, made, Progress::Sending(self.lease()), notes)
        };
        let marked = turn.retry_store("mark", CancelOn::Shutdown, mark).await;
        // From before it was asked: the store's lease ends later, not sooner.
        let lease_ends = asked_at + self.lease();
        match &marked {
            Ok(_) => sending.lease_ends = lease_ends,
            Err(reason) => self.give_back_noted(turn, case, sending, Duration::ZERO, *reason).await,
        }
        marked
    }

    pub(super) async fn give_back_noted(
        &self,
        turn: &DeliveryContext<'_>,
        case: &ValidRequest<'_>,
        sending: &mut SendState,
        due: Duration,
        reason: RequeueReason,
    ) {
        sending.notes.add(self.clock.now(), HistoryEvent::Requeued(reason.as_str().to_owned()));
        let back = Progress::Requeued { due, in_doubt: sending.doubt.is_open };
        self.give_back(turn, case, Some(sending.attempts_made), back, Some(&sending.notes)).await;
    }

    /// Lets another handling have the request at once, or when its next try is due. Should this fail, it is free, and in
    /// doubt if it was being sent, when its lease ends.
    pub(super) async fn give_back(
        &self,
        turn: &DeliveryContext<'_>,
        case: &ValidRequest<'_>,
        made: Option<u32>,
        back: Progress,
        notes: Option<&RequestHistory>,
    ) {
        let handling = case.handling(turn);
        if let Err(error) = self.store.update_progress(&handling, made, back, notes).await {
            events::store_failed("mark", &error, None);
        }
    }

    fn sent(
        &self,
        case: &ValidRequest<'_>,
        sending: &mut SendState,
        accepted: Accepted,
        text: &Rendered,
    ) -> Completion {
        let verification = accepted.verification.map(|name| (sending.grant.challenge, name));
        let end = Completion::of(Outcome {
            status: Status::Sent,
            at: self.clock.now(),
            purpose: case.request.purpose.as_str().to_owned(),
            error: None,
            provider: Some(self.provider.name().to_owned()),
            provider_message_id: accepted.message_id,
            attempts: sending.attempts_made,
            segments: accepted.segments.or_else(|| text.segments()),
            expires_at: Some(sending.grant.expires_at),
            resend_after: Some(seconds_rounded_up(self.policy.limits.cooldown)),
            history: sending.notes.clone(),
        });
        Completion { verification, ..end }
    }

    /// The end of a request whose message was not sent; of one that was ever in doubt nobody can say so.
    fn unsent(
        &self,
        case: &ValidRequest<'_>,
        sending: &SendState,
        status: Status,
        error: OutcomeError,
    ) -> Completion {
        let attempts = sending.attempts_made;
        let (status, error) = match sending.doubt.count {
            0 => (status, error),
            _ => {
                let provider_code = error.provider_code;
                (Status::Unknown, OutcomeError { provider_code, ..OutcomeError::of(ErrorCode::InDoubt) })
            }
        };
        let refused = Outcome::refused(status, self.clock.now(), case.request.purpose.as_str(), error);
        let provider = (attempts > 0).then(|| self.provider.name().to_owned());
        Completion::of(Outcome { attempts, provider, history: sending.notes.clone(), ..refused })
    }

    /// The end of a request whose next try would come too late to be of use.
    fn too_late(&self, case: &ValidRequest<'_>, sending: &SendState) -> Completion {
        let expired = OutcomeError::of(ErrorCode::Expired);
        let (status, error) = match (&sending.last_error, sending.attempts_made) {
            (Some(error), _) => (Status::Failed, error.clone()),
            (None, 1..) => (Status::Failed, expired),
            (None, 0) => (Status::Rejected, expired),
        };
        self.unsent(case, sending, status, error)
    }

    /// The end of a request whose last try may or may not have been sent.
    pub(super) fn doubted(&self, case: &ValidRequest<'_>, sending: &SendState) -> Completion {
        let error = OutcomeError::of(ErrorCode::InDoubt);
        self.unsent(case, sending, Status::Unknown, error)
    }

    /// The end of a request that could not be tried this time.
    pub(super) fn failed(
        &self,
        case: &ValidRequest<'_>,
        sending: &SendState,
        error: OutcomeError,
    ) -> Completion {
        self.unsent(case, sending, Status::Failed, error)
    }
}

fn stop(failure: &SendFailure) -> Option<Suppression> {
    match failure {
        SendFailure::Rejected { scope, reason, code } => suppression::after_refusal(*scope, *reason, *code),
        _ => None,
    }
}

/// A fraction of chance: not a secret, so the quick generator will do.
fn jitter() -> f64 {
    fastrand::f64()
}
