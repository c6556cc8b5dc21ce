//! Reads the test numbers. Whether one has expired is asked where it is used.

use std::sync::Arc;

use super::Settings;
use super::reader::Reader;
use crate::domain::code::CodeLength;
use crate::domain::test_number::TestNumbers;

pub(super) const TEST_NUMBERS: &str = "OTP_TEST_NUMBERS";
/// A code is the same for up to 90 days, so guesses of all days add up.
const CODE_LENGTH_MIN: usize = 6;

impl Reader<'_> {
    /// None in a process that sends nothing.
    pub(super) fn test_numbers(&mut self, length: CodeLength) -> Arc<TestNumbers> {
        let text = self.secret(TEST_NUMBERS).filter(|_| self.needs("SENDER"));
        match TestNumbers::parse(text.as_deref().unwrap_or_default(), length) {
            Ok(numbers) => Arc::new(numbers),
            Err(problem) => {
                self.error(TEST_NUMBERS, problem);
                Arc::default()
            }
        }
    }

    pub(super) fn check_test_numbers(&mut self, settings: &Settings) {
        let length = settings.code_length.get();
        if !settings.test_numbers.is_empty() && length < CODE_LENGTH_MIN {
            let rule = format!("must have codes of at least {CODE_LENGTH_MIN} digits in production");
            self.error(TEST_NUMBERS, format!("{rule}; OTP_CODE_LENGTH is {length}"));
        }
    }
}
