//! The time for which a stream of RabbitMQ keeps messages.

use std::fmt;
use std::str::FromStr;

/// A number and a unit, as the argument `x-max-age` takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamAge(String);

impl StreamAge {
    pub const RULE: &str = "must be a number and a unit of Y, M, D, h, m or s, such as 400D";

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StreamAge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for StreamAge {
    type Err = ();

    fn from_str(text: &str) -> Result<StreamAge, ()> {
        let (number, unit) = text.split_at_checked(text.len().wrapping_sub(1)).ok_or(())?;
        let is_number = (1..=5).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit());
        let is_unit = matches!(unit, "Y" | "M" | "D" | "h" | "m" | "s");
        if is_number && is_unit && !number.starts_with('0') {
            Ok(StreamAge(text.to_owned()))
        } else {
            Err(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_a_number_with_a_unit() {
        for text in ["400D", "1Y", "13M", "24h", "30m", "99999s"] {
            assert_eq!(text.parse::<StreamAge>().as_ref().map(StreamAge::as_str), Ok(text));
        }
        for text in ["", "D", "400", "0D", "-1D", "400d", "4 D", "100000s", "1.5D", "9é"] {
            assert_eq!(text.parse::<StreamAge>(), Err(()), "{text}");
        }
    }
}
