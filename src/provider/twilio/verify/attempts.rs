//! The message lookup of Verify, which lists each message as an attempt of its Verification.
//!
//! The lookup starts a minute before the time, because Twilio's clock may differ, and reads one page: a number gets few
//! messages. A longer list, or one that is cut off or unreadable, leaves the lookup unanswered, as does an attempt that may
//! be ours without SIDs or time. Other attempts are skipped, whatever they hold.
//!
//! Fields: Twilio's OpenAPI file `twilio_verify_v2` (`ListVerificationAttempt`).

use std::time::Duration;

use form_urlencoded::Serializer;
use jiff::Timestamp;
use reqwest::header::DATE;

use super::super::{is_sid, lookup};
use super::TwilioVerify;
use crate::clock::Clock;
use crate::domain::json::{Json, Shape};
use crate::domain::phone::PhoneNumber;
use crate::domain::time::{UnixMillis, millis};
use crate::provider::http_client::Answer;
use crate::provider::http_client::failure;
use crate::provider::http_client::retry_after_header::http_date;
use crate::provider::{LookupError, ProviderMessage};

/// Room for a page of the longest attempts.
const BODY_BYTES_MAX: usize = 512 * 1024;
const PAGE_ROWS: &str = "100";
/// More than any difference between two maintained clocks.
const CLOCKS_DIFFER_MAX: Duration = Duration::from_secs(60);
/// Twilio cuts times to seconds: a message may be younger by this.
const TIME_GRAIN: Duration = Duration::from_secs(1);

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
        let rows = attempts(&answer.body)?;
        let behind = behind(&answer);
        let mut found = Vec::new();
        for row in rows {
            let created = created(row, behind);
            let is_before = created.is_some_and(|created| created.plus(TIME_GRAIN) <= since);
            if !is_before && self.may_include(row) {
                found.push(candidate(row, created).ok_or_else(lookup::unreadable)?);
            }
        }
        Ok(found)
    }

    /// False for an attempt of another channel or service.
    fn may_include(&self, row: Json<'_>) -> bool {
        let [channel, service] = row.pick(["channel", "service_sid"]);
        row.shape() == Shape::Object
            && channel.and_then(Json::text).is_none_or(|channel| channel == "sms")
            && service
                .and_then(Json::text)
                .is_none_or(|service| service.eq_ignore_ascii_case(&self.service_sid))
    }
}

/// The rows of the list, if it is the only page.
fn attempts(body: &[u8]) -> Result<Vec<Json<'_>>, LookupError> {
    let [attempts, meta] = Json::read(body).map_err(|_| lookup::unreadable())?.pick(["attempts", "meta"]);
    let next = meta.and_then(|meta| meta.pick(["next_page_url"])[0]).ok_or_else(lookup::unreadable)?;
    if !next.is_null() {
        return Err(LookupError::Unanswered("there are too many messages to read".to_owned()));
    }
    let rows = attempts.map(|attempts| attempts.elements().collect::<Result<_, _>>());
    rows.and_then(Result::ok).ok_or_else(lookup::unreadable)
}

/// The lag of Twilio's clock behind ours, in milliseconds. Without a date the clocks count as equal.
fn behind(answer: &Answer) -> i64 {
    let theirs = answer.headers.get(DATE).and_then(|date| date.to_str().ok()).and_then(http_date);
    let ours = i64::try_from(Clock::System.now().0).unwrap_or(i64::MAX);
    theirs.map_or(0, |theirs| ours.saturating_sub(theirs.as_millisecond()))
}

fn created(row: Json<'_>, behind: i64) -> Option<UnixMillis> {
    let read: Timestamp = row.pick(["date_created"])[0]?.text()?.parse().ok()?;
    u64::try_from(read.as_millisecond().checked_add(behind)?).ok().map(UnixMillis)
}

fn candidate(row: Json<'_>, created: Option<UnixMillis>) -> Option<ProviderMessage> {
    let [sid, verification_sid] =
        row.pick(["sid", "verification_sid"]).map(|value| value.and_then(Json::text));
    Some(ProviderMessage {
        message_id: sid.filter(|sid| is_sid("VL", sid))?.into_owned(),
        created: created?,
        // Verify never shows the text.
        text: None,
        segments: None,
        verification_sid: Some(verification_sid.filter(|sid| is_sid("VE", sid))?.into_owned()),
    })
}

/// A time as Twilio reads it: ISO 8601 in whole seconds.
fn in_seconds(at: UnixMillis) -> String {
    let seconds = i64::try_from(at.as_seconds()).unwrap_or(i64::MAX);
    Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_row_by_row_and_only_whole() {
        let rows = r#"[null,{"channel":"\ud83d"},{"sid":["\udc00",1e999]},7]"#;
        let list =
            format!(r#"{{"x":"\ud83d","attempts":{rows},"meta":{{"next_page_url":null,"y":"\ud83d"}}}}"#);
        assert_eq!(attempts(list.as_bytes()).map(|rows| rows.len()), Ok(4));
        for list in [
            "",
            "{}",
            "[]",
            r#"{"attempts":[]}"#,
            r#"{"attempts":[],"meta":{}}"#,
            r#"{"attempts":[],"meta":{"next_page_url":7}}"#,
            r#"{"attempts":{},"meta":{"next_page_url":null}}"#,
            r#"{"meta":{"next_page_url":null}}"#,
            r#"{"attempts":[],"meta":{"next_page_url":null}"#,
        ] {
            assert!(attempts(list.as_bytes()).is_err(), "{list}");
        }
    }
}
