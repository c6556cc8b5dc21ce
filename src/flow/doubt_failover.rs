//! The ways on from a doubt without a lookup: a repeat that the provider recognises, or the next provider.

use std::time::Duration;

use super::context::SendContext;
use super::doubt_state::{DoubtAt, DoubtPlace, DoubtState};
use super::gateway::ChannelGateway;
use super::providers::SendingProvider;
use super::reconcile::LOOKUP_WAIT_MAX;
use crate::domain::challenge::TIME_LEFT_MIN;
use crate::domain::failover::doubt_may_fail_over;
use crate::domain::message_match::InDoubtPolicy;
use crate::domain::retry::{Retry, after_failure};
use crate::domain::routes::ProviderIndex;
use crate::domain::send_failure::SendFailure;

impl ChannelGateway {
    /// True if the next provider may send the code now, although nothing shows that it was not sent.
    pub(super) fn may_fail_over(&self, ctx: &SendContext<'_>) -> bool {
        let (rule, doubt) = (self.policy.doubt_failover(), &ctx.state.doubt);
        let in_doubt = doubt.providers();
        let is_shut = in_doubt.iter().all(|provider| self.providers.get(*provider).gate.is_breaker_open());
        doubt_may_fail_over(rule, self.hand_overs_in_doubt(doubt), doubt.call_ended_at.elapsed(), is_shut)
            && !doubt.is_gone()
            && self.gate.closed_by().is_none()
            && self.providers.can_send(
                &self.others(ctx, &in_doubt),
                ctx.valid.recipient_hash(),
                &ctx.state.hand_overs,
            )
    }

    /// Repeats that their provider recognises are one hand-over.
    fn hand_overs_in_doubt(&self, doubt: &DoubtState) -> u32 {
        let recognised = |place: &DoubtPlace| match place.at {
            DoubtAt::Provider(provider) => self.providers.get(provider).provider.repeats_safely(),
            DoubtAt::Gone(_) => false,
        };
        match u32::try_from(doubt.places.len()) {
            Ok(places) if doubt.places.iter().all(recognised) => places,
            _ => doubt.attempts_in_doubt,
        }
    }

    /// The time until another provider may send the code, if it may then and not before.
    pub(super) fn failover_in(&self, ctx: &SendContext<'_>) -> Option<Duration> {
        let (rule, doubt) = (self.policy.doubt_failover(), &ctx.state.doubt);
        if doubt.is_gone()
            || !rule.is_possible(self.hand_overs_in_doubt(doubt))
            || self.others(ctx, &doubt.providers()).is_empty()
        {
            return None;
        }
        let left = rule.after?.saturating_sub(doubt.call_ended_at.elapsed());
        (!left.is_zero()).then_some(left)
    }

    /// The providers of the route that have no doubt.
    fn others(&self, ctx: &SendContext<'_>, in_doubt: &[ProviderIndex]) -> Vec<ProviderIndex> {
        let mut others = ctx.state.hand_overs.left_of(&ctx.valid.order);
        others.retain(|provider| !in_doubt.contains(provider));
        others
    }

    /// The provider that has the only doubt and recognises a repeat, and the wait before it; `None`: the attempt must be looked up.
    pub(super) fn repeat(&self, ctx: &SendContext<'_>) -> Option<(ProviderIndex, Duration)> {
        let provider = ctx.state.doubt.only_provider()?;
        let SendingProvider { provider: adapter, gate, .. } = self.providers.get(provider);
        let may_repeat = self.policy.in_doubt_policy != InDoubtPolicy::NeverResend;
        let is_open = self.gate.closed_by().is_none() && !gate.is_breaker_open();
        if !may_repeat || !adapter.repeats_safely() || !is_open {
            return None;
        }
        let repeatable = SendFailure::NotConnected { detail: String::new() };
        let time_left = ctx.time_left().saturating_sub(TIME_LEFT_MIN);
        let attempts = ctx.state.attempts_made;
        match after_failure(&self.policy.retry, attempts, &repeatable, time_left, fastrand::f64()) {
            Retry::After(wait) => Some((provider, wait.min(LOOKUP_WAIT_MAX))),
            _ => None,
        }
    }
}
