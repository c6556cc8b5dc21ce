//! Log lines, metrics and traces for operators.
//!
//! Each event is one function in [`events`]. Recipients are masked by their `Display`; codes have none.

pub mod events;
pub mod metrics;
pub mod trace;

use std::io::IsTerminal as _;

use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::format;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, Registry};

use self::trace::line_format::WithTraceId;

/// Crates that print frames, requests or headers below `info`: those hold codes, numbers and credentials.
const QUIET: [&str; 7] = ["lapin", "amq_protocol", "hyper", "reqwest", "h2", "redis", "rustls"];

/// Starts logging to standard output. `filter` is in the syntax of `RUST_LOG`.
pub fn start_logging(filter: &str, json: bool) -> Result<(), String> {
    let filter = filter_of(filter)?;
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
    started.map_err(|error| error.to_string())
}

/// The error says why the filter is invalid.
pub fn check_filter(filter: &str) -> Result<(), String> {
    filter_of::<Registry>(filter).map(drop)
}

/// The given filter can only reduce what `may_be_logged` allows.
pub fn filter_of<S>(filter: &str) -> Result<impl Layer<S> + use<S>, String>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let given = EnvFilter::try_new(filter).map_err(|_| "is no valid log filter".to_owned())?;
    Ok(given.and_then(filter_fn(may_be_logged)))
}

/// Applies to every filter. A directive of an [`EnvFilter`] is no bound: a more exact one would override it.
fn may_be_logged(metadata: &Metadata<'_>) -> bool {
    let target = metadata.target();
    // lapin logs the payload of a returned message as a warning.
    let prints_payloads = target.starts_with("lapin::returned_messages");
    // lapin logs as an error whatever ends a connection or a channel. Our own line judges it.
    let is_repeated = target.starts_with("lapin") && *metadata.level() == Level::ERROR;
    let is_quiet = QUIET.iter().any(|name| target.starts_with(name));
    !prints_payloads && !is_repeated && (!is_quiet || *metadata.level() <= Level::INFO)
}
