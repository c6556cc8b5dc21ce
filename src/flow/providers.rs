//! The providers of a channel, each with its gate, and the choice of the one that sends a message.
//!
//! Most channels have one, which sends every message: then a choice costs nothing, and records name no provider.

use std::sync::Arc;
use std::time::Duration;

use super::channel_gate::ChannelGate;
use super::hand_overs::HandOvers;
use super::pause_log::ClosedBy;
use super::provider_gate::{Pace, ProviderGate};
use super::route_waits::RouteWaits;
use crate::domain::address::Address;
use crate::domain::channel::Channel;
use crate::domain::failover::{self, Candidate, Choice};
use crate::domain::history::{HANDED_TO_MAX, HistoryEvent, RequestHistory};
use crate::domain::routes::{PROVIDERS_MAX, ProviderIndex, Routes};
use crate::domain::sender_pool::RecipientHash;
use crate::provider::Provider;

const _: () = assert!(HANDED_TO_MAX == PROVIDERS_MAX, "a record names any of the providers");

/// A provider of the settings.
pub struct NewProvider {
    pub provider: Arc<dyn Provider>,
    /// An attempt in doubt waits this long for its receipt, if the provider cannot list its messages.
    pub receipt_wait: Duration,
    /// A receipt that has not come for this long is polled; `None`: never.
    pub poll_receipt_after: Option<Duration>,
}

pub struct SendingProvider {
    pub(super) provider: Arc<dyn Provider>,
    pub(super) gate: ProviderGate,
    pub(super) receipt_wait: Duration,
    pub(super) poll_receipt_after: Option<Duration>,
}

impl SendingProvider {
    pub(super) fn name(&self) -> &'static str {
        self.provider.name()
    }
}

/// The providers in the order of the settings, at least one, and the routes over them.
pub struct Providers {
    gate: Arc<ChannelGate>,
    all: Vec<SendingProvider>,
    routes: Routes,
    pub(super) route_waits: RouteWaits,
}

impl Providers {
    /// Of providers that no route names only receipts and lookups are read.
    pub fn new(channel: Channel, providers: Vec<NewProvider>, routes: Routes, pace: Pace) -> Providers {
        let used =
            routes.all().iter().flat_map(|route| route.providers.iter().map(|(provider, _)| *provider));
        let gate = Arc::new(ChannelGate::new(channel, used));
        let sending = |(index, new): (usize, NewProvider)| {
            let NewProvider { provider, receipt_wait, poll_receipt_after } = new;
            let index = ProviderIndex::new(index).expect("settings have few providers");
            let gate = ProviderGate::new(gate.clone(), index, provider.name(), provider.senders(), pace);
            SendingProvider { provider, gate, receipt_wait, poll_receipt_after }
        };
        let all = providers.into_iter().enumerate().map(sending).collect();
        Providers { all, routes, gate, route_waits: RouteWaits::default() }
    }

    /// One provider, which sends every message.
    pub fn only(channel: Channel, provider: NewProvider, pace: Pace) -> Providers {
        Providers::new(channel, vec![provider], Routes::in_order([ProviderIndex::ONLY]), pace)
    }

    pub fn gate(&self) -> Arc<ChannelGate> {
        self.gate.clone()
    }

    pub(super) fn get(&self, provider: ProviderIndex) -> &SendingProvider {
        &self.all[provider.get()]
    }

    /// In the order of the settings.
    pub(super) fn all(&self) -> &[SendingProvider] {
        &self.all
    }

    /// Those that a route can use.
    pub(super) fn used(&self) -> impl Iterator<Item = &SendingProvider> {
        let is_used = |provider: &ProviderIndex| {
            let mut routes = self.routes.all().iter();
            routes.any(|route| route.providers.iter().any(|(used, _)| used == provider))
        };
        self.indices().filter(is_used).map(|provider| self.get(provider))
    }

    pub fn adapters(&self) -> impl Iterator<Item = &Arc<dyn Provider>> {
        self.all.iter().map(|one| &one.provider)
    }

    pub(super) fn indices(&self) -> impl Iterator<Item = ProviderIndex> {
        (0..self.all.len()).filter_map(ProviderIndex::new)
    }

    /// Records then name the providers that they were handed to.
    pub(super) fn are_several(&self) -> bool {
        self.all.len() > 1
    }

    pub(super) fn named(&self, name: &str) -> Option<ProviderIndex> {
        self.indices().find(|provider| self.get(*provider).name() == name)
    }

    /// The name of the provider that got the message last, as the history of the request shows.
    pub(super) fn last_of(&self, history: &RequestHistory) -> Option<String> {
        if !self.are_several() {
            return Some(self.all[0].name().to_owned());
        }
        let attempted = || {
            history.entries.iter().rev().find_map(|entry| match &entry.event {
                HistoryEvent::Attempted(attempt) => attempt.provider.clone(),
                _ => None,
            })
        };
        history.handed_to.last().cloned().or_else(attempted)
    }

    /// Of a provider that makes codes there is no other.
    pub(super) fn make_codes(&self) -> bool {
        self.all[0].provider.makes_codes()
    }

    pub(super) fn write_texts(&self) -> bool {
        self.all.iter().any(|one| one.provider.writes_texts())
    }

    /// The providers that may send a message, in order: the recipient's own comes first.
    pub(super) fn order(&self, to: &Address, purpose: &str) -> Vec<ProviderIndex> {
        let route = match to.phone() {
            Some(number) => self.routes.of(number, purpose),
            None => self.routes.all().last().expect("there is a route"),
        };
        route.order(RecipientHash::of(to.as_str())).collect()
    }

    /// Why none of these providers can send; `None`: one can.
    pub(super) fn closed_by(&self, order: &[ProviderIndex]) -> Option<ClosedBy> {
        self.gate.closed_by().or_else(|| {
            let is_shut = order.iter().all(|provider| self.get(*provider).gate.is_breaker_open());
            is_shut.then_some(ClosedBy::Breaker)
        })
    }

    pub(super) async fn wait_until_open(&self, order: &[ProviderIndex]) {
        self.gate.wait_until(|| self.closed_by(order).is_none()).await;
    }

    /// The kill switch does not stop lookups.
    pub(super) async fn wait_until_one_is_reachable(&self, providers: &[ProviderIndex]) {
        let is_reachable = |provider: &ProviderIndex| !self.get(*provider).gate.is_breaker_open();
        self.gate.wait_until(|| providers.iter().any(is_reachable)).await;
    }

    pub(super) fn choose(
        &self,
        order: &[ProviderIndex],
        recipient: RecipientHash,
        hand_overs: &HandOvers,
    ) -> Option<Choice> {
        match order {
            [only] if !hand_overs.excludes(*only) => Some(Choice { provider: *only, reason: None }),
            _ => failover::choose(&self.candidates(order, recipient, hand_overs)),
        }
    }

    /// True if one of them, and not an excluded one, can send the message now.
    pub(super) fn can_send(
        &self,
        order: &[ProviderIndex],
        recipient: RecipientHash,
        hand_overs: &HandOvers,
    ) -> bool {
        failover::can_send(&self.candidates(order, recipient, hand_overs))
    }

    fn candidates(
        &self,
        order: &[ProviderIndex],
        recipient: RecipientHash,
        hand_overs: &HandOvers,
    ) -> Vec<Candidate> {
        let candidate = |provider: &ProviderIndex| Candidate {
            provider: *provider,
            availability: self.get(*provider).gate.availability(recipient, hand_overs.refusals(*provider)),
            exclusion: hand_overs.exclusion(*provider),
        };
        order.iter().map(candidate).collect()
    }
}
