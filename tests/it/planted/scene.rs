//! The servers and processes, and all that they show.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use lapin::BasicProperties;
use lapin::options::BasicPublishOptions;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::contract::broker::rabbit::{RabbitWorld, url};
use crate::fake_http::Recorded;
use crate::fake_sendgrid::{API_KEY, FakeSendGrid};
use crate::fake_twilio::{ACCOUNT_SID, AUTH_TOKEN, FakeTwilio, signature};
use crate::inspect::otpost;
use crate::real::{Redis, redis_url};
use crate::traces::collector::Collector;

const CALLBACK: &str = "https://otp.example.co/webhooks/twilio/status";
const READY_WITHIN: Duration = Duration::from_secs(30);

pub struct Scene {
    pub twilio: FakeTwilio,
    sendgrid: FakeSendGrid,
    pub collector: Collector,
    settings: Vec<(&'static str, String)>,
    requests: String,
    channel: lapin::Channel,
    client: reqwest::Client,
    token: String,
    api: String,
    _redis: Redis,
}

/// A process that is killed when dropped.
pub struct Process {
    child: Child,
    ops: String,
    /// Standard output and standard error.
    logs: Vec<JoinHandle<Vec<u8>>>,
}

/// All that a process writes, read while it runs.
fn read_all(mut output: impl std::io::Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = output.read_to_end(&mut bytes);
        bytes
    })
}

impl Process {
    /// Its logs, once it has drained and exported its last spans.
    pub fn log_at_the_end(mut self) -> String {
        let sent = Command::new("kill").arg(self.child.id().to_string()).status().expect("kill starts");
        assert!(sent.success());
        assert!(self.child.wait().expect("it ends").success());
        let logs = self.logs.drain(..).flat_map(|log| log.join().expect("no panic")).collect();
        String::from_utf8(logs).expect("lines are text")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").and_then(|port| port.local_addr()).expect("a free port").to_string()
}

/// A number as E.164, as a national number, and with spaces.
pub fn every_spelling(number: &str, at: usize) -> String {
    let national = &number[3..];
    match at % 3 {
        0 => number.to_owned(),
        1 => national.to_owned(),
        _ => format!("{} {} {}", &national[..3], &national[3..6], &national[6..]),
    }
}

/// The first run of ten digits.
fn code_in(text: &str) -> String {
    let runs = text.split(|char: char| !char.is_ascii_digit());
    runs.filter(|run| run.len() == 10).map(str::to_owned).next().expect("a code")
}

impl Scene {
    pub async fn start(world: &RabbitWorld) -> Scene {
        let (twilio, collector, redis) = (FakeTwilio::start(), Collector::start(), Redis::fresh());
        let sendgrid = FakeSendGrid::start();
        let prefix = world.names.dead().trim_end_matches(".dead").to_owned();
        let settings = vec![
            ("ENVIRONMENT", "development".to_owned()),
            ("AMQP_URL", url()),
            ("AMQP_PREFIX", prefix),
            ("REDIS_URL", redis_url()),
            ("REDIS_PREFIX", redis.prefix.clone()),
            ("TWILIO_ACCOUNT_SID", ACCOUNT_SID.to_owned()),
            ("TWILIO_AUTH_TOKEN", AUTH_TOKEN.to_owned()),
            ("TWILIO_FROM_NUMBER", "+15005550006".to_owned()),
            ("TWILIO_API_BASE_URL", twilio.base_url()),
            ("TWILIO_STATUS_CALLBACK_URL", CALLBACK.to_owned()),
            ("SENDGRID_API_KEY", API_KEY.to_owned()),
            ("SENDGRID_API_BASE_URL", sendgrid.base_url()),
            ("EMAIL_FROM", "Shop <codes@shop.example>".to_owned()),
            ("OPS_CONSOLE", "true".to_owned()),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.base_url()),
            ("OTEL_TRACES_SAMPLER", "always_on".to_owned()),
            ("OTP_CODE_LENGTH", "10".to_owned()),
            ("OTP_RESEND_COOLDOWN_SECONDS", "600".to_owned()),
            ("SMS_MAX_PER_HOUR", "0".to_owned()),
            ("SMS_RATE_LIMIT_PER_IP", "0".to_owned()),
            ("SMS_RATE_LIMIT_PER_NETWORK", "0".to_owned()),
            ("RUST_LOG", "trace".to_owned()),
        ];
        let scope = ["token", "--scope", "otp:send otp:verify otp:admin"];
        let made = otpost(&[("ENVIRONMENT", "development")], &scope);
        Scene {
            twilio,
            sendgrid,
            collector,
            settings,
            requests: world.names.requests(),
            channel: world.open_channel().await,
            client: reqwest::Client::new(),
            token: String::from_utf8(made.stdout).expect("text").trim().to_owned(),
            api: String::new(),
            _redis: redis,
        }
    }

    pub fn spawn(&self, command: &str, format: &str) -> Process {
        self.spawn_at(command, format, &free_address())
    }

    fn spawn_at(&self, command: &str, format: &str, http: &str) -> Process {
        let ops = free_address();
        let mut child = Command::new(env!("CARGO_BIN_EXE_otpost"))
            .arg(command)
            .env_clear()
            .envs(self.settings.iter().map(|(name, value)| (name, value)))
            .envs([("LOG_FORMAT", format), ("OPS_ADDR", &ops), ("HTTP_ADDR", http)])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let logs = vec![
            read_all(child.stdout.take().expect("it is piped")),
            read_all(child.stderr.take().expect("it is piped")),
        ];
        Process { child, ops, logs }
    }

    /// It answers when this returns.
    pub async fn spawn_http(&mut self) -> Process {
        let address = free_address();
        let process = self.spawn_at("http", "json", &address);
        self.api = format!("http://{address}");
        let began = Instant::now();
        while self.client.get(format!("{}/readyz", self.api)).send().await.is_err() {
            assert!(began.elapsed() < READY_WITHIN, "it does not answer");
            sleep(Duration::from_millis(50)).await;
        }
        process
    }

    pub async fn publish(&self, key: &str, bodies: impl Iterator<Item = String>) {
        for body in bodies {
            let (exchange, key) = (self.requests.as_str().into(), key.into());
            let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
            let published = self.channel.basic_publish(exchange, key, options, body.as_bytes(), properties);
            published.await.expect("published");
        }
    }

    /// The status and the body of the answer.
    pub async fn post(&self, path: &str, body: Value) -> String {
        let request =
            self.client.post(format!("{}{path}", self.api)).header("content-type", "application/json");
        self.answer(request.body(body.to_string())).await
    }

    pub async fn get(&self, path: &str) -> String {
        self.answer(self.client.get(format!("{}{path}", self.api))).await
    }

    async fn answer(&self, request: reqwest::RequestBuilder) -> String {
        let answer = request.bearer_auth(&self.token).send().await.expect("an answer");
        format!("{} {}", answer.status(), answer.text().await.expect("a body"))
    }

    pub async fn metrics_of(&self, process: &Process) -> String {
        self.answer(self.client.get(format!("http://{}/metrics", process.ops))).await
    }

    /// The output of a command of the binary.
    pub fn command(&self, arguments: &[&str]) -> String {
        let settings: Vec<(&str, &str)> =
            self.settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let output = otpost(&settings, arguments);
        let text = [output.stdout, output.stderr].concat();
        String::from_utf8(text).expect("text")
    }

    /// The messages that were taken, oldest first.
    fn messages(&self) -> Vec<Recorded> {
        let mut requests = self.twilio.requests();
        requests.retain(|request| request.method == "POST");
        requests
    }

    /// Each recipient with its code.
    pub fn codes(&self) -> Vec<(String, String)> {
        let of = |message: &Recorded| {
            let field = |name| message.field(name).expect("Twilio checked it");
            (field("To").to_owned(), code_in(field("Body")))
        };
        self.messages().iter().map(of).collect()
    }

    pub fn codes_of_emails(&self) -> Vec<String> {
        self.sendgrid.mails().iter().map(|mail| code_in(&String::from_utf8_lossy(&mail.body))).collect()
    }

    /// Reports the last messages as delivered, and returns the answers.
    pub async fn report_delivered(&self, count: usize) -> Vec<String> {
        let (sids, messages) = (self.twilio.sids(), self.messages());
        let mut answers = Vec::new();
        for (sid, message) in sids.iter().rev().zip(messages.iter().rev()).take(count) {
            let field = |name| message.field(name).expect("Twilio checked it");
            let fields = [
                ("AccountSid", ACCOUNT_SID),
                ("MessageSid", sid),
                ("MessageStatus", "delivered"),
                ("To", field("To")),
            ];
            let url = field("StatusCallback");
            let (_, query) = url.split_once('?').expect("a query");
            let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(&fields).finish();
            let request = self
                .client
                .post(format!("{}/webhooks/twilio/status?{query}", self.api))
                .header("content-type", "application/x-www-form-urlencoded")
                .header("x-twilio-signature", signature(AUTH_TOKEN, url, &fields));
            answers.push(self.answer(request.body(body)).await);
        }
        answers
    }
}
