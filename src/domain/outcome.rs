//! The outcome of a request, stored as the JSON of [`Outcome`]. A request has exactly one. It holds no code and no full
//! recipient.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::defence::DefenceRule;
use super::history::RequestHistory;
use super::reached_limit::ReachedLimit;
use super::time::{UnixMillis, seconds_rounded_up};

/// The end of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// The provider accepted the message.
    Sent,
    /// No attempt was made.
    Rejected,
    /// Attempts were made; nothing was sent.
    Failed,
    /// It may have been sent.
    Unknown,
}

impl Status {
    pub const ALL: [Status; 4] = [Status::Sent, Status::Rejected, Status::Failed, Status::Unknown];

    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Status::Sent => "sent",
            Status::Rejected => "rejected",
            Status::Failed => "failed",
            Status::Unknown => "unknown",
        }
    }
}

/// Why a request did not end as sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The request breaks a rule of the contract.
    InvalidRequest,
    /// The recipient is no phone number, or for an e-mail no address.
    InvalidRecipient,
    /// The recipient is a landline.
    Landline,
    /// Nothing is sent to the recipient's country.
    CountryNotAllowed,
    /// A limit is reached.
    RateLimited,
    /// The last send to this recipient was a moment ago.
    Cooldown,
    /// The recipient has opted out, the provider does not reach it, or an operator suppressed it.
    Suppressed,
    /// The provider refuses the recipient's country for now, or the pumping defence refuses the request.
    Blocked,
    /// Too little time is left for a message to be of use.
    Expired,
    /// This kind of message is turned off.
    ChannelDisabled,
    /// The provider refused this message.
    ProviderRejected,
    /// The provider refuses our account or its settings.
    ProviderMisconfigured,
    /// The provider could not be reached, or asked to wait for longer than there was time.
    ProviderUnavailable,
    /// The provider's answer was lost.
    InDoubt,
    /// The gateway failed.
    // Also what a word in the store is read as that only a newer version of ours knows.
    #[serde(other)]
    Internal,
}

impl ErrorCode {
    pub const ALL: [ErrorCode; 15] = [
        ErrorCode::InvalidRequest,
        ErrorCode::InvalidRecipient,
        ErrorCode::Landline,
        ErrorCode::CountryNotAllowed,
        ErrorCode::RateLimited,
        ErrorCode::Cooldown,
        ErrorCode::Suppressed,
        ErrorCode::Blocked,
        ErrorCode::Expired,
        ErrorCode::ChannelDisabled,
        ErrorCode::ProviderRejected,
        ErrorCode::ProviderMisconfigured,
        ErrorCode::ProviderUnavailable,
        ErrorCode::InDoubt,
        ErrorCode::Internal,
    ];

    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            ErrorCode::InvalidRequest => "invalid_request",
            ErrorCode::InvalidRecipient => "invalid_recipient",
            ErrorCode::Landline => "landline",
            ErrorCode::CountryNotAllowed => "country_not_allowed",
            ErrorCode::RateLimited => "rate_limited",
            ErrorCode::Cooldown => "cooldown",
            ErrorCode::Suppressed => "suppressed",
            ErrorCode::Blocked => "blocked",
            ErrorCode::Expired => "expired",
            ErrorCode::ChannelDisabled => "channel_disabled",
            ErrorCode::ProviderRejected => "provider_rejected",
            ErrorCode::ProviderMisconfigured => "provider_misconfigured",
            ErrorCode::ProviderUnavailable => "provider_unavailable",
            ErrorCode::InDoubt => "in_doubt",
            ErrorCode::Internal => "internal",
        }
    }

    /// The sentence for people, where nothing more is known.
    pub const fn message(self) -> &'static str {
        match self {
            ErrorCode::InvalidRequest => "the request breaks a rule of the contract",
            ErrorCode::InvalidRecipient => "the recipient is not a valid phone number",
            ErrorCode::Landline => "the recipient is a landline, which cannot get text messages",
            ErrorCode::CountryNotAllowed => "messages to the recipient's country are not allowed",
            ErrorCode::RateLimited => "a limit of sends or of wrong attempts is reached",
            ErrorCode::Cooldown => "a code was asked for this recipient a moment ago",
            ErrorCode::Suppressed => "the recipient has opted out, cannot be reached, or is suppressed here",
            ErrorCode::Blocked => "the provider refuses the recipient's country for now",
            ErrorCode::Expired => "too little time was left for the message to be of use",
            ErrorCode::ChannelDisabled => "sending on this channel is turned off",
            ErrorCode::ProviderRejected => "the provider refused the message",
            ErrorCode::ProviderMisconfigured => "the provider refuses the account or its settings",
            ErrorCode::ProviderUnavailable => "the provider could not take the message in time",
            ErrorCode::InDoubt => "the provider's answer was lost: the message may have been sent",
            ErrorCode::Internal => "the gateway failed to handle the request",
        }
    }
}

/// The error of an outcome, as stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutcomeError {
    pub code: ErrorCode,
    /// A sentence that says more than the code does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_code: Option<u32>,
    /// Seconds until a new request could succeed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u64>,
    /// The limit that refused the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<ReachedLimit>,
    /// The rule of the pumping defence that refused the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<DefenceRule>,
}

/// The outcome of a request. Stored for repeated requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    pub status: Status,
    pub at: UnixMillis,
    /// The purpose of the first copy of the request.
    pub purpose: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<OutcomeError>,
    /// The provider of the attempts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_message_id: Option<String>,
    #[serde(default)]
    pub attempts: u32,
    /// The segments of the text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segments: Option<u32>,
    /// When the code's life ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<UnixMillis>,
    /// Seconds from `at` until the same recipient may ask again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resend_after: Option<u64>,
    #[serde(default, rename = "notes", skip_serializing_if = "RequestHistory::is_empty")]
    pub history: RequestHistory,
}

impl Outcome {
    pub fn with_error(status: Status, at: UnixMillis, purpose: &str, error: OutcomeError) -> Outcome {
        Outcome {
            status,
            at,
            purpose: purpose.to_owned(),
            error: Some(error),
            provider: None,
            provider_message_id: None,
            attempts: 0,
            segments: None,
            expires_at: None,
            resend_after: None,
            history: RequestHistory::default(),
        }
    }

    /// The reason word for metrics and logs: the error's code, or `ok`.
    pub fn reason(&self) -> &'static str {
        self.error.as_ref().map_or("ok", |error| error.code.as_str())
    }
}

impl OutcomeError {
    /// An error that its code tells whole.
    pub fn of(code: ErrorCode) -> OutcomeError {
        OutcomeError { code, detail: None, provider_code: None, retry_after: None, limit: None, rule: None }
    }

    /// With a sentence in place of the code's own.
    pub fn detailed(code: ErrorCode, detail: impl ToString) -> OutcomeError {
        OutcomeError { detail: Some(detail.to_string()), ..OutcomeError::of(code) }
    }

    /// The sentence for people, where nothing more is known.
    pub fn message(&self) -> &'static str {
        self.rule.map_or(self.code.message(), DefenceRule::message)
    }

    pub fn refused(rule: DefenceRule, wait: Duration) -> OutcomeError {
        let retry_after = Some(seconds_rounded_up(wait));
        OutcomeError { retry_after, rule: Some(rule), ..OutcomeError::of(ErrorCode::Blocked) }
    }

    /// The pumping defence refuses a person who wants no messages as suppressed: waiting would not help.
    pub fn yields_to_suppression(&self) -> bool {
        self.rule.is_some()
    }

    /// With the time to wait, rounded up to seconds.
    pub fn limited(limit: ReachedLimit, wait: Duration) -> OutcomeError {
        let code = match limit {
            ReachedLimit::Cooldown => ErrorCode::Cooldown,
            _ => ErrorCode::RateLimited,
        };
        let retry_after = Some(seconds_rounded_up(wait));
        OutcomeError { retry_after, limit: Some(limit), ..OutcomeError::of(code) }
    }
}
