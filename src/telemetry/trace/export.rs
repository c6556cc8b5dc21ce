//! Exports spans by OTLP over HTTP, on a thread of its own: a slow collector delays nothing else.
//!
//! The queue is bounded. Spans that find it full, and batches that the collector does not take, are dropped and counted.

use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Response, Url};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::{Notify, mpsc, oneshot};

use super::otlp;
use super::span::SpanData;
use crate::telemetry::events::traces as events;
use crate::telemetry::metrics::traces::ExportResult;
use crate::tls::TlsClient;

const QUEUE_MAX: usize = 2_048;
const BATCH_MAX: usize = 512;
/// The longest wait of a span for others of its batch.
const GATHER: Duration = Duration::from_secs(1);
const CONNECT_TIMEOUT_MAX: Duration = Duration::from_secs(3);
const FLUSH_MAX: Duration = Duration::from_secs(2);
/// The words of a partial success may be long.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
const WARNING_INTERVAL: Duration = Duration::from_secs(60);

/// The collector. The headers may hold a secret, hence no `Debug`.
pub struct ExportOptions {
    /// The full URL of traces.
    pub url: String,
    pub headers: Vec<(String, SecretString)>,
    /// Of one export, from connecting to the answer.
    pub timeout: Duration,
    /// The attributes of this process.
    pub resource: Vec<(String, String)>,
    /// `None`: the system's roots.
    pub tls: Option<TlsClient>,
}

#[derive(Debug, thiserror::Error)]
pub enum ExportFault {
    #[error("the URL of the collector is no URL")]
    Url,
    #[error("a header for the collector has a name or a value that HTTP does not allow")]
    Header,
    #[error("the HTTP client for the collector could not be set up")]
    Client(#[source] reqwest::Error),
    #[error("the thread for the export of traces could not be started")]
    Thread(#[source] std::io::Error),
}

/// The way of spans to the thread that exports them.
pub(super) struct Queue {
    spans: mpsc::Sender<SpanData>,
    /// A whole batch waits.
    is_batch: Arc<Notify>,
    flushes: mpsc::Sender<oneshot::Sender<()>>,
}

impl Queue {
    pub(super) fn start(options: ExportOptions) -> Result<Queue, ExportFault> {
        let exporter = Exporter::new(options)?;
        let (spans, queued) = mpsc::channel(QUEUE_MAX);
        let (flushes, flushed) = mpsc::channel(1);
        let is_batch = Arc::new(Notify::new());
        let batch = Arc::clone(&is_batch);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(ExportFault::Thread)?;
        let run = move || runtime.block_on(exporter.run(queued, flushed, &batch));
        std::thread::Builder::new().name("traces".to_owned()).spawn(run).map_err(ExportFault::Thread)?;
        Ok(Queue { spans, is_batch, flushes })
    }

    pub(super) fn push(&self, span: SpanData) {
        if self.spans.try_send(span).is_err() {
            return events::span_dropped();
        }
        if QUEUE_MAX - self.spans.capacity() == BATCH_MAX {
            self.is_batch.notify_one();
        }
    }

    /// Exports everything that is queued, within [`FLUSH_MAX`].
    pub(super) async fn flush(&self) {
        let flushed = async {
            let (done, is_done) = oneshot::channel();
            self.flushes.send(done).await.ok()?;
            is_done.await.ok()
        };
        // The rest is lost with the process.
        let _ = tokio::time::timeout(FLUSH_MAX, flushed).await;
    }
}

struct Exporter {
    url: Url,
    headers: HeaderMap,
    timeout: Duration,
    resource: Vec<(String, String)>,
    tls: Option<TlsClient>,
    client: Client,
    /// The TLS configuration of the client.
    generation: Option<u64>,
    warned: Option<Instant>,
}

impl Exporter {
    fn new(options: ExportOptions) -> Result<Exporter, ExportFault> {
        let ExportOptions { url, headers, timeout, resource, tls } = options;
        let url = Url::parse(&url).map_err(|_| ExportFault::Url)?;
        let headers = headers.iter().map(|(name, value)| {
            let mut value = HeaderValue::try_from(value.expose_secret()).map_err(|_| ExportFault::Header)?;
            value.set_sensitive(true);
            Ok((HeaderName::try_from(name).map_err(|_| ExportFault::Header)?, value))
        });
        let mut headers = headers.collect::<Result<HeaderMap, ExportFault>>()?;
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        let (client, generation) = client(&url, timeout, tls.as_ref()).map_err(ExportFault::Client)?;
        Ok(Exporter { url, headers, timeout, resource, tls, client, generation, warned: None })
    }

    /// Ends with the process.
    async fn run(
        mut self,
        mut queued: mpsc::Receiver<SpanData>,
        mut flushes: mpsc::Receiver<oneshot::Sender<()>>,
        is_batch: &Notify,
    ) {
        loop {
            let flushed = tokio::select! {
                flush = flushes.recv() => flush,
                () = is_batch.notified() => None,
                () = tokio::time::sleep(GATHER) => None,
            };
            let mut batch = Vec::new();
            while !queued.is_empty() {
                queued.recv_many(&mut batch, BATCH_MAX).await;
                self.export(&batch).await;
                batch.clear();
            }
            if let Some(flushed) = flushed {
                let _ = flushed.send(());
            }
        }
    }

    async fn export(&mut self, batch: &[SpanData]) {
        self.take_new_certificates();
        let request = self.client.post(self.url.clone()).headers(self.headers.clone());
        let answer = request.body(otlp::request(&self.resource, batch)).send().await;
        let (result, problem, dropped) = match answer {
            Ok(answer) if answer.status().is_success() => {
                let rejected = rejected_by(answer).await.min(batch.len());
                if rejected == 0 {
                    return events::spans_exported();
                }
                (ExportResult::Partial, "refused some of the spans".to_owned(), rejected)
            }
            Ok(answer) => (
                ExportResult::Refused,
                format!("answered with HTTP {}", answer.status().as_u16()),
                batch.len(),
            ),
            Err(error) => (ExportResult::Unanswered, words(&error).to_owned(), batch.len()),
        };
        let warns = self.warned.is_none_or(|at| at.elapsed() >= WARNING_INTERVAL);
        if warns {
            self.warned = Some(Instant::now());
        }
        events::spans_not_exported(result, dropped, &problem, warns);
    }

    fn take_new_certificates(&mut self) {
        let generation = self.tls.as_ref().map(TlsClient::generation);
        if generation != self.generation
            && let Ok((client, generation)) = client(&self.url, self.timeout, self.tls.as_ref())
        {
            (self.client, self.generation) = (client, generation);
        }
    }
}

/// The spans that a collector which took the request did not take. An answer that is too long or breaks off tells of none.
async fn rejected_by(mut answer: Response) -> usize {
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = answer.chunk().await {
        if body.len() + chunk.len() > ANSWER_BYTES_MAX {
            return 0;
        }
        body.extend_from_slice(&chunk);
    }
    usize::try_from(otlp::spans_rejected(&body)).unwrap_or(usize::MAX)
}

fn client(
    url: &Url,
    timeout: Duration,
    tls: Option<&TlsClient>,
) -> Result<(Client, Option<u64>), reqwest::Error> {
    let mut builder = Client::builder()
        .user_agent(concat!("otpost/", env!("CARGO_PKG_VERSION")))
        .retry(reqwest::retry::never())
        .redirect(reqwest::redirect::Policy::none())
        .timeout(timeout)
        .connect_timeout(CONNECT_TIMEOUT_MAX.min(timeout));
    // A proxy would see the headers of plain HTTP.
    if url.scheme() != "https" {
        builder = builder.no_proxy();
    }
    let generation = tls.map(TlsClient::generation);
    if let Some(tls) = tls {
        builder = builder.tls_backend_preconfigured((*tls.config()).clone());
    }
    Ok((builder.build()?, generation))
}

/// The failed step. The error's own text holds the URL.
fn words(error: &reqwest::Error) -> &'static str {
    match (error.is_connect(), error.is_timeout()) {
        (_, true) => "no answer in time",
        (true, false) if error.is_dns() => "the host name could not be resolved",
        (true, false) => "no connection, or no trusted TLS certificate",
        (false, false) => "the connection broke before the answer",
    }
}
