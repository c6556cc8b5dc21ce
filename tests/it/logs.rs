//! Log lines of the real binary, and data that no filter lets into them.

use std::collections::BTreeSet;
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

/// Keeps the target and the level of every event.
#[derive(Clone, Default)]
struct Recorder(Arc<Mutex<Vec<String>>>);

impl<S: Subscriber> Layer<S> for Recorder {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let (target, level) = (event.metadata().target(), event.metadata().level());
        let mut lines = self.0.lock().expect("no panic while the lock is held");
        lines.push(format!("{target} {level}"));
    }
}

/// The events of other crates that a filter lets through.
fn logged(filter: &str) -> Vec<String> {
    let recorder = Recorder::default();
    let filter = filter_of(filter).unwrap_or_else(|problem| panic!("{filter} {problem}"));
    let subscriber = Registry::default().with(filter).with(recorder.clone());
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
        error!(target: "lapin::channel", ?message, "Connection closed");
        debug!(target: "otpost::telemetry::events", ?message, "ours");
    });
    let lines = recorder.0.lock().expect("no panic while the lock is held");
    lines.clone()
}

#[test]
fn no_filter_lets_out_messages_that_other_crates_print() {
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
        let leaked: Vec<String> = logged(filter)
            .into_iter()
            .filter(|line| !line.ends_with("INFO") && !line.starts_with("otpost"))
            .collect();
        assert_eq!(leaked, Vec::<String>::new(), "RUST_LOG={filter}");
    }
}

#[test]
fn a_filter_decides_about_our_own_lines() {
    let ours = |filter| logged(filter).contains(&"otpost::telemetry::events DEBUG".to_owned());
    assert!(ours("debug") && ours("info,otpost=debug"));
    assert!(!ours("info") && !ours("debug,otpost=warn") && !ours("off"));
    assert_eq!(logged("info"), ["lapin::connection INFO"]);
    assert_eq!(logged("off,lapin=off"), Vec::<String>::new());
}

#[test]
fn an_invalid_filter_is_refused_without_being_repeated() {
    for filter in ["hunter2=loud", "[hunter2", "hunter2=info=debug"] {
        let problem = filter_of::<Registry>(filter).err().expect("no filter");
        assert_eq!(problem, "is no valid log filter");
    }
}

/// A process of the real binary and its log lines. It is killed when dropped.
pub struct Running(Child, UnboundedReceiver<Value>);

impl Running {
    fn start(world: &RabbitWorld, redis: &Redis) -> Running {
        Running::with_servers("worker", world, redis, &[])
    }

    pub fn with_servers(command: &str, world: &RabbitWorld, redis: &Redis, more: &[(&str, &str)]) -> Running {
        let (prefix, amqp, url) = (world.names.dead(), url(), redis_url());
        let servers = [
            ("ENVIRONMENT", "development"),
            ("AMQP_URL", amqp.as_str()),
            ("REDIS_URL", &url),
            ("REDIS_PREFIX", &redis.prefix),
            ("AMQP_PREFIX", prefix.trim_end_matches(".dead")),
        ];
        Running::spawn(command, &[&servers[..], more].concat())
    }

    pub fn spawn(command: &str, settings: &[(&str, &str)]) -> Running {
        let mut child = Command::new(env!("CARGO_BIN_EXE_otpost"))
            .arg(command)
            .env_clear()
            .envs([("LOG_FORMAT", "json"), ("HTTP_ADDR", "127.0.0.1:0"), ("OPS_ADDR", "127.0.0.1:0")])
            .envs(settings.iter().copied())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let (sender, received) = unbounded_channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let Ok(line) = serde_json::from_str(&line) else { continue };
                let _ = sender.send(line);
            }
        });
        Running(child, received)
    }

    /// Asks the process to end.
    pub fn terminate(&self) {
        let sent = Command::new("kill").arg(self.0.id().to_string()).status().expect("kill starts");
        assert!(sent.success());
    }

    /// The next line with this message.
    pub async fn says(&mut self, message: &str) -> Value {
        self.says_without(message, "").await
    }

    /// The lines up to the next one with this message.
    pub async fn lines_until(&mut self, message: &str) -> Vec<Value> {
        let mut lines = Vec::new();
        patiently(async {
            while lines.last().is_none_or(|line: &Value| line["message"] != message) {
                lines.push(self.1.recv().await.unwrap_or_else(|| panic!("it ended without {message:?}")));
            }
        })
        .await;
        lines
    }

    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.0.id().to_string()]).status();
        assert!(sent.expect("kill is installed").success());
    }

    /// The next line with this message, if none with the other one comes before it.
    pub async fn says_without(&mut self, message: &str, other: &str) -> Value {
        patiently(async {
            loop {
                let line = self
                    .1
                    .recv()
                    .await
                    .unwrap_or_else(|| panic!("the process ended without logging {message:?}"));
                if line["message"] == message {
                    return line;
                }
                assert_ne!(line["message"], other, "before {message:?}");
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
async fn a_worker_that_starts_under_the_kill_switch_logs_the_pause_and_its_end() {
    in_world(async |world: &RabbitWorld| {
        let redis = Redis::fresh();
        redis.store().set_kill_switch(Some("test")).await.expect("answers");
        let mut worker = Running::start(world, &redis);
        let (mut stopped, mut paused) = (None, BTreeSet::new());
        while stopped.is_none() || paused.len() < 2 {
            let line = patiently(worker.1.recv()).await.expect("the process runs");
            match line["message"].as_str() {
                // On a busy machine a late answer of the store may pause first.
                Some("sending paused") if line["reason"] == "kill_switch" => stopped = Some(line),
                Some("consumption paused") => {
                    paused.insert(line["channel"].as_str().map(str::to_owned));
                }
                _ => {}
            }
        }
        assert_eq!(stopped.expect("a line")["level"], "WARN");
        assert_eq!(paused, BTreeSet::from(["email", "sms"].map(|channel| Some(channel.to_owned()))));
        redis.store().set_kill_switch(None).await.expect("answers");
        worker.says("sending resumed").await;
        worker.says("consumption resumed").await;
    })
    .await;
}

#[tokio::test]
async fn dev_names_the_account_that_it_does_not_use_and_the_command_that_does() {
    let emails = [
        ("EMAIL_PROVIDER", "smtp"),
        ("EMAIL_FROM", "codes@shop.example"),
        ("SMTP_URL", "smtp://127.0.0.1:1"),
    ];
    let mut dev = Running::spawn("dev", &emails);
    let notice = dev.says("notice").await["notice"].clone();
    let what = "SMTP_URL is set and not used: e-mails are simulated; otpost dev --provider twilio sends them";
    assert_eq!(notice, what);
    dev.says("started").await;
}

#[tokio::test]
async fn a_hangup_drains_as_sigterm_does() {
    in_world(async |world: &RabbitWorld| {
        let redis = Redis::fresh();
        for signal in ["HUP", "TERM"] {
            let mut worker = Running::start(world, &redis);
            worker.says("started").await;
            worker.signal(signal);
            worker.says("stopping: finishing what is in flight").await;
            worker.says("stopped with nothing in flight").await;
        }
    })
    .await;
}
