//! The cost of a message in Redis: commands, keys and bytes. Measured on a server of its own, where nothing else runs.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use otpost::domain::history::{Attempt, HistoryEvent};
use otpost::domain::keyed_digest::Digest16;
use otpost::domain::limit::{Limit, Limits};
use otpost::domain::shards::Shards;
use otpost::store::code_check::{CheckAnswer, CodeCheck};
use otpost::store::redis::RedisStore;
use otpost::store::{CompletionAnswer, CompletionInput, Store as _};

use super::{Refund, completion, granted, named, request_to, sent};
use crate::real;

/// The most that a message may cost.
struct Bars {
    limits: fn() -> Limits,
    /// Without the two calls of steps.
    commands: u64,
    new_keys: u64,
    bytes: u64,
}

/// On the limits of its recipient alone: the values of the recipient and of the request.
const METER: Bars = Bars { limits: own_limits, commands: 8, new_keys: 2, bytes: 700 };
/// On every limit. Beside them the logs of a user and a client IP; a network has several clients, and all share one list. The
/// commands more: EXISTS and SET for three logs, and four for the list.
const FULL: Bars = Bars { limits: all_limits, commands: 15, new_keys: 4, bytes: 1_000 };

/// The time; the recipient's value, read and written.
const WRONG_CHECK_COMMANDS: u64 = 3;
/// And the record of each request that the recipient had within a day.
const RIGHT_CHECK_COMMANDS: u64 = 4;
/// Keys and arguments of each call.
const ARGUMENTS_MAX: usize = 16;
const CLIENTS_OF_NETWORK: u32 = 64;
const MESSAGES: u32 = 2_000;

/// A server without persistence; killed when dropped.
pub struct Server {
    process: Child,
    pub url: String,
}

impl Server {
    /// `None` if the program is not there.
    pub fn start() -> Option<Server> {
        real::install_crypto();
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let port = listener.local_addr().expect("it is bound").port().to_string();
        drop(listener);
        let mut process = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--port", &port, "--save", "", "--appendonly", "no"])
            .args(["--slowlog-log-slower-than", "0"])
            .current_dir(std::env::temp_dir())
            .stdout(Stdio::piped())
            .spawn()
            .ok()?;
        let log = BufReader::new(process.stdout.take().expect("it is piped"));
        let server = Server { process, url: format!("redis://127.0.0.1:{port}") };
        let is_ready =
            log.lines().map_while(Result::ok).any(|line| line.contains("eady to accept connections"));
        assert!(is_ready, "the server ended");
        Some(server)
    }

    pub fn connection(&self) -> redis::Connection {
        redis::Client::open(&*self.url).expect("a URL").get_connection().expect("Redis answers")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn info(connection: &mut redis::Connection, section: &str) -> String {
    redis::cmd("INFO").arg(section).query(connection).expect("Redis answers")
}

/// The commands that steps have run, and the calls of steps.
fn commands(connection: &mut redis::Connection) -> (u64, u64) {
    let stats = info(connection, "commandstats");
    let counts = |line: &str| {
        let (name, counts) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
        Some((name.to_owned(), counts.split(',').next()?.parse::<u64>().ok()?))
    };
    let counts: Vec<(String, u64)> = stats.lines().filter_map(counts).collect();
    let of_tests = ["function|load", "client|setinfo", "info", "keys", "hello", "slowlog|get"];
    let sum = |is_meant: &dyn Fn(&str) -> bool| {
        counts.iter().filter(|(name, _)| is_meant(name)).map(|(_, count)| count).sum()
    };
    (sum(&|name| name != "fcall" && !of_tests.contains(&name)), sum(&|name| name == "fcall"))
}

/// Of the value under the first key that begins so.
fn memory_usage(connection: &mut redis::Connection, start: &[u8]) -> u64 {
    let all: Vec<Vec<u8>> = redis::cmd("KEYS").arg("*").query(connection).expect("Redis answers");
    let key = all.into_iter().find(|key| key.starts_with(start)).expect("there is one");
    redis::cmd("MEMORY").arg("USAGE").arg(key).query(connection).expect("Redis answers")
}

/// The keys, without those of the minutes in which receipts are due.
fn keys(connection: &mut redis::Connection) -> u64 {
    let keys: Vec<Vec<u8>> = redis::cmd("KEYS").arg("*").query(connection).expect("Redis answers");
    let is_counted = |key: &&Vec<u8>| !key.starts_with(b"{otpost}:r");
    u64::try_from(keys.iter().filter(is_counted).count()).expect("a small number")
}

fn used_memory(connection: &mut redis::Connection) -> u64 {
    let memory = info(connection, "memory");
    let used = memory.lines().find_map(|line| line.strip_prefix("used_memory:"));
    used.expect("Redis says it").trim().parse().expect("a number")
}

pub fn own_limits() -> Limits {
    [Limit::User, Limit::Ip, Limit::Network, Limit::All]
        .into_iter()
        .fold(Limits::default(), |limits, limit| limits.with(limit, 0))
}

fn all_limits() -> Limits {
    Limits::default()
}

/// The digest of a subject: another one for each kind and number.
fn digest(kind: u8, number: u32) -> Digest16 {
    let mut bytes = [kind; 16];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    Digest16::from_bytes(bytes)
}

/// A request sent at the first attempt, with a receipt due.
pub async fn send(store: &RedisStore, limits: Limits, number: u32) -> Digest16 {
    let id = format!("{number:08x}-7dec-41d0-a765-00a0c91e6bf6");
    let mut request = request_to(0, &id);
    request.limits = limits;
    request.history.to = "+57******4567".to_owned();
    request.history.correlation_id = Some(id);
    let mut input = request.admit();
    let subject = &mut input.lease.subject;
    subject.recipient = digest(7, number);
    subject.user = Some(digest(8, number));
    subject.ip = Some(digest(9, number));
    subject.network = Some(digest(10, number / CLIENTS_OF_NETWORK));
    let grant = granted(store.admit(&input).await.expect("answers"));
    let mut outcome = sent(grant.now);
    outcome.provider = Some("twilio".to_owned());
    outcome.provider_message_id = Some(format!("SM{number:032x}"));
    outcome.segments = Some(1);
    outcome.expires_at = Some(grant.expires_at);
    outcome.resend_after = Some(30);
    outcome.history = request.history.clone();
    outcome.history.challenge = Some(grant.challenge.as_str().to_owned());
    outcome.history.add(grant.now, HistoryEvent::Admitted(1));
    let answer = Attempt::accepted(1, None, 240);
    outcome.history.add(grant.now, HistoryEvent::Attempted(answer));
    let end = CompletionInput {
        poll_receipt_after: Some(Duration::from_secs(600)),
        ..completion(input.lease, &outcome, Refund::None)
    };
    assert_eq!(store.complete(&end).await.expect("answers"), CompletionAnswer::Recorded);
    end.lease.subject.recipient
}

#[tokio::test]
async fn a_message_stays_within_its_bars() {
    keeps_within(METER).await;
}

#[tokio::test]
async fn a_message_on_every_limit_stays_within_its_bars() {
    keeps_within(FULL).await;
}

async fn keeps_within(bars: Bars) {
    let Some(server) = Server::start() else {
        eprintln!("not measured: redis-server is not installed");
        return;
    };
    let mut connection = server.connection();
    let store = RedisStore::connect(&server.url, "otpost", Shards::ONE).expect("a URL");
    let limits = (bars.limits)();
    // Loads the library, and begins the lists of receipts, the log of the first network and that of all sends.
    send(&store, limits, 0).await;
    let (mut fewest, keys_before) = (u64::MAX, keys(&mut connection));
    // A minute may begin between two messages, but not between each two.
    for number in 1..4 {
        let (before, _) = commands(&mut connection);
        send(&store, limits, number).await;
        fewest = fewest.min(commands(&mut connection).0 - before);
    }
    assert!((1..=bars.commands).contains(&fewest), "{fewest} commands");
    let new_keys = keys(&mut connection) - keys_before;
    assert_eq!(new_keys, 3 * bars.new_keys);
    let most = most_arguments(&mut connection);
    assert!((1..=ARGUMENTS_MAX).contains(&most), "{most} keys and arguments");
    let before = used_memory(&mut connection);
    for number in 4..4 + MESSAGES {
        send(&store, limits, number).await;
    }
    let both = [b"{otpost}:s".as_slice(), b"{otpost}:qu"].map(|kind| memory_usage(&mut connection, kind));
    let bytes = (used_memory(&mut connection) - before) / u64::from(MESSAGES);
    println!("{fewest} commands, {bytes} bytes; values of recipient and request: {both:?}");
    assert!((100..=bars.bytes).contains(&bytes), "{bytes} bytes");
    assert!(both.iter().sum::<u64>() < bars.bytes, "{both:?}");
}

/// The most keys and arguments of the steps so far, by the slow log.
fn most_arguments(connection: &mut redis::Connection) -> usize {
    let log: Vec<redis::Value> =
        redis::cmd("SLOWLOG").arg("GET").arg(64).query(connection).expect("Redis answers");
    let words = |entry: &redis::Value| -> Vec<Vec<u8>> {
        let fields: Vec<redis::Value> = redis::from_redis_value(entry.clone()).expect("an entry is a list");
        redis::from_redis_value(fields[3].clone()).expect("the words of the command")
    };
    let calls = log.iter().map(words).filter(|words| words[0] == b"FCALL");
    // Before the keys stand the command, the function and the number of keys.
    calls.map(|words| words.len() - 3).max().expect("each call is logged")
}

#[tokio::test]
async fn a_check_is_one_call_of_a_step_and_stays_within_its_bars() {
    let Some(server) = Server::start() else {
        eprintln!("not measured: redis-server is not installed");
        return;
    };
    let mut connection = server.connection();
    let store = RedisStore::connect(&server.url, "otpost", Shards::ONE).expect("a URL");
    let limits = own_limits();
    let recipient = send(&store, limits, 0).await;
    let right = named(50);
    for (check_id, typed, commands_max) in
        [(1, named(0), WRONG_CHECK_COMMANDS), (2, right, RIGHT_CHECK_COMMANDS)]
    {
        let check = CodeCheck {
            recipient,
            purpose: "verification",
            check_id,
            digests: &[("k1", typed)],
            limits: &limits,
        };
        let (commands_before, calls_before) = commands(&mut connection);
        let answer = store.verify(&check).await.expect("answers");
        let has_request = matches!(answer, CheckAnswer::Verified { request: Some(_), .. });
        assert_eq!(has_request, typed == right, "{answer:?}");
        let (commands, calls) = commands(&mut connection);
        assert_eq!((commands - commands_before, calls - calls_before), (commands_max, 1));
    }
}
