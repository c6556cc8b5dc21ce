//! Properties of any course of things, asked of the store in memory; the model test holds the scripts to the same.

use std::collections::BTreeMap;
use std::time::Duration;

use otpost::clock::Clock;
use otpost::domain::time::UnixMillis;
use otpost::store::memory::MemoryStore;
use otpost::store::{Admission, CompleteResult, Progress, ProgressResult, Refund, Store as _};
use proptest::prelude::*;

use super::{Ask, HOUR, LEASE, START, admit, ask, failed, limits, named, sent, settle};

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(future)
}

fn store() -> MemoryStore {
    MemoryStore::new(Clock::System)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_refund_leaves_no_charge(ends in prop::collection::vec((0..4_u8, 0..3_u8), 1..40)) {
        let (store, mut charged) = (store(), BTreeMap::<u8, u32>::new());
        for (number, (recipient, end)) in ends.into_iter().enumerate() {
            store.set_time(START.plus(Duration::from_secs(31) * u32::try_from(number).expect("few")));
            let request = Ask { user: Some(named(recipient)), ..ask(recipient, &format!("r{number}")) };
            let Admission::Granted(_) = run(admit(&store, &request)) else { continue };
            let outcome = if end == 0 { sent(START) } else { failed(START) };
            let refund = [Refund::None, Refund::Free, Refund::Counted][usize::from(end)];
            let settled = run(store.complete(&settle(request.handling(), &outcome, refund))).expect("answers");
            prop_assert_eq!(settled, CompleteResult::Recorded);
            *charged.entry(recipient).or_default() += u32::from(refund == Refund::None);
            let usage = run(store.usage(&request.handling().subject, None, &limits())).expect("answers");
            prop_assert_eq!(usage.used, charged[&recipient]);
        }
    }

    #[test]
    fn doubts_never_go_down_and_starts_only_by_giving_back(
        steps in prop::collection::vec((0..6_u8, 1..5_u64, 0..30_u64, 0..4_u32), 1..60)
    ) {
        let (store, request) = (store(), ask(1, "r"));
        let (mut now, mut starts, mut doubts) = (START, 0, 0);
        for (step, owner, passed, made) in steps {
            now = UnixMillis(now.0 + passed * 1_000);
            if now >= START.plus(23 * HOUR) { break }
            store.set_time(now);
            let handling = request.owned_by(owner);
            let mark = match step {
                0 => Progress::Waiting(LEASE),
                1 => Progress::Sending(LEASE),
                2 => Progress::InDoubt(LEASE),
                3 => Progress::Requeued { due: Duration::from_secs(passed), in_doubt: passed > 20 },
                _ => {
                    if let Admission::Granted(grant) | Admission::InDoubt(grant) = run(admit(&store, &handling)) {
                        prop_assert!(grant.unfinished_leases >= starts.max(1) && grant.attempts_in_doubt >= doubts, "{:?}", grant);
                        (starts, doubts) = (grant.unfinished_leases, grant.attempts_in_doubt);
                    }
                    continue;
                }
            };
            let marked = run(store.update_progress(&handling.handling(), Some(made), mark, None)).expect("answers");
            if matches!(mark, Progress::Requeued { .. }) && marked == ProgressResult::Applied {
                starts -= 1;
            }
        }
    }
}
