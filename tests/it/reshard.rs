//! `otpost store reshard`: the number of shards changes while nothing runs, and only suppressions move.

use std::io::Read as _;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use otpost::clock::Clock;
use otpost::domain::conversion::{Bucket, BucketWidth, CodeCounts, Dimension};
use otpost::domain::conversion_batch::ConversionBatch;
use otpost::domain::defence_list::{NewOverride, OverrideAction, OverrideTarget};
use otpost::domain::key_check::{KeyCheck, KeyFingerprint, KeyUse};
use otpost::domain::keyed_digest::Digest16;
use otpost::domain::limit::Limits;
use otpost::domain::outcome::Status;
use otpost::domain::receipt::DeliveryStatus;
use otpost::domain::shards::Shards;
use otpost::domain::suppression::{ManualSuppression, NewSuppression, SuppressionEntry, SuppressionTarget};
use otpost::domain::time::UnixMillis;
use otpost::store::forget::{ForgetStore as _, Listing};
use otpost::store::redis::RedisStore;
use otpost::store::resharding::{ReshardAnswer, Resharding};
use otpost::store::{CompletionInput, DefenceStore as _, NewReceipt, Refund, Store, StoreError};
use sha2::{Digest as _, Sha256};

use crate::contract::store::conversion::entry;
use crate::contract::store::{named, request_to, sent};
use crate::harness::{ALICE, RECIPIENT_KEY};
use crate::real::{Redis, redis_url};
use crate::why::{otpost, rows, said, seed};

fn shards(count: u16) -> Shards {
    Shards::new(count).expect("1, 16 or 256")
}

fn reshard(redis: &Redis, arguments: &[&str], exit: i32) -> (String, String) {
    said(&otpost(redis, &[&["store", "reshard"], arguments].concat()), exit)
}

async fn suppress(store: &dyn Store, recipient: Digest16, hours: Option<u64>) {
    let duration = hours.map(|hours| Duration::from_secs(3_600 * hours));
    let suppression = ManualSuppression { masked: "+57******4567", reason: "asked", duration };
    store.add_suppression(recipient, &suppression).await.expect("answers");
}

async fn suppressions(store: &RedisStore) -> Vec<SuppressionEntry> {
    store.suppressions(1_000).await.expect("answers")
}

/// The keys that are in a shard, by tag.
fn tags(redis: &Redis) -> Vec<String> {
    let names = redis.key_names().into_iter().filter(|name| !name.ends_with(b":format"));
    let tag = |name: Vec<u8>| {
        let end = name.iter().position(|byte| *byte == b'}').expect("every key has a tag");
        String::from_utf8_lossy(&name[1..end]).replace(&redis.prefix, "P")
    };
    let mut tags: Vec<String> = names.map(tag).collect();
    tags.sort_unstable();
    tags.dedup();
    tags
}

fn refused(answer: Result<impl Sized, StoreError>) -> String {
    match answer {
        Err(StoreError::Unavailable(fault)) => fault.to_string(),
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("it is not refused"),
    }
}

async fn deny(store: &RedisStore) {
    let target = OverrideTarget::parse("+37120").expect("digits");
    let duration = Duration::from_secs(3_600);
    let new = NewOverride { action: OverrideAction::Deny, duration, shown: "+37120", reason: "test" };
    store.set_defence_override(&target, Some(&new)).await.expect("answers");
}

#[tokio::test]
async fn another_number_than_the_data_has_stops_the_start() {
    for (stored, other) in [(1, 16), (16, 1), (16, 256), (256, 16)] {
        let redis = Redis::fresh();
        let store = redis.sharded_store(shards(stored));
        store.heartbeat(1, true).await.expect("answers");
        let format = if stored == 1 { "2 0".to_owned() } else { format!("2 0 {stored}") };
        assert_eq!(redis.read("format"), format.as_bytes());
        let reason = refused(redis.sharded_store(shards(other)).kill_switch().await);
        assert_eq!(
            reason,
            format!(
                "REDIS_SHARDS is {other}, and REDIS_PREFIX holds data for {stored}: set it to {stored}, or stop all \
                 processes and run `otpost store reshard {other}`"
            )
        );
        redis.sharded_store(shards(stored)).heartbeat(2, true).await.expect("the same number");
    }
}

#[tokio::test]
async fn a_running_process_stops_when_the_number_changes() {
    let redis = Redis::fresh();
    let store = redis.store();
    store.heartbeat(1, true).await.expect("answers");
    redis.replace("format", "SET", &[b"2 0 1>16"]);
    store.heartbeat(1, true).await.expect_err("it opens again");
    let reason = refused(store.heartbeat(1, true).await);
    assert_eq!(reason, "a change from 1 to 16 shards is not finished: run `otpost store reshard 16`");
    redis.replace("format", "SET", &[b"2 0 16"]);
    assert!(refused(store.heartbeat(1, true).await).starts_with("REDIS_SHARDS is 1, and"));
}

#[tokio::test]
async fn data_of_an_earlier_version_starts_with_one_shard_only() {
    let of_recipient = format!("{}:suppressed", named(1));
    let old: [(&str, &str, &[&[u8]]); 4] = [
        (&of_recipient, "SET", &[b"21610 -"]),
        ("receipts", "ZADD", &[b"1", b"x"]),
        ("country:CO", "SET", &[b"30007 -"]),
        ("server", "SET", &[b"0123 0", b"PX", b"80000000"]),
    ];
    for (key, command, arguments) in old {
        let redis = Redis::fresh();
        redis.replace(key, command, arguments);
        let reason = refused(redis.sharded_store(shards(16)).kill_switch().await);
        assert!(
            reason.starts_with("REDIS_PREFIX holds data of an earlier version: start once with"),
            "{reason}"
        );
        assert!(redis.read_if_any("format").is_none(), "{key}");
    }
}

#[tokio::test]
async fn suppressions_and_the_kill_switch_move_and_nothing_else_stays() {
    let redis = Redis::fresh();
    let store = redis.store();
    for number in [0_u8, 0x05, 0x0f, 0x10, 0x5a, 0x80, 0xff] {
        suppress(&store, named(number), (number % 2 == 0).then_some(5)).await;
    }
    suppress_country(&store).await;
    store.set_kill_switch(Some("a test")).await.expect("answers");
    seed(&store, ALICE, "orders/1", Status::Sent, None).await;
    let at = Clock::System.now();
    let entries = vec![entry(at, Dimension::Channel, "sms", 3, 2)];
    store
        .add_conversion(&ConversionBatch { writer: 1, sequence: 1, entries, spend: Vec::new() })
        .await
        .expect("answers");
    store.check_keys(&[key()]).await.expect("answers");
    store.add_redactions(named(9), &["SM1".to_owned()], Listing::Complete).await.expect("answers");
    deny(&store).await;
    let before = suppressions(&store).await;
    assert_eq!(before.len(), 7);

    let (out, _) = reshard(&redis, &["16", "--forget-limits"], 0);
    assert!(out.starts_with("shards: 1 -> 16\nmoved: 7 suppressions\nforgotten: limits of 2 "), "{out}");
    assert!(out.ends_with("set REDIS_SHARDS=16 for every process before the start\n"), "{out}");
    assert_eq!(tags(&redis), ["P", "P:00", "P:01", "P:05", "P:08", "P:0f"]);
    assert_eq!(redis.read("format"), b"2 0 16");

    let (out, _) = reshard(&redis, &["256"], 0);
    assert!(out.starts_with("shards: 16 -> 256\nmoved: 7 suppressions\nforgotten: limits of 0 "), "{out}");
    assert_eq!(tags(&redis), ["P", "P:00", "P:05", "P:0f", "P:10", "P:5a", "P:80", "P:ff"]);

    reshard(&redis, &["1"], 0);
    assert_eq!(tags(&redis), ["P"]);
    let after = redis.store();
    assert_eq!(suppressions(&after).await, before, "with their notes and ends");
    assert_eq!(after.kill_switch().await.expect("answers").expect("on").reason, "a test");
    let hour = [Bucket::of(BucketWidth::Hour, at)];
    let counts = after.conversion(Dimension::Channel, &hour).await.expect("answers");
    assert_eq!(counts[0].counts, CodeCounts { sent: 3, verified: 2 }, "counts stay");
    assert_eq!(after.redaction_jobs().await.expect("answers")[0].left(), 1, "texts are still to be deleted");
    assert_eq!(after.recorded_keys().await.expect("answers"), [key()], "a wrong key is still noticed");
    assert_eq!(after.defence(&[]).await.expect("answers").list.overrides.len(), 1, "overrides stay");
    let country =
        rows(&otpost(&redis, &["store", "show", "--json", &format!("{{{}}}:cCO", redis.prefix)]), 0);
    assert_eq!(country[0]["fields"]["provider_code"], 30_007);
    let (_, err) = reshard(&redis, &["1"], 0);
    assert_eq!(err, "otpost: there is no data for another number of shards than 1\n");
}

fn key() -> KeyCheck {
    KeyCheck { key_use: KeyUse::Recipient, kid: String::new(), fingerprint: KeyFingerprint([7; 8]) }
}

async fn suppress_country(store: &RedisStore) {
    let request = request_to(9, "orders/9");
    let input = request.admit();
    store.admit(&input).await.expect("answers");
    let suppression = NewSuppression {
        target: SuppressionTarget::Country("CO"),
        masked: "+57******4567",
        provider_code: 30_007,
        duration: Some(Duration::from_secs(3_600)),
    };
    let end = CompletionInput {
        lease: input.lease,
        outcome: &sent(UnixMillis(1)),
        refund: Refund::None,
        limits: &Limits::default(),
        found_by_lookup: false,
        message_is_unnamed: false,
        suppression: Some(suppression),
        poll_receipt_after: None,
        spent: None,
    };
    store.complete(&end).await.expect("answers");
}

#[tokio::test]
async fn it_is_refused_while_something_would_be_lost_and_a_dry_run_changes_nothing() {
    let redis = Redis::fresh();
    let store = redis.store();
    suppress(&store, named(1), None).await;
    store.heartbeat(1, false).await.expect("answers");
    let (_, err) = reshard(&redis, &["16"], 3);
    assert!(err.starts_with("otpost: a process is running"), "{err}");
    redis.delete("primary");

    let live = request_to(2, "orders/2");
    store.admit(&live.admit()).await.expect("answers");
    let (_, err) = reshard(&redis, &["16", "--forget-limits"], 3);
    assert!(err.starts_with("otpost: requests in progress: 1. "), "{err}");
    seed(&store, ALICE, "orders/1", Status::Sent, None).await;
    redis.delete([b"q".as_slice(), &request_key("orders/2")].concat());

    let (_, err) = reshard(&redis, &["16"], 3);
    assert!(err.contains("limits of 2 recipients, users, IPs and networks; 2 codes; 1 marks"), "{err}");
    let before = redis.copy();
    let row = rows(&otpost(&redis, &["store", "reshard", "16", "--forget-limits", "--dry-run", "--json"]), 0);
    assert_eq!((&row[0]["suppressions"], &row[0]["dry_run"]), (&1.into(), &true.into()));
    let values = |copy: Vec<(Vec<u8>, i64, Vec<u8>)>| -> Vec<_> {
        let mut values: Vec<_> = copy.into_iter().map(|(key, _, value)| (key, value)).collect();
        values.sort_unstable();
        values
    };
    assert_eq!(values(before), values(redis.copy()));

    let damaged = [b"s".as_slice(), &named(1).bytes()].concat();
    redis.replace(&damaged, "SET", &[b"x"]);
    let (_, err) = reshard(&redis, &["16", "--forget-limits"], 3);
    assert!(err.starts_with("otpost: values that cannot be read: 1. "), "{err}");
    assert_eq!(redis.read("format"), b"2 0");
}

fn request_key(id: &str) -> Vec<u8> {
    [b"h".as_slice(), &Sha256::digest(id)[..16]].concat()
}

#[tokio::test]
async fn an_unfinished_change_is_finished_and_stale_copies_do_not_come_back() {
    let redis = Redis::fresh();
    let store = redis.store();
    suppress(&store, named(1), None).await;
    reshard(&redis, &["16"], 0);
    // The change back was interrupted; an earlier one has left a value in the target.
    redis.replace("format", "SET", &[b"2 0 16>1"]);
    redis.replace([b"s".as_slice(), &named(2).bytes()].concat(), "SET", &[b"stale"]);
    let (_, err) = reshard(&redis, &["16"], 3);
    assert!(err.contains("a change from 16 to 1 shards is not finished"), "{err}");
    reshard(&redis, &["1"], 0);
    assert_eq!(tags(&redis), ["P"]);
    assert_eq!(suppressions(&redis.store()).await.len(), 1);
    // What an interrupted deletion left is deleted by the same command.
    redis.write_in_shard("00", "left");
    reshard(&redis, &["1"], 0);
    assert_eq!(tags(&redis), ["P"]);
}

#[tokio::test]
async fn a_change_that_is_killed_again_and_again_loses_no_suppression() {
    let redis = Redis::fresh();
    let store = redis.store();
    for number in 0..=255 {
        suppress(&store, named(number), None).await;
    }
    let before = suppressions(&store).await;
    for (to, is_last) in [(256, false), (16, false), (1, true)] {
        let mut kills = 0;
        loop {
            let mut child = Command::new(env!("CARGO_BIN_EXE_otpost"))
                .args(["store", "reshard", &to.to_string()])
                .env_clear()
                .env("REDIS_URL", redis_url())
                .env("REDIS_PREFIX", &redis.prefix)
                .env("OTP_RECIPIENT_KEY", BASE64.encode(RECIPIENT_KEY))
                .stdout(Stdio::piped())
                .spawn()
                .expect("the binary starts");
            let mut output = child.stdout.take().expect("piped");
            let (ended, ends) = mpsc::channel();
            thread::spawn(move || {
                let _ = output.read_to_end(&mut Vec::new());
                let _ = ended.send(());
            });
            // Each attempt has a little longer, so one of them ends.
            if ends.recv_timeout(Duration::from_millis(20 + 15 * kills * kills)).is_ok() {
                assert!(child.wait().expect("it was started").success());
                break;
            }
            child.kill().expect("it was started");
            child.wait().expect("it was started");
            kills += 1;
        }
        if is_last {
            assert_eq!(suppressions(&redis.store()).await, before);
        }
    }
}

#[tokio::test]
async fn only_receipts_that_are_still_awaited_count() {
    for from in [1, 16] {
        let redis = Redis::fresh();
        let store = redis.sharded_store(shards(from));
        for (nth, id) in ["orders/1", "orders/2", "orders/3"].into_iter().enumerate() {
            let request = request_to(u8::try_from(nth).expect("few"), id);
            let input = request.admit();
            store.admit(&input).await.expect("answers");
            let end = CompletionInput {
                lease: input.lease,
                outcome: &sent(UnixMillis(1)),
                refund: Refund::None,
                limits: &Limits::default(),
                found_by_lookup: false,
                message_is_unnamed: false,
                suppression: None,
                poll_receipt_after: Some(Duration::from_secs(600)),
                spent: None,
            };
            store.complete(&end).await.expect("answers");
            let receipt = NewReceipt {
                recipient: input.lease.subject.recipient,
                request_id: &request.request,
                message_id: "SM1",
                status: DeliveryStatus::Delivered,
                provider_code: None,
                published: true,
                suppression: None,
            };
            if nth < 2 {
                store.record_receipt(&receipt).await.expect("answers");
            }
        }
        let to = shards(if from == 1 { 16 } else { 1 });
        let change = Resharding { to, forget_limits: true, dry_run: true };
        match store.reshard(&change).await.expect("answers") {
            ReshardAnswer::Done { forgotten, .. } => assert_eq!(forgotten.receipts, 1, "from {from}"),
            other => panic!("{other:?}"),
        }
    }
}
