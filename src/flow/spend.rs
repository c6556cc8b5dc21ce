//! Prices of messages: what an admission reserves, and what a message has cost.

use super::context::ValidRequest;
use super::gateway::ChannelGateway;
use super::spend_policy::SpendPolicy;
use crate::domain::amount::Amount;
use crate::domain::budget::{Reservation, Spent};
use crate::domain::channel::Channel;
use crate::domain::outcome::{Outcome, Status};
use crate::domain::routes::ProviderIndex;

impl ChannelGateway {
    /// The price of the message at its longest, at the dearest of its providers. `None` without a budget, and for a test number.
    pub(super) fn reservation(&self, valid: &ValidRequest<'_>) -> Option<Reservation> {
        let SpendPolicy { budgets, .. } = self.policy.spend;
        if !budgets.are_set() || valid.test_code.is_some() {
            return None;
        }
        let names = valid.order.iter().map(|provider| self.providers.get(*provider).name());
        let amount = names.map(|name| self.price(valid, name, None)).max()?;
        let offset = self.policy.spend.offset(self.clock.now());
        Some(Reservation { amount, budgets, offset })
    }

    /// The price of a message that was or may have been sent; if its segments are not known, at its longest.
    pub(super) fn cost(&self, valid: &ValidRequest<'_>, outcome: &Outcome) -> Option<Amount> {
        let is_sent = matches!(outcome.status, Status::Sent | Status::Unknown) && !outcome.history.is_test();
        let only = || self.providers.get(ProviderIndex::ONLY).name();
        is_sent.then(|| self.price(valid, outcome.provider.as_deref().unwrap_or_else(only), outcome.segments))
    }

    /// Counts the price of a message, if it was or may have been sent.
    pub(super) fn count_cost(&self, valid: &ValidRequest<'_>, outcome: &Outcome) {
        if let Some(amount) = self.cost(valid, outcome) {
            self.conversion.spent(&valid.to, amount, outcome);
            self.sample_price(outcome, amount);
        }
    }

    /// For the book. `None` without a budget: a reservation from before then stays as it is.
    pub(super) fn spent(&self, valid: &ValidRequest<'_>, outcome: &Outcome) -> Option<Spent> {
        let amount = self.cost(valid, outcome).filter(|_| self.policy.spend.budgets.are_set())?;
        Some(Spent { amount, offset: self.policy.spend.offset(self.clock.now()) })
    }

    fn price(&self, valid: &ValidRequest<'_>, provider: &str, segments: Option<u32>) -> Amount {
        let price = self.policy.spend.prices.of(provider, &valid.to);
        let segments = segments.or_else(|| {
            let is_ours = self.channel == Channel::Sms && !self.providers.make_codes();
            is_ours.then(|| {
                self.texts.segments_max(valid.request.template.as_deref(), valid.autofill.as_ref())
            })?
        });
        price.amount.times(segments.unwrap_or(1))
    }
}
