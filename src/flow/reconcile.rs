//! Finds out whether an attempt in doubt was sent, before anything is sent again.
//!
//! - A receipt from the provider decides at once.
//! - A lookup reads the provider's list. Other requests to this recipient may have n messages whose ids they do not know.
//!   If more than n unclaimed messages match, at least one of them is ours.
//! - A message counts as not sent after two lookups, [`ABSENT_APART`] from each other, that began when the attempt had
//!   certainly ended. The first may be ambiguous, the second must find none. Then it is sent once more, with the same code.
//! - If that attempt is in doubt as well and not found, or a match may be another request's, nothing more is sent.
//! - Without an answer the lookups go on until the deadline. A provider that lists no messages can decide only by a
//!   receipt, within [`NewProvider::receipt_wait`].
//! - Each provider that has a doubt is asked. While all of them are shut, the next provider of the route gets the same code once,
//!   [`Policy::doubt_failover_after`] after the call: this can text twice.
//!
//! `IN_DOUBT_POLICY` can change this: send once more without a lookup, or never send again.
//!
//! [`NewProvider::receipt_wait`]: super::providers::NewProvider::receipt_wait
//! [`Policy::doubt_failover_after`]: super::gateway::Policy::doubt_failover_after

use std::time::Duration;

use tokio::time::Instant;

use super::context::{CancelOn, SendContext, StopReason, ValidRequest};
use super::doubt_state::{DoubtAt, DoubtPlace, DoubtState};
use super::gateway::ChannelGateway;
use crate::domain::code::Code;
use crate::domain::failover::ATTEMPTS_IN_DOUBT_MAX;
use crate::domain::history::HistoryEvent;
use crate::domain::message_match::{ABSENT_APART, InDoubtPolicy, MessageMatcher};
use crate::domain::routes::ProviderIndex;
use crate::domain::time::{UnixMillis, millis};
use crate::provider::{Accepted, LOOKUP_UNSUPPORTED, LookupError, ProviderMessage};
use crate::store::claim::LISTED_MAX;
use crate::store::{ClaimAnswer, ClaimInput, Grant, ProgressAnswer};
use crate::telemetry::events;
use crate::text::Rendered;

/// Doubles up to [`LOOKUP_WAIT_MAX`]: most messages are listed soon.
const LOOKUP_WAIT_FIRST: Duration = Duration::from_secs(1);
const LOOKUP_WAIT_MAX: Duration = Duration::from_secs(10);
/// After this wait for the breaker the lease is renewed.
const BREAKER_WAIT_MAX: Duration = Duration::from_secs(15);
/// The wait for a receipt from a provider that the settings have no more.
const GONE_RECEIPT_WAIT: Duration = Duration::from_secs(20);

/// The next provider is asked only while the circuit breaker is open of the one with the doubt: it may be half-open when its time is over.
const FAILOVER_SLACK: Duration = Duration::from_secs(30);

pub(super) enum Reconciliation {
    Sent {
        accepted: Accepted,
        /// The name; `None` if it is not known which one has the message.
        provider: Option<String>,
        found_by_lookup: bool,
    },
    /// Two lookups at each provider did not find the message, or the policy needs none.
    MayResend,
    /// No lookup is answered: the next provider may send the code.
    MayFailOver,
    Unknown,
}

impl ChannelGateway {
    /// The attempts that earlier handlers left in doubt.
    pub(super) fn inherited_doubt(
        &self,
        valid: &ValidRequest<'_>,
        grant: &Grant,
        granted_at: Instant,
        is_in_doubt: bool,
    ) -> DoubtState {
        let earliest = UnixMillis(grant.now.0.saturating_sub(millis(self.policy.code_life)));
        let (first_began, last_began) = match (is_in_doubt, grant.attempts_in_doubt) {
            // The record was lost: an attempt began after `requested_at`, and less than a code's life ago.
            (true, 0) => {
                (valid.request.requested_at.map_or(earliest, |requested| requested.max(earliest)), grant.now)
            }
            // The last attempt is the only one in doubt.
            (true, 1) => (grant.attempt_started_at, grant.attempt_started_at),
            // Several are in doubt, or the last one is not. The start of the first is not recorded: the admission or later.
            (_, _) => (grant.admitted_at, grant.attempt_started_at),
        };
        let age = millis(grant.now.since(first_began));
        let last_ended = last_began.plus(self.policy.lease_duration());
        let certainly_ended_at = granted_at + last_ended.since(grant.now);
        let ended_for = grant.now.since(last_ended);
        DoubtState {
            is_in_doubt,
            attempts_in_doubt: grant.attempts_in_doubt.max(u32::from(is_in_doubt)),
            began_no_earlier_than: UnixMillis(self.clock.now().0.saturating_sub(age)),
            certainly_ended_at,
            call_ended_at: certainly_ended_at.checked_sub(ended_for).unwrap_or(certainly_ended_at),
            places: DoubtState::inherited_places(grant, is_in_doubt, &self.providers),
        }
    }

    pub(super) async fn reconcile(
        &self,
        ctx: &mut SendContext<'_>,
        text: &Rendered,
    ) -> Result<Reconciliation, StopReason> {
        let may_resend = ctx.state.doubt.attempts_in_doubt < ATTEMPTS_IN_DOUBT_MAX;
        let mut lookups = self.lookups(ctx);
        loop {
            if let Some(message_id) = self.record_doubt_and_read_receipt(ctx).await? {
                events::in_doubt_resolved(ctx.request_id(), "reported");
                let provider = self.provider_of_receipt(ctx, &message_id).await;
                let accepted = accepted_by_receipt(message_id);
                return Ok(Reconciliation::Sent { accepted, provider, found_by_lookup: false });
            }
            if self.policy.in_doubt_policy == InDoubtPolicy::Resend && may_resend {
                return Ok(Reconciliation::MayResend);
            }
            if ctx.time_left().is_zero() {
                events::in_doubt_resolved(ctx.request_id(), "unknown");
                return Ok(Reconciliation::Unknown);
            }
            if self.may_fail_over(ctx) {
                return Ok(Reconciliation::MayFailOver);
            }
            if !self.wait_until_reachable(ctx, &lookups).await? {
                continue;
            }
            let mut wait = None;
            for lookups in &mut lookups {
                match self.look_up_once(ctx, text, lookups).await? {
                    Some(AfterLookup::Found(accepted)) => {
                        events::in_doubt_resolved(ctx.request_id(), "found");
                        let provider = Some(self.name_of(&lookups.at));
                        return Ok(Reconciliation::Sent { accepted, provider, found_by_lookup: true });
                    }
                    Some(AfterLookup::Ended(end)) => lookups.end = Some(end),
                    Some(AfterLookup::Again(again)) => {
                        wait = Some(wait.map_or(again, |wait: Duration| wait.min(again)))
                    }
                    None => {}
                }
            }
            if lookups.iter().all(|lookups| lookups.end.is_some()) {
                let all_absent = lookups.iter().all(|lookups| lookups.end == Some(LookupEnd::Absent));
                if all_absent && may_resend && self.policy.in_doubt_policy == InDoubtPolicy::Reconcile {
                    events::in_doubt_resolved(ctx.request_id(), "absent");
                    return Ok(Reconciliation::MayResend);
                }
                events::in_doubt_resolved(ctx.request_id(), "unknown");
                return Ok(Reconciliation::Unknown);
            }
            if let Some(wait) = wait {
                let wait = self.failover_in(ctx).map_or(wait, |left| wait.min(left));
                self.wait_in_doubt(ctx, wait, std::future::pending::<()>()).await?;
            }
        }
    }

    /// One for each provider that has or had a doubt.
    fn lookups(&self, ctx: &SendContext<'_>) -> Vec<Lookups> {
        let failover_by = self.failover_in(ctx).map_or(Duration::ZERO, |left| left + FAILOVER_SLACK);
        let lookups = |DoubtPlace { at, is_settled }: &DoubtPlace| {
            let receipt_wait = match at {
                DoubtAt::Provider(provider) => self.providers.get(*provider).receipt_wait,
                DoubtAt::Gone(_) => GONE_RECEIPT_WAIT,
            };
            let end = is_settled.then_some(LookupEnd::Absent);
            let receipt_until = Instant::now() + receipt_wait.max(failover_by);
            Lookups { end, ..Lookups::new(at.clone(), receipt_until) }
        };
        ctx.state.doubt.places.iter().map(lookups).collect()
    }

    /// False if no provider that is still to be asked can be reached.
    async fn wait_until_reachable(
        &self,
        ctx: &mut SendContext<'_>,
        lookups: &[Lookups],
    ) -> Result<bool, StopReason> {
        let mut providers = Vec::new();
        for lookups in lookups.iter().filter(|lookups| lookups.end.is_none()) {
            match lookups.at {
                DoubtAt::Provider(provider) => providers.push(provider),
                DoubtAt::Gone(_) => return Ok(true),
            }
        }
        let wait_max = self.failover_in(ctx).map_or(BREAKER_WAIT_MAX, |left| BREAKER_WAIT_MAX.min(left));
        let _wait = match self.begin_route_wait(self.providers.closed_by(&providers)) {
            Ok(wait) => wait,
            Err(reason) => {
                self.record_requeue(ctx, Duration::ZERO, reason).await;
                return Err(reason);
            }
        };
        let reachable = self.providers.wait_until_one_is_reachable(&providers);
        Ok(self.wait_in_doubt(ctx, wait_max, reachable).await?.is_some())
    }

    /// `None` without a lookup: its circuit breaker is open, or its lookups have ended.
    async fn look_up_once(
        &self,
        ctx: &mut SendContext<'_>,
        text: &Rendered,
        lookups: &mut Lookups,
    ) -> Result<Option<AfterLookup>, StopReason> {
        let provider = match lookups.at {
            _ if lookups.end.is_some() => return Ok(None),
            DoubtAt::Provider(provider) if self.providers.get(provider).gate.is_breaker_open() => {
                return Ok(None);
            }
            DoubtAt::Provider(provider) => Some(provider),
            DoubtAt::Gone(_) => None,
        };
        let began = Instant::now();
        let answer = match provider.filter(|_| lookups.supported) {
            Some(provider) => self.look_up(ctx, text, provider).await,
            None => Err(LOOKUP_UNSUPPORTED),
        };
        let answer = match answer {
            Ok(matches) => Ok(self.claim(ctx, matches).await?),
            Err(error) => Err(error),
        };
        let ended_at = ctx.state.doubt.certainly_ended_at;
        if let Some(word) = lookups.history_word(began, ended_at, &answer) {
            ctx.state.history.add(self.clock.now(), HistoryEvent::LookedUp(word.to_owned()));
        }
        Ok(Some(lookups.next(began, ended_at, answer)))
    }

    fn name_of(&self, at: &DoubtAt) -> String {
        match at {
            DoubtAt::Provider(provider) => self.providers.get(*provider).name().to_owned(),
            DoubtAt::Gone(name) => name.clone(),
        }
    }

    /// The provider of a message that a receipt reports: of several that may have it, the one that knows it.
    pub(super) async fn provider_of_receipt(
        &self,
        ctx: &SendContext<'_>,
        message_id: &str,
    ) -> Option<String> {
        let in_doubt = ctx.state.doubt.providers();
        for provider in in_doubt.iter().filter(|_| in_doubt.len() > 1) {
            let provider = &self.providers.get(*provider).provider;
            let fetched = tokio::time::timeout(self.policy.provider_call_max(), provider.fetch(message_id));
            if matches!(fetched.await, Ok(Ok(_))) {
                return Some(provider.name().to_owned());
            }
        }
        self.last_in_doubt(ctx)
    }

    /// The last provider that may have the message.
    pub(super) fn last_in_doubt(&self, ctx: &SendContext<'_>) -> Option<String> {
        ctx.state.doubt.places.last().map(|place| self.name_of(&place.at))
    }

    /// Renews the lease, too. Returns the message that a receipt has reported for the request.
    async fn record_doubt_and_read_receipt(
        &self,
        ctx: &mut SendContext<'_>,
    ) -> Result<Option<String>, StopReason> {
        let lease_duration = BREAKER_WAIT_MAX + self.policy.lease_duration() + LOOKUP_WAIT_MAX;
        match self.record_in_doubt(ctx, lease_duration).await? {
            ProgressAnswer::AlreadySent(id) => Ok(Some(id)),
            ProgressAnswer::LeaseNotHeld => Err(StopReason::LeaseLost),
            ProgressAnswer::Applied | ProgressAnswer::ChallengeUsedOrReplaced => Ok(None),
        }
    }

    /// Returns the messages that match, oldest first.
    async fn look_up(
        &self,
        ctx: &SendContext<'_>,
        text: &Rendered,
        provider: ProviderIndex,
    ) -> Result<Vec<ProviderMessage>, LookupError> {
        let doubt = &ctx.state.doubt;
        // The end in wall time. It may be in the future.
        let until_end = doubt.certainly_ended_at.saturating_duration_since(Instant::now());
        let since_end = Instant::now().saturating_duration_since(doubt.certainly_ended_at);
        let ended_at = UnixMillis(self.clock.now().plus(until_end).0.saturating_sub(millis(since_end)));
        let matcher = MessageMatcher {
            created_from: doubt.began_no_earlier_than,
            created_until: ended_at,
            text: text.expose(),
            code: ctx.state.code.as_ref().map_or("", Code::expose),
        };
        let provider = &self.providers.get(provider).provider;
        let call = provider.find(&ctx.valid.to, matcher.list_since());
        let answer = tokio::time::timeout(self.policy.provider_call_max(), call).await;
        let answer = answer.unwrap_or_else(|_| Err(LookupError::Unanswered("no answer in time".to_owned())));
        events::message_lookup(provider.name(), ctx.request_id(), answer.as_ref().err());
        let mut matches = answer?;
        matches.retain(|message| matcher.matches(message.created, message.text.as_deref()));
        matches.sort_by_key(|message| message.created);
        // Dropping the oldest is safe: a shorter list claims less, and ours are the newest.
        matches.drain(..matches.len().saturating_sub(LISTED_MAX));
        Ok(matches)
    }

    async fn claim(
        &self,
        ctx: &mut SendContext<'_>,
        mut matches: Vec<ProviderMessage>,
    ) -> Result<LookupResult, StopReason> {
        if matches.is_empty() {
            return Ok(LookupResult::Absent);
        }
        let answer = {
            let listed: Vec<&str> = matches.iter().map(|message| message.message_id.as_str()).collect();
            let a_text_is_missing = matches.iter().any(|message| message.text.is_none());
            let claim = ClaimInput { lease: ctx.lease(), listed: &listed, a_text_is_missing };
            let call = || self.store.claim_message(&claim);
            ctx.handler.retry_store("claim", CancelOn::AnyCause, call).await
        };
        match answer {
            Ok(ClaimAnswer::Claimed(id)) => {
                matches.retain(|message| message.message_id == id);
                Ok(matches
                    .pop()
                    .map_or(LookupResult::Absent, |message| LookupResult::Found(accepted_by_lookup(message))))
            }
            Ok(ClaimAnswer::SentUnnamed) => {
                let newest = matches.pop().map(accepted_by_lookup).expect("there are matches");
                Ok(LookupResult::Found(Accepted { message_id: None, ..newest }))
            }
            Ok(ClaimAnswer::AllClaimed) => Ok(LookupResult::Absent),
            Ok(ClaimAnswer::Ambiguous) => Ok(LookupResult::Ambiguous),
            Ok(ClaimAnswer::LeaseNotHeld) => Err(StopReason::LeaseLost),
            Err(reason) => {
                self.record_requeue(ctx, Duration::ZERO, reason).await;
                Err(reason)
            }
        }
    }

    /// If the wait is cancelled, another handler reconciles.
    async fn wait_in_doubt<T>(
        &self,
        ctx: &mut SendContext<'_>,
        wait_max: Duration,
        future: impl Future<Output = T>,
    ) -> Result<Option<T>, StopReason> {
        let wait_max = wait_max.min(ctx.time_left());
        let waited = ctx.handler.wait_for(future, wait_max, CancelOn::AnyCause).await;
        if let Err(reason) = waited {
            self.record_requeue(ctx, Duration::ZERO, reason).await;
        }
        waited
    }
}

pub(super) fn accepted_by_receipt(message_id: String) -> Accepted {
    Accepted { message_id: Some(message_id), segments: None, verification_sid: None }
}

fn accepted_by_lookup(found: ProviderMessage) -> Accepted {
    let ProviderMessage { message_id, segments, verification_sid, .. } = found;
    Accepted { message_id: Some(message_id), segments, verification_sid }
}

enum LookupResult {
    Found(Accepted),
    /// The matches may all be those of other requests.
    Ambiguous,
    Absent,
}

/// The lookups at one provider.
struct Lookups {
    at: DoubtAt,
    /// Their result, once they have ended.
    end: Option<LookupEnd>,
    /// False once the provider has refused to list messages.
    supported: bool,
    /// Without lookups a receipt must come before this moment.
    receipt_until: Instant,
    /// When the first lookup began that did not find our message, of those after the certain end of the attempt. An ambiguous
    /// one counts: if a later one finds nothing, its matches belonged to other requests.
    first_miss_at: Option<Instant>,
    wait: Duration,
}

enum AfterLookup {
    Found(Accepted),
    Ended(LookupEnd),
    Again(Duration),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum LookupEnd {
    Absent,
    /// Further lookups would not decide.
    Undecided,
}

impl Lookups {
    fn new(at: DoubtAt, receipt_until: Instant) -> Lookups {
        let (supported, wait) = (true, LOOKUP_WAIT_FIRST);
        Lookups { at, end: None, supported, receipt_until, first_miss_at: None, wait }
    }

    /// `None` for a lookup that came too early to prove anything.
    fn history_word(
        &self,
        began: Instant,
        ended_at: Instant,
        answer: &Result<LookupResult, LookupError>,
    ) -> Option<&'static str> {
        match answer {
            Ok(LookupResult::Found(_)) => Some("found"),
            Ok(LookupResult::Ambiguous) => (began >= ended_at).then_some("ambiguous"),
            Ok(LookupResult::Absent) => (began >= ended_at).then_some("absent"),
            Err(LookupError::Unanswered(_)) => Some("unanswered"),
            Err(LookupError::Refused { .. } | LookupError::NotFound) => self.supported.then_some("refused"),
        }
    }

    fn next(
        &mut self,
        began: Instant,
        ended_at: Instant,
        answer: Result<LookupResult, LookupError>,
    ) -> AfterLookup {
        match answer {
            Ok(LookupResult::Found(found)) => AfterLookup::Found(found),
            Ok(_) if began < ended_at => AfterLookup::Again(self.take_wait().min(ended_at - began)),
            Ok(result) => match (self.first_miss_at, result) {
                (Some(first), LookupResult::Ambiguous) if began >= first + ABSENT_APART => {
                    AfterLookup::Ended(LookupEnd::Undecided)
                }
                (Some(first), _) if began >= first + ABSENT_APART => AfterLookup::Ended(LookupEnd::Absent),
                _ => AfterLookup::Again(*self.first_miss_at.get_or_insert(began) + ABSENT_APART - began),
            },
            Err(LookupError::Unanswered(_)) => {
                // The doubled wait at once: a provider that does not answer is asked less often.
                self.take_wait();
                AfterLookup::Again(self.wait)
            }
            Err(LookupError::Refused { .. } | LookupError::NotFound) => {
                self.supported = false;
                if began >= self.receipt_until {
                    return AfterLookup::Ended(LookupEnd::Undecided);
                }
                AfterLookup::Again(self.take_wait().min(self.receipt_until - began))
            }
        }
    }

    fn take_wait(&mut self) -> Duration {
        let wait = self.wait;
        self.wait = (wait * 2).min(LOOKUP_WAIT_MAX);
        wait
    }
}
