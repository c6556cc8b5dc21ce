//! Dispatch: sends the message, and repeats the attempt while that is safe and in time.
//!
//! An attempt in doubt is [reconciled](super::reconcile) before anything is sent again.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::complete::Completion;
use super::context::{SendContext, StopReason};
use super::doubt_state::NewDoubt;
use super::gateway::ChannelGateway;
use super::pass_gate::AfterGate;
use super::progress::WaitReason;
use super::provider_gate::GateTicket;
use super::reconcile::{Reconciliation, accepted_by_receipt};
use crate::domain::challenge::TIME_LEFT_MIN;
use crate::domain::channel::Channel;
use crate::domain::code::Code;
use crate::domain::failover::{Choice, Exclusion, after_refusal};
use crate::domain::failover_reason::FailoverReason;
use crate::domain::history::{Attempt, HistoryEvent};
use crate::domain::outcome::{ErrorCode, Outcome, OutcomeError, Status};
use crate::domain::retry::{Retry, after_failure};
use crate::domain::routes::ProviderIndex;
use crate::domain::send_failure::{Scope, SendFailure};
use crate::domain::sender_pool::{RecipientInfo, SenderVerdict};
use crate::domain::suppression::{self, Suppression};
use crate::domain::time::{millis, seconds_rounded_up};
use crate::provider::{Accepted, Mail, Message, Provider};
use crate::store::ProgressAnswer;
use crate::telemetry::events;
use crate::telemetry::trace::spans;
use crate::text::{Rendered, TextValues};

impl ChannelGateway {
    pub(super) async fn dispatch(&self, ctx: &mut SendContext<'_>) -> Result<Completion, StopReason> {
        if ctx.state.history.is_test() {
            return Ok(self.completed_without_sending(ctx));
        }
        let Some(text) = self.compose(ctx) else {
            return Ok(self.ended_with_error(ctx, Status::Failed, OutcomeError::of(ErrorCode::Internal)));
        };
        loop {
            if ctx.state.doubt.is_in_doubt
                && let Some(completion) = self.resolve_doubt(ctx, &text).await?
            {
                return Ok(completion);
            }
            if ctx.time_left() < TIME_LEFT_MIN {
                return Ok(self.no_more_attempts(ctx));
            }
            let (choice, ticket) = match self.pass_gate(ctx).await? {
                AfterGate::Entered(choice, ticket) => (choice, ticket),
                AfterGate::Again => continue,
                AfterGate::NoProvider => return Ok(self.no_more_attempts(ctx)),
            };
            if let Some(completion) = self.secure_lease(ctx, choice.provider, &text).await? {
                return Ok(completion);
            }
            // The steps above may have taken long: no message goes out late or through a closed gate.
            if ctx.time_left() < TIME_LEFT_MIN || self.providers.get(choice.provider).gate.is_closed() {
                continue;
            }
            let doubt = NewDoubt {
                provider: choice.provider,
                began: self.clock.now(),
                // The provider may still create the message after our call broke off. We assume that it does so within the
                // duration of a lease, or never.
                certainly_ended_at: Instant::now() + self.policy.lease_duration(),
            };
            let failure = match self.make_attempt(ctx, &text, choice, ticket).await {
                Ok(accepted) => {
                    let provider = self.providers.get(choice.provider).name().to_owned();
                    return Ok(self.sent(ctx, Some(provider), accepted, &text));
                }
                Err(failure) => failure,
            };
            if let Some(completion) = self.after_failed_attempt(ctx, &failure, doubt).await? {
                return Ok(completion);
            }
        }
    }

    /// The request of a test number: its code is known, and counts from now.
    fn completed_without_sending(&self, ctx: &SendContext<'_>) -> Completion {
        if ctx.time_left() < TIME_LEFT_MIN {
            return self.no_more_attempts(ctx);
        }
        let state = &ctx.state;
        Completion::of(Outcome {
            status: Status::Sent,
            at: self.clock.now(),
            purpose: ctx.purpose().to_owned(),
            error: None,
            provider: None,
            provider_message_id: None,
            attempts: 0,
            segments: None,
            expires_at: Some(state.grant.expires_at),
            resend_after: Some(seconds_rounded_up(self.policy.limits.cooldown)),
            history: state.history.clone(),
        })
    }

    /// `None` if the text cannot be rendered.
    fn compose(&self, ctx: &SendContext<'_>) -> Option<Rendered> {
        let (request, grant) = (ctx.valid.request, &ctx.state.grant);
        let Some(code) = ctx.state.code.as_ref().map(Code::expose) else { return Some(Rendered::ByProvider) };
        let minutes = grant.expires_at.since(grant.admitted_at).as_secs() / 60;
        let minutes = u32::try_from(minutes.max(1)).unwrap_or(u32::MAX);
        let (locale, user_name) = (request.locale.as_deref(), request.user_name.as_deref());
        let text = TextValues {
            template: request.template.as_deref(),
            locale,
            code,
            user_name,
            minutes,
            expires_at: grant.expires_at,
            zone: request.timezone.as_ref(),
            autofill: ctx.valid.autofill.as_ref(),
        };
        match self.channel {
            Channel::Sms => self.texts.render_sms(&text).ok().map(Rendered::Sms),
            Channel::Email => self.texts.render_email(&text).ok().map(Rendered::Email),
        }
    }

    /// `Some` ends the request. `None`: the message may be sent once more.
    async fn resolve_doubt(
        &self,
        ctx: &mut SendContext<'_>,
        text: &Rendered,
    ) -> Result<Option<Completion>, StopReason> {
        match self.reconcile(ctx, text).await? {
            Reconciliation::Sent { accepted, provider, found_by_lookup } => {
                Ok(Some(Completion { found_by_lookup, ..self.sent(ctx, provider, accepted, text) }))
            }
            Reconciliation::Unknown => {
                Ok(Some(self.ended_with_error(ctx, Status::Unknown, OutcomeError::of(ErrorCode::InDoubt))))
            }
            Reconciliation::MayResend => {
                ctx.state.doubt.settle();
                self.will_resend(ctx);
                Ok(None)
            }
            Reconciliation::MayFailOver => {
                for provider in ctx.state.doubt.providers() {
                    ctx.state.hand_overs.exclude(provider, Exclusion::ForGood);
                }
                ctx.state.hand_overs.reason = Some(FailoverReason::DoubtUnanswered);
                self.will_resend(ctx);
                Ok(None)
            }
        }
    }

    fn will_resend(&self, ctx: &mut SendContext<'_>) {
        let attempt = ctx.state.attempts_made + 1;
        ctx.state.doubt.is_in_doubt = false;
        ctx.state.require_new_lease();
        ctx.state.history.add(self.clock.now(), HistoryEvent::ToBeResent(attempt));
        events::send_to_be_repeated(ctx.request_id(), attempt);
    }

    /// The lease must outlast a whole call of the provider: else another handler could take the request over during the
    /// call. And the record must name the provider, for that handler. `Some` ends the request.
    async fn secure_lease(
        &self,
        ctx: &mut SendContext<'_>,
        provider: ProviderIndex,
        text: &Rendered,
    ) -> Result<Option<Completion>, StopReason> {
        let lease_left = ctx.state.lease_enough_until.saturating_duration_since(Instant::now());
        let is_named = ctx.state.hand_overs.recorded == Some(provider);
        if lease_left >= self.policy.provider_call_max() && is_named {
            return Ok(None);
        }
        match self.begin_attempt(ctx, provider).await? {
            ProgressAnswer::Applied => Ok(None),
            // A receipt shows that an attempt in doubt was sent.
            ProgressAnswer::AlreadySent(message_id) => {
                let provider = self.provider_of_receipt(ctx, &message_id).await;
                Ok(Some(self.sent(ctx, provider, accepted_by_receipt(message_id), text)))
            }
            ProgressAnswer::LeaseNotHeld => Err(StopReason::LeaseLost),
            ProgressAnswer::ChallengeUsedOrReplaced => Ok(Some(self.no_more_attempts(ctx))),
        }
    }

    async fn make_attempt(
        &self,
        ctx: &mut SendContext<'_>,
        text: &Rendered,
        choice: Choice,
        ticket: GateTicket<'_>,
    ) -> Result<Accepted, SendFailure> {
        let failover = self.note_failover(ctx, choice);
        let provider = &self.providers.get(choice.provider).provider;
        let attempt = ctx.state.attempts_made + 1;
        let message = Message {
            request_id: &ctx.valid.request.id,
            to: &ctx.valid.to,
            sender: ticket.sender(),
            body: text.expose(),
            mail: text.mail().map(|mail| Mail { subject: mail.subject(), html: mail.html() }),
            code: ctx.state.code.as_ref(),
            locale: ctx.valid.request.locale.as_deref(),
            user_name: ctx.valid.request.user_name.as_deref(),
            validity: ctx.time_left(),
            attempt,
        };
        ctx.handler.may_have_sent.store(true, Ordering::Relaxed);
        spans::provider_attempt(attempt);
        let call_began = Instant::now();
        let call = tokio::time::timeout(self.policy.provider_call_max(), provider.send(&message));
        let mut answer = call
            .await
            .unwrap_or_else(|_| Err(SendFailure::InDoubt { detail: "no answer in time".to_owned() }));
        let elapsed = call_began.elapsed();
        // Logs and history count senders from 1, in the order of the settings.
        let sender = u32::try_from(ticket.sender() + 1).expect("settings list few senders");
        let country = ctx.valid.to.country();
        let to = RecipientInfo { recipient: ctx.valid.recipient, country: country.as_deref() };
        let refusals = ctx.state.hand_overs.refusals_mut(choice.provider);
        let verdict = ticket.answered(to, refusals, answer.as_ref().err(), elapsed);
        match (verdict, &mut answer) {
            (SenderVerdict::CoolingDown(cooldown), Err(SendFailure::Refused { provider_code, .. })) => {
                events::sender_cooling_down(provider.name(), sender, *provider_code, cooldown);
            }
            (SenderVerdict::RefusedFromSeveralSenders, Err(SendFailure::Refused { scope, .. })) => {
                *scope = Scope::Unrecognised;
            }
            _ => {}
        }
        let entry = self.attempt_entry(ctx, provider.as_ref(), sender, &answer, elapsed);
        if let Ok(accepted) = &answer {
            events::provider_accepted(provider.name(), accepted.segments.or(text.segments()), elapsed);
        }
        let named = self.providers.are_several().then(|| provider.name().to_owned());
        let entry = Attempt { provider: named, failover, ..entry };
        ctx.state.history.add(self.clock.now(), HistoryEvent::Attempted(entry));
        ctx.state.attempts_made = attempt;
        ctx.state.require_new_lease();
        answer
    }

    /// Why another provider sends than that of the last attempt or, of a first attempt, the recipient's own.
    fn note_failover(&self, ctx: &mut SendContext<'_>, choice: Choice) -> Option<FailoverReason> {
        let own = *ctx.valid.order.first()?;
        let (to, from) = (choice.provider, ctx.state.hand_overs.last.unwrap_or(own));
        ctx.state.hand_overs.last = Some(to);
        let reason = ctx.state.hand_overs.reason.take().or(choice.reason).filter(|_| to != from)?;
        let names = [from, to].map(|provider| self.providers.get(provider).name());
        events::provider_failed_over(ctx.request_id(), names[0], names[1], reason);
        Some(reason)
    }

    fn attempt_entry(
        &self,
        ctx: &SendContext<'_>,
        provider: &dyn Provider,
        sender: u32,
        answer: &Result<Accepted, SendFailure>,
        elapsed: Duration,
    ) -> Attempt {
        let attempt = ctx.state.attempts_made + 1;
        self.activity.traffic.provider_answered(elapsed);
        let sender = (provider.senders() > 1).then_some(sender);
        match answer {
            Ok(_) => Attempt::accepted(attempt, sender, millis(elapsed)),
            Err(failure) => {
                events::provider_failed(provider.name(), ctx.request_id(), attempt, failure, elapsed);
                Attempt::failed(attempt, sender, failure, millis(elapsed))
            }
        }
    }

    /// `Some` ends the request.
    async fn after_failed_attempt(
        &self,
        ctx: &mut SendContext<'_>,
        failure: &SendFailure,
        doubt: NewDoubt,
    ) -> Result<Option<Completion>, StopReason> {
        let time_left = ctx.time_left().saturating_sub(TIME_LEFT_MIN);
        let attempts = ctx.state.attempts_made;
        // The jitter is no secret, so a fast generator suffices.
        let jitter = fastrand::f64();
        let next = after_failure(&self.policy.retry, attempts, failure, time_left, jitter);
        if self.goes_to_next_provider(ctx, failure, &next, doubt.provider) {
            return Ok(None);
        }
        let next = match next {
            // Another provider may send it later.
            Retry::GiveUp(..) if ctx.state.hand_overs.some_are_excluded_for_now() => {
                let deferred = SendFailure::Deferred { provider_code: None };
                match after_failure(&self.policy.retry, attempts, &deferred, time_left, jitter) {
                    Retry::After(wait) => Retry::After(wait),
                    _ => next,
                }
            }
            next => next,
        };
        ctx.state.hand_overs.end_exclusions_for_now();
        match next {
            Retry::GiveUp(status, error) => {
                let completion = self.ended_with_error(ctx, status, error);
                return Ok(Some(Completion { suppression: suppression_after(failure), ..completion }));
            }
            Retry::LookUp => ctx.state.doubt.add(doubt),
            Retry::WhenGateAllows(error) => ctx.state.last_error = Some(error),
            Retry::After(wait) => {
                events::send_retried(ctx.request_id(), attempts, failure, wait);
                self.wait(ctx, WaitReason::Backoff, wait, std::future::pending::<()>()).await?;
            }
        }
        Ok(None)
    }

    /// Excludes the provider if another one is to send the message, and can.
    fn goes_to_next_provider(
        &self,
        ctx: &mut SendContext<'_>,
        failure: &SendFailure,
        next: &Retry,
        provider: ProviderIndex,
    ) -> bool {
        let Some((reason, exclusion)) = after_refusal(failure, next) else { return false };
        if ctx.valid.order.len() < 2 || ctx.state.attempts_made >= self.policy.retry.attempts_max {
            return false;
        }
        let SendContext { valid, state, .. } = ctx;
        state.hand_overs.exclude(provider, exclusion);
        let can_send = self.providers.can_send(&valid.order, valid.recipient_hash(), &state.hand_overs);
        if let Retry::WhenGateAllows(error) = next {
            state.last_error = Some(error.clone());
        }
        if can_send {
            state.hand_overs.reason = Some(reason);
        }
        can_send
    }

    fn sent(
        &self,
        ctx: &SendContext<'_>,
        provider: Option<String>,
        accepted: Accepted,
        text: &Rendered,
    ) -> Completion {
        let state = &ctx.state;
        let message_is_unnamed = !accepted.names_message();
        let verification = accepted.verification_sid.map(|sid| (state.grant.challenge, sid));
        let completion = Completion::of(Outcome {
            status: Status::Sent,
            at: self.clock.now(),
            purpose: ctx.purpose().to_owned(),
            error: None,
            provider,
            provider_message_id: accepted.message_id,
            attempts: state.attempts_made,
            segments: accepted.segments.or_else(|| text.segments()),
            expires_at: Some(state.grant.expires_at),
            resend_after: Some(seconds_rounded_up(self.policy.limits.cooldown)),
            history: state.history.clone(),
        });
        Completion { message_is_unnamed, verification, ..completion }
    }

    /// If any attempt was in doubt, the status is `unknown`.
    fn ended_with_error(&self, ctx: &SendContext<'_>, status: Status, error: OutcomeError) -> Completion {
        let state = &ctx.state;
        let (status, error) = if state.doubt.attempts_in_doubt == 0 {
            (status, error)
        } else {
            let provider_code = error.provider_code;
            (Status::Unknown, OutcomeError { provider_code, ..OutcomeError::of(ErrorCode::InDoubt) })
        };
        let attempts = state.attempts_made;
        let outcome = Outcome::with_error(status, self.clock.now(), ctx.purpose(), error);
        let in_doubt = || self.last_in_doubt(ctx).filter(|_| state.doubt.attempts_in_doubt > 0);
        let last = || self.providers.last_of(&state.history);
        let provider = if attempts > 0 { in_doubt().or_else(last) } else { None };
        Completion::of(Outcome { attempts, provider, history: state.history.clone(), ..outcome })
    }

    /// The completion of a request that gets no further attempt: its deadline is near, or its code is used or replaced.
    fn no_more_attempts(&self, ctx: &SendContext<'_>) -> Completion {
        let expired = OutcomeError::of(ErrorCode::Expired);
        let (status, error) = match (&ctx.state.last_error, ctx.state.attempts_made) {
            (Some(error), _) => (Status::Failed, error.clone()),
            (None, 1..) => (Status::Failed, expired),
            (None, 0) => (Status::Rejected, expired),
        };
        self.ended_with_error(ctx, status, error)
    }
}

fn suppression_after(failure: &SendFailure) -> Option<Suppression> {
    match failure {
        SendFailure::Refused { scope, reason, provider_code } => {
            suppression::after_refusal(*scope, *reason, *provider_code)
        }
        _ => None,
    }
}
