//! Counts of sends and verifications in memory, until they are added to the store.
//!
//! Most blocks, users and networks have few sends. They count to their prefix alone, until so many go through this process that a budget may
//! be used up: then each send counts in its scope as well, until the scope is as quiet again. So Redis has few records, and few changes.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::defence_budgets::Budgets;
use crate::domain::conversion::{CodeCounts, NumberGroups};
use crate::domain::defence::{Budget, CountedScopes, Scope, ScopeKind};
use crate::domain::keyed_digest::Digest16;

/// Changes that wait for the store: of more, those of blocks count to their prefix alone, and those of users and networks do not count.
pub(super) const KINDS_MAX: usize = 20_000;
/// Changes in one batch. Redis answers nothing else for milliseconds while it adds them.
pub(super) const KINDS_IN_BATCH: usize = 250;
/// Scopes whose level is known. Of more, those that are empty are forgotten, or else all.
const LEVELS_MAX: usize = 100_000;
/// A scope counts above so many hundredths of the budget of an hour, and above one send.
const QUIET_PERCENT: u32 = 15;
/// A level leaks half of the budget of a day in a day: it is in parts of a send that leak by whole numbers.
const PARTS_OF_SEND: u32 = 2 * 1_440;
/// Changes with a tenth of the floor of an hour do not wait for the others.
const URGENT_DIVISOR: u32 = 10;

#[derive(Default)]
pub(super) struct Counts {
    pub(super) kinds: HashMap<Kind, CodeCounts>,
    levels: HashMap<Scope, Level>,
    /// Recipients and users that have verified a code.
    pub(super) verified: HashSet<Digest16>,
}

/// Sends and verifications of one scope, to numbers of one prefix, of one minute.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Kind {
    /// 0 for users and networks.
    pub(super) prefix: u64,
    pub(super) scope: Scope,
    pub(super) country: Option<[u8; 2]>,
    pub(super) minute: u32,
}

/// The sends of a scope through this process, in a leaky bucket.
#[derive(Clone, Copy)]
struct Level {
    minute: u32,
    parts: u32,
    /// It was above the quiet level, and has not been empty since.
    counts: bool,
}

impl Level {
    fn leak(&mut self, minute: u32, budget: Budget) {
        let elapsed = minute.saturating_sub(self.minute);
        self.parts = self.parts.saturating_sub(elapsed.saturating_mul(budget.day));
        self.counts &= self.parts > 0;
        self.minute = self.minute.max(minute);
    }
}

impl Counts {
    /// The scopes in which a send counts now, beside its prefix.
    pub(super) fn scopes_with(&mut self, scopes: &[Scope], minute: u32, budgets: &Budgets) -> CountedScopes {
        self.make_room(minute, budgets);
        let own = scopes.iter().filter(|scope| scope.kind != ScopeKind::Prefix);
        own.fold(CountedScopes::NONE, |counted, scope| {
            let budget = budgets.budget(*scope);
            let level = self.levels.entry(*scope).or_insert(Level { minute, parts: 0, counts: false });
            level.leak(minute, budget);
            level.parts = level.parts.saturating_add(PARTS_OF_SEND);
            let quiet = (budget.hour.saturating_mul(QUIET_PERCENT) / 100).max(1);
            level.counts |= level.parts > quiet.saturating_mul(PARTS_OF_SEND);
            if level.counts { counted.with(scope.kind) } else { counted }
        })
    }

    fn make_room(&mut self, minute: u32, budgets: &Budgets) {
        if self.levels.len() < LEVELS_MAX {
            return;
        }
        self.levels.retain(|scope, level| {
            level.leak(minute, budgets.budget(*scope));
            level.parts > 0
        });
        // A sweep that frees little would soon be repeated.
        if self.levels.len() > LEVELS_MAX / 4 * 3 {
            self.levels.clear();
        }
    }

    pub(super) fn sent(
        &mut self,
        groups: &NumberGroups,
        scopes: &[Scope],
        counted: CountedScopes,
        minute: u32,
    ) {
        self.add_to(groups, scopes, counted, minute, CodeCounts::SENT);
    }

    /// It lowers the levels of its block and its network, if this process has sent the code. A user's own sends are few in any case.
    pub(super) fn verified(
        &mut self,
        groups: &NumberGroups,
        scopes: &[Scope],
        counted: CountedScopes,
        minute: u32,
    ) {
        for scope in scopes.iter().filter(|scope| scope.kind != ScopeKind::User) {
            if let Some(level) = self.levels.get_mut(scope) {
                level.parts = level.parts.saturating_sub(PARTS_OF_SEND);
            }
        }
        self.add_to(groups, scopes, counted, minute, CodeCounts::VERIFIED);
    }

    /// The changes of a block count to its prefix as well; without it, those of the prefix are added.
    fn add_to(
        &mut self,
        groups: &NumberGroups,
        scopes: &[Scope],
        counted: CountedScopes,
        minute: u32,
        one: CodeCounts,
    ) {
        let mut is_in_block = false;
        for scope in scopes {
            if scope.kind != ScopeKind::Prefix && counted.has(scope.kind) {
                let is_counted = self.add(kind_of(groups, *scope, minute), one);
                is_in_block |= is_counted && scope.kind == ScopeKind::Block;
            }
        }
        if !is_in_block {
            let prefix = Scope { kind: ScopeKind::Prefix, id: groups.prefix };
            self.add(kind_of(groups, prefix, minute), one);
        }
    }

    /// False if there is no room.
    fn add(&mut self, kind: Kind, one: CodeCounts) -> bool {
        let kinds_max = if kind.scope.kind == ScopeKind::Prefix { 2 * KINDS_MAX } else { KINDS_MAX };
        let has_room = self.kinds.len() < kinds_max || self.kinds.contains_key(&kind);
        if has_room {
            self.kinds.entry(kind).or_default().add(one);
        }
        has_room
    }

    /// The changes of the next batch: all, or those that are urgent.
    pub(super) fn take(&mut self, takes_all: bool) -> BTreeMap<Kind, CodeCounts> {
        if takes_all && self.kinds.len() <= KINDS_IN_BATCH {
            return self.kinds.drain().collect();
        }
        let due = self.kinds.iter().filter(|(kind, counts)| takes_all || is_urgent(**kind, **counts));
        let kinds: Vec<Kind> = due.map(|(kind, _)| *kind).take(KINDS_IN_BATCH).collect();
        kinds.into_iter().filter_map(|kind| Some((kind, self.kinds.remove(&kind)?))).collect()
    }
}

fn is_urgent(kind: Kind, counts: CodeCounts) -> bool {
    counts.sent >= (kind.scope.kind.floor().hour / URGENT_DIVISOR).max(1)
}

fn kind_of(groups: &NumberGroups, scope: Scope, minute: u32) -> Kind {
    let prefix = match scope.kind {
        ScopeKind::Block | ScopeKind::Prefix => groups.prefix,
        ScopeKind::User | ScopeKind::Network => 0,
    };
    Kind { prefix, scope, country: groups.country, minute }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: Scope = Scope { kind: ScopeKind::Block, id: 573_001_234 };
    const NETWORK: Scope = Scope { kind: ScopeKind::Network, id: 1 };
    const GROUPS: NumberGroups = NumberGroups { country: None, prefix: 57_300, block: 573_001_234 };

    fn counted(counts: &mut Counts, budgets: &Budgets, minute: u32) -> bool {
        counts.scopes_with(&[BLOCK], minute, budgets).has(ScopeKind::Block)
    }

    #[test]
    fn a_scope_counts_above_its_quiet_level_until_it_is_quiet_again() {
        let (mut counts, budgets) = (Counts::default(), Budgets::new(100));
        let first: Vec<bool> = (0..5).map(|_| counted(&mut counts, &budgets, 100)).collect();
        assert_eq!(first, [false, false, false, true, true], "three of twenty an hour");
        // 30 of the five leak in a day.
        assert!(counted(&mut counts, &budgets, 100 + 239));
        assert!(!counted(&mut counts, &budgets, 100 + 239 + 60));
    }

    #[test]
    fn thirty_a_day_never_count_and_sixty_do() {
        for (every, at_least, at_most) in [(48, 0, 0), (24, 30, 60)] {
            let (mut counts, budgets) = (Counts::default(), Budgets::new(100));
            let sends = (0..1_440).step_by(every);
            let number = sends.filter(|minute| counted(&mut counts, &budgets, *minute)).count();
            assert!((at_least..=at_most).contains(&number), "{number} of one every {every} minutes");
        }
    }

    #[test]
    fn a_verified_code_makes_room_for_the_next_one() {
        let (mut counts, budgets) = (Counts::default(), Budgets::new(100));
        for _ in 0..50 {
            assert!(!counted(&mut counts, &budgets, 100));
            counts.verified(&GROUPS, &[BLOCK], CountedScopes::NONE, 100);
        }
    }

    #[test]
    fn urgent_changes_do_not_wait_and_the_others_are_taken_with_all() {
        let mut counts = Counts::default();
        let network = CountedScopes::NONE.with(ScopeKind::Network);
        for nth in 1..=6 {
            counts.sent(&GROUPS, &[NETWORK], network, 100);
            let taken = counts.take(false);
            assert_eq!(taken.len(), usize::from(nth == 6), "{nth} sends");
        }
        assert_eq!(counts.take(false).len(), 0);
        assert_eq!(counts.take(true).len(), 1, "those of the prefix");
    }

    #[test]
    fn levels_are_bounded() {
        let (mut counts, budgets) = (Counts::default(), Budgets::new(100));
        for id in 0..LEVELS_MAX as u64 + 10 {
            counts.scopes_with(&[Scope { id, ..NETWORK }], 100, &budgets);
        }
        assert!(counts.levels.len() <= LEVELS_MAX);
    }
}
