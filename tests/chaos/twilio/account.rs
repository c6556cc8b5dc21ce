//! The account of the fake: its messages, in the shapes of Twilio's OpenAPI file `twilio_api_v2010`.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::wire::{Answer, ApiCall};

pub const ACCOUNT_SID: &str = "AC00000000000000000000000000000001";
pub const AUTH_TOKEN: &str = "chaos-token-5f1d";
/// Twilio's own, where a request names none.
const PAGE_SIZE: usize = 50;

/// The messages that were made, oldest first.
#[derive(Default)]
pub(super) struct Account {
    messages: Vec<Message>,
}

struct Message {
    sid: String,
    to: String,
    from: Option<String>,
    service: Option<String>,
    body: String,
    created: Timestamp,
}

/// HTTP Basic names the account.
pub(super) fn is_known(call: &ApiCall) -> bool {
    let wanted = format!("Basic {}", BASE64_STANDARD.encode(format!("{ACCOUNT_SID}:{AUTH_TOKEN}")));
    call.headers.get("authorization") == Some(&wanted)
}

/// The resource below the account's path.
pub(super) fn resource(call: &ApiCall) -> Option<&str> {
    call.path.strip_prefix("/2010-04-01/Accounts/")?.strip_prefix(ACCOUNT_SID)
}

pub(super) fn probe() -> Answer {
    Answer::json(200, &json!({"sid": ACCOUNT_SID, "status": "active"}))
}

impl Account {
    /// Makes a message. Returns its SID and the 201.
    pub(super) fn create(&mut self, call: &ApiCall) -> (String, Answer) {
        let sid = format!("SM{:032x}", self.messages.len() + 1);
        let field = |name| call.field(name).map(str::to_owned);
        let message = Message {
            sid: sid.clone(),
            to: field("To").unwrap_or_default(),
            from: field("From"),
            service: field("MessagingServiceSid"),
            body: field("Body").unwrap_or_default(),
            created: Timestamp::now(),
        };
        let answer = Answer::json(201, &message.shown());
        self.messages.push(message);
        (sid, answer)
    }

    /// One page of the messages that match a query, newest first.
    pub(super) fn list(&self, call: &ApiCall) -> Answer {
        let number = |name| call.field(name).and_then(|text| text.parse().ok());
        let (page, size) =
            (number("Page").unwrap_or(0), number("PageSize").unwrap_or(PAGE_SIZE).clamp(1, 1_000));
        let (to, from) = (call.field("To"), call.field("From"));
        let wanted = |message: &&Message| {
            to.is_none_or(|to| message.to == to)
                && from.is_none_or(|from| message.from.as_deref() == Some(from))
        };
        let found: Vec<&Message> = self.messages.iter().rev().filter(wanted).collect();
        let shown: Vec<Value> = found.iter().skip(page * size).take(size).map(|one| one.shown()).collect();
        let uri = |page: usize| {
            let mut query = form_urlencoded::Serializer::new(String::new());
            [("To", to), ("From", from)].into_iter().for_each(|(name, value)| {
                value.into_iter().for_each(|value| {
                    query.append_pair(name, value);
                });
            });
            query.append_pair("PageSize", &size.to_string()).append_pair("Page", &page.to_string());
            format!("/2010-04-01/Accounts/{ACCOUNT_SID}/Messages.json?{}", query.finish())
        };
        let more = found.len() > (page + 1) * size;
        Answer::json(
            200,
            &json!({
                "messages": shown, "page": page, "page_size": size, "uri": uri(page),
                "first_page_uri": uri(0), "next_page_uri": more.then(|| uri(page + 1)),
                "previous_page_uri": (page > 0).then(|| uri(page - 1)),
                "start": page * size, "end": (page * size + shown.len()).saturating_sub(1),
            }),
        )
    }

    /// The message of `/Messages/<sid>.json`.
    pub(super) fn one(&self, resource: &str) -> Answer {
        let sid = resource.strip_prefix("/Messages/").and_then(|rest| rest.strip_suffix(".json"));
        match self.messages.iter().find(|message| Some(message.sid.as_str()) == sid) {
            Some(message) => Answer::json(200, &message.shown()),
            None => Answer::error(404, 20404),
        }
    }
}

impl Message {
    fn shown(&self) -> Value {
        let uri = format!("/2010-04-01/Accounts/{ACCOUNT_SID}/Messages/{}", self.sid);
        let created = self.created.strftime("%a, %d %b %Y %H:%M:%S +0000").to_string();
        json!({
            "account_sid": ACCOUNT_SID, "api_version": "2010-04-01", "body": self.body,
            "date_created": created, "date_sent": null, "date_updated": created, "direction": "outbound-api",
            "error_code": null, "error_message": null, "from": self.from,
            "messaging_service_sid": self.service, "num_media": "0", "num_segments": "1", "price": null,
            "price_unit": null, "sid": self.sid, "status": "queued", "to": self.to,
            "subresource_uris": {"media": format!("{uri}/Media.json")}, "uri": format!("{uri}.json"),
        })
    }
}

/// The code in a text: its only run of four to ten digits.
pub(super) fn code_in(body: &str) -> Option<&str> {
    let runs = body.split(|character: char| !character.is_ascii_digit());
    let mut codes = runs.filter(|run| (4..=10).contains(&run.len()));
    codes.next().filter(|_| codes.next().is_none())
}

/// The name that a text greets.
pub(super) fn name_in(body: &str) -> Option<&str> {
    let (_, rest) = body.split_once("Hola ")?;
    rest.split_once(',').map(|(name, _)| name)
}
