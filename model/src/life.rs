//! The settings of one exploration.

use crate::flaw::Flaw;

/// The reliability of the provider's list of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provider {
    /// Every accepted message is listed by the second lookup that counts.
    Prompt,
    /// A POST may be accepted, and an accepted message listed, arbitrarily late or never.
    Laggard,
}

/// One world to explore.
#[derive(Clone, Debug)]
pub struct Life {
    pub provider: Provider,
    /// Copies of the request in the queue.
    pub copies: u8,
    /// The maximum of faults; lost answers of the provider are extra.
    pub faults: u8,
    /// The maximum of refusals worth a retry.
    pub refusals: u8,
    /// The providers of the route, 1 or 2. Each lists its own messages.
    pub providers: u8,
    /// Another request has the same recipient and code.
    pub other: bool,
    pub flaw: Option<Flaw>,
}
