//! Admission: may a request be sent, and with which challenge?

use std::time::Duration;

use super::lease::Lease;
use crate::domain::budget::Reservation;
use crate::domain::challenge::ChallengeId;
use crate::domain::history::RequestHistory;
use crate::domain::keyed_digest::Digest16;
use crate::domain::limit::Limits;
use crate::domain::outcome::{Outcome, OutcomeError};
use crate::domain::time::UnixMillis;

#[derive(Clone, Copy, Debug)]
pub struct AdmissionInput<'a> {
    pub lease: Lease<'a>,
    /// The time of the request, by its caller.
    pub requested_at: Option<UnixMillis>,
    /// The deadline that the caller sets.
    pub not_after: Option<UnixMillis>,
    pub code_life: Duration,
    pub lease_duration: Duration,
    /// The challenge to start if no pending one can be continued.
    pub proposal: ProposedChallenge<'a>,
    /// The ids of our code keys, in the form of [`crate::domain::code::CodeKeyring::kids`].
    pub code_key_ids: &'a str,
    pub limits: &'a Limits,
    /// A new request is rejected with this error. A request that has a record goes on, or answers with its outcome. An error of the
    /// pumping defence comes after a suppression of the recipient.
    pub reject_if_new: Option<&'a OutcomeError>,
    /// The send gate is closed: nothing changes. A completed request still answers with its outcome.
    pub gate_closed: bool,
    /// With this many unfinished leases of earlier handlers the request is a crash suspect. A lease is unfinished until its
    /// handler completes or requeues the request.
    pub crash_suspect_leases_min: u32,
    /// The recipient's country, which a suppression may cover.
    pub country: Option<&'a str>,
    pub history: &'a RequestHistory,
    /// A new request is refused if the budgets do not allow the amount; `None` without a budget.
    pub spend: Option<Reservation>,
}

/// A challenge that this request would start.
#[derive(Clone, Copy, Debug)]
pub struct ProposedChallenge<'a> {
    pub id: ChallengeId,
    pub kid: &'a str,
    pub digest: Digest16,
    pub callers_code: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// The request may be sent, under this lease.
    Granted(Grant),
    /// The last attempt of an earlier lease is in doubt. The lease is ours now.
    InDoubt(Grant),
    /// The request has its outcome: an earlier one, or the rejection that this call has just recorded.
    Completed {
        outcome: Outcome,
        /// This lease recorded it: just now, or in a first call whose answer was lost.
        ours: bool,
    },
    /// Another lease is valid, or the next attempt is not due, for this long.
    Busy(Duration),
    /// Earlier handlers crashed while they worked on it. Wait, then ask again with `crash_suspect_leases_min: u32::MAX`.
    CrashSuspect {
        /// This handler has no lease yet, so none of them is its own.
        unfinished_leases: u32,
        /// The time to the request's deadline.
        time_left: Duration,
    },
    /// The request is not completed, and the send gate is closed.
    GateClosed,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Counted from 1. Granted: the attempt to make. In doubt: the attempt that is in doubt.
    pub attempt: u32,
    pub challenge: ChallengeId,
    pub kid: String,
    pub digest: Digest16,
    pub callers_code: bool,
    /// The first admission. Times in a message's text count from here, so that a resend has the same text.
    pub admitted_at: UnixMillis,
    pub expires_at: UnixMillis,
    pub deadline: UnixMillis,
    /// The store's clock at the answer. The other times compare with it.
    pub now: UnixMillis,
    /// By the store's clock: when the attempt was recorded, before it was made.
    pub attempt_started_at: UnixMillis,
    pub attempts_in_doubt: u32,
    /// This lease is one of them.
    pub unfinished_leases: u32,
    /// Sends to the recipient within a day, this one included; 0 if the request is not new.
    pub sends: u32,
    /// The history that earlier leases recorded; `None` if the request is new.
    pub history: Option<RequestHistory>,
}

impl Grant {
    /// False if the request sends a code again that an earlier one began.
    pub fn begins_code(&self, code_life: Duration) -> bool {
        self.expires_at.since(self.admitted_at) == code_life
    }

    /// Those of earlier handlers, the one in doubt included.
    pub fn attempts_made(&self, last_is_in_doubt: bool) -> u32 {
        if last_is_in_doubt { self.attempt } else { self.attempt - 1 }
    }
}
