//! The doubts of one request: when they began and end, and which providers may have its message.

use tokio::time::Instant;

use super::providers::Providers;
use crate::domain::history::HANDED_TO_MAX;
use crate::domain::routes::ProviderIndex;
use crate::domain::time::UnixMillis;
use crate::store::Grant;

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

    /// A provider that the settings have no more may have the message.
    pub(super) fn is_gone(&self) -> bool {
        self.places.iter().any(|place| matches!(place.at, DoubtAt::Gone(_)))
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
        if !providers.are_several() && !self.is_gone() {
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
