//! What is never logged, whatever the filter says.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use otpost::store::Store as _;
use otpost::telemetry::filter_of;
use serde_json::Value;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tracing::{Event, Subscriber, debug, error, info, trace, trace_span, warn};
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::{Layer, Registry};

use crate::contract::broker::patiently;
use crate::contract::broker::rabbit::{RabbitWorld, in_world, url};
use crate::real::{Redis, redis_url};

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

/// A worker of the real binary, and what it logs. Killed when dropped.
struct Running(Child, UnboundedReceiver<Value>);

impl Running {
    fn start(world: &RabbitWorld, redis: &Redis) -> Running {
        let prefix = world.names.dead();
        Running::spawn(
            "worker",
            &[
                ("ENVIRONMENT", "development"),
                ("AMQP_URL", &url()),
                ("REDIS_URL", &redis_url()),
                ("REDIS_PREFIX", &redis.prefix),
                ("AMQP_PREFIX", prefix.trim_end_matches(".dead")),
            ],
        )
    }

    fn spawn(command: &str, settings: &[(&str, &str)]) -> Running {
        let mut child = Command::new(env!("CARGO_BIN_EXE_otpost"))
            .arg(command)
            .env_clear()
            .envs([("LOG_FORMAT", "json"), ("HTTP_ADDR", "127.0.0.1:0"), ("OPS_ADDR", "127.0.0.1:0")])
            .envs(settings.iter().copied())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let (sender, heard) = unbounded_channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let Ok(line) = serde_json::from_str(&line) else { continue };
                let _ = sender.send(line);
            }
        });
        Running(child, heard)
    }

    /// The next line with this message.
    async fn says(&mut self, message: &str) -> Value {
        patiently(async {
            loop {
                let line = self.1.recv().await.unwrap_or_else(|| panic!("it ended without {message:?}"));
                if line["message"] == message {
                    return line;
                }
            }
        })
        .await
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn a_worker_that_starts_under_the_kill_switch_says_so_and_when_it_goes_on() {
    in_world(async |world: &RabbitWorld| {
        let redis = Redis::fresh();
        redis.store().set_kill_switch(Some("test")).await.expect("answers");
        let mut worker = Running::start(world, &redis);
        let stopped = worker.says("sending is stopped: requests wait").await;
        assert_eq!((&stopped["level"], &stopped["reason"]), (&"ERROR".into(), &"kill_switch".into()));
        let mut paused = [worker.says("consumption paused").await, worker.says("consumption paused").await]
            .map(|line| line["channel"].as_str().map(str::to_owned));
        paused.sort_unstable();
        assert_eq!(paused, [Some("email".to_owned()), Some("sms".to_owned())]);
        redis.store().set_kill_switch(None).await.expect("answers");
        worker.says("sending goes on").await;
        worker.says("consumption resumed").await;
    })
    .await;
}

#[tokio::test]
async fn dev_says_that_it_uses_no_account_that_is_set_and_what_would() {
    let emails = [
        ("EMAIL_PROVIDER", "smtp"),
        ("EMAIL_FROM", "codes@shop.example"),
        ("SMTP_URL", "smtp://127.0.0.1:1"),
    ];
    let mut dev = Running::spawn("dev", &emails);
    let told = dev.says("notice").await["notice"].clone();
    let what = "SMTP_URL is set and not used: e-mails are simulated; otpost dev --provider twilio sends them";
    assert_eq!(told, what);
    dev.says("started").await;
}
