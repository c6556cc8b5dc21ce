//! A Redis Cluster: the node of a slot, and the redirections that follow its moves.
//!
//! - All keys of a step are in one slot, so a step goes to one primary. Each node has one connection, made at its first use.
//! - A step that a node refused, as it does not serve the slot, has not run: it follows a redirection, or waits for the slot, for a part of
//!   its time. A step whose answer was lost is not repeated here.
//! - While a slot moves, its keys are at two nodes. A step that needs keys of both, or makes new ones, is refused until the move is over.
//!   `ASK` is not followed: it would lead to a node that lacks the keys which the step finds by name, and would make them there anew.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::StreamExt as _;
use futures_util::future::{BoxFuture, Shared};
use futures_util::stream::FuturesUnordered;
use redis::{Arg, Cmd, RedisError, RedisResult, Value};
use tokio::time::{Instant, sleep, timeout};

use super::address::{Access, Address};
use super::node::{Failed, NoServer, Node, timed_out};

/// A step that was refused is not repeated later than this, so that the cause reaches the caller in time.
const REPEATED_FOR: Duration = Duration::from_millis(1_100);
/// A slot needs some time to move. Half of it is random.
const PAUSE: Duration = Duration::from_millis(40);
/// More redirections in a row mean that the nodes do not agree.
const REDIRECTIONS_MAX: u32 = 4;
/// One node after the other is asked for the slots, at this interval, until one answers.
const ASKED_EVERY: Duration = Duration::from_millis(60);
const ASKED_MAX: usize = 8;
const SLOTS_TIMEOUT: Duration = Duration::from_millis(500);
/// Between two searches for the slots.
const SEARCH_INTERVAL_MIN: Duration = Duration::from_millis(100);

type Search = Shared<BoxFuture<'static, RedisResult<()>>>;

#[derive(Clone)]
pub(super) struct Cluster(Arc<Shape>);

struct Shape {
    seeds: Vec<Address>,
    access: Access,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    nodes: HashMap<Address, Arc<Node>>,
    /// First slot, last slot, and their primary; in the order of slots.
    ranges: Vec<(u16, u16, Address)>,
    /// Newer than the ranges: redirections since they were read.
    moved: HashMap<u16, Address>,
    /// Counts the changes of `ranges` and `moved`.
    changes: u64,
    search: Option<Search>,
    searched: Option<Instant>,
    /// Of the last search.
    last_failure: Option<RedisError>,
}

/// The next thing to do after a refusal.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Follow(Address),
    /// Repeat the step, once the slots have been read anew.
    Wait,
    GiveUp,
}

impl Cluster {
    pub(super) fn new(seeds: Vec<Address>, access: Access) -> Cluster {
        Cluster(Arc::new(Shape { seeds, access, state: Mutex::default() }))
    }

    /// Sends a command to the primary of its key. Also returns the node that answered last.
    pub(super) async fn send(&self, command: &Cmd) -> (RedisResult<Value>, Option<Arc<Node>>) {
        let (slot, until) = (slot_of(key_of(command)), Instant::now() + REPEATED_FOR);
        let (mut redirections, mut last) = (0, None);
        loop {
            let failed = match self.primary(slot).await {
                Ok(node) => {
                    last = Some(Arc::clone(&node));
                    match node.send(command).await {
                        Ok(answer) => return (Ok(answer), last),
                        Err(failed) => failed,
                    }
                }
                Err(error) => Failed { error, is_sent: false },
            };
            match next(&failed, last.as_ref().map(|node| &node.address)) {
                _ if Instant::now() >= until => return (Err(given_up(failed.error)), last),
                Next::Follow(address) if redirections < REDIRECTIONS_MAX => {
                    redirections += 1;
                    self.state().redirect(slot, address);
                    self.search_soon();
                }
                Next::Follow(_) | Next::Wait => {
                    redirections = 0;
                    sleep(PAUSE.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
                    // The next look at the slots tells its error itself.
                    let _ = self.search().await;
                }
                Next::GiveUp => {
                    self.search_soon();
                    return (Err(failed.error), last);
                }
            }
        }
    }

    /// The primary of a slot. If it is down, another may have taken its place.
    async fn primary(&self, slot: u16) -> RedisResult<Arc<Node>> {
        match self.known_primary(slot) {
            Some(node) if !node.is_down() => return Ok(node),
            Some(_) => drop(self.search().await),
            None => self.search().await?,
        }
        self.known_primary(slot).ok_or(NoServer::SlotUnserved.into())
    }

    fn known_primary(&self, slot: u16) -> Option<Arc<Node>> {
        let mut state = self.state();
        let address = state.primary(slot)?.clone();
        Some(self.node(&mut state, address))
    }

    fn node(&self, state: &mut State, address: Address) -> Arc<Node> {
        let node = |address: &Address| Node::at(address.clone(), &self.0.access);
        Arc::clone(state.nodes.entry(address).or_insert_with_key(node))
    }

    /// Of the search for the slots, or of the last attempt to reach a node.
    pub(super) fn last_failure(&self) -> Option<RedisError> {
        let state = self.state();
        state.last_failure.clone().or_else(|| state.nodes.values().find_map(|node| node.last_failure()))
    }

    pub(super) fn search_failure(&self) -> Option<RedisError> {
        self.state().last_failure.clone()
    }

    /// See `Link::route_number`.
    pub(super) fn route_number(&self) -> u64 {
        let state = self.state();
        let connections: u64 = state.nodes.values().map(|node| node.number()).sum();
        state.changes << 32 | connections
    }

    fn search_soon(&self) {
        tokio::spawn(self.search());
    }

    /// Reads the slots from a node. One search at a time: a step that comes meanwhile shares it.
    fn search(&self) -> Search {
        let mut state = self.state();
        if let Some(search) = &state.search {
            return search.clone();
        }
        let since_last = state.searched.map_or(SEARCH_INTERVAL_MIN, |searched| searched.elapsed());
        let cluster = self.clone();
        let search = async move {
            sleep(SEARCH_INTERVAL_MIN.saturating_sub(since_last)).await;
            let found = cluster.found().await;
            let mut state = cluster.state();
            (state.search, state.searched) = (None, Some(Instant::now()));
            state.last_failure = found.as_ref().err().cloned();
            found.map(|ranges| state.set_ranges(ranges, &cluster.0.seeds))
        };
        let search = search.boxed().shared();
        state.search = Some(search.clone());
        // It goes on when the step that needed it has given up.
        tokio::spawn(search.clone());
        search
    }

    /// The slots as the first node tells that answers.
    async fn found(&self) -> RedisResult<Vec<(u16, u16, Address)>> {
        let nodes = self.asked();
        let ask = |(place, node): (usize, Arc<Node>)| async move {
            sleep(ASKED_EVERY.saturating_mul(u32::try_from(place).unwrap_or(u32::MAX))).await;
            timeout(SLOTS_TIMEOUT, slots(&node)).await.unwrap_or_else(|_| Err(timed_out()))
        };
        let mut answers: FuturesUnordered<_> = nodes.into_iter().enumerate().map(ask).collect();
        let mut error: Option<RedisError> = None;
        while let Some(answer) = answers.next().await {
            match answer {
                Ok(ranges) if !ranges.is_empty() => return Ok(ranges),
                Ok(_) => {}
                // A refusal says more than a node that is away.
                Err(problem) if problem.code().is_some() => error = Some(problem),
                Err(problem) => error = error.or(Some(problem)),
            }
        }
        Err(error.unwrap_or_else(|| NoServer::SlotUnserved.into()))
    }

    /// Some of the nodes, those that are down last.
    fn asked(&self) -> Vec<Arc<Node>> {
        let mut state = self.state();
        let known = state.ranges.iter().map(|(_, _, address)| address).chain(&self.0.seeds);
        let mut addresses: Vec<Address> = known.cloned().collect();
        addresses.sort_unstable();
        addresses.dedup();
        fastrand::shuffle(&mut addresses);
        let mut nodes: Vec<_> = addresses.into_iter().map(|address| self.node(&mut state, address)).collect();
        drop(state);
        nodes.sort_by_key(|node| node.is_down());
        nodes.truncate(ASKED_MAX);
        nodes
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().expect("nothing panics while it holds the lock")
    }
}

impl State {
    fn primary(&self, slot: u16) -> Option<&Address> {
        let in_ranges = || {
            let at = self.ranges.partition_point(|(_, last, _)| *last < slot);
            self.ranges.get(at).filter(|(first, ..)| *first <= slot).map(|(_, _, address)| address)
        };
        self.moved.get(&slot).or_else(in_ranges)
    }

    fn redirect(&mut self, slot: u16, address: Address) {
        self.changes += 1;
        self.moved.insert(slot, address);
    }

    /// Takes over new ranges, and closes the connections to nodes that have left.
    fn set_ranges(&mut self, mut ranges: Vec<(u16, u16, Address)>, seeds: &[Address]) {
        ranges.sort_unstable();
        self.changes += u64::from(ranges != self.ranges);
        self.ranges = ranges;
        self.moved.clear();
        let is_primary = |address: &Address| self.ranges.iter().any(|(_, _, primary)| primary == address);
        self.nodes.retain(|address, _| is_primary(address) || seeds.contains(address));
    }
}

fn next(failed: &Failed, asked: Option<&Address>) -> Next {
    match failed.error.code() {
        Some("MOVED") => match failed.error.redirect_node() {
            Some((place, _)) => moved_to(place, asked).map_or(Next::Wait, Next::Follow),
            None => Next::Wait,
        },
        Some("ASK" | "TRYAGAIN" | "CLUSTERDOWN" | "READONLY" | "MASTERDOWN" | "LOADING") => Next::Wait,
        // The login, or the step itself.
        Some(_) => Next::GiveUp,
        None if failed.is_sent => Next::GiveUp,
        None => Next::Wait,
    }
}

/// The error of a step that was refused until its time was over.
fn given_up(error: RedisError) -> RedisError {
    match error.code() {
        Some("MOVED" | "ASK" | "TRYAGAIN") => NoServer::SlotMoving.into(),
        _ => error,
    }
}

/// `host:port`; without a host it is that of the node which answered (Redis Cluster specification).
fn moved_to(place: &str, asked: Option<&Address>) -> Option<Address> {
    let (host, port) = place.rsplit_once(':')?;
    let host = match host {
        "?" => return None,
        "" => asked?.0.clone(),
        host => host.to_owned(),
    };
    Some((host, port.parse().ok()?))
}

async fn slots(node: &Arc<Node>) -> RedisResult<Vec<(u16, u16, Address)>> {
    let answer = node.send(redis::cmd("CLUSTER").arg("SLOTS")).await.map_err(|failed| failed.error)?;
    let Value::Array(ranges) = answer else { return Ok(Vec::new()) };
    Ok(ranges.iter().filter_map(|range| read_range(range, &node.address)).collect())
}

/// First slot, last slot, and the nodes, the primary first: host, port and more.
fn read_range(range: &Value, asked: &Address) -> Option<(u16, u16, Address)> {
    let [Value::Int(first), Value::Int(last), Value::Array(primary), ..] = range.as_sequence()? else {
        return None;
    };
    let [host, Value::Int(port), ..] = primary.as_slice() else { return None };
    let host = match host {
        Value::BulkString(host) => str::from_utf8(host).ok()?,
        Value::SimpleString(host) => host,
        // Not known to the node that answered.
        _ => return None,
    };
    let host = match host {
        "?" => return None,
        "" => &asked.0,
        host => host,
    };
    let number = |number: &i64| u16::try_from(*number).ok();
    Some((number(first)?, number(last)?, (host.to_owned(), number(port)?)))
}

/// The first key of a step, or of a command that reads one key.
fn key_of(command: &Cmd) -> &[u8] {
    let word = |place: usize| match command.args_iter().nth(place) {
        Some(Arg::Simple(word)) => word,
        _ => b"",
    };
    if matches!(word(0), b"FCALL" | b"EVALSHA") { word(3) } else { word(1) }
}

/// CRC-16/XMODEM of the hash tag (Redis Cluster specification).
fn slot_of(key: &[u8]) -> u16 {
    let tag = key.iter().position(|byte| *byte == b'{').and_then(|open| {
        let tag = &key[open + 1..];
        tag.iter().position(|byte| *byte == b'}').map(|close| &tag[..close]).filter(|tag| !tag.is_empty())
    });
    let crc = tag.unwrap_or(key).iter().fold(0_u16, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| {
            (crc << 1) ^ if crc & 0x8000 == 0 { 0 } else { 0x1021 }
        })
    });
    crc % 16_384
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(host: &str, port: u16) -> Address {
        (host.to_owned(), port)
    }

    #[test]
    fn keys_of_one_hash_tag_share_a_slot() {
        // The check value of the CRC, and slots that a server tells.
        for (key, slot) in
            [("123456789", 0x31c3), ("foo", 12_182), ("{foo}:s\u{1}", 12_182), ("foo{}{bar}", 8_363)]
        {
            assert_eq!(slot_of(key.as_bytes()), slot, "{key}");
        }
        let mut step = redis::cmd("FCALL");
        step.arg("admit").arg(2).arg("{foo}:a").arg("{foo}:b").arg("x");
        assert_eq!(key_of(&step), b"{foo}:a");
        assert_eq!(key_of(redis::cmd("PTTL").arg("{foo}:c")), b"{foo}:c");
    }

    #[test]
    fn ranges_and_redirections_name_the_primary() {
        let node = |host: &str, port| {
            Value::Array(vec![
                Value::BulkString(host.into()),
                Value::Int(port),
                Value::BulkString("id".into()),
            ])
        };
        let range =
            |first, last, primary: Value| Value::Array(vec![Value::Int(first), Value::Int(last), primary]);
        let asked = at("asked", 1);
        let read = |range: &Value| read_range(range, &asked);
        assert_eq!(read(&range(0, 9, node("one", 7))), Some((0, 9, at("one", 7))));
        assert_eq!(read(&range(10, 10, node("", 8))), Some((10, 10, at("asked", 8))));
        for unknown in [node("?", 7), node("one", 70_000), Value::Nil] {
            assert_eq!(read(&range(0, 9, unknown)), None);
        }
        let mut state = State::default();
        state.set_ranges(vec![(10, 10, at("two", 2)), (0, 8, at("one", 1))], &[]);
        let primary = |state: &State, slot| state.primary(slot).map(|address| address.1);
        assert_eq!(
            [0, 8, 9, 10, 11].map(|slot| primary(&state, slot)),
            [Some(1), Some(1), None, Some(2), None]
        );
        state.moved.insert(9, at("three", 3));
        assert_eq!(primary(&state, 9), Some(3));
        state.set_ranges(vec![(9, 9, at("four", 4))], &[]);
        assert_eq!([9, 0].map(|slot| primary(&state, slot)), [Some(4), None]);
    }

    #[test]
    fn a_refusal_is_followed_or_waited_for_and_a_lost_answer_is_neither() {
        let server = |line: &str| {
            let value = redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).expect("an error");
            Failed { error: value.extract_error().expect_err("an error"), is_sent: true }
        };
        let asked = at("asked", 1);
        let next = |failed: &Failed| next(failed, Some(&asked));
        assert_eq!(next(&server("MOVED 3999 10.0.0.1:6381")), Next::Follow(at("10.0.0.1", 6381)));
        assert_eq!(next(&server("MOVED 3999 ::1:6381")), Next::Follow(at("::1", 6381)));
        assert_eq!(next(&server("MOVED 3999 :6381")), Next::Follow(at("asked", 6381)));
        for line in
            ["MOVED 3999 ?:6381", "ASK 3999 10.0.0.1:6381", "TRYAGAIN x", "CLUSTERDOWN x", "LOADING x"]
        {
            assert_eq!(next(&server(line)), Next::Wait, "{line}");
        }
        for line in ["NOPERM x", "ERR x", "WRONGPASS x"] {
            assert_eq!(next(&server(line)), Next::GiveUp, "{line}");
        }
        let lost = |is_sent| Failed { error: timed_out(), is_sent };
        assert_eq!([next(&lost(true)), next(&lost(false))], [Next::GiveUp, Next::Wait]);
    }
}
