//! Sends and checks codes through Twilio Verify, which makes the codes and writes the texts itself.
//!
//! `POST …/Verifications` once for each message. While a Verification of a number is pending, another one for it sends the same
//! code again, with the same SID; each message also has a SID of its own. No request is repeated: `attempts` looks up a
//! message whose answer was lost.
//!
//! Fields and answers: Twilio's OpenAPI file `twilio_verify_v2` (`CreateVerification`, `FetchService`). Numbers: Twilio's
//! error pages.

mod attempts;
mod check;

use std::time::Duration;

use async_trait::async_trait;
use form_urlencoded::Serializer;
use jiff::Timestamp;
use reqwest::header::HeaderMap;
use reqwest::{Body, Method, Request, StatusCode, Url};

use super::messages::credential_verdict;
use super::{Account, Authentication, BODY_BYTES_MAX, errors, form_headers, is_sid};
use crate::domain::address::Address;
use crate::domain::json::Json;
use crate::domain::phone::PhoneNumber;
use crate::domain::send_failure::{Scope, SendFailure};
use crate::domain::time::UnixMillis;
use crate::provider::http_client::{Answer, InvalidSettings, base_url, failure, fault};
use crate::provider::{
    Accepted, CredentialError, FetchedMessage, LOOKUP_UNSUPPORTED, LookupError, Message, Provider,
    ProviderMessage, WRONG_CHANNEL,
};

/// Everything needed to use a Verify service. It holds a secret, hence no `Debug`.
#[derive(Clone)]
pub struct VerifySettings {
    /// `AC` and 32 hexadecimal digits.
    pub account_sid: String,
    pub authentication: Authentication,
    /// `VA` and 32 hexadecimal digits.
    pub service_sid: String,
    /// `https://verify.twilio.com`, or a stand-in.
    pub base_url: String,
    /// The limit of one exchange, from connecting to the last byte of the answer.
    pub timeout: Duration,
}

/// A service of Twilio Verify. It holds a credential, hence no `Debug`.
pub struct TwilioVerify {
    service: Account,
    service_sid: String,
    verifications: Url,
    checks: Url,
    attempts: Url,
    form_headers: HeaderMap,
}

/// The error number of a Verification with too many sends.
const CODE_SENDS_MAX: u32 = 60203;
/// The error number of a Verification with too many checks.
const CODE_CHECKS_MAX: u32 = 60202;

/// The languages of every service. A message in another language is refused, so without a match Twilio chooses by the
/// number's country. Twilio's page "Verify supported languages".
const LOCALES: [&str; 36] = [
    "af", "ar", "ca", "cs", "da", "de", "el", "en", "en-GB", "es", "fi", "fr", "he", "hi", "hr", "hu", "id",
    "it", "ja", "ko", "ms", "nb", "nl", "pl", "pt", "pt-BR", "ro", "ru", "sv", "th", "tl", "tr", "vi", "zh",
    "zh-CN", "zh-HK",
];

impl TwilioVerify {
    /// Checks the settings and prepares the client. Nothing is connected yet.
    pub fn new(settings: &VerifySettings) -> Result<TwilioVerify, InvalidSettings> {
        let VerifySettings { account_sid, authentication, service_sid, base_url: base, timeout } = settings;
        if !is_sid("VA", service_sid) {
            return Err(fault("the Verify service's SID must be VA and 32 hexadecimal digits"));
        }
        let service =
            Account::at(account_sid, authentication, base, ["v2", "Services", service_sid], *timeout)?;
        let mut attempts = base_url(base)?;
        let mut path = attempts.path_segments_mut().expect("an http URL has a path");
        path.pop_if_empty().extend(["v2", "Attempts"]);
        drop(path);
        Ok(TwilioVerify {
            verifications: service.url("/Verifications"),
            checks: service.url("/VerificationCheck"),
            attempts,
            form_headers: form_headers(&service),
            service_sid: service_sid.clone(),
            service,
        })
    }

    fn post(&self, url: &Url, form: String) -> Request {
        let mut request = Request::new(Method::POST, url.clone());
        request.headers_mut().clone_from(&self.form_headers);
        *request.body_mut() = Some(Body::from(form));
        request
    }
}

#[async_trait]
impl Provider for TwilioVerify {
    fn name(&self) -> &'static str {
        "verify"
    }

    async fn send(&self, message: &Message<'_>) -> Result<Accepted, SendFailure> {
        let to = message.to.phone().ok_or(WRONG_CHANNEL)?;
        let request = self.post(&self.verifications, form(to, message.locale));
        let answer = self.service.exchange(request, BODY_BYTES_MAX).await;
        let answer = answer.map_err(|error| failure::transport(&error))?;
        if answer.status.is_success() {
            return Ok(accepted(&answer.body));
        }
        Err(refusal(&answer))
    }

    async fn check_credentials(&self) -> Result<(), CredentialError> {
        let unanswered =
            |error: reqwest::Error| CredentialError::Unanswered(failure::transport_detail(&error).to_owned());
        let answer = self.service.get(self.service.url(""), BODY_BYTES_MAX).await.map_err(unanswered)?;
        // Wrong credentials get a 401.
        if answer.status == StatusCode::NOT_FOUND {
            let provider_code = errors::error_code(&answer.body);
            return Err(CredentialError::NoSuchService { status: answer.status.as_u16(), provider_code });
        }
        credential_verdict(&answer)
    }

    fn makes_codes(&self) -> bool {
        true
    }

    async fn find(&self, to: &Address, since: UnixMillis) -> Result<Vec<ProviderMessage>, LookupError> {
        let to = to.phone().ok_or(LOOKUP_UNSUPPORTED)?;
        self.find_attempts(to, since).await
    }

    /// Verify has no receipts, so only messages of another provider can be asked for.
    async fn fetch(&self, _message_id: &str) -> Result<FetchedMessage, LookupError> {
        Err(LookupError::NotFound)
    }
}

fn form(to: &PhoneNumber, wanted: Option<&str>) -> String {
    let mut form = Serializer::new(String::new());
    form.append_pair("To", to.e164()).append_pair("Channel", "sms");
    if let Some(locale) = wanted.and_then(locale) {
        form.append_pair("Locale", locale);
    }
    form.finish()
}

/// Classifies a refusal. A Verification without sends or checks left concerns its number alone until it expires, so it does
/// not throttle other recipients.
fn refusal(answer: &Answer) -> SendFailure {
    match errors::error_code(&answer.body) {
        provider_code @ Some(CODE_SENDS_MAX | CODE_CHECKS_MAX) if answer.status.is_client_error() => {
            SendFailure::refused(Scope::Request, provider_code)
        }
        _ => errors::refusal(answer, Timestamp::now()),
    }
}

/// Twilio's tag of the language: the same, or without the region.
fn locale(wanted: &str) -> Option<&'static str> {
    let wanted = wanted.replace('_', "-");
    let has = |tag: &str| LOCALES.into_iter().find(|locale| locale.eq_ignore_ascii_case(tag));
    has(&wanted).or_else(|| has(wanted.split('-').next().unwrap_or_default()))
}

/// The last message of the Verification is ours. Each member is read for itself.
fn accepted(body: &[u8]) -> Accepted {
    let read = |value: Option<Json<'_>>, kind| {
        let sid = value.and_then(Json::text).filter(|sid| is_sid(kind, sid));
        sid.map(|sid| sid.into_owned())
    };
    let created = Json::read(body).ok().map(|body| body.pick(["sid", "send_code_attempts"]));
    let [sid, attempts] = created.unwrap_or_default();
    let verification_sid = read(sid, "VE");
    let attempts = attempts.into_iter().flat_map(Json::elements).map_while(Result::ok);
    let attempts = attempts.map(|attempt| attempt.pick(["time", "attempt_sid"]));
    let last = attempts.max_by_key(|[time, _]| time.and_then(Json::text).unwrap_or_default());
    let message_id = last.and_then(|[_, sid]| read(sid, "VL"));
    Accepted { message_id: message_id.or_else(|| verification_sid.clone()), segments: None, verification_sid }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VE: &str = "VE0123456789abcdef0123456789abcdef";
    const VL: [&str; 2] = ["VL00000000000000000000000000000001", "VL00000000000000000000000000000002"];

    #[track_caller]
    fn check(body: &str, message_id: Option<&str>, verification_sid: Option<&str>) {
        let found = accepted(body.as_bytes());
        assert_eq!(
            (found.message_id.as_deref(), found.verification_sid.as_deref()),
            (message_id, verification_sid),
            "{body}"
        );
        assert_eq!(found.segments, None);
    }

    #[test]
    fn an_acceptance_names_the_last_message_and_its_verification() {
        let attempt =
            |sid: &str, time: &str| format!(r#"{{"time":"{time}","channel":"SMS","attempt_sid":"{sid}"}}"#);
        let (first, last) = (attempt(VL[0], "2026-11-22T13:37:02Z"), attempt(VL[1], "2026-11-22T13:38:02Z"));
        for attempts in [format!("[{first},{last}]"), format!("[{last},{first}]")] {
            check(&format!(r#"{{"sid":"{VE}","send_code_attempts":{attempts}}}"#), Some(VL[1]), Some(VE));
        }
        check(&format!(r#"{{"sid":"{VE}","send_code_attempts":null}}"#), Some(VE), Some(VE));
        check(
            &format!(r#"{{"sid":"{VE}","send_code_attempts":[{{"attempt_sid":"../x"}}]}}"#),
            Some(VE),
            Some(VE),
        );
        check(&format!(r#"{{"sid":"VE/../","send_code_attempts":[{first}]}}"#), Some(VL[0]), None);
        let odd = format!(r#"[7,null,{{"time":"\ud83d"}},{first},{{"attempt_sid":"\ud83d"}}]"#);
        check(
            &format!(r#"{{"to":"\ud83d","sid":"{VE}","send_code_attempts":{odd}}}"#),
            Some(VL[0]),
            Some(VE),
        );
        check(&format!(r#"{{"sid":"{VE}","send_co"#), None, None);
        check("", None, None);
    }

    #[test]
    fn a_language_is_sent_if_twilio_has_it() {
        for (wanted, found) in [
            ("es", Some("es")),
            ("es-CO", Some("es")),
            ("es_419", Some("es")),
            ("PT-br", Some("pt-BR")),
            ("pt-PT", Some("pt")),
            ("zh-Hant-TW", Some("zh")),
            ("qq", None),
            ("x-es", None),
        ] {
            assert_eq!(locale(wanted), found, "{wanted}");
        }
    }
}
