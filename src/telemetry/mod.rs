//! Log lines, metrics and traces for operators.
//!
//! Each event is one function in [`events`]. Recipients are masked by their `Display`; codes have none.

pub mod events;
pub mod log_filter;
pub mod metrics;
mod repeats;
mod token_refusal;
pub mod trace;

use std::io::IsTerminal as _;

use tracing::Subscriber;
use tracing_subscriber::fmt::format;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer, Registry};

pub use self::repeats::log_repeats;
pub use self::token_refusal::TokenRefusal;
use self::trace::line_format::WithTraceId;

/// Starts logging to standard output. `filter` is in the syntax of `RUST_LOG`.
pub fn start_logging(filter: &str, json: bool) -> Result<(), String> {
    let (filter, control) = log_filter::replaceable(filter)?;
    let registry = tracing_subscriber::registry().with(filter);
    let layer = tracing_subscriber::fmt::layer();
    let started = if json {
        let lines = format().json().flatten_event(true).with_current_span(false).with_span_list(false);
        let layer = layer.fmt_fields(format::JsonFields::new()).event_format(WithTraceId(lines));
        registry.with(layer).try_init()
    } else {
        let layer = layer.event_format(WithTraceId(format().with_target(false)));
        registry.with(layer.with_ansi(std::io::stdout().is_terminal())).try_init()
    };
    log_filter::keep(control);
    started.map_err(|error| error.to_string())
}

/// The error says why the filter is invalid.
pub fn check_filter(filter: &str) -> Result<(), String> {
    filter_of::<Registry>(filter).map(drop)
}

/// The given filter can only reduce what may be logged at all.
pub fn filter_of<S>(filter: &str) -> Result<impl Layer<S> + use<S>, String>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    log_filter::replaceable(filter).map(|(layer, _)| layer)
}
