//! The message lookup of Verify, which lists each message as an attempt of its Verification.
//!
//! The lookup starts a minute before the time, because Twilio's clock may differ, and reads one page: a number gets few
//! messages. A longer list, or one that is cut off or unreadable, leaves the lookup unanswered.
//!
//! Fields: Twilio's OpenAPI file `twilio_verify_v2` (`ListVerificationAttempt`).

use std::time::Duration;

use form_urlencoded::Serializer;
use jiff::Timestamp;
use reqwest::header::DATE;
use serde::Deserialize;

use super::super::{is_sid, lookup};
use super::TwilioVerify;
use crate::clock::Clock;
use crate::domain::phone::PhoneNumber;
use crate::domain::time::{UnixMillis, millis};
use crate::provider::http_client::Answer;
use crate::provider::http_client::failure::{self, http_date};
use crate::provider::{LookupError, ProviderMessage};

/// Room for a page of the longest attempts.
const BODY_BYTES_MAX: usize = 512 * 1024;
const PAGE_ROWS: &str = "100";
/// More than any difference between two maintained clocks.
const CLOCKS_DIFFER_MAX: Duration = Duration::from_secs(60);
/// Twilio cuts times to seconds: a message may be younger by this.
const TIME_GRAIN: Duration = Duration::from_secs(1);

/// The list. A missing field makes the answer unreadable, unless it may be null.
#[derive(Deserialize)]
struct Page {
    attempts: Vec<Row>,
    meta: Meta,
}

#[derive(Deserialize)]
struct Meta {
    #[serde(deserialize_with = "Option::deserialize")]
    next_page_url: Option<String>,
}

#[derive(Deserialize)]
struct Row {
    sid: String,
    service_sid: String,
    verification_sid: String,
    channel: String,
    date_created: Timestamp,
}

impl TwilioVerify {
    /// Messages of this service to a number since a time, as far as Twilio shows them.
    pub(super) async fn find_attempts(
        &self,
        to: &PhoneNumber,
        since: UnixMillis,
    ) -> Result<Vec<ProviderMessage>, LookupError> {
        let after = UnixMillis(since.0.saturating_sub(millis(CLOCKS_DIFFER_MAX)));
        let query = Serializer::new(String::new())
            .append_pair("ChannelData.To", to.e164())
            .append_pair("DateCreatedAfter", &in_seconds(after))
            .append_pair("VerifyServiceSid", &self.service_sid)
            .append_pair("PageSize", PAGE_ROWS)
            .finish();
        let mut url = self.attempts.clone();
        url.set_query(Some(&query));
        let unanswered =
            |error: reqwest::Error| LookupError::Unanswered(failure::transport_detail(&error).to_owned());
        let answer = self.service.get(url, BODY_BYTES_MAX).await.map_err(unanswered)?;
        if !answer.status.is_success() {
            return Err(lookup::lookup_error(&answer));
        }
        let page: Page = serde_json::from_slice(&answer.body).map_err(|_| lookup::unreadable())?;
        if page.meta.next_page_url.is_some() {
            return Err(LookupError::Unanswered("there are too many messages to read".to_owned()));
        }
        let behind = behind(&answer);
        let ours =
            |row: &Row| row.channel == "sms" && row.service_sid.eq_ignore_ascii_case(&self.service_sid);
        let rows = page.attempts.into_iter().filter(ours).map(|row| message(row, behind));
        let rows: Vec<ProviderMessage> = rows.collect::<Option<_>>().ok_or_else(lookup::unreadable)?;
        Ok(rows.into_iter().filter(|row| row.created.plus(TIME_GRAIN) > since).collect())
    }
}

/// The lag of Twilio's clock behind ours, in milliseconds. Without a date the clocks count as equal.
fn behind(answer: &Answer) -> i64 {
    let theirs = answer.headers.get(DATE).and_then(|date| date.to_str().ok()).and_then(http_date);
    let ours = i64::try_from(Clock::System.now().0).unwrap_or(i64::MAX);
    theirs.map_or(0, |theirs| ours.saturating_sub(theirs.as_millisecond()))
}

fn message(row: Row, behind: i64) -> Option<ProviderMessage> {
    let created = row.date_created.as_millisecond().checked_add(behind)?;
    (is_sid("VL", &row.sid) && is_sid("VE", &row.verification_sid)).then_some(ProviderMessage {
        message_id: row.sid,
        created: UnixMillis(u64::try_from(created).ok()?),
        // Verify never shows the text.
        text: None,
        segments: None,
        verification_sid: Some(row.verification_sid),
    })
}

/// A time as Twilio reads it: ISO 8601 in whole seconds.
fn in_seconds(at: UnixMillis) -> String {
    let seconds = i64::try_from(at.as_seconds()).unwrap_or(i64::MAX);
    Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX).to_string()
}
