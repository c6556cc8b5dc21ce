//! Looks messages up at Twilio: those of a number since a time, and one by its Message SID.
//!
//! Only complete answers count: a page that is missing, cut off or unreadable makes the whole lookup unanswered. Rows of the
//! account's other senders are skipped, whatever they hold. A row that may be ours counts with what can be read of it; one
//! without a SID, or with neither time nor text, leaves the lookup unanswered. Requests go only to the configured origin and this account's messages, even if an
//! answer points elsewhere.
//!
//! The list has no filter for the time of creation, and its order is not documented, so pages are read until a whole page
//! is too old. Times are Twilio's, in whole seconds; the answer's `Date` gives the difference between the clocks.
//!
//! Fields: Twilio's OpenAPI file `twilio_api_v2010` (`ListMessage`, `FetchMessage`).

use std::borrow::Cow;
use std::time::Duration;

use form_urlencoded::Serializer;
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;
use reqwest::header::DATE;
use reqwest::{StatusCode, Url};

use super::errors;
use super::{Account, CODE_NOT_AUTHORIZED, Sender, is_message_sid, phone_number};
use crate::clock::Clock;
use crate::domain::address::Address;
use crate::domain::amount::{Amount, Currency};
use crate::domain::json::{Json, Shape};
use crate::domain::phone::PhoneNumber;
use crate::domain::receipt::DeliveryStatus;
use crate::domain::time::UnixMillis;
use crate::provider::http_client::Answer;
use crate::provider::http_client::failure;
use crate::provider::http_client::retry_after_header::http_date;
use crate::provider::{FetchedMessage, LookupError, MessagePrice, ProviderMessage};

/// More than a page of the longest messages.
const BODY_BYTES_MAX: usize = 1024 * 1024;
const PAGE_ROWS: &str = "50";
/// Far more than a rate-limited number ever gets; a longer lookup is unanswered.
const PAGES_MAX: usize = 10;
/// Twilio cuts times to seconds: a message may be younger by this.
const TIME_GRAIN: Duration = Duration::from_secs(1);

pub(super) struct Lookup {
    messages: Url,
    /// The path of the list in Twilio's answers, without the path of a configured base URL.
    list_path: String,
    senders: OurSenders,
}

/// Selects the rows of our senders.
enum OurSenders {
    Numbers(Vec<String>),
    Service(String),
}

/// A page of the list.
pub(super) struct Page<'a> {
    pub(super) messages: Vec<Json<'a>>,
    pub(super) next: Option<Cow<'a, str>>,
}

impl<'a> Page<'a> {
    /// `None` without a list of messages, or if it does not say whether there is another page.
    pub(super) fn read(body: &'a [u8]) -> Option<Page<'a>> {
        let [messages, next] = Json::read(body).ok()?.pick(["messages", "next_page_uri"]);
        let (messages, next) = (messages?.elements().collect::<Result<_, _>>().ok()?, next?);
        let next = if next.is_null() { None } else { Some(next.text()?) };
        Some(Page { messages, next })
    }
}

impl Lookup {
    pub(super) fn new(account: &Account, account_sid: &str, sender: &Sender) -> Lookup {
        let senders = match sender {
            Sender::Numbers(numbers) => OurSenders::Numbers(numbers.iter().map(|n| sender_key(n)).collect()),
            Sender::MessagingService(sid) => OurSenders::Service(sid.trim().to_owned()),
        };
        let list_path = format!("/2010-04-01/Accounts/{account_sid}/Messages.json");
        Lookup { messages: account.url("/Messages.json"), list_path, senders }
    }

    /// Our messages to a number since a time, as far as Twilio shows them.
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
            let answer = self.page(account, &query).await?;
            let page = Page::read(&answer.body).ok_or_else(unreadable)?;
            let mut all_before = true;
            for row in page.messages {
                let [created] = row.pick(["date_created"]);
                let created = created.and_then(Json::text).and_then(|date| answer.on_our_clock(&date));
                let is_before = created.is_some_and(|created| created.plus(TIME_GRAIN) <= since);
                all_before &= is_before;
                if !is_before && self.may_include(row) {
                    found.push(candidate(row, created, since).ok_or_else(unreadable)?);
                }
            }
            match page.next {
                Some(next) if !all_before => query = self.query_of(&next)?,
                _ => return Ok(found),
            }
        }
        Err(LookupError::Unanswered("there are too many messages to read".to_owned()))
    }

    async fn page(&self, account: &Account, query: &str) -> Result<Timed, LookupError> {
        let mut url = self.messages.clone();
        url.set_query(Some(query));
        let answer = account.look_up(url).await?;
        match answer.status {
            status if status.is_success() => Ok(Timed::now(answer)),
            // The account's own list always exists: this is not our account, or not Twilio.
            StatusCode::NOT_FOUND => Err(refused(&answer)),
            _ => Err(lookup_error(&answer)),
        }
    }

    pub(super) async fn page_body(&self, account: &Account, query: &str) -> Result<Vec<u8>, LookupError> {
        self.page(account, query).await.map(|page| page.body)
    }

    /// The query of the next page. Its path must be that of this list; its host is ignored.
    pub(super) fn query_of(&self, next: &str) -> Result<String, LookupError> {
        let foreign = || LookupError::Unanswered("the next page belongs to another list".to_owned());
        let (path, query) = next.split_once('?').ok_or_else(foreign)?;
        let this_list = path == self.list_path || path == self.messages.path();
        if this_list { Ok(query.to_owned()) } else { Err(foreign()) }
    }

    /// False for a row of another direction or sender. Without a Messaging Service of ours a row still has one: Twilio's
    /// default. With one, the row has no sender until the service has chosen.
    pub(super) fn may_include(&self, row: Json<'_>) -> bool {
        let [direction, from, service] = row.pick(["direction", "from", "messaging_service_sid"]);
        if direction.and_then(Json::text).is_some_and(|direction| direction != "outbound-api") {
            return false;
        }
        match &self.senders {
            OurSenders::Numbers(numbers) => may_be(from, |from| numbers.contains(&sender_key(from))),
            OurSenders::Service(sid) => may_be(service, |service| service.eq_ignore_ascii_case(sid)),
        }
    }

    /// A time as Twilio writes it, by Twilio's clock.
    pub(super) fn time(date: &str) -> Option<UnixMillis> {
        let read: Timestamp = RFC_2822.parse_timestamp(date).ok()?;
        u64::try_from(read.as_millisecond()).ok().map(UnixMillis)
    }

    pub(super) async fn fetch(account: &Account, message_id: &str) -> Result<FetchedMessage, LookupError> {
        // Any other text would change the path of the request.
        if !is_message_sid(message_id) {
            return Err(LookupError::NotFound);
        }
        let answer = account.look_up(account.url(&format!("/Messages/{message_id}.json"))).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Err(LookupError::NotFound);
        }
        if !answer.status.is_success() {
            return Err(lookup_error(&answer));
        }
        let single = Json::read(&answer.body).map_err(|_| unreadable())?;
        let [status, to, error_code, price, unit] =
            single.pick(["status", "to", "error_code", "price", "price_unit"]);
        let provider_code = error_code.and_then(Json::whole_number).and_then(|code| u32::try_from(code).ok());
        let status = status.and_then(Json::text).and_then(|status| DeliveryStatus::parse(&status));
        Ok(FetchedMessage {
            to: to.and_then(Json::text).and_then(|to| phone_number(&to)).map(Address::Phone),
            status: status.ok_or_else(unreadable)?,
            provider_code,
            reason: errors::refusal_reason(provider_code),
            price: price.zip(unit).and_then(|(price, unit)| message_price(&price.text()?, &unit.text()?)),
        })
    }
}

/// A price is a text below zero, such as `-0.00750`. It may have more decimals than an amount; a currency may be in small letters.
fn message_price(price: &str, unit: &str) -> Option<MessagePrice> {
    let price = price.strip_prefix('-').unwrap_or(price);
    let end = price.find('.').map_or(price.len(), |point| price.len().min(point + 7));
    let amount = Amount::parse(price.get(..end)?)?;
    Some(MessagePrice { amount, currency: Currency::parse(&unit.to_ascii_uppercase())? })
}

impl Account {
    pub(super) async fn look_up(&self, url: Url) -> Result<Answer, LookupError> {
        let answer = self.get(url, BODY_BYTES_MAX).await;
        answer.map_err(|error| LookupError::Unanswered(failure::transport_detail(&error).to_owned()))
    }
}

/// A row that may be our message. One without a readable time may be of any time, and then needs a text.
fn candidate(row: Json<'_>, created: Option<UnixMillis>, since: UnixMillis) -> Option<ProviderMessage> {
    let [sid, body, segments] =
        row.pick(["sid", "body", "num_segments"]).map(|value| value.and_then(Json::text));
    // A redacted message has an empty text.
    let text = body.filter(|text| !text.is_empty()).map(Cow::into_owned);
    Some(ProviderMessage {
        message_id: sid.filter(|sid| is_message_sid(sid))?.into_owned(),
        created: created.or_else(|| text.is_some().then_some(since))?,
        text,
        segments: segments.and_then(|count| count.parse().ok()).filter(|&count| count > 0),
        verification_sid: None,
    })
}

/// False for a value that is another one than ours, or none: ours is a text. True for a value of another type.
fn may_be(value: Option<Json<'_>>, is_ours: impl FnOnce(&str) -> bool) -> bool {
    let shape = value.map_or(Shape::Null, Json::shape);
    match value.and_then(Json::text) {
        Some(text) => is_ours(&text),
        None => !matches!(shape, Shape::Null | Shape::NotUnicode),
    }
}

/// A sender in a comparable form: a number may have signs between its digits, and a name any case.
fn sender_key(sender: &str) -> String {
    let sender = sender.trim();
    match sender.strip_prefix('+') {
        Some(number) => number.chars().filter(char::is_ascii_digit).collect(),
        None => sender.to_lowercase(),
    }
}

/// An answer, and the lag of Twilio's clock behind ours, in milliseconds.
struct Timed {
    body: Vec<u8>,
    behind: i64,
}

impl Timed {
    fn now(answer: Answer) -> Timed {
        let ours = Clock::System.now();
        let theirs = answer.headers.get(DATE).and_then(|date| date.to_str().ok()).and_then(http_date);
        let behind = theirs.map(|theirs| millis(ours).saturating_sub(theirs.as_millisecond()));
        // Without a date the clocks count as equal.
        Timed { body: answer.body, behind: behind.unwrap_or(0) }
    }

    fn on_our_clock(&self, date: &str) -> Option<UnixMillis> {
        // A wrong weekday must not hide a message.
        let read: Timestamp = RFC_2822.parse_timestamp(date).ok()?;
        u64::try_from(read.as_millisecond().checked_add(self.behind)?).ok().map(UnixMillis)
    }
}

const RFC_2822: DateTimeParser = DateTimeParser::new().relaxed_weekday(true);

fn millis(at: UnixMillis) -> i64 {
    i64::try_from(at.0).unwrap_or(i64::MAX)
}

pub(super) fn lookup_error(answer: &Answer) -> LookupError {
    let provider_code = errors::error_code(&answer.body);
    match answer.status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => refused(answer),
        status if status.is_client_error() && provider_code == Some(CODE_NOT_AUTHORIZED) => refused(answer),
        status => LookupError::Unanswered(failure::answered(status, provider_code)),
    }
}

fn refused(answer: &Answer) -> LookupError {
    LookupError::Refused { status: answer.status.as_u16(), provider_code: errors::error_code(&answer.body) }
}

pub(super) fn unreadable() -> LookupError {
    LookupError::Unanswered("the answer cannot be read".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_price_is_read_without_its_sign_and_with_its_currency() {
        for (price, unit, read) in [
            ("-0.00750", "USD", Some((7_500, "USD"))),
            ("-0.04000001", "usd", Some((40_000, "USD"))),
            ("0", "EUR", Some((0, "EUR"))),
            ("-1.2.3", "USD", None),
            ("", "USD", None),
            ("-0.0075", "", None),
        ] {
            let price_read = message_price(price, unit);
            let shown = price_read.as_ref().map(|read| (read.amount.micros(), read.currency.as_str()));
            assert_eq!(shown, read, "{price} {unit}");
        }
    }
}
