//! The prices of messages: those of a file, or an estimate.
//!
//! A file has a row on each line, `PROVIDER PREFIX PRICE CURRENCY`. The longest prefix of a number wins, `*` is any. The price is that of a
//! segment of a text message, or of a message without segments.

use std::collections::BTreeMap;

use super::address::Address;
use super::amount::{Amount, Currency};
use super::json::Shape;
use super::phone::PhoneNumber;

const ROWS_MAX: usize = 10_000;
/// As of a provider of a file.
const PROVIDER_LETTERS_MAX: usize = 16;
const PREFIX_DIGITS_MAX: usize = 15;
/// The row of every recipient.
const ANY: &str = "*";

/// Rough prices of a segment in USD, for a few countries; the operator's own prices replace them.
const ESTIMATES: [(&str, u64); 10] = [
    ("+1", 8_000),
    ("+34", 60_000),
    ("+44", 45_000),
    ("+51", 50_000),
    ("+52", 50_000),
    ("+54", 60_000),
    ("+55", 45_000),
    ("+56", 50_000),
    ("+57", 40_000),
    ("+593", 100_000),
];
const OTHER_ESTIMATE: Amount = Amount::from_micros(100_000);
const EMAIL_ESTIMATE: Amount = Amount::from_micros(1_000);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Price {
    pub amount: Amount,
    /// No row of a file.
    pub is_estimate: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prices {
    /// By provider and prefix.
    rows: BTreeMap<String, BTreeMap<String, Amount>>,
    /// The price of a provider without rows; `None` without a file.
    highest: Option<Amount>,
}

impl Prices {
    /// The rows of a file, or every fault: its line, and the rule that its text breaks.
    pub fn parse(text: &str, currency: Currency) -> Result<Prices, Vec<String>> {
        const FAULTS_MAX: usize = 10;
        let (mut prices, mut faults) =
            (Prices { highest: Some(Amount::ZERO), ..Prices::default() }, Vec::new());
        let lines = text.lines().zip(1_u32..).map(|(line, number)| (line.trim(), number));
        let mut rows = lines.filter(|(line, _)| !line.is_empty() && !line.starts_with('#'));
        for (line, number) in rows.by_ref().take(ROWS_MAX) {
            if let Err(fault) = prices.add(line, currency) {
                faults.push(format!("line {number}: {fault}"));
            }
        }
        if rows.next().is_some() {
            faults.push(format!("must have at most {ROWS_MAX} rows"));
        } else if prices.rows.is_empty() && faults.is_empty() {
            faults.push("must have a row".to_owned());
        }
        let without = prices.rows.iter().find(|(_, rows)| !rows.contains_key(ANY));
        if let Some((provider, _)) = without.filter(|_| faults.is_empty()) {
            faults.push(format!("must have a row of {provider} with the prefix *, for all other recipients"));
        }
        faults.truncate(FAULTS_MAX);
        if faults.is_empty() { Ok(prices) } else { Err(faults) }
    }

    fn add(&mut self, line: &str, currency: Currency) -> Result<(), String> {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [provider, prefix, price, of_currency] = fields[..] else {
            let count = fields.len();
            return Err(format!("must have four fields, provider, prefix, price and currency; got {count}"));
        };
        let got = |field: &str, rule: String, value: &str| {
            format!("`{field}` {rule}; got {}", Shape::Text(value.chars().count()))
        };
        let is_word = provider.bytes().all(|byte| byte.is_ascii_lowercase());
        if !is_word || provider.len() > PROVIDER_LETTERS_MAX {
            let rule = format!("must be 1 to {PROVIDER_LETTERS_MAX} lower-case letters");
            return Err(got("provider", rule, provider));
        }
        let digits = prefix.strip_prefix('+').unwrap_or_default();
        let is_prefix = (1..=PREFIX_DIGITS_MAX).contains(&digits.len())
            && digits.bytes().all(|byte| byte.is_ascii_digit())
            && !digits.starts_with('0');
        if prefix != ANY && !is_prefix {
            let rule = "must be + and 1 to 15 digits, or *".to_owned();
            return Err(got("prefix", rule, prefix));
        }
        let amount = Amount::parse(price).ok_or_else(|| got("price", Amount::RULE.to_owned(), price))?;
        if of_currency != currency.as_str() {
            let rule = format!("must be that of SPEND_CURRENCY, {currency}");
            return Err(got("currency", rule, of_currency));
        }
        let rows = self.rows.entry(provider.to_owned()).or_default();
        if rows.insert(prefix.to_owned(), amount).is_some() {
            return Err("`provider` and `prefix` must be together on one line only".to_owned());
        }
        self.highest = self.highest.max(Some(amount));
        Ok(())
    }

    pub fn is_empty(&self) -> bool {
        self.highest.is_none()
    }

    pub fn count(&self) -> usize {
        self.rows.values().map(BTreeMap::len).sum()
    }

    /// Those that have rows.
    pub fn providers(&self) -> impl Iterator<Item = &str> {
        self.rows.keys().map(String::as_str)
    }

    /// The price of a segment, or of a message without segments.
    pub fn of(&self, provider: &str, to: &Address) -> Price {
        let number = to.phone().map_or("", PhoneNumber::e164);
        match (self.rows.get(provider), self.highest) {
            (Some(rows), _) => {
                let mut prefixes = (2..=number.len()).rev().map(|end| &number[..end]).chain([ANY]);
                let row = prefixes.find_map(|prefix| rows.get(prefix));
                Price { amount: *row.expect("each provider has a row for all"), is_estimate: false }
            }
            (None, Some(highest)) => Price { amount: highest, is_estimate: true },
            (None, None) => Price { amount: estimate(number), is_estimate: true },
        }
    }
}

fn estimate(number: &str) -> Amount {
    if number.is_empty() {
        return EMAIL_ESTIMATE;
    }
    let row = ESTIMATES.into_iter().filter(|(prefix, _)| number.starts_with(prefix));
    row.max_by_key(|(prefix, _)| prefix.len()).map_or(OTHER_ESTIMATE, |(_, price)| Amount::from_micros(price))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(address: &str) -> Address {
        Address::parse(address, "CO".parse().expect("a country")).expect("an address")
    }

    fn price(prices: &Prices, provider: &str, address: &str) -> (String, bool) {
        let price = prices.of(provider, &to(address));
        (price.amount.to_string(), price.is_estimate)
    }

    #[test]
    fn the_longest_prefix_has_the_price() {
        let text = "\n# Twilio, by contract\ntwilio  +57     0.04  USD\ntwilio\t+57301\t0.035\tUSD\ntwilio * 0.2 USD\nsmtp * 0 USD\nacme * 0.01 USD\n";
        let prices = Prices::parse(text, Currency::USD).expect("a file");
        assert_eq!(price(&prices, "twilio", "+573001234567"), ("0.04".to_owned(), false));
        assert_eq!(price(&prices, "twilio", "+573011234567"), ("0.035".to_owned(), false));
        assert_eq!(price(&prices, "twilio", "+525512345678"), ("0.20".to_owned(), false));
        assert_eq!(price(&prices, "smtp", "ana@example.com"), ("0.00".to_owned(), false));
        assert_eq!(price(&prices, "acme", "+573001234567"), ("0.01".to_owned(), false));
        assert_eq!(price(&prices, "sendgrid", "ana@example.com"), ("0.20".to_owned(), true), "the highest");
    }

    #[test]
    fn without_a_file_a_price_is_an_estimate() {
        let prices = Prices::default();
        assert_eq!(price(&prices, "twilio", "+573001234567"), ("0.04".to_owned(), true));
        assert_eq!(price(&prices, "twilio", "+593991234567"), ("0.10".to_owned(), true));
        assert_eq!(price(&prices, "twilio", "+818012345678"), ("0.10".to_owned(), true));
        assert_eq!(price(&prices, "smtp", "ana@example.com"), ("0.001".to_owned(), true));
    }

    #[test]
    fn a_fault_names_its_line_its_field_and_the_rule() {
        for (text, fault) in [
            ("", "must have a row"),
            ("twilio +57 0.04", "line 1: must have four fields, provider, prefix, price and currency; got 3"),
            (
                "Acme-1 +57 0.04 USD",
                "line 1: `provider` must be 1 to 16 lower-case letters; got a string of 6 characters",
            ),
            (
                "twilio 57 0.04 USD",
                "line 1: `prefix` must be + and 1 to 15 digits, or *; got a string of 2 characters",
            ),
            (
                "twilio +57 four USD",
                "line 1: `price` must be an amount from 0 to 100000000 with at most 6 decimals, such as 0.0079; got a string of 4 characters",
            ),
            (
                "#\n\ntwilio * 0.04 EUR",
                "line 3: `currency` must be that of SPEND_CURRENCY, USD; got a string of 3 characters",
            ),
            (
                "twilio * 1 USD\ntwilio * 2 USD",
                "line 2: `provider` and `prefix` must be together on one line only",
            ),
            ("twilio +57 1 USD", "must have a row of twilio with the prefix *, for all other recipients"),
        ] {
            assert_eq!(Prices::parse(text, Currency::USD), Err(vec![fault.to_owned()]), "{text:?}");
        }
        let rows: String = (0..=ROWS_MAX).map(|row| format!("twilio +1{row} 1 USD\n")).collect();
        let faults = Prices::parse(&rows, Currency::USD).expect_err("too many");
        assert_eq!(faults, ["must have at most 10000 rows"]);
    }
}
