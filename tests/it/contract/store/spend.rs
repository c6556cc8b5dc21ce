//! The book under the budgets: it follows the records, each once, and refuses what no budget allows.

use std::time::Duration;

use otpost::domain::amount::Amount;
use otpost::domain::budget::{BookEntry, Budgets, Reservation, SpendBook, Spent, UtcOffset};
use otpost::domain::conversion::{Bucket, BucketWidth};
use otpost::domain::conversion_batch::ConversionBatch;
use otpost::domain::outcome::{ErrorCode, Outcome, OutcomeError, Status};
use otpost::domain::reached_limit::ReachedLimit;
use otpost::domain::spend::{SpendCounts, SpendEntry, SpendGroup};
use otpost::domain::time::UnixMillis;
use otpost::store::{
    Admission, AdmissionInput, CompletionAnswer, CompletionInput, Damaged, Progress, Refund, SpendStore as _,
    Store as _, StoreError, StoreFault,
};

use super::{
    HOUR, LEASE, START, TestRequest, TimedStore, completion, failed, granted, limits, rejected, request_to,
    sent,
};
use crate::real::Redis;

const DAY: Duration = Duration::from_secs(86_400);
/// Of Bogota: a day begins at five in the morning.
const OFFSET: i32 = -300;

/// Each test has a day of its own, at three in the morning of Bogota.
fn day(number: u32) -> UnixMillis {
    START.plus(DAY * (1_000 + 10 * number))
}

pub fn amount(micros: u64) -> Amount {
    Amount::from_micros(micros)
}

pub fn reservation(micros: u64, per_hour: Option<u64>, per_day: Option<u64>) -> Reservation {
    let budgets = Budgets { per_hour: per_hour.map(amount), per_day: per_day.map(amount) };
    Reservation { amount: amount(micros), budgets, offset: UtcOffset::new(OFFSET) }
}

pub fn spent(micros: u64) -> Spent {
    Spent { amount: amount(micros), offset: UtcOffset::new(OFFSET) }
}

fn request(recipient: u8, id: &str) -> TestRequest {
    TestRequest { recipient, ..request_to(1, id) }
}

async fn admit(store: &dyn TimedStore, request: &TestRequest, spend: Reservation) -> Admission {
    // With more than one shard a process compares with what it has read.
    book(store).await;
    store.admit(&AdmissionInput { spend: Some(spend), ..request.admit() }).await.expect("answers")
}

async fn end(store: &dyn TimedStore, request: &TestRequest, outcome: &Outcome, spent: Option<Spent>) {
    let refund = if outcome.status == Status::Failed { Refund::Full } else { Refund::None };
    let input = CompletionInput { spent, ..completion(request.lease(), outcome, refund) };
    assert_eq!(store.complete(&input).await.expect("answers"), CompletionAnswer::Recorded);
}

async fn book(store: &dyn TimedStore) -> SpendBook {
    store.spend_book(UtcOffset::new(OFFSET)).await.expect("answers")
}

/// Reserved and committed amounts of the hour and of the day.
async fn read(store: &dyn TimedStore) -> [(u64, u64); 2] {
    let SpendBook { hour, day, .. } = book(store).await;
    [hour, day].map(|BookEntry { reserved, committed }| (reserved.micros(), committed.micros()))
}

pub(super) async fn keeps_its_promises(store: &dyn TimedStore) {
    a_reservation_is_committed_at_the_real_price_or_given_back(store).await;
    a_repeated_step_counts_once(store).await;
    a_budget_refuses_with_its_rule_and_what_is_in_flight_goes_on(store).await;
    the_next_hour_has_a_budget_of_its_own_and_the_day_goes_on(store).await;
    whichever_handler_completes_a_request_the_book_balances(store).await;
    a_request_without_a_reservation_counts_at_its_end(store).await;
    a_request_that_ends_after_its_hour_has_left_the_book_counts_now(store).await;
    amounts_count_once_in_their_buckets(store).await;
}

async fn a_reservation_is_committed_at_the_real_price_or_given_back(store: &dyn TimedStore) {
    store.at(day(0));
    let [one, two, three] =
        [(251, "spend-1"), (252, "spend-2"), (253, "spend-3")].map(|(to, id)| request(to, id));
    for request in [&one, &two, &three] {
        granted(admit(store, request, reservation(80, Some(1_000), Some(1_000))).await);
    }
    assert_eq!(read(store).await, [(240, 0); 2]);
    end(store, &one, &sent(day(0)), Some(spent(40))).await;
    assert_eq!(read(store).await, [(160, 40); 2]);
    end(store, &two, &failed(day(0)), Some(spent(40))).await;
    assert_eq!(read(store).await, [(80, 40); 2], "nothing was sent");
    let error = OutcomeError::of(ErrorCode::InDoubt);
    let unknown = Outcome::with_error(Status::Unknown, day(0), "verification", error);
    end(store, &three, &unknown, None).await;
    assert_eq!(read(store).await, [(0, 120); 2], "without a price the reservation is committed");
}

async fn a_repeated_step_counts_once(store: &dyn TimedStore) {
    store.at(day(1));
    let request = request(251, "spend-again");
    for _ in 0..3 {
        granted(admit(store, &request, reservation(80, Some(100), None)).await);
    }
    assert_eq!(read(store).await, [(80, 0); 2]);
    for _ in 0..3 {
        end(store, &request, &sent(day(1)), Some(spent(40))).await;
    }
    assert_eq!(read(store).await, [(0, 40); 2]);
    let (other, outcome) = (request.owned_by(2), sent(day(1)));
    let other =
        CompletionInput { spent: Some(spent(40)), ..completion(other.lease(), &outcome, Refund::None) };
    assert!(matches!(store.complete(&other).await, Ok(CompletionAnswer::AlreadyCompleted(_))));
    assert_eq!(read(store).await, [(0, 40); 2]);
}

async fn a_budget_refuses_with_its_rule_and_what_is_in_flight_goes_on(store: &dyn TimedStore) {
    store.at(day(2).plus(HOUR / 4));
    let now = day(2).plus(HOUR / 4);
    let in_flight = request(251, "spend-in-flight");
    granted(admit(store, &in_flight, reservation(80, Some(150), None)).await);
    let refused = request(252, "spend-refused");
    let error = rejected(admit(store, &refused, reservation(80, Some(150), None)).await);
    let expected = (ErrorCode::RateLimited, Some(ReachedLimit::SpendHour), Some(2_700));
    assert_eq!((error.code, error.limit, error.retry_after), expected);
    assert_eq!(read(store).await, [(80, 0); 2], "a refused request reserves nothing");
    let by_day = request(253, "spend-day");
    let error = rejected(admit(store, &by_day, reservation(80, Some(150), Some(159))).await);
    // Five hours after midnight in Greenwich is midnight in Bogota: the day has two hours less a quarter.
    let midnight =
        UtcOffset::new(OFFSET).end(otpost::domain::budget::Period::Day, book(store).await.day_number);
    let wait = midnight.since(now).as_secs();
    assert_eq!((error.limit, error.retry_after), (Some(ReachedLimit::SpendDay), Some(wait)));
    let progress = store.update_progress(&in_flight.lease(), Some(1), Progress::Waiting(LEASE), None).await;
    progress.expect("answers");
    let progress = store.update_progress(&in_flight.lease(), Some(1), Progress::Sending(LEASE), None).await;
    progress.expect("answers");
    end(store, &in_flight, &sent(now), Some(spent(80))).await;
    let exact = request(254, "spend-exact");
    granted(admit(store, &exact, reservation(70, Some(150), Some(150))).await);
    let one_more = request(250, "spend-one-more");
    rejected(admit(store, &one_more, reservation(1, Some(150), None)).await);
}

async fn the_next_hour_has_a_budget_of_its_own_and_the_day_goes_on(store: &dyn TimedStore) {
    store.at(day(3));
    let first = request(251, "spend-hour-1");
    granted(admit(store, &first, reservation(100, Some(100), Some(150))).await);
    store.at(day(3).plus(HOUR));
    assert_eq!(read(store).await, [(0, 0), (100, 0)]);
    // It is committed in the hour in which it was reserved.
    end(store, &first, &sent(day(3).plus(HOUR)), Some(spent(90))).await;
    assert_eq!(read(store).await, [(0, 0), (0, 90)]);
    let second = request(252, "spend-hour-2");
    granted(admit(store, &second, reservation(60, Some(100), Some(150))).await);
    let third = request(253, "spend-hour-3");
    let error = rejected(admit(store, &third, reservation(40, Some(100), Some(150))).await);
    assert_eq!(error.limit, Some(ReachedLimit::SpendDay));
    store.at(day(3).plus(DAY));
    assert_eq!(read(store).await, [(0, 0); 2]);
    end(store, &second, &failed(day(3).plus(DAY)), None).await;
    assert_eq!(read(store).await, [(0, 0); 2]);
}

async fn whichever_handler_completes_a_request_the_book_balances(store: &dyn TimedStore) {
    store.at(day(4));
    let request = request(251, "spend-crashed");
    granted(admit(store, &request, reservation(80, Some(100), None)).await);
    store.at(day(4).plus(LEASE));
    // The budget is used up, and a request in flight is not refused.
    let other = request.owned_by(2);
    assert!(matches!(admit(store, &other, reservation(80, Some(100), None)).await, Admission::InDoubt(_)));
    assert_eq!(read(store).await, [(80, 0); 2]);
    end(store, &other, &sent(day(4)), Some(spent(40))).await;
    assert_eq!(read(store).await, [(0, 40); 2]);
}

async fn a_request_without_a_reservation_counts_at_its_end(store: &dyn TimedStore) {
    store.at(day(5));
    let before_the_budget = request(251, "spend-before");
    granted(super::admit(store, &before_the_budget).await);
    assert_eq!(read(store).await, [(0, 0); 2]);
    end(store, &before_the_budget, &sent(day(5)), Some(spent(40))).await;
    end(store, &request(252, "spend-lost-record"), &sent(day(5)), Some(spent(30))).await;
    end(store, &request(253, "spend-lost-failed"), &failed(day(5)), Some(spent(30))).await;
    assert_eq!(read(store).await, [(0, 70); 2]);
}

async fn a_request_that_ends_after_its_hour_has_left_the_book_counts_now(store: &dyn TimedStore) {
    store.at(day(9));
    let [priced, unpriced, failing, late] =
        [(251, "spend-late-1"), (252, "spend-late-2"), (253, "spend-late-3"), (254, "spend-late-4")]
            .map(|(to, id)| request(to, id));
    for request in [&priced, &unpriced, &failing, &late] {
        granted(admit(store, request, reservation(80, Some(1_000), Some(1_000))).await);
    }
    // Another admission removes what is older than the hour before.
    let at = day(9).plus(HOUR * 2);
    store.at(at);
    granted(admit(store, &request(250, "spend-later"), reservation(5, Some(1_000), Some(1_000))).await);
    assert_eq!(read(store).await, [(5, 0), (325, 0)]);
    end(store, &priced, &sent(at), Some(spent(40))).await;
    assert_eq!(read(store).await, [(5, 40), (245, 40)], "the day knows its reservation");
    end(store, &failing, &failed(at), Some(spent(40))).await;
    assert_eq!(read(store).await, [(5, 40), (165, 40)], "nothing was sent");
    end(store, &unpriced, &sent(at), None).await;
    assert_eq!(read(store).await, [(5, 120), (85, 120)], "what was reserved");
    let at = day(9).plus(DAY * 2);
    store.at(at);
    granted(admit(store, &request(249, "spend-much-later"), reservation(5, Some(1_000), None)).await);
    end(store, &late, &sent(at), Some(spent(40))).await;
    assert_eq!(read(store).await, [(5, 40); 2]);
}

async fn amounts_count_once_in_their_buckets(store: &dyn TimedStore) {
    let at = day(6);
    store.at(at);
    let bucket = Bucket::of(BucketWidth::FiveMinutes, at);
    let entry = |group, name: &str, messages, micros| SpendEntry {
        bucket: bucket.number,
        group,
        name: name.to_owned(),
        counts: SpendCounts { messages, amount: amount(micros) },
    };
    let spend = vec![
        entry(SpendGroup::Prefix, "+57300", 2, 80_000),
        entry(SpendGroup::Prefix, "+57300", 1, 40_000),
        entry(SpendGroup::Prefix, "+57301", 1, Amount::MAX.micros()),
        entry(SpendGroup::Sample, "paid", 1, 41_000),
    ];
    let batch = ConversionBatch { writer: 77, sequence: 1, spend, ..ConversionBatch::default() };
    for _ in 0..2 {
        store.add_conversion(&batch).await.expect("answers");
    }
    for bucket in [bucket, Bucket::of(BucketWidth::Hour, at)] {
        let stored = store.spend(SpendGroup::Prefix, &[bucket]).await.expect("answers");
        let rows: Vec<_> = stored
            .iter()
            .map(|one| (one.name.as_str(), one.counts.messages, one.counts.amount.micros()))
            .collect();
        assert_eq!(rows, [("+57300", 3, 120_000), ("+57301", 1, Amount::MAX.micros())]);
        let sample = store.spend(SpendGroup::Sample, &[bucket]).await.expect("answers");
        assert_eq!(sample.len(), 1);
        let codes = store.conversion(SpendGroup::Prefix.names(), &[bucket]).await.expect("answers");
        assert!(codes.is_empty(), "{codes:?}");
    }
}

/// A key that all requests need is named, and no request is dead-lettered for it.
#[tokio::test]
async fn a_damaged_book_stops_new_requests_until_it_is_deleted() {
    for shards in [1, 16] {
        let redis = Redis::fresh();
        let store = redis.sharded(shards);
        let request = request(251, "spend-damaged");
        let key = match shards {
            1 => format!("{{{}}}:e", redis.prefix).into_bytes(),
            _ => redis.in_shard(251 >> 4, "e"),
        };
        redis.run::<()>(redis::cmd("SET").arg(&key).arg("damaged"));
        let input = AdmissionInput { spend: Some(reservation(1, Some(9), None)), ..request.admit() };
        let error = store.admit(&input).await.expect_err("the book cannot be read");
        match shards {
            1 => assert!(
                matches!(&error, StoreError::Unreadable { damaged: Damaged::Shared(key), .. } if key == "e"),
                "{error:?}"
            ),
            _ => assert!(
                matches!(&error, StoreError::Unavailable(StoreFault::ShardKey(key)) if key == "e"),
                "{error:?}"
            ),
        }
        assert!(!error.is_permanent());
        store.check_shared_data().await.expect_err("the status names it");
        redis.run::<()>(redis::cmd("DEL").arg(&key));
        granted(store.admit(&input).await.expect("answers"));
    }
}

/// Three processes and no shared state but the store: with one shard the budget is exact; with more it is exceeded by at most what the
/// other shards spend between two readings.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_sends_stop_at_a_budget_of_five_thousand() {
    for (shards, excess_max) in [(1, 0), (16, 3 * 50 * 40)] {
        let redis = Redis::fresh();
        let mut workers = Vec::new();
        for worker in 0..3_u32 {
            let store = redis.sharded(shards);
            store.at(day(7));
            workers.push(tokio::spawn(async move {
                let mut granted = 0_u64;
                for number in 0..3_334_u32 {
                    if number % 50 == 0 {
                        store.spend_book(UtcOffset::new(OFFSET)).await.expect("answers");
                    }
                    let to = u8::try_from((worker * 7 + number) % 251).expect("small");
                    let mut request = request(to, &format!("spend-{worker}-{number}"));
                    request.limits = limits_off();
                    let spend = Some(reservation(40, Some(5_000 * 40), None));
                    let input = AdmissionInput { spend, ..request.admit() };
                    if let Admission::Granted(_) = store.admit(&input).await.expect("answers") {
                        granted += 1;
                        end(&store, &request, &sent(day(7)), Some(spent(40))).await;
                    }
                }
                granted
            }));
        }
        let mut granted = 0;
        for worker in workers {
            granted += worker.await.expect("no panic");
        }
        let store = redis.sharded(shards);
        store.at(day(7));
        let [(reserved, committed), _] = read(&store).await;
        assert_eq!((reserved, committed), (0, granted * 40), "{shards} shards");
        assert!((200_000..=200_000 + excess_max).contains(&committed), "{shards} shards: {committed}");
    }
}

fn limits_off() -> otpost::domain::limit::Limits {
    let mut limits = limits();
    limits.quotas.iter_mut().for_each(|quota| quota.count = 0);
    limits.cooldown = Duration::ZERO;
    limits
}
