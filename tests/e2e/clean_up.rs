//! Deletes the queues, exchanges and keys of one prefix from RabbitMQ and Redis: `clean_up PREFIX`.

use anyhow::{Context as _, Result, ensure};
use lapin::options::{ExchangeDeleteOptions, QueueDeleteOptions};
use lapin::{Connection, ConnectionProperties};

#[tokio::main]
async fn main() -> Result<()> {
    let prefix = std::env::args().nth(1).context("usage: clean_up PREFIX")?;
    ensure!(prefix.starts_with("e2e-"), "only prefixes of tests are deleted");

    let broker = Connection::connect(&std::env::var("AMQP_URL")?, ConnectionProperties::default()).await?;
    let channel = broker.create_channel().await?;
    for queue in ["send-sms", "send-sms-delayed", "send-email", "dead-letters", "audit"] {
        channel.queue_delete(format!("{prefix}.{queue}").into(), QueueDeleteOptions::default()).await?;
    }
    for exchange in ["requests", "results", "dead"] {
        channel
            .exchange_delete(format!("{prefix}.{exchange}").into(), ExchangeDeleteOptions::default())
            .await?;
    }
    broker.close(200, "done".into()).await?;

    let mut store = redis::Client::open(std::env::var("REDIS_URL")?)?.get_connection()?;
    let pattern = format!("{{{prefix}}}:*");
    let mut scan = redis::cmd("SCAN");
    scan.cursor_arg(0).arg("MATCH").arg(pattern);
    let keys: Vec<Vec<u8>> = scan.iter(&mut store)?.collect::<Result<_, _>>()?;
    if !keys.is_empty() {
        redis::cmd("UNLINK").arg(&keys).exec(&mut store)?;
    }
    Ok(())
}
