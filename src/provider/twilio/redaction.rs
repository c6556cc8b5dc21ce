//! Redaction: Twilio deletes the text of a message and keeps the rest. A message that is still on its way would lose its text, so it is
//! left alone until it has been sent.
//!
//! Fields: Twilio's OpenAPI file `twilio_api_v2010` (`UpdateMessage`), whose example redacts a message with the status `sent`.

use form_urlencoded::Serializer;
use reqwest::header::HeaderMap;
use reqwest::{Body, Method, Request, StatusCode};

use super::lookup::{Lookup, Page, lookup_error, unreadable};
use super::{Account, BODY_BYTES_MAX, is_message_sid};
use crate::domain::json::Json;
use crate::domain::phone::PhoneNumber;
use crate::domain::receipt::DeliveryStatus;
use crate::provider::http_client::failure;
use crate::provider::{LookupError, Redacted, UnredactedMessages};

const PAGE_ROWS: &str = "50";
/// Listed at once.
const MESSAGES_MAX: usize = 1_000;
/// With messages that have no text any more.
const PAGES_MAX: usize = 200;

impl Lookup {
    /// The rows of other senders are skipped, as in a message lookup.
    pub(super) async fn list_unredacted(
        &self,
        account: &Account,
        to: &PhoneNumber,
    ) -> Result<UnredactedMessages, LookupError> {
        let mut query = Serializer::new(String::new())
            .append_pair("To", to.e164())
            .append_pair("PageSize", PAGE_ROWS)
            .finish();
        let mut message_ids = Vec::new();
        for _ in 0..PAGES_MAX {
            let body = self.page_body(account, &query).await?;
            let page = Page::read(&body).ok_or_else(unreadable)?;
            for row in page.messages {
                if !self.may_include(row) {
                    continue;
                }
                let [sid, text] = row.pick(["sid", "body"]).map(|value| value.and_then(Json::text));
                let sid = sid.filter(|sid| is_message_sid(sid)).ok_or_else(unreadable)?;
                if text.is_none_or(|text| !text.is_empty()) {
                    message_ids.push(sid.into_owned());
                }
            }
            match page.next {
                None => return Ok(UnredactedMessages { message_ids, are_all: true }),
                Some(_) if message_ids.len() >= MESSAGES_MAX => break,
                Some(next) => query = self.query_of(&next)?,
            }
        }
        Ok(UnredactedMessages { message_ids, are_all: false })
    }
}

pub(super) async fn redact(
    account: &Account,
    form_headers: &HeaderMap,
    message_id: &str,
) -> Result<Redacted, LookupError> {
    match Lookup::fetch(account, message_id).await {
        Ok(message) if message.status.rank() < DeliveryStatus::Sent.rank() => return Ok(Redacted::TooEarly),
        other => other.map(drop)?,
    }
    let mut request = Request::new(Method::POST, account.url(&format!("/Messages/{message_id}.json")));
    request.headers_mut().clone_from(form_headers);
    *request.body_mut() = Some(Body::from("Body="));
    let answer = account.exchange(request, BODY_BYTES_MAX).await;
    let answer =
        answer.map_err(|error| LookupError::Unanswered(failure::transport_detail(&error).to_owned()))?;
    match answer.status {
        status if status.is_success() || status == StatusCode::NOT_FOUND => Ok(Redacted::Done),
        // By its own view the message is not finished.
        StatusCode::BAD_REQUEST | StatusCode::CONFLICT => Ok(Redacted::TooEarly),
        _ => Err(lookup_error(&answer)),
    }
}
