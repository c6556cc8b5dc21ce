//! A send in doubt: was it sent? The provider is asked, before anything is sent again.
//!
//! A report of the provider's own settles it. Else its list of messages is looked through: what is found there is ours
//! if no other request has it, and only what was absent twice, when it must have been there, counts as not sent. Then it
//! is sent once more, with the same code, and never a third time. Whoever gets no answer waits, until the deadline says
//! that nobody can know. Where the provider shows no messages only its report can tell, and that is waited for a little.

use std::time::Duration;

use tokio::time::Instant;

use super::Gateway;
use super::admit::ValidRequest;
use super::dispatch::SendState;
use super::worker::{CancelOn, DeliveryContext, RequeueReason};
use crate::domain::code::Code;
use crate::domain::history::HistoryEvent;
use crate::domain::message_match::{ABSENT_APART, InDoubtPolicy, ListedMessage, MessageMatcher};
use crate::domain::time::{UnixMillis, millis};
use crate::provider::{Accepted, LOOKUP_UNSUPPORTED, LookupError, ProviderMessage};
use crate::store::{Grant, Progress, ProgressResult};
use crate::telemetry::events;
use crate::text::Rendered;

/// The wait between two looks: short at first, as a message that was made is soon to be seen.
const LOOK_AGAIN_FIRST: Duration = Duration::from_secs(1);
const LOOK_AGAIN_MAX: Duration = Duration::from_secs(10);
/// A doubt is looked at again this often at least, so that it lives on while its handling does.
const STEP_MAX: Duration = Duration::from_secs(15);
/// Tries that may end in doubt before nothing is sent any more.
const DOUBTS_MAX: u32 = 2;

/// What is not known of a request's tries.
pub(super) struct DoubtState {
    /// The last try is in doubt.
    pub(super) is_open: bool,
    /// Tries so far that ever were.
    pub(super) count: u32,
    /// When the first of them can have been made, by our clock.
    from: UnixMillis,
    /// When the last of them was over for sure.
    over: Instant,
    /// Messages that turned out to be other requests'.
    others: Vec<String>,
}

impl DoubtState {
    /// One more try of which nobody knows: begun then, over for sure at that moment.
    pub(super) fn add(&mut self, began: UnixMillis, over: Instant) {
        if self.count == 0 {
            self.from = began;
        }
        (self.is_open, self.count, self.over) = (true, self.count + 1, over);
    }

    /// The message that was found is another request's.
    pub(super) fn rule_out(&mut self, message_id: String) {
        self.others.push(message_id);
    }
}

/// What came of looking.
pub(super) enum Reconciliation {
    /// It was sent.
    Sent {
        accepted: Accepted,
        /// By looking, so that another request could have found the same.
        found: bool,
    },
    /// It was not.
    NotSent,
    /// Nobody can say in time.
    Unknown,
}

impl Gateway {
    /// What earlier handlings left in doubt. If the store has forgotten them, only the time of the request is known.
    pub(super) fn doubt_left(
        &self,
        case: &ValidRequest<'_>,
        grant: &Grant,
        granted: Instant,
        is_open: bool,
    ) -> DoubtState {
        let longest_ago = UnixMillis(grant.now.0.saturating_sub(millis(self.policy.code_life)));
        let (from, started) = match (is_open, grant.attempts_in_doubt) {
            (true, 0) => (case.request.requested_at.map_or(longest_ago, |at| at.max(longest_ago)), grant.now),
            (true, 1) => (grant.attempt_started_at, grant.attempt_started_at),
            (_, _) => (grant.admitted_at, grant.attempt_started_at),
        };
        let from_ago = millis(grant.now.since(from));
        DoubtState {
            is_open,
            count: grant.attempts_in_doubt.max(u32::from(is_open)),
            from: UnixMillis(self.clock.now().0.saturating_sub(from_ago)),
            over: granted + started.plus(self.lease()).since(grant.now),
            others: Vec::new(),
        }
    }

    /// Finds out whether a message was sent.
    pub(super) async fn reconcile(
        &self,
        turn: &DeliveryContext<'_>,
        case: &ValidRequest<'_>,
        sending: &mut SendState,
        text: &Rendered,
    ) -> Result<Reconciliation, RequeueReason> {
        let may_resend = sending.doubt.count < DOUBTS_MAX;
        let report_until = Instant::now() + self.policy.doubt_report_wait;
        let mut shows = true;
        let mut absent_since: Option<Instant> = None;
        let mut look_again = LOOK_AGAIN_FIRST;
        loop {
            match self.mark_doubt(turn, case, sending).await? {
                ProgressResult::AlreadySent(message_id) if !sending.doubt.others.contains(&message_id) => {
                    events::in_doubt_resolved(case.request.id.as_str(), "reported");
                    let accepted =
                        Accepted { message_id: Some(message_id), segments: None, verification: None };
                    return Ok(Reconciliation::Sent { accepted, found: false });
                }
                ProgressResult::NotOwner => return Err(RequeueReason::TakenOver),
                ProgressResult::Applied
                | ProgressResult::AlreadySent(_)
                | ProgressResult::ChallengeReplaced => {}
            }
            if self.policy.in_doubt == InDoubtPolicy::Resend && may_resend {
                return Ok(Reconciliation::NotSent);
            }
            if sending.time_left().is_zero() {
                events::in_doubt_resolved(case.request.id.as_str(), "unknown");
                return Ok(Reconciliation::Unknown);
            }
            // While the provider fails everybody it is left alone.
            let reachable = self.rest(turn, case, sending, STEP_MAX, self.gate.reachable()).await?;
            if reachable.is_none() {
                continue;
            }
            let begun = Instant::now();
            let seen = if shows { self.look_up(case, sending, text).await } else { Err(LOOKUP_UNSUPPORTED) };
            let wait = match seen {
                Ok(Some(found)) => {
                    let accepted = Accepted {
                        message_id: Some(found.message_id),
                        segments: found.segments,
                        verification: found.verification,
                    };
                    self.note_look(sending, "found");
                    events::in_doubt_resolved(case.request.id.as_str(), "found");
                    return Ok(Reconciliation::Sent { accepted, found: true });
                }
                Ok(None) if begun < sending.doubt.over => {
                    let wait = look_again.min(sending.doubt.over - begun);
                    look_again = (look_again * 2).min(LOOK_AGAIN_MAX);
                    wait
                }
                Ok(None) => {
                    self.note_look(sending, "absent");
                    match absent_since {
                        Some(first) if begun >= first + ABSENT_APART => {
                            let resend = may_resend && self.policy.in_doubt == InDoubtPolicy::Reconcile;
                            let word = if resend { "absent" } else { "unknown" };
                            events::in_doubt_resolved(case.request.id.as_str(), word);
                            return Ok(if resend {
                                Reconciliation::NotSent
                            } else {
                                Reconciliation::Unknown
                            });
                        }
                        _ => *absent_since.get_or_insert(begun) + ABSENT_APART - begun,
                    }
                }
                Err(LookupError::Unanswered(_)) => {
                    self.note_look(sending, "unanswered");
                    look_again = (look_again * 2).min(LOOK_AGAIN_MAX);
                    look_again
                }
                Err(LookupError::Refused { .. } | LookupError::NotFound) => {
                    if shows {
                        self.note_look(sending, "refused");
                    }
                    shows = false;
                    if begun >= report_until {
                        events::in_doubt_resolved(case.request.id.as_str(), "unknown");
                        return Ok(Reconciliation::Unknown);
                    }
                    let wait = look_again.min(report_until - begun);
                    look_again = (look_again * 2).min(LOOK_AGAIN_MAX);
                    wait
                }
            };
            self.rest(turn, case, sending, wait, std::future::pending::<()>()).await?;
        }
    }

    /// Looks through the provider's messages once.
    async fn look_up(
        &self,
        case: &ValidRequest<'_>,
        sending: &SendState,
        text: &Rendered,
    ) -> Result<Option<ProviderMessage>, LookupError> {
        let doubt = &sending.doubt;
        let until_over = doubt.over.saturating_duration_since(Instant::now());
        let since_over = Instant::now().saturating_duration_since(doubt.over);
        let now = self.clock.now().plus(until_over);
        let wanted = MessageMatcher {
            from: doubt.from,
            to: UnixMillis(now.0.saturating_sub(millis(since_over))),
            text: text.expose(),
            code: sending.code.as_ref().map_or("", Code::expose),
        };
        let fence = self.policy.provider_timeout + Duration::from_secs(2);
        let asked = tokio::time::timeout(fence, self.provider.find(&case.to, wanted.earliest())).await;
        let answer = asked.unwrap_or_else(|_| Err(LookupError::Unanswered("no answer in time".to_owned())));
        events::message_lookup(self.provider.name(), case.request.id.as_str(), answer.as_ref().err());
        let ours = |seen: &ProviderMessage| {
            !doubt.others.contains(&seen.message_id)
                && wanted.matches(&ListedMessage { created: seen.created, text: seen.text.as_deref() })
        };
        Ok(answer?.into_iter().filter(ours).min_by_key(|seen| seen.created))
    }

    async fn mark_doubt(
        &self,
        turn: &DeliveryContext<'_>,
        case: &ValidRequest<'_>,
        sending: &mut SendState,
    ) -> Result<ProgressResult, RequeueReason> {
        let handling = case.handling(turn);
        let mark = Progress::InDoubt(STEP_MAX + self.lease() + LOOK_AGAIN_MAX);
        let (made, notes) = (Some(sending.attempts_made), Some(&sending.notes));
        let marked = turn
            .retry_store("mark", CancelOn::Shutdown, || {
                self.store.update_progress(&handling, made, mark, notes)
            })
            .await;
        if let Err(reason) = marked {
            self.give_back_noted(turn, case, sending, Duration::ZERO, reason).await;
        }
        marked
    }

    /// Waits in doubt; a stop leaves the doubt to another handling.
    async fn rest<T>(
        &self,
        turn: &DeliveryContext<'_>,
        case: &ValidRequest<'_>,
        sending: &mut SendState,
        at_most: Duration,
        what: impl Future<Output = T>,
    ) -> Result<Option<T>, RequeueReason> {
        let at_most = at_most.min(sending.time_left());
        let waited = turn.wait_for(what, at_most, CancelOn::Shutdown).await;
        if let Err(reason) = waited {
            self.give_back_noted(turn, case, sending, Duration::ZERO, reason).await;
        }
        waited
    }

    fn note_look(&self, sending: &mut SendState, answer: &str) {
        sending.notes.add(self.clock.now(), HistoryEvent::LookedUp(answer.to_owned()));
    }
}
