//! The delivery event: the JSON body that is published after a final receipt.

use serde::Serialize;

use super::channel::Channel;
use super::send_result::ResultError;
use super::time::{UnixMillis, serialize_rfc3339};

/// The delivery of a message after it was sent: the JSON body of a delivery event on the results exchange.
#[derive(Serialize, schemars::JsonSchema)]
pub struct DeliveryEvent<'a> {
    /// The request's idempotency key.
    pub request_id: &'a str,
    /// The channel of the code.
    pub channel: Channel,
    /// The purpose of the code.
    pub purpose: &'a str,
    /// The recipient, masked.
    pub to: &'a str,
    /// The final status of the delivery.
    pub status: DeliveryEventStatus,
    /// When it became known (RFC 3339).
    #[serde(serialize_with = "serialize_rfc3339")]
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub at: UnixMillis,
    /// The provider that delivered the message.
    pub provider: &'a str,
    /// The provider's id of the message.
    pub provider_message_id: &'a str,
    /// Why it did not arrive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<ResultError<'a>>,
}

/// The delivery of a message after it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DeliveryEventStatus {
    /// It reached the handset.
    Delivered,
    /// It did not, and will not.
    Undelivered,
}

impl DeliveryEventStatus {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            DeliveryEventStatus::Delivered => "delivered",
            DeliveryEventStatus::Undelivered => "undelivered",
        }
    }
}
