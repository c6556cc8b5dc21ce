//! Reads the test numbers. Whether one has expired is asked where it is used.

use std::sync::Arc;

use super::reader::Reader;
use crate::domain::code::CodeLength;
use crate::domain::test_number::TestNumbers;

pub(super) const TEST_NUMBERS: &str = "OTP_TEST_NUMBERS";

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
}
