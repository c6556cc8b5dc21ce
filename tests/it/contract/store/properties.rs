//! Properties of any sequence of steps, tested on the store in memory. The model test compares the scripts with it.

use std::collections::BTreeMap;
use std::time::Duration;

use otpost::clock::Clock;
use otpost::domain::time::UnixMillis;
use otpost::store::memory::MemoryStore;
use otpost::store::{Admission, CompletionAnswer, Progress, ProgressAnswer, Refund, Store as _};
use proptest::prelude::*;

use super::{HOUR, LEASE, START, TestRequest, admit, completion, failed, limits, named, request_to, sent};

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
            let request = TestRequest { user: Some(named(recipient)), ..request_to(recipient, &format!("r{number}")) };
            let Admission::Granted(_) = run(admit(&store, &request)) else { continue };
            let outcome = if end == 0 { sent(START) } else { failed(START) };
            let refund = [Refund::None, Refund::Full, Refund::FullAndCounted][usize::from(end)];
            let result = run(store.complete(&completion(request.lease(), &outcome, refund))).expect("answers");
            prop_assert_eq!(result, CompletionAnswer::Recorded);
            *charged.entry(recipient).or_default() += u32::from(refund == Refund::None);
            let usage = run(store.usage(&request.lease().subject, None, &limits())).expect("answers");
            prop_assert_eq!(usage.used, charged[&recipient]);
        }
    }

    #[test]
    fn doubts_never_decrease_and_unfinished_leases_only_by_a_requeue(
        steps in prop::collection::vec((0..6_u8, 1..5_u64, 0..30_u64, 0..4_u32), 1..60)
    ) {
        let (store, request) = (store(), request_to(1, "r"));
        let (mut now, mut unfinished, mut doubts) = (START, 0, 0);
        for (step, owner, passed, attempts_made) in steps {
            now = UnixMillis(now.0 + passed * 1_000);
            if now >= START.plus(23 * HOUR) { break }
            store.set_time(now);
            let ours = request.owned_by(owner);
            let progress = match step {
                0 => Progress::Waiting(LEASE),
                1 => Progress::Sending(LEASE),
                2 => Progress::InDoubt(LEASE),
                3 => Progress::Requeued { retry_in: Duration::from_secs(passed), in_doubt: passed > 20 },
                _ => {
                    if let Admission::Granted(grant) | Admission::InDoubt(grant) = run(admit(&store, &ours)) {
                        prop_assert!(grant.unfinished_leases >= unfinished.max(1) && grant.attempts_in_doubt >= doubts, "{:?}", grant);
                        (unfinished, doubts) = (grant.unfinished_leases, grant.attempts_in_doubt);
                    }
                    continue;
                }
            };
            let result = run(store.update_progress(&ours.lease(), Some(attempts_made), progress, None)).expect("answers");
            if matches!(progress, Progress::Requeued { .. }) && result == ProgressAnswer::Applied {
                unfinished -= 1;
            }
        }
    }
}
