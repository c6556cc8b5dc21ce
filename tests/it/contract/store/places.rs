//! Places under the cap over all sends, leased in blocks by several workers.

use std::collections::VecDeque;
use std::time::Duration;

use futures_util::{FutureExt as _, future};
use otpost::domain::limit::Quota;
use otpost::domain::request_id::RequestId;
use otpost::domain::time::UnixMillis;
use otpost::store::Store as _;
use otpost::store::redis::RedisStore;
use otpost::store::redis::places::{Place, Taken};

use super::{START, TimedStore as _, named};
use crate::real::Redis;

const WINDOW: Duration = Duration::from_secs(600);
const BLOCK_MAX: Duration = Duration::from_secs(70);

fn cap(count: u32) -> Quota {
    Quota { count, window: WINDOW }
}

fn id(number: usize) -> RequestId {
    RequestId::parse(&format!("orders/{number}")).expect("valid")
}

async fn take(store: &RedisStore, quota: Quota) -> Result<Place, Duration> {
    match store.take_place(quota).await.expect("Redis answers") {
        Taken::Place(place) => Ok(place),
        Taken::Refused(wait) => Err(wait),
    }
}

/// Takes all that are left.
async fn take_all(store: &RedisStore, quota: Quota) -> u32 {
    let mut taken = 0;
    while take(store, quota).await.is_ok() {
        taken += 1;
        assert!(taken <= quota.count, "the cap is {}", quota.count);
    }
    taken
}

fn new_worker(redis: &Redis, now: UnixMillis) -> RedisStore {
    let store = redis.store();
    store.at(now);
    store
}

#[tokio::test]
async fn exactly_the_cap_is_granted_and_a_refusal_says_when_a_place_is_free() {
    for count in [1, 3, 150, 1_000] {
        let redis = Redis::fresh();
        let store = new_worker(&redis, START);
        let quota = cap(count);
        assert_eq!(store.place_free_in(quota).await.expect("answers"), Duration::ZERO);
        assert_eq!(take_all(&store, quota).await, count);
        let wait = take(&store, quota).await.expect_err("the cap is reached");
        assert_eq!(wait, Duration::from_secs(660), "until the block's end and the window are over");
        assert_eq!(store.place_free_in(quota).await.expect("answers"), wait);
        store.at(START.plus(wait - Duration::from_millis(1)));
        take(&store, quota).await.expect_err("it is not over");
        store.at(START.plus(wait));
        assert_eq!(store.place_free_in(quota).await.expect("answers"), Duration::ZERO);
        assert_eq!(take_all(&store, quota).await, count);
    }
}

#[tokio::test]
async fn a_place_that_was_put_back_is_taken_again() {
    let redis = Redis::fresh();
    let (one, other) = (new_worker(&redis, START), new_worker(&redis, START));
    let quota = cap(2);
    let place = take(&one, quota).await.expect("the first");
    take(&other, quota).await.expect("the second");
    take(&other, quota).await.expect_err("the cap is reached");
    one.put_back_place(place);
    take(&one, quota).await.expect("it came back");
    take(&one, quota).await.expect_err("once");
}

#[tokio::test]
async fn a_refund_frees_a_place_once() {
    let redis = Redis::fresh();
    let store = new_worker(&redis, START);
    let quota = cap(2);
    let first = take(&store, quota).await.expect("the first");
    let second = take(&store, quota).await.expect("the second");
    for _ in 0..2 {
        store.refund_place(&id(1), &named(1), first.until, quota).await.expect("answers");
    }
    take(&store, quota).await.expect("refunded");
    take(&store, quota).await.expect_err("once");
    // Of another recipient with the same id.
    store.refund_place(&id(1), &named(2), second.until, quota).await.expect("answers");
    take(&store, quota).await.expect("refunded");
    // Those that do not count any more change nothing.
    store.at(START.plus(WINDOW + BLOCK_MAX));
    store.refund_place(&id(2), &named(1), first.until, quota).await.expect("answers");
    assert_eq!(take_all(&store, quota).await, 2);
}

#[tokio::test]
async fn unused_places_of_an_idle_worker_come_back_with_a_heartbeat() {
    let redis = Redis::fresh();
    let (idle, other) = (new_worker(&redis, START), new_worker(&redis, START));
    let quota = cap(1_000);
    for _ in 0..40 {
        take(&idle, quota).await.expect("free");
    }
    for store in [&idle, &other] {
        store.at(START.plus(Duration::from_secs(56)));
    }
    assert!(take_all(&other, quota).await < 960, "the idle worker holds some");
    idle.heartbeat(1, true).await.expect("answers");
    take(&other, quota).await.expect("it came back");
    let after = take_all(&other, quota).await;
    let used = redis.copy();
    idle.heartbeat(1, true).await.expect("answers");
    let values = |keys: Vec<(Vec<u8>, i64, Vec<u8>)>| -> Vec<_> {
        keys.into_iter().filter(|(key, ..)| key.ends_with(b":b")).map(|(.., value)| value).collect()
    };
    assert_eq!(values(used), values(redis.copy()), "a second heartbeat changes nothing ({after})");
}

#[tokio::test]
async fn the_end_of_a_process_gives_back_its_places() {
    let redis = Redis::fresh();
    let (one, other) = (new_worker(&redis, START), new_worker(&redis, START));
    let quota = cap(1_000);
    for _ in 0..40 {
        take(&one, quota).await.expect("free");
    }
    one.close().await.expect("answers");
    assert_eq!(take_all(&other, quota).await, 960);
}

#[tokio::test]
async fn a_worker_that_dies_loses_at_most_a_hundredth_of_the_cap() {
    for count in [10, 200, 1_000, 20_000] {
        let redis = Redis::fresh();
        let quota = cap(count);
        let dead = new_worker(&redis, START);
        let used = count / 2;
        for _ in 0..used {
            take(&dead, quota).await.expect("free");
        }
        drop(dead);
        let lost = count - used - take_all(&new_worker(&redis, START), quota).await;
        assert!(lost <= (count / 100).max(1), "{lost} of {count}");
    }
}

#[tokio::test]
async fn many_handlers_share_one_lease() {
    let redis = Redis::fresh();
    let store = new_worker(&redis, START);
    let quota = cap(100);
    let taken = future::join_all((0..300).map(|_| take(&store, quota))).await;
    assert_eq!(taken.iter().filter(|taken| taken.is_ok()).count(), 100);
}

/// A random run of several workers.
struct Run {
    redis: Redis,
    quota: Quota,
    now: UnixMillis,
    workers: Vec<RedisStore>,
    /// Times of the sends in the window, without those that were refunded.
    sends: VecDeque<(UnixMillis, UnixMillis, usize)>,
    requests: usize,
    refused: usize,
}

impl Run {
    fn new(count: u32) -> Run {
        let redis = Redis::fresh();
        let workers = (0..3).map(|_| new_worker(&redis, START)).collect();
        let quota = cap(count);
        Run { redis, quota, now: START, workers, sends: VecDeque::new(), requests: 0, refused: 0 }
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now.plus(time);
        self.workers.iter().for_each(|worker| worker.at(self.now));
    }

    async fn send(&mut self, worker: usize) {
        let Ok(place) = take(&self.workers[worker], self.quota).await else {
            self.refused += 1;
            return;
        };
        if fastrand::u8(..) < 50 {
            self.workers[worker].put_back_place(place);
            return;
        }
        self.requests += 1;
        self.sends.push_back((self.now, place.until, self.requests));
        let left = |at: UnixMillis| at.plus(WINDOW) <= self.now;
        while self.sends.front().is_some_and(|(at, ..)| left(*at)) {
            self.sends.pop_front();
        }
        assert!(self.sends.len() <= self.quota.count as usize, "{} sends", self.sends.len());
    }

    async fn refund(&mut self, worker: usize) {
        let Some(chosen) = (!self.sends.is_empty()).then(|| fastrand::usize(..self.sends.len())) else {
            return;
        };
        let (_, until, request) = self.sends[chosen];
        let (request, recipient) = (id(request), named(1));
        let refund = self.workers[worker].refund_place(&request, &recipient, until, self.quota);
        if fastrand::bool() {
            refund.await.expect("answers");
            self.sends.remove(chosen);
            return;
        }
        // Its answer is lost. It may have been done, so the repeated one must not count again.
        drop(refund.now_or_never());
        let again = self.workers[worker].refund_place(&request, &recipient, until, self.quota);
        again.await.expect("answers");
        self.sends.remove(chosen);
    }

    async fn step(&mut self) {
        let worker = fastrand::usize(..self.workers.len());
        match fastrand::u8(..100) {
            0..60 => {
                for _ in 0..fastrand::u8(1..5) {
                    self.send(worker).await;
                }
            }
            60..66 => self.refund(worker).await,
            // A handler goes away while its call is under way: the answer is lost, and perhaps a place.
            66..72 => drop(self.workers[worker].take_place(self.quota).now_or_never()),
            72..74 => self.workers[worker] = new_worker(&self.redis, self.now),
            74..76 => self.workers[worker].close().await.expect("answers"),
            76..82 => drop(self.workers[worker].heartbeat(1, true).await.expect("answers")),
            82..99 => self.pass(Duration::from_millis(fastrand::u64(..4_000))),
            _ => self.pass(Duration::from_secs(fastrand::u64(..120))),
        }
    }
}

#[tokio::test]
async fn no_window_has_more_sends_than_the_cap_whatever_happens() {
    let seed = fastrand::u64(..);
    fastrand::seed(seed);
    eprintln!("seed {seed}");
    for count in [5, 60, 450] {
        let mut run = Run::new(count);
        for _ in 0..1_500 {
            run.step().await;
        }
        assert!(run.refused > 0 && run.requests > count as usize, "the cap was reached");
        // In the end all places are free again, and no more.
        run.pass(WINDOW + BLOCK_MAX);
        let fresh = new_worker(&run.redis, run.now);
        for worker in &run.workers {
            worker.close().await.expect("answers");
        }
        assert_eq!(take_all(&fresh, run.quota).await, count);
    }
}
