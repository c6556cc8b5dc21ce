//! The cost of a check in `otpost http`, beside a bare handler on the same libraries.
//!
//! Each recipient's code is checked wrong twice and then right, by clients that keep their connections. A wrong check is one
//! script on both sides; otpost answers a right one after its event is confirmed. The bare handler is measured without an
//! event, and with one.

use std::net::{Ipv4Addr, TcpListener};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};
use futures_util::future::try_join_all;
use serde_json::json;
use tokio::time::sleep;

use crate::bare_check;
use crate::broker::{NewRequest, mobile_number};
use crate::child::Process;
use crate::redis_server::RedisServer;
use crate::run::{self, AUDIENCE, FakeTwilio, JWT_SECRET, World};
use crate::{Args, Side};

const RECIPIENTS: usize = 4_000;
const CLIENTS: usize = 32;
const CODE: &str = "246810";
const WRONG_CODE: &str = "135791";
const ANSWERS_WITHIN: Duration = Duration::from_secs(20);

/// µs of CPU a check.
pub struct Checked {
    pub wrong_us: f64,
    pub right_us: f64,
    /// A right one with its event: in otpost, each.
    pub right_with_event_us: f64,
    pub redis_wrong_us: f64,
    pub redis_right_us: f64,
}

pub async fn run(args: &Args, side: Side) -> anyhow::Result<Checked> {
    run::in_world(args, async |world| {
        match side {
            Side::Worker => {
                let twilio = send_codes(world).await?;
                // The events of right codes need a queue, or they are returned.
                let _events = world.broker.collector().await?;
                let port = free_port()?;
                let mut http = run::otpost(world, &twilio, "http")?;
                http.env("HTTP_ADDR", format!("127.0.0.1:{port}"));
                measure(world, &mut http, port).await
            }
            Side::Bare => {
                let checked = measure_bare(world, false).await?;
                world.broker.declare_for_bare_loop().await?;
                let _events = world.broker.collector().await?;
                let right_with_event_us = measure_bare(world, true).await?.right_us;
                Ok(Checked { right_with_event_us, ..checked })
            }
        }
    })
    .await
}

fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

async fn measure_bare(world: &World<'_>, publishes: bool) -> anyhow::Result<Checked> {
    write_codes(&world.redis).await?;
    let port = free_port()?;
    measure(world, &mut bare(world, port, publishes)?, port).await
}

async fn measure(world: &World<'_>, command: &mut Command, port: u16) -> anyhow::Result<Checked> {
    let process = Process::start(command, &world.folder.join("checks.log"))?;
    let checked = check_all(port, &process, &world.redis).await;
    let checked = checked.with_context(|| format!("the log ends:\n{}", process.log_tail()))?;
    let ended = process.terminate().await?;
    ensure!(ended.success(), "after SIGTERM: {ended}");
    Ok(checked)
}

/// A worker sends each recipient the code that its request has.
async fn send_codes(world: &World<'_>) -> anyhow::Result<FakeTwilio> {
    let twilio = FakeTwilio::start(0)?;
    twilio.open().await?;
    run::declare(world, &twilio)?;
    let results = world.broker.collector().await?;
    world.broker.publish_requests(RECIPIENTS, &NewRequest::WithCode(CODE)).await?;
    let mut worker = run::otpost(world, &twilio, "worker")?;
    let worker = Process::start(&mut worker, &world.folder.join("worker.log"))?;
    results.collect(RECIPIENTS).await?;
    worker.terminate().await?;
    Ok(twilio)
}

async fn write_codes(server: &RedisServer) -> anyhow::Result<()> {
    let mut redis = server.connect().await?;
    let mut pipeline = redis::pipe();
    for index in 0..RECIPIENTS {
        let key = bare_check::key(&server.prefix, &mobile_number(index));
        pipeline.del(&key).ignore().hset(&key, "code", CODE).ignore();
    }
    pipeline.query_async(&mut redis).await.context("Redis takes no codes")
}

fn bare(world: &World<'_>, port: u16, publishes: bool) -> anyhow::Result<Command> {
    let World { args, prefix, redis, .. } = world;
    let mut bare = Command::new(std::env::current_exe()?);
    bare.arg("bare-check").env_clear();
    bare.args(["--port", &port.to_string(), "--prefix", prefix]);
    bare.args(["--redis-url", &redis.url, "--redis-prefix", &redis.prefix]);
    bare.args(["--runtime", args.bare_runtime.name()]);
    if publishes {
        bare.args(["--amqp-url", &args.amqp_url]);
    }
    Ok(bare)
}

async fn check_all(port: u16, process: &Process, redis: &RedisServer) -> anyhow::Result<Checked> {
    let client = Arc::new(Client::new(port)?);
    client.until_it_answers().await?;
    // Of the process and of Redis.
    let cpu_us = async |code, status| {
        let (before, redis_before) = (process.cpu_time()?, redis.account().await?);
        client.round(code, status).await?;
        let cpu_us = (process.cpu_time()? - before).as_secs_f64() * 1e6 / RECIPIENTS as f64;
        Ok::<_, anyhow::Error>((cpu_us, redis.account().await?.since(&redis_before, RECIPIENTS).cpu_us))
    };
    let _opens_connections = cpu_us(WRONG_CODE, 422).await?;
    let (wrong_us, redis_wrong_us) = cpu_us(WRONG_CODE, 422).await?;
    let (right_us, redis_right_us) = cpu_us(CODE, 200).await?;
    Ok(Checked { wrong_us, right_us, right_with_event_us: right_us, redis_wrong_us, redis_right_us })
}

struct Client {
    http: reqwest::Client,
    url: String,
    token: String,
}

impl Client {
    fn new(port: u16) -> anyhow::Result<Self> {
        let hour = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() + 3_600;
        let claims = json!({ "sub": "bench", "aud": AUDIENCE, "exp": hour, "scope": "otp:send otp:verify" });
        let key = jsonwebtoken::EncodingKey::from_secret(JWT_SECRET.as_bytes());
        Ok(Self {
            http: reqwest::Client::builder().no_proxy().timeout(ANSWERS_WITHIN).build()?,
            url: format!("http://127.0.0.1:{port}/api/v1/otp/verify"),
            token: jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key)?,
        })
    }

    async fn until_it_answers(&self) -> anyhow::Result<()> {
        let started = Instant::now();
        while let Err(error) = self.http.get(&self.url).send().await {
            ensure!(started.elapsed() < ANSWERS_WITHIN, "no answer: {error}");
            sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Checks the code for each recipient once.
    async fn round(self: &Arc<Self>, code: &'static str, status: u16) -> anyhow::Result<()> {
        let clients = (0..CLIENTS).map(|first| {
            let client = Arc::clone(self);
            tokio::spawn(async move {
                for index in (first..RECIPIENTS).step_by(CLIENTS) {
                    client.check(&mobile_number(index), code, status).await?;
                }
                Ok::<_, anyhow::Error>(())
            })
        });
        try_join_all(clients).await?.into_iter().collect()
    }

    async fn check(&self, to: &str, code: &str, status: u16) -> anyhow::Result<()> {
        let body = json!({ "to": to, "otp_code": code }).to_string();
        let request = self.http.post(&self.url).bearer_auth(&self.token);
        let answer = request.header("Content-Type", "application/json").body(body).send().await?;
        let (got, body) = (answer.status().as_u16(), answer.text().await?);
        ensure!(got == status, "{got}, not {status}: {body}");
        Ok(())
    }
}
