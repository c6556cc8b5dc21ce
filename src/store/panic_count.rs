//! Panics of a request's handlers, counted by the store.

use super::lease::Lease;

/// Counts the panic of the handler with this lease.
#[derive(Clone, Copy, Debug)]
pub struct PanicInput<'a> {
    pub lease: Lease<'a>,
    /// The handler has called the provider, so an attempt that was not answered may have been sent.
    pub may_have_sent: bool,
    /// With fewer panics the lease ends, as after a requeue. With this many it stays, so that the handler can complete the
    /// request, and no more panics are counted.
    pub panics_max: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PanicCount {
    /// Handlers of the request that have panicked, this one included.
    pub panics: u32,
    /// The attempts made, if the handler still has the lease and the record shows that none of them sent a message.
    pub unsent_attempts: Option<u32>,
}
