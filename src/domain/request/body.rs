//! The JSON body of a request, for publishers.

use serde::Serialize;

/// Read back by [`SendRequest::decode`](super::SendRequest::decode).
#[derive(Clone, Default, Serialize, schemars::JsonSchema)]
#[schemars(
    title = "SendRequest",
    description = "A request for a code: the body of a message with the routing key `send-sms` or `send-email`."
)]
pub struct SendRequestBody {
    /// The idempotency key of one logical send to one recipient: 1 to 128 visible ASCII characters.
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[!-~]+$"))]
    pub request_id: String,
    /// The recipient: a phone number in E.164, or a national one of the default region; with `send-email` an e-mail address.
    #[schemars(length(min = 1, max = 320))]
    pub to: String,
    /// A code for one purpose does not verify another; `verification` if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[a-z0-9_-]{1,32}$"))]
    pub purpose: Option<String>,
    /// The caller's user; limits count by it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub user_id: Option<String>,
    /// The name in the text's greeting.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 200))]
    pub user_name: Option<String>,
    /// The client's IP address; limits count by it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_ip: Option<String>,
    /// BCP 47 language tag.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 35))]
    pub locale: Option<String>,
    /// IANA time zone.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub timezone: Option<String>,
    /// The name of a template; `default` if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[a-z0-9_-]{1,64}$"))]
    pub template: Option<String>,
    /// The caller's own code.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[0-9]{4,10}$"))]
    pub code: Option<String>,
    /// When the caller made the request (RFC 3339); the AMQP `timestamp` if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub requested_at: Option<String>,
    /// A later message is of no use (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub not_after: Option<String>,
    /// The machine-readable last line of the text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub autofill: Option<AutofillBody>,
}

/// The page or app that may read the code from the text.
#[derive(Clone, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AutofillBody {
    /// A web page of this domain.
    WebotpDomain(String),
    /// The Android app of this hash.
    AndroidHash(String),
}
