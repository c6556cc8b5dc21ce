//! Limits hold over all workers, are charged once, and are refunded when nothing was sent.

use std::time::Duration;

use otpost::domain::limit::{Limit, Limits};
use otpost::domain::send_failure::{Scope, SendFailure};
use serde_json::json;

use crate::harness::{ALICE, BOB, Embedded, HOUR, Options, World, request, with};
use crate::scripted::Script;

fn limits(change: impl FnOnce(&mut Limits)) -> Options {
    let mut options = Options::default();
    change(&mut options.limits);
    options
}

#[tokio::test(start_paused = true)]
async fn a_limited_phone_may_send_again_once_the_window_has_passed() {
    let mut gateway = Embedded::with(limits(|limits| limits[Limit::Recipient].count = 1));
    gateway.request("r1", ALICE).await.expect_sent();
    let limited = gateway.request("r2", ALICE).await;
    limited.expect("rejected", Some("rate_limited"));
    assert_eq!(limited.retry_after(), Some(3_600));
    assert_eq!(limited.body["error"]["limit"], "number");
    gateway.request("r3", BOB).await.expect_sent();
    tokio::time::advance(HOUR).await;
    gateway.request("r4", ALICE).await.expect_sent();
}

#[tokio::test(start_paused = true)]
async fn a_cooldown_says_when_to_retry() {
    let mut gateway = Embedded::with(limits(|limits| limits.cooldown = Duration::from_secs(30)));
    let sent = gateway.request("r1", ALICE).await;
    assert_eq!(sent.body["resend_after"], 30);
    tokio::time::advance(Duration::from_secs(10)).await;
    let cooling = gateway.request("r2", ALICE).await;
    cooling.expect("rejected", Some("cooldown"));
    assert_eq!(cooling.retry_after(), Some(20));
    tokio::time::advance(Duration::from_secs(20)).await;
    gateway.request("r3", ALICE).await.expect_sent();
}

#[tokio::test(start_paused = true)]
async fn the_sixth_send_in_an_hour_is_refused_over_all_workers() {
    let world = World::new();
    let mut workers: Vec<_> = (0..3).map(|_| Embedded::in_world(world.clone(), Options::default())).collect();
    for number in 0..60 {
        workers[0].publish(&request(&format!("r{number}"), ALICE));
    }
    let mut sent = 0;
    for _ in 0..60 {
        let ended = workers[0].result().await;
        match ended.body["status"].as_str() {
            Some("sent") => sent += 1,
            _ => assert!(ended.expect("rejected", Some("rate_limited")).retry_after().is_some()),
        }
    }
    assert_eq!((sent, world.provider.posted().len()), (5, 5));
    let codes: std::collections::BTreeSet<_> =
        world.provider.posted().into_iter().map(|post| post.code).collect();
    assert_eq!(codes.len(), 1, "a resend has the same code");
}

#[tokio::test(start_paused = true)]
async fn a_repeat_is_not_charged() {
    let mut gateway = Embedded::with(limits(|limits| limits[Limit::Recipient].count = 2));
    for _ in 0..4 {
        gateway.request("r1", ALICE).await.expect_sent();
    }
    gateway.request("r2", ALICE).await.expect_sent();
    gateway.request("r3", ALICE).await.expect("rejected", Some("rate_limited"));
}

#[tokio::test(start_paused = true)]
async fn a_limit_is_refunded_when_nothing_was_sent_and_kept_in_doubt() {
    let mut gateway = Embedded::with(limits(|limits| limits[Limit::Recipient].count = 1));
    let refused = SendFailure::refused(Scope::Request, Some(21617));
    gateway.world.provider.fail_next([refused]);
    gateway.request("r1", ALICE).await.expect("failed", Some("provider_rejected"));
    gateway.world.provider.script_default(Script::Fail(SendFailure::InDoubt { detail: "reset".to_owned() }));
    gateway.request("r2", ALICE).await.expect("unknown", Some("in_doubt"));
    gateway.request("r3", ALICE).await.expect("rejected", Some("rate_limited"));
}

#[tokio::test(start_paused = true)]
async fn a_users_and_an_addresss_limits_hold_over_recipients() {
    let mut gateway = Embedded::with(limits(|limits| {
        limits[Limit::User].count = 2;
        limits[Limit::Ip].count = 3;
    }));
    for number in 0..2 {
        gateway.publish(&with("u", &format!("+57300123456{number}"), json!({"user_id": "u1"})));
        gateway.result().await.expect_sent();
    }
    gateway.publish(&with("u", BOB, json!({"user_id": "u1"})));
    gateway.result().await.expect("rejected", Some("rate_limited"));
    for (number, address) in (3..6).zip(["10.0.0.1", "10.0.0.1", "::ffff:10.0.0.1"]) {
        gateway.publish(&with("i", &format!("+57300123456{number}"), json!({"client_ip": address})));
        gateway.result().await.expect_sent();
    }
    gateway.publish(&with("i", BOB, json!({"client_ip": "10.0.0.1"})));
    gateway.result().await.expect("rejected", Some("rate_limited"));
}

/// A person may have every network of an IPv6 /48, and a provider's customer every address of an IPv4 /24.
#[tokio::test(start_paused = true)]
async fn the_networks_of_one_site_share_a_limit_over_recipients_and_users() {
    let mut gateway =
        Embedded::with(Options { limits: Limits::default().with(Limit::All, 0), ..Options::default() });
    let mut people = 0;
    let mut ask = async |client_ip: &str| {
        people += 1;
        let fields = json!({"client_ip": client_ip, "user_id": format!("u{people}")});
        gateway.publish(&with("n", &format!("+573001{people:06}"), fields));
        gateway.result().await
    };
    for number in 0..120 {
        ask(&format!("2001:db8:1:{number:x}::1")).await.expect_sent();
        ask(&format!("198.51.100.{number}")).await.expect_sent();
    }
    for full in ["2001:db8:1:ffff::1", "2001:db8:1::2", "198.51.100.200", "::ffff:198.51.100.201"] {
        let limited = ask(full).await;
        limited.expect("rejected", Some("rate_limited"));
        assert_eq!(limited.retry_after(), Some(3_600), "{full}");
    }
    // IPv6 addresses that stand for an IPv4 one: 6to4 (RFC 3056) and NAT64 (RFC 6052).
    for full in ["2002:c633:6401:7::1", "64:ff9b::198.51.100.202"] {
        ask(full).await.expect("rejected", Some("rate_limited"));
    }
    for other in ["2001:db8:2:1::1", "2001:db8:0:1::1", "198.51.101.1", "198.51.99.1", "2002:c633:6501::1"] {
        ask(other).await.expect_sent();
    }
}

#[tokio::test(start_paused = true)]
async fn the_limit_over_all_sends_holds() {
    let mut gateway = Embedded::with(limits(|limits| limits[Limit::All].count = 4));
    for number in 0..4 {
        gateway.request("r", &format!("+57300123456{number}")).await.expect_sent();
    }
    gateway.request("r", BOB).await.expect("rejected", Some("rate_limited"));
}

#[tokio::test(start_paused = true)]
async fn a_recorded_rejection_is_replayed_for_a_quarter_of_an_hour() {
    let mut gateway = Embedded::with(limits(|limits| limits.cooldown = Duration::from_secs(30)));
    gateway.request("r1", ALICE).await.expect_sent();
    gateway.request("r2", ALICE).await.expect("rejected", Some("cooldown")).expect_replayed(false);
    tokio::time::advance(Duration::from_secs(60)).await;
    gateway.request("r2", ALICE).await.expect("rejected", Some("cooldown")).expect_replayed(true);
    tokio::time::advance(Duration::from_secs(900)).await;
    gateway.request("r2", ALICE).await.expect_sent().expect_replayed(false);
}
