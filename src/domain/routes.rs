//! Routes: the providers that may send a message, in order.
//!
//! The first route that fits the recipient and the purpose decides. Its weights choose the recipient's own provider, the same one in every
//! process; the others follow in the order of the route.

use super::phone::PhoneNumber;
use super::purpose::Purpose;
use super::sender_pool::RecipientHash;

pub const PROVIDERS_MAX: usize = 8;
pub const WEIGHT_MAX: u32 = 1_000;

/// A provider, by its place among those of the settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProviderIndex(u8);

impl ProviderIndex {
    /// The provider of settings that have one.
    pub const ONLY: ProviderIndex = ProviderIndex(0);

    /// `None` beyond [`PROVIDERS_MAX`].
    pub fn new(index: usize) -> Option<ProviderIndex> {
        u8::try_from(index).ok().filter(|_| index < PROVIDERS_MAX).map(ProviderIndex)
    }

    pub fn get(self) -> usize {
        self.0.into()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routes(Vec<Route>);

/// Messages that fit every condition, and their providers. An empty condition fits all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Route {
    /// ISO 3166 codes of countries.
    pub countries: Vec<String>,
    /// `+` and the first digits of numbers.
    pub prefixes: Vec<String>,
    pub purposes: Vec<Purpose>,
    /// 1 to [`PROVIDERS_MAX`], in order, with their weights; those of weight 0 only take over from others.
    pub providers: Vec<(ProviderIndex, u32)>,
}

impl Routes {
    /// The last route must fit every message.
    pub fn new(routes: Vec<Route>) -> Option<Routes> {
        routes.last().is_some_and(Route::fits_all).then_some(Routes(routes))
    }

    /// One route of these providers: the first sends, the others take over.
    pub fn in_order(providers: impl IntoIterator<Item = ProviderIndex>) -> Routes {
        let providers = providers.into_iter().zip(std::iter::once(1).chain(std::iter::repeat(0)));
        Routes(vec![Route { providers: providers.collect(), ..Route::default() }])
    }

    pub fn of(&self, to: &PhoneNumber, purpose: &str) -> &Route {
        let fits = self.0.iter().find(|route| route.fits(to, purpose));
        fits.or(self.0.last()).expect("the last route fits every message")
    }

    pub fn all(&self) -> &[Route] {
        &self.0
    }
}

impl Route {
    fn fits_all(&self) -> bool {
        self.countries.is_empty() && self.prefixes.is_empty() && self.purposes.is_empty()
    }

    fn fits(&self, to: &PhoneNumber, purpose: &str) -> bool {
        let fits_country = self.countries.is_empty()
            || to.region().is_some_and(|region| {
                let letters = region.letters();
                self.countries.iter().any(|country| country.as_bytes() == letters)
            });
        fits_country
            && (self.prefixes.is_empty() || self.prefixes.iter().any(|prefix| to.e164().starts_with(prefix)))
            && (self.purposes.is_empty() || self.purposes.iter().any(|of_route| of_route.as_str() == purpose))
    }

    /// The recipient's own provider, then the others in order.
    pub fn order(&self, recipient: RecipientHash) -> impl Iterator<Item = ProviderIndex> + '_ {
        let own = self.own(recipient);
        let others = self.providers.iter().map(|(provider, _)| *provider);
        std::iter::once(own).chain(others.filter(move |provider| *provider != own))
    }

    /// By rendezvous hashing: another weight or another provider moves as few recipients as it must.
    fn own(&self, recipient: RecipientHash) -> ProviderIndex {
        let score = |provider: ProviderIndex, weight: u32| {
            f64::from(weight) / -recipient.fraction(provider.0.into()).ln()
        };
        let weighted = self.providers.iter().filter(|(_, weight)| *weight > 0);
        let own = weighted.max_by(|(a, of_a), (b, of_b)| score(*a, *of_a).total_cmp(&score(*b, *of_b)));
        own.or(self.providers.first()).expect("a route has a provider").0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn provider(index: usize) -> ProviderIndex {
        ProviderIndex::new(index).expect("one of few")
    }

    fn number(text: &str) -> PhoneNumber {
        PhoneNumber::parse(text, "CO".parse().expect("a country")).expect("a number")
    }

    fn recipients() -> impl Iterator<Item = RecipientHash> {
        (0..10_000).map(|n| RecipientHash::of(&format!("+57300123{n:04}")))
    }

    fn of_weights(weights: &[u32]) -> Route {
        let providers = weights.iter().enumerate().map(|(index, weight)| (provider(index), *weight));
        Route { providers: providers.collect(), ..Route::default() }
    }

    #[test]
    fn weights_share_recipients_out() {
        let route = of_weights(&[3, 1, 0]);
        let mut shares = [0_u32; 3];
        recipients().for_each(|hash| shares[route.own(hash).get()] += 1);
        assert!((7_300..7_700).contains(&shares[0]), "{shares:?}");
        assert_eq!(shares[2], 0);
    }

    #[test]
    fn another_weight_moves_recipients_in_one_direction_only() {
        let (before, after) = (of_weights(&[1, 1]), of_weights(&[1, 3]));
        let moved: Vec<_> = recipients()
            .filter(|hash| before.own(*hash) != after.own(*hash))
            .map(|hash| after.own(hash))
            .collect();
        assert!((2_300..2_700).contains(&moved.len()), "{}", moved.len());
        assert!(moved.iter().all(|own| *own == provider(1)));
    }

    #[test]
    fn the_others_follow_in_the_order_of_the_route() {
        let route = of_weights(&[0, 1, 0]);
        let order: Vec<_> = route.order(RecipientHash::of("+573001234567")).collect();
        assert_eq!(order, [provider(1), provider(0), provider(2)]);
        let all_zero: Vec<_> = of_weights(&[0, 0]).order(RecipientHash::of("+573001234567")).collect();
        assert_eq!(all_zero, [provider(0), provider(1)]);
    }

    #[test]
    fn the_first_route_that_fits_decides() {
        let route = |index, countries: &[&str], prefixes: &[&str], purposes: &[&str]| Route {
            countries: countries.iter().map(|text| (*text).to_owned()).collect(),
            prefixes: prefixes.iter().map(|text| (*text).to_owned()).collect(),
            purposes: purposes.iter().filter_map(|text| Purpose::parse(text)).collect(),
            providers: vec![(provider(index), 1)],
        };
        let routes = Routes::new(vec![
            route(0, &["CO"], &[], &["payment"]),
            route(1, &[], &["+57300"], &[]),
            route(2, &["CO", "PE"], &[], &[]),
            route(3, &[], &[], &[]),
        ])
        .expect("the last fits all");
        let chosen = |to: &str, purpose: &str| routes.of(&number(to), purpose).providers[0].0;
        assert_eq!(chosen("+573001234567", "payment"), provider(0));
        assert_eq!(chosen("+573001234567", "login"), provider(1));
        assert_eq!(chosen("+573101234567", "login"), provider(2));
        assert_eq!(chosen("+51912345678", "payment"), provider(2));
        assert_eq!(chosen("+34612345678", "payment"), provider(3));
    }

    #[test]
    fn the_last_route_must_fit_every_message() {
        let narrow = Route { countries: vec!["CO".to_owned()], ..of_weights(&[1]) };
        assert_eq!(Routes::new(vec![of_weights(&[1]), narrow]), None);
        assert_eq!(Routes::new(Vec::new()), None);
    }
}
