//! The purpose of a code.

/// `[a-z0-9_-]{1,32}`. A code for one purpose does not verify another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Purpose(Box<str>);

impl Purpose {
    pub const RULE_SENTENCE: &'static str = "must be 1 to 32 of a-z, 0-9, _ and -";

    /// `None` if the text breaks [`Purpose::RULE_SENTENCE`].
    pub fn parse(text: &str) -> Option<Purpose> {
        let allowed =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_' || byte == b'-';
        ((1..=32).contains(&text.len()) && text.bytes().all(allowed)).then(|| Purpose(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Purpose {
    fn default() -> Self {
        Purpose("verification".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_purpose_is_a_short_plain_word() {
        for good in ["verification", "a", "log-in_2", &"x".repeat(32)] {
            assert!(Purpose::parse(good).is_some(), "{good}");
        }
        for bad in ["", "Login", "a b", "ñ", "a:b", &"x".repeat(33)] {
            assert!(Purpose::parse(bad).is_none(), "{bad}");
        }
    }
}
