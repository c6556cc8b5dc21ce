//! Mistakes that the checker has to find: a model in which nothing can go wrong would prove nothing.

/// One mistake, built into an otherwise right model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// One lookup that finds nothing is enough for a re-send.
    ResendsAfterOneAbsent,
    /// Whoever re-sends does not ask the store whether it still holds the request.
    ResendsUnasked,
    /// `sending` whose lease is over is taken over like `waiting`, without a lookup.
    TakesOverUnseen,
    /// Whoever takes over sends the code that it proposed, not the one that was granted first.
    SendsItsOwnCode,
    /// The delivery is acknowledged before the result is confirmed.
    AcksBeforeConfirm,
    /// Who does not hold the request may say that it failed.
    OutsiderSaysFailed,
    /// A re-send that is refused ends as failed, although the first try may have been accepted after all.
    FailsAfterDoubt,
    /// A request in doubt is given back as one that waits.
    GivesDoubtBackAsWaiting,
    /// A step is applied for the owner, whichever try it speaks of: one that arrives late meets a later try.
    StepsNameNoTry,
    /// The POST starts without a look at the lease: what a worker does that freezes right after its look.
    PostsWithoutLease,
    /// The POST starts without a look at the deadline.
    PostsTooLate,
}

impl Flaw {
    pub const ALL: [Flaw; 11] = [
        Flaw::ResendsAfterOneAbsent,
        Flaw::ResendsUnasked,
        Flaw::TakesOverUnseen,
        Flaw::SendsItsOwnCode,
        Flaw::AcksBeforeConfirm,
        Flaw::OutsiderSaysFailed,
        Flaw::FailsAfterDoubt,
        Flaw::GivesDoubtBackAsWaiting,
        Flaw::StepsNameNoTry,
        Flaw::PostsWithoutLease,
        Flaw::PostsTooLate,
    ];
}
