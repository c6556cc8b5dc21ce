//! What operators see: log lines and metrics.
//!
//! Everything worth telling is one function in [`events`]: a log line and a metric together. Numbers are masked by
//! their `Display`; codes have none.

pub mod events;
pub mod metrics;

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Never logged, whatever the filter: one crate logs the payload of a returned message, and at `trace` others print
/// frames and requests, which hold codes and numbers.
const ALWAYS_OFF: [&str; 5] =
    ["lapin::returned_messages=off", "lapin=info", "hyper=info", "reqwest=info", "amq_protocol=info"];

/// Starts logging to standard output. `filter` is in the syntax of `RUST_LOG`.
pub fn start_logging(filter: &str, json: bool) -> Result<(), String> {
    let filter = filter_of(filter)?;
    let registry = tracing_subscriber::registry().with(filter);
    let layer = tracing_subscriber::fmt::layer();
    let started = if json {
        registry
            .with(layer.json().flatten_event(true).with_current_span(false).with_span_list(false))
            .try_init()
    } else {
        registry.with(layer.with_target(false).with_ansi(std::io::stdout().is_terminal())).try_init()
    };
    started.map_err(|error| error.to_string())
}

/// The filter as given, with what must never be logged taken out of it.
pub fn filter_of(filter: &str) -> Result<EnvFilter, String> {
    let mut filter = EnvFilter::try_new(filter).map_err(|_| "is no valid log filter".to_owned())?;
    for directive in ALWAYS_OFF {
        filter = filter.add_directive(directive.parse().expect("a constant directive"));
    }
    Ok(filter)
}
