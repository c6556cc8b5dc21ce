//! A Twilio in memory, in a process of its own, as cheap as it can be: it shares the machine with what is
//! measured.
//!
//! It keeps connections alive and answers each message with 201, a realistic body and a `sid` of its own. It
//! starts with its gate shut: messages are held unanswered until `/open` is asked for, which gives a run its
//! exact beginning (see `run.rs`). Not a model of Twilio's failures: that is the business of the tests.

use std::io::Read;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

#[derive(clap::Args)]
pub struct Settings {
    /// 0 takes a free one; the port in use is the first line of the output.
    port: u16,
    #[arg(long, default_value_t = 0)]
    latency_ms: u64,
}

struct Twilio {
    latency: Duration,
    posts: AtomicU64,
    held: AtomicU64,
    gate: watch::Sender<bool>,
}

pub async fn serve(settings: &Settings) -> anyhow::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, settings.port)).await?;
    println!("{}", listener.local_addr()?.port());
    end_with_parent();
    let twilio = Arc::new(Twilio {
        latency: Duration::from_millis(settings.latency_ms),
        posts: AtomicU64::new(0),
        held: AtomicU64::new(0),
        gate: watch::Sender::new(false),
    });
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let twilio = Arc::clone(&twilio);
        tokio::spawn(async move {
            // A client that hangs up in the middle is its own business.
            let _ = twilio.converse(stream).await;
        });
    }
}

/// The parent holds the other end of our standard input: it closes however the parent ends.
fn end_with_parent() {
    std::thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
}

impl Twilio {
    async fn converse(&self, mut stream: TcpStream) -> anyhow::Result<()> {
        let mut buffer = Vec::with_capacity(4096);
        loop {
            let (head, length) = loop {
                if let Some(end) = find(&buffer, b"\r\n\r\n") {
                    let head = std::str::from_utf8(&buffer[..end]).context("a head that is not text")?;
                    break (end + 4, content_length(head)?);
                }
                if stream.read_buf(&mut buffer).await? == 0 {
                    return Ok(());
                }
            };
            while buffer.len() < head + length {
                if stream.read_buf(&mut buffer).await? == 0 {
                    return Ok(());
                }
            }
            let (status, body) = self.answer(&buffer[..head], &buffer[head..head + length]).await;
            buffer.drain(..head + length);
            let answer = format!(
                "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(answer.as_bytes()).await?;
        }
    }

    async fn answer(&self, head: &[u8], form: &[u8]) -> (&'static str, String) {
        if head.starts_with(b"POST /2010-04-01/Accounts/") {
            self.held.fetch_add(1, Ordering::Relaxed);
            // The sender is a field of ours: the wait cannot fail.
            let _ = self.gate.subscribe().wait_for(|open| *open).await;
            self.held.fetch_sub(1, Ordering::Relaxed);
            if !self.latency.is_zero() {
                tokio::time::sleep(self.latency).await;
            }
            return ("201 Created", message(self.posts.fetch_add(1, Ordering::Relaxed), form));
        }
        if head.starts_with(b"GET /2010-04-01/Accounts/") {
            // The worker tests its credentials at start.
            return ("200 OK", r#"{"status":"active","type":"Full","friendly_name":"bench"}"#.to_owned());
        }
        if head.starts_with(b"POST /open ") {
            self.gate.send_replace(true);
        }
        let posts = self.posts.load(Ordering::Relaxed);
        ("200 OK", format!(r#"{{"held":{},"posts":{posts}}}"#, self.held.load(Ordering::Relaxed)))
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

fn content_length(head: &str) -> anyhow::Result<usize> {
    let value = head.lines().filter_map(|line| line.split_once(':'));
    let value =
        value.filter(|(name, _)| name.eq_ignore_ascii_case("content-length")).map(|(_, value)| value).next();
    value.map_or(Ok(0), |value| value.trim().parse().context("Content-Length is not a number"))
}

/// The reply to a created message, with the fields of Twilio's own.
fn message(number: u64, form: &[u8]) -> String {
    let field = |name: &str| {
        let found = form_urlencoded::parse(form).find(|(key, _)| key == name);
        found.map(|(_, value)| value.into_owned())
    };
    let sid = format!("SM{:032x}", 0x5eed_0000_0000_0000_u128 + u128::from(number));
    serde_json::json!({
        "account_sid": "AC00000000000000000000000000000000",
        "api_version": "2010-04-01",
        "body": field("Body"),
        "date_created": "Sun, 22 Nov 2026 12:00:00 +0000",
        "date_sent": null,
        "date_updated": "Sun, 22 Nov 2026 12:00:00 +0000",
        "direction": "outbound-api",
        "error_code": null,
        "error_message": null,
        "from": field("From"),
        "messaging_service_sid": null,
        "num_media": "0",
        "num_segments": "1",
        "price": null,
        "price_unit": null,
        "sid": sid,
        "status": "queued",
        "subresource_uris": {"media": format!("/2010-04-01/Accounts/AC0/Messages/{sid}/Media.json")},
        "to": field("To"),
        "uri": format!("/2010-04-01/Accounts/AC0/Messages/{sid}.json"),
    })
    .to_string()
}
