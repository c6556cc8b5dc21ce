//! Compares prices: of one accepted message in a hundred the provider is asked some minutes later what it cost.

use std::time::Duration;

use tokio::time::Instant;

use super::gateway::ChannelGateway;
use super::price_samples::{Sample, is_sampled};
use crate::domain::amount::Amount;
use crate::domain::outcome::{Outcome, Status};
use crate::domain::spend::Sampled;
use crate::provider::MessagePrice;
use crate::telemetry::events::{self, SampleResult};

/// A provider knows its price some minutes after the message has reached its network.
const ASKED_AFTER: Duration = Duration::from_secs(600);
const ASKED_AGAIN_AFTER: Duration = Duration::from_secs(3_600);
const LOOK_EVERY: Duration = Duration::from_secs(30);

impl ChannelGateway {
    pub(super) fn sample_price(&self, outcome: &Outcome, expected: Amount) {
        let message_id = outcome.provider_message_id.as_deref().filter(|id| is_sampled(id));
        let Some(message_id) = message_id.filter(|_| outcome.status == Status::Sent) else { return };
        // Only these providers can be asked.
        let provider = outcome.provider.as_deref().and_then(|name| self.providers.named(name));
        if let Some(provider) = provider.filter(|_| self.channel.polls_receipts()) {
            let (message_id, due) = (message_id.to_owned(), Instant::now() + ASKED_AFTER);
            self.samples.add(Sample { provider, message_id, expected, due, is_second_time: false });
        }
    }

    /// Until it is dropped.
    pub(super) async fn compare_prices(&self) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            while let Some(sample) = self.samples.next_due() {
                self.compare_price(sample).await;
            }
        }
    }

    async fn compare_price(&self, sample: Sample) {
        let fetched = self.providers.get(sample.provider).provider.fetch(&sample.message_id).await;
        let Some(MessagePrice { amount, currency }) = fetched.ok().and_then(|fetched| fetched.price) else {
            if sample.is_second_time {
                events::price_sampled(SampleResult::NoPrice);
            } else {
                let due = Instant::now() + ASKED_AGAIN_AFTER;
                self.samples.add(Sample { due, is_second_time: true, ..sample });
            }
            return;
        };
        if currency == self.policy.spend.currency {
            self.conversion.sampled(&[(Sampled::Expected, sample.expected), (Sampled::Paid, amount)]);
            events::price_sampled(SampleResult::Priced { expected: sample.expected, paid: amount });
        } else {
            self.conversion.sampled(&[(Sampled::OtherCurrency, Amount::ZERO)]);
            events::price_sampled(SampleResult::OtherCurrency);
        }
    }
}
