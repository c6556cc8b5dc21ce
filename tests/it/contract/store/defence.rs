//! Pumping defence: budgets by scope, holds that end, overrides and verified numbers, all within bounds of time and number.

use std::time::Duration;

use otpost::clock::Clock;
use otpost::domain::defence::{
    BLOCK_PARTS, Budget, Change, CountedScopes, DefenceBatch, DefenceRule, HOLDS_MAX, PrefixChanges,
    RECORDS_MAX, Scope, ScopeChanges, ScopeKind, minute_of,
};
use otpost::domain::defence_list::{Hold, NewOverride, OVERRIDES_MAX, OverrideAction, OverrideTarget};
use otpost::domain::keyed_digest::Digest16;
use otpost::domain::outcome::{ErrorCode, OutcomeError};
use otpost::domain::suppression::ManualSuppression;
use otpost::domain::time::UnixMillis;
use otpost::store::code_check::{CheckAnswer, CodeCheck};
use otpost::store::defence::OverrideChange;
use otpost::store::memory::MemoryStore;
use otpost::store::{AdmissionInput, DefenceStore as _};

use super::{START, TestRequest, TimedStore, admit, granted, limits, named, rejected, request_to};
use crate::real::Redis;

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);
const PREFIX: u64 = 57_300;
const HOLD: Duration = Duration::from_secs(600);

pub(super) async fn keeps_its_promises(store: &dyn TimedStore) {
    a_block_over_its_budget_is_held_until_it_has_leaked(store).await;
    a_batch_counts_once(store).await;
    verifications_keep_a_block_free_and_make_no_record(store).await;
    a_held_block_does_not_count_to_its_prefix(store).await;
    a_prefix_is_relieved_by_its_worst_blocks_before_it_is_held(store).await;
    a_block_that_is_held_again_takes_only_what_is_new_off_its_prefix(store).await;
    an_override_lasts_until_its_end_or_its_removal(store).await;
    a_verification_is_remembered_for_ninety_days_and_can_be_forgotten(store).await;
    a_network_whose_people_verify_is_not_held(store).await;
    a_refusal_keeps_its_rule_for_a_repeat(store).await;
    a_suppressed_person_is_refused_as_suppressed(store).await;
    a_verified_code_names_the_user_and_the_network_of_its_request(store).await;
    // Its holds last.
    users_and_networks_have_budgets_of_their_own(store).await;
}

fn block(nth: u64) -> Scope {
    Scope { kind: ScopeKind::Block, id: PREFIX * 10_000 + nth }
}

fn changes(scope: Scope, at: UnixMillis, sent: u16, verified: u16) -> ScopeChanges {
    let changes = vec![Change { minute: minute_of(at), sent, verified }];
    ScopeChanges { scope, budget: scope.kind.floor(), weight: 300, changes }
}

/// Changes of blocks of one prefix, in a batch of a writer of its own.
fn batch(writer: u64, sequence: u32, blocks: Vec<ScopeChanges>) -> DefenceBatch {
    let scope = Scope { kind: ScopeKind::Prefix, id: PREFIX };
    let own = ScopeChanges { scope, budget: scope.kind.floor(), weight: 300, changes: Vec::new() };
    let prefixes = vec![PrefixChanges { own, blocks }];
    DefenceBatch { writer, sequence, prefixes, subjects: Vec::new() }
}

async fn held(store: &dyn TimedStore) -> Vec<(Scope, u64)> {
    let list = store.add_defence(&DefenceBatch::default()).await.expect("answers");
    let state = store.defence(&[]).await.expect("answers");
    assert_eq!(state.list, list);
    list.holds.into_iter().map(|hold| (hold.scope, hold.left.as_secs() / 60)).collect()
}

/// Sends and verifications of a block in the buckets of an hour and of a day, and pending ones.
async fn counted(store: &dyn TimedStore, scope: Scope) -> Option<(u32, u32, u32)> {
    let state = store.defence(&[(PREFIX, scope)]).await.expect("answers");
    let record = state.records[0]?;
    let Budget { hour, day } = record.unverified();
    Some((record.pending_sends(), hour, day))
}

/// Far from the other tests, so that no record of theirs is left.
fn begin(store: &dyn TimedStore, test: u32) -> UnixMillis {
    let at = START.plus((400 + 10 * test) * DAY);
    store.at(at);
    at
}

async fn a_block_over_its_budget_is_held_until_it_has_leaked(store: &dyn TimedStore) {
    let at = begin(store, 0);
    let of = |at, sent| vec![changes(block(1), at, sent, 0)];
    store.add_defence(&batch(900, 1, of(at, 66))).await.expect("answers");
    assert_eq!(held(store).await, [], "of 66, twenty are expected to stay unverified");
    store.add_defence(&batch(900, 2, of(at, 1))).await.expect("answers");
    // Of 67, 37 leak in 888 minutes at 60 a day: then half of the budget is left.
    assert_eq!(held(store).await, [(block(1), 888)]);
    let later = at.plus(887 * MINUTE);
    store.at(later);
    assert_eq!(held(store).await, [(block(1), 1)]);
    store.at(at.plus(888 * MINUTE));
    assert_eq!(held(store).await, []);
    assert_eq!(counted(store, block(1)).await, Some((0, 0, 30)));
}

async fn a_batch_counts_once(store: &dyn TimedStore) {
    let at = begin(store, 1);
    let of = |sent| vec![changes(block(2), at, sent, 0)];
    for (writer, sequence, sent) in [(910, 1, 1), (910, 1, 1), (910, 3, 2), (910, 2, 9), (911, 1, 4)] {
        store.add_defence(&batch(writer, sequence, of(sent))).await.expect("answers");
    }
    assert_eq!(counted(store, block(2)).await, Some((7, 0, 0)));
}

async fn verifications_keep_a_block_free_and_make_no_record(store: &dyn TimedStore) {
    let at = begin(store, 2);
    store.add_defence(&batch(920, 1, vec![changes(block(3), at, 0, 5)])).await.expect("answers");
    assert_eq!(counted(store, block(3)).await, None);
    store.add_defence(&batch(920, 2, vec![changes(block(3), at, 80, 30)])).await.expect("answers");
    assert_eq!(held(store).await, []);
    assert_eq!(counted(store, block(3)).await, Some((50, 0, 0)));
    let later = at.plus(5 * MINUTE);
    store.at(later);
    store.add_defence(&batch(920, 3, vec![changes(block(3), at, 0, 40)])).await.expect("answers");
    assert_eq!(counted(store, block(3)).await, Some((0, 8, 9)), "five minutes have leaked");
    assert_eq!(held(store).await, []);
}

async fn a_held_block_does_not_count_to_its_prefix(store: &dyn TimedStore) {
    let at = begin(store, 3);
    let prefix = Scope { kind: ScopeKind::Prefix, id: PREFIX };
    let of = |sent| vec![changes(block(4), at, sent, 0), changes(block(5), at, 3, 0)];
    store.add_defence(&batch(930, 1, of(50))).await.expect("answers");
    assert_eq!(counted(store, prefix).await, Some((53, 0, 0)));
    store.add_defence(&batch(930, 2, of(50))).await.expect("answers");
    assert_eq!(counted(store, prefix).await, Some((6, 0, 0)), "its share is taken off");
    store.add_defence(&batch(930, 3, of(500))).await.expect("answers");
    assert_eq!(counted(store, prefix).await, Some((9, 0, 0)), "it adds nothing while it is held");
    assert_eq!(held(store).await.iter().map(|(scope, _)| *scope).collect::<Vec<_>>(), [block(4)]);
    // Verifications free it early.
    store.add_defence(&batch(930, 4, vec![changes(block(4), at, 0, 595)])).await.expect("answers");
    assert_eq!(held(store).await, []);
}

async fn a_prefix_is_relieved_by_its_worst_blocks_before_it_is_held(store: &dyn TimedStore) {
    let at = begin(store, 4);
    let prefix = Scope { kind: ScopeKind::Prefix, id: PREFIX };
    // 40 blocks with 45 sends, of which 13 count, and 20 with one.
    let many = (100..140).map(|nth| changes(block(nth), at, 45, 0));
    let few = (200..220).map(|nth| changes(block(nth), at, 1, 0));
    store.add_defence(&batch(940, 1, many.chain(few).collect())).await.expect("answers");
    let scopes: Vec<Scope> = held(store).await.into_iter().map(|(scope, _)| scope).collect();
    assert_eq!(scopes, (100..140).map(block).collect::<Vec<_>>());
    assert_eq!(counted(store, prefix).await, Some((20, 0, 0)));
    // So many blocks with a few each that only the prefix can be held.
    for sequence in 2..=10 {
        let blocks = (0..200).map(|nth| changes(block(1_000 + 200 * u64::from(sequence) + nth), at, 1, 0));
        store.add_defence(&batch(940, sequence, blocks.collect())).await.expect("answers");
    }
    assert!(held(store).await.iter().any(|(scope, _)| *scope == prefix));
}

async fn users_and_networks_have_budgets_of_their_own(store: &dyn TimedStore) {
    let at = begin(store, 11);
    let user = Scope { kind: ScopeKind::User, id: 0xfedc_ba98_7654_3210 };
    let network = Scope { kind: ScopeKind::Network, id: 0x0123_4567_89ab_cdef };
    let subjects = vec![changes(user, at, 34, 0), changes(network, at, 200, 0)];
    store
        .add_defence(&DefenceBatch { writer: 950, sequence: 1, prefixes: Vec::new(), subjects })
        .await
        .expect("answers");
    let scopes: Vec<Scope> = held(store).await.into_iter().map(|(scope, _)| scope).collect();
    assert_eq!(scopes, [user]);
    assert_eq!(counted(store, network).await, Some((200, 0, 0)));
    store.at(at.plus(3 * MINUTE));
    let subjects = vec![changes(network, at.plus(3 * MINUTE), 1, 0)];
    store
        .add_defence(&DefenceBatch { writer: 950, sequence: 2, prefixes: Vec::new(), subjects })
        .await
        .expect("answers");
    let scopes: Vec<Scope> = held(store).await.into_iter().map(|(scope, _)| scope).collect();
    assert_eq!(scopes, [user, network]);
    let new = NewOverride { action: OverrideAction::Allow, duration: DAY, shown: "MX", reason: "test" };
    let country = OverrideTarget::Country("MX".to_owned());
    store.set_defence_override(&country, Some(&new)).await.expect("answers");
}

async fn an_override_lasts_until_its_end_or_its_removal(store: &dyn TimedStore) {
    let at = begin(store, 6);
    let target = |text: &str| OverrideTarget::parse(text).expect("a target");
    let recipient = OverrideTarget::Recipient(named(250));
    let new =
        NewOverride { action: OverrideAction::Deny, duration: DAY, shown: "+57", reason: "año: attack" };
    let set = async |target: &OverrideTarget, new| {
        let OverrideChange::Done { before } = store.set_defence_override(target, new).await.expect("answers")
        else {
            panic!("there is room")
        };
        before
    };
    assert_eq!(set(&target("+57"), Some(&new)).await, None);
    let allow = NewOverride { action: OverrideAction::Allow, duration: 2 * DAY, ..new };
    set(&target("CO"), Some(&allow)).await;
    set(&recipient, Some(&allow)).await;
    let listed = store.defence(&[]).await.expect("answers").list.overrides;
    let targets: Vec<OverrideTarget> = listed.iter().map(|known| known.target.clone()).collect();
    assert_eq!(targets, [target("CO"), target("+57"), recipient.clone()]);
    assert_eq!((listed[1].since, listed[1].until, &*listed[1].reason), (at, at.plus(DAY), "año: attack"));
    store.at(at.plus(DAY));
    let listed = store.add_defence(&DefenceBatch::default()).await.expect("answers").overrides;
    assert_eq!(listed.len(), 2, "one has ended");
    assert_eq!(listed[0].left, DAY);
    assert_eq!(set(&target("CO"), None).await.map(|known| known.action), Some(OverrideAction::Allow));
    assert_eq!(set(&target("CO"), None).await, None);
    assert!(set(&recipient, Some(&new)).await.is_some(), "it is replaced");
}

async fn a_verification_is_remembered_for_ninety_days_and_can_be_forgotten(store: &dyn TimedStore) {
    let at = begin(store, 7);
    let [first, second, third] = [251, 252, 253].map(named);
    store.note_verified(&[first, second]).await.expect("answers");
    let verified = async |digest| store.has_verified(digest).await.expect("answers");
    assert_eq!((verified(first).await, verified(second).await, verified(third).await), (true, true, false));
    store.forget_verified(second).await.expect("answers");
    assert_eq!((verified(first).await, verified(second).await), (true, false));
    store.at(at.plus(90 * DAY));
    assert!(verified(first).await);
    store.at(at.plus(92 * DAY));
    assert!(!verified(first).await);
}

async fn a_refusal_keeps_its_rule_for_a_repeat(store: &dyn TimedStore) {
    begin(store, 9);
    let error = OutcomeError::refused(DefenceRule::UnverifiedPrefix, 90 * MINUTE);
    let request = TestRequest { recipient: 254, ..request_to(1, "pumping/1") };
    let refused = AdmissionInput { reject_if_new: Some(&error), ..request.admit() };
    for _ in 0..2 {
        assert_eq!(rejected(store.admit(&refused).await.expect("answers")), error);
    }
    assert_eq!(rejected(admit(store, &request).await), error, "also after the hold");
}

async fn a_suppressed_person_is_refused_as_suppressed(store: &dyn TimedStore) {
    begin(store, 9);
    let masked = "+57**252";
    let manual = ManualSuppression { masked, reason: "asked", duration: Some(DAY) };
    store.add_suppression(named(252), &manual).await.expect("answers");
    let refused = OutcomeError::refused(DefenceRule::Denied, 90 * MINUTE);
    let disabled = OutcomeError::of(ErrorCode::ChannelDisabled);
    for (id, error, code) in
        [("pumping/3", &refused, ErrorCode::Suppressed), ("pumping/4", &disabled, ErrorCode::ChannelDisabled)]
    {
        let request = TestRequest { recipient: 252, ..request_to(1, id) };
        let input = AdmissionInput { reject_if_new: Some(error), ..request.admit() };
        let rejected = rejected(store.admit(&input).await.expect("answers"));
        assert_eq!((rejected.code, rejected.rule), (code, None));
    }
    let request = TestRequest { recipient: 253, ..request_to(1, "pumping/5") };
    let input = AdmissionInput { reject_if_new: Some(&refused), ..request.admit() };
    assert_eq!(rejected(store.admit(&input).await.expect("answers")), refused);
}

async fn a_block_that_is_held_again_takes_only_what_is_new_off_its_prefix(store: &dyn TimedStore) {
    let at = begin(store, 5);
    let prefix = Scope { kind: ScopeKind::Prefix, id: PREFIX };
    let of = |at, sent| vec![changes(block(6), at, sent, 0)];
    store.add_defence(&batch(970, 1, of(at, 67))).await.expect("answers");
    assert_eq!(held(store).await, [(block(6), 888)]);
    let others_at = at.plus(884 * MINUTE);
    store.at(others_at);
    let others = (10..15).map(|nth| changes(block(nth), others_at, 60, 0)).collect();
    store.add_defence(&batch(970, 2, others)).await.expect("answers");
    let again = at.plus(888 * MINUTE);
    store.at(again);
    store.add_defence(&batch(970, 3, of(again, 60))).await.expect("answers");
    assert_eq!(held(store).await, []);
    let (pending, hour, day) = counted(store, prefix).await.expect("a record");
    assert_eq!(pending, 60);
    store.add_defence(&batch(970, 4, of(again, 10))).await.expect("answers");
    assert_eq!(held(store).await.len(), 1);
    // The thirty that the first hold has left are not in the prefix.
    assert_eq!(counted(store, prefix).await, Some((0, hour, day)));
    assert!(day > 280, "{day}");
    // The same after a hold that verifications have ended.
    store.add_defence(&batch(970, 5, vec![changes(block(6), again, 0, 70)])).await.expect("answers");
    assert_eq!(held(store).await, []);
    store.add_defence(&batch(970, 6, of(again, 70))).await.expect("answers");
    assert_eq!(held(store).await.len(), 1);
    assert_eq!(counted(store, prefix).await, Some((0, hour, day)));
}

async fn a_network_whose_people_verify_is_not_held(store: &dyn TimedStore) {
    for (id, verified, is_held) in [(0x77, 35, false), (0x78, 2, true)] {
        let at = begin(store, 8);
        let network = Scope { kind: ScopeKind::Network, id };
        let mut sequence = 0;
        let mut add = async |change_at: UnixMillis, sent, verified| {
            sequence += 1;
            let subjects = vec![changes(network, change_at, sent, verified)];
            let of_network = DefenceBatch { writer: 960 + id, sequence, prefixes: Vec::new(), subjects };
            let list = store.add_defence(&of_network).await.expect("answers");
            list.holds.iter().any(|hold| hold.scope == network)
        };
        // 7,200 sends a day, of which 2,160 are not verified.
        let mut was_held = false;
        for nth in 0..144_u32 {
            let sent_at = at.plus(10 * nth * MINUTE);
            store.at(sent_at);
            was_held |= add(sent_at, 50, 0).await;
            store.at(sent_at.plus(MINUTE));
            was_held |= add(sent_at, 0, verified).await;
        }
        assert_eq!(was_held, is_held);
        assert!(!add(at, 0, 10_000).await, "for the other tests");
    }
}

async fn a_verified_code_names_the_user_and_the_network_of_its_request(store: &dyn TimedStore) {
    begin(store, 10);
    let counted = CountedScopes::NONE.with(ScopeKind::Network);
    let of = |recipient, user, callers_code| {
        let mut request = TestRequest { recipient, callers_code, ..request_to(1, "pumping/2") };
        request.challenge = 7;
        request.digest = 8;
        request.history.user = user;
        request.history.network = Some(named(61));
        request.history.callers_code = callers_code;
        request.history.counted = user.map(|_| counted);
        request
    };
    for (recipient, user, callers_code) in [(254, Some(named(60)), false), (255, None, true)] {
        let request = of(recipient, user, callers_code);
        granted(admit(store, &request).await);
        let (digests, limits) = ([(request.kid, named(request.digest))], limits());
        let check = CodeCheck {
            recipient: named(recipient),
            purpose: request.purpose,
            check_id: 1,
            digests: &digests,
            limits: &limits,
        };
        let answer = store.verify(&check).await.expect("answers");
        let CheckAnswer::Verified { request: Some(found), .. } = answer else { panic!("{answer:?}") };
        assert_eq!((found.user, found.network), (user, Some(named(61))));
        assert_eq!((found.callers_code, found.counted), (callers_code, user.map(|_| counted)));
    }
}

/// xorshift64*: the same changes in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % end
    }

    fn changes(&mut self, scope: Scope, now: UnixMillis) -> ScopeChanges {
        let budget = Budget { hour: 5 + u32::from(self.count(40)), day: 20 + u32::from(self.count(100)) };
        let changes = (0..=self.below(2)).map(|_| Change {
            minute: minute_of(now).saturating_sub(u32::from(self.count(6))) + u32::from(self.count(2)),
            sent: self.count(12),
            verified: self.count(6),
        });
        let changes = changes.collect();
        ScopeChanges { scope, budget, weight: 200 + self.count(500), changes }
    }

    fn count(&mut self, end: u16) -> u16 {
        u16::try_from(self.below(end.into())).expect("it is below the end")
    }

    fn batch(&mut self, sequence: u32, now: UnixMillis) -> DefenceBatch {
        let mut batch = DefenceBatch { writer: 1 + self.below(3), sequence, ..DefenceBatch::default() };
        for id in [57_300, 57_310, 37_120].into_iter().take(1 + usize::from(self.count(3))) {
            let own = self.changes(Scope { kind: ScopeKind::Prefix, id }, now);
            let blocks = (0..self.below(40))
                .map(|nth| Scope { kind: ScopeKind::Block, id: id * 10_000 + 37 * nth + self.below(900) })
                .collect::<std::collections::BTreeSet<_>>();
            let blocks = blocks.into_iter().map(|scope| self.changes(scope, now)).collect();
            batch.prefixes.push(PrefixChanges { own, blocks });
        }
        for kind in [ScopeKind::User, ScopeKind::Network] {
            let id = self.below(30) << 40 | self.below(4);
            batch.subjects.push(self.changes(Scope { kind, id }, now));
        }
        batch
    }
}

async fn agrees(redis: &dyn TimedStore, seed: u64) {
    let memory = MemoryStore::new(Clock::System);
    let (mut random, mut now) = (Random(seed), START);
    let mut holds = 0;
    for sequence in 1..=300 {
        now = now.plus(Duration::from_millis(random.below(240_000)));
        if sequence % 40 == 0 {
            now = now.plus(Duration::from_secs(7_200));
        }
        memory.set_time(now);
        redis.at(now);
        let batch = random.batch(sequence, now);
        let [of_memory, of_redis] = [
            memory.add_defence(&batch).await.expect("answers"),
            redis.add_defence(&batch).await.expect("answers"),
        ];
        assert_eq!(of_redis, of_memory, "seed {seed}, batch {sequence}");
        holds += of_memory.holds.len();
        let touched = batch.prefixes.iter().flat_map(|prefix| {
            let id = prefix.own.scope.id;
            [&prefix.own].into_iter().chain(&prefix.blocks).map(move |changes| (id, changes.scope))
        });
        let scopes: Vec<(u64, Scope)> =
            touched.chain(batch.subjects.iter().map(|subject| (0, subject.scope))).collect();
        let [of_memory, of_redis] = [memory.defence(&scopes).await, redis.defence(&scopes).await];
        assert_eq!(of_redis.expect("answers"), of_memory.expect("answers"), "seed {seed}, batch {sequence}");
    }
    assert!(holds > 300, "{holds}");
}

#[tokio::test]
async fn redis_counts_and_holds_as_the_store_in_memory_does() {
    for seed in [7, 8, 9] {
        agrees(&Redis::fresh().store(), seed).await;
    }
}

#[tokio::test]
async fn shards_change_nothing_about_what_is_held() {
    let [one, other] = [Redis::fresh(), Redis::fresh()];
    agrees(&one.sharded(16), 10).await;
    keeps_its_promises(&other.sharded(16)).await;
}

async fn is_bounded(store: &dyn TimedStore) {
    let at = begin(store, 8);
    // All of one part.
    let blocks: Vec<Scope> = (0..600).map(|nth| block(nth * BLOCK_PARTS)).collect();
    for (sequence, some) in (1..).zip(blocks.chunks(50)) {
        let of = |scope: &Scope| changes(*scope, at, if scope.id == blocks[3].id { 9 } else { 1 }, 0);
        store.add_defence(&batch(980, sequence, some.iter().map(of).collect())).await.expect("answers");
    }
    let mut kept = 0;
    for scope in &blocks {
        kept += usize::from(counted(store, *scope).await.is_some());
    }
    assert!((RECORDS_MAX - 25..=RECORDS_MAX).contains(&kept), "{kept}");
    assert_eq!(counted(store, blocks[3]).await, Some((9, 0, 0)), "the one with most stays");
    // More holds than there may be: a crowd of users opens no block.
    store.add_defence(&batch(980, 99, vec![changes(block(3), at, 90, 0)])).await.expect("answers");
    for sequence in 0..12_u64 {
        let user = |nth| {
            changes(Scope { kind: ScopeKind::User, id: (1_000 * sequence + nth) << 20 | nth }, at, 40, 0)
        };
        let subjects = (0..100).map(user).collect();
        let of_users = DefenceBatch {
            writer: 981,
            sequence: u32::try_from(sequence).expect("a small number") + 1,
            prefixes: Vec::new(),
            subjects,
        };
        store.add_defence(&of_users).await.expect("answers");
    }
    let scopes: Vec<Scope> = held(store).await.into_iter().map(|(scope, _)| scope).collect();
    assert_eq!((scopes.len(), scopes[0]), (HOLDS_MAX, block(3)));
    for nth in 0..=OVERRIDES_MAX {
        let target = OverrideTarget::Digits((100 + nth).to_string());
        let new = NewOverride { action: OverrideAction::Deny, duration: DAY, shown: "+1", reason: "test" };
        let change = store.set_defence_override(&target, Some(&new)).await.expect("answers");
        assert_eq!(change == OverrideChange::Full, nth == OVERRIDES_MAX);
    }
    // One part of verified numbers.
    let digest = |nth: u8, other: u8| {
        let mut bytes = [nth; 16];
        (bytes[0], bytes[1], bytes[2]) = (1, 2, other);
        Digest16::from_bytes(bytes)
    };
    let mut all = Vec::new();
    for nth in 0..120 {
        store.at(at.plus(if nth < 50 { Duration::ZERO } else { DAY }));
        all.push(digest(nth, 255 - nth));
        store.note_verified(&all[usize::from(nth)..]).await.expect("answers");
    }
    let mut verified = Vec::new();
    for digest in &all {
        verified.push(store.has_verified(*digest).await.expect("answers"));
    }
    assert!(verified[50..].iter().all(|is_verified| *is_verified), "the oldest go first");
    assert!((90..=100).contains(&verified.iter().filter(|is_verified| **is_verified).count()));
}

#[tokio::test]
async fn a_value_that_cannot_be_read_keeps_no_other_from_counting() {
    let redis = Redis::fresh();
    let store = redis.store();
    let at = begin(&store, 15);
    let [first, second] = [block(8), block(9)];
    let both = |sent| vec![changes(first, at, sent, 0), changes(second, at, sent, 0)];
    store.add_defence(&batch(990, 1, both(2))).await.expect("answers");
    let write = |key: &str, field: &[u8], value: &[u8]| {
        let key = format!("{{{}}}:{key}", redis.prefix);
        let () = redis.run(redis::cmd("HSET").arg(key).arg(field).arg(value));
    };
    write(&format!("zb{}", first.part(PREFIX)), &first.id.to_be_bytes(), b"x");
    assert_eq!(counted(&store, first).await, None);
    let list = store.add_defence(&batch(990, 2, both(3))).await.expect("answers");
    assert_eq!(list.unreadable, 1);
    assert_eq!(counted(&store, first).await, Some((3, 0, 0)), "it begins anew");
    assert_eq!(counted(&store, second).await, Some((5, 0, 0)));
    // A hold without an end, one of an earlier version, and an override.
    let name = |scope: Scope| [b"b".as_slice(), &scope.id.to_be_bytes()].concat();
    write("zh", &name(first), b"x");
    let end = at.plus(HOLD).0.to_be_bytes();
    write("zh", &name(second), &[&end[2..], &[4]].concat());
    write("zo", b"n57", b"x");
    let list = store.add_defence(&batch(990, 3, both(1))).await.expect("answers");
    assert_eq!(list.unreadable, 2);
    assert_eq!(list.holds, [], "the end of the other is set anew, as it has few sends");
    write("zh", &name(second), &[&end[2..], &[4]].concat());
    let list = store.add_defence(&DefenceBatch::default()).await.expect("answers");
    assert_eq!((list.unreadable, list.holds), (1, vec![Hold { scope: second, left: HOLD }]));
    let target = OverrideTarget::parse("+57").expect("digits");
    let new = NewOverride { action: OverrideAction::Deny, duration: DAY, shown: "+57", reason: "test" };
    store.set_defence_override(&target, Some(&new)).await.expect("answers");
    let list = store.add_defence(&DefenceBatch::default()).await.expect("answers");
    assert_eq!((list.unreadable, list.overrides.len()), (0, 1), "a new one takes its place");
}

#[tokio::test]
async fn nothing_grows_without_bound_in_memory() {
    is_bounded(&MemoryStore::new(Clock::System)).await;
}

#[tokio::test]
async fn nothing_grows_without_bound_in_redis() {
    let redis = Redis::fresh();
    is_bounded(&redis.store()).await;
    let ttls = redis
        .dump()
        .into_iter()
        .filter(|(name, ttl, _)| (name.contains("}:z") || name.contains("}:y")) && *ttl <= 0);
    assert_eq!(ttls.map(|(name, ..)| name).collect::<Vec<_>>(), [""; 0]);
}
