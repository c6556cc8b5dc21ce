//! Events of spend and its budgets.

use tracing::warn;

use crate::domain::amount::Amount;
use crate::domain::budget::Period;
use crate::domain::channel::Channel;
use crate::domain::phone::Region;
use crate::domain::reached_limit::ReachedLimit;
use crate::telemetry::metrics::{ChannelCountry, METRICS, PeriodLabel, ResultLabel, country_label};
use crate::telemetry::repeats::{About, repeating};

/// The price of a message that was or may have been sent.
pub fn spent(channel: Channel, region: Option<Region>, amount: Amount) {
    let labels = ChannelCountry { channel: channel.as_str(), country: country_label(region) };
    METRICS.spend.spent.get_or_create(&labels).inc_by(amount.as_f64());
}

/// The share of a budget that is reserved or committed.
pub fn budget_read(period: Period, share: f64) {
    METRICS.spend.budget_ratio.get_or_create(&PeriodLabel { period: period.as_str() }).set(share);
}

/// Once for each hour and each day.
pub fn budget_near(period: Period, used: Amount, budget: Amount) {
    let period = period.as_str();
    warn!(period, %used, %budget, "spend is near its budget");
}

/// A new request was refused. Requests in flight are still sent.
pub fn refused_by_budget(limit: ReachedLimit) {
    repeating!(warn, "spend budget refused a request", About::reason(limit.as_str()); limit = limit.as_str(),);
}

/// The provider's answer about the price of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SampleResult {
    Priced { expected: Amount, paid: Amount },
    OtherCurrency,
    NoPrice,
}

pub fn price_sampled(result: SampleResult) {
    let result = match result {
        SampleResult::Priced { expected, paid } => {
            METRICS.spend.sampled_expected.inc_by(expected.as_f64());
            METRICS.spend.sampled_paid.inc_by(paid.as_f64());
            "priced"
        }
        SampleResult::OtherCurrency => "other_currency",
        SampleResult::NoPrice => "no_price",
    };
    METRICS.spend.samples.get_or_create(&ResultLabel { result }).inc();
}
