//! What is never logged, whatever the filter says.

use std::sync::{Arc, Mutex};

use otpost::telemetry::filter_of;
use tracing::{Event, Subscriber, debug, error, info, trace, trace_span, warn};
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::{Layer, Registry};

/// Keeps the target and the level of every event that comes through.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<String>>>);

impl<S: Subscriber> Layer<S> for Heard {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let (target, level) = (event.metadata().target(), event.metadata().level());
        let mut heard = self.0.lock().expect("nobody panics while it holds the lock");
        heard.push(format!("{target} {level}"));
    }
}

/// What comes through a filter of the events that other crates make.
fn heard(filter: &str) -> Vec<String> {
    let heard = Heard::default();
    let filter = filter_of(filter).unwrap_or_else(|problem| panic!("{filter} {problem}"));
    let subscriber = Registry::default().with(filter).with(heard.clone());
    tracing::subscriber::with_default(subscriber, || {
        let message = "returned";
        let _span = trace_span!(target: "lapin::channel", "publish", delivery = 1).entered();
        warn!(target: "lapin::returned_messages", ?message, "Server returned us a message");
        error!(target: "lapin::returned_messages", code = "482913", "x");
        trace!(target: "lapin::channel", ?message, "frame");
        debug!(target: "lapin::buffer", ?message, "frame");
        debug!(target: "amq_protocol::frame", ?message, "frame");
        trace!(target: "hyper::proto::h1::io", ?message, "bytes");
        trace!(target: "hyper_util::client::legacy", ?message, "bytes");
        debug!(target: "reqwest::connect", ?message, "url");
        trace!(target: "rustls::conn", ?message, "bytes");
        trace!(target: "h2::codec::framed_write", ?message, "frame");
        debug!(target: "redis::aio", ?message, "command");
        info!(target: "lapin::connection", ?message, "connected");
        debug!(target: "otpost::telemetry::events", ?message, "ours");
    });
    let heard = heard.0.lock().expect("nobody panics while it holds the lock");
    heard.clone()
}

#[test]
fn no_filter_lets_out_what_other_crates_print_of_messages() {
    for filter in [
        "trace",
        "debug,lapin=trace",
        "lapin::returned_messages=trace",
        "lapin::returned_messages[{message}]=trace",
        "lapin::returned_messages[{code}]=trace",
        "lapin::returned_messages[publish]=trace",
        "[{message}]=trace",
        "[publish]=trace",
        "[publish{delivery=1}]=trace",
        "lapin::channel=trace,lapin::buffer=debug,hyper::proto=trace,amq_protocol::frame=trace",
        "hyper_util=trace,reqwest::connect=trace,rustls=trace,h2=trace,redis=trace",
    ] {
        let told: Vec<String> = heard(filter)
            .into_iter()
            .filter(|heard| !heard.ends_with("INFO") && !heard.starts_with("otpost"))
            .collect();
        assert_eq!(told, Vec::<String>::new(), "RUST_LOG={filter}");
    }
}

#[test]
fn a_filter_decides_about_our_own_lines() {
    let ours = |filter| heard(filter).contains(&"otpost::telemetry::events DEBUG".to_owned());
    assert!(ours("debug") && ours("info,otpost=debug"));
    assert!(!ours("info") && !ours("debug,otpost=warn") && !ours("off"));
    assert_eq!(heard("info"), ["lapin::connection INFO"]);
    assert_eq!(heard("off,lapin=off"), Vec::<String>::new());
}

#[test]
fn a_filter_that_is_none_is_refused_without_being_told() {
    for filter in ["hunter2=loud", "[hunter2", "hunter2=info=debug"] {
        let problem = filter_of::<Registry>(filter).err().expect("no filter");
        assert_eq!(problem, "is no valid log filter");
    }
}
