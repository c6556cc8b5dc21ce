//! The identifier of a request.

use std::fmt;

/// The idempotency key of one logical send to one recipient: 1 to 128 visible ASCII characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(Box<str>);

impl RequestId {
    pub const RULE: &'static str = "must be 1 to 128 visible ASCII characters";

    /// `None` if the text breaks [`RequestId::RULE`].
    pub fn parse(text: &str) -> Option<RequestId> {
        let visible = text.bytes().all(|byte| byte.is_ascii_graphic());
        ((1..=128).contains(&text.len()) && visible).then(|| RequestId(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
