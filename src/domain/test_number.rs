//! Test numbers: phone numbers whose code is fixed, for reviews of apps and automatic tests. Nothing is sent to them.
//!
//! The last day of an entry is checked at every use; after it the number is one like any other.

use jiff::civil::Date;
use jiff::tz::Offset;

use super::address::Address;
use super::code::{Code, CodeLength};
use super::phone::PhoneNumber;
use super::time::UnixMillis;

pub const TEST_NUMBERS_MAX: usize = 20;
/// The most days from today to the last day of an entry.
pub const TEST_DAYS_MAX: u64 = 90;
const DAY_MILLIS: u64 = 86_400_000;

/// The entries in the order of the setting. It holds codes, hence no `Debug`.
#[derive(Default)]
pub struct TestNumbers(Vec<TestNumber>);

/// It holds a code, hence no `Debug`.
pub struct TestNumber {
    number: PhoneNumber,
    code: Code,
    /// Days since 1970, in UTC.
    last_day: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validity {
    InForce,
    Expired,
    /// Its last day is more than [`TEST_DAYS_MAX`] days away.
    TooLong,
}

impl TestNumbers {
    /// Parses `+573001234567:482913:2027-02-01,…`. The error names the position of an entry and its rule, never a value.
    pub fn parse(text: &str, length: CodeLength) -> Result<TestNumbers, String> {
        let mut entries: Vec<TestNumber> = Vec::new();
        for (at, part) in text.split(',').map(str::trim).filter(|part| !part.is_empty()).enumerate() {
            let position = at + 1;
            let entry = TestNumber::parse(part, length).map_err(|rule| format!("entry {position} {rule}"))?;
            if let Some(first) = entries.iter().position(|known| known.number.e164() == entry.number.e164()) {
                return Err(format!("entry {position} has the number of entry {}", first + 1));
            }
            entries.push(entry);
            if entries.len() > TEST_NUMBERS_MAX {
                return Err(format!("must have at most {TEST_NUMBERS_MAX} entries"));
            }
        }
        Ok(TestNumbers(entries))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The entry of a recipient, and its position from 1.
    pub fn find(&self, to: &Address) -> Option<(usize, &TestNumber)> {
        let number = to.phone()?;
        let at = self.0.iter().position(|entry| entry.number.e164() == number.e164())?;
        Some((at + 1, &self.0[at]))
    }

    /// The positions of the entries with a validity, from 1.
    pub fn positions(&self, wanted: Validity, now: UnixMillis) -> Vec<usize> {
        let positions = (1..).zip(&self.0).filter(|(_, entry)| entry.validity(now) == wanted);
        positions.map(|(position, _)| position).collect()
    }
}

impl TestNumber {
    fn parse(part: &str, length: CodeLength) -> Result<TestNumber, String> {
        let mut fields = part.split(':').map(str::trim);
        let (Some(number), Some(code), Some(day), None) =
            (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            return Err("must be number:code:last day, such as +573001234567:CODE:2027-02-01".to_owned());
        };
        let unused = "US".parse().expect("a country with a numbering plan");
        let number = Some(number).filter(|number| number.starts_with('+'));
        let number = number.and_then(|number| PhoneNumber::parse(number, unused).ok());
        let number = number.ok_or("must have a phone number in E.164")?;
        let code = Code::parse(code).filter(|code| code.expose().len() == length.get());
        let code =
            code.ok_or_else(|| format!("must have a code of {} digits (OTP_CODE_LENGTH)", length.get()))?;
        let last_day = parse_day(day).ok_or("must have a last day as YYYY-MM-DD")?;
        Ok(TestNumber { number, code, last_day })
    }

    pub fn code(&self) -> &Code {
        &self.code
    }

    pub fn validity(&self, now: UnixMillis) -> Validity {
        match self.last_day.checked_sub(now.0 / DAY_MILLIS) {
            None => Validity::Expired,
            Some(..=TEST_DAYS_MAX) => Validity::InForce,
            Some(_) => Validity::TooLong,
        }
    }
}

/// Days since 1970.
fn parse_day(text: &str) -> Option<u64> {
    let is_plain =
        text.len() == "2027-02-01".len() && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    let date: Date = is_plain.then(|| text.parse().ok())??;
    let seconds = Offset::UTC.to_timestamp(date.at(0, 0, 0, 0)).ok()?.as_second();
    Some(u64::try_from(seconds).ok()? * 1_000 / DAY_MILLIS)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis(1_800_000_000_000); // 2027-01-15T08:00:00Z

    fn parse(text: &str) -> Result<TestNumbers, String> {
        TestNumbers::parse(text, CodeLength::new(6).expect("valid"))
    }

    fn good(text: &str) -> TestNumbers {
        parse(text).unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn a_list_has_numbers_codes_and_last_days() {
        let numbers = good(" +573001234567:482913:2027-02-01 , +57 310 987 6543 : 000111 : 2027-01-15,");
        let address = |text: &str| Address::parse(text, "CO".parse().expect("a country")).expect("valid");
        let (position, entry) = numbers.find(&address("300 123 4567")).expect("an entry");
        assert_eq!((position, entry.code().expose()), (1, "482913"));
        let (position, entry) = numbers.find(&address("+573109876543")).expect("an entry");
        assert_eq!((position, entry.code().expose()), (2, "000111"));
        assert!(numbers.find(&address("+573001234568")).is_none());
        assert!(numbers.find(&address("ana@shop.example")).is_none());
        assert!(good("").find(&address("+573001234567")).is_none());
    }

    #[test]
    fn an_entry_holds_to_the_end_of_its_last_day_and_ninety_days_at_most() {
        for (day, expected) in [
            ("1970-01-01", Validity::Expired),
            ("2027-01-14", Validity::Expired),
            ("2027-01-15", Validity::InForce),
            ("2027-04-15", Validity::InForce),
            ("2027-04-16", Validity::TooLong),
            ("9999-12-30", Validity::TooLong),
        ] {
            let numbers = good(&format!("+573001234567:482913:{day}"));
            assert_eq!(numbers.0[0].validity(NOW), expected, "{day}");
            assert_eq!(numbers.positions(expected, NOW), [1]);
        }
        let today = good("+573001234567:482913:2027-01-15");
        let midnight = UnixMillis((NOW.0 / DAY_MILLIS + 1) * DAY_MILLIS);
        assert_eq!(today.0[0].validity(UnixMillis(midnight.0 - 1)), Validity::InForce);
        assert_eq!(today.0[0].validity(midnight), Validity::Expired);
    }

    #[test]
    fn an_error_names_the_position_and_the_rule_and_no_value() {
        let entry = "+573001234567:482913:2027-02-01";
        for (bad, rule) in [
            ("+573109876543", "must be number:code:last day"),
            ("+573109876543:482914", "must be number:code:last day"),
            ("+573109876543:482914:2027-02-01:x", "must be number:code:last day"),
            ("3109876543:482914:2027-02-01", "must have a phone number in E.164"),
            ("+5731098765431:482914:2027-02-01", "must have a phone number in E.164"),
            ("+573109876543:48291:2027-02-01", "must have a code of 6 digits (OTP_CODE_LENGTH)"),
            ("+573109876543:4829145:2027-02-01", "must have a code of 6 digits (OTP_CODE_LENGTH)"),
            ("+573109876543:48291a:2027-02-01", "must have a code of 6 digits (OTP_CODE_LENGTH)"),
            ("+573109876543:482914:2027-02-30", "must have a last day as YYYY-MM-DD"),
            ("+573109876543:482914:20270201", "must have a last day as YYYY-MM-DD"),
            ("+573109876543:482914:1969-12-31", "must have a last day as YYYY-MM-DD"),
            ("+57 300 123 4567:482914:2027-02-01", "has the number of entry 1"),
        ] {
            let error = parse(&format!("{entry},{bad}")).err().unwrap_or_else(|| panic!("{bad} is taken"));
            assert!(error.starts_with(&format!("entry 2 {rule}")), "{bad}: {error}");
            assert!(!error.contains("4829") && !error.contains("310987"), "{error}");
        }
        let many = |count: usize| {
            let entry = |n: usize| format!("+57300123{:04}:482913:2027-02-01", 4_000 + n);
            (0..count).map(entry).collect::<Vec<_>>().join(",")
        };
        assert!(parse(&many(20)).is_ok());
        assert_eq!(parse(&many(21)).err().as_deref(), Some("must have at most 20 entries"));
    }
}
