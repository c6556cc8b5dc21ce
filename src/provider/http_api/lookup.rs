//! Looks messages up at a vendor, as a file describes it: those to a number since a time, and one by its id.
//!
//! Only complete answers count. A list as long as a page may go on, and one that cannot be read may hold our message: both
//! leave the lookup unanswered. A row that may be ours counts with what can be read of it.

use std::borrow::Cow;
use std::time::Duration;

use jiff::Timestamp;
use minijinja::context;
use reqwest::StatusCode;
use reqwest::header::DATE;

use super::answers::{is_message_id, number, place_of, required_place};
use super::authentication::Authentication;
use super::endpoint::Endpoint;
use super::place::{self, OF_ANSWERS, Parts, Place};
use super::statuses::Statuses;
use super::table::{Faults, Table};
use super::vendor_time;
use crate::clock::Clock;
use crate::domain::address::Address;
use crate::domain::json::{Json, Shape};
use crate::domain::phone::PhoneNumber;
use crate::domain::receipt::DeliveryStatus;
use crate::domain::send_failure::RefusalReason;
use crate::domain::time::UnixMillis;
use crate::provider::http_client::Answer;
use crate::provider::http_client::failure::answered;
use crate::provider::http_client::retry_after_header::http_date;
use crate::provider::{FetchedMessage, LookupError, ProviderMessage};

/// More than a page of the longest messages.
const BODY_BYTES_MAX: usize = 1024 * 1024;
const PAGE_SIZE_MAX: u64 = 1_000;
/// A vendor may cut times to seconds: a message may be younger by this.
const TIME_GRAIN: Duration = Duration::from_secs(1);

/// The places of the vendor's list, without its request.
pub(super) struct ListFields {
    /// The list in the answer.
    each: Place,
    id: Place,
    text: Option<Place>,
    created: Place,
    /// The recipient of a row; without it all rows are to the number that was asked for.
    to: Option<Place>,
    segments: Option<Place>,
    /// A value that is there only if the list goes on.
    more: Option<Place>,
    /// The most rows that the vendor lists at once.
    page_size: usize,
}

pub(super) struct Lookup {
    endpoint: Endpoint,
    fields: ListFields,
}

impl ListFields {
    pub(super) fn read(table: &mut Table<'_>, faults: &mut Faults<'_>) -> Option<ListFields> {
        let each = required_place(table, "each", &["json"], faults);
        let id = required_place(table, "id", &["json"], faults);
        let text = place_of(table, "text", &["json"], faults);
        let created = required_place(table, "created", &["json"], faults);
        let to = place_of(table, "to", &["json"], faults);
        let segments = place_of(table, "segments", &["json"], faults);
        let more = place_of(table, "more", &OF_ANSWERS, faults);
        let page_size = table.whole("page_size", 1, PAGE_SIZE_MAX, faults);
        Some(ListFields {
            each: each?,
            id: id?,
            text,
            created: created?,
            to,
            segments,
            more,
            page_size: usize::try_from(page_size?).ok()?,
        })
    }
}

impl Lookup {
    pub(super) fn new(endpoint: Endpoint, fields: ListFields) -> Lookup {
        Lookup { endpoint, fields }
    }

    pub(super) async fn find(
        &self,
        authentication: &Authentication,
        to: &PhoneNumber,
        since: UnixMillis,
    ) -> Result<Vec<ProviderMessage>, LookupError> {
        let values = |now: UnixMillis| {
            context! {
                to => to.e164(),
                to_digits => to.e164().trim_start_matches('+'),
                since => since.as_seconds(),
                since_ms => since.0,
                since_text => since.to_string(),
                timestamp => now.as_seconds(),
            }
        };
        let answer = self.endpoint.ask(values, authentication, BODY_BYTES_MAX).await;
        self.fields.messages(&answered_whole(answer)?, to, since)
    }
}

impl ListFields {
    fn messages(
        &self,
        answer: &Answer,
        to: &PhoneNumber,
        since: UnixMillis,
    ) -> Result<Vec<ProviderMessage>, LookupError> {
        let json = Json::read(&answer.body).map_err(|_| unreadable())?;
        let parts = Parts { json: Some(json), body: &answer.body, headers: Some(&answer.headers), query: "" };
        let list = self.each.pointer().and_then(|pointer| place::at(json, pointer));
        let list = list.filter(|list| matches!(list.shape(), Shape::Array)).ok_or_else(unreadable)?;
        let rows: Result<Vec<Json<'_>>, _> = list.elements().take(self.page_size + 1).collect();
        let rows = rows.map_err(|_| unreadable())?;
        let more = self.more.as_ref().and_then(|place| place.read(&parts));
        if rows.len() >= self.page_size || more.is_some_and(|more| !matches!(&*more, "" | "false" | "0")) {
            return Err(LookupError::Unanswered("there are too many messages to read".to_owned()));
        }
        let behind = behind(answer);
        let mut found = Vec::new();
        for row in rows {
            let parts = Parts { json: Some(row), body: &[], headers: None, query: "" };
            let created = self.created.read(&parts).and_then(|time| vendor_time::parse(&time));
            let created = created.map(|created| UnixMillis(created.0.saturating_add_signed(behind)));
            let is_before = created.is_some_and(|created| created.plus(TIME_GRAIN) <= since);
            if !is_before && self.may_be_to(&parts, to) {
                found.push(self.message(&parts, created, since).ok_or_else(unreadable)?);
            }
        }
        Ok(found)
    }

    /// False for a row that is certainly of another recipient.
    fn may_be_to(&self, parts: &Parts<'_>, to: &PhoneNumber) -> bool {
        let read = self.to.as_ref().and_then(|place| place.read(parts));
        read.is_none_or(|read| may_be(&read, to.e164()))
    }

    /// A row without a readable time may be of any time, and then needs a text.
    fn message(
        &self,
        parts: &Parts<'_>,
        created: Option<UnixMillis>,
        since: UnixMillis,
    ) -> Option<ProviderMessage> {
        let text = self.text.as_ref().and_then(|place| place.read(parts)).map(Cow::into_owned);
        let text = text.filter(|text| !text.is_empty());
        let segments = self.segments.as_ref().and_then(|place| number(&place.read(parts)?));
        Some(ProviderMessage {
            message_id: self.id.read(parts).filter(|id| is_message_id(id))?.into_owned(),
            created: created.or_else(|| text.is_some().then_some(since))?,
            text,
            segments,
            verification_sid: None,
        })
    }
}

/// The places of one message in the vendor's answer, without its request.
pub(super) struct MessageFields {
    status: Place,
    to: Option<Place>,
    code: Option<Place>,
    statuses: Statuses,
}

pub(super) struct Fetch {
    endpoint: Endpoint,
    fields: MessageFields,
}

impl MessageFields {
    pub(super) fn read(table: &mut Table<'_>, faults: &mut Faults<'_>) -> Option<MessageFields> {
        let status = required_place(table, "status", &OF_ANSWERS, faults);
        let to = place_of(table, "to", &OF_ANSWERS, faults);
        let code = place_of(table, "code", &OF_ANSWERS, faults);
        let statuses = Statuses::read(table, faults);
        Some(MessageFields { status: status?, to, code, statuses })
    }
}

impl Fetch {
    pub(super) fn new(endpoint: Endpoint, fields: MessageFields) -> Fetch {
        Fetch { endpoint, fields }
    }

    pub(super) async fn fetch(
        &self,
        authentication: &Authentication,
        message_id: &str,
    ) -> Result<FetchedMessage, LookupError> {
        // Only an id that the vendor gave can name a message.
        if !is_message_id(message_id) {
            return Err(LookupError::NotFound);
        }
        let values = |now: UnixMillis| context! { message_id => message_id, timestamp => now.as_seconds() };
        let answer = self.endpoint.ask(values, authentication, BODY_BYTES_MAX).await;
        match answer {
            Ok(answer) if answer.status == StatusCode::NOT_FOUND => Err(LookupError::NotFound),
            answer => self.fields.message(&answered_whole(answer)?),
        }
    }
}

impl MessageFields {
    fn message(&self, answer: &Answer) -> Result<FetchedMessage, LookupError> {
        let parts = Parts {
            json: Json::read(&answer.body).ok(),
            body: &answer.body,
            headers: Some(&answer.headers),
            query: "",
        };
        let word = self.status.read(&parts).ok_or_else(unreadable)?;
        // A word that the file does not list changes nothing.
        let status = self.statuses.meaning(&word).unwrap_or(DeliveryStatus::Accepted);
        let provider_code = self.code.as_ref().and_then(|place| number(&place.read(&parts)?));
        Ok(FetchedMessage {
            to: self.to.as_ref().and_then(|place| phone_number(&place.read(&parts)?)),
            status,
            provider_code: provider_code.filter(|_| !status.is_delivered()),
            reason: RefusalReason::Other,
            price: None,
        })
    }
}

/// An answer of 2xx. An account that may not read gets no better answer to another lookup.
fn answered_whole(answer: Result<Answer, String>) -> Result<Answer, LookupError> {
    let answer = answer.map_err(LookupError::Unanswered)?;
    match answer.status {
        status if status.is_success() => Ok(answer),
        status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
            Err(LookupError::Refused { status: status.as_u16(), provider_code: None })
        }
        status => Err(LookupError::Unanswered(answered(status, None))),
    }
}

/// The lag of the vendor's clock behind ours, in milliseconds. Without a date the clocks count as equal.
fn behind(answer: &Answer) -> i64 {
    let date = answer.headers.get(DATE).and_then(|date| date.to_str().ok()).and_then(http_date);
    let ours = i64::try_from(Clock::System.now().0).unwrap_or(i64::MAX);
    date.map_or(0, |theirs: Timestamp| ours.saturating_sub(theirs.as_millisecond()))
}

fn digits(text: &str) -> String {
    text.chars().filter(char::is_ascii_digit).collect()
}

/// Vendors may leave the `+` out.
fn phone_number(text: &str) -> Option<Address> {
    let unused = "US".parse().expect("a country with a numbering plan");
    PhoneNumber::parse(&format!("+{}", digits(text)), unused).ok().map(Address::Phone)
}

fn unreadable() -> LookupError {
    LookupError::Unanswered("the answer cannot be read".to_owned())
}

/// Signs between the digits do not count. A number may stand there masked, without its country code, or with `00` before it.
fn may_be(read: &str, e164: &str) -> bool {
    let is_masked = read.chars().any(|char| char.is_alphabetic() || matches!(char, '*' | '#' | '•'));
    let (read, number) = (digits(read), digits(e164));
    let national = read.trim_start_matches('0');
    is_masked || national.is_empty() || read.ends_with(&number) || number.ends_with(national)
}
