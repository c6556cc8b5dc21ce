//! The store in memory and the scripts on Redis, driven by the same random steps at the same times, must agree.

use std::time::Duration;

use otpost::clock::Clock;
use otpost::domain::quota::Quota;
use otpost::domain::request::RequestId;
use otpost::domain::time::UnixMillis;
use otpost::store::memory::MemoryStore;
use otpost::store::{Admit, Check, Limits, Mark, Refund, Settle};
use proptest::prelude::*;

use crate::contract::store::{Ask, HOUR, START, TimedStore, ask, limits, named, sent};
use crate::real;

#[derive(Clone, Debug)]
enum Step {
    Pass { milliseconds: u64 },
    Admit(Copy),
    Mark { copy: Copy, mark: u8, attempt: u32 },
    Settle { copy: Copy, ends: u8 },
    Verify { recipient: u8, check_id: u64, digest: u8, kid: u8 },
    Usage { copy: Copy },
}

/// One copy of one request, handled by one owner.
#[derive(Clone, Debug)]
struct Copy {
    recipient: u8,
    request: u8,
    owner: u64,
    user: u8,
    challenge: u8,
    callers_code: bool,
    requested_ago: Option<u64>,
    left: Option<u64>,
}

fn copies() -> impl Strategy<Value = Copy> {
    (
        (0..3_u8, 0..12_u8, 0..3_u64, 0..3_u8, 0..4_u8),
        (
            prop::bool::weighted(0.2),
            prop::option::weighted(0.3, 0..700_000_u64),
            prop::option::weighted(0.2, 0..700_000_u64),
        ),
    )
        .prop_map(
            |((recipient, request, owner, user, challenge), (callers_code, requested_ago, left))| Copy {
                recipient,
                request,
                owner,
                user,
                challenge,
                callers_code,
                requested_ago,
                left,
            },
        )
}

fn steps() -> impl Strategy<Value = Step> {
    let passes = prop_oneof![0..2_000_u64, 0..60_000_u64, 0..4_000_000_u64, 0..100_000_000_u64];
    prop_oneof![
        3 => passes.prop_map(|milliseconds| Step::Pass { milliseconds }),
        6 => copies().prop_map(Step::Admit),
        2 => (copies(), 0..4_u8, 1..4_u32).prop_map(|(copy, mark, attempt)| Step::Mark { copy, mark, attempt }),
        3 => (copies(), 0..3_u8).prop_map(|(copy, ends)| Step::Settle { copy, ends }),
        5 => (0..3_u8, 0..40_u64, 0..5_u8, 0..3_u8)
            .prop_map(|(recipient, check_id, digest, kid)| Step::Verify { recipient, check_id, digest, kid }),
        1 => copies().prop_map(|copy| Step::Usage { copy }),
    ]
}

fn tight() -> Limits {
    let hourly = |count| Quota { count, window: HOUR };
    Limits { number: hourly(3), user: hourly(4), all: hourly(6), wrong: hourly(7), ..limits() }
}

impl Copy {
    fn ask(&self, now: UnixMillis) -> Ask {
        let base = ask(self.recipient, &format!("r{}", self.request));
        Ask {
            owner: self.owner,
            user: (self.user > 0).then(|| named(200 + self.user)),
            limits: tight(),
            requested_at: self.requested_ago.map(|ago| UnixMillis(if ago < 3_000 { 0 } else { now.0 - ago })),
            not_after: self.left.map(|left| UnixMillis(now.0 + left)),
            challenge: 100 + self.challenge,
            digest: self.challenge,
            kid: if self.challenge == 3 { "k3" } else { "k1" },
            callers_code: self.callers_code,
            request: RequestId::parse(&format!("r{}", self.request)).expect("valid"),
            ..base
        }
    }
}

async fn answer(store: &dyn TimedStore, step: &Step, now: UnixMillis) -> String {
    match step {
        Step::Pass { .. } => String::new(),
        Step::Admit(copy) => format!(
            "{:?}",
            store
                .admit(&Admit { closed: copy.challenge == 2 && copy.owner == 2, ..copy.ask(now).admit() })
                .await
                .expect("answers")
        ),
        Step::Mark { copy, mark, attempt } => {
            let mark = match mark {
                0 => Mark::Waiting(Duration::from_millis(7_500)),
                1 => Mark::Sending { attempt: *attempt, lease: Duration::from_secs(20) },
                _ => Mark::GivenBack { tried: *mark == 2, due: Duration::from_secs(u64::from(*attempt) - 1) },
            };
            format!("{:?}", store.mark(&copy.ask(now).handling(), mark, None).await.expect("answers"))
        }
        Step::Settle { copy, ends } => {
            let mut outcome = sent(now);
            outcome.status = [
                otpost::domain::outcome::Status::Sent,
                otpost::domain::outcome::Status::Failed,
                otpost::domain::outcome::Status::Rejected,
            ][usize::from(*ends)];
            let ask = copy.ask(now);
            let settle = Settle {
                handling: ask.handling(),
                outcome: &outcome,
                refund: [Refund::None, Refund::Counted, Refund::Free][usize::from(*ends)],
                found: false,
                block: None,
                receipt_due: None,
            };
            format!("{:?}", store.settle(&settle).await.expect("answers"))
        }
        Step::Verify { recipient, check_id, digest, kid } => {
            let digests: Vec<_> =
                ["k1", "k3"][..usize::from((*kid).min(2))].iter().map(|k| (*k, named(*digest))).collect();
            let limits = tight();
            let check = Check {
                recipient: named(*recipient),
                purpose: "verification",
                check_id: *check_id,
                digests: &digests,
                limits: &limits,
            };
            format!("{:?}", store.verify(&check).await.expect("answers"))
        }
        Step::Usage { copy } => {
            let ask = copy.ask(now);
            format!(
                "{:?}",
                store.usage(&ask.handling().subject, Some(&ask.request), &tight()).await.expect("answers")
            )
        }
    }
}

async fn agree(steps: Vec<Step>) {
    let redis = real::Redis::fresh();
    let (memory, scripts) = (MemoryStore::new(Clock::System), redis.store());
    let mut now = START;
    for (at, step) in steps.iter().enumerate() {
        if let Step::Pass { milliseconds } = step {
            now = UnixMillis(now.0 + milliseconds);
        }
        memory.at(now);
        scripts.at(now);
        let (expected, got) = (answer(&memory, step, now).await, answer(&scripts, step, now).await);
        assert_eq!(expected, got, "step {at} {step:?} of {steps:#?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, max_shrink_iters: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn memory_and_redis_answer_the_same(steps in prop::collection::vec(steps(), 1..120)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(agree(steps));
    }
}
