//! The store in memory and the Redis scripts must give the same answers to the same random steps at the same times.

use std::time::Duration;

use otpost::clock::Clock;
use otpost::domain::budget::{Reservation, UtcOffset};
use otpost::domain::challenge::{ChallengeId, PROVIDER_MADE};
use otpost::domain::conversion::{Bucket, BucketWidth, ConversionEntry, Dimension};
use otpost::domain::conversion_batch::ConversionBatch;
use otpost::domain::defence::CountedScopes;
use otpost::domain::history::RequestHistory;
use otpost::domain::limit::{Limit, Limits};
use otpost::domain::opt_status::{OptMessage, OptStatus, whole_seconds};
use otpost::domain::outcome::{ErrorCode, OutcomeError, Status};
use otpost::domain::receipt::DeliveryStatus;
use otpost::domain::request_id::RequestId;
use otpost::domain::shards::Shards;
use otpost::domain::suppression::{ManualSuppression, NewSuppression, SuppressionTarget};
use otpost::domain::time::UnixMillis;
use otpost::store::code_check::{CodeCheck, ProviderCheckEnd};
use otpost::store::memory::MemoryStore;
use otpost::store::redis::RedisStore;
use otpost::store::{
    AdmissionInput, ClaimInput, CompletionInput, NewReceipt, PanicInput, Progress, Refund, StoreError,
};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use crate::contract::store::conversion;
use crate::contract::store::shard_charges::expect_logs_agree_with_records;
use crate::contract::store::spend::{reservation, spent};
use crate::contract::store::{START, TestRequest, TimedStore, limits, named, request_to, sent};
use crate::real;
use crate::redis_nodes::{self, Cluster, Persistence};

#[derive(Clone, Debug)]
enum Step {
    Pass { milliseconds: u64 },
    AdmissionInput(Copy),
    Progress { copy: Copy, progress: u8, attempts_made: Option<u32> },
    CountPanic { copy: Copy, may_have_sent: bool },
    Claim { copy: Copy, listed: u8, a_text_is_missing: bool },
    Complete { copy: Copy, end: End },
    Verify { recipient: u8, check_id: u64, digest: u8, kid: u8 },
    Usage { copy: Copy },
    NewReceipt { copy: Copy, message: u8, status: usize, published: bool, suppress: Option<Suppression> },
    OverdueReceipts { wait_max: u64 },
    Heartbeat { worker: u64, is_active: bool },
    KillSwitch { change: Option<bool> },
    RequestRecord { copy: Copy, with_recipient: bool },
    RecentRequests { recipient: u8 },
    AddSuppression { recipient: u8, minutes: Option<u64> },
    RemoveSuppression { recipient: u8 },
    Suppressions { count_max: u32 },
    OptStatus { recipient: u8, opts_in: bool, ago: u64 },
    BeginProviderCheck { recipient: u8, check_id: u64 },
    FinishProviderCheck { recipient: u8, check_id: u64, answer: u8 },
    ReopenChallenge { recipient: u8, check_id: u64 },
    LinkVerification { copy: Copy, sid: u8 },
    IdempotencyKey { key: u8, request: Option<u8> },
    AddConversion { writer: u64, sequence: u32, entries: Vec<Counted> },
    Conversion { dimension: usize },
    SpendBook,
}

/// A count of some minutes ago.
#[derive(Clone, Debug)]
struct Counted {
    minutes_ago: u64,
    dimension: usize,
    name: u8,
    sent: u32,
    verified: u32,
}

/// The completion of a request.
#[derive(Clone, Debug)]
struct End {
    status: u8,
    message: Option<u8>,
    found: bool,
    suppression: Option<Suppression>,
    receipt_due: Option<u64>,
}

/// A suppression that the provider's answer causes.
#[derive(Clone, Debug)]
struct Suppression {
    country: bool,
    code: u32,
    minutes: Option<u64>,
}

const COUNTRY: &str = "CO";
const STATUSES: [DeliveryStatus; 7] = [
    DeliveryStatus::Accepted,
    DeliveryStatus::Queued,
    DeliveryStatus::Sent,
    DeliveryStatus::Delivered,
    DeliveryStatus::Undelivered,
    DeliveryStatus::Failed,
    DeliveryStatus::Read,
];

/// One copy of a request, under the lease of one owner.
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
    /// The limit of all sends.
    all: u32,
}

/// Mostly one of the first few, so that steps meet.
fn mostly(few: u8, many: u8) -> impl Strategy<Value = u8> {
    prop_oneof![4 => 0..few, 1 => 0..many]
}

fn copies() -> impl Strategy<Value = Copy> {
    (
        (mostly(1, 3), mostly(2, 12), mostly(1, 3).prop_map(u64::from), 0..3_u8, 0..4_u8),
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
                all: 6,
            },
        )
}

fn steps() -> impl Strategy<Value = Step> {
    let passes =
        prop_oneof![4 => 0..2_000_u64, 4 => 0..60_000_u64, 1 => 0..4_000_000_u64, 1 => 0..100_000_000_u64];
    prop_oneof![
        3 => passes.prop_map(|milliseconds| Step::Pass { milliseconds }),
        8 => copies().prop_map(Step::AdmissionInput),
        6 => (copies(), 0..6_u8, prop::option::weighted(0.95, 0..4_u32)).prop_map(|(copy, progress, attempts_made)| Step::Progress { copy, progress, attempts_made }),
        3 => (copies(), any::<bool>()).prop_map(|(copy, may_have_sent)| Step::CountPanic { copy, may_have_sent }),
        3 => (copies(), ends()).prop_map(|(copy, end)| Step::Complete { copy, end }),
        3 => (copies(), 1..4_u8, prop::bool::weighted(0.2)).prop_map(|(copy, listed, a_text_is_missing)| Step::Claim { copy, listed, a_text_is_missing }),
        5 => (0..3_u8, 0..40_u64, 0..5_u8, 0..3_u8)
            .prop_map(|(recipient, check_id, digest, kid)| Step::Verify { recipient, check_id, digest, kid }),
        1 => copies().prop_map(|copy| Step::Usage { copy }),
        4 => (copies(), 0..3_u8, 0..STATUSES.len(), any::<bool>(), suppressions()).prop_map(
            |(copy, message, status, published, suppress)| Step::NewReceipt { copy, message, status, published, suppress }
        ),
        3 => (0..700_000_u64).prop_map(|wait_max| Step::OverdueReceipts { wait_max }),
        1 => (0..3_u64, any::<bool>()).prop_map(|(worker, is_active)| Step::Heartbeat { worker, is_active }),
        1 => prop::option::of(any::<bool>()).prop_map(|change| Step::KillSwitch { change }),
        2 => (copies(), any::<bool>()).prop_map(|(copy, with_recipient)| Step::RequestRecord { copy, with_recipient }),
        1 => (0..3_u8).prop_map(|recipient| Step::RecentRequests { recipient }),
        1 => (0..3_u8, prop::option::of(1..60_u64))
            .prop_map(|(recipient, minutes)| Step::AddSuppression { recipient, minutes }),
        1 => (0..3_u8).prop_map(|recipient| Step::RemoveSuppression { recipient }),
        1 => (0..4_u32).prop_map(|count_max| Step::Suppressions { count_max }),
        3 => (0..3_u8, any::<bool>(), prop_oneof![4 => 0..100_000_u64, 1 => 0..100_000_000_u64])
            .prop_map(|(recipient, opts_in, ago)| Step::OptStatus { recipient, opts_in, ago }),
        3 => (mostly(1, 3), 0..12_u64).prop_map(|(recipient, check_id)| Step::BeginProviderCheck { recipient, check_id }),
        3 => (mostly(1, 3), 0..12_u64, 0..4_u8).prop_map(|(recipient, check_id, answer)| Step::FinishProviderCheck { recipient, check_id, answer }),
        2 => (mostly(1, 3), 0..12_u64).prop_map(|(recipient, check_id)| Step::ReopenChallenge { recipient, check_id }),
        2 => (copies(), 0..3_u8).prop_map(|(copy, sid)| Step::LinkVerification { copy, sid }),
        1 => (0..3_u8, prop::option::of(0..3_u8)).prop_map(|(key, request)| Step::IdempotencyKey { key, request }),
        3 => (0..3_u64, 1..6_u32, prop::collection::vec(counted(), 1..4))
            .prop_map(|(writer, sequence, entries)| Step::AddConversion { writer, sequence, entries }),
        2 => (0..Dimension::ALL.len()).prop_map(|dimension| Step::Conversion { dimension }),
        2 => Just(Step::SpendBook),
    ]
}

fn counted() -> impl Strategy<Value = Counted> {
    let names = mostly(3, 120);
    (0..2_000_u64, 0..Dimension::ALL.len(), names, 0..3_u32, 0..3_u32).prop_map(
        |(minutes_ago, dimension, name, sent, verified)| Counted {
            minutes_ago,
            dimension,
            name,
            sent,
            verified,
        },
    )
}

fn ends() -> impl Strategy<Value = End> {
    let message = prop::option::weighted(0.8, 0..4_u8);
    (0..4_u8, message, any::<bool>(), suppressions(), prop::option::of(0..300_000_u64)).prop_map(
        |(status, message, found, suppression, receipt_due)| End {
            status,
            message,
            found,
            suppression,
            receipt_due,
        },
    )
}

fn suppressions() -> impl Strategy<Value = Option<Suppression>> {
    let minutes = prop::option::weighted(0.9, 0..60_u64);
    let suppression = (any::<bool>(), 1..4_u32, minutes).prop_map(|(country, code, minutes)| Suppression {
        country,
        code,
        minutes,
    });
    prop::option::weighted(0.1, suppression)
}

impl Suppression {
    fn new_suppression(&self) -> NewSuppression<'static> {
        NewSuppression {
            target: if self.country {
                SuppressionTarget::Country(COUNTRY)
            } else {
                SuppressionTarget::Recipient
            },
            provider_code: self.code,
            duration: self.minutes.map(|minutes| Duration::from_secs(minutes * 60)),
            masked: "+57**",
        }
    }
}

impl Counted {
    fn entry(&self, now: UnixMillis) -> ConversionEntry {
        let (at, dimension) = (UnixMillis(now.0 - 60_000 * self.minutes_ago), Dimension::ALL[self.dimension]);
        let name = match (self.name, dimension.has_digits()) {
            (0, _) => String::new(),
            (name, true) => format!("+5730{name}"),
            (name, false) => format!("n{name}"),
        };
        conversion::entry(at, dimension, &name, self.sent, self.verified)
    }
}

fn tight() -> Limits {
    let counts = [(Limit::Recipient, 3), (Limit::User, 4), (Limit::Wrong, 7)];
    counts.into_iter().fold(limits(), |limits, (limit, count)| limits.with(limit, count))
}

impl Copy {
    fn limits(&self) -> Limits {
        tight().with(Limit::All, self.all)
    }

    fn request_to(&self, now: UnixMillis) -> TestRequest {
        let base = request_to(self.recipient, &format!("r{}", self.request));
        TestRequest {
            owner: self.owner + 1,
            user: (self.user > 0).then(|| named(200 + self.user)),
            // Without a cooldown several requests are in progress at once.
            limits: match self.user {
                2 => Limits { cooldown: Duration::ZERO, ..self.limits() },
                _ => self.limits(),
            },
            requested_at: self.requested_ago.map(|ago| UnixMillis(if ago < 3_000 { 0 } else { now.0 - ago })),
            not_after: self.left.map(|left| UnixMillis(now.0 + left)),
            challenge: 100 + self.challenge,
            digest: self.challenge,
            kid: ["k1", PROVIDER_MADE, "k1", "k3"][usize::from(self.challenge)],
            callers_code: self.callers_code,
            request: RequestId::parse(&format!("r{}", self.request)).expect("valid"),
            history: self.history(),
            ..base
        }
    }
}

impl Copy {
    /// Some requests count against budgets, others not.
    fn spend(&self) -> Option<Reservation> {
        match self.user {
            1 => Some(reservation(30, Some(90), None)),
            2 => Some(reservation(20, Some(200), Some(150))),
            _ => None,
        }
    }

    fn history(&self) -> RequestHistory {
        RequestHistory {
            trace: None,
            user: (self.user > 0).then(|| named(200 + self.user)),
            network: (self.challenge > 1).then(|| named(230 + self.challenge)),
            counted: (self.challenge > 1).then(|| CountedScopes::from_stored(self.user)),
            callers_code: self.callers_code,
            handed_to: ["twilio", "infobip"][..if self.owner > 0 { 2 } else { 0 }]
                .iter()
                .map(|name| (*name).to_owned())
                .collect(),
            to: format!("+5{}", self.recipient),
            correlation_id: (self.user == 0).then(|| format!("\"challenge\":\"{}\" ", self.request)),
            challenge: (self.owner > 0).then(|| named(100 + self.challenge).to_string()),
            entries: Vec::new(),
        }
    }
}

async fn answer(store: &dyn TimedStore, step: &Step, now: UnixMillis) -> String {
    match step {
        Step::Pass { .. } => String::new(),
        Step::AdmissionInput(copy) => admit(store, copy, now).await,
        Step::Progress { copy, progress, attempts_made } => {
            update_progress(store, copy, *progress, *attempts_made, now).await
        }
        Step::CountPanic { copy, may_have_sent } => {
            let request = copy.request_to(now);
            let input = PanicInput { lease: request.lease(), may_have_sent: *may_have_sent, panics_max: 2 };
            shown(store.count_panic(&input).await)
        }
        Step::Claim { copy, listed, a_text_is_missing } => {
            claim(store, copy, *listed, *a_text_is_missing, now).await
        }
        Step::Complete { copy, end } => complete(store, copy, end, now).await,
        Step::Verify { recipient, check_id, digest, kid } => {
            verify(store, *recipient, *check_id, *digest, *kid).await
        }
        Step::Usage { copy } => {
            let request = copy.request_to(now);
            shown(store.usage(&request.lease().subject, Some(&request.request), &copy.limits()).await)
        }
        Step::NewReceipt { copy, message, status, published, suppress } => {
            let request = copy.request_to(now);
            let receipt = NewReceipt {
                recipient: named(copy.recipient),
                request_id: &request.request,
                message_id: &format!("SM{message}"),
                status: STATUSES[*status],
                provider_code: (*status > 3).then_some(30_000),
                published: *published,
                suppression: suppress.as_ref().map(Suppression::new_suppression),
            };
            shown(store.record_receipt(&receipt).await)
        }
        Step::OverdueReceipts { wait_max } => {
            let mut overdue = store.overdue_receipts(Duration::from_millis(*wait_max), 1_000).await;
            if let Ok(overdue) = &mut overdue {
                overdue.sort_by_key(|overdue| format!("{overdue:?}"));
            }
            for lapsed in
                overdue.iter().flatten().filter(|overdue| overdue.lapsed && overdue.completed_at.0 % 2 == 0)
            {
                store.end_receipt_wait(lapsed).await.expect("answers");
            }
            shown(overdue)
        }
        Step::Heartbeat { worker, is_active } => shown(store.heartbeat(*worker, *is_active).await),
        Step::KillSwitch { change: None } => shown(store.kill_switch().await),
        Step::KillSwitch { change: Some(on) } => {
            let reason = on.then(|| format!("at {now}"));
            shown(store.set_kill_switch(reason.as_deref()).await)
        }
        Step::RequestRecord { copy, with_recipient } => {
            let recipient = with_recipient.then(|| named(copy.recipient));
            shown(store.request_record(&copy.request_to(now).request, recipient).await)
        }
        Step::RecentRequests { recipient } => shown(store.recent_requests(named(*recipient)).await),
        Step::AddSuppression { recipient, minutes } => {
            let reason = if minutes.is_some() { "a while" } else { "" };
            let duration = minutes.map(|minutes| Duration::from_secs(minutes * 60));
            let manual = ManualSuppression { masked: "+58*", reason, duration };
            shown(store.add_suppression(named(*recipient), &manual).await)
        }
        Step::RemoveSuppression { recipient } => shown(store.remove_suppression(named(*recipient)).await),
        Step::Suppressions { count_max } => shown(store.suppressions(*count_max).await),
        Step::OptStatus { recipient, opts_in, ago } => {
            let status = if *opts_in { OptStatus::OptedIn } else { OptStatus::OptedOut };
            let sent_at = whole_seconds(UnixMillis(now.0.saturating_sub(*ago)));
            let message = OptMessage { status, sent_at, provider_code: 21_610, masked: "+58*" };
            shown(store.record_opt_status(named(*recipient), &message).await)
        }
        Step::IdempotencyKey { key, request } => {
            shown(store.bind_idempotency_key(named(*key), request.map(named)).await)
        }
        Step::AddConversion { writer, sequence, entries } => {
            let entries = entries.iter().map(|counted| counted.entry(now)).collect();
            let batch = ConversionBatch { writer: *writer, sequence: *sequence, entries, spend: Vec::new() };
            shown(store.add_conversion(&batch).await)
        }
        Step::SpendBook => shown(store.spend_book(UtcOffset::new(-300)).await),
        Step::Conversion { dimension } => {
            let ago = |minutes: u64| UnixMillis(now.0 - 60_000 * minutes);
            let narrow = [0, 5, 60, 140].map(|minutes| Bucket::of(BucketWidth::FiveMinutes, ago(minutes)));
            let wide = [0, 60, 600].map(|minutes| Bucket::of(BucketWidth::Hour, ago(minutes)));
            let buckets: Vec<Bucket> = narrow.into_iter().chain(wide).collect();
            shown(store.conversion(Dimension::ALL[*dimension], &buckets).await)
        }
        Step::BeginProviderCheck { recipient, check_id }
        | Step::FinishProviderCheck { recipient, check_id, .. }
        | Step::ReopenChallenge { recipient, check_id } => {
            provider_check(store, step, *recipient, *check_id).await
        }
        Step::LinkVerification { copy, sid } => {
            let (request, challenge) =
                (copy.request_to(now), ChallengeId::from_digest(named(100 + copy.challenge)));
            shown(store.link_verification(&request.lease().subject, &challenge, &format!("VE{sid}")).await)
        }
    }
}

async fn provider_check(store: &dyn TimedStore, step: &Step, recipient: u8, check_id: u64) -> String {
    let (limits, digests) = (tight(), [("k1", named(1))]);
    let (recipient, purpose) = (named(recipient), "verification");
    let check = CodeCheck { recipient, purpose, check_id, digests: &digests, limits: &limits };
    match step {
        Step::BeginProviderCheck { .. } => shown(store.begin_provider_check(&check).await),
        Step::FinishProviderCheck { answer, .. } => {
            use ProviderCheckEnd::{ApprovedAfterLostAnswer, NotCompared, Right, Wrong};
            let answer = [Right, ApprovedAfterLostAnswer, Wrong, NotCompared][usize::from(*answer)];
            shown(store.finish_provider_check(&check, answer).await)
        }
        _ => shown(store.reopen_challenge(&check).await),
    }
}

/// The answer as text, in which two stores can be compared.
fn shown<T: std::fmt::Debug>(answer: Result<T, StoreError>) -> String {
    format!("{:?}", answer.expect("answers"))
}

async fn admit(store: &dyn TimedStore, copy: &Copy, now: UnixMillis) -> String {
    let request = copy.request_to(now);
    let disabled = OutcomeError::of(ErrorCode::ChannelDisabled);
    // With more than one shard a process compares with what it has read.
    store.spend_book(UtcOffset::new(-300)).await.expect("answers");
    let admit = AdmissionInput {
        reject_if_new: (copy.challenge == 2 && copy.owner == 2).then_some(&disabled),
        gate_closed: copy.challenge == 1 && copy.owner == 2,
        country: (copy.recipient == 2).then_some(COUNTRY),
        code_key_ids: ",k1,k2,@provider,",
        spend: copy.spend(),
        ..request.admit()
    };
    shown(store.admit(&admit).await)
}

async fn update_progress(
    store: &dyn TimedStore,
    copy: &Copy,
    progress: u8,
    attempts_made: Option<u32>,
    now: UnixMillis,
) -> String {
    let progress = match progress {
        0 => Progress::Waiting(Duration::from_millis(7_500)),
        1 => Progress::Sending(Duration::from_secs(20)),
        2 | 3 => Progress::InDoubt(Duration::from_secs(10)),
        _ => Progress::Requeued {
            retry_in: Duration::from_secs(u64::from(attempts_made == Some(1))),
            in_doubt: progress == 5,
        },
    };
    let request = copy.request_to(now);
    let history = Some(copy.history()).filter(|_| attempts_made == Some(1));
    shown(store.update_progress(&request.lease(), attempts_made, progress, history.as_ref()).await)
}

async fn complete(store: &dyn TimedStore, copy: &Copy, end: &End, now: UnixMillis) -> String {
    let mut outcome = sent(now);
    let status = usize::from(end.status);
    outcome.status = [Status::Sent, Status::Failed, Status::Rejected, Status::Unknown][status];
    // A provider names each message once, so another request can have its id only from a lookup.
    let message = |message| format!("SM{}", if end.found { message } else { copy.request });
    outcome.provider_message_id = end.message.map(message);
    outcome.history = copy.history();
    let request = copy.request_to(now);
    let completion = CompletionInput {
        lease: request.lease(),
        outcome: &outcome,
        refund: [Refund::None, Refund::FullAndCounted, Refund::Full, Refund::None][status],
        limits: &request.limits,
        found_by_lookup: end.found,
        message_is_unnamed: false,
        suppression: end.suppression.as_ref().map(Suppression::new_suppression),
        poll_receipt_after: end.receipt_due.map(Duration::from_millis),
        spent: (copy.user == 1).then(|| spent(10)),
    };
    shown(store.complete(&completion).await)
}

async fn claim(
    store: &dyn TimedStore,
    copy: &Copy,
    listed: u8,
    a_text_is_missing: bool,
    now: UnixMillis,
) -> String {
    let request = copy.request_to(now);
    let ids: Vec<String> = (0..listed).map(|message| format!("SM{message}")).collect();
    let listed: Vec<&str> = ids.iter().map(String::as_str).collect();
    let claim = ClaimInput { lease: request.lease(), listed: &listed, a_text_is_missing };
    shown(store.claim_message(&claim).await)
}

async fn verify(store: &dyn TimedStore, recipient: u8, check_id: u64, digest: u8, kid: u8) -> String {
    let kids = &["k1", "k3"][..usize::from(kid.min(2))];
    let digests: Vec<_> = kids.iter().map(|kid| (*kid, named(digest))).collect();
    let limits = tight();
    let check = CodeCheck {
        recipient: named(recipient),
        purpose: "verification",
        check_id,
        digests: &digests,
        limits: &limits,
    };
    shown(store.verify(&check).await)
}

/// A step whose answer more than one shard does not weaken or change: a request always brings the same user; without the cap over all
/// sends, whose places are leased; without suppressed countries, which a worker knows by its heartbeat; and a record is sought with
/// its recipient, as others may have used the same id in other shards.
fn for_shards(mut step: Step) -> Step {
    match &mut step {
        Step::AdmissionInput(copy)
        | Step::Progress { copy, .. }
        | Step::CountPanic { copy, .. }
        | Step::Claim { copy, .. }
        | Step::Complete { copy, .. }
        | Step::Usage { copy }
        | Step::NewReceipt { copy, .. }
        | Step::RequestRecord { copy, .. }
        | Step::LinkVerification { copy, .. } => (copy.user, copy.all) = (copy.request % 3, 0),
        _ => {}
    }
    match &mut step {
        Step::Complete { end: End { suppression: Some(suppression), .. }, .. }
        | Step::NewReceipt { suppress: Some(suppression), .. } => suppression.country = false,
        Step::RequestRecord { with_recipient, .. } => *with_recipient = true,
        _ => {}
    }
    step
}

async fn agree(steps: Vec<Step>, packed: &RedisStore) -> UnixMillis {
    let memory = MemoryStore::new(Clock::System);
    let mut now = START;
    for (at, step) in steps.iter().enumerate() {
        if let Step::Pass { milliseconds } = step {
            now = UnixMillis(now.0 + milliseconds);
        }
        memory.at(now);
        packed.at(now);
        let (expected, got) = (answer(&memory, step, now).await, answer(packed, step, now).await);
        assert_eq!(expected, got, "step {at} {step:?} of {steps:#?}");
    }
    now
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn memory_and_redis_answer_the_same(steps in prop::collection::vec(steps(), 1..120)) {
        let redis = real::Redis::fresh();
        runtime().block_on(agree(steps, &redis.store()));
    }

    #[test]
    fn memory_and_shards_answer_the_same(steps in prop::collection::vec(steps(), 1..120), are_16 in any::<bool>()) {
        let redis = real::Redis::fresh();
        let store = redis.sharded(if are_16 { 16 } else { 256 });
        runtime().block_on(async {
            let now = agree(steps.into_iter().map(for_shards).collect(), &store).await;
            expect_logs_agree_with_records(&redis, &store, now).await;
        });
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

#[test]
fn memory_and_a_cluster_answer_the_same() {
    if !redis_nodes::is_installed() {
        eprintln!("not tried: redis-server is not installed");
        return;
    }
    real::install_crypto();
    let runtime = runtime();
    let cluster = runtime.block_on(Cluster::start(3, 0, Persistence::Nothing)).expect("a Cluster");
    let config =
        ProptestConfig { cases: cases() / 10, failure_persistence: None, ..ProptestConfig::default() };
    let sequences = (prop::collection::vec(steps(), 1..120), any::<bool>());
    let result = TestRunner::new(config).run(&sequences, |(steps, are_sharded)| {
        let (steps, shards) = match are_sharded {
            true => {
                (steps.into_iter().map(for_shards).collect(), Shards::new(256).expect("a number of shards"))
            }
            false => (steps, Shards::ONE),
        };
        let store = RedisStore::connect(&cluster.url(), &real::unique("model"), shards).expect("a URL");
        runtime.block_on(agree(steps, &store));
        Ok(())
    });
    result.expect("both give the same answers");
}

/// `MODEL_CASES` asks for more than a run of all tests has time for.
fn cases() -> u32 {
    std::env::var("MODEL_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(150)
}
