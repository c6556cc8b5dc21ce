//! Reads SendGrid's Event Webhook: a list of events in each call.
//!
//! The signature is verified before anything is read. The custom arguments of the e-mail name the request. Events of other
//! e-mails, of links and of lists are ignored. An unreadable event is skipped and counted: a refused call would come again
//! for a day, with all its events.
//!
//! Answers of mail servers hold addresses, so only the reply code is kept. The reader has no state: an event that comes
//! again with another `sg_event_id`, or late, is read like the first.
//!
//! Fields: SendGrid's docs page "Event Webhook Reference".

use std::borrow::Cow;

use super::responses::is_message_id;
use super::signature::{Signature, recent_signature};
use crate::clock::Clock;
use crate::domain::address::Address;
use crate::domain::email::EmailAddress;
use crate::domain::json::{Json, Shape};
use crate::domain::receipt::DeliveryStatus;
use crate::domain::request_id::RequestId;
use crate::domain::send_failure::RefusalReason;
use crate::provider::http_client::InvalidSettings;
use crate::provider::{Callback, CallbackEndpoint, CallbackError, Callbacks, DeliveryReceipt};
use crate::telemetry;

/// One call reports on many e-mails: up to 768 KiB have been seen.
const BODY_BYTES_MAX: usize = 1024 * 1024;
/// More events than fit in a call of SendGrid's.
const EVENTS_MAX: usize = 5_000;

pub struct SendGridEvents {
    signature: Signature,
    clock: Clock,
}

impl SendGridEvents {
    /// For the public key that SendGrid shows, in base64.
    pub fn new(public_key: &str, clock: Clock) -> Result<SendGridEvents, InvalidSettings> {
        Ok(SendGridEvents { signature: Signature::new(public_key)?, clock })
    }
}

impl Callbacks for SendGridEvents {
    fn endpoint(&self) -> CallbackEndpoint {
        CallbackEndpoint {
            provider: "sendgrid",
            path: "/webhooks/sendgrid/events",
            signature_header: "x-twilio-email-event-webhook-signature",
            timestamp_header: Some("x-twilio-email-event-webhook-timestamp"),
            body_bytes_max: BODY_BYTES_MAX,
            by_get: false,
            reply: None,
        }
    }

    fn may_be_signed(&self, call: &Callback<'_>) -> bool {
        recent_signature(call, self.clock.now()).is_some()
    }

    fn read(&self, call: &Callback<'_>) -> Result<Vec<DeliveryReceipt>, CallbackError> {
        if !self.signature.proves(call, self.clock.now()) {
            return Err(CallbackError::Forged);
        }
        let unreadable = |_| CallbackError::Unreadable("body");
        let list = Json::read(call.body).map_err(unreadable)?.elements().take(EVENTS_MAX + 1);
        let events: Vec<Json<'_>> = list.collect::<Result<_, _>>().map_err(unreadable)?;
        if events.len() > EVENTS_MAX {
            return Err(CallbackError::Unreadable("body"));
        }
        let read: Vec<_> = events.into_iter().filter_map(receipt).collect();
        if read.iter().any(Option::is_none) {
            telemetry::events::callback_refused("unreadable");
        }
        Ok(read.into_iter().flatten().collect())
    }
}

/// `None` for a foreign event; `Some(None)` for one that cannot be read.
fn receipt(event: Json<'_>) -> Option<Option<DeliveryReceipt>> {
    if event.shape() != Shape::Object {
        return Some(None);
    }
    let event = Event::read(event);
    let request_id = event.otpost_request.as_deref()?;
    if event.is_ambiguous {
        return Some(None);
    }
    let status = status(event.event.as_deref()?)?;
    Some(event.receipt_of(request_id, status))
}

/// The members of an event that are strings. A member of another type, or that is not Unicode, counts as absent, so that
/// it does not hide the others.
#[derive(Default)]
struct Event<'a> {
    event: Option<Cow<'a, str>>,
    email: Option<Cow<'a, str>>,
    sg_message_id: Option<Cow<'a, str>>,
    otpost_request: Option<Cow<'a, str>>,
    reason: Option<Cow<'a, str>>,
    kind: Option<Cow<'a, str>>,
    /// One of them is given twice, with different values.
    is_ambiguous: bool,
}

impl<'a> Event<'a> {
    fn read(event: Json<'a>) -> Event<'a> {
        let mut read = Event::default();
        for member in event.members().map_while(Result::ok) {
            let slot = match member.name.as_deref() {
                Some("event") => &mut read.event,
                Some("email") => &mut read.email,
                Some("sg_message_id") => &mut read.sg_message_id,
                Some("otpost_request") => &mut read.otpost_request,
                Some("reason") => &mut read.reason,
                Some("type") => &mut read.kind,
                _ => continue,
            };
            if let Some(text) = member.value.text() {
                read.is_ambiguous |= slot.replace(text.clone()).is_some_and(|other| other != text);
            }
        }
        read
    }

    fn receipt_of(&self, request_id: &str, status: DeliveryStatus) -> Option<DeliveryReceipt> {
        Some(DeliveryReceipt {
            request_id: RequestId::parse(request_id)?,
            to: Address::Email(EmailAddress::parse(self.email.as_deref()?).ok()?),
            message_id: message_id(self.sg_message_id.as_deref()?)?,
            status,
            provider_code: self
                .reason
                .as_deref()
                .filter(|_| status == DeliveryStatus::Undelivered)
                .and_then(reply_code),
            reason: self.refusal_reason(status),
        })
    }

    /// The reasons for which SendGrid refuses later e-mails to the address, too: it keeps suppression lists of its own.
    fn refusal_reason(&self, status: DeliveryStatus) -> RefusalReason {
        match (status, self.reason.as_deref()) {
            // The other type, `blocked`, concerns one e-mail only; the next may arrive.
            (DeliveryStatus::Undelivered, _) if self.kind.as_deref() == Some("bounce") => {
                RefusalReason::Unreachable
            }
            (DeliveryStatus::Failed, Some("Unsubscribed Address" | "Spam Reporting Address")) => {
                RefusalReason::OptedOut
            }
            (DeliveryStatus::Failed, Some("Bounced Address" | "Invalid")) => RefusalReason::Unreachable,
            _ => RefusalReason::Other,
        }
    }
}

/// The status of an event. Events after the arrival have none.
fn status(event: &str) -> Option<DeliveryStatus> {
    match event {
        "processed" => Some(DeliveryStatus::Queued),
        "deferred" => Some(DeliveryStatus::Sending),
        "delivered" => Some(DeliveryStatus::Delivered),
        "bounce" => Some(DeliveryStatus::Undelivered),
        "dropped" => Some(DeliveryStatus::Failed),
        _ => None,
    }
}

/// The id with which the e-mail was accepted: events append the name of a machine.
fn message_id(text: &str) -> Option<String> {
    let end = [".filter", ".recvd"].iter().filter_map(|added| text.find(added)).min();
    let id = &text[..end.unwrap_or(text.len())];
    is_message_id(id).then(|| id.to_owned())
}

/// The reply code of a mail server that an answer begins with (RFC 5321 §4.2): three digits of a refusal.
fn reply_code(answer: &str) -> Option<u32> {
    let (code, rest) = answer.split_at_checked(3)?;
    let is_code = code.bytes().all(|byte| byte.is_ascii_digit()) && code.starts_with(['4', '5']);
    let ends = rest.is_empty() || rest.starts_with([' ', '-', '\r', '\n']);
    (is_code && ends).then(|| code.parse().ok())?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_reply_code_is_read_off_the_beginning_only() {
        for (answer, code) in [
            ("550 5.1.1 no such user", Some(550)),
            ("550-5.7.1 refused", Some(550)),
            ("421", Some(421)),
            ("250 ok", None),
            ("5500 x", None),
            ("5.1.1 no such user", None),
            ("ñññ", None),
            ("", None),
            ("unable to get mx info", None),
            ("about 550 of them", None),
        ] {
            assert_eq!(reply_code(answer), code, "{answer}");
        }
    }

    #[test]
    fn a_message_has_the_id_with_which_it_was_accepted() {
        for (sg_message_id, id) in [
            (
                "LRzXl_NHStOGhQ4kofSm_A.filterdrecv-p3mdw1-756b745b58-kmzbl-18-5F5FC76C-9.0",
                "LRzXl_NHStOGhQ4kofSm_A",
            ),
            ("euo2iKxdSayPF4YE4--I7A.recvd-5f54b5d587-pczjm-1-67BADEEA-6.0", "euo2iKxdSayPF4YE4--I7A"),
            ("14c5d75ce93.dfd.64b469.filter0001.16648.5515E0B88.0", "14c5d75ce93.dfd.64b469"),
            ("plain", "plain"),
        ] {
            assert_eq!(message_id(sg_message_id).as_deref(), Some(id));
        }
        for no_id in ["", ".filter0", "a b.recvd-1", "a,b"] {
            assert_eq!(message_id(no_id), None, "{no_id}");
        }
    }

    proptest! {
        #[test]
        fn any_event_is_read_or_skipped(
            kind in "processed|bounce|dropped|[a-z]{0,9}",
            (id, reason) in ("\\PC{0,40}|[a-z.]{0,9}\\.filter.{0,9}", "\\PC{0,30}|[45][0-9]{2}.{0,9}"),
            (request, email) in ("\\PC{0,140}|r1", "[a-z]{0,9}@[a-z.]{0,9}|ana@shop\\.example"),
        ) {
            let event = serde_json::json!({
                "event": kind, "email": email, "sg_message_id": id, "otpost_request": request,
                "reason": reason, "type": "bounce",
            }).to_string();
            if let Some(Some(receipt)) = receipt(Json::read(event.as_bytes()).expect("JSON")) {
                prop_assert!(is_message_id(&receipt.message_id));
                prop_assert!(receipt.provider_code.is_none_or(|code| (400..600).contains(&code)));
            }
        }
    }
}
