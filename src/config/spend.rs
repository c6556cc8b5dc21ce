//! Reads the prices, their currency, and the budgets.

use std::path::Path;
use std::sync::Arc;

use super::reader::Reader;
use super::settings::SpendSettings;
use super::text_file;
use crate::domain::amount::{Amount, Currency};
use crate::domain::budget::Budgets;
use crate::domain::prices::Prices;

const PRICES_FILE: &str = "PRICES_FILE";
const CURRENCY: &str = "SPEND_CURRENCY";
/// More than the most rows have.
const BYTES_MAX: u64 = 1024 * 1024;

impl Reader<'_> {
    pub(super) fn spend(&mut self) -> SpendSettings {
        let file = self.text(PRICES_FILE, "");
        let currency = self.currency();
        let budgets = Budgets {
            per_hour: self.budget("SPEND_PER_HOUR_MAX"),
            per_day: self.budget("SPEND_PER_DAY_MAX"),
        };
        if file.is_empty() && currency != Currency::USD {
            let rule = "must be USD without PRICES_FILE: the prices that otpost estimates are in USD";
            self.error(CURRENCY, rule);
        }
        let is_estimate = file.is_empty();
        // Only a process that sends needs the prices.
        let prices = match is_estimate || !self.needs("SENDER") {
            true => Arc::default(),
            false => Arc::new(self.prices(file.as_ref(), currency)),
        };
        let prices_file = (!is_estimate).then(|| file.into());
        SpendSettings { prices, prices_file, is_estimate, currency, budgets }
    }

    fn currency(&mut self) -> Currency {
        let text = self.text(CURRENCY, Currency::USD.as_str());
        Currency::parse(&text).unwrap_or_else(|| {
            self.error(CURRENCY, Currency::RULE);
            Currency::USD
        })
    }

    fn budget(&mut self, name: &'static str) -> Option<Amount> {
        let text = self.text(name, "");
        if text.is_empty() {
            return None;
        }
        let budget = Amount::parse(&text);
        if budget.is_none() {
            self.error(name, Amount::RULE);
        }
        budget
    }

    fn prices(&mut self, file: &Path, currency: Currency) -> Prices {
        read_prices(file, currency).unwrap_or_else(|fault| {
            self.error(PRICES_FILE, fault);
            Prices::default()
        })
    }
}

/// The fault completes a sentence about the setting.
pub(crate) fn read_prices(file: &Path, currency: Currency) -> Result<Prices, String> {
    let text = text_file::read(file, BYTES_MAX).and_then(text_file::text);
    let text = text.map_err(|fault| format!("names a file that {fault}"))?;
    Prices::parse(&text, currency)
        .map_err(|faults| format!("names a file with faults: {}", faults.join("; ")))
}
