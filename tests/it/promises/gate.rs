//! The send gate: kill switch, circuit breaker, concurrency, and sender rate.

use std::sync::atomic::Ordering;
use std::time::Duration;

use otpost::domain::send_failure::{Scope, SendFailure};
use otpost::store::Store as _;
use tokio::time::{Instant, sleep};

use crate::harness::{ALICE, BOB, Embedded, Options, World, request};
use crate::scripted::{LookupScript, Script};

fn maintained() -> Options {
    Options { maintained: true, ..Options::default() }
}

fn person(n: usize) -> String {
    format!("+5730012{n:05}")
}

fn refused(code: u32, scope: Scope) -> SendFailure {
    crate::scripted::refused(scope, code)
}

fn unreachable() -> SendFailure {
    SendFailure::NotConnected { detail: "refused".to_owned() }
}

#[tokio::test(start_paused = true)]
async fn the_kill_switch_stops_all_workers_within_a_second_and_loses_nothing() {
    let world = World::new();
    let mut workers: Vec<_> = (0..3).map(|_| Embedded::in_world(world.clone(), maintained())).collect();
    workers[0].request("before", ALICE).await.expect_sent();
    world.store.inner.set_kill_switch(Some("pumping")).await.expect("answers");
    sleep(Duration::from_secs(1)).await;
    for n in 0..20 {
        workers[0].publish(&request(&format!("r{n}"), &person(n)));
    }
    sleep(Duration::from_secs(300)).await;
    assert_eq!(world.provider.posted().len(), 1);
    world.store.inner.set_kill_switch(None).await.expect("answers");
    for _ in 0..20 {
        workers[0].result().await.expect_sent();
    }
    assert_eq!(world.provider.posted().len(), 21);
}

#[tokio::test(start_paused = true)]
async fn the_kill_switch_pauses_a_request_that_waits_for_its_next_attempt() {
    let mut gateway = Embedded::with(maintained());
    gateway
        .world
        .provider
        .fail_next([SendFailure::Throttled { provider_code: Some(20429), retry_after: None }; 1]);
    gateway.publish(&request("r1", ALICE));
    gateway.world.provider.until_posted(1).await;
    gateway.world.store.inner.set_kill_switch(Some("test")).await.expect("answers");
    sleep(Duration::from_secs(120)).await;
    assert_eq!(gateway.posted().len(), 1);
    gateway.world.store.inner.set_kill_switch(None).await.expect("answers");
    let ended = gateway.result().await;
    ended.expect_sent();
    assert_eq!(ended.body["attempts"], 2);
}

#[tokio::test(start_paused = true)]
async fn while_the_store_is_silent_nothing_is_sent() {
    let mut gateway = Embedded::with(maintained());
    gateway.world.provider.fail_next([SendFailure::Throttled { provider_code: None, retry_after: None }]);
    gateway.publish(&request("r1", ALICE));
    gateway.world.provider.until_posted(1).await;
    gateway.world.store.gone.store(true, Ordering::SeqCst);
    sleep(Duration::from_secs(60)).await;
    assert_eq!(gateway.posted().len(), 1);
    gateway.world.store.gone.store(false, Ordering::SeqCst);
    gateway.result().await.expect_sent();
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_the_account_pauses_every_request_and_fails_none() {
    let mut gateway = Embedded::with(maintained());
    gateway.world.provider.set_healthy(false);
    gateway.world.provider.script_default(Script::Fail(refused(20003, Scope::Account)));
    for n in 0..50 {
        gateway.publish(&request(&format!("r{n}"), &person(n)));
    }
    sleep(Duration::from_secs(120)).await;
    let posted = gateway.posted().len();
    assert!(posted <= 8, "{posted} messages: only those in flight");
    let probes = gateway.world.provider.probes().len();
    assert!((3..=9).contains(&probes), "{probes}");
    gateway.expect_no_result();

    gateway.world.provider.set_healthy(true);
    gateway.world.provider.script_default(Script::Accept);
    for _ in 0..50 {
        gateway.result().await.expect_sent();
    }
    assert_eq!(gateway.world.provider.made().len(), 50);
}

#[tokio::test(start_paused = true)]
async fn an_account_that_stays_refused_fails_requests_as_misconfigured() {
    let mut gateway = Embedded::with(maintained());
    gateway.world.provider.set_healthy(false);
    gateway.world.provider.script_default(Script::Fail(refused(20003, Scope::Account)));
    let ended = gateway.request("r1", ALICE).await;
    ended.expect("failed", Some("provider_misconfigured"));
    assert_eq!(ended.body["error"]["provider_code"], 20003);
    assert_eq!(gateway.posted().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_provider_silent_for_two_minutes_loses_no_request_and_gets_few_calls() {
    let mut gateway = Embedded::with(maintained());
    let provider = gateway.world.provider.clone();
    provider.set_healthy(false);
    provider.script_default(Script::Fail(SendFailure::InDoubt { detail: "timed out".to_owned() }));
    provider.script_default_lookup(LookupScript::Unanswered);
    for n in 0..100 {
        gateway.publish(&request(&format!("r{n}"), &person(n)));
    }
    sleep(Duration::from_secs(120)).await;
    assert!(gateway.posted().len() <= 10, "{}", gateway.posted().len());
    assert!(gateway.world.broker.waiting() >= 85, "consumption is paused");
    assert!(provider.probes().len() <= 9, "{}", provider.probes().len());
    provider.set_healthy(true);
    provider.script_default(Script::Accept);
    provider.script_default_lookup(LookupScript::Show);
    for _ in 0..100 {
        gateway.result().await.expect_sent();
    }
    assert_eq!(provider.made().len(), 100);
}

#[tokio::test(start_paused = true)]
async fn refusals_of_one_recipient_country_or_sender_never_stop_the_others() {
    let mut gateway = Embedded::with(maintained());
    for n in 0..30 {
        let scope = [Scope::Recipient, Scope::Request][n % 2];
        gateway.world.provider.fail_next([refused(21211, scope)]);
        gateway.request(&format!("bad{n}"), &person(n)).await.expect("failed", Some("provider_rejected"));
    }
    for code in [21606, 21611] {
        gateway.world.provider.fail_next([refused(code, Scope::Sender)]);
        gateway.request(&format!("sender{code}"), ALICE).await.expect_sent();
    }
    gateway.request("good", BOB).await.expect_sent();
    assert!(gateway.world.provider.probes().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_half_open_circuit_breaker_lets_one_message_through() {
    let mut gateway = Embedded::with(maintained());
    let provider = gateway.world.provider.clone();
    provider.script_default(Script::Fail(unreachable()));
    for n in 0..20 {
        gateway.publish(&request(&format!("r{n}"), &person(n)));
    }
    // Probes succeed and messages fail, so each probe costs one attempt.
    sleep(Duration::from_secs(60)).await;
    let (posted, probes) = (provider.posted().len(), provider.probes().len());
    assert!(posted <= 8 + probes, "{posted} messages, {probes} probes");
    provider.script_default(Script::Accept);
    for _ in 0..20 {
        gateway.result().await.expect_sent();
    }
}

#[tokio::test(start_paused = true)]
async fn a_storm_of_429s_lowers_the_concurrency() {
    let mut gateway = Embedded::with(Options { concurrency: 32, ..maintained() });
    let throttled =
        SendFailure::Throttled { provider_code: Some(20429), retry_after: Some(Duration::from_secs(2)) };
    gateway.world.provider.fail_next(std::iter::repeat_n(throttled, 100));
    for n in 0..60 {
        gateway.publish(&request(&format!("r{n}"), &person(n)));
    }
    for _ in 0..60 {
        gateway.result().await.expect_sent();
    }
    assert_eq!(gateway.world.provider.made().len(), 60);
    assert!(gateway.world.provider.probes().is_empty(), "throttling does not open the circuit breaker");
}

#[tokio::test(start_paused = true)]
async fn the_rate_of_a_sender_holds_over_all_workers() {
    const RATE: f64 = 5.0;
    let world = World::new();
    let limited = || Options { sender_rate: Some(RATE), concurrency: 4, ..maintained() };
    let mut workers: Vec<_> = (0..3).map(|_| Embedded::in_world(world.clone(), limited())).collect();
    let started = Instant::now();
    for n in 0..60 {
        workers[0].publish(&request(&format!("r{n}"), &person(n)));
    }
    for _ in 0..60 {
        workers[0].result().await.expect_sent();
    }
    let mut times: Vec<_> = world.provider.posted().iter().map(|post| post.at - started).collect();
    times.sort_unstable();
    for second in times.iter().map(|at| at.as_millis()) {
        let within = times.iter().filter(|at| (second..second + 1_000).contains(&at.as_millis())).count();
        assert!(within <= RATE as usize + 1, "{within} in the second from {second} ms");
    }
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_request_at_the_gate_of_a_crashed_worker_is_soon_sent_by_another() {
    let world = World::new();
    let limited = Options { sender_rate: Some(0.05), ..maintained() };
    let dying = Embedded::in_world(world.clone(), limited);
    dying.publish(&request("r1", ALICE));
    dying.publish(&request("r2", BOB));
    world.provider.until_posted(1).await;
    sleep(Duration::from_secs(2)).await;
    dying.crash().await;
    let died = Instant::now();
    let mut survivor = Embedded::in_world(world, maintained());
    survivor.result().await.expect_sent();
    assert!(died.elapsed() < Duration::from_secs(40), "{:?}", died.elapsed());
}

#[tokio::test(start_paused = true)]
async fn workers_that_come_and_go_neither_starve_a_sender_nor_burst() {
    const RATE: f64 = 1.0;
    let world = World::new();
    let limited = || Options { sender_rate: Some(RATE), concurrency: 4, ..maintained() };
    let mut workers: Vec<_> = (0..8).map(|_| Embedded::in_world(world.clone(), limited())).collect();
    let started = Instant::now();
    for n in 0..40 {
        workers[0].publish(&request(&format!("r{n}"), &person(n)));
        sleep(Duration::from_secs(2)).await;
    }
    for _ in 0..40 {
        workers[0].result().await.expect_sent();
    }
    let mut times: Vec<_> =
        world.provider.posted().iter().map(|post| (post.at - started).as_millis()).collect();
    times.sort_unstable();
    let longest = times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default();
    assert!(longest < 15_000, "nothing was sent for {longest} ms");
    let most =
        times.iter().map(|at| times.iter().filter(|other| (*at..at + 1_000).contains(other)).count()).max();
    assert!(most <= Some(3), "{most:?} in one second");
}

#[tokio::test(start_paused = true)]
async fn a_closed_gate_replays_completed_requests_and_admits_none() {
    // This worker consumes on, like one whose gate closed just after a delivery.
    let mut gateway = Embedded::start();
    gateway.request("ended", ALICE).await.expect_sent();
    gateway.world.provider.script_default(Script::Fail(unreachable()));
    for n in 0..5 {
        gateway.publish(&request(&format!("r{n}"), &person(n)));
    }
    gateway.world.provider.until_posted(6).await;
    gateway.publish(&request("new", BOB));
    gateway.publish(&request("ended", ALICE));
    gateway.result().await.expect_sent().expect_replayed(true);
    sleep(Duration::from_secs(60)).await;
    gateway.expect_no_result();
    assert_eq!(gateway.posted().len(), 6, "the breaker is open");
    let bob = gateway.world.recipient(BOB);
    assert_eq!(
        gateway.world.store.inner.recent_requests(bob).await.expect("answers"),
        [],
        "nothing was charged"
    );
}
