//! The cost of the pumping defence in Redis: time and bytes, beside that of a message. Measured on a server of its own, and printed for
//! `docs/defence.md`.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use otpost::clock::Clock;
use otpost::domain::address::Address;
use otpost::domain::channel::Channel;
use otpost::domain::defence::{CountedScopes, DefenceMode};
use otpost::domain::keyed_digest::Digest16;
use otpost::domain::recipient_keyring::RecipientKeyring;
use otpost::domain::shards::Shards;
use otpost::flow::defence::{Defence, DefendedRequest};
use otpost::store::Store as _;
use otpost::store::code_check::{CheckAnswer, CodeCheck};
use otpost::store::redis::RedisStore;

use crate::contract::store::START;
use crate::contract::store::cost::{Server, own_limits, send};
use crate::contract::store::named;
use crate::harness::{RECIPIENT_KEY, region};

/// As many as a million in a day has in a second.
const A_MILLION_A_DAY: u64 = 12;
/// A person needs so long to type the code.
const TYPED_AFTER_SECONDS: u64 = 20;
const MESSAGES: u32 = 3_200;
/// About as many as a busy worker has under way.
const UNDER_WAY: u32 = 32;
/// Of mobile numbers in Colombia.
const PREFIXES: [u64; 20] =
    [300, 301, 302, 303, 304, 305, 310, 311, 312, 313, 314, 315, 316, 317, 318, 319, 320, 321, 322, 323];

fn info(connection: &mut redis::Connection, section: &str, name: &str) -> f64 {
    let info: String = redis::cmd("INFO").arg(section).query(connection).expect("Redis answers");
    let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.expect("it is there").trim().parse().expect("a number")
}

/// User and system time of the server in microseconds.
fn spent(connection: &mut redis::Connection) -> f64 {
    1e6 * (info(connection, "cpu", "used_cpu_user") + info(connection, "cpu", "used_cpu_sys"))
}

fn digest(kind: u8, number: u64) -> Digest16 {
    let mut bytes = [kind; 16];
    bytes[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    Digest16::from_bytes(bytes)
}

/// A worker that sends, and a process that checks, as in most deployments: neither sees the half of the other.
struct Processes {
    sends: Defence,
    checks: Defence,
    store: Arc<RedisStore>,
    keys: RecipientKeyring,
    /// The scopes in which each send counts, as its record has them.
    counted: Vec<CountedScopes>,
    a_second: u64,
}

impl Processes {
    fn new(server: &Server, a_second: u64) -> Processes {
        let store = Arc::new(RedisStore::connect(&server.url, "otpost", Shards::ONE).expect("a URL"));
        let defence = || Defence::new(DefenceMode::Monitor, 100, store.clone(), Clock::System);
        let (sends, checks) = (defence(), defence());
        let keys = RecipientKeyring::new(&RECIPIENT_KEY);
        Processes { sends, checks, store, keys, counted: Vec::new(), a_second }
    }

    /// To one of 60,000 blocks of 20 prefixes, each with a user of its own and one of 20,000 networks.
    fn with_request<T>(&self, nth: u64, act: impl FnOnce(&DefendedRequest<'_>) -> T) -> T {
        let mixed = nth.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
        let block = mixed % 60_000;
        let prefix = PREFIXES[usize::try_from(block % 20).expect("small")];
        let number = (57_000 + prefix) * 10_000_000 + (1_000 + block / 20) * 1_000 + nth % 1_000;
        let to = Address::parse(&format!("+{number}"), region()).expect("a number");
        let (user, network) = (Some(digest(1, nth)), Some(digest(2, mixed % 20_000)));
        let recipient = self.keys.address(Channel::Sms, to.as_str());
        act(&DefendedRequest { to: &to, recipient, user, network })
    }

    /// Seven of ten codes are verified.
    async fn run(&mut self, seconds: std::ops::Range<u64>) {
        for second in seconds {
            let now = START.plus(Duration::from_secs(second));
            self.store.set_time(now);
            for nth in second * self.a_second..(second + 1) * self.a_second {
                let counted = self.with_request(nth, |request| {
                    let counted = self.sends.scopes_with(request, now);
                    self.sends.sent(request, now, counted);
                    counted
                });
                self.counted.push(counted);
            }
            if let Some(sent_at) = second.checked_sub(TYPED_AFTER_SECONDS) {
                let at = START.plus(Duration::from_secs(sent_at));
                for nth in sent_at * self.a_second..(sent_at + 1) * self.a_second {
                    if nth % 10 < 7 {
                        let counted = self.counted[usize::try_from(nth).expect("small")];
                        self.with_request(nth, |request| {
                            self.checks.verified(request, at, counted);
                            self.checks.proven(request);
                        });
                    }
                }
            }
            self.sends.tick().await;
            self.checks.tick().await;
        }
    }
}

/// Admission, completion and the right check: microseconds of Redis for a message and for its check.
async fn cost_of_message(server: &Server) -> [f64; 2] {
    let mut connection = server.connection();
    let store = RedisStore::connect(&server.url, "messages", Shards::ONE).expect("a URL");
    let limits = own_limits();
    let group = async |first: u32| {
        join_all((first..first + UNDER_WAY).map(|number| send(&store, limits.clone(), number))).await
    };
    send(&store, limits.clone(), u32::MAX).await;
    let mut recipients = Vec::new();
    let before = spent(&mut connection);
    for first in (0..MESSAGES).step_by(UNDER_WAY as usize) {
        recipients.extend(group(first).await);
    }
    let sent = spent(&mut connection);
    let check = async |recipient: &Digest16| {
        let digests = [("k1", named(50))];
        let check = CodeCheck {
            recipient: *recipient,
            purpose: "verification",
            check_id: 2,
            digests: &digests,
            limits: &limits,
        };
        let answer = store.verify(&check).await.expect("answers");
        assert!(matches!(answer, CheckAnswer::Verified { .. }), "{answer:?}");
    };
    for group in recipients.chunks(UNDER_WAY as usize) {
        join_all(group.iter().map(check)).await;
    }
    let checked = spent(&mut connection);
    [sent - before, checked - sent].map(|spent| spent / f64::from(MESSAGES))
}

/// Microseconds of Redis for a code, after so many seconds of the same codes.
async fn cost_of_defence(server: &Server, a_second: u64, warm_up: u64, seconds: u64) -> f64 {
    let mut connection = server.connection();
    let () = redis::cmd("FLUSHALL").query(&mut connection).expect("Redis answers");
    let mut processes = Processes::new(server, a_second);
    processes.run(0..warm_up).await;
    let (before, memory) = (spent(&mut connection), info(&mut connection, "memory", "used_memory"));
    processes.run(warm_up..warm_up + seconds).await;
    let sends = (a_second * seconds) as f64;
    let micros = (spent(&mut connection) - before) / sends;
    let bytes = (info(&mut connection, "memory", "used_memory") - memory) / sends;
    let counted = processes.counted.iter().filter(|counted| **counted != CountedScopes::NONE).count();
    let share = 100 * counted / processes.counted.len();
    println!(
        "{a_second} a second: {micros:.1} µs of Redis a code, {bytes:.0} bytes; {share} % have a scope of their own"
    );
    micros
}

async fn compare(loads: &[(u64, u64, u64)]) {
    let Some(server) = Server::start() else { return };
    let [message, check] = cost_of_message(&server).await;
    println!("DEFENCE=off: a message {message:.1} µs of Redis, its check {check:.1}");
    for (a_second, warm_up, seconds) in loads {
        let defence = cost_of_defence(&server, *a_second, *warm_up, *seconds).await;
        let ratio = 1.0 + defence / (message + 0.7 * check);
        println!(
            "{a_second} a second: DEFENCE=monitor is {:.2} of off; {ratio:.2} with checks",
            1.0 + defence / message
        );
        assert!(defence < message / 2.0, "{defence} of {message}");
    }
}

#[tokio::test]
async fn the_defence_costs_redis_less_than_half_of_a_message() {
    compare(&[(A_MILLION_A_DAY, 120, 600), (100, 60, 60)]).await;
}

/// For `docs/defence.md`.
#[tokio::test]
#[ignore = "it takes minutes"]
async fn the_cost_after_a_day_of_a_million_codes() {
    compare(&[(A_MILLION_A_DAY, 86_400, 3_600), (100, 7_200, 600), (1_000, 600, 120)]).await;
}
