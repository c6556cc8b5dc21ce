//! The body of a request, as [`SendRequest::decode`] reads it.

use std::net::IpAddr;

use otpost::domain::purpose::Purpose;
use otpost::domain::request::body::{AutofillBody, SendRequestBody};
use otpost::domain::request::error::{BODY_BYTES_MAX, RequestError};
use otpost::domain::request::{AutofillField, InvalidBody, SendRequest};
use otpost::domain::request_id::RequestId;
use otpost::domain::time::UnixMillis;
use otpost::domain::time_zone::Zone;
use serde_json::Value;

use super::assert_shows_no_digits;

/// The timestamp of the message.
const TIMESTAMP: UnixMillis = UnixMillis(1_795_000_000_000);

/// Checks the reading of one body against the contract.
pub fn check(body: &[u8]) {
    let decoded = SendRequest::decode(body, None);
    let stamped = SendRequest::decode(body, Some(TIMESTAMP));
    match (&decoded, &stamped) {
        (Ok(request), Ok(stamped)) => {
            assert_keeps_its_bounds(request, body);
            assert_eq!(stamped.requested_at, Some(request.requested_at.unwrap_or(TIMESTAMP)));
            assert_matches_the_body(request, body);
            assert_can_be_written_again(request);
            assert_is_answered_to_when_broken(request, body);
        }
        (Err(refused), Err(stamped)) => {
            assert_eq!(refused.fault, stamped.fault, "the time of a message decides nothing");
            assert_is_explained(refused, body);
        }
        _ => panic!("the time of a message decides nothing"),
    }
}

fn assert_keeps_its_bounds(request: &SendRequest<'_>, body: &[u8]) {
    let characters = |text: &str| text.chars().count();
    let is_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
    assert!(body.len() <= BODY_BYTES_MAX);
    assert_is_an_id(&request.id);
    assert!((1..=320).contains(&characters(&request.to)));
    assert_is_a_purpose(&request.purpose);
    assert!(request.user_id.as_deref().is_none_or(|id| (1..=255).contains(&characters(id))));
    assert!(request.user_name.as_deref().is_none_or(|name| characters(name) <= 200));
    assert!(request.locale.as_deref().is_none_or(|tag| (2..=35).contains(&tag.len()) && tag.is_ascii()));
    let zone = request.timezone.as_ref().map(Zone::name);
    assert!(zone.is_none_or(|zone| (1..=64).contains(&zone.len()) && zone.is_ascii()));
    let template = request.template.as_deref();
    assert!(template.is_none_or(|name| (1..=64).contains(&name.len()) && name.bytes().all(is_name)));
    let code = request.code.as_ref().map(|code| code.expose());
    // The message does not show it: it is a code.
    assert!(
        code.is_none_or(|code| (4..=10).contains(&code.len()) && code.bytes().all(|b| b.is_ascii_digit()))
    );
    for at in [request.requested_at, request.not_after].into_iter().flatten() {
        assert_eq!(UnixMillis::parse_rfc3339(&at.to_string()), Some(at), "a time reads back");
    }
}

#[track_caller]
fn assert_is_an_id(id: &RequestId) {
    let text = id.as_str();
    assert!((1..=128).contains(&text.len()) && text.bytes().all(|byte| (b'!'..=b'~').contains(&byte)));
}

#[track_caller]
fn assert_is_a_purpose(purpose: &Purpose) {
    let text = purpose.as_str();
    let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-');
    assert!((1..=32).contains(&text.len()) && text.bytes().all(allowed));
}

/// A general JSON reader finds the same values, if it can read the body.
fn assert_matches_the_body(request: &SendRequest<'_>, body: &[u8]) {
    // It also rejects deep nesting and lone surrogates in fields that the decoder skips.
    let Ok(value) = serde_json::from_slice::<Value>(body) else {
        return;
    };
    let text = |field: &str| value.get(field).and_then(Value::as_str);
    assert!(value.is_object());
    assert_eq!(text("request_id"), Some(request.id.as_str()));
    assert!(text("to") == Some(&request.to), "another recipient");
    assert_eq!(text("purpose").unwrap_or("verification"), request.purpose.as_str());
    assert!(text("user_id") == request.user_id.as_deref(), "another user");
    assert!(text("user_name") == request.user_name.as_deref(), "another name");
    assert_eq!(text("client_ip").and_then(|ip| ip.parse::<IpAddr>().ok()), request.client_ip);
    assert_eq!(text("locale"), request.locale.as_deref());
    assert_eq!(text("timezone"), request.timezone.as_ref().map(Zone::name));
    assert_eq!(text("template"), request.template.as_deref());
    assert!(text("code") == request.code.as_ref().map(|code| code.expose()), "another code");
    assert_eq!(text("requested_at").is_some(), request.requested_at.is_some());
    assert_eq!(text("not_after").is_some(), request.not_after.is_some());
    assert_eq!(value.get("autofill").is_some_and(Value::is_object), request.autofill.is_some());
}

fn assert_can_be_written_again(request: &SendRequest<'_>) {
    let again = serde_json::to_vec(&written(request)).expect("text is JSON");
    // Only a long text for `autofill` can fill a body, whose other fields may be longer in their usual form.
    if again.len() > BODY_BYTES_MAX {
        return;
    }
    let decoded = SendRequest::decode(&again, None).unwrap_or_else(|refused| panic!("{}", refused.fault));
    let twice = serde_json::to_vec(&written(&decoded)).expect("text is JSON");
    assert!(again == twice, "a request that is written again is another one");
    assert_eq!((&decoded.id, decoded.client_ip), (&request.id, request.client_ip));
    assert_eq!((decoded.requested_at, decoded.not_after), (request.requested_at, request.not_after));
}

/// The request as its publisher would have written it.
fn written(request: &SendRequest<'_>) -> SendRequestBody {
    let owned = |text: &Option<std::borrow::Cow<'_, str>>| text.as_deref().map(str::to_owned);
    SendRequestBody {
        request_id: request.id.to_string(),
        to: request.to.clone().into_owned(),
        purpose: Some(request.purpose.as_str().to_owned()),
        user_id: owned(&request.user_id),
        user_name: owned(&request.user_name),
        client_ip: request.client_ip.map(|ip| ip.to_string()),
        locale: owned(&request.locale),
        timezone: request.timezone.as_ref().map(|zone| zone.name().to_owned()),
        template: owned(&request.template),
        code: request.code.as_ref().map(|code| code.expose().to_owned()),
        requested_at: request.requested_at.map(|at| at.to_string()),
        not_after: request.not_after.map(|at| at.to_string()),
        autofill: request.autofill.as_ref().map(|autofill| match autofill {
            AutofillField::WebOtpDomain(domain) => AutofillBody::WebotpDomain(domain.clone().into_owned()),
            AutofillField::AndroidHash(hash) => AutofillBody::AndroidHash(hash.clone().into_owned()),
        }),
    }
}

/// A valid body with trailing bytes is invalid, and its caller still gets an answer.
fn assert_is_answered_to_when_broken(request: &SendRequest<'_>, body: &[u8]) {
    let broken = [body, b"}"].concat();
    let refused = SendRequest::decode(&broken, None).err().expect("two values are no body");
    assert_eq!(refused.request_id.as_ref(), Some(&request.id));
    match refused.fault {
        RequestError::NotJson { .. } => assert!(broken.len() <= BODY_BYTES_MAX),
        RequestError::TooLarge { .. } => assert!(broken.len() > BODY_BYTES_MAX),
        other => panic!("{other}"),
    }
}

fn assert_is_explained(refused: &InvalidBody, body: &[u8]) {
    if let Some(id) = &refused.request_id {
        assert_is_an_id(id);
    }
    if let Some(purpose) = &refused.purpose {
        assert_is_a_purpose(purpose);
    }
    let message = refused.fault.to_string();
    assert_eq!(
        matches!(refused.fault, RequestError::TooLarge { .. }),
        body.len() > BODY_BYTES_MAX,
        "{message}"
    );
    match refused.fault {
        RequestError::TooLarge { bytes } => assert_eq!(bytes, body.len()),
        RequestError::NotJson { line, column } => {
            let lines = body.split(|&byte| byte == b'\n').count();
            assert!((1..=lines).contains(&line) && column <= body.len(), "{message}");
        }
        RequestError::NotAnObject => {
            let is_object = serde_json::from_slice::<Value>(body).is_ok_and(|value| value.is_object());
            assert!(!is_object, "{message}");
        }
        RequestError::Field { field, rule, .. } => {
            assert!(SendRequest::FIELDS.contains(&field) && rule.starts_with("must be "), "{message}");
            assert!(message.starts_with(&format!("`{field}` {rule}; got ")), "{message}");
        }
        RequestError::Repeated { field } => assert!(SendRequest::FIELDS.contains(&field), "{message}"),
    }
    // An error may name the length of a body, though a body may contain its own length.
    if body.len() <= BODY_BYTES_MAX {
        assert_shows_no_digits(&message, body);
    }
}
