//! Validates requests against Twilio's OpenAPI file `twilio_api_v2010`.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use super::{ACCOUNT_SID, API_KEY, AUTH_TOKEN, Recorded};

/// A request that follows the API.
pub enum ValidCall {
    Message,
    List,
    Fetch(String),
    Redact(String),
    Read(Value),
    Refused(u16, u32),
}

/// Validates a request. The error is a sentence.
pub fn validate(request: &Recorded) -> Result<ValidCall, &'static str> {
    let main_key = match credential(request)?.as_str() {
        text if text == format!("{ACCOUNT_SID}:{AUTH_TOKEN}") => true,
        text if text == format!("{}:{}", API_KEY.0, API_KEY.1) => false,
        _ => return Ok(ValidCall::Refused(401, 20003)),
    };
    let account = format!("/2010-04-01/Accounts/{ACCOUNT_SID}");
    match (request.method.as_str(), request.path.strip_prefix(&account)) {
        ("POST", Some("/Messages.json")) => check_message(request).map(|()| ValidCall::Message),
        ("GET", Some("/Messages.json")) => check_list(request).map(|()| ValidCall::List),
        ("GET", Some(path)) if path.starts_with("/Messages/") => {
            check_fetch(request, path).map(|sid| ValidCall::Fetch(sid.to_owned()))
        }
        ("POST", Some(path)) if path.starts_with("/Messages/") => {
            check_redaction(request, path).map(|sid| ValidCall::Redact(sid.to_owned()))
        }
        ("GET", Some(".json")) if main_key => {
            Ok(ValidCall::Read(json!({"sid": ACCOUNT_SID, "status": "active"})))
        }
        // Twilio's page 20003: the Accounts resource needs a main key.
        ("GET", Some(".json")) => Ok(ValidCall::Refused(401, 20003)),
        (_, None) => Ok(ValidCall::Refused(404, 20404)),
        _ => Err("no such method and path"),
    }
}

pub fn credential(request: &Recorded) -> Result<String, &'static str> {
    let header = request.headers.get("authorization").ok_or("no Authorization header")?;
    let encoded = header.strip_prefix("Basic ").ok_or("the authorization is not Basic")?;
    let decoded = BASE64_STANDARD.decode(encoded).map_err(|_| "the credential is not base64")?;
    String::from_utf8(decoded).map_err(|_| "the credential is not text")
}

/// The form fields of `CreateMessageRequest` in Twilio's OpenAPI file.
const FORM_FIELDS: [&str; 25] = [
    "AddressRetention",
    "ApplicationSid",
    "Attempt",
    "Body",
    "ContentRetention",
    "ContentSid",
    "ContentVariables",
    "FallbackFrom",
    "ForceDelivery",
    "From",
    "MaxPrice",
    "MediaUrl",
    "MessagingServiceSid",
    "PersistentAction",
    "ProvideFeedback",
    "RiskCheck",
    "ScheduleType",
    "SendAsMms",
    "SendAt",
    "ShortenUrls",
    "SmartEncoded",
    "StatusCallback",
    "To",
    "TrafficType",
    "ValidityPeriod",
];

/// The query parameters of `ListMessage`.
const LIST_PARAMETERS: [&str; 8] =
    ["DateSent", "DateSent<", "DateSent>", "From", "Page", "PageSize", "PageToken", "To"];

fn check_list(request: &Recorded) -> Result<(), &'static str> {
    let mut names: Vec<&str> = request.form.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    let size = request.field("PageSize").map(|size| size.parse::<u32>().unwrap_or(0));
    rule(names.iter().all(|name| LIST_PARAMETERS.contains(name)), "a parameter that the API does not know")?;
    rule(names.windows(2).all(|pair| pair[0] != pair[1]), "a parameter stands twice")?;
    rule(request.field("To").is_none_or(is_e164), "To is not E.164")?;
    rule(size.is_none_or(|size| (1..=1000).contains(&size)), "PageSize is out of bounds")
}

/// The SID in the path of `FetchMessage`, which has no parameters.
fn check_fetch<'a>(request: &Recorded, path: &'a str) -> Result<&'a str, &'static str> {
    rule(request.form.is_empty(), "a fetch has no parameters")?;
    check_sid(path)
}

/// The SID in the path of `UpdateMessage`, with the only body that redacts.
fn check_redaction<'a>(request: &Recorded, path: &'a str) -> Result<&'a str, &'static str> {
    let content_type = request.headers.get("content-type").map(String::as_str);
    rule(content_type == Some("application/x-www-form-urlencoded"), "the content type is not a form's")?;
    rule(request.form == [("Body".to_owned(), String::new())], "not an empty Body alone")?;
    check_sid(path)
}

fn check_sid(path: &str) -> Result<&str, &'static str> {
    let sid = path.strip_prefix("/Messages/").and_then(|path| path.strip_suffix(".json"));
    let is_hex = |digits: &str| digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    let sid = sid.filter(|sid| ["SM", "MM"].iter().any(|kind| sid.strip_prefix(kind).is_some_and(is_hex)));
    sid.ok_or("the SID is no message's")
}

pub fn rule(holds: bool, breach: &'static str) -> Result<(), &'static str> {
    if holds { Ok(()) } else { Err(breach) }
}

pub fn is_e164(text: &str) -> bool {
    let digits = text.strip_prefix('+').unwrap_or_default();
    (7..=15).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0')
}

fn check_message(request: &Recorded) -> Result<(), &'static str> {
    let content_type = request.headers.get("content-type").map(String::as_str);
    let mut names: Vec<&str> = request.form.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    let senders = [request.field("From"), request.field("MessagingServiceSid")];
    let validity = request.field("ValidityPeriod").map(|seconds| seconds.parse::<u32>().unwrap_or(0));
    let callback_host = |url: &str| url.split('/').nth(2).unwrap_or_default().to_owned();
    rule(content_type == Some("application/x-www-form-urlencoded"), "the content type is not a form's")?;
    rule(names.iter().all(|name| FORM_FIELDS.contains(name)), "a field that the API does not know")?;
    rule(names.windows(2).all(|pair| pair[0] != pair[1]), "a field stands twice")?;
    rule(request.field("To").is_some_and(is_e164), "To is not E.164")?;
    rule(senders.iter().flatten().count() == 1, "not exactly one of From and MessagingServiceSid")?;
    rule(senders.iter().flatten().all(|sender| !sender.is_empty()), "an empty sender")?;
    let body_length = request.field("Body").map_or(0, |body| body.chars().count());
    rule((1..=1600).contains(&body_length), "Body is empty or longer than 1600 characters")?;
    let may_be = |name, choices: [&str; 2]| request.field(name).is_none_or(|value| choices.contains(&value));
    rule(may_be("ContentRetention", ["retain", "discard"]), "ContentRetention is no choice")?;
    rule(may_be("AddressRetention", ["retain", "obfuscate"]), "AddressRetention is no choice")?;
    rule(validity.is_none_or(|seconds| (1..=36_000).contains(&seconds)), "ValidityPeriod is out of bounds")?;
    let callback = request.field("StatusCallback").map(callback_host);
    rule(
        callback.is_none_or(|host| !host.is_empty() && !host.contains('_')),
        "StatusCallback has no good host",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: [(&str, &str); 4] =
        [("To", "+573001234567"), ("From", "+15005550006"), ("Body", "text"), ("ValidityPeriod", "36000")];

    fn verdict(changes: &[(&str, &str)], content_type: &str) -> Result<(), &'static str> {
        let unchanged = GOOD.iter().filter(|(name, _)| changes.iter().all(|(changed, _)| changed != name));
        let form = unchanged.chain(changes).filter(|(_, value)| *value != "absent");
        check_message(&Recorded {
            method: "POST".to_owned(),
            path: String::new(),
            headers: [("content-type".to_owned(), content_type.to_owned())].into(),
            form: form.map(|(name, value)| (name.to_string(), value.to_string())).collect(),
            body: Vec::new(),
        })
    }

    fn get_request(path: &str, query: &[(&str, &str)]) -> Recorded {
        Recorded {
            method: "GET".to_owned(),
            path: path.to_owned(),
            headers: [].into(),
            form: query.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
            body: Vec::new(),
        }
    }

    #[test]
    fn an_invalid_lookup_is_distinguished_from_a_valid_one() {
        assert_eq!(check_list(&get_request("", &[("To", "+573001234567"), ("PageSize", "1000")])), Ok(()));
        for breach in [
            [("to", "+573001234567")].as_slice(),
            &[("To", "573001234567")],
            &[("PageSize", "1001")],
            &[("PageSize", "0")],
            &[("DateCreated", "2026-01-01")],
            &[("Page", "1"), ("Page", "2")],
        ] {
            assert!(check_list(&get_request("", breach)).is_err(), "{breach:?}");
        }
        let fetched = |path: &str| check_fetch(&get_request(path, &[]), path).is_ok();
        assert!(fetched("/Messages/SM00000000000000000000000000000001.json"));
        assert!(!fetched("/Messages/SM1.json"));
        assert!(!fetched("/Messages/SM00000000000000000000000000000001/Media.json"));
    }

    #[test]
    fn an_invalid_send_is_distinguished_from_a_valid_one() {
        let form = "application/x-www-form-urlencoded";
        assert_eq!(verdict(&[], form), Ok(()));
        assert!(verdict(&[], "application/json").is_err());
        let service = ("MessagingServiceSid", "MG00000000000000000000000000000003");
        assert_eq!(verdict(&[("From", "absent"), service], form), Ok(()));
        let long = "x".repeat(1601);
        for breach in [
            [("To", "3001234567")].as_slice(),
            &[("To", "+57 300 1234567")],
            &[("To", "absent")],
            &[("From", "absent")],
            &[service],
            &[("Body", "")],
            &[("Body", &long)],
            &[("ValidityPeriod", "0")],
            &[("ValidityPeriod", "36001")],
            &[("ValidityPeriod", "1.5")],
            &[("StatusCallback", "https://my_host.example/")],
            &[("ContentRetention", "debug")],
            &[("AddressRetention", "mask")],
            &[("Tags", "x")],
            &[("To", "+573001234567"), ("To", "+573001234567")],
        ] {
            assert!(verdict(breach, form).is_err(), "{breach:?}");
        }
    }
}
