//! The log filter of the process: the configured one, which an operator can replace for a while.
//!
//! Both only reduce what `may_be_logged` allows. A replacement never hides the audit log.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tracing::{Level, Metadata, Subscriber, info};
use tracing_subscriber::filter::{Directive, LevelFilter, filter_fn};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{EnvFilter, Layer, reload};

use crate::domain::log_filter::TemporaryLogFilter;
use crate::domain::time::UnixMillis;

/// Crates that print frames, requests or headers below `info`: those hold codes, numbers and credentials.
const QUIET: [&str; 7] = ["lapin", "amq_protocol", "hyper", "reqwest", "h2", "redis", "rustls"];
/// An answer of the store is on its way for so long at most.
const ANSWER_DELAY_MAX: Duration = Duration::from_millis(500);

/// Of the process; a command has none.
static OF_PROCESS: OnceLock<LogFilterControl> = OnceLock::new();

/// Replaces the filter of a running subscriber.
pub struct LogFilterControl {
    configured: String,
    reload: Box<dyn Fn(EnvFilter) + Send + Sync>,
    replaced: Mutex<Option<Replaced>>,
}

struct Replaced {
    filter: String,
    set_at: UnixMillis,
    until: Instant,
}

/// A filter layer, and its control. `filter` is in the syntax of `RUST_LOG`.
pub fn replaceable<S>(filter: &str) -> Result<(impl Layer<S> + use<S>, LogFilterControl), String>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let (layer, handle) = reload::Layer::new(env_filter(filter)?);
    let control = LogFilterControl {
        configured: filter.to_owned(),
        // It fails only if the subscriber is gone.
        reload: Box::new(move |filter| drop(handle.reload(filter))),
        replaced: Mutex::default(),
    };
    Ok((layer.and_then(filter_fn(may_be_logged)), control))
}

fn env_filter(filter: &str) -> Result<EnvFilter, String> {
    EnvFilter::try_new(filter).map_err(|_| "is no valid log filter".to_owned())
}

/// From now on [`store_answered`] changes the filter of the process.
pub(super) fn keep(control: LogFilterControl) {
    let _ = OF_PROCESS.set(control);
}

/// Takes over the filter that the store has, or ends the one that it no longer has.
pub fn store_answered(wanted: Option<&TemporaryLogFilter>) {
    if let Some(control) = OF_PROCESS.get() {
        control.store_answered(wanted);
    }
}

/// Without an answer, a filter ends at its time all the same.
pub fn store_silent() {
    if let Some(control) = OF_PROCESS.get() {
        control.store_silent();
    }
}

impl LogFilterControl {
    pub fn store_answered(&self, wanted: Option<&TemporaryLogFilter>) {
        let mut replaced = self.replaced();
        let Some(wanted) = wanted.filter(|wanted| wanted.left > Duration::ZERO) else {
            return self.restore(&mut replaced);
        };
        let is_in_force =
            |now: &Replaced| now.set_at == wanted.set_at && now.filter == wanted.filter.as_str();
        if replaced.as_ref().is_some_and(is_in_force) {
            return;
        }
        let filter = wanted.filter.as_str();
        let Ok(new) = env_filter(filter) else { return };
        (self.reload)(new.add_directive(audit_log()));
        *replaced = Some(Replaced {
            filter: filter.to_owned(),
            set_at: wanted.set_at,
            until: Instant::now() + wanted.left,
        });
        let (set_by, seconds) = (wanted.set_by.as_str(), wanted.left.as_secs_f64().round() as u64);
        info!(target: "otpost::audit", audit = true, action = "log_level", set_by, filter, seconds, "log filter changed");
    }

    pub fn store_silent(&self) {
        let mut replaced = self.replaced();
        if replaced.as_ref().is_some_and(|replaced| replaced.until <= Instant::now()) {
            self.restore(&mut replaced);
        }
    }

    /// The line comes first: the configured filter may hide it.
    fn restore(&self, replaced: &mut Option<Replaced>) {
        let Some(Replaced { filter, until, .. }) = replaced.take() else { return };
        let reason = if until <= Instant::now() + ANSWER_DELAY_MAX { "expired" } else { "reset" };
        info!(target: "otpost::audit", audit = true, action = "log_level", filter, reason, "log filter restored");
        if let Ok(configured) = env_filter(&self.configured) {
            (self.reload)(configured);
        }
    }

    fn replaced(&self) -> MutexGuard<'_, Option<Replaced>> {
        self.replaced.lock().unwrap_or_else(PoisonError::into_inner)
    }
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

fn audit_log() -> Directive {
    "otpost::audit=info".parse().unwrap_or_else(|_| LevelFilter::INFO.into())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tracing::{Event, debug, trace, warn};
    use tracing_subscriber::layer::{Context, SubscriberExt as _};

    use super::*;
    use crate::domain::log_filter::LogFilter;

    #[derive(Clone, Default)]
    struct Recorder(Arc<Mutex<Vec<String>>>);

    impl<S: Subscriber> Layer<S> for Recorder {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            let (target, level) = (event.metadata().target(), event.metadata().level());
            self.0.lock().expect("no panic while it is held").push(format!("{target} {level}"));
        }
    }

    impl Recorder {
        fn take(&self) -> Vec<String> {
            std::mem::take(&mut self.0.lock().expect("no panic while it is held"))
        }
    }

    fn temporary(filter: &str, set_at: u64, left: Duration) -> TemporaryLogFilter {
        let filter = LogFilter::parse(filter).expect("a filter");
        TemporaryLogFilter { filter, set_by: "ana".to_owned(), set_at: UnixMillis(set_at), left }
    }

    fn log_something() {
        debug!(target: "otpost::flow", "ours");
        warn!(target: "otpost::flow", "ours");
        trace!(target: "lapin::channel", "a frame");
        info!(target: "otpost::audit", "an act");
    }

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_filter_is_replaced_for_a_while_and_then_restored() {
        let recorder = Recorder::default();
        let (filter, control) = replaceable("warn").expect("a filter");
        let subscriber = tracing_subscriber::registry().with(filter).with(recorder.clone());
        tracing::subscriber::with_default(subscriber, || {
            log_something();
            assert_eq!(recorder.take(), ["otpost::flow WARN"]);
            control.store_answered(Some(&temporary("trace", 1, MINUTE)));
            control.store_answered(Some(&temporary("trace", 1, MINUTE)));
            assert_eq!(recorder.take(), ["otpost::audit INFO"], "one audit line");
            log_something();
            let all = ["otpost::flow DEBUG", "otpost::flow WARN", "otpost::audit INFO"];
            assert_eq!(recorder.take(), all, "no frame");
            control.store_answered(Some(&temporary("off", 2, MINUTE)));
            log_something();
            assert_eq!(recorder.take(), ["otpost::audit INFO"; 2], "the audit log stays");
            control.store_silent();
            assert!(recorder.take().is_empty(), "its time is not over");
            control.store_answered(None);
            assert_eq!(recorder.take(), ["otpost::audit INFO"]);
            control.store_answered(None);
            log_something();
            assert_eq!(recorder.take(), ["otpost::flow WARN"]);
        });
    }

    #[test]
    fn a_filter_ends_at_its_time_without_the_store() {
        let recorder = Recorder::default();
        let (filter, control) = replaceable("info").expect("a filter");
        let subscriber = tracing_subscriber::registry().with(filter).with(recorder.clone());
        tracing::subscriber::with_default(subscriber, || {
            control.store_answered(Some(&temporary("debug", 1, Duration::from_nanos(1))));
            recorder.take();
            log_something();
            assert_eq!(recorder.take().len(), 3);
            control.store_silent();
            recorder.take();
            log_something();
            assert_eq!(recorder.take(), ["otpost::flow WARN", "otpost::audit INFO"]);
        });
    }
}
