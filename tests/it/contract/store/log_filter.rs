//! The log filter that all processes take over, until its time is over.

use std::time::Duration;

use otpost::domain::log_filter::{LogFilter, NewLogFilter, TemporaryLogFilter};
use otpost::domain::time::UnixMillis;

use super::{START, TimedStore};

const MINUTE: Duration = Duration::from_secs(60);

pub(super) async fn keeps_its_promises(store: &dyn TimedStore) {
    a_filter_is_in_force_until_its_time_is_over(store).await;
    a_filter_replaces_the_one_before_and_can_be_ended(store).await;
}

fn in_force(filter: &str, set_by: &str, set_at: UnixMillis, left: Duration) -> Option<TemporaryLogFilter> {
    let filter = LogFilter::parse(filter).expect("a filter");
    Some(TemporaryLogFilter { filter, set_by: set_by.to_owned(), set_at, left })
}

/// The filter that the heartbeat brings must be the one that the step reads.
async fn read(store: &dyn TimedStore, at: UnixMillis) -> Option<TemporaryLogFilter> {
    store.at(at);
    let read = store.log_filter().await.expect("answers");
    assert_eq!(store.heartbeat(1, false).await.expect("answers").log_filter, read);
    read
}

async fn set(
    store: &dyn TimedStore,
    filter: &str,
    set_by: &str,
    duration: Duration,
) -> Option<TemporaryLogFilter> {
    let filter = LogFilter::parse(filter).expect("a filter");
    let new = NewLogFilter { filter: &filter, set_by, duration };
    store.set_log_filter(Some(&new)).await.expect("answers")
}

async fn a_filter_is_in_force_until_its_time_is_over(store: &dyn TimedStore) {
    assert_eq!(read(store, START).await, None);
    assert_eq!(set(store, "warn,otpost::flow=trace", "ana", MINUTE).await, None);
    let filter = |left| in_force("warn,otpost::flow=trace", "ana", START, left);
    assert_eq!(read(store, START).await, filter(MINUTE));
    let last = Duration::from_millis(1);
    assert_eq!(read(store, START.plus(MINUTE - last)).await, filter(last));
    assert_eq!(read(store, START.plus(MINUTE)).await, None);
}

async fn a_filter_replaces_the_one_before_and_can_be_ended(store: &dyn TimedStore) {
    store.at(START);
    set(store, "debug", "ana", MINUTE).await;
    let later = START.plus(MINUTE / 2);
    store.at(later);
    let before = set(store, "trace", "uid:1000", 3 * MINUTE).await;
    assert_eq!(before, in_force("debug", "ana", START, MINUTE / 2));
    let now = in_force("trace", "uid:1000", later, 3 * MINUTE);
    assert_eq!(read(store, later).await, now);
    assert_eq!(store.set_log_filter(None).await.expect("answers"), now);
    assert_eq!(store.set_log_filter(None).await.expect("answers"), None);
    assert_eq!(read(store, later).await, None);
}
