//! The way on from a doubt that no lookup settles: the next provider.

use std::time::Duration;

use super::context::SendContext;
use super::gateway::ChannelGateway;
use crate::domain::failover::doubt_may_fail_over;
use crate::domain::routes::ProviderIndex;

impl ChannelGateway {
    /// True if the next provider may send the code now, although nothing shows that it was not sent.
    pub(super) fn may_fail_over(&self, ctx: &SendContext<'_>) -> bool {
        let (rule, doubt) = (self.policy.doubt_failover(), &ctx.state.doubt);
        let in_doubt = doubt.providers();
        let is_shut = in_doubt.iter().all(|provider| self.providers.get(*provider).gate.is_breaker_open());
        doubt_may_fail_over(rule, doubt.attempts_in_doubt, doubt.call_ended_at.elapsed(), is_shut)
            && !doubt.is_gone()
            && self.gate.closed_by().is_none()
            && self.providers.can_send(
                &self.others(ctx, &in_doubt),
                ctx.valid.recipient_hash(),
                &ctx.state.hand_overs,
            )
    }

    /// The time until another provider may send the code, if it may then and not before.
    pub(super) fn failover_in(&self, ctx: &SendContext<'_>) -> Option<Duration> {
        let (rule, doubt) = (self.policy.doubt_failover(), &ctx.state.doubt);
        if doubt.is_gone()
            || !rule.is_possible(doubt.attempts_in_doubt)
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
}
