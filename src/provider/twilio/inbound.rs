//! Reads the messages of people that Twilio passes on: opt-in and opt-out.
//!
//! The signature is verified before anything is read, as for status callbacks. With Advanced Opt-Out Twilio names the kind of a
//! message, whatever its language; without it, Twilio's default keywords count, alone in their message. The time of the message
//! is read from the account by its SID, and so are its sender and text again: bytes moved between the fields of a signed call
//! leave the signature valid.
//!
//! Fields: Twilio's docs page "Twilio's request to your incoming message Webhook URL". Keywords: "Twilio support for opt-out
//! keywords".

use std::time::Duration;

use async_trait::async_trait;
use reqwest::StatusCode;
use secrecy::{ExposeSecret as _, SecretString};

use super::callback::{either, field, optional};
use super::lookup::{Lookup, lookup_error, unreadable};
use super::signature::Signatures;
use super::status_url::StatusUrl;
use super::{Account, Authentication, is_message_sid, phone_number};
use crate::domain::address::Address;
use crate::domain::json::Json;
use crate::domain::opt_status::OptStatus;
use crate::domain::time::UnixMillis;
use crate::provider::http_client::{InvalidSettings, fault};
use crate::provider::{
    Callback, CallbackEndpoint, CallbackError, InboundMessage, InboundMessages, LookupError,
};

/// A text has up to 1,600 characters, each of up to twelve bytes in a form.
const BODY_BYTES_MAX: usize = 32 * 1024;
/// Twilio waits 15 s for the answer to a call.
const LOOKUP_TIMEOUT_MAX: Duration = Duration::from_secs(4);
/// "Attempt to send to unsubscribed recipient".
const CODE_UNSUBSCRIBED: u32 = 21_610;

const STOP: [&str; 8] = ["STOP", "STOPALL", "UNSUBSCRIBE", "CANCEL", "END", "QUIT", "OPTOUT", "REVOKE"];
const START: [&str; 3] = ["START", "YES", "UNSTOP"];

/// The messages to one account. It holds secrets, hence no `Debug`.
pub struct TwilioInbound {
    account_sid: String,
    query: Option<String>,
    signatures: Signatures,
    account: Account,
}

pub struct InboundSettings<'a> {
    /// The URL that Twilio calls.
    pub public_url: &'a str,
    pub account_sid: &'a str,
    /// During a rotation an account has more than one.
    pub tokens: &'a [SecretString],
    /// Of the calls to the API.
    pub authentication: &'a Authentication,
    pub base_url: &'a str,
    pub timeout: Duration,
}

impl TwilioInbound {
    pub fn new(settings: &InboundSettings<'_>) -> Result<TwilioInbound, InvalidSettings> {
        let InboundSettings { public_url, account_sid, tokens, authentication, base_url, timeout } =
            *settings;
        if tokens.is_empty() || tokens.iter().any(|token| token.expose_secret().is_empty()) {
            return Err(fault("an auth token is missing or empty: calls are signed with it"));
        }
        let path = ["2010-04-01", "Accounts", account_sid];
        let timeout = timeout.min(LOOKUP_TIMEOUT_MAX);
        let account = Account::at(account_sid, authentication, base_url, path, timeout)?;
        let url = StatusUrl::parse_plain(public_url)?;
        Ok(TwilioInbound {
            account_sid: account_sid.to_owned(),
            query: url.query().map(str::to_owned),
            signatures: Signatures::new(tokens, url.signed_forms()),
            account,
        })
    }
}

#[async_trait]
impl InboundMessages for TwilioInbound {
    fn endpoint(&self) -> CallbackEndpoint {
        CallbackEndpoint {
            provider: "twilio",
            path: "/webhooks/twilio/inbound",
            signature_header: "x-twilio-signature",
            timestamp_header: None,
            body_bytes_max: BODY_BYTES_MAX,
            by_get: false,
            reply: None,
        }
    }

    fn read(&self, call: &Callback<'_>) -> Result<InboundMessage, CallbackError> {
        // The signed text does not show where the query ends.
        let form = self.signatures.verified(call).filter(|_| call.query == self.query.as_deref());
        let form = form.ok_or(CallbackError::Forged)?;
        if !field(&form, "AccountSid")?.eq_ignore_ascii_case(&self.account_sid) {
            return Err(CallbackError::Ignored);
        }
        let text = optional(&form, "Body")?.unwrap_or_default();
        let status = match optional(&form, "OptOutType")? {
            Some(kind) => status_of(kind, &["STOP"], &["START"]),
            None => status_of(text.trim(), &STOP, &START),
        };
        let status = status.ok_or(CallbackError::Ignored)?;
        let message_id = either(&form, "MessageSid", "SmsSid")?;
        Ok(InboundMessage {
            // A sender that is no number, such as one of WhatsApp, gets no codes.
            from: phone_number(field(&form, "From")?).map(Address::Phone).ok_or(CallbackError::Ignored)?,
            message_id: is_message_sid(message_id)
                .then(|| message_id.to_owned())
                .ok_or(CallbackError::Unreadable("MessageSid"))?,
            status,
            provider_code: CODE_UNSUBSCRIBED,
            text: text.to_owned(),
        })
    }

    async fn sent_at(&self, message: &InboundMessage) -> Result<UnixMillis, LookupError> {
        if !is_message_sid(&message.message_id) {
            return Err(LookupError::NotFound);
        }
        let url = self.account.url(&format!("/Messages/{}.json", message.message_id));
        let answer = self.account.look_up(url).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Err(LookupError::NotFound);
        }
        if !answer.status.is_success() {
            return Err(lookup_error(&answer));
        }
        let found = Json::read(&answer.body).map_err(|_| unreadable())?;
        let [from, direction, body, created] =
            found.pick(["from", "direction", "body", "date_created"]).map(|value| value.and_then(Json::text));
        let is_same_sender =
            from.and_then(|from| phone_number(&from)).map(Address::Phone).as_ref() == Some(&message.from);
        // A redacted message has an empty text.
        let is_same_text = body.is_none_or(|body| body.is_empty() || body == message.text);
        if !is_same_sender || !is_same_text || direction.as_deref() != Some("inbound") {
            return Err(LookupError::NotFound);
        }
        created.and_then(|date| Lookup::time(&date)).ok_or_else(unreadable)
    }
}

fn status_of(word: &str, stop: &[&str], start: &[&str]) -> Option<OptStatus> {
    let is_one_of = |words: &[&str]| words.iter().any(|known| known.eq_ignore_ascii_case(word));
    match (is_one_of(stop), is_one_of(start)) {
        (true, _) => Some(OptStatus::OptedOut),
        (_, true) => Some(OptStatus::OptedIn),
        (false, false) => None,
    }
}

/// The rule for the URL, checked at the start.
pub fn check_url(url: &str) -> Result<(), InvalidSettings> {
    StatusUrl::parse_plain(url).map(|_| ())
}
