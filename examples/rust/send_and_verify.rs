//! Asks otpost for a code over RabbitMQ, and checks over HTTP what the person types.
//!
//! ```sh
//! cargo run --example send_and_verify -- +573001234567
//! ```

use std::io::Write as _;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures_util::StreamExt as _;
use lapin::options::{BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};
use serde_json::{Value, json};

/// No queue to declare: replies come to this very channel.
const REPLY_TO: &str = "amq.rabbitmq.reply-to";
/// A send in doubt is looked into before it is answered.
const ANSWER_WITHIN: Duration = Duration::from_secs(120);
const PERSISTENT: u8 = 2;

#[tokio::main]
async fn main() -> Result<()> {
    let to = std::env::args().nth(1).context("usage: send_and_verify NUMBER")?;
    let url = setting("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/%2f");
    let broker = Connection::connect(&url, ConnectionProperties::default()).await?;
    let result = ask_for_code(&broker.create_channel().await?, &to).await?;
    broker.close(200, "done".into()).await?;

    let verified = match result["status"].as_str() {
        None => {
            println!("no result yet: the same request_id may be published again, and sends nothing twice");
            false
        }
        Some("sent") => {
            println!("sent to {}: good until {}", text(&result["to"]), text(&result["expires_at"]));
            verify(&to).await?
        }
        Some("unknown") => {
            println!(
                "unknown: it may have been sent. Type the code if it comes, else ask again after the cooldown"
            );
            verify(&to).await?
        }
        Some(status) => {
            let error = &result["error"];
            println!("{status}, {}: {}", text(&error["code"]), what_to_do(error));
            false
        }
    };
    std::process::exit(if verified { 0 } else { 1 })
}

/// Publishes one request and waits for its result; null if none came in time.
async fn ask_for_code(channel: &Channel, to: &str) -> Result<Value> {
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
    let mut replies =
        channel.basic_consume(REPLY_TO.into(), "".into(), options, FieldTable::default()).await?;

    let request_id = fresh_id()?; // one a send: a retry of publishing keeps it
    let now = jiff::Timestamp::now().to_string();
    let request = json!({"request_id": request_id, "to": to, "requested_at": now}).to_string();
    let exchange = setting("AMQP_PREFIX", "otpost") + ".requests";
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let properties = BasicProperties::default()
        .with_content_type("application/json".into())
        .with_delivery_mode(PERSISTENT)
        .with_correlation_id(request_id.as_str().into())
        .with_reply_to(REPLY_TO.into());
    let confirm =
        channel.basic_publish(exchange.into(), "send-sms".into(), options, request.as_bytes(), properties);
    // An `Ack` with a message in it is one that no queue took.
    ensure!(confirm.await?.await? == Confirmation::Ack(None), "the broker did not take the request");

    let answer = async {
        while let Some(reply) = replies.next().await {
            let reply = reply?;
            if reply.properties.correlation_id().as_ref().is_some_and(|id| id.as_str() == request_id) {
                return Ok(serde_json::from_slice(&reply.data)?);
            }
        }
        anyhow::bail!("the connection ended before the result came")
    };
    tokio::time::timeout(ANSWER_WITHIN, answer).await.unwrap_or(Ok(Value::Null))
}

/// What a caller does about a request that was rejected or has failed.
fn what_to_do(error: &Value) -> String {
    let then = match text(&error["code"]) {
        "invalid_request" => "mend this program",
        "invalid_recipient" | "landline" => "let the person give another number",
        "rate_limited" | "cooldown" | "blocked" => {
            return format!("wait {} s, then ask again with a new request_id", error["retry_after"]);
        }
        "expired" | "provider_unavailable" => "ask again with a new request_id, if the person still waits",
        "provider_misconfigured" | "internal" => "tell who runs otpost",
        _ => "offer the person another way, and do not repeat it",
    };
    then.to_owned()
}

/// Lets the person type until the code is right, or of no more use.
async fn verify(to: &str) -> Result<bool> {
    loop {
        let Some(code) = typed("Code: ")? else {
            println!("nobody typed a code");
            return Ok(false);
        };
        let verdict = check(to, &code).await?;
        if verdict["verified"] == true {
            println!("verified: {}", text(&verdict["to"]));
            return Ok(true);
        }
        let left = verdict["attempts_remaining"].as_u64().unwrap_or(0);
        let tries = if left > 0 { format!(", {left} tries left") } else { String::new() };
        println!("{}: {}{tries}", text(&verdict["code"]), text(&verdict["detail"]));
        if verdict["status"] == 503 {
            // Nothing was decided: the same code may be typed again.
            tokio::time::sleep(Duration::from_secs(verdict["retry_after"].as_u64().unwrap_or(2))).await;
        } else if left == 0 {
            println!("ask for a new code");
            return Ok(false);
        }
    }
}

/// The verdict on a code: `verified`, or a problem with its `code`.
async fn check(to: &str, code: &str) -> Result<Value> {
    let token = std::env::var("OTPOST_TOKEN").context("OTPOST_TOKEN is not set")?;
    let url = setting("OTPOST_URL", "http://127.0.0.1:8080") + "/api/v1/otp/verify";
    let request = reqwest::Client::new()
        .post(url)
        .timeout(Duration::from_secs(15))
        .bearer_auth(token)
        .header("Content-Type", "application/json")
        .body(json!({"to": to, "otp_code": code}).to_string());
    Ok(serde_json::from_str(&request.send().await?.text().await?)?)
}

/// What the person types; nothing at the end of the input.
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
