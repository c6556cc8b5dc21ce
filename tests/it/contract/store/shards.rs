//! More than one shard: the promises of every store, and what each shard has.

use std::collections::BTreeSet;
use std::time::Duration;

use otpost::domain::outcome::ErrorCode;
use otpost::domain::suppression::{ManualSuppression, NewSuppression, SuppressionTarget};
use otpost::store::redis::RedisStore;
use otpost::store::{
    Admission, AdmissionInput, CompletionAnswer, CompletionInput, KeyName, Refund, RequestState, Store as _,
    StoreError, StoreFault,
};

use super::{
    HOUR, START, TimedStore as _, admit, completion, failed, grant_and_complete, granted, keeps_its_promises,
    named, rejected, request_to,
};
use crate::real::Redis;

#[tokio::test]
async fn shards_keep_the_promises_of_every_store() {
    for shards in [16_u8, 0] {
        let redis = Redis::fresh();
        let store = redis.sharded(if shards == 0 { 256 } else { shards.into() });
        keeps_its_promises(&store).await;
        store.heartbeat(1, true).await.expect("answers");
        store.check_shared_data().await.expect("all is readable");
        let mut kinds = BTreeSet::new();
        for key in redis.key_names() {
            expect_right_tag(&redis, &key, |digest| if shards == 16 { digest >> 4 } else { digest });
            let Some(shown) = store.show(&KeyName::Bytes(key.clone())).await.expect("answers").pop() else {
                // A lease of a few seconds ends meanwhile.
                assert!(!redis.key_names().contains(&key), "{}", key.escape_ascii());
                continue;
            };
            assert!(shown.fields.is_some(), "{}: {:?}", shown.key, shown.kind);
            kinds.extend(shown.kind);
        }
        for kind in ["sends of a user", "suppressed countries", "last server", "recipient", "request"] {
            assert!(kinds.contains(kind), "{kind} of {kinds:?}");
        }
    }
}

/// Every digest after the letter of a key is in the shard that the tag names. The recipients of these tests repeat one byte.
fn expect_right_tag(redis: &Redis, key: &[u8], shard: impl Fn(u8) -> u8) {
    let shared = format!("{{{}}}:", redis.prefix);
    if let Some(name) = key.strip_prefix(shared.as_bytes()) {
        let known: [&[u8]; 11] = [
            b"kill",
            b"log-level",
            b"outbox-lease",
            b"workers",
            b"keys",
            b"primary",
            b"format",
            b"shards",
            b"countries",
            b"b",
            b"g",
        ];
        // All counts, holds, and jobs that redact messages are in common.
        let is_known = known.contains(&name) || matches!(name[0], b'x' | b'j' | b'z');
        assert!(is_known, "{}", name.escape_ascii());
        return;
    }
    let (tag, name) = key.split_at(shared.len() + 3);
    if matches!(name[0], b's' | b'v' | b'n' | b'm' | b'k' | b'u' | b'i' | b'w') && name.len() >= 17 {
        let expected = redis.in_shard(shard(name[1]), "");
        assert_eq!(tag, expected, "{}", key.escape_ascii());
    }
}

#[tokio::test]
async fn one_shard_has_the_keys_of_an_earlier_version() {
    let redis = Redis::fresh();
    granted(admit(&redis.store(), &request_to(1, "one")).await);
    let shared = format!("{{{}}}:", redis.prefix);
    assert!(redis.key_names().iter().all(|key| key.starts_with(shared.as_bytes())));
}

async fn suppress_country(store: &RedisStore, hours: Option<u32>) {
    let request = request_to(1, &format!("refused-{hours:?}"));
    store.at(START);
    let suppression = NewSuppression {
        target: SuppressionTarget::Country("NL"),
        provider_code: 60_410,
        duration: hours.map(|hours| hours * HOUR),
        masked: "+31*",
    };
    let outcome = failed(START);
    let input = CompletionInput {
        suppression: Some(suppression),
        ..completion(request.lease(), &outcome, Refund::FullAndCounted)
    };
    store.complete(&input).await.expect("answers");
}

async fn ask(store: &RedisStore, recipient: u8) -> Admission {
    let request = request_to(recipient, "dutch");
    store.admit(&AdmissionInput { country: Some("NL"), ..request.admit() }).await.expect("answers")
}

#[tokio::test]
async fn a_suppressed_country_is_known_after_a_heartbeat_and_to_a_new_process_at_once() {
    let redis = Redis::fresh();
    let (here, there) = (redis.sharded(16), redis.sharded(16));
    there.at(START);
    granted(ask(&there, 2).await);
    suppress_country(&here, Some(12)).await;
    suppress_country(&here, Some(1)).await;
    granted(ask(&there, 3).await);
    there.heartbeat(1, false).await.expect("answers");
    let new = redis.sharded(16);
    new.at(START);
    for (store, recipient) in [(&here, 4), (&there, 5), (&new, 6)] {
        let error = rejected(ask(store, recipient).await);
        assert_eq!((error.code, error.retry_after), (ErrorCode::Blocked, Some(12 * 3_600)), "{recipient}");
    }
    let later = START.plus(12 * HOUR);
    there.at(later);
    granted(ask(&there, 7).await);
    suppress_country(&here, None).await;
    there.heartbeat(1, false).await.expect("answers");
    assert_eq!(rejected(ask(&there, 8).await).retry_after, None);
}

#[tokio::test]
async fn a_late_or_repeated_completion_begins_no_suppression_of_a_country_again() {
    let redis = Redis::fresh();
    let store = redis.sharded(16);
    store.at(START);
    let request = request_to(1, "refused");
    granted(admit(&store, &request).await);
    let outcome = failed(START);
    let complete = async |owner: u64| {
        let owned = request.owned_by(owner);
        let target = SuppressionTarget::Country("NL");
        let suppression = NewSuppression {
            target,
            provider_code: 21_408,
            duration: Some(HOUR / 2),
            masked: "+57******4567",
        };
        let input = completion(owned.lease(), &outcome, Refund::None);
        store.complete(&CompletionInput { suppression: Some(suppression), ..input }).await.expect("answers")
    };
    assert_eq!(complete(2).await, CompletionAnswer::MayHaveBeenSent);
    granted(ask(&store, 2).await);
    assert_eq!(complete(1).await, CompletionAnswer::Recorded);
    assert_eq!(rejected(ask(&store, 3).await).retry_after, Some(1_800));
    store.at(START.plus(HOUR / 4));
    assert_eq!(complete(1).await, CompletionAnswer::Recorded, "its first answer was lost");
    assert_eq!(rejected(ask(&store, 4).await).retry_after, Some(900));
    store.at(START.plus(HOUR / 2));
    granted(ask(&store, 5).await);
    assert_eq!(complete(1).await, CompletionAnswer::Recorded);
    assert!(matches!(complete(2).await, CompletionAnswer::AlreadyCompleted(_)));
    granted(ask(&store, 6).await);
}

#[tokio::test]
async fn a_shard_on_a_new_server_may_have_lost_writes_and_no_other() {
    let redis = Redis::fresh();
    let (old, new) = (redis.sharded(16), redis.sharded(16));
    let (moved, stayed) = (named(0x2a), named(0x3a));
    for store in [&old, &new] {
        store.at(START);
        for recipient in [moved, stayed] {
            assert!(!store.may_have_lost_writes(&recipient).await);
        }
    }
    let primary = redis.in_shard(2, "primary");
    // A failover to a replica that has the key.
    let () = redis.run(redis::cmd("SET").arg(&primary).arg("0123456789abcdef 0"));
    let started = redis.sharded(16);
    started.at(START);
    for store in [&started, &old, &new] {
        assert!(store.may_have_lost_writes(&moved).await);
        assert!(!store.may_have_lost_writes(&stayed).await);
    }
    let later = START.plus(Duration::from_secs(600));
    for store in [&started, &old, &new] {
        store.at(later);
        assert!(!store.may_have_lost_writes(&moved).await, "for ten minutes");
    }
    // One that has lost it. A process that never knew another server writes it first.
    let () = redis.run(redis::cmd("DEL").arg(&primary));
    let started = redis.sharded(16);
    started.at(later);
    assert!(!started.may_have_lost_writes(&moved).await);
    let () = redis.run(redis::cmd("DEL").arg(&primary));
    assert!(old.may_have_lost_writes(&moved).await, "it has seen one");
    assert!(started.may_have_lost_writes(&moved).await);
    assert!(!old.may_have_lost_writes(&stayed).await);
}

#[tokio::test]
async fn heartbeats_check_the_server_of_every_shard_in_turn() {
    let redis = Redis::fresh();
    let store = redis.sharded(256);
    let primaries = || redis.key_names().into_iter().filter(|key| key.ends_with(b":primary")).count();
    // Heartbeats come four times a second, and a round takes five.
    let mut beats = tokio::time::interval(Duration::from_millis(250));
    for _ in 0..40 {
        beats.tick().await;
        store.heartbeat(1, false).await.expect("answers");
    }
    assert_eq!(primaries(), 257, "of each shard, and of what all share");
}

#[tokio::test]
async fn a_silent_shard_may_have_lost_writes() {
    crate::real::install_crypto();
    let shards = otpost::domain::shards::Shards::new(16).expect("a number of shards");
    let store = RedisStore::connect("redis://127.0.0.1:1", "test", shards).expect("a URL");
    assert!(store.may_have_lost_writes(&named(1)).await);
}

#[tokio::test]
async fn a_record_is_found_in_any_shard_by_the_request_id_alone() {
    let redis = Redis::fresh();
    let store = redis.sharded(256);
    store.at(START);
    grant_and_complete(&store, &request_to(0x11, "anywhere")).await;
    let found =
        async || store.request_record(&request_to(1, "anywhere").request, None).await.expect("answers");
    assert!(matches!(found().await.expect("known").state, RequestState::Completed(_)));
    granted(admit(&store, &request_to(0x99, "anywhere")).await);
    assert!(
        matches!(found().await.expect("known").state, RequestState::InProgress { .. }),
        "the one in progress"
    );
    let name = KeyName::Request(request_to(1, "anywhere").request, None);
    assert_eq!(store.show(&name).await.expect("answers").len(), 2);
}

#[tokio::test]
async fn suppressions_of_all_shards_are_listed_in_one_order() {
    let redis = Redis::fresh();
    let (store, memory) = (redis.sharded(256), super::MemoryStore::new(super::Clock::System));
    for store in [&store as &dyn super::TimedStore, &memory] {
        store.at(START);
        for number in 0..40_u8 {
            let masked = format!("+57**{number}");
            let duration = (number % 3 > 0).then(|| HOUR * u32::from(number % 5 + 1));
            let manual = ManualSuppression { masked: &masked, reason: "list", duration };
            store.add_suppression(named(number * 6), &manual).await.expect("answers");
        }
    }
    for count_max in [0, 7, 1_000] {
        let expected = super::Store::suppressions(&memory, count_max).await.expect("answers");
        assert_eq!(store.suppressions(count_max).await.expect("answers"), expected);
    }
}

#[tokio::test]
async fn overdue_receipts_come_from_all_shards_no_more_than_asked_for() {
    let redis = Redis::fresh();
    let store = redis.sharded(256);
    store.at(START);
    for recipient in 0..50 {
        let request = request_to(recipient, "polled");
        granted(admit(&store, &request).await);
        let outcome = super::sent(START);
        let input = CompletionInput {
            poll_receipt_after: Some(Duration::from_secs(30)),
            ..completion(request.lease(), &outcome, Refund::None)
        };
        store.complete(&input).await.expect("answers");
    }
    store.at(START.plus(Duration::from_secs(60)));
    let mut recipients = BTreeSet::new();
    for expected in [20, 20, 10, 0] {
        let overdue = store.overdue_receipts(HOUR, 20).await.expect("answers");
        assert_eq!(overdue.len(), expected);
        recipients.extend(overdue.into_iter().map(|overdue| overdue.recipient));
    }
    assert_eq!(recipients.len(), 50);
}

#[tokio::test]
async fn damage_in_what_a_shard_shares_stops_only_that_shard() {
    let redis = Redis::fresh();
    let store = redis.sharded(16);
    store.at(START);
    let () = redis.run(redis::cmd("SET").arg(redis.in_shard(1, "suppressed")).arg("damaged"));
    let manual = ManualSuppression { masked: "+57**", reason: "", duration: None };
    let error = store.add_suppression(named(0x11), &manual).await.expect_err("it cannot be read");
    assert_eq!(error, StoreError::Unavailable(StoreFault::ShardKey("suppressed".to_owned())));
    assert!(!error.is_permanent(), "its requests wait");
    store.add_suppression(named(0x21), &manual).await.expect("another shard");
    store.heartbeat(1, false).await.expect("the gate stays open");
    assert_eq!(store.check_shared_data().await, Err(error));
    assert!(matches!(admit(&store, &request_to(0x12, "same")).await, Admission::Granted(_)));
}
