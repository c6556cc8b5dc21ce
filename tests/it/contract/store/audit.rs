//! Acts of operators and their audit records: one step, or neither; a bounded outbox, which several workers may empty.

use std::time::Duration;

use otpost::clock::Clock;
use otpost::domain::audit::{AuditAct, AuditActor, AuditRecord};
use otpost::domain::defence_list::{NewOverride, OverrideAction, OverrideTarget};
use otpost::domain::log_filter::{LogFilter, NewLogFilter};
use otpost::domain::shards::Shards;
use otpost::domain::suppression::ManualSuppression;
use otpost::store::audit::OUTBOX_MAX;
use otpost::store::defence::OverrideChange;
use otpost::store::memory::MemoryStore;
use otpost::store::redis::RedisStore;
use otpost::store::resharding::{ReshardAnswer, Resharding};
use otpost::store::{AuditOutbox, AuditStore, Damaged, Store as _, StoreError, StoreFault};

use super::{START, TimedStore, named};
use crate::real::Redis;

const MANUAL: ManualSuppression<'static> =
    ManualSuppression { masked: "+57**58", reason: "asked", duration: None };

pub fn record(act: AuditAct, random: u64) -> AuditRecord {
    let actor = AuditActor::Command { user: "ana".to_owned() };
    AuditRecord::new(act, actor, START, random).because(Some("a test"))
}

async fn read(store: &dyn TimedStore, newest: bool, count_max: u16) -> AuditOutbox {
    store.read_outbox(0, newest, count_max).await.expect("answers")
}

/// The records in all outboxes are taken away.
async fn take(store: &dyn TimedStore) -> Vec<String> {
    let mut taken = Vec::new();
    for outbox in 0..store.outboxes() {
        let records = store.read_outbox(outbox, false, 1_000).await.expect("answers").records;
        store.remove_from_outbox(outbox, &records).await.expect("answers");
        taken.extend(records);
    }
    taken
}

pub(super) async fn keeps_its_promises(store: &dyn TimedStore) {
    an_act_and_its_record_are_one_step(store).await;
    records_leave_in_order_and_each_once(store).await;
}

async fn an_act_and_its_record_are_one_step(store: &dyn TimedStore) {
    store.at(START);
    take(store).await;
    let on = record(AuditAct::KillSwitchOn, 1);
    assert_eq!(store.set_kill_switch_recorded(Some("a test"), &on).await.expect("answers"), None);
    let off = record(AuditAct::KillSwitchOff, 2);
    let before = store.set_kill_switch_recorded(None, &off).await.expect("answers");
    assert_eq!(before.expect("it was on").reason, "a test");
    assert_eq!(store.kill_switch().await.expect("answers"), None);
    let suppress = record(AuditAct::Suppress, 3).about("+57**58");
    let added = store.add_suppression_recorded(named(250), &MANUAL, &suppress).await.expect("answers");
    assert_eq!(added.reason.as_deref(), Some("asked"));
    let end = record(AuditAct::EndSuppression, 4).about("+57**58");
    let removed = store.remove_suppression_recorded(named(250), &end).await.expect("answers");
    assert_eq!(removed.map(|removed| removed.to), Some(Some("+57**58".to_owned())));
    let filter = LogFilter::parse("debug").expect("a filter");
    let new = NewLogFilter { filter: &filter, set_by: "ana", duration: Duration::from_secs(60) };
    let level = record(AuditAct::LogLevel, 5).about("debug");
    assert_eq!(store.set_log_filter_recorded(Some(&new), &level).await.expect("answers"), None);
    let reset = record(AuditAct::LogLevel, 6).about("reset");
    assert!(store.set_log_filter_recorded(None, &reset).await.expect("answers").is_some());
    let latvia = OverrideTarget::parse("LV").expect("a target");
    let new = NewOverride {
        action: OverrideAction::Deny,
        duration: Duration::from_secs(60),
        shown: "LV",
        reason: "a test",
    };
    let deny = record(AuditAct::DefenceDeny, 7).about("LV");
    let denied = store.set_defence_override_recorded(&latvia, Some(&new), &deny).await.expect("answers");
    assert!(matches!(denied, OverrideChange::Done { before: None }), "{denied:?}");
    let remove = record(AuditAct::DefenceRemove, 8).about("LV");
    let removed = store.set_defence_override_recorded(&latvia, None, &remove).await.expect("answers");
    assert!(matches!(removed, OverrideChange::Done { before: Some(_) }), "{removed:?}");
    let look = record(AuditAct::LookUser, 9);
    store.record_act(&look).await.expect("answers");
    let all = [on, off, suppress, end, level, reset, deny, remove, look].map(|record| record.to_json());
    let outbox = read(store, false, 100).await;
    assert_eq!(outbox, AuditOutbox { records: all.to_vec(), length: 9, dropped: 0 }, "in the shared outbox");
    assert_eq!(take(store).await.len(), 9, "and in no other");
}

async fn records_leave_in_order_and_each_once(store: &dyn TimedStore) {
    let records: Vec<AuditRecord> = (0..5).map(|random| record(AuditAct::LookUser, random)).collect();
    for record in &records {
        store.record_act(record).await.expect("answers");
    }
    let json: Vec<String> = records.iter().map(AuditRecord::to_json).collect();
    assert_eq!(
        read(store, false, 2).await,
        AuditOutbox { records: json[..2].to_vec(), length: 5, dropped: 0 }
    );
    assert_eq!(read(store, true, 2).await.records, json[3..]);
    // Two workers have read the same; the slower one takes nothing of what follows.
    for published in [&json[..2], &json[..3], &json[..2]] {
        store.remove_from_outbox(0, published).await.expect("answers");
    }
    assert_eq!(read(store, false, 9).await.records, json[3..]);
    take(store).await;
    assert_eq!(read(store, false, 9).await, AuditOutbox::default());
}

/// Only stopping acts are made without a record.
async fn a_full_outbox_refuses_all_acts_but_stopping_ones(store: &dyn TimedStore) {
    store.at(START);
    let full = StoreError::Unavailable(StoreFault::AuditFull);
    let look = record(AuditAct::LookUser, 1);
    for random in 0..OUTBOX_MAX {
        store.record_act(&record(AuditAct::LookUser, random)).await.expect("there is room");
    }
    assert_eq!(store.record_act(&look).await, Err(full.clone()));
    let on = record(AuditAct::KillSwitchOn, 2);
    store.set_kill_switch_recorded(Some("a test"), &on).await.expect("a stopping act is made");
    let off = record(AuditAct::KillSwitchOff, 3);
    assert_eq!(store.set_kill_switch_recorded(None, &off).await, Err(full));
    assert!(store.kill_switch().await.expect("answers").is_some(), "it is still on");
    let outbox = read(store, true, 1).await;
    assert_eq!((outbox.length, outbox.dropped), (OUTBOX_MAX, 1));
    let oldest = read(store, false, 1).await.records;
    store.remove_from_outbox(0, &oldest).await.expect("answers");
    store.set_kill_switch_recorded(None, &off).await.expect("there is room again");
}

fn fresh() -> (Redis, RedisStore) {
    let redis = Redis::fresh();
    let store = redis.store();
    store.at(START);
    (redis, store)
}

#[tokio::test]
async fn an_act_whose_record_cannot_be_written_is_not_made() {
    let (redis, store) = fresh();
    store.set_kill_switch(Some("before")).await.expect("answers");
    redis.replace("outbox", "SET", &[b"x"]);
    let refused = StoreError::Unreadable { damaged: Damaged::Subject("outbox"), step: "kill_switch" };
    let off = record(AuditAct::KillSwitchOff, 1);
    assert_eq!(store.set_kill_switch_recorded(None, &off).await, Err(refused));
    assert!(store.kill_switch().await.expect("answers").is_some());
    redis.delete("outbox");
    store.set_kill_switch_recorded(None, &off).await.expect("mended");
}

#[tokio::test]
async fn an_act_that_fails_leaves_no_record() {
    let (redis, store) = fresh();
    store.add_suppression(named(251), &MANUAL).await.expect("answers");
    let key: Vec<u8> = [b"s".as_slice(), &[251; 16]].concat();
    redis.replace(&key, "SET", &[b"damaged"]);
    let end = record(AuditAct::EndSuppression, 1);
    let failure = store.remove_suppression_recorded(named(251), &end).await.expect_err("it is damaged");
    let damaged = Damaged::Subject("recipient");
    assert_eq!(failure, StoreError::Unreadable { damaged, step: "suppress" });
    assert_eq!(store.read_outbox(0, false, 9).await.expect("answers"), AuditOutbox::default());
}

/// A crash between the act and the move of its record.
#[tokio::test]
async fn a_record_that_stayed_in_its_shard_is_found_there() {
    let redis = Redis::fresh();
    let store = redis.sharded(16);
    store.at(START);
    store.kill_switch().await.expect("answers");
    let left = record(AuditAct::Suppress, 1).to_json();
    let () = redis.run(redis::cmd("RPUSH").arg(redis.in_shard(15, "outbox")).arg(&left));
    assert_eq!(store.outboxes(), 17);
    assert_eq!(take(&store).await, [left]);
}

#[tokio::test]
async fn a_change_of_the_number_of_shards_keeps_the_records() {
    let redis = Redis::fresh();
    let store = redis.sharded(16);
    store.kill_switch().await.expect("answers");
    let left = record(AuditAct::Suppress, 1).to_json();
    let () = redis.run(redis::cmd("RPUSH").arg(redis.in_shard(3, "outbox")).arg(&left));
    let change = Resharding { to: Shards::ONE, forget_limits: false, dry_run: false };
    let changed = store.reshard(&change).await.expect("answers");
    assert!(matches!(changed, ReshardAnswer::Done { .. }), "{changed:?}");
    assert_eq!(take(&redis.store()).await, [left]);
}

#[tokio::test]
async fn a_full_outbox_in_memory_refuses_all_acts_but_stopping_ones() {
    a_full_outbox_refuses_all_acts_but_stopping_ones(&MemoryStore::new(Clock::System)).await;
}

#[tokio::test]
async fn a_full_outbox_in_redis_refuses_all_acts_but_stopping_ones() {
    let (_redis, store) = fresh();
    a_full_outbox_refuses_all_acts_but_stopping_ones(&store).await;
}
