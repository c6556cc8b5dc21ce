//! The text of a file of providers, and everything that its reading needs.

use std::time::Duration;

use super::secrets::ReadSecret;
use crate::domain::encryption::ReferenceKey;

pub struct FileSettings<'a> {
    pub text: &'a str,
    /// The limit of one exchange, from connecting to the last byte of the answer.
    pub timeout: Duration,
    /// Seals references; `None` where nothing is sent or received.
    pub reference_key: Option<&'a ReferenceKey>,
    /// Reads secrets of requests.
    pub sending: &'a ReadSecret<'a>,
    /// Reads secrets of receipts.
    pub receiving: &'a ReadSecret<'a>,
}
