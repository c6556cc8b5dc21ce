//! The messages whose texts the provider is still to delete: shared by all workers, counted once.

use std::collections::BTreeSet;
use std::time::Duration;

use otpost::domain::keyed_digest::Digest16;
use otpost::domain::time::UnixMillis;
use otpost::store::forget::{
    Listing, REDACTION_JOBS_MAX, Redaction, RedactionEnd, RedactionJob, RedactionsAdded,
};

use super::{HOUR, TimedStore};
use crate::real::Redis;

const NOW: UnixMillis = UnixMillis(2_000_000_000_000);
const SECOND: Duration = Duration::from_secs(1);
const ANA: u8 = 7;

pub(super) async fn keeps_its_promises(store: &dyn TimedStore) {
    messages_are_taken_at_a_bounded_rate_and_counted_once(store).await;
    a_message_comes_again_until_it_has_been_tried_for_a_week(store).await;
    a_job_grows_by_the_listing_and_begins_anew_when_it_has_ended(store).await;
    a_message_that_is_not_found_counts_apart_and_is_not_done(store).await;
    jobs_and_their_messages_are_bounded(store).await;
}

fn person(number: u8) -> Digest16 {
    Digest16::from_bytes([0xee, number, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14])
}

fn sids(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|nth| format!("SM{nth:032x}")).collect()
}

async fn job(store: &dyn TimedStore, number: u8) -> RedactionJob {
    let jobs = store.redaction_jobs().await.expect("answers");
    jobs.into_iter().find(|job| job.recipient == person(number)).expect("its job")
}

async fn add(store: &dyn TimedStore, number: u8, range: std::ops::Range<u32>, listing: Listing) {
    let added = store.add_redactions(person(number), &sids(range), listing).await.expect("answers");
    assert_eq!(added, RedactionsAdded::Added);
}

async fn take(store: &dyn TimedStore, count_max: u32) -> Vec<Redaction> {
    store.take_redactions(count_max).await.expect("answers")
}

async fn end(store: &dyn TimedStore, redaction: &Redaction, end: RedactionEnd) {
    store.end_redaction(redaction, end).await.expect("answers");
}

async fn messages_are_taken_at_a_bounded_rate_and_counted_once(store: &dyn TimedStore) {
    store.at(NOW);
    add(store, ANA, 0..3, Listing::NotPossible).await;
    add(store, ANA, 1..5, Listing::NotPossible).await;
    assert_eq!(job(store, ANA).await.total, 5, "each once");
    let first = take(store, 2).await;
    assert_eq!(first.len(), 2);
    assert!(take(store, 9).await.is_empty(), "one worker a second");
    store.at(NOW.plus(SECOND));
    let second = take(store, 9).await;
    assert_eq!(second.len(), 3, "and no message twice");
    let both: BTreeSet<&String> = first.iter().chain(&second).map(|taken| &taken.message_id).collect();
    assert_eq!(both.len(), 5);
    for taken in first.iter().chain([&first[0], &second[0]]) {
        end(store, taken, RedactionEnd::Done).await;
    }
    let shown = job(store, ANA).await;
    assert_eq!((shown.total, shown.done, shown.failed, shown.left()), (5, 3, 0, 2));
    // The worker that had the others has died.
    store.at(NOW.plus(121 * SECOND));
    let again = take(store, 9).await;
    assert_eq!(again.len(), 2);
    for taken in &again {
        end(store, taken, RedactionEnd::Done).await;
    }
    assert_eq!(job(store, ANA).await.left(), 0);
    store.at(NOW.plus(HOUR));
    assert!(take(store, 9).await.is_empty());
}

async fn a_message_comes_again_until_it_has_been_tried_for_a_week(store: &dyn TimedStore) {
    let (begun, week) = (NOW.plus(2 * HOUR), 7 * 24 * HOUR);
    store.at(begun);
    add(store, 8, 0..1, Listing::NotPossible).await;
    let [message] = &take(store, 9).await[..] else { panic!("there is one") };
    end(store, message, RedactionEnd::Later(600 * SECOND)).await;
    store.at(begun.plus(599 * SECOND));
    assert!(take(store, 9).await.is_empty());
    store.at(begun.plus(600 * SECOND));
    assert_eq!(take(store, 9).await, std::slice::from_ref(message));
    store.at(begun.plus(week));
    assert_eq!(take(store, 9).await, std::slice::from_ref(message));
    end(store, message, RedactionEnd::Later(600 * SECOND)).await;
    let shown = job(store, 8).await;
    assert_eq!((shown.failed, shown.left(), shown.begun), (1, 0, begun));
    store.at(begun.plus(week + HOUR));
    assert!(take(store, 9).await.is_empty());
    store.at(begun.plus(week + 30 * 24 * HOUR));
    let is_shown =
        store.redaction_jobs().await.expect("answers").iter().any(|job| job.recipient == person(8));
    assert!(!is_shown, "a month later");
}

async fn a_job_grows_by_the_listing_and_begins_anew_when_it_has_ended(store: &dyn TimedStore) {
    let begun = NOW.plus(60 * 24 * HOUR);
    store.at(begun);
    add(store, 9, 0..1, Listing::Pending).await;
    let [message] = &take(store, 9).await[..] else { panic!("there is one") };
    end(store, message, RedactionEnd::Done).await;
    assert_eq!(job(store, 9).await.listing, Listing::Pending);
    store.at(begun.plus(2 * SECOND));
    add(store, 9, 1..3, Listing::Complete).await;
    let shown = job(store, 9).await;
    assert_eq!((shown.total, shown.done, shown.begun, shown.listing), (3, 1, begun, Listing::Complete));
    for message in take(store, 9).await {
        end(store, &message, RedactionEnd::Done).await;
    }
    for listing in [Listing::Failed, Listing::More] {
        add(store, 9, 0..0, listing).await;
        assert_eq!(job(store, 9).await.listing, listing);
    }
    store.at(begun.plus(HOUR));
    add(store, 9, 0..1, Listing::Pending).await;
    let shown = job(store, 9).await;
    assert_eq!((shown.total, shown.done, shown.begun), (1, 0, begun.plus(HOUR)));
    for message in take(store, 9).await {
        end(store, &message, RedactionEnd::Done).await;
    }
}

async fn jobs_and_their_messages_are_bounded(store: &dyn TimedStore) {
    store.at(NOW.plus(100 * 24 * HOUR));
    assert!(store.redaction_jobs().await.expect("answers").is_empty());
    add(store, 10, 0..1_500, Listing::More).await;
    assert_eq!(job(store, 10).await.total, 1_000);
    for number in 0..REDACTION_JOBS_MAX - 1 {
        let recipient = Digest16::from_bytes([u8::try_from(number).expect("a small number"); 16]);
        let added = store.add_redactions(recipient, &[], Listing::Complete).await.expect("answers");
        assert_eq!(added, RedactionsAdded::Added, "{number}");
    }
    let added = store.add_redactions(person(11), &sids(0..1), Listing::Complete).await.expect("answers");
    assert_eq!(added, RedactionsAdded::TooManyJobs);
    add(store, 10, 0..1, Listing::Complete).await;
    store.at(NOW.plus(131 * 24 * HOUR));
    add(store, 11, 0..1, Listing::Complete).await;
    assert_eq!(store.redaction_jobs().await.expect("answers").len(), 1, "the old ones have gone");
}

#[tokio::test]
async fn the_list_is_of_the_whole_prefix_and_ends_by_itself() {
    let redis = Redis::fresh();
    let store = redis.sharded(16);
    add(&store, ANA, 0..2, Listing::Pending).await;
    redis.expect_only_these_without_a_ttl(&["format"]);
    let names: Vec<String> = redis.dump().into_iter().map(|(key, ..)| key).collect();
    for name in ["jj", "jq"] {
        assert!(names.contains(&format!("{{{}}}:{name}", redis.prefix)), "{names:?}");
    }
}

async fn a_message_that_is_not_found_counts_apart_and_is_not_done(store: &dyn TimedStore) {
    let begun = NOW.plus(62 * 24 * HOUR);
    store.at(begun);
    add(store, 12, 0..3, Listing::Complete).await;
    let taken = take(store, 9).await;
    for message in &taken[..2] {
        end(store, message, RedactionEnd::NotFound).await;
        end(store, message, RedactionEnd::NotFound).await;
    }
    let shown = job(store, 12).await;
    assert_eq!((shown.done, shown.failed, shown.not_found, shown.left()), (0, 0, 2, 1));
    end(store, &taken[2], RedactionEnd::Done).await;
    store.at(begun.plus(HOUR));
    add(store, 12, 3..4, Listing::Pending).await;
    let shown = job(store, 12).await;
    assert_eq!((shown.total, shown.not_found, shown.left()), (1, 0, 1), "a new job");
    for message in take(store, 9).await {
        end(store, &message, RedactionEnd::Done).await;
    }
}
