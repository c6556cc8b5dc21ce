//! Acts of operators and their audit records: one step, or neither; a bounded outbox, which several workers may empty.

use std::time::Duration;

use otpost::clock::Clock;
use otpost::domain::audit::{AuditAct, AuditActor, AuditRecord};
use otpost::domain::defence_list::{NewOverride, OverrideAction, OverrideTarget};
use otpost::domain::log_filter::{LogFilter, NewLogFilter};
use otpost::domain::shards::Shards;
use otpost::domain::suppression::ManualSuppression;
use otpost::store::audit::{OUTBOX_MAX, PUBLISHING_LEASE};
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
    a_record_is_found_by_its_id_wherever_it_is(store).await;
    one_publisher_has_the_lease_until_it_asks_no_more(store).await;
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
    assert_eq!(
        outbox,
        AuditOutbox { records: all.to_vec(), length: 9, ..AuditOutbox::default() },
        "in the shared outbox"
    );
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
        AuditOutbox { records: json[..2].to_vec(), length: 5, ..AuditOutbox::default() }
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

async fn a_record_is_found_by_its_id_wherever_it_is(store: &dyn TimedStore) {
    let records: Vec<AuditRecord> = (0..200).map(|random| record(AuditAct::LookUser, random)).collect();
    for record in &records {
        store.record_act(record).await.expect("answers");
    }
    let holds = async |random: usize| store.holds_record(0, records[random].id()).await.expect("answers");
    assert_eq!([holds(0).await, holds(199).await], [true; 2], "also far behind the newest");
    store.remove_from_outbox(0, &[records[0].to_json()]).await.expect("answers");
    assert_eq!([holds(0).await, holds(199).await], [false, true]);
    take(store).await;
}

async fn one_publisher_has_the_lease_until_it_asks_no_more(store: &dyn TimedStore) {
    let at = START.plus(Duration::from_secs(3_600));
    let lease = async |publisher, after: Duration| {
        store.at(at.plus(after));
        store.lease_publishing(publisher).await.expect("answers")
    };
    let (second, over) = (Duration::from_secs(1), PUBLISHING_LEASE);
    assert_eq!([lease(1, second).await, lease(2, second).await], [true, false]);
    assert!(lease(1, second * 4).await, "it renews its own");
    assert!(!lease(2, second + over).await);
    assert!(lease(2, second * 4 + over).await, "the first one is gone");
    assert!(!lease(1, second * 4 + over).await);
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
async fn a_damaged_outbox_stops_no_stopping_act() {
    let (redis, store) = fresh();
    store.kill_switch().await.expect("answers");
    redis.replace("outbox", "SET", &[b"x"]);
    let on = record(AuditAct::KillSwitchOn, 1);
    store.set_kill_switch_recorded(Some("a test"), &on).await.expect("made without a record");
    assert!(store.kill_switch().await.expect("answers").is_some());
    let suppress = record(AuditAct::Suppress, 2);
    store.add_suppression_recorded(named(250), &MANUAL, &suppress).await.expect("made without a record");
    redis.delete("outbox");
    assert_eq!(store.read_outbox(0, false, 9).await.expect("answers").dropped, 2, "they are counted");
    // Nor does a count that cannot be read.
    redis.replace("outbox", "SET", &[b"x"]);
    redis.replace("outbox-dropped", "SET", &[b"many"]);
    store.set_kill_switch_recorded(Some("again"), &on).await.expect("made without a record");
    redis.delete("outbox");
    redis.delete("outbox-dropped");
}

/// Any client of Redis can write them.
#[tokio::test]
async fn entries_that_are_no_text_are_read_apart_and_can_be_removed() {
    let (redis, store) = fresh();
    store.kill_switch().await.expect("answers");
    let look = record(AuditAct::LookUser, 1);
    let foreign = [b"\xff\xfe".to_vec(), [b"\xff".as_slice(), &[b'x'; 70_000]].concat()];
    redis.replace("outbox", "RPUSH", &[&foreign[0], look.to_json().as_bytes(), &foreign[1]]);
    let outbox = store.read_outbox(0, false, 9).await.expect("answers");
    assert_eq!((outbox.length, &outbox.records), (3, &vec![look.to_json()]));
    assert!(outbox.unreadable == foreign);
    store.remove_unreadable(0, &foreign).await.expect("answers");
    assert_eq!(store.read_outbox(0, false, 9).await.expect("answers").length, 1);
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

/// While no process runs nothing is published, so a full outbox stays full.
#[tokio::test]
async fn a_full_outbox_is_no_obstacle_to_a_change_of_the_number_of_shards() {
    let redis = Redis::fresh();
    let store = redis.sharded(16);
    store.kill_switch().await.expect("answers");
    let full: Vec<String> =
        (0..OUTBOX_MAX).map(|random| record(AuditAct::LookUser, random).to_json()).collect();
    redis.replace("outbox", "RPUSH", &full.iter().map(String::as_bytes).collect::<Vec<_>>());
    let left = record(AuditAct::Suppress, OUTBOX_MAX).to_json();
    let () = redis.run(redis::cmd("RPUSH").arg(redis.in_shard(3, "outbox")).arg(&left));
    let change = Resharding { to: Shards::ONE, forget_limits: false, dry_run: false };
    let act = record(AuditAct::Reshard, OUTBOX_MAX + 1).about("to 1");
    let changed = store.reshard_recorded(&change, Some(&act)).await.expect("answers");
    assert!(matches!(changed, ReshardAnswer::Done { .. }), "{changed:?}");
    let outbox = redis.store().read_outbox(0, true, 2).await.expect("answers");
    assert_eq!((outbox.length, outbox.records), (OUTBOX_MAX + 2, vec![act.to_json(), left]));
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
