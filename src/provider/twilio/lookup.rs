//! Looks messages up at Twilio: those of a number since a time, and one by its name.
//!
//! *Found* and *absent* are only said of answers that were read whole: a page that is missing, cut off or not
//! understood makes the whole search unanswered. Rows of the account's other senders are not ours. Nothing is
//! asked anywhere but at the configured origin and this account's messages, wherever an answer points.
//!
//! The list has no filter for when a message was made, and nobody promises its order, so that pages are read until
//! one lies before the time as a whole. Times are Twilio's, in whole seconds; the answer's `Date` tells how its clock
//! stands to ours.
//!
//! Fields: Twilio's OpenAPI file `twilio_api_v2010` (`ListMessage`, `FetchMessage`).

use std::time::Duration;

use form_urlencoded::Serializer;
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;
use reqwest::header::DATE;
use reqwest::{StatusCode, Url};
use serde::Deserialize;
use serde_json::Value;

use super::errors;
use super::{Account, CODE_NOT_AUTHORIZED, Sender, is_message_sid, phone_number};
use crate::clock::Clock;
use crate::domain::address::Address;
use crate::domain::phone::PhoneNumber;
use crate::domain::receipt::DeliveryStatus;
use crate::domain::time::UnixMillis;
use crate::provider::web::Answer;
use crate::provider::web::failure::{self, http_date};
use crate::provider::{FetchedMessage, LookupError, ProviderMessage};

/// More than a page of the longest messages.
const BODY_BYTES_MAX: usize = 1024 * 1024;
const PAGE_ROWS: &str = "50";
/// Far more than a limited number ever gets; a search that is not through by then is unanswered.
const PAGES_MAX: usize = 10;
/// Twilio's times are cut to seconds: a message may be this much younger than it says.
const TIME_GRAIN: Duration = Duration::from_secs(1);

/// What an account may be asked about its messages.
pub(super) struct Lookup {
    messages: Url,
    /// The path of the list as Twilio tells it, which knows nothing of a path before it.
    list_path: String,
    ours: Ours,
}

/// Which rows are of our senders.
enum Ours {
    Numbers(Vec<String>),
    Service(String),
}

/// A page of the list. What is missing makes the answer unreadable, except what may be null.
#[derive(Deserialize)]
struct Page {
    messages: Vec<Row>,
    #[serde(deserialize_with = "Option::deserialize")]
    next_page_uri: Option<String>,
}

#[derive(Deserialize)]
struct Row {
    sid: String,
    direction: String,
    date_created: Option<String>,
    from: Option<String>,
    messaging_service_sid: Option<String>,
    body: Option<String>,
    num_segments: Option<String>,
}

#[derive(Deserialize)]
struct Single {
    status: String,
    to: Option<String>,
    #[serde(default)]
    error_code: Value,
}

impl Lookup {
    pub(super) fn new(account: &Account, account_sid: &str, sender: &Sender) -> Lookup {
        let ours = match sender {
            Sender::Numbers(numbers) => Ours::Numbers(numbers.iter().map(|n| sender_key(n)).collect()),
            Sender::MessagingService(sid) => Ours::Service(sid.trim().to_owned()),
        };
        let list_path = format!("/2010-04-01/Accounts/{account_sid}/Messages.json");
        Lookup { messages: account.url("/Messages.json"), list_path, ours }
    }

    /// All messages of ours to a number since a time, that Twilio shows.
    pub(super) async fn find(
        &self,
        account: &Account,
        to: &PhoneNumber,
        since: UnixMillis,
    ) -> Result<Vec<ProviderMessage>, LookupError> {
        let mut query = Serializer::new(String::new())
            .append_pair("To", to.e164())
            .append_pair("PageSize", PAGE_ROWS)
            .finish();
        let mut found = Vec::new();
        for _ in 0..PAGES_MAX {
            let answer = self.asked(account, &query).await?;
            let page: Page = serde_json::from_slice(&answer.body).map_err(|_| unreadable())?;
            let rows = page.messages.into_iter().map(|row| self.read(row, &answer));
            let rows: Vec<Seen> = rows.collect::<Result<_, _>>()?;
            let all_before = rows.iter().all(|row| row.created.plus(TIME_GRAIN) <= since);
            found.extend(rows.into_iter().filter_map(|row| row.ours));
            match page.next_page_uri {
                Some(next) if !all_before => query = self.query_of(&next)?,
                _ => {
                    found.retain(|candidate| candidate.created.plus(TIME_GRAIN) > since);
                    return Ok(found);
                }
            }
        }
        Err(LookupError::Unanswered("there are too many messages to look through".to_owned()))
    }

    /// One page of the list.
    async fn asked(&self, account: &Account, query: &str) -> Result<Timed, LookupError> {
        let mut url = self.messages.clone();
        url.set_query(Some(query));
        let answer = account.look_up(url).await?;
        match answer.status {
            status if status.is_success() => Ok(Timed::now(answer)),
            // The account's own list is never gone: this is not our account, or not Twilio.
            StatusCode::NOT_FOUND => Err(refused(&answer)),
            _ => Err(not_read(&answer)),
        }
    }

    /// The query of the next page. Its path must be that of this list; its host is not even looked at.
    fn query_of(&self, next: &str) -> Result<String, LookupError> {
        let elsewhere = || LookupError::Unanswered("the next page is somewhere else".to_owned());
        let (path, query) = next.split_once('?').ok_or_else(elsewhere)?;
        let this_list = path == self.list_path || path == self.messages.path();
        if this_list { Ok(query.to_owned()) } else { Err(elsewhere()) }
    }

    fn read(&self, row: Row, answer: &Timed) -> Result<Seen, LookupError> {
        let created = row.date_created.as_deref().and_then(|text| answer.on_our_clock(text));
        let created = created.ok_or_else(unreadable)?;
        if row.direction != "outbound-api" || !self.ours.sent(&row) {
            return Ok(Seen { created, ours: None });
        }
        if !is_message_sid(&row.sid) {
            return Err(unreadable());
        }
        let ours = ProviderMessage {
            message_id: row.sid,
            created,
            // Redaction leaves nothing of the text.
            text: row.body.filter(|text| !text.is_empty()),
            segments: row.num_segments.and_then(|count| count.parse().ok()).filter(|&count| count > 0),
            verification: None,
        };
        Ok(Seen { created, ours: Some(ours) })
    }

    /// What became of one message.
    pub(super) async fn fetch(account: &Account, message_id: &str) -> Result<FetchedMessage, LookupError> {
        // What is no SID would be another path.
        if !is_message_sid(message_id) {
            return Err(LookupError::NotFound);
        }
        let answer = account.look_up(account.url(&format!("/Messages/{message_id}.json"))).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Err(LookupError::NotFound);
        }
        if !answer.status.is_success() {
            return Err(not_read(&answer));
        }
        let single: Single = serde_json::from_slice(&answer.body).map_err(|_| unreadable())?;
        let code = single.error_code.as_u64().and_then(|code| u32::try_from(code).ok());
        Ok(FetchedMessage {
            to: single.to.as_deref().and_then(phone_number).map(Address::Phone),
            status: DeliveryStatus::parse(&single.status).ok_or_else(unreadable)?,
            code,
            reason: errors::reject_reason(code),
        })
    }
}

impl Account {
    async fn look_up(&self, url: Url) -> Result<Answer, LookupError> {
        let answer = self.get(url, BODY_BYTES_MAX).await;
        answer.map_err(|error| LookupError::Unanswered(failure::transport_detail(&error).to_owned()))
    }
}

/// A row, and what it is to us.
struct Seen {
    created: UnixMillis,
    ours: Option<ProviderMessage>,
}

impl Ours {
    /// Without a service a row has one nevertheless: Twilio gives it a default. And with one the row has no sender
    /// until the service has chosen.
    fn sent(&self, row: &Row) -> bool {
        match self {
            Ours::Numbers(numbers) => {
                row.from.as_deref().map(sender_key).is_some_and(|from| numbers.contains(&from))
            }
            Ours::Service(sid) => {
                row.messaging_service_sid.as_deref().is_some_and(|row| row.eq_ignore_ascii_case(sid))
            }
        }
    }
}

/// A sender as it can be compared: a number may be written with signs between its digits, a name in any case.
fn sender_key(sender: &str) -> String {
    let sender = sender.trim();
    match sender.strip_prefix('+') {
        Some(number) => number.chars().filter(char::is_ascii_digit).collect(),
        None => sender.to_lowercase(),
    }
}

/// An answer, and how far Twilio's clock was behind ours when it came, in milliseconds.
struct Timed {
    body: Vec<u8>,
    behind: i64,
}

impl Timed {
    fn now(answer: Answer) -> Timed {
        let ours = Clock::System.now();
        let theirs = answer.headers.get(DATE).and_then(|date| date.to_str().ok()).and_then(http_date);
        let behind = theirs.map(|theirs| millis(ours).saturating_sub(theirs.as_millisecond()));
        // Without a date the clocks are taken to agree.
        Timed { body: answer.body, behind: behind.unwrap_or(0) }
    }

    fn on_our_clock(&self, date: &str) -> Option<UnixMillis> {
        // Twilio names no weekday that is wrong, but one that is must not hide a message.
        let read: Timestamp = RFC_2822.parse_timestamp(date).ok()?;
        u64::try_from(read.as_millisecond().checked_add(self.behind)?).ok().map(UnixMillis)
    }
}

const RFC_2822: DateTimeParser = DateTimeParser::new().relaxed_weekday(true);

fn millis(at: UnixMillis) -> i64 {
    i64::try_from(at.0).unwrap_or(i64::MAX)
}

pub(super) fn not_read(answer: &Answer) -> LookupError {
    let code = errors::error_code(&answer.body);
    match answer.status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => refused(answer),
        status if status.is_client_error() && code == Some(CODE_NOT_AUTHORIZED) => refused(answer),
        status => LookupError::Unanswered(failure::told(status, code)),
    }
}

fn refused(answer: &Answer) -> LookupError {
    LookupError::Refused { status: answer.status.as_u16(), code: errors::error_code(&answer.body) }
}

pub(super) fn unreadable() -> LookupError {
    LookupError::Unanswered("the answer cannot be read".to_owned())
}
