//! Step 2: the message goes to the provider, again if that is safe, and never too late.
//!
//! What may have been sent is not sent again here: it ends as unknown.

use std::time::Duration;

use tokio::time::Instant;

use super::Gateway;
use super::admit::{Case, Leave};
use super::receive::{GiveBack, Turn, Until};
use crate::domain::challenge::TIME_LEFT_MIN;
use crate::domain::outcome::{ErrorCode, Outcome, OutcomeError, SendFailure, Status};
use crate::domain::retry::{Retry, after_failure};
use crate::domain::time::seconds_rounded_up;
use crate::domain::trail::Notes;
use crate::provider::{Accepted, Message};
use crate::store::{Grant, Mark, Marked};
use crate::telemetry::events;
use crate::text::{RenderedSms, SmsText};

/// A provider has its own time limit; this is the fence behind it.
const PROVIDER_FENCE: Duration = Duration::from_secs(2);
/// A handling that waits is taken for dead this long after its next step was due.
const WAITING_LEASE_SLACK: Duration = Duration::from_secs(5);

impl Gateway {
    /// Sends the message of an admitted request, and says what became of it.
    pub(super) async fn dispatch(
        &self,
        turn: &Turn<'_>,
        case: &Case<'_>,
        leave: Leave,
    ) -> Result<Outcome, GiveBack> {
        let Leave { grant, code, granted } = leave;
        let Some(text) = self.compose(case, &grant, code.expose()) else {
            return Ok(self.failed(case, &grant, OutcomeError::of(ErrorCode::Internal)));
        };
        let deadline = granted + grant.deadline.since(grant.now);
        // A try after the first asks once more: the code may have been used while it waited.
        let mut lease_ends = if grant.attempt > 1 { granted } else { granted + self.lease() };
        let mut attempt = grant.attempt;
        loop {
            // A whole answer must fit, or another handling could take this one for dead.
            if lease_ends.saturating_duration_since(Instant::now())
                < self.policy.provider_timeout + PROVIDER_FENCE
            {
                match self.mark_sending(turn, case, attempt).await? {
                    Marked::Held | Marked::Proven(_) => {}
                    Marked::Lost => return Err(GiveBack::TakenOver),
                    Marked::Stale => return Ok(self.expired(case, attempt)),
                }
            }
            // Last before the POST: whatever was waited for before, nothing goes out too late.
            let time_left = deadline.saturating_duration_since(Instant::now());
            if time_left < TIME_LEFT_MIN {
                return Ok(self.expired(case, attempt));
            }
            let message = Message {
                request: &case.request.id,
                to: &case.to,
                body: text.expose(),
                code: &code,
                user_name: case.request.user_name.as_deref(),
                validity: time_left,
                attempt,
            };
            let failure = match self.hand_over(&message, attempt).await {
                Ok(accepted) => return Ok(self.sent(case, &grant, attempt, accepted, &text)),
                Err(failure) => failure,
            };
            let time_left = deadline.saturating_duration_since(Instant::now()).saturating_sub(TIME_LEFT_MIN);
            match after_failure(&self.policy.retry, attempt, &failure, time_left, jitter()) {
                Retry::GiveUp(status, error) => return Ok(self.unsent(case, status, attempt, error)),
                Retry::Hold(error) => return Ok(self.unsent(case, Status::Failed, attempt, error)),
                Retry::LookUp => return Ok(self.doubted(case, &Grant { attempt, ..grant })),
                Retry::After(wait) => {
                    events::send_retried(case.request.id.as_str(), attempt, &failure, wait);
                    self.wait_to_retry(turn, case, wait).await?;
                    attempt += 1;
                    lease_ends = Instant::now();
                }
            }
        }
    }

    fn compose(&self, case: &Case<'_>, grant: &Grant, code: &str) -> Option<RenderedSms> {
        let minutes = grant.expires_at.since(grant.admitted_at).as_secs() / 60;
        let text = SmsText {
            template: case.request.template.as_deref(),
            locale: case.request.locale.as_deref(),
            code,
            user_name: case.request.user_name.as_deref(),
            minutes: u32::try_from(minutes.max(1)).unwrap_or(u32::MAX),
            autofill: case.autofill.as_ref(),
        };
        self.texts.render_sms(&text).ok()
    }

    async fn hand_over(&self, message: &Message<'_>, attempt: u32) -> Result<Accepted, SendFailure> {
        let (started, provider) = (Instant::now(), self.provider.name());
        let fence = self.policy.provider_timeout + PROVIDER_FENCE;
        let answer = tokio::time::timeout(fence, self.provider.send(message)).await;
        let answer =
            answer.unwrap_or_else(|_| Err(SendFailure::InDoubt { detail: "no answer in time".to_owned() }));
        match &answer {
            Ok(_) => events::provider_accepted(provider, started.elapsed()),
            Err(failure) => {
                let request = message.request.as_str();
                events::provider_failed(provider, request, attempt, failure, started.elapsed());
            }
        }
        answer
    }

    /// Waits with the store knowing that nothing is in doubt; a stop gives the request back meanwhile.
    async fn wait_to_retry(&self, turn: &Turn<'_>, case: &Case<'_>, wait: Duration) -> Result<(), GiveBack> {
        let handling = case.handling(turn);
        let waiting = Mark::Waiting(wait + WAITING_LEASE_SLACK);
        let marked = turn.asked("mark", Until::Told, || self.store.mark(&handling, waiting, None)).await?;
        if marked == Marked::Lost {
            return Err(GiveBack::TakenOver);
        }
        let until = Instant::now() + wait;
        let rested = turn.rest(wait, Until::Stop).await;
        if rested.is_err() {
            self.give_back(turn, case, true, until.saturating_duration_since(Instant::now())).await;
        }
        rested
    }

    async fn mark_sending(&self, turn: &Turn<'_>, case: &Case<'_>, attempt: u32) -> Result<Marked, GiveBack> {
        let handling = case.handling(turn);
        let sending = Mark::Sending { attempt, lease: self.lease() };
        let marked = turn.asked("mark", Until::Stop, || self.store.mark(&handling, sending, None)).await;
        if marked.is_err() {
            self.give_back(turn, case, false, Duration::ZERO).await;
        }
        marked
    }

    /// Lets another handling have the request at once, or when its next try is `due`. Should this fail, it is free, and
    /// in doubt if it was being sent, when its lease ends.
    pub(super) async fn give_back(&self, turn: &Turn<'_>, case: &Case<'_>, tried: bool, due: Duration) {
        let back = Mark::GivenBack { tried, due };
        if let Err(error) = self.store.mark(&case.handling(turn), back, None).await {
            events::store_failed("mark", &error, None);
        }
    }

    fn sent(
        &self,
        case: &Case<'_>,
        grant: &Grant,
        attempt: u32,
        accepted: Accepted,
        text: &RenderedSms,
    ) -> Outcome {
        Outcome {
            status: Status::Sent,
            at: self.clock.now(),
            purpose: case.request.purpose.as_str().to_owned(),
            error: None,
            provider: Some(self.provider.name().to_owned()),
            provider_message_id: accepted.message_id,
            attempts: attempt,
            segments: Some(accepted.segments.unwrap_or(text.segments().count)),
            expires_at: Some(grant.expires_at),
            resend_after: Some(seconds_rounded_up(self.policy.limits.cooldown)),
            notes: Notes::default(),
        }
    }

    fn unsent(&self, case: &Case<'_>, status: Status, attempts: u32, error: OutcomeError) -> Outcome {
        let refused = Outcome::refused(status, self.clock.now(), case.request.purpose.as_str(), error);
        let provider = (attempts > 0).then(|| self.provider.name().to_owned());
        Outcome { attempts, provider, ..refused }
    }

    /// The end of a request whose next try, number `attempt`, would come too late to be of use.
    fn expired(&self, case: &Case<'_>, attempt: u32) -> Outcome {
        let status = if attempt > 1 { Status::Failed } else { Status::Rejected };
        self.unsent(case, status, attempt - 1, OutcomeError::of(ErrorCode::Expired))
    }

    /// The end of a request whose last try may or may not have been sent.
    pub(super) fn doubted(&self, case: &Case<'_>, grant: &Grant) -> Outcome {
        self.unsent(case, Status::Unknown, grant.attempt, OutcomeError::of(ErrorCode::InDoubt))
    }

    /// The end of a request that could not be tried this time.
    pub(super) fn failed(&self, case: &Case<'_>, grant: &Grant, error: OutcomeError) -> Outcome {
        self.unsent(case, Status::Failed, grant.attempt - 1, error)
    }
}

/// A fraction of chance: not a secret, so the quick generator will do.
fn jitter() -> f64 {
    fastrand::f64()
}
