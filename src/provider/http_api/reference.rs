//! The reference by which a vendor names a message in its receipts: the recipient and the request, sealed.
//!
//! Only we can make one, so it is also a proof: a caller that knows it got it from us.

use crate::domain::address::Address;
use crate::domain::encryption::ReferenceKey;
use crate::domain::phone::PhoneNumber;
use crate::domain::request_id::RequestId;

/// Longer than any reference of ours.
const BYTES_MAX: usize = 512;

pub(super) fn seal(key: &ReferenceKey, to: &PhoneNumber, request_id: &RequestId) -> String {
    key.seal(&format!("{} {request_id}", to.e164()))
}

pub(super) fn open(key: &ReferenceKey, reference: &str) -> Option<(Address, RequestId)> {
    let text = key.open(Some(reference).filter(|text| text.len() <= BYTES_MAX)?)?;
    let (to, request_id) = text.split_once(' ')?;
    let unused = "US".parse().expect("a country with a numbering plan");
    let to = PhoneNumber::parse(to, unused).ok()?;
    Some((Address::Phone(to), RequestId::parse(request_id)?))
}
