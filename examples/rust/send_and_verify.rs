//! Requests a code over RabbitMQ, and verifies the typed code over HTTP.
//!
//! ```sh
//! cargo run --example send_and_verify -- YOUR_NUMBER
//! ```

use std::io::Write as _;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use futures_util::StreamExt as _;
use lapin::options::{BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::FieldTable;
use lapin::uri::AMQPUri;
use lapin::{BasicProperties, Confirmation, Connection, ConnectionProperties, ErrorKind};
use serde_json::{Value, json};

/// No queue to declare: replies come to this channel.
const REPLY_TO: &str = "amq.rabbitmq.reply-to";
/// An attempt in doubt is reconciled before it is answered.
const ANSWER_WITHIN: Duration = Duration::from_secs(120);
const A_WHILE: Duration = Duration::from_secs(5);
const PERSISTENT: u8 = 2;
const REPEAT: &str = "the same request_id may be published again, and sends nothing twice";

#[tokio::main]
async fn main() {
    let verified = run().await.unwrap_or_else(|trouble| {
        eprintln!("{trouble}");
        false
    });
    std::process::exit(if verified { 0 } else { 1 })
}

async fn run() -> Result<bool> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [to] = &arguments[..] else { bail!("usage: send_and_verify NUMBER") };
    let token = setting("OTPOST_TOKEN", "");
    ensure!(!token.is_empty(), "OTPOST_TOKEN is not set: it must be a token whose scope holds otp:verify");

    let broker = connect().await?;
    let result = ask_for_code(&broker, to).await?;
    broker.close(200, "done".into()).await.ok(); // it may be closed already
    match result["status"].as_str() {
        None => {
            println!("no result yet: {REPEAT}");
            Ok(false)
        }
        Some("sent") => {
            println!("sent to {}: valid until {}", text(&result["to"]), text(&result["expires_at"]));
            verify(to, &token).await
        }
        Some("unknown") => {
            println!(
                "unknown: it may have been sent. Type the code if it comes, else ask again after the cooldown"
            );
            verify(to, &token).await
        }
        Some(status) => {
            let error = &result["error"];
            println!("{status}, {}: {}", text(&error["code"]), what_to_do(error));
            Ok(false)
        }
    }
}

async fn connect() -> Result<Connection> {
    let url = setting("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/%2f");
    let uri: AMQPUri = url.parse().map_err(|_| anyhow!("AMQP_URL is not a RabbitMQ URL"))?;
    // Not the whole URL: it holds a password.
    let at = format!("{}:{}", uri.authority.host, uri.authority.port);
    Connection::connect_uri(uri, ConnectionProperties::default())
        .await
        .with_context(|| format!("RabbitMQ at {at} cannot be reached, or refuses the login: set AMQP_URL"))
}

/// Publishes one request and waits for its result; null if none came in time.
async fn ask_for_code(broker: &Connection, to: &str) -> Result<Value> {
    let channel = broker.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
    let mut replies =
        channel.basic_consume(REPLY_TO.into(), "".into(), options, FieldTable::default()).await?;

    let request_id = fresh_id()?; // one per send: a repeated publish keeps it
    let now = jiff::Timestamp::now().to_string();
    let request = json!({"request_id": request_id, "to": to, "requested_at": now}).to_string();
    let prefix = setting("AMQP_PREFIX", "otpost");
    let exchange = format!("{prefix}.requests");
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let properties = BasicProperties::default()
        .with_content_type("application/json".into())
        .with_delivery_mode(PERSISTENT)
        .with_correlation_id(request_id.as_str().into())
        .with_reply_to(REPLY_TO.into());
    let confirm = channel
        .basic_publish(exchange.into(), "send-sms".into(), options, request.as_bytes(), properties)
        .await?;
    let lost = || anyhow!("RabbitMQ ended the connection, or did not accept the request: {REPEAT}");
    match confirm.await {
        Ok(Confirmation::Ack(None)) => {}
        Ok(Confirmation::Ack(Some(_))) => bail!(unroutable(&prefix)), // no queue took it
        Err(error) if is_not_found(&error) => bail!(unroutable(&prefix)), // no such exchange
        Ok(_) | Err(_) => return Err(lost()),
    }

    let answer = async {
        while let Some(Ok(reply)) = replies.next().await {
            if reply.properties.correlation_id().as_ref().is_some_and(|id| id.as_str() == request_id) {
                return Ok(serde_json::from_slice(&reply.data)?);
            }
        }
        Err(lost())
    };
    tokio::pin!(answer);
    if let Ok(answer) = tokio::time::timeout(A_WHILE, &mut answer).await {
        return answer;
    }
    println!("still waiting…");
    tokio::time::timeout(ANSWER_WITHIN - A_WHILE, answer).await.unwrap_or(Ok(Value::Null))
}

fn unroutable(prefix: &str) -> String {
    format!("no queue takes requests: does otpost run with AMQP_PREFIX={prefix}?")
}

fn is_not_found(error: &lapin::Error) -> bool {
    matches!(error.kind(), ErrorKind::ProtocolError(error) if error.get_id() == 404)
}

/// The next step of a caller after `rejected` or `failed`.
fn what_to_do(error: &Value) -> String {
    let then = match text(&error["code"]) {
        "invalid_request" => "fix this program",
        "invalid_recipient" | "landline" => "let the person give another number",
        "rate_limited" | "cooldown" | "blocked" => {
            return format!("wait {} s, then ask again with a new request_id", error["retry_after"]);
        }
        "expired" | "provider_unavailable" => "ask again with a new request_id, if the person still waits",
        "provider_misconfigured" | "internal" => "report it to the operator of otpost",
        _ => "offer the person another way, and do not repeat it",
    };
    then.to_owned()
}

/// Reads codes until one is right or no other can be.
async fn verify(to: &str, token: &str) -> Result<bool> {
    loop {
        let code = typed("Code: ")?.context("no code was typed")?;
        let verdict = check(to, &code.replace(char::is_whitespace, ""), token).await; // people type `123 456`
        if verdict["verified"] == true {
            println!("verified: {}", text(&verdict["to"]));
            return Ok(true);
        }
        let (again, then) = what_next(&verdict);
        println!("{}: {then}", text(&verdict["code"]));
        if !again {
            return Ok(false);
        }
        if verdict["status"] == 503 {
            tokio::time::sleep(Duration::from_secs(verdict["retry_after"].as_u64().unwrap_or(2))).await;
        }
    }
}

/// The verdict on a code: `verified`, or a problem with its `status` and `code`.
async fn check(to: &str, code: &str, token: &str) -> Value {
    let url = setting("OTPOST_URL", "http://127.0.0.1:8080");
    let request = reqwest::Client::new()
        .post(format!("{}/api/v1/otp/verify", url.trim_end_matches('/')))
        .timeout(Duration::from_secs(15))
        .bearer_auth(token)
        .header("Content-Type", "application/json")
        .body(json!({"to": to, "otp_code": code}).to_string());
    let verdict = async { anyhow::Ok(serde_json::from_str(&request.send().await?.text().await?)?) };
    verdict
        .await
        .ok()
        .filter(|verdict: &Value| {
            verdict["verified"] == true || verdict["status"].is_u64() && verdict["code"].is_string()
        })
        // No otpost answered: the verdict is unknown.
        .unwrap_or_else(|| json!({"status": 503, "code": format!("no answer of otpost at {url}")}))
}

/// The next step after a problem: may the person type again, and the text to show.
fn what_next(verdict: &Value) -> (bool, String) {
    let left = verdict["attempts_remaining"].as_u64().unwrap_or(0);
    let (again, then) = match (verdict["status"].as_u64(), text(&verdict["code"])) {
        (Some(503), _) => (true, "try again with the same code"),
        (Some(401 | 403), _) => (false, "fix the token, OTPOST_TOKEN"),
        (_, "invalid_request") => (true, "type it again"), // it was not a code; no attempt was counted
        (_, "wrong_code") if left > 0 => return (true, format!("attempts left: {left}")),
        (_, "too_many_attempts") if verdict["retry_after"].is_u64() => {
            return (false, format!("wait {} s, then ask for a new code", verdict["retry_after"]));
        }
        (_, "wrong_code" | "too_many_attempts" | "no_pending_code" | "code_used" | "code_expired") => {
            (false, "ask for a new code")
        }
        _ => (false, "report it to the operator of otpost"),
    };
    (again, then.to_owned())
}

/// A typed line; `None` at the end of the input.
fn typed(prompt: &str) -> Result<Option<String>> {
    print!("{prompt}");
    std::io::stdout().flush()?;
    let mut line = String::new();
    let length = std::io::stdin().read_line(&mut line)?;
    Ok((length > 0).then(|| line.trim().to_owned()))
}

fn fresh_id() -> Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("no random bytes: {error}"))?;
    Ok(hex::encode(bytes))
}

fn setting(name: &str, default: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| default.to_owned())
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
