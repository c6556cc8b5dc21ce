//! The spans by their names and attributes: OpenTelemetry's conventions of HTTP, messaging and databases, and a few of ours.
//!
//! Left out, as they may hold a number, a code or a secret: URLs with path or query, client addresses, texts of queries,
//! bodies, texts of errors, and ids that a caller may choose but the request's.

use std::borrow::Cow;
use std::sync::atomic::Ordering;

use super::span::{ERROR_TYPE, Kind, Parent, SpanData, Value};
use super::{RequestSpan, Scope, StepSpan, TRACER, current, new_span_id, new_trace_id};
use crate::domain::channel::Channel;
use crate::domain::outcome::{Outcome, Status};
use crate::domain::trace_context::TraceContext;
use crate::telemetry::metrics::words;

const HTTP_METHOD: &str = "http.request.method";
const HTTP_STATUS: &str = "http.response.status_code";
const HTTP_ROUTE: &str = "http.route";
const HTTP_RESENDS: &str = "http.request.resend_count";
const SERVER_ADDRESS: &str = "server.address";
const SERVER_PORT: &str = "server.port";
const MESSAGING_SYSTEM: &str = "messaging.system";
const OPERATION_NAME: &str = "messaging.operation.name";
const OPERATION_TYPE: &str = "messaging.operation.type";
const DESTINATION: &str = "messaging.destination.name";
const ROUTING_KEY: &str = "messaging.rabbitmq.destination.routing_key";
const MESSAGE_ID: &str = "messaging.message.id";
const CONVERSATION: &str = "messaging.message.conversation_id";
const DB_SYSTEM: &str = "db.system.name";
const DB_OPERATION: &str = "db.operation.name";
const DB_PROCEDURE: &str = "db.stored_procedure.name";
const CHANNEL: &str = "otpost.channel";
const STATUS: &str = "otpost.request.status";
const REASON: &str = "otpost.request.reason";
const REPLAYED: &str = "otpost.request.replayed";

/// A request to the public API. `traceparent` is the client's: its trace goes on, and its decision to record does not count.
/// `route` is the pattern, never the path. The span of a callback is recorded with the requests that it concerns, too.
pub fn http_request(method: &str, route: Option<&str>, traceparent: Option<&str>) -> RequestSpan {
    if route.is_some_and(is_routine) {
        return RequestSpan(None);
    }
    let client = traceparent.and_then(|text| TraceContext::parse(text, None)).map(TraceContext::untrusted);
    let Some(tracer) = TRACER.get() else {
        return RequestSpan(client.map(|client| Scope::of(client, None).into()));
    };
    let context = TraceContext {
        trace_id: client.as_ref().map_or_else(new_trace_id, |client| client.trace_id),
        span_id: new_span_id(),
        sampled: tracer.sampler.samples_id(new_trace_id()),
        state: None,
    };
    let parent = client.map(|client| Parent { span_id: client.span_id, is_remote: true });
    let is_callback = route.is_some_and(|route| route.starts_with("/webhooks/"));
    let begin = |context: &TraceContext| {
        let method = known_method(method);
        let shown = method.unwrap_or("HTTP");
        let name = match route {
            Some(route) => Cow::Owned(format!("{shown} {route}")),
            None => Cow::Borrowed(shown),
        };
        let mut span = SpanData::begin(context.clone(), parent, Kind::Server, name);
        span.set(HTTP_METHOD, method.unwrap_or("_OTHER").into());
        if let Some(route) = route {
            span.set(HTTP_ROUTE, route.to_owned().into());
        }
        span
    };
    RequestSpan::begin(context, is_callback, begin)
}

/// Probes, documents, and what the page of the console fetches without an act of its user.
fn is_routine(route: &str) -> bool {
    words::CONSTANT_ROUTES.contains(&route)
        || route.starts_with("/console")
        || route == "/api/v1/ops/overview"
}

/// A client may send any word as a method.
fn known_method(method: &str) -> Option<&'static str> {
    const KNOWN: [&str; 9] = ["GET", "POST", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE", "TRACE", "CONNECT"];
    KNOWN.into_iter().find(|known| *known == method)
}

/// Where a delivery came from.
pub struct Source {
    pub exchange: String,
    pub routing_key: &'static str,
    pub queue: String,
}

impl Source {
    fn name(&self) -> String {
        let Source { exchange, routing_key, queue } = self;
        format!("{exchange}:{routing_key}:{queue}")
    }
}

/// The handling of a delivery. `publisher` reads the context of its message.
pub fn process(
    source: impl FnOnce() -> Source,
    publisher: impl FnOnce() -> Option<TraceContext>,
) -> RequestSpan {
    let Some(tracer) = TRACER.get() else { return RequestSpan(None) };
    let publisher = publisher();
    let new_id = new_trace_id();
    let sampled = tracer.sampler.samples(publisher.as_ref(), new_id);
    let (joined, linked) = if tracer.joins_publisher { (publisher, None) } else { (None, publisher) };
    let context = TraceContext {
        trace_id: joined.as_ref().map_or(new_id, |joined| joined.trace_id),
        span_id: new_span_id(),
        sampled,
        state: joined.as_ref().and_then(|joined| joined.state.clone()),
    };
    let parent = joined.map(|joined| Parent { span_id: joined.span_id, is_remote: true });
    RequestSpan::begin(context, false, |context| {
        let source = source();
        let place = source.name();
        let name = Cow::Owned(format!("process {place}"));
        let mut span = SpanData::begin(context.clone(), parent, Kind::Consumer, name);
        linked.into_iter().for_each(|publisher| span.link(publisher));
        messaging(|name, value| span.set(name, Value::Text(value)), "process", "process", place);
        span.set(ROUTING_KEY, source.routing_key.into());
        span
    })
}

fn messaging(
    mut set: impl FnMut(&'static str, Cow<'static, str>),
    operation: &'static str,
    operation_type: &'static str,
    place: String,
) {
    set(MESSAGING_SYSTEM, "rabbitmq".into());
    set(OPERATION_NAME, operation.into());
    set(OPERATION_TYPE, operation_type.into());
    set(DESTINATION, place.into());
}

impl RequestSpan {
    pub fn http_answered(&self, status: u16) {
        self.set(HTTP_STATUS, status);
        if status >= 500 {
            self.fail(status.to_string());
        }
    }

    /// The handler stopped early, or panicked.
    pub fn stopped(&self, reason: &'static str) {
        self.fail(reason);
    }
}

/// A request ended, in the trace of the running task. A rejection is no failure.
pub fn request_ended(request_id: &str, channel: Channel, outcome: &Outcome, replayed: bool) {
    let Some(scope) = current() else { return };
    let Some(mut recording) = scope.recording() else { return };
    let span = &mut recording.span;
    span.set(CONVERSATION, request_id.to_owned().into());
    span.set(CHANNEL, channel.as_str().into());
    span.set(STATUS, outcome.status.as_str().into());
    span.set(REPLAYED, replayed.into());
    let Some(error) = &outcome.error else { return };
    span.set(REASON, error.code.as_str().into());
    if matches!(outcome.status, Status::Failed | Status::Unknown) {
        span.set(ERROR_TYPE, error.code.as_str().into());
        span.is_failed = true;
    }
}

/// A message to publish.
pub struct PublishSpan(StepSpan);

/// A message id is made of the request's. One of a caller is left out.
pub fn publish(
    exchange: impl FnOnce() -> String,
    routing_key: &str,
    message_id: Option<&str>,
) -> PublishSpan {
    let mut place = String::new();
    let mut span = StepSpan::begin(Kind::Producer, || {
        place = format!("{}:{routing_key}", exchange());
        Cow::Owned(format!("publish {place}"))
    });
    if span.is_recorded() {
        messaging(|name, value| span.set(name, Value::Text(value)), "publish", "send", place);
        span.set(ROUTING_KEY, routing_key.to_owned());
        if let Some(message_id) = message_id {
            span.set(MESSAGE_ID, message_id.to_owned());
        }
    }
    PublishSpan(span)
}

impl PublishSpan {
    /// The context for the message; `None` without a trace.
    pub fn context(&self) -> Option<TraceContext> {
        self.0.context().cloned().or_else(super::context)
    }

    pub fn failed(&mut self, error: &'static str) {
        self.0.fail(error);
    }
}

/// `operation` is `ack` or `nack`.
pub fn settle(operation: &'static str, source: impl FnOnce() -> Source) -> StepSpan {
    let (mut place, mut routing_key) = (String::new(), "");
    let mut span = StepSpan::begin(Kind::Client, || {
        let source = source();
        (place, routing_key) = (source.name(), source.routing_key);
        Cow::Owned(format!("{operation} {place}"))
    });
    if span.is_recorded() {
        messaging(|name, value| span.set(name, Value::Text(value)), operation, "settle", place);
        span.set(ROUTING_KEY, routing_key);
    }
    span
}

/// A step of the store. `command` is that of Redis: `FCALL`, or `EVALSHA` where it runs no functions.
pub fn store_step(command: &'static str, step: &'static str) -> StepSpan {
    let mut span = StepSpan::begin(Kind::Client, || Cow::Owned(format!("{command} {step}")));
    span.set(DB_SYSTEM, "redis");
    span.set(DB_OPERATION, command);
    span.set(DB_PROCEDURE, step);
    span
}

/// A call of a provider's HTTP API. A second POST of one request is a resend.
pub struct ProviderSpan(StepSpan);

pub fn provider_request(method: &str, host: Option<&str>, port: Option<u16>) -> ProviderSpan {
    let method = known_method(method).unwrap_or("HTTP");
    let mut span = StepSpan::begin(Kind::Client, || Cow::Borrowed(method));
    if span.is_recorded() {
        let resends = span.resends();
        span.set(HTTP_METHOD, method);
        server(&mut span, host, port);
        if method == "POST" && resends > 0 {
            span.set(HTTP_RESENDS, resends);
        }
    }
    ProviderSpan(span)
}

/// A message to a mail server.
pub fn smtp_send(host: &str, port: u16) -> StepSpan {
    let mut span = StepSpan::begin(Kind::Client, || Cow::Borrowed("smtp send"));
    if span.is_recorded() {
        span.set("network.protocol.name", "smtp");
        server(&mut span, Some(host), Some(port));
    }
    span
}

fn server(span: &mut StepSpan, host: Option<&str>, port: Option<u16>) {
    if let Some(host) = host {
        span.set(SERVER_ADDRESS, host.to_owned());
    }
    if let Some(port) = port {
        span.set(SERVER_PORT, port);
    }
}

impl ProviderSpan {
    pub fn answered(&mut self, status: u16) {
        self.0.set(HTTP_STATUS, status);
        if status >= 400 {
            self.0.fail(status.to_string());
        }
    }

    pub fn failed(&mut self, error: &'static str) {
        self.0.fail(error);
    }
}

/// The handler calls the provider for this attempt, counted from 1.
pub fn provider_attempt(attempt: u32) {
    if let Some(scope) = current() {
        scope.resends.store(attempt.saturating_sub(1), Ordering::Relaxed);
    }
}
