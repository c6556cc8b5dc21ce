//! Traces: spans of a request's steps, sampled, and exported by OTLP. Off unless [`start`] ran; then every call does nothing.
//!
//! A [`RequestSpan`] spans a delivery or an HTTP request, and is known to the task that runs inside its scope. Other spans
//! begin inside it. [`spans`] has their names and attributes. No span holds a code, a recipient, a text, a URL or an address of
//! a client.

mod export;
pub mod line_format;
mod otlp;
mod sampler;
mod span;
pub mod spans;

use std::borrow::Cow;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use self::export::Queue;
pub use self::export::{ExportFault, ExportOptions};
pub use self::sampler::Sampler;
use self::span::{ERROR_TYPE, Kind, Parent, SpanData, Value};
use crate::domain::trace_context::TraceContext;

/// Tells the processes of a service apart.
const INSTANCE: &str = "service.instance.id";
/// Spans that are held until it is known whether their trace is recorded.
const HELD_MAX: usize = 128;

static TRACER: OnceLock<Tracer> = OnceLock::new();

struct Tracer {
    sampler: Sampler,
    joins_publisher: bool,
    queue: Queue,
}

pub struct TraceOptions {
    pub sampler: Sampler,
    /// The trace of a publisher goes on with its deliveries. Else they have traces of their own, linked to it.
    pub joins_publisher: bool,
    pub export: ExportOptions,
}

/// Once in a process.
pub fn start(mut options: TraceOptions) -> Result<(), ExportFault> {
    let resource = &mut options.export.resource;
    if resource.iter().all(|(name, _)| name != INSTANCE) {
        resource.push((INSTANCE.to_owned(), format!("{:032x}", u128::from_be_bytes(new_trace_id()))));
    }
    let queue = Queue::start(options.export)?;
    let tracer = Tracer { sampler: options.sampler, joins_publisher: options.joins_publisher, queue };
    drop(TRACER.set(tracer));
    Ok(())
}

/// Exports the recorded spans, for two seconds at most.
pub async fn stop() {
    if let Some(tracer) = TRACER.get() {
        tracer.queue.flush().await;
    }
}

pub fn is_on() -> bool {
    TRACER.get().is_some()
}

tokio::task_local! {
    static CURRENT: Option<Arc<Scope>>;
}

/// A trace, as the spans that begin in it need it.
struct Scope {
    /// The parent of those spans.
    context: TraceContext,
    is_parent_remote: bool,
    records: bool,
    /// The recording of a [`RequestSpan`].
    own: Option<Mutex<Recording>>,
    /// A link of each span that begins here.
    link: Option<TraceContext>,
    /// Attempts before the current one.
    resends: AtomicU32,
}

struct Recording {
    span: SpanData,
    /// The decision is open: these wait for it.
    held: Option<Vec<SpanData>>,
}

impl Scope {
    /// A context without a span of ours.
    fn of(context: TraceContext, link: Option<TraceContext>) -> Scope {
        let records = is_on() && context.sampled;
        let resends = AtomicU32::default();
        Scope { context, is_parent_remote: true, records, own: None, link, resends }
    }

    fn recording(&self) -> Option<MutexGuard<'_, Recording>> {
        let own = self.own.as_ref()?;
        Some(own.lock().expect("nothing panics while it holds the lock"))
    }

    fn ended(&self, span: SpanData) {
        if let Some(mut recording) = self.recording()
            && let Some(held) = &mut recording.held
        {
            return if held.len() < HELD_MAX {
                held.push(span)
            };
        }
        export(span);
    }
}

fn export(span: SpanData) {
    if let Some(tracer) = TRACER.get() {
        tracer.queue.push(span);
    }
}

fn current() -> Option<Arc<Scope>> {
    CURRENT.try_with(Clone::clone).ok().flatten()
}

/// The context for messages of the running task. Without tracing: that of the HTTP request, if it has one.
pub fn context() -> Option<TraceContext> {
    CURRENT.try_with(|scope| scope.as_ref().map(|scope| scope.context.clone())).ok().flatten()
}

/// The trace that log lines of the running task belong to.
fn trace_id() -> Option<String> {
    let id = |scope: &Option<Arc<Scope>>| scope.as_ref().map(|scope| scope.context.trace_id_hex());
    is_on().then(|| CURRENT.try_with(id).ok().flatten()).flatten()
}

/// Runs a future of another task in the trace of this one.
pub fn carried<F: Future>(future: F) -> impl Future<Output = F::Output> {
    CURRENT.scope(current(), future)
}

/// Runs a future in the trace of an earlier request. Its span and that of the running task are linked.
pub async fn in_trace_of<F: Future>(request: Option<&TraceContext>, future: F) -> F::Output {
    let scope = request.filter(|_| is_on()).map(|request| {
        let here = current().filter(|scope| scope.records);
        if let Some(scope) = &here {
            scope.link_to(request);
        }
        let link = here.map(|scope| TraceContext {
            sampled: scope.context.sampled || request.sampled,
            ..scope.context.clone()
        });
        Arc::new(Scope::of(request.clone(), link))
    });
    match scope {
        Some(scope) => CURRENT.scope(Some(scope), future).await,
        None => future.await,
    }
}

impl Scope {
    /// A held span is recorded if the trace that it belongs to is.
    fn link_to(&self, request: &TraceContext) {
        let Some(mut recording) = self.recording() else { return };
        recording.span.link(request.clone());
        if request.sampled
            && let Some(held) = recording.held.take()
        {
            recording.span.context.sampled = true;
            held.into_iter().for_each(export);
        }
    }
}

/// The span of a delivery or of an HTTP request. It ends when it is dropped.
pub struct RequestSpan(Option<Arc<Scope>>);

impl RequestSpan {
    fn begin(
        context: TraceContext,
        is_held: bool,
        begin: impl FnOnce(&TraceContext) -> SpanData,
    ) -> RequestSpan {
        let records = context.sampled || is_held;
        let held = (is_held && !context.sampled).then(Vec::new);
        let own = records.then(|| Mutex::new(Recording { span: begin(&context), held }));
        let resends = AtomicU32::default();
        RequestSpan(Some(Arc::new(Scope {
            context,
            is_parent_remote: false,
            records,
            own,
            link: None,
            resends,
        })))
    }

    /// Runs the steps of the request. They may begin spans.
    pub fn scope<F: Future>(&self, future: F) -> impl Future<Output = F::Output> + use<F> {
        CURRENT.scope(self.0.clone(), future)
    }

    /// `None` without tracing.
    pub fn context(&self) -> Option<&TraceContext> {
        self.0.as_ref().filter(|_| is_on()).map(|scope| &scope.context)
    }

    fn set(&self, name: &'static str, value: impl Into<Value>) {
        if let Some(mut recording) = self.0.as_ref().and_then(|scope| scope.recording()) {
            recording.span.set(name, value.into());
        }
    }

    fn fail(&self, error_type: impl Into<Value>) {
        if let Some(mut recording) = self.0.as_ref().and_then(|scope| scope.recording()) {
            recording.span.set(ERROR_TYPE, error_type.into());
            recording.span.is_failed = true;
        }
    }
}

impl Drop for RequestSpan {
    fn drop(&mut self) {
        let Some(mut recording) = self.0.as_ref().and_then(|scope| scope.recording()) else { return };
        // A span whose trace nothing else records is left out with all that it held.
        if recording.held.is_none() {
            let Recording { span, .. } = &mut *recording;
            let nothing = SpanData::begin(span.context.clone(), None, span.kind, Cow::Borrowed(""));
            let mut span = std::mem::replace(span, nothing);
            span.end();
            export(span);
        }
    }
}

/// A step inside a request. It ends when it is dropped.
pub struct StepSpan(Option<Box<(Arc<Scope>, SpanData)>>);

impl StepSpan {
    fn begin(kind: Kind, name: impl FnOnce() -> Cow<'static, str>) -> StepSpan {
        let scope = CURRENT.try_with(|scope| scope.as_ref().filter(|scope| scope.records).cloned());
        let Some(scope) = scope.ok().flatten() else { return StepSpan(None) };
        let context = TraceContext { span_id: new_span_id(), sampled: true, ..scope.context.clone() };
        let parent = Parent { span_id: scope.context.span_id, is_remote: scope.is_parent_remote };
        let mut span = SpanData::begin(context, Some(parent), kind, name());
        scope.link.iter().for_each(|link| span.link(link.clone()));
        StepSpan(Some(Box::new((scope, span))))
    }

    fn is_recorded(&self) -> bool {
        self.0.is_some()
    }

    fn context(&self) -> Option<&TraceContext> {
        self.0.as_ref().map(|step| &step.1.context)
    }

    fn resends(&self) -> u32 {
        self.0.as_ref().map_or(0, |step| step.0.resends.load(Relaxed))
    }

    fn set(&mut self, name: &'static str, value: impl Into<Value>) {
        if let Some(step) = &mut self.0 {
            step.1.set(name, value.into());
        }
    }

    pub fn fail(&mut self, error_type: impl Into<Value>) {
        if let Some(step) = &mut self.0 {
            step.1.set(ERROR_TYPE, error_type.into());
            step.1.is_failed = true;
        }
    }
}

impl Drop for StepSpan {
    fn drop(&mut self) {
        if let Some(step) = self.0.take() {
            let (scope, mut span) = *step;
            span.end();
            scope.ended(span);
        }
    }
}

fn new_trace_id() -> [u8; 16] {
    fastrand::u128(1..).to_be_bytes()
}

fn new_span_id() -> [u8; 8] {
    fastrand::u64(1..).to_be_bytes()
}
