//! The providers of one request: the one that its record names, and those that get no further attempt.

use std::sync::LazyLock;

use crate::domain::failover::Exclusion;
use crate::domain::failover_reason::FailoverReason;
use crate::domain::routes::ProviderIndex;
use crate::domain::sender_pool::SenderRefusals;

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
