//! Reads Twilio's status callbacks.
//!
//! The signature is verified before anything is read: by one of the account's tokens, for the URL that Twilio was given. The
//! URL's query, which the signature covers, names the request. Unknown fields take part in the signature and are skipped.
//! Bytes moved between fields leave the signature valid, so the fields in use must not be hidden in others, or be repeated.
//!
//! The reader has no state: a call that comes again, late, or out of order is read like the first.
//!
//! Fields: Twilio's docs page "Outbound message status in status callbacks".

use secrecy::{ExposeSecret as _, SecretString};

use super::errors::refusal_reason;
use super::signature::{Parameters, Signatures};
use super::status_url::{CallbackQuery, StatusUrl};
use super::{NAME, is_message_sid, is_sid, phone_number};
use crate::domain::address::Address;
use crate::domain::receipt::DeliveryStatus;
use crate::provider::http_client::{InvalidSettings, fault};
use crate::provider::{Callback, CallbackEndpoint, CallbackError, Callbacks, DeliveryReceipt};

/// More than a callback about one message ever has.
const BODY_BYTES_MAX: usize = 16 * 1024;

const ERROR_CODE: &str = "ErrorCode";

/// Status callbacks of one account. It holds secrets, hence no `Debug`.
pub struct TwilioCallbacks {
    provider: &'static str,
    path: &'static str,
    account_sid: String,
    query: CallbackQuery,
    signatures: Signatures,
}

impl TwilioCallbacks {
    /// `public_url` is the URL that Twilio was given. During a rotation an account has more than one token.
    ///
    /// Twilio signs with the account's token even if we use an API key.
    pub fn new(
        public_url: &str,
        account_sid: &str,
        tokens: Vec<SecretString>,
    ) -> Result<TwilioCallbacks, InvalidSettings> {
        if !is_sid("AC", account_sid) {
            return Err(fault("the account SID must be AC and 32 hexadecimal digits"));
        }
        if tokens.is_empty() || tokens.iter().any(|token| token.expose_secret().is_empty()) {
            return Err(fault("an auth token is missing or empty: callbacks are signed with it"));
        }
        let url = StatusUrl::parse(public_url)?;
        let signatures = Signatures::new(&tokens, url.signed_forms());
        Ok(TwilioCallbacks {
            provider: NAME,
            path: "/webhooks/twilio/status",
            account_sid: account_sid.to_owned(),
            query: url.callback_query(),
            signatures,
        })
    }

    /// Those of one of several accounts, at a path of its own.
    pub fn named(self, provider: &'static str, path: &'static str) -> TwilioCallbacks {
        TwilioCallbacks { provider, path, ..self }
    }
}

impl Callbacks for TwilioCallbacks {
    fn endpoint(&self) -> CallbackEndpoint {
        CallbackEndpoint {
            provider: self.provider,
            path: self.path,
            signature_header: "x-twilio-signature",
            timestamp_header: None,
            body_bytes_max: BODY_BYTES_MAX,
            by_get: false,
            reply: None,
        }
    }

    fn read(&self, call: &Callback<'_>) -> Result<Vec<DeliveryReceipt>, CallbackError> {
        let form = self.signatures.verified(call).ok_or(CallbackError::Forged)?;
        let request_id = call.query.and_then(|query| self.query.request_id(query));
        let request_id = request_id.filter(|_| !hides_error_code(&form)).ok_or(CallbackError::Forged)?;
        if !field(&form, "AccountSid")?.eq_ignore_ascii_case(&self.account_sid) {
            return Err(CallbackError::Ignored);
        }
        let status = either(&form, "MessageStatus", "SmsStatus")?;
        let status = DeliveryStatus::parse(status).ok_or(CallbackError::Ignored)?;
        let message_id = either(&form, "MessageSid", "SmsSid")?;
        let to = field(&form, "To")?;
        // Only a failure has a code. A code that cannot be read does not hide the status.
        let provider_code = optional(&form, ERROR_CODE)?
            .and_then(|provider_code| provider_code.parse().ok())
            .filter(|&provider_code: &u32| provider_code > 0);
        Ok(vec![DeliveryReceipt {
            request_id,
            to: phone_number(to).map(Address::Phone).ok_or(CallbackError::Unreadable("To"))?,
            message_id: is_message_sid(message_id)
                .then(|| message_id.to_owned())
                .ok_or(CallbackError::Unreadable("MessageSid"))?,
            status,
            provider_code,
            reason: refusal_reason(provider_code),
        }])
    }
}

/// True if an error code is signed, and no field has it: bytes that moved made it a part of another field. It is the only
/// field in use that may be absent.
fn hides_error_code(form: &Parameters<'_>) -> bool {
    let is_code = |text: &str| text.starts_with(|first: char| first.is_ascii_digit());
    let signed: String = form.iter().flat_map(|(name, value)| [name.as_ref(), value.as_ref()]).collect();
    let codes = signed.match_indices(ERROR_CODE).filter(|(at, name)| is_code(&signed[at + name.len()..]));
    let fields = form.iter().filter(|(name, value)| name.ends_with(ERROR_CODE) && is_code(value));
    // A code that has swallowed the field behind it is no number.
    codes.count() != fields.clone().count()
        || fields.clone().any(|(_, value)| !value.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The only value of a field.
pub(super) fn optional<'f>(
    form: &'f Parameters<'_>,
    name: &'static str,
) -> Result<Option<&'f str>, CallbackError> {
    let mut values = form.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_ref());
    let value = values.next();
    if values.next().is_some() { Err(CallbackError::Unreadable(name)) } else { Ok(value) }
}

pub(super) fn field<'f>(form: &'f Parameters<'_>, name: &'static str) -> Result<&'f str, CallbackError> {
    optional(form, name)?.ok_or(CallbackError::Unreadable(name))
}

/// The field, or an older name of it.
pub(super) fn either<'f>(
    form: &'f Parameters<'_>,
    name: &'static str,
    older: &'static str,
) -> Result<&'f str, CallbackError> {
    optional(form, name)?.or(optional(form, older)?).ok_or(CallbackError::Unreadable(name))
}
