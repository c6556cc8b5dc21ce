//! The pumping defence refuses codes to numbers that verify none; a number that has verified one is exempt.

use std::time::Duration;

use otpost::domain::defence::{DefenceMode, Scope, ScopeKind};
use otpost::domain::defence_list::{NewOverride, OverrideAction, OverrideTarget};
use otpost::domain::verdict::Verdict;
use otpost::store::DefenceStore as _;
use serde_json::json;

use crate::harness::{BOB, Embedded, HOUR, Options, request, with};

fn of_mode(defence: DefenceMode) -> Embedded {
    Embedded::with(Options { defence, ..Options::default() })
}

/// Numbers of one block.
fn pumped(nth: u32) -> String {
    format!("+573007654{nth:03}")
}

/// Sends so many codes to the block that it is held, and reads the list.
async fn pump(gateway: &mut Embedded) {
    for nth in 0..80 {
        gateway.request(&format!("pump/{nth}"), &pumped(nth)).await.expect_sent();
    }
    assert!(gateway.defence.flush().await);
}

#[tokio::test(start_paused = true)]
async fn a_block_that_verifies_nothing_is_refused_until_it_has_leaked() {
    let mut gateway = of_mode(DefenceMode::Enforce);
    pump(&mut gateway).await;
    let refused = gateway.request("r1", &pumped(900)).await;
    refused.expect("rejected", Some("blocked"));
    assert_eq!(refused.body["error"]["rule"], "unverified_block");
    assert!(refused.retry_after().is_some_and(|seconds| seconds >= 60));
    // The same answer again, and a request that was admitted before gets its own.
    let again = gateway.request("r1", &pumped(900)).await;
    again.expect_replayed(true);
    assert_eq!(again.body["error"]["rule"], "unverified_block");
    gateway.request("pump/7", &pumped(7)).await.expect_replayed(true).expect_sent();
    gateway.request("r2", BOB).await.expect_sent();
    tokio::time::advance(24 * HOUR).await;
    assert!(gateway.defence.flush().await);
    gateway.request("r3", &pumped(901)).await.expect_sent();
}

#[tokio::test(start_paused = true)]
async fn in_monitor_everything_is_sent_and_off_counts_nothing() {
    for mode in [DefenceMode::Monitor, DefenceMode::Off] {
        let mut gateway = of_mode(mode);
        pump(&mut gateway).await;
        gateway.request("r1", &pumped(900)).await.expect_sent();
        let holds = gateway.world.store.defence(&[]).await.expect("answers").list.holds;
        assert_eq!(holds.is_empty(), mode == DefenceMode::Off);
    }
}

#[tokio::test(start_paused = true)]
async fn a_number_that_has_verified_a_code_is_exempt_and_its_neighbours_are_not() {
    let mut gateway = of_mode(DefenceMode::Enforce);
    gateway.request("first", &pumped(5)).await.expect_sent();
    let code = gateway.posted()[0].code.clone();
    assert_eq!(gateway.verify(&pumped(5), &code).await, Verdict::Verified);
    gateway.result().await.expect("verified", None);
    pump(&mut gateway).await;
    gateway.request("again", &pumped(5)).await.expect_sent();
    gateway.request("other", &pumped(6)).await.expect("rejected", Some("blocked"));
}

#[tokio::test(start_paused = true)]
async fn a_user_that_has_verified_is_exempt_while_its_own_sends_are_few() {
    let mut gateway = of_mode(DefenceMode::Enforce);
    let of_user = |id: &str, to: &str| with(id, to, json!({"user_id": "u1"}));
    gateway.publish(&of_user("first", BOB));
    gateway.result().await.expect_sent();
    let code = gateway.posted()[0].code.clone();
    assert_eq!(gateway.verify(BOB, &code).await, Verdict::Verified);
    gateway.result().await.expect("verified", None);
    pump(&mut gateway).await;
    for nth in 0..5 {
        gateway.publish(&of_user(&format!("of user {nth}").replace(' ', "-"), &pumped(900 + nth)));
        let result = gateway.result().await;
        assert!(gateway.defence.flush().await);
        match nth {
            0..=2 => drop(result.expect_sent()),
            _ => drop(result.expect("rejected", Some("blocked"))),
        }
    }
    // The bucket of an hour has leaked, that of a day has room for one.
    tokio::time::advance(HOUR / 2).await;
    gateway.publish(&of_user("later-1", &pumped(905)));
    gateway.result().await.expect_sent();
    assert!(gateway.defence.flush().await);
    gateway.publish(&of_user("later-2", &pumped(906)));
    gateway.result().await.expect("rejected", Some("blocked"));
}

#[tokio::test(start_paused = true)]
async fn without_an_answer_about_exemptions_a_request_is_sent() {
    for mode in [DefenceMode::Monitor, DefenceMode::Enforce] {
        let mut gateway = of_mode(mode);
        pump(&mut gateway).await;
        gateway.world.store.damaged_exemptions.store(true, std::sync::atomic::Ordering::SeqCst);
        gateway.request("r1", &pumped(900)).await.expect_sent();
    }
}

/// Pending sends of the prefix of the numbers.
async fn pending(gateway: &Embedded) -> u32 {
    let prefix = Scope { kind: ScopeKind::Prefix, id: 57_300 };
    let state = gateway.world.store.defence(&[(57_300, prefix)]).await.expect("answers");
    state.records[0].map_or(0, |record| record.pending_sends())
}

#[tokio::test(start_paused = true)]
async fn a_code_that_is_sent_again_counts_once() {
    let mut gateway = of_mode(DefenceMode::Enforce);
    gateway.request("r1", &pumped(1)).await.expect_sent();
    tokio::time::advance(Duration::from_secs(60)).await;
    gateway.request("r2", &pumped(1)).await.expect_sent();
    assert_eq!(gateway.posted()[0].code, gateway.posted()[1].code);
    assert!(gateway.defence.flush().await);
    assert_eq!(pending(&gateway).await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_waits_is_added_at_shutdown() {
    let mut gateway = of_mode(DefenceMode::Enforce);
    gateway.request("r1", &pumped(1)).await.expect_sent();
    let gone = |is_gone| gateway.world.store.gone.store(is_gone, std::sync::atomic::Ordering::SeqCst);
    gone(true);
    assert!(!gateway.defence.flush().await);
    gone(false);
    gateway.defence.end().await;
    assert_eq!(pending(&gateway).await, 1);
}

#[tokio::test(start_paused = true)]
async fn an_operator_overrules_holds_and_denies_in_monitor_too() {
    let mut gateway = of_mode(DefenceMode::Monitor);
    let store = gateway.world.store.clone();
    let set = async |target: &str, action, reason| {
        let target = OverrideTarget::parse(target).expect("a target");
        let new = NewOverride { action, duration: HOUR, shown: "+", reason };
        store.set_defence_override(&target, Some(&new)).await.expect("answers");
    };
    set("+57300", OverrideAction::Deny, "attack").await;
    set("+57300765", OverrideAction::Allow, "a fair").await;
    assert!(gateway.defence.flush().await);
    let refused = gateway.request("r1", "+573001234567").await;
    refused.expect("rejected", Some("blocked"));
    assert_eq!((&refused.body["error"]["rule"], refused.retry_after()), (&json!("denied"), Some(3_600)));
    gateway.request("r2", &pumped(1)).await.expect_sent();
    gateway.request("r3", BOB).await.expect_sent();
    tokio::time::advance(HOUR).await;
    assert!(gateway.defence.flush().await);
    gateway.request("r4", "+573001234567").await.expect_sent();
}

#[tokio::test(start_paused = true)]
async fn without_the_store_the_last_list_holds_until_its_ends() {
    let mut gateway = of_mode(DefenceMode::Enforce);
    pump(&mut gateway).await;
    gateway.world.store.gone.store(true, std::sync::atomic::Ordering::SeqCst);
    assert!(!gateway.defence.flush().await);
    gateway.world.store.gone.store(false, std::sync::atomic::Ordering::SeqCst);
    gateway.request("r1", &pumped(900)).await.expect("rejected", Some("blocked"));
    tokio::time::advance(24 * HOUR).await;
    gateway.publish(&request("r2", &pumped(901)));
    gateway.result().await.expect_sent();
    // The changes that waited are added once.
    assert!(gateway.defence.flush().await);
    tokio::time::advance(Duration::from_secs(1)).await;
}
