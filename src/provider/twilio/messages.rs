//! Sends through Twilio's Programmable Messaging.
//!
//! `POST …/Messages.json` once for each message. The API has no idempotency key, so the adapter never repeats a request; a
//! message whose answer was lost is looked up instead. Any 2xx is an acceptance, even if the rest of the answer is lost.
//! The constant parts of a request are encoded once.
//!
//! Fields and answers: Twilio's OpenAPI file `twilio_api_v2010` (`CreateMessage`, `FetchAccount`,
//! `ListMessage`).

use std::time::Duration;

use async_trait::async_trait;
use form_urlencoded::Serializer;
use jiff::Timestamp;
use reqwest::header::HeaderMap;
use reqwest::{Body, Method, Request, StatusCode, Url};

use super::lookup::Lookup;
use super::status_url::{StatusUrl, UrlTemplate};
use super::{Account, BODY_BYTES_MAX, CODE_NOT_AUTHORIZED, NAME, Retention, Sender, TwilioSettings};
use super::{errors, form_headers, is_message_sid, is_sid, redaction};
use crate::domain::address::Address;
use crate::domain::json::Json;
use crate::domain::phone::PhoneNumber;
use crate::domain::send_failure::SendFailure;
use crate::domain::time::UnixMillis;
use crate::provider::http_client::{self, Answer, InvalidSettings, failure, fault};
use crate::provider::{
    Accepted, CredentialError, FetchedMessage, LOOKUP_UNSUPPORTED, LookupError, Message, Provider,
    ProviderMessage, Redacted, UnredactedMessages, WRONG_CHANNEL,
};

/// Twilio's Messages API. It holds a credential, hence no `Debug`.
pub struct TwilioMessages {
    name: &'static str,
    account: Account,
    messages: Url,
    form_headers: HeaderMap,
    /// For each sender, the encoded part of the form that all its messages share.
    prepared: Vec<String>,
    /// The status callback, whose value the prepared part begins.
    status_url: Option<UrlTemplate>,
    lookup: Lookup,
    keeps_addresses: bool,
    /// The resource that valid credentials can read.
    probe: Url,
}

/// Twilio's bounds for `ValidityPeriod`, in seconds.
const VALIDITY_SECONDS: std::ops::RangeInclusive<u64> = 1..=36_000;

impl TwilioMessages {
    /// Checks the settings and prepares the client. Nothing is connected yet.
    pub fn new(settings: TwilioSettings) -> Result<TwilioMessages, InvalidSettings> {
        let account = Account::new(&settings)?;
        let status_url = settings.status_callback.as_deref().map(StatusUrl::parse).transpose()?;
        let status_url = status_url.map(|url| url.template());
        Ok(TwilioMessages {
            name: NAME,
            messages: account.url("/Messages.json"),
            form_headers: form_headers(&account),
            prepared: prepared_forms(&settings.sender, settings.retention, status_url.as_ref())?,
            status_url,
            keeps_addresses: settings.retention.keeps_addresses,
            lookup: Lookup::new(&account, &settings.account_sid, &settings.sender),
            probe: credential_check_url(&account, settings.authentication.is_api_key()),
            account,
        })
    }

    /// One of several accounts.
    pub fn named(self, name: &'static str) -> TwilioMessages {
        TwilioMessages { name, ..self }
    }

    /// The lines of the request that would be sent, without secrets.
    pub fn shown_request(&self, message: &Message<'_>) -> Option<Vec<String>> {
        Some(http_client::shown(&self.request(message.to.phone()?, message)))
    }

    /// The lines of the request that checks the account.
    pub fn shown_check(&self) -> Vec<String> {
        http_client::shown(&self.account.reading(self.probe.clone()))
    }

    fn request(&self, to: &PhoneNumber, message: &Message<'_>) -> Request {
        let mut request = Request::new(Method::POST, self.messages.clone());
        request.headers_mut().clone_from(&self.form_headers);
        *request.body_mut() = Some(Body::from(self.form(to, message)));
        request
    }

    fn form(&self, to: &PhoneNumber, message: &Message<'_>) -> String {
        let prepared = &self.prepared[message.sender];
        // Room for a text with an escaped character now and then, so that it rarely grows.
        let mut form = String::with_capacity(prepared.len() + message.body.len() * 3 / 2 + 160);
        form.push_str(prepared);
        if let Some(url) = &self.status_url {
            url.finish(&mut form, message.request_id, message.attempt);
        }
        Serializer::for_suffix(form, 0)
            .append_pair("To", to.e164())
            .append_pair("Body", message.body)
            .append_pair("ValidityPeriod", &validity_seconds(message.validity).to_string())
            .finish()
    }
}

#[async_trait]
impl Provider for TwilioMessages {
    fn name(&self) -> &'static str {
        self.name
    }

    async fn send(&self, message: &Message<'_>) -> Result<Accepted, SendFailure> {
        let to = message.to.phone().ok_or(WRONG_CHANNEL)?;
        let request = self.request(to, message);
        let answer = self
            .account
            .exchange(request, BODY_BYTES_MAX)
            .await
            .map_err(|error| failure::transport(&error))?;
        if answer.status.is_success() {
            return Ok(accepted(&answer.body));
        }
        Err(errors::refusal(&answer, Timestamp::now()))
    }

    /// Test credentials are refused like wrong ones (403, 20008): what they accept is never delivered.
    async fn check_credentials(&self) -> Result<(), CredentialError> {
        let unanswered =
            |error: reqwest::Error| CredentialError::Unanswered(failure::transport_detail(&error).to_owned());
        let answer = self.account.get(self.probe.clone(), BODY_BYTES_MAX).await.map_err(unanswered)?;
        credential_verdict(&answer)
    }

    fn senders(&self) -> usize {
        self.prepared.len()
    }

    async fn find(&self, to: &Address, since: UnixMillis) -> Result<Vec<ProviderMessage>, LookupError> {
        let to = to.phone().filter(|_| self.keeps_addresses).ok_or(LOOKUP_UNSUPPORTED)?;
        self.lookup.find(&self.account, to, since).await
    }

    async fn fetch(&self, message_id: &str) -> Result<FetchedMessage, LookupError> {
        Lookup::fetch(&self.account, message_id).await
    }

    fn redacts(&self) -> bool {
        true
    }

    async fn list_unredacted(&self, to: &Address) -> Result<UnredactedMessages, LookupError> {
        let to = to.phone().ok_or(LOOKUP_UNSUPPORTED)?;
        self.lookup.list_unredacted(&self.account, to).await
    }

    async fn redact(&self, message_id: &str) -> Result<Redacted, LookupError> {
        redaction::redact(&self.account, &self.form_headers, message_id).await
    }
}

pub(super) fn credential_verdict(answer: &Answer) -> Result<(), CredentialError> {
    let provider_code = errors::error_code(&answer.body);
    match (answer.status, provider_code) {
        (status, _) if status.is_success() => Ok(()),
        // A restricted API key may be good for sending and not for reading.
        (_, Some(CODE_NOT_AUTHORIZED)) => {
            Err(CredentialError::MayNotRead { provider_code: CODE_NOT_AUTHORIZED })
        }
        (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND, provider_code) => {
            Err(CredentialError::Refused { status: answer.status.as_u16(), provider_code })
        }
        (status, provider_code) => Err(CredentialError::Unanswered(failure::answered(status, provider_code))),
    }
}

/// The cheapest resource that shows if the credential is valid. Only main API keys may read the account; others get a 401
/// like a wrong password (Twilio's page 20003). For an API key it is the list of messages of an early day, which is empty
/// and needs the permission of a message lookup.
fn credential_check_url(account: &Account, is_api_key: bool) -> Url {
    if !is_api_key {
        return account.url(".json");
    }
    let mut list = account.url("/Messages.json");
    list.set_query(Some("DateSent=2000-01-01&PageSize=1"));
    list
}

fn prepared_forms(
    sender: &Sender,
    retention: Retention,
    status_url: Option<&UrlTemplate>,
) -> Result<Vec<String>, InvalidSettings> {
    let (field, values) = match sender {
        Sender::MessagingService(sid) if !is_sid("MG", sid) => {
            return Err(fault("the Messaging Service's SID must be MG and 32 hexadecimal digits"));
        }
        Sender::MessagingService(sid) => ("MessagingServiceSid", std::slice::from_ref(sid)),
        Sender::Numbers(numbers) if numbers.is_empty() || numbers.iter().any(|n| n.trim().is_empty()) => {
            return Err(fault("a sender number is missing or empty"));
        }
        Sender::Numbers(numbers) => ("From", numbers.as_slice()),
    };
    let prepared = |value: &String| {
        let mut form = Serializer::new(String::new());
        form.append_pair(field, value.trim());
        if !retention.keeps_texts {
            form.append_pair("ContentRetention", "discard");
        }
        if !retention.keeps_addresses {
            form.append_pair("AddressRetention", "obfuscate");
        }
        let form = form.finish();
        match status_url {
            Some(url) => format!("{form}&StatusCallback={}", url.before()),
            None => form,
        }
    };
    Ok(values.iter().map(prepared).collect())
}

/// Rounded down: a message must not be delivered after its validity.
fn validity_seconds(validity: Duration) -> u64 {
    validity.as_secs().clamp(*VALIDITY_SECONDS.start(), *VALIDITY_SECONDS.end())
}

/// Each member is read for itself, so that an odd one does not hide the other.
fn accepted(body: &[u8]) -> Accepted {
    let created = Json::read(body).ok().map(|body| body.pick(["sid", "num_segments"]));
    let [sid, segments] = created.unwrap_or_default().map(|value| value.and_then(Json::text));
    let message_id = sid.filter(|sid| is_message_sid(sid)).map(|sid| sid.into_owned());
    // A Messaging Service answers "0" before it has chosen a sender: the count is unknown.
    let segments = segments.and_then(|n| n.parse().ok()).filter(|&n| n > 0);
    Accepted { message_id, segments, verification_sid: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SID: &str = "SM0123456789abcdef0123456789abcdef";

    #[track_caller]
    fn check(body: &str, message_id: Option<&str>, segments: Option<u32>) {
        let expected =
            Accepted { message_id: message_id.map(str::to_owned), segments, verification_sid: None };
        assert_eq!(accepted(body.as_bytes()), expected, "{body}");
    }

    #[test]
    fn an_acceptance_is_read_as_far_as_it_is_valid() {
        check(&format!(r#"{{"sid":"{SID}","num_segments":"2","error_code":null}}"#), Some(SID), Some(2));
        check(&format!(r#"{{"sid":"{SID}","num_segments":"0"}}"#), Some(SID), None);
        check(&format!(r#"{{"sid":"{SID}","num_segments":2}}"#), Some(SID), None);
        check(r#"{"sid":"SM../../x","num_segments":"1"}"#, None, Some(1));
        check(r#"{"sid":17}"#, None, None);
        check(&format!(r#"{{"sid":"{SID}","num_seg"#), None, None);
        check("", None, None);
    }

    #[test]
    fn a_validity_is_whole_seconds_within_twilios_bounds() {
        assert_eq!(validity_seconds(Duration::from_millis(59_999)), 59);
        assert_eq!(validity_seconds(Duration::ZERO), 1);
        assert_eq!(validity_seconds(Duration::from_secs(1 << 40)), 36_000);
    }
}
