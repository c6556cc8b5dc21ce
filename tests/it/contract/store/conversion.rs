//! Counts of sent and verified codes: each batch once, in its buckets, within bounds of time and number.

use std::time::Duration;

use otpost::domain::conversion::{
    Bucket, BucketWidth, CodeCounts, ConversionEntry, Dimension, NAMES_MAX, OTHER,
};
use otpost::domain::conversion_batch::ConversionBatch;
use otpost::domain::shards::Shards;
use otpost::domain::time::UnixMillis;
use otpost::store::redis::RedisStore;
use otpost::store::{Damaged, Store as _, StoreError};

use super::cost::Server;
use super::{START, TimedStore};
use crate::real::Redis;

const DAY: Duration = Duration::from_secs(86_400);
const FIVE_MINUTES: Duration = Duration::from_secs(300);

pub(super) async fn keeps_its_promises(store: &dyn TimedStore) {
    a_batch_counts_in_its_five_minutes_and_in_its_hour(store).await;
    a_repeated_batch_counts_once(store).await;
    a_bucket_ends_with_its_time(store).await;
    a_clock_that_is_ahead_counts_now(store).await;
    the_names_of_a_part_are_bounded_and_those_with_most_sends_stay(store).await;
    others_have_no_name_and_take_no_room(store).await;
}

pub fn entry(at: UnixMillis, dimension: Dimension, name: &str, sent: u32, verified: u32) -> ConversionEntry {
    let bucket = Bucket::of(BucketWidth::FiveMinutes, at).number;
    ConversionEntry { bucket, dimension, name: name.to_owned(), counts: CodeCounts { sent, verified } }
}

/// Each test has writers of its own.
async fn add(store: &dyn TimedStore, writer: u64, sequence: u32, entries: Vec<ConversionEntry>) {
    store
        .add_conversion(&ConversionBatch { writer, sequence, entries, spend: Vec::new() })
        .await
        .expect("answers");
}

/// The counts of the narrow and of the wide bucket of a time.
async fn read(store: &dyn TimedStore, at: UnixMillis, dimension: Dimension) -> [Vec<(String, u32, u32)>; 2] {
    let mut read = [Vec::new(), Vec::new()];
    for (counts, width) in read.iter_mut().zip(BucketWidth::ALL) {
        let stored = store.conversion(dimension, &[Bucket::of(width, at)]).await.expect("answers");
        *counts = stored.into_iter().map(|of| (of.name, of.counts.sent, of.counts.verified)).collect();
    }
    read
}

fn rows(rows: &[(&str, u32, u32)]) -> Vec<(String, u32, u32)> {
    rows.iter().map(|(name, sent, verified)| ((*name).to_owned(), *sent, *verified)).collect()
}

async fn a_batch_counts_in_its_five_minutes_and_in_its_hour(store: &dyn TimedStore) {
    let (first, second) = (START, START.plus(FIVE_MINUTES));
    store.at(second);
    let (country, prefix) = (Dimension::Country, Dimension::Prefix);
    add(
        store,
        1,
        1,
        vec![
            entry(first, country, "CO", 3, 1),
            entry(second, country, "CO", 2, 0),
            entry(second, country, "MX", 1, 1),
            entry(second, prefix, "+57300", 2, 1),
        ],
    )
    .await;
    add(store, 2, 1, vec![entry(first, country, "CO", 0, 1)]).await;
    let hour = rows(&[("CO", 5, 2), ("MX", 1, 1)]);
    assert_eq!(read(store, first, country).await, [rows(&[("CO", 3, 2)]), hour.clone()]);
    assert_eq!(read(store, second, country).await, [rows(&[("CO", 2, 0), ("MX", 1, 1)]), hour]);
    let of_prefix = rows(&[("+57300", 2, 1)]);
    assert_eq!(read(store, second, prefix).await, [of_prefix.clone(), of_prefix]);
    let both = [first, second].map(|at| Bucket::of(BucketWidth::FiveMinutes, at));
    let stored = store.conversion(country, &both).await.expect("answers");
    let in_order: Vec<(Bucket, &str)> = stored.iter().map(|of| (of.bucket, of.name.as_str())).collect();
    assert_eq!(in_order, [(both[0], "CO"), (both[1], "CO"), (both[1], "MX")]);
}

async fn a_repeated_batch_counts_once(store: &dyn TimedStore) {
    let at = START.plus(30 * DAY);
    store.at(at);
    let of = |sent| vec![entry(at, Dimension::Channel, "sms", sent, 0)];
    add(store, 10, 1, of(1)).await;
    add(store, 10, 1, of(1)).await;
    add(store, 10, 3, of(10)).await;
    add(store, 10, 2, of(100)).await;
    add(store, 11, 1, of(1_000)).await;
    let counted = rows(&[("sms", 1_011, 0)]);
    assert_eq!(read(store, at, Dimension::Channel).await, [counted.clone(), counted]);
}

async fn a_bucket_ends_with_its_time(store: &dyn TimedStore) {
    let at = START.plus(60 * DAY);
    store.at(at);
    let of = |sent| vec![entry(at, Dimension::Channel, "sms", sent, 0)];
    add(store, 20, 1, of(1)).await;
    let last = Duration::from_millis(1);
    let [narrow, hour] = BucketWidth::ALL.map(|width| Bucket::of(width, at).kept_until());
    let before = |end: UnixMillis| UnixMillis(end.0 - 1);
    let counted = rows(&[("sms", 1, 0)]);
    store.at(before(narrow));
    assert_eq!(read(store, at, Dimension::Channel).await, [counted.clone(), counted.clone()]);
    store.at(before(narrow).plus(last));
    assert_eq!(read(store, at, Dimension::Channel).await, [Vec::new(), counted]);
    // A code of that time that is verified now counts in its hour alone.
    add(store, 20, 2, vec![entry(at, Dimension::Channel, "sms", 0, 1)]).await;
    let counted = rows(&[("sms", 1, 1)]);
    store.at(before(hour));
    assert_eq!(read(store, at, Dimension::Channel).await, [Vec::new(), counted]);
    store.at(hour);
    add(store, 20, 3, of(1)).await;
    assert_eq!(read(store, at, Dimension::Channel).await, [Vec::new(), Vec::new()]);
}

async fn a_clock_that_is_ahead_counts_now(store: &dyn TimedStore) {
    let at = START.plus(120 * DAY);
    store.at(at);
    add(store, 30, 1, vec![entry(at.plus(90 * DAY), Dimension::Channel, "sms", 1, 0)]).await;
    let counted = rows(&[("sms", 1, 0)]);
    assert_eq!(read(store, at, Dimension::Channel).await, [counted.clone(), counted]);
}

/// Names of one part.
fn of_one_part(dimension: Dimension) -> impl Iterator<Item = String> {
    let part = dimension.part("+573001000");
    (1_000..).map(|block| format!("+57300{block}")).filter(move |name| dimension.part(name) == part)
}

async fn the_names_of_a_part_are_bounded_and_those_with_most_sends_stay(store: &dyn TimedStore) {
    let at = START.plus(150 * DAY);
    store.at(at);
    let block = Dimension::Block;
    let names: Vec<String> = of_one_part(block).take(NAMES_MAX + 40).collect();
    let one = |name: &String, sent| entry(at, block, name, sent, 0);
    let (known, new) = names.split_at(NAMES_MAX);
    // The third one has the most, all others one.
    add(store, 40, 1, known.iter().map(|name| one(name, 1)).collect()).await;
    add(store, 40, 2, vec![one(&known[2], 8)]).await;
    // Of those with one send the oldest make room.
    add(store, 40, 3, vec![one(&new[0], 1), one(&new[1], 4), one(&known[1], 0)]).await;
    for counts in read(store, at, block).await {
        let of = |name: &str| counts.iter().find(|(known, ..)| known == name).map(|(_, sent, _)| *sent);
        assert_eq!(counts.len(), NAMES_MAX + 1);
        let expected =
            [(OTHER, 2), (&*known[2], 9), (&*known[1], 1), (&*new[0], 1), (&*new[1], 4), (&*known[4], 1)];
        for (name, sent) in expected {
            assert_eq!(of(name), Some(sent), "{name}");
        }
        assert_eq!([of(&known[0]), of(&known[3])], [None, None]);
    }
    // More new names than there is room for, and the send of one that lost its place.
    let mut batch: Vec<ConversionEntry> = names.iter().skip(20).map(|name| one(name, 2)).collect();
    batch.push(entry(at, block, &known[0], 0, 1));
    add(store, 40, 4, batch).await;
    for counts in read(store, at, block).await {
        assert_eq!(counts.len(), NAMES_MAX + 1);
        let sent: u32 = counts.iter().map(|(_, sent, _)| sent).sum();
        let verified: u32 = counts.iter().map(|(.., verified)| verified).sum();
        let all = u32::try_from(NAMES_MAX).expect("small") + 8 + 5 + 2 * 120;
        assert_eq!((sent, verified), (all, 1), "nothing is lost");
    }
}

async fn others_have_no_name_and_take_no_room(store: &dyn TimedStore) {
    let at = START.plus(180 * DAY);
    store.at(at);
    let channel = Dimension::Channel;
    let names: Vec<String> = (0..NAMES_MAX).map(|number| format!("n{number:03}")).collect();
    let mut batch = vec![entry(at, channel, OTHER, 5, 2)];
    batch.extend(names.iter().map(|name| entry(at, channel, name, 1, 0)));
    add(store, 50, 1, batch).await;
    for counts in read(store, at, channel).await {
        assert_eq!(counts.len(), NAMES_MAX + 1);
        assert_eq!(counts[0], (OTHER.to_owned(), 5, 2));
    }
}

fn blocks(batch: u32, at: UnixMillis) -> ConversionBatch {
    let name = |block: u32| format!("+57300{:05}", batch * 500 + block);
    let entries = (0..500).map(|block| entry(at, Dimension::Block, &name(block), 1, 0)).collect();
    ConversionBatch { writer: 1, sequence: batch + 1, entries, spend: Vec::new() }
}

/// A thousand codes over 60,000 blocks of 100 prefixes, in a fixed order without a pattern.
fn thousand(batch: u32, at: UnixMillis) -> ConversionBatch {
    let block = |code: u32| (batch * 1_000 + code).wrapping_mul(2_654_435_761) % 60_000;
    let mut entries = vec![
        entry(at, Dimension::Channel, "sms", 1_000, 700),
        entry(at, Dimension::Country, "CO", 990, 690),
        entry(at, Dimension::Country, "MX", 10, 10),
        entry(at, Dimension::Provider, "twilio", 1_000, 700),
        entry(at, Dimension::Sender, "twilio 1", 500, 350),
        entry(at, Dimension::Sender, "twilio 2", 500, 350),
    ];
    entries
        .extend((0..100).map(|prefix| entry(at, Dimension::Prefix, &format!("+57{}", 300 + prefix), 10, 7)));
    let of_block = |code| {
        let block = block(code);
        entry(
            at,
            Dimension::Block,
            &format!("+57{}{:04}", 300 + block / 600, block % 600),
            1,
            u32::from(code % 10 < 7),
        )
    };
    entries.extend((0..1_000).map(of_block));
    ConversionBatch { writer: 1, sequence: batch + 1, entries, spend: Vec::new() }
}

/// A million codes a day are 42,000 in an hour.
#[tokio::test]
async fn an_hour_of_a_million_codes_a_day_stays_within_its_bars() {
    let Some(server) = Server::start() else {
        eprintln!("not measured: redis-server is not installed");
        return;
    };
    let mut connection = server.connection();
    let store = RedisStore::connect(&server.url, "otpost", Shards::ONE).expect("a URL");
    let at = |batch: u64| START.plus(Duration::from_secs(batch * 3_600 / 42));
    for batch in 0..42 {
        store.at(at(batch.into()));
        store.add_conversion(&thousand(batch, at(batch.into()))).await.expect("answers");
    }
    let (hour, hour_keys) = memory(&mut connection, "*:xh*");
    let (narrow, narrow_keys) = memory(&mut connection, "*:xm*");
    let stats: String = redis::cmd("INFO").arg("commandstats").query(&mut connection).expect("Redis answers");
    let calls = stats.lines().find(|line| line.starts_with("cmdstat_fcall:"));
    println!(
        "the hour: {hour} bytes in {hour_keys} keys; its narrow buckets: {narrow} bytes in {narrow_keys} keys; {calls:?}"
    );
    assert!((50_000..=160_000).contains(&hour), "{hour} bytes");
    assert!((50_000..=1_600_000).contains(&narrow), "{narrow} bytes");
    let wide = Bucket::of(BucketWidth::Hour, START);
    for dimension in Dimension::ALL {
        let stored = store.conversion(dimension, &[wide]).await.expect("answers");
        let sum = |of: fn(&CodeCounts) -> u32| stored.iter().map(|stored| of(&stored.counts)).sum::<u32>();
        let sums = (sum(|counts| counts.sent), sum(|counts| counts.verified));
        assert_eq!(sums, (42_000, 29_400), "{dimension:?}: no code is lost");
    }
}

/// The bytes of all keys of counts, and their number.
fn memory(connection: &mut redis::Connection, pattern: &str) -> (u64, usize) {
    let keys: Vec<Vec<u8>> = redis::cmd("KEYS").arg(pattern).query(connection).expect("Redis answers");
    let usage = |key: &Vec<u8>| -> u64 {
        redis::cmd("MEMORY")
            .arg("USAGE")
            .arg(key)
            .arg("SAMPLES")
            .arg(0)
            .query(connection)
            .expect("Redis answers")
    };
    (keys.iter().map(usage).sum(), keys.len())
}

/// An hour with more blocks than are kept: the most that an hour can take. `docs/conversion.md` has the figure for 15 days.
#[tokio::test]
async fn the_blocks_of_an_hour_stay_within_their_bars() {
    let Some(server) = Server::start() else {
        eprintln!("not measured: redis-server is not installed");
        return;
    };
    let mut connection = server.connection();
    let store = RedisStore::connect(&server.url, "otpost", Shards::ONE).expect("a URL");
    store.at(START);
    for batch in 0..40 {
        store.add_conversion(&blocks(batch, START)).await.expect("answers");
    }
    let hour = Bucket::of(BucketWidth::Hour, START);
    let stored = store.conversion(Dimension::Block, &[hour]).await.expect("answers");
    let names = stored.iter().filter(|of| of.name != OTHER).count();
    assert_eq!(names, 5_000);
    assert_eq!(stored.iter().map(|of| of.counts.sent).sum::<u32>(), 20_000);
    let (bytes, keys) = memory(&mut connection, "*:xh*b*");
    println!("an hour: {names} blocks in {keys} keys, {bytes} bytes");
    assert!((50_000..=150_000).contains(&bytes), "{bytes} bytes");
    let encodings: Vec<String> = (0..50)
        .map(|part| {
            let key = format!("{{otpost}}:xh{}b{part}", hour.number);
            redis::cmd("OBJECT").arg("ENCODING").arg(key).query(&mut connection).expect("Redis answers")
        })
        .collect();
    assert!(encodings.iter().all(|encoding| encoding == "listpack"), "{encodings:?}");
}

#[tokio::test]
async fn a_batch_is_one_call_and_every_key_of_it_ends() {
    let redis = Redis::fresh();
    let store = redis.store();
    store.add_conversion(&blocks(0, now())).await.expect("answers");
    redis.expect_only_these_without_a_ttl(&["format"]);
}

fn now() -> UnixMillis {
    otpost::clock::Clock::System.now()
}

#[tokio::test]
async fn all_processes_of_shards_share_one_count() {
    let redis = Redis::fresh();
    let at = now();
    for writer in 0..3 {
        let entries = vec![entry(at, Dimension::Channel, "sms", 1, 0)];
        let batch = ConversionBatch { writer, sequence: 1, entries, spend: Vec::new() };
        redis.sharded(16).add_conversion(&batch).await.expect("answers");
    }
    let hour = [Bucket::of(BucketWidth::Hour, at)];
    let stored = redis.sharded(16).conversion(Dimension::Channel, &hour).await.expect("answers");
    assert_eq!(stored[0].counts.sent, 3);
}

#[tokio::test]
async fn a_damaged_count_is_named_and_stops_no_request() {
    let redis = Redis::fresh();
    let store = redis.store();
    let at = now();
    let batch = |sequence| ConversionBatch {
        writer: 1,
        sequence,
        entries: vec![entry(at, Dimension::Channel, "sms", 1, 0)],
        spend: Vec::new(),
    };
    store.add_conversion(&batch(1)).await.expect("answers");
    let hour = Bucket::of(BucketWidth::Hour, at);
    let key = format!("xh{}c0", hour.number);
    let unreadable = |step| Err(StoreError::Unreadable { damaged: Damaged::Subject("conversion"), step });
    for damage in ["a string", "a short count"] {
        match damage {
            "a string" => redis.replace(&key, "SET", &[b"x"]),
            _ => redis.replace(&key, "HSET", &[b"sms", b"1234567"]),
        }
        assert_eq!(
            store.conversion(Dimension::Channel, &[hour]).await.map(drop),
            unreadable("conversion"),
            "{damage}"
        );
        assert_eq!(store.add_conversion(&batch(2)).await, unreadable("add_conversion"), "{damage}");
        store.heartbeat(1, true).await.expect("answers");
        super::granted(
            super::admit(
                &store,
                &super::request_to(if damage == "a string" { 1 } else { 2 }, &damage.replace(" ", "-")),
            )
            .await,
        );
        redis.delete(&key);
        redis.delete("xw");
    }
    store.add_conversion(&batch(3)).await.expect("it works again");
}

#[tokio::test]
async fn a_batch_that_fails_at_one_part_is_added_whole_when_it_is_repeated() {
    let redis = Redis::fresh();
    let store = redis.store();
    let at = now();
    let entries =
        vec![entry(at, Dimension::Channel, "sms", 1, 0), entry(at, Dimension::Provider, "twilio", 1, 0)];
    let batch = ConversionBatch { writer: 1, sequence: 1, entries, spend: Vec::new() };
    let hour = Bucket::of(BucketWidth::Hour, at);
    let provider = format!("xh{}{}0", hour.number, Dimension::Provider.letter());
    redis.replace(&provider, "SET", &[b"x"]);
    store.add_conversion(&batch).await.expect_err("a key of another type");
    redis.delete(&provider);
    for _ in 0..2 {
        store.add_conversion(&batch).await.expect("it is repeated");
    }
    for dimension in [Dimension::Channel, Dimension::Provider] {
        let counts = store.conversion(dimension, &[hour]).await.expect("answers");
        assert_eq!(counts.iter().map(|of| of.counts.sent).collect::<Vec<_>>(), [1], "{dimension:?}");
    }
}

#[tokio::test]
async fn a_process_that_fell_silent_is_forgotten() {
    let redis = Redis::fresh();
    let store = redis.store();
    let batch = |writer, at| ConversionBatch {
        writer,
        sequence: 1,
        entries: vec![entry(at, Dimension::Channel, "sms", 1, 0)],
        spend: Vec::new(),
    };
    store.at(START);
    for writer in 0..30 {
        store.add_conversion(&batch(writer, START)).await.expect("answers");
    }
    let later = START.plus(DAY);
    store.at(later);
    store.add_conversion(&batch(99, later)).await.expect("answers");
    let writers: usize = redis.run(redis::cmd("HLEN").arg(format!("{{{}}}:xw", redis.prefix)));
    assert_eq!(writers, 1);
}
