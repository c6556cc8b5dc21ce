//! The telephone on the page: the last messages that a simulation showed, and a stream of them as they come.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt as _;
use futures_util::stream::unfold;
use serde::Serialize;
use tokio::sync::watch;

use super::Page;
use crate::domain::channel::Channel;
use crate::domain::code::Code;
use crate::domain::time::{UnixMillis, serialize_rfc3339};
use crate::http::problem::Problem;
use crate::provider::{Message, MessageObserver};

/// How many messages it remembers.
const REMEMBERED_MAX: usize = 20;
/// How often a silent stream says that it is alive, which is also when a browser that has left is noticed.
const ALIVE_EVERY: Duration = Duration::from_secs(15);

/// Remembers what was shown. It holds codes: no `Debug`.
pub struct Handset {
    brand: String,
    messages: watch::Sender<Messages>,
}

/// The messages, oldest first, each with its number.
struct Messages {
    next: u64,
    kept: VecDeque<(u64, Arc<str>)>,
}

/// A message as the page reads it.
#[derive(Serialize)]
struct Shown<'a> {
    channel: Channel,
    from: &'a str,
    to: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<&'a str>,
    text: &'a str,
    code: &'a str,
    #[serde(serialize_with = "serialize_rfc3339")]
    at: UnixMillis,
}

impl Handset {
    /// An empty one. Messages are numbered from the time it is made, so that a browser that saw those of a process before
    /// is not taken to know the new ones.
    pub fn new(brand: &str, at: UnixMillis) -> Handset {
        let empty = Messages { next: at.0, kept: VecDeque::with_capacity(REMEMBERED_MAX) };
        Handset { brand: brand.to_owned(), messages: watch::Sender::new(empty) }
    }
}

impl MessageObserver for Handset {
    fn shown(&self, message: &Message<'_>, at: UnixMillis) {
        let shown = Shown {
            channel: message.to.channel(),
            from: &self.brand,
            to: message.to.to_string(),
            subject: message.mail.map(|mail| mail.subject),
            text: message.body,
            code: message.code.map_or("", Code::expose),
            at,
        };
        let shown: Arc<str> = serde_json::to_string(&shown).expect("a message is plain data").into();
        self.messages.send_modify(|messages| {
            if messages.kept.len() == REMEMBERED_MAX {
                messages.kept.pop_front();
            }
            messages.kept.push_back((messages.next, shown));
            messages.next += 1;
        });
    }
}

/// `GET /dev/messages`: what is remembered, from the one after `Last-Event-ID`, and then whatever comes.
pub(super) async fn messages(State(page): State<Arc<Page>>, headers: HeaderMap) -> Response {
    let Ok(seat) = page.looking_on.clone().try_acquire_owned() else {
        let too_many = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "busy");
        return too_many.detail("too many browsers look on already").into_response();
    };
    let seen = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok()).unwrap_or(0);
    let looking = (page.handset.messages.subscribe(), seen, seat);
    let stream = unfold(looking, async |(mut messages, seen, seat)| {
        // It ends when nobody shows messages any more.
        let unseen = messages.wait_for(|messages| messages.after(seen).is_some()).await.ok()?;
        let (number, text) = unseen.after(seen)?;
        drop(unseen);
        let event = Event::default().id(number.to_string()).data(text);
        Some((Ok::<_, Infallible>(event), (messages, number, seat)))
    });
    let stream = stream.take_until(page.stop.clone().cancelled_owned());
    Sse::new(stream).keep_alive(KeepAlive::new().interval(ALIVE_EVERY)).into_response()
}

impl Messages {
    fn after(&self, seen: u64) -> Option<(u64, Arc<str>)> {
        self.kept.iter().find(|(number, _)| *number > seen).cloned()
    }
}
