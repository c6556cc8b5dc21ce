//! Mistakes that the checker has to find. They show that the properties can fail.

/// One mistake in an otherwise correct model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// One empty lookup is enough for a resend.
    ResendsAfterOneAbsent,
    /// A resend starts without a progress update, which would check the ownership.
    ResendsWithoutUpdate,
    /// `sending` with an expired lease is taken over like `waiting`, without a lookup.
    TakesOverWithoutLookup,
    /// A handler that takes over sends the code that it proposed, not the admitted one.
    SendsItsOwnCode,
    /// The delivery is acknowledged before the result is confirmed.
    AcksBeforeConfirm,
    /// A handler that is not the owner may complete the request as failed.
    NonOwnerFailsRequest,
    /// A refused resend ends as failed, although the first attempt may have been accepted.
    FailsAfterDoubt,
    /// A request in doubt is requeued as `waiting`.
    RequeuesDoubtAsWaiting,
    /// The owner's calls are applied for any attempt: a late call meets a later attempt.
    StepsNameNoAttempt,
    /// The POST starts without a check of the lease, as in a worker that freezes right after its check.
    PostsWithoutLease,
    /// The POST starts without a check of the deadline.
    PostsAfterDeadline,
    /// A lookup takes any message that no request has claimed by its id. It may be that of a request that was accepted
    /// without an id, or that is in doubt itself.
    TakesUnnamedMessage,
    /// After a lost answer the other provider gets the message, as after a refusal.
    RetriesElsewhereInDoubt,
    /// A worker calls a provider that the record does not name yet.
    CallsUnnamedProvider,
    /// A message in doubt is handed to the other provider after it was resent.
    HandsOverAgain,
}

impl Flaw {
    pub const ALL: [Flaw; 15] = [
        Flaw::ResendsAfterOneAbsent,
        Flaw::ResendsWithoutUpdate,
        Flaw::TakesOverWithoutLookup,
        Flaw::SendsItsOwnCode,
        Flaw::AcksBeforeConfirm,
        Flaw::NonOwnerFailsRequest,
        Flaw::FailsAfterDoubt,
        Flaw::RequeuesDoubtAsWaiting,
        Flaw::StepsNameNoAttempt,
        Flaw::PostsWithoutLease,
        Flaw::PostsAfterDeadline,
        Flaw::TakesUnnamedMessage,
        Flaw::RetriesElsewhereInDoubt,
        Flaw::CallsUnnamedProvider,
        Flaw::HandsOverAgain,
    ];
}
