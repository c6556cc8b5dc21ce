//! Reads the routes of a file of providers.

use super::table::{Faults, Item, Table};
use crate::domain::phone::Region;
use crate::domain::purpose::Purpose;
use crate::domain::routes::{ProviderIndex, Route, Routes, WEIGHT_MAX};

const ROUTES_MAX: usize = 64;
const CONDITIONS_MAX: usize = 300;
const PREFIX_DIGITS_MAX: usize = 15;

/// A provider's own table as far as routes need it. The name is missing if it is a fault.
pub(super) struct Named {
    pub(super) at: usize,
    pub(super) name: Option<&'static str>,
    pub(super) receipts_only: bool,
}

/// Without routes the providers follow each other as in the file. `None` for a fault.
pub(super) fn read(item: Option<Item<'_>>, named: &[Named], faults: &mut Faults<'_>) -> Option<Routes> {
    let Some(item) = item else {
        let sending = (0..).zip(named).filter(|(_, named)| !named.receipts_only);
        let sending: Vec<ProviderIndex> =
            sending.filter_map(|(index, _)| ProviderIndex::new(index)).collect();
        if sending.is_empty() && !named.is_empty() {
            faults.add(0, "must name a provider without `receipts_only`");
        }
        return (!sending.is_empty()).then(|| Routes::in_order(sending));
    };
    let items = item.elements("routes", faults);
    if items.len() > ROUTES_MAX {
        faults.add(item.at, format!("`routes` has more than {ROUTES_MAX} elements"));
    }
    let last = items.last().map_or(item.at, |last| last.at);
    let count = items.len();
    let routes: Vec<Route> = items.into_iter().filter_map(|item| route(item, named, faults)).collect();
    if routes.len() < count {
        return None;
    }
    let routes = Routes::new(routes);
    if routes.is_none() {
        let rule =
            "the last of `routes` must fit every message: without `countries`, `prefixes` and `purposes`";
        faults.add(last, rule);
    }
    routes
}

fn route(item: Item<'_>, named: &[Named], faults: &mut Faults<'_>) -> Option<Route> {
    let mut table = Table::of(item, "routes", faults)?;
    let countries = condition(&mut table, "countries", faults, |text| {
        let is_country = text.parse::<Region>().is_ok() && text.bytes().all(|b| b.is_ascii_uppercase());
        is_country.then(|| text.to_owned()).ok_or("must have countries as two capital letters, such as CO")
    });
    let prefixes = condition(&mut table, "prefixes", faults, |text| {
        let digits = text.strip_prefix('+').unwrap_or_default();
        let is_prefix = (1..=PREFIX_DIGITS_MAX).contains(&digits.len())
            && digits.bytes().all(|byte| byte.is_ascii_digit());
        is_prefix.then(|| text.to_owned()).ok_or("must have the first digits of numbers, such as +57300")
    });
    let purposes = condition(&mut table, "purposes", faults, |text| {
        Purpose::parse(text).ok_or("must have purposes: 1 to 32 of a-z, 0-9, _ and -")
    });
    let providers = providers(&mut table, named, faults);
    table.finish(faults);
    Some(Route { countries: countries?, prefixes: prefixes?, purposes: purposes?, providers: providers? })
}

/// Empty if it is not there: it then fits all.
fn condition<T>(
    table: &mut Table<'_>,
    key: &str,
    faults: &mut Faults<'_>,
    parse: impl Fn(&str) -> Result<T, &'static str>,
) -> Option<Vec<T>> {
    let Some(item) = table.take(key) else { return Some(Vec::new()) };
    let texts = item.texts(key, faults);
    if texts.is_empty() || texts.len() > CONDITIONS_MAX {
        faults.add(item.at, format!("`{key}` must have 1 to {CONDITIONS_MAX} elements"));
        return None;
    }
    let parsed = texts.iter().map(|text| {
        let parsed = parse(text.text).map_err(|problem| format!("`{key}` {problem}"));
        faults.ok(text.at, parsed)
    });
    // Every fault is reported, not only the first.
    parsed.collect::<Vec<_>>().into_iter().collect()
}

/// Without weights the first sends, and the others take over.
fn providers(
    table: &mut Table<'_>,
    named: &[Named],
    faults: &mut Faults<'_>,
) -> Option<Vec<(ProviderIndex, u32)>> {
    let weights = table.take("weights");
    let Some(item) = table.take("providers") else {
        faults.add(table.at, "`providers` is missing: a list of names");
        return None;
    };
    let names = item.texts("providers", faults);
    if names.is_empty() {
        faults.add(item.at, "`providers` must have a name");
        return None;
    }
    let mut indices = Vec::new();
    for name in &names {
        let found = named.iter().position(|named| named.name == Some(name.text));
        match found.and_then(ProviderIndex::new) {
            // A name that is a fault where it is given is no second one here.
            None if named.iter().any(|named| named.name.is_none()) => {}
            None => faults.add(name.at, "`providers` has a name that no provider has"),
            Some(index) if named[index.get()].receipts_only => {
                faults.add(name.at, "`providers` has a provider with `receipts_only`, which sends nothing");
            }
            Some(index) if indices.contains(&index) => {
                faults.add(name.at, "`providers` has a name twice");
            }
            Some(index) => indices.push(index),
        }
    }
    let weights = match weights {
        None => std::iter::once(1).chain(std::iter::repeat(0)).take(indices.len()).collect(),
        Some(weights) => self::weights(weights, names.len(), faults)?,
    };
    (indices.len() == names.len()).then(|| indices.into_iter().zip(weights).collect())
}

fn weights(item: Item<'_>, count: usize, faults: &mut Faults<'_>) -> Option<Vec<u32>> {
    let items = item.elements("weights", faults);
    if items.len() != count {
        faults.add(item.at, "`weights` must be as many as `providers`");
        return None;
    }
    let weights = items.iter().map(|item| item.whole("weights", 0, WEIGHT_MAX.into(), faults));
    let weights: Vec<Option<u64>> = weights.collect();
    weights.into_iter().map(|weight| u32::try_from(weight?).ok()).collect()
}
