//! The providers of one request: which one its record names, which may have its message, and which get no further attempt.

use std::sync::LazyLock;

use tokio::time::Instant;

use super::providers::Providers;
use crate::domain::failover::{Exclusion, FailoverReason};
use crate::domain::history::HANDED_TO_MAX;
use crate::domain::routes::ProviderIndex;
use crate::domain::sender_pool::SenderRefusals;
use crate::domain::time::UnixMillis;
use crate::store::Grant;

static NO_REFUSALS: LazyLock<SenderRefusals> = LazyLock::new(SenderRefusals::default);

#[derive(Default)]
pub(super) struct HandOvers {
    /// The provider of the next attempt, as the record has it. No other is called before the record names it.
    pub(super) recorded: Option<ProviderIndex>,
    /// The provider of the last attempt that this handler made.
    pub(super) last: Option<ProviderIndex>,
    /// Why the next attempt goes to another provider than the last.
    pub(super) reason: Option<FailoverReason>,
    exclusions: Vec<(ProviderIndex, Exclusion)>,
    refusals: Vec<(ProviderIndex, SenderRefusals)>,
}

impl HandOvers {
    pub(super) fn exclude(&mut self, provider: ProviderIndex, exclusion: Exclusion) {
        self.exclusions.push((provider, exclusion));
    }

    /// No other provider can take the message.
    pub(super) fn end_exclusions_for_now(&mut self) {
        self.exclusions.retain(|(_, exclusion)| *exclusion == Exclusion::ForGood);
    }

    pub(super) fn exclusion(&self, provider: ProviderIndex) -> Option<Exclusion> {
        self.exclusions
            .iter()
            .rev()
            .find(|(excluded, _)| *excluded == provider)
            .map(|(_, exclusion)| *exclusion)
    }

    pub(super) fn excludes(&self, provider: ProviderIndex) -> bool {
        self.exclusion(provider).is_some()
    }

    /// Some provider may get the message later.
    pub(super) fn some_are_excluded_for_now(&self) -> bool {
        self.exclusions.iter().any(|(provider, _)| self.exclusion(*provider) == Some(Exclusion::ForNow))
    }

    /// Those that may get the message, now or later.
    pub(super) fn left_of(&self, order: &[ProviderIndex]) -> Vec<ProviderIndex> {
        let may_send = |provider: &ProviderIndex| self.exclusion(*provider) != Some(Exclusion::ForGood);
        order.iter().copied().filter(may_send).collect()
    }

    /// The senders that the provider already refused for the message.
    pub(super) fn refusals(&self, provider: ProviderIndex) -> &SenderRefusals {
        self.refusals.iter().find(|(of, _)| *of == provider).map_or(&NO_REFUSALS, |(_, refusals)| refusals)
    }

    pub(super) fn refusals_mut(&mut self, provider: ProviderIndex) -> &mut SenderRefusals {
        let place = match self.refusals.iter().position(|(of, _)| *of == provider) {
            Some(place) => place,
            None => {
                self.refusals.push((provider, SenderRefusals::default()));
                self.refusals.len() - 1
            }
        };
        &mut self.refusals[place].1
    }
}

/// The attempts of a request that are or were in doubt.
pub(super) struct DoubtState {
    /// The last attempt is in doubt now.
    pub(super) is_in_doubt: bool,
    pub(super) attempts_in_doubt: u32,
    /// A time before the first attempt in doubt began, by our clock.
    pub(super) began_no_earlier_than: UnixMillis,
    /// After this moment the last attempt in doubt has ended, whatever became of its call.
    pub(super) certainly_ended_at: Instant,
    /// The end of the last call that has a doubt, as far as this handler knows.
    pub(super) call_ended_at: Instant,
    /// The providers that have or had a doubt, each once.
    pub(super) places: Vec<DoubtPlace>,
}

pub(super) struct DoubtPlace {
    pub(super) at: DoubtAt,
    /// Lookups have shown that it was not sent there.
    pub(super) is_settled: bool,
}

#[derive(Clone, PartialEq, Eq)]
pub(super) enum DoubtAt {
    Provider(ProviderIndex),
    /// The settings have no provider of this name any more: only a receipt can settle the doubt.
    Gone(String),
}

/// An attempt in doubt.
#[derive(Clone, Copy)]
pub(super) struct NewDoubt {
    pub(super) provider: ProviderIndex,
    pub(super) began: UnixMillis,
    pub(super) certainly_ended_at: Instant,
}

impl DoubtState {
    pub(super) fn add(&mut self, new: NewDoubt) {
        if self.attempts_in_doubt == 0 {
            self.began_no_earlier_than = new.began;
        }
        (self.is_in_doubt, self.certainly_ended_at) = (true, new.certainly_ended_at);
        self.call_ended_at = Instant::now();
        self.attempts_in_doubt += 1;
        let at = DoubtAt::Provider(new.provider);
        self.places.retain(|place| place.at != at);
        self.places.push(DoubtPlace { at, is_settled: false });
    }

    pub(super) fn settle(&mut self) {
        self.places.iter_mut().for_each(|place| place.is_settled = true);
    }

    /// The providers of the settings that have or had a doubt.
    pub(super) fn providers(&self) -> Vec<ProviderIndex> {
        let provider = |place: &DoubtPlace| match place.at {
            DoubtAt::Provider(provider) => Some(provider),
            DoubtAt::Gone(_) => None,
        };
        self.places.iter().filter_map(provider).collect()
    }

    /// The places of earlier handlers' doubts that are not settled. Where the record names no provider, any may have the message.
    pub(super) fn inherited_places(
        grant: &Grant,
        is_in_doubt: bool,
        providers: &Providers,
    ) -> Vec<DoubtPlace> {
        let names = grant.history.as_ref().map_or(&[][..], |history| &history.handed_to[..]);
        let place = |at| DoubtPlace { at, is_settled: false };
        match (is_in_doubt, grant.attempts_in_doubt) {
            (true, _) if names.is_empty() => {
                return providers.indices().map(DoubtAt::Provider).map(place).collect();
            }
            (false, 0) => return Vec::new(),
            _ => {}
        }
        let at = |name: &String| {
            providers.named(name).map_or_else(|| DoubtAt::Gone(name.clone()), DoubtAt::Provider)
        };
        names.iter().map(at).map(place).collect()
    }

    /// The names for the record: the providers that may have the message, and the one that gets it next.
    pub(super) fn names(&self, providers: &Providers, next: Option<ProviderIndex>) -> Vec<String> {
        let is_gone = |place: &DoubtPlace| matches!(place.at, DoubtAt::Gone(_));
        if !providers.are_several() && !self.places.iter().any(is_gone) {
            return Vec::new();
        }
        let next = next.map(DoubtAt::Provider);
        let in_doubt = self.places.iter().filter(|place| !place.is_settled).map(|place| &place.at);
        let before = in_doubt.filter(|at| Some(*at) != next.as_ref());
        let names = before.chain(next.as_ref()).map(|at| match at {
            DoubtAt::Provider(provider) => providers.get(*provider).name().to_owned(),
            DoubtAt::Gone(name) => name.clone(),
        });
        let mut names: Vec<String> = names.collect();
        // The first ones of a record without names, of which any may have the message.
        names.drain(..names.len().saturating_sub(HANDED_TO_MAX));
        names
    }
}
