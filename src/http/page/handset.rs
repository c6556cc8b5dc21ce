//! The phone on the page: the last simulated messages, and a stream of new ones.

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
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use crate::domain::channel::Channel;
use crate::domain::code::Code;
use crate::domain::time::{UnixMillis, serialize_rfc3339};
use crate::http::problem::Problem;
use crate::provider::{Message, MessageObserver};

/// Browsers that follow the messages at once.
pub(super) const STREAMS_MAX: usize = 16;
const MESSAGES_MAX: usize = 20;
/// The time between keep-alive comments. A write to a browser that has left fails, which ends its stream.
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(15);

/// The last simulated messages. They hold codes: no `Debug`.
pub struct Handset {
    brand: String,
    messages: watch::Sender<Messages>,
}

/// Numbered messages, oldest first.
struct Messages {
    next: u64,
    kept: VecDeque<(u64, Arc<str>)>,
}

#[derive(Serialize)]
struct HandsetMessage<'a> {
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
    /// Numbers start at the current time: above those of an earlier process, which a browser may have seen.
    pub fn new(brand: &str, at: UnixMillis) -> Handset {
        let empty = Messages { next: at.0, kept: VecDeque::with_capacity(MESSAGES_MAX) };
        Handset { brand: brand.to_owned(), messages: watch::Sender::new(empty) }
    }
}

impl MessageObserver for Handset {
    fn shown(&self, message: &Message<'_>, at: UnixMillis) {
        let shown = HandsetMessage {
            channel: message.to.channel(),
            from: &self.brand,
            to: message.to.masked(),
            subject: message.mail.map(|mail| mail.subject),
            text: message.body,
            code: message.code.map_or("", Code::expose),
            at,
        };
        let shown: Arc<str> = serde_json::to_string(&shown).expect("a message is plain data").into();
        self.messages.send_modify(|messages| {
            if messages.kept.len() == MESSAGES_MAX {
                messages.kept.pop_front();
            }
            messages.kept.push_back((messages.next, shown));
            messages.next += 1;
        });
    }
}

#[derive(Clone)]
pub(super) struct MessageStreams {
    handset: Arc<Handset>,
    permits: Arc<Semaphore>,
    /// Ends open streams, which would otherwise keep the process from stopping.
    shutdown: CancellationToken,
}

impl MessageStreams {
    pub(super) fn new(handset: Arc<Handset>, shutdown: CancellationToken) -> MessageStreams {
        MessageStreams { handset, permits: Arc::new(Semaphore::new(STREAMS_MAX)), shutdown }
    }
}

/// `GET /dev/messages`: the stored messages after `Last-Event-ID`, then new ones as server-sent events.
pub(super) async fn messages(State(streams): State<MessageStreams>, headers: HeaderMap) -> Response {
    let Ok(permit) = streams.permits.clone().try_acquire_owned() else {
        let too_many = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "busy");
        return too_many.detail("too many browsers follow the messages already").into_response();
    };
    let seen = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok()).unwrap_or(0);
    let state = (streams.handset.messages.subscribe(), seen, permit);
    let stream = unfold(state, async |(mut messages, seen, permit)| {
        // An error means that the handset is gone: the stream ends.
        let unseen = messages.wait_for(|messages| messages.after(seen).is_some()).await.ok()?;
        let (number, text) = unseen.after(seen)?;
        drop(unseen);
        let event = Event::default().id(number.to_string()).data(text);
        Some((Ok::<_, Infallible>(event), (messages, number, permit)))
    });
    let stream = stream.take_until(streams.shutdown.clone().cancelled_owned());
    Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE_EVERY)).into_response()
}

impl Messages {
    fn after(&self, seen: u64) -> Option<(u64, Arc<str>)> {
        self.kept.iter().find(|(number, _)| *number > seen).cloned()
    }
}
