//! The prices and the budgets of a process.

use std::sync::Arc;

use crate::domain::amount::Currency;
use crate::domain::budget::{Budgets, UtcOffset};
use crate::domain::prices::Prices;
use crate::domain::time::UnixMillis;
use crate::domain::time_zone::Zone;

#[derive(Clone, Debug)]
pub struct SpendPolicy {
    pub prices: Arc<Prices>,
    pub currency: Currency,
    pub budgets: Budgets,
    /// Hours and days of budgets begin by its clock.
    pub zone: Zone,
}

impl Default for SpendPolicy {
    /// Estimated prices and no budget.
    fn default() -> SpendPolicy {
        let zone = Zone::parse("UTC").expect("the database of time zones is built in");
        let (currency, budgets) = (Currency::USD, Budgets::default());
        SpendPolicy { prices: Arc::default(), currency, budgets, zone }
    }
}

impl SpendPolicy {
    pub(super) fn offset(&self, at: UnixMillis) -> UtcOffset {
        self.zone.utc_offset(at)
    }
}
