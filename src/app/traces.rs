//! Starts the export of traces, and gives messages the context of a span.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;

use super::certificates;
use crate::broker::{
    Delivery, Names, Outgoing, PublishError, Publisher, RpcClient, Target, delayed_key, request_key,
};
use crate::config::Settings;
use crate::domain::channel::Channel;
use crate::domain::time::UnixMillis;
use crate::domain::trace_context::TraceContext;
use crate::telemetry::trace::spans::{self, PublishSpan};
use crate::telemetry::trace::{self, ExportOptions, Sampler, TraceOptions};

/// Nothing without the settings of a collector.
pub(super) fn start(settings: &Settings) -> anyhow::Result<()> {
    let Some(traces) = &settings.traces else { return Ok(()) };
    let tls = certificates::otlp_tls(traces).map_err(|errors| certificates::failed(&errors))?;
    certificates::watch(tls.as_ref(), certificates::otlp(traces));
    let options = TraceOptions {
        sampler: Sampler { follows_publisher: traces.follows_publisher, ratio: traces.ratio },
        joins_publisher: traces.joins_publisher,
        export: ExportOptions {
            url: traces.url.clone(),
            headers: traces.headers.clone(),
            timeout: traces.timeout,
            resource: traces.resource.clone(),
            tls,
        },
    };
    trace::start(options).context("OTEL_EXPORTER_OTLP_ENDPOINT")
}

/// Unchanged without tracing.
pub(super) fn publisher(publisher: Arc<dyn Publisher>, names: &Names) -> Arc<dyn Publisher> {
    match trace::is_on() {
        true => Arc::new(Traced { inner: publisher, names: names.clone() }),
        false => publisher,
    }
}

/// Unchanged without tracing.
pub(super) fn rpc_client(rpc_client: Arc<dyn RpcClient>, names: &Names) -> Arc<dyn RpcClient> {
    match trace::is_on() {
        true => Arc::new(Traced { inner: rpc_client, names: names.clone() }),
        false => rpc_client,
    }
}

/// Each message has a span, whose context it carries. A message outside a trace keeps the context that it has.
struct Traced<Inner: ?Sized> {
    names: Names,
    inner: Arc<Inner>,
}

impl<Inner: ?Sized> Traced<Inner> {
    fn span_of(&self, message: &Outgoing<'_>) -> PublishSpan {
        let (exchange, routing_key): (fn(&Names) -> String, &str) = match message.target {
            Target::Results { routing_key } => (Names::results, routing_key),
            Target::Requests(channel) => (Names::requests, request_key(channel)),
            Target::Dead(_) => (Names::dead, "dead"),
            Target::Audit => (|_| String::new(), "audit"),
            // The name of the queue is the caller's.
            Target::Reply { .. } => (|_| String::new(), "reply"),
        };
        spans::publish(|| exchange(&self.names), routing_key, Some(message.message_id))
    }
}

/// The headers of a context, as text.
fn headers(span: &PublishSpan) -> Option<(String, Option<Arc<str>>)> {
    span.context().map(|context: TraceContext| (context.traceparent(), context.state))
}

fn with_trace<'a>(message: Outgoing<'a>, headers: Option<&'a (String, Option<Arc<str>>)>) -> Outgoing<'a> {
    match headers {
        Some((traceparent, state)) => {
            Outgoing { traceparent: Some(traceparent), tracestate: state.as_deref(), ..message }
        }
        None => message,
    }
}

#[async_trait]
impl Publisher for Traced<dyn Publisher> {
    async fn publish(&self, message: Outgoing<'_>) -> Result<(), PublishError> {
        let mut span = self.span_of(&message);
        let headers = headers(&span);
        let published = self.inner.publish(with_trace(message, headers.as_ref())).await;
        published.inspect_err(|error| span.failed(error.as_str()))
    }

    /// The message keeps the context of its publisher.
    async fn delay(
        &self,
        channel: Channel,
        delivery: &Delivery,
        now: UnixMillis,
    ) -> Result<(), PublishError> {
        let routing_key = delayed_key(channel).unwrap_or_default();
        let mut span = spans::publish(|| self.names.requests(), routing_key, None);
        let delayed = self.inner.delay(channel, delivery, now).await;
        delayed.inspect_err(|error| span.failed(error.as_str()))
    }
}

#[async_trait]
impl RpcClient for Traced<dyn RpcClient> {
    async fn request(
        &self,
        message: Outgoing<'_>,
        within: Duration,
    ) -> Result<Option<Vec<u8>>, PublishError> {
        let mut span = self.span_of(&message);
        let headers = headers(&span);
        let answered = self.inner.request(with_trace(message, headers.as_ref()), within).await;
        answered.inspect_err(|error| span.failed(error.as_str()))
    }
}
