//! Metrics of spend and its budgets.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::labels::{ChannelCountry, PeriodLabel, ResultLabel};
use super::words;
use crate::domain::budget::Period;

#[derive(Default)]
pub(in crate::telemetry) struct SpendMetrics {
    pub(in crate::telemetry) spent: Family<ChannelCountry, Counter<f64, AtomicU64>>,
    pub(in crate::telemetry) budget_ratio: Family<PeriodLabel, Gauge<f64, AtomicU64>>,
    pub(in crate::telemetry) samples: Family<ResultLabel, Counter>,
    pub(in crate::telemetry) sampled_expected: Counter<f64, AtomicU64>,
    pub(in crate::telemetry) sampled_paid: Counter<f64, AtomicU64>,
}

impl SpendMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        let spent = "Prices of messages that were or may have been sent, in units of the currency";
        registry.register("spend", spent, self.spent.clone());
        let ratio = "Share of a budget that is reserved or committed";
        registry.register("spend_budget_ratio", ratio, self.budget_ratio.clone());
        let samples = "Messages whose price the provider was asked for, by result";
        registry.register("spend_samples", samples, self.samples.clone());
        let expected = "Of those with a price, the amounts by our prices";
        registry.register("spend_sampled_expected", expected, self.sampled_expected.clone());
        let paid = "Of those, the amounts by the provider";
        registry.register("spend_sampled_paid", paid, self.sampled_paid.clone());
    }

    pub(super) fn create_series(&self) {
        for period in Period::ALL.map(Period::as_str) {
            drop(self.budget_ratio.get_or_create(&PeriodLabel { period }));
        }
        for result in words::SAMPLES {
            drop(self.samples.get_or_create(&ResultLabel { result }));
        }
    }
}
