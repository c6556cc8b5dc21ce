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
use otpost::domain::limit::Limits;
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
/// Half of a message.
const RATIO_MAX: f64 = 1.5;
/// A person needs so long to type the code.
const TYPED_AFTER_SECONDS: u64 = 20;
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
            while !self.sends.tick().await {}
            while !self.checks.tick().await {}
        }
    }
}

/// The messages of a second, and the checks of an earlier one, as a worker and an HTTP process call the store.
struct Messages {
    store: RedisStore,
    limits: Limits,
    a_second: u32,
    recipients: Vec<Digest16>,
    checked: usize,
}

impl Messages {
    async fn second(&mut self) {
        let first = u32::try_from(self.recipients.len()).expect("a small number");
        let sends = (first..first + self.a_second).map(|number| send(&self.store, self.limits, number));
        self.recipients.extend(join_all(sends).await);
        // Seven of ten.
        let due = self.recipients.len() * 7 / 10;
        let checks = self.recipients[self.checked..due].iter().map(async |recipient| {
            let digests = [("k1", named(50))];
            let limits = &self.limits;
            let check = CodeCheck {
                recipient: *recipient,
                purpose: "verification",
                check_id: 2,
                digests: &digests,
                limits,
            };
            let answer = self.store.verify(&check).await.expect("answers");
            assert!(matches!(answer, CheckAnswer::Verified { .. }), "{answer:?}");
        });
        join_all(checks).await;
        self.checked = due;
    }
}

/// Microseconds of Redis for a message with its check, after so many seconds of the same codes.
async fn cost(server: &Server, mode: DefenceMode, load: &Load) -> f64 {
    let mut connection = server.connection();
    let () = redis::cmd("FLUSHALL").query(&mut connection).expect("Redis answers");
    let mut processes = Processes::new(server, load.a_second);
    if mode != DefenceMode::Off {
        processes.run(0..load.warm_up).await;
    }
    let store = RedisStore::connect(&server.url, "messages", Shards::ONE).expect("a URL");
    let a_second = u32::try_from(load.a_second).expect("a small number");
    let mut messages = Messages { store, limits: own_limits(), a_second, recipients: Vec::new(), checked: 0 };
    messages.second().await;
    let (before, memory) = (spent(&mut connection), info(&mut connection, "memory", "used_memory"));
    for second in load.warm_up..load.warm_up + load.seconds {
        messages.second().await;
        if mode != DefenceMode::Off {
            processes.run(second..second + 1).await;
        }
    }
    let sends = (load.a_second * load.seconds) as f64;
    let micros = (spent(&mut connection) - before) / sends;
    let bytes = (info(&mut connection, "memory", "used_memory") - memory) / sends;
    let counted = processes.counted.iter().filter(|counted| **counted != CountedScopes::NONE).count();
    let share = 100 * counted / processes.counted.len().max(1);
    println!(
        "{} a second, {}: {micros:.1} µs of Redis a message, {bytes:.0} bytes; {share} % have a scope of their own",
        load.a_second,
        mode.as_str()
    );
    micros
}

struct Load {
    a_second: u64,
    /// Seconds of the defence alone.
    warm_up: u64,
    seconds: u64,
}

/// The messages with the defence and without, in turn. Returns the least ratio of each load: other work of the machine makes it larger.
async fn ratios(loads: &[Load], rounds: usize) -> Vec<f64> {
    let Some(server) = Server::start() else { return Vec::new() };
    let mut ratios = vec![f64::INFINITY; loads.len()];
    for (load, least) in loads.iter().zip(&mut ratios) {
        for _ in 0..rounds {
            let off = cost(&server, DefenceMode::Off, load).await;
            let monitor = cost(&server, DefenceMode::Monitor, load).await;
            let ratio = monitor / off;
            println!("{} a second: off {off:.1} µs, monitor {monitor:.1}: {ratio:.2}", load.a_second);
            *least = least.min(ratio);
            if *least < RATIO_MAX {
                break;
            }
        }
    }
    ratios
}

#[tokio::test]
async fn the_defence_costs_redis_less_than_half_of_a_message() {
    let load = Load { a_second: A_MILLION_A_DAY, warm_up: 60, seconds: 200 };
    let ratios = ratios(&[load], 3).await;
    assert!(ratios.iter().all(|ratio| *ratio < RATIO_MAX), "{ratios:?}");
}

/// For `docs/defence.md`.
#[tokio::test]
#[ignore = "it takes minutes"]
async fn the_cost_after_hours_of_a_million_codes_a_day() {
    let loads = [
        Load { a_second: A_MILLION_A_DAY, warm_up: 4 * 3_600, seconds: 600 },
        Load { a_second: 100, warm_up: 1_800, seconds: 120 },
    ];
    let ratios = ratios(&loads, 2).await;
    assert!(ratios.iter().all(|ratio| *ratio < RATIO_MAX), "{ratios:?}");
}
