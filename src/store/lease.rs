//! The lease under which a handler works on a request.

use super::limit_subject::LimitSubject;
use crate::domain::request_id::RequestId;

/// The right of one handler to work on a request for a limited time.
#[derive(Clone, Copy, Debug)]
pub struct Lease<'a> {
    pub subject: LimitSubject<'a>,
    pub request_id: &'a RequestId,
    /// The fencing token: 64 random bits. Two leases of one request have different ones.
    pub token: u64,
}
