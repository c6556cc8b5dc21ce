//! Events of test numbers.

use crate::telemetry::repeats::{About, repeating};

/// A request to it is sent as to any other number.
pub fn test_number_not_in_force(position: usize) {
    repeating!(warn, "test number is not in force", About::NOTHING; setting = "OTP_TEST_NUMBERS", position,);
}
