//! The cost of the pumping defence in Redis: time and bytes. Measured on a server of its own, and printed for `docs/defence.md`.

use std::sync::Arc;
use std::time::Duration;

use otpost::clock::Clock;
use otpost::domain::address::Address;
use otpost::domain::channel::Channel;
use otpost::domain::defence::DefenceMode;
use otpost::domain::keyed_digest::Digest16;
use otpost::domain::recipient_keyring::RecipientKeyring;
use otpost::domain::shards::Shards;
use otpost::flow::defence::{Defence, DefendedRequest};
use otpost::store::redis::RedisStore;

use crate::contract::store::START;
use crate::contract::store::cost::Server;
use crate::harness::{RECIPIENT_KEY, region};

/// As many as a million in a day has in a second.
const SENDS_A_SECOND: u64 = 12;
const SECONDS: u64 = 300;
/// Of mobile numbers in Colombia.
const PREFIXES: [u64; 20] =
    [300, 301, 302, 303, 304, 305, 310, 311, 312, 313, 314, 315, 316, 317, 318, 319, 320, 321, 322, 323];

/// Microseconds that Redis spent in calls of steps, and their number.
fn spent(connection: &mut redis::Connection) -> (u64, u64) {
    let info: String = redis::cmd("INFO").arg("commandstats").query(connection).expect("Redis answers");
    let line = info.lines().find(|line| line.starts_with("cmdstat_fcall:")).expect("steps have run");
    let value = |name: &str| {
        let (_, rest) = line.split_once(name).expect("a number");
        rest.split(',').next().and_then(|number| number.parse().ok()).expect("a number")
    };
    (value("usec="), value("calls="))
}

fn used_memory(connection: &mut redis::Connection) -> u64 {
    let info: String = redis::cmd("INFO").arg("memory").query(connection).expect("Redis answers");
    let line = info.lines().find_map(|line| line.strip_prefix("used_memory:")).expect("it is there");
    line.trim().parse().expect("a number")
}

fn digest(kind: u8, number: u64) -> Digest16 {
    let mut bytes = [kind; 16];
    bytes[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    Digest16::from_bytes(bytes)
}

/// Sends to 60,000 blocks of 20 prefixes, each with a user and one of 20,000 networks; seven of ten are verified.
async fn count(defence: &Defence, store: &RedisStore, a_second: u64, seconds: u64) {
    let keys = RecipientKeyring::new(&RECIPIENT_KEY);
    for nth in 0..a_second * seconds {
        let now = START.plus(Duration::from_millis(1_000 * nth / a_second));
        let block = nth.wrapping_mul(0x9e37_79b9) % 60_000;
        let prefix = PREFIXES[usize::try_from(block % 20).expect("small")];
        let number = (57_000 + prefix) * 10_000_000 + (1_000 + block / 20) * 1_000 + nth % 1_000;
        let to = Address::parse(&format!("+{number}"), region()).expect("a number");
        let (user, network) = (Some(digest(1, nth)), Some(digest(2, nth % 20_000)));
        let recipient = keys.address(Channel::Sms, to.as_str());
        let request = DefendedRequest { to: &to, recipient, user, network };
        defence.sent(&request, now);
        if nth % 10 < 7 {
            defence.verified(&request, now, true);
        }
        if nth % a_second == a_second - 1 {
            store.set_time(now);
            while !defence.flush().await {}
        }
    }
}

#[tokio::test]
async fn a_message_costs_little_time_and_memory() {
    let Some(server) = Server::start() else { return };
    let mut connection = server.connection();
    for (kind, a_second) in [("a million a day", SENDS_A_SECOND), ("100 a second", 100)] {
        let () = redis::cmd("FLUSHALL").query(&mut connection).expect("Redis answers");
        let store = Arc::new(RedisStore::connect(&server.url, "otpost", Shards::ONE).expect("a URL"));
        let defence = Defence::new(DefenceMode::Enforce, 100, store.clone(), Clock::System);
        // Loads the library.
        store.set_time(START);
        while !defence.flush().await {}
        let (before, memory) = (spent(&mut connection), used_memory(&mut connection));
        count(&defence, &store, a_second, SECONDS).await;
        let (after, sends) = (spent(&mut connection), a_second * SECONDS);
        let micros = (after.0 - before.0) as f64 / sends as f64;
        let bytes = (used_memory(&mut connection) - memory) as f64 / sends as f64;
        println!("{kind}: {micros:.1} µs of Redis a message, {bytes:.0} bytes, {} calls", after.1 - before.1);
        assert!(micros < 150.0, "{micros}");
    }
}
