//! Amounts of money, all in one currency.

use std::fmt;
use std::iter::Sum;

const MICROS: u64 = 1_000_000;
const DECIMALS: usize = 6;

/// Millionths of a unit of the currency.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Amount(u64);

impl Amount {
    pub const ZERO: Amount = Amount(0);
    /// A hundred million units. Sums stay at this: it leaves room in the six bytes of the store.
    pub const MAX: Amount = Amount(100_000_000 * MICROS);
    pub const RULE: &'static str =
        "must be an amount from 0 to 100000000 with at most 6 decimals, such as 0.0079";

    /// A larger amount counts as the largest.
    pub const fn from_micros(micros: u64) -> Amount {
        if micros > Amount::MAX.0 { Amount::MAX } else { Amount(micros) }
    }

    pub const fn micros(self) -> u64 {
        self.0
    }

    /// Reads `12`, `0.0079` or `12.50`.
    pub fn parse(text: &str) -> Option<Amount> {
        let (units, decimals) = text.split_once('.').unwrap_or((text, "0"));
        let are_digits = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
        if !(1..=9).contains(&units.len()) || !(1..=DECIMALS).contains(&decimals.len()) {
            return None;
        }
        if !are_digits(units) || !are_digits(decimals) {
            return None;
        }
        let units: u64 = units.parse().ok()?;
        let micros: u64 = format!("{decimals:0<DECIMALS$}").parse().ok()?;
        Some(Amount(units * MICROS + micros)).filter(|amount| *amount <= Amount::MAX)
    }

    pub fn plus(self, other: Amount) -> Amount {
        Amount::from_micros(self.0.saturating_add(other.0))
    }

    /// At least zero.
    pub fn minus(self, other: Amount) -> Amount {
        Amount(self.0.saturating_sub(other.0))
    }

    pub fn times(self, count: u32) -> Amount {
        Amount::from_micros(self.0.saturating_mul(count.into()))
    }

    /// In units, for metrics and shares.
    pub fn as_f64(self) -> f64 {
        let (units, micros) = (self.0 / MICROS, self.0 % MICROS);
        let part = |part: u64| f64::from(u32::try_from(part).unwrap_or(u32::MAX));
        part(units) + part(micros) / part(MICROS)
    }

    /// The share of another amount; 0 if that is zero.
    pub fn share_of(self, whole: Amount) -> f64 {
        if whole == Amount::ZERO { 0.0 } else { self.as_f64() / whole.as_f64() }
    }
}

/// With two decimals, and up to six where they are not zero: `12.50`, `0.0079`.
impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decimals = format!("{:06}", self.0 % MICROS);
        let kept = decimals.trim_end_matches('0').len().max(2);
        f.pad(&format!("{}.{}", self.0 / MICROS, &decimals[..kept]))
    }
}

impl Sum for Amount {
    fn sum<I: Iterator<Item = Amount>>(amounts: I) -> Amount {
        amounts.fold(Amount::ZERO, Amount::plus)
    }
}

/// Text: a number of a program may have fewer digits.
impl serde::Serialize for Amount {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A currency, as three capital letters of ISO 4217.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Currency([u8; 3]);

impl Currency {
    pub const USD: Currency = Currency(*b"USD");
    pub const RULE: &'static str = "must be a currency as three capital letters (ISO 4217), such as USD";

    pub fn parse(text: &str) -> Option<Currency> {
        let letters: [u8; 3] = text.as_bytes().try_into().ok()?;
        letters.iter().all(u8::is_ascii_uppercase).then_some(Currency(letters))
    }

    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("it is ASCII")
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl serde::Serialize for Currency {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_is_read_as_it_is_shown() {
        for (text, micros, shown) in [
            ("0", 0, "0.00"),
            ("12", 12_000_000, "12.00"),
            ("0.0079", 7_900, "0.0079"),
            ("0.5", 500_000, "0.50"),
            ("1.000001", 1_000_001, "1.000001"),
            ("100000000", Amount::MAX.micros(), "100000000.00"),
        ] {
            let amount = Amount::parse(text).unwrap_or_else(|| panic!("{text} is an amount"));
            assert_eq!((amount.micros(), amount.to_string().as_str()), (micros, shown), "{text}");
        }
        for text in ["", ".", "1.", ".5", "-1", "+1", "1,5", "1e3", "0.0000001", "100000000.1", "1 ", "٣"] {
            assert_eq!(Amount::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn sums_have_an_upper_and_a_lower_bound() {
        assert_eq!(Amount::MAX.plus(Amount::MAX), Amount::MAX);
        assert_eq!(Amount::MAX.times(u32::MAX), Amount::MAX);
        assert_eq!(Amount::from_micros(1).minus(Amount::from_micros(2)), Amount::ZERO);
        assert!(Amount::MAX.micros() * 2 < 1 << 48);
    }

    #[test]
    fn a_currency_has_three_capital_letters() {
        assert_eq!(Currency::parse("COP").map(|currency| currency.to_string()).as_deref(), Some("COP"));
        for text in ["", "usd", "US", "USDT", "U$D", "ÑÑ"] {
            assert_eq!(Currency::parse(text), None, "{text:?}");
        }
    }
}
