//! The yardstick: the same work on the wire as a good send, in the plain code that people write for it.
//!
//! It promises nothing (no dedup on redelivery, no retry, no refunds), but it is no straw man: pipelined
//! confirms, one shared HTTP client, one multiplexed Redis connection, scripts by their hash, 64 messages at
//! once. It makes no code and checks no number: that is the worker's own work, and being weighed.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use futures_util::StreamExt;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};
use redis::aio::ConnectionManager;
use reqwest::header::CONTENT_TYPE;
use serde::{Deserialize, Serialize};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;
use tokio::time::timeout;

// The worker bounds each of its waits too; a timer costs the same whatever its length.
pub const STORE_WITHIN: Duration = Duration::from_millis(800);
const PROVIDER_WITHIN: Duration = Duration::from_secs(15);
pub const BROKER_WITHIN: Duration = Duration::from_secs(5);

/// One script before the send, as `admit.lua` is one: claim the request, count the send.
const ADMIT: &str = r"
if not redis.call('SET', KEYS[1], 'sending', 'NX', 'PX', ARGV[2]) then return 0 end
redis.call('ZADD', KEYS[2], ARGV[3], ARGV[1])
redis.call('PEXPIRE', KEYS[2], ARGV[2])
return 1";

/// One script after the send, as `complete.lua` is one: keep the outcome.
const COMPLETE: &str = r"
redis.call('HSET', KEYS[1], 'status', 'sent', 'sid', ARGV[2], 'at', ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return 1";

const DAY_MS: u64 = 86_400_000;

#[derive(clap::Args)]
pub struct Settings {
    #[arg(long)]
    pub amqp_url: String,
    #[arg(long)]
    pub redis_url: String,
    #[arg(long)]
    pub twilio_url: String,
    #[arg(long)]
    pub prefix: String,
    #[arg(long)]
    pub redis_prefix: String,
    #[arg(long)]
    pub concurrency: u16,
    #[arg(long)]
    pub prefetch: u16,
    #[arg(long, value_enum)]
    pub runtime: Flavor,
}

/// The runtime is recorded with the numbers: it is worth a tenth of them.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Flavor {
    /// A plain `#[tokio::main]` on two cores.
    Multi,
    Current,
}

impl Flavor {
    pub fn build(self) -> anyhow::Result<Runtime> {
        let mut builder = match self {
            Self::Multi => Builder::new_multi_thread(),
            Self::Current => Builder::new_current_thread(),
        };
        builder.worker_threads(2).enable_all().build().context("no runtime")
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Multi => "multi",
            Self::Current => "current",
        }
    }
}

#[derive(Deserialize)]
struct Request {
    request_id: String,
    to: String,
    purpose: String,
}

#[derive(Deserialize)]
struct Accepted {
    sid: String,
}

/// The fields of otpost's own result of a send, so that the bytes on the wire are about as many.
#[derive(Serialize)]
struct SendResult<'a> {
    request_id: &'a str,
    channel: &'a str,
    purpose: &'a str,
    to: String,
    at: String,
    status: &'a str,
    provider: &'a str,
    provider_message_id: &'a str,
    attempts: u32,
    segments: u32,
    expires_at: String,
    resend_after: String,
}

struct Loop {
    results: Channel,
    exchange: String,
    store: BareStore,
    http: reqwest::Client,
    messages_url: String,
}

/// The two scripts of a message.
pub struct BareStore {
    redis: ConnectionManager,
    prefix: String,
    admit: redis::Script,
    complete: redis::Script,
}

pub async fn consume(settings: &Settings) -> anyhow::Result<()> {
    // The worker's LOG_FORMAT=json: the same subscriber, and standard output is the same kind of file.
    tracing_subscriber::fmt().json().init();
    let bare = Arc::new(Loop::connect(settings).await?);
    // Two connections, as the worker has: a blocked publisher must not stop acks.
    let connection = Connection::connect(&settings.amqp_url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.basic_qos(settings.prefetch, BasicQosOptions::default()).await?;
    let queue = format!("{}.send-sms", settings.prefix).into();
    let options = BasicConsumeOptions::default();
    let mut requests = channel.basic_consume(queue, "bare".into(), options, FieldTable::default()).await?;

    let permits = Arc::new(Semaphore::new(settings.concurrency.into()));
    let mut stop = signal(SignalKind::terminate())?;
    loop {
        let permit = Arc::clone(&permits).acquire_owned().await?;
        let delivery = tokio::select! {
            delivery = requests.next() => delivery.context("the requests queue is gone")??,
            _ = stop.recv() => break,
        };
        let bare = Arc::clone(&bare);
        tokio::spawn(async move {
            if let Err(error) = bare.handle(delivery).await {
                tracing::error!(%error, "a request failed");
            }
            drop(permit);
        });
    }
    let _ = timeout(BROKER_WITHIN, permits.acquire_many(settings.concurrency.into())).await;
    Ok(())
}

impl Loop {
    async fn connect(settings: &Settings) -> anyhow::Result<Self> {
        let connection = Connection::connect(&settings.amqp_url, ConnectionProperties::default()).await?;
        let results = connection.create_channel().await?;
        results.confirm_select(ConfirmSelectOptions::default()).await?;
        let http = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(3))
            .timeout(PROVIDER_WITHIN)
            .retry(reqwest::retry::never())
            .no_proxy()
            .build()?;
        Ok(Self {
            results,
            exchange: format!("{}.results", settings.prefix),
            store: BareStore::connect(&settings.redis_url, &settings.redis_prefix).await?,
            http,
            messages_url: format!(
                "{}/2010-04-01/Accounts/{}/Messages.json",
                settings.twilio_url,
                crate::run::ACCOUNT
            ),
        })
    }

    async fn handle(&self, delivery: Delivery) -> anyhow::Result<()> {
        let request: Request = serde_json::from_slice(&delivery.data)?;
        let now = jiff::Timestamp::now();
        self.store.admit(&request.request_id, &request.to, now).await?;
        let sid = self.send(&request).await?;
        self.store.complete(&request.request_id, &request.to, &sid, now).await?;
        self.publish(&request, &sid, now, &delivery).await?;
        timeout(BROKER_WITHIN, delivery.ack(BasicAckOptions::default())).await.context("ack")??;
        let Request { request_id, to, .. } = &request;
        tracing::info!(%request_id, to = %masked(to), %sid, attempts = 1, "sms sent");
        Ok(())
    }

    async fn send(&self, request: &Request) -> anyhow::Result<String> {
        let text = "MeStore: Hola, tu codigo de verificacion es 123456. Valido por 10 minutos. No compartir.";
        let form = form_urlencoded::Serializer::new(String::new())
            .append_pair("To", &request.to)
            .append_pair("From", crate::run::SENDER)
            .append_pair("Body", text)
            .append_pair("ValidityPeriod", "600")
            .finish();
        let post = self
            .http
            .post(&self.messages_url)
            .basic_auth(crate::run::ACCOUNT, Some(crate::run::AUTH_TOKEN))
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(form);
        let exchange = async {
            let answer = post.send().await?.error_for_status()?;
            answer.bytes().await
        };
        let body = timeout(PROVIDER_WITHIN, exchange).await.context("send")??;
        let accepted: Accepted = serde_json::from_slice(&body)?;
        Ok(accepted.sid)
    }

    /// Persistent, mandatory and confirmed before the ack, on one channel that all messages share at once.
    async fn publish(
        &self,
        req: &Request,
        sid: &str,
        now: jiff::Timestamp,
        from: &Delivery,
    ) -> anyhow::Result<()> {
        let result = SendResult {
            request_id: &req.request_id,
            channel: "sms",
            purpose: &req.purpose,
            to: masked(&req.to),
            at: now.to_string(),
            status: "sent",
            provider: "twilio",
            provider_message_id: sid,
            attempts: 1,
            segments: 1,
            expires_at: (now + Duration::from_secs(600)).to_string(),
            resend_after: (now + Duration::from_secs(30)).to_string(),
        };
        let body = serde_json::to_vec(&result)?;
        let correlation =
            from.properties.correlation_id().clone().unwrap_or_else(|| req.request_id.as_str().into());
        let properties = BasicProperties::default()
            .with_content_type("application/json".into())
            .with_delivery_mode(2)
            .with_message_id(format!("{}:sent", req.request_id).into())
            .with_correlation_id(correlation)
            .with_timestamp(now.as_second().unsigned_abs());
        let options = BasicPublishOptions { mandatory: true, ..Default::default() };
        let exchange = self.exchange.as_str().into();
        let confirmed = async {
            self.results.basic_publish(exchange, "sms.sent".into(), options, &body, properties).await?.await
        };
        let confirmation = timeout(BROKER_WITHIN, confirmed).await.context("publish")??;
        ensure!(matches!(confirmation, Confirmation::Ack(_)), "the broker refused a result");
        Ok(())
    }
}

impl BareStore {
    pub async fn connect(url: &str, prefix: &str) -> anyhow::Result<Self> {
        Ok(Self {
            redis: redis::Client::open(url)?.get_connection_manager().await?,
            prefix: prefix.to_owned(),
            admit: redis::Script::new(ADMIT),
            complete: redis::Script::new(COMPLETE),
        })
    }

    pub async fn admit(&self, request_id: &str, to: &str, now: jiff::Timestamp) -> anyhow::Result<()> {
        let mut script = self.admit.key(self.key(to, &format!("claim:{request_id}")));
        script.key(self.key(to, "sends:h"));
        script.arg(request_id).arg(DAY_MS).arg(now.as_millisecond());
        let mut redis = self.redis.clone();
        let is_new: bool =
            timeout(STORE_WITHIN, script.invoke_async(&mut redis)).await.context("admit")??;
        ensure!(is_new, "{request_id} was claimed before");
        Ok(())
    }

    pub async fn complete(
        &self,
        request_id: &str,
        to: &str,
        sid: &str,
        now: jiff::Timestamp,
    ) -> anyhow::Result<()> {
        let mut script = self.complete.key(self.key(to, &format!("outcome:{request_id}")));
        script.arg(DAY_MS).arg(sid).arg(now.as_millisecond());
        let mut redis = self.redis.clone();
        let _: i64 = timeout(STORE_WITHIN, script.invoke_async(&mut redis)).await.context("complete")??;
        Ok(())
    }

    /// A name with 32 digits, as many as a keyed digest has.
    fn key(&self, to: &str, rest: &str) -> String {
        format!("{}:{{{:0>32}}}:{rest}", self.prefix, &to[1..])
    }
}

/// `+57300*****67`.
pub fn masked(number: &str) -> String {
    format!("{}*****{}", &number[..6], &number[number.len() - 2..])
}
