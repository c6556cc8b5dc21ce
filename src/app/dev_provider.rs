//! The provider of `otpost dev`.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DevProvider {
    /// Messages are shown on the console.
    Simulated,
    /// Twilio, and the configured e-mail provider: real messages, real cost.
    Twilio,
}
