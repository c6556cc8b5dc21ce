//! Runs the models of the store with more than one shard: charges and places.

use std::fmt::Debug;
use std::hash::Hash;
use std::time::Instant;

use stateright::{Checker, Expectation, HasDiscoveries, Model};

use crate::charges::{ChargeFlaw, Charges};
use crate::places::{PlaceFlaw, Places};

const CHARGE_FAULTS: u8 = 3;
/// Enough for each flaw, so that the search ends soon.
const FAULTS_OF_FLAWS: u8 = 1;
const PLACE_FAULTS: u8 = 1;

/// True for each that holds.
pub fn must_hold() -> [bool; 2] {
    [
        holds("charges in slots of their own", Charges { faults: CHARGE_FAULTS, flaw: None }),
        holds("places leased in blocks", Places { faults: PLACE_FAULTS, flaw: None }),
    ]
}

/// True for each that was found.
pub fn flaws_must_be_found() -> Vec<bool> {
    let of_charges = ChargeFlaw::ALL
        .map(|flaw| is_found(&format!("{flaw:?}"), Charges { faults: FAULTS_OF_FLAWS, flaw: Some(flaw) }));
    let of_places = PlaceFlaw::ALL
        .map(|flaw| is_found(&format!("{flaw:?}"), Places { faults: PLACE_FAULTS, flaw: Some(flaw) }));
    of_charges.into_iter().chain(of_places).collect()
}

fn holds<M>(name: &str, model: M) -> bool
where
    M: Model + Send + Sync + 'static,
    M::State: Hash + Debug + Send + Sync + Clone + PartialEq,
    M::Action: Debug + Clone + PartialEq + Send + Sync,
{
    let started = Instant::now();
    let checker = model.checker().threads(2).finish_when(HasDiscoveries::AnyFailures).spawn_dfs().join();
    let mut is_sound = true;
    for property in checker.model().properties() {
        match (&property.expectation, checker.discovery(property.name)) {
            (Expectation::Sometimes, None) => {
                println!("NEVER SEEN  {}", property.name);
                is_sound = false;
            }
            (Expectation::Always, Some(path)) => {
                println!("BROKEN  {}\n  {:#?}", property.name, path.into_actions());
                is_sound = false;
            }
            _ => {}
        }
    }
    println!(
        "{:8} {name}: {} states ({} steps), {:.0?}",
        if is_sound { "holds" } else { "FAILS" },
        checker.unique_state_count(),
        checker.state_count(),
        started.elapsed()
    );
    is_sound
}

fn is_found<M>(name: &str, model: M) -> bool
where
    M: Model + Send + Sync + 'static,
    M::State: Hash + Debug + Send + Sync + Clone + PartialEq,
    M::Action: Debug + Clone + PartialEq + Send + Sync,
{
    let started = Instant::now();
    let checker = model.checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let mut properties = checker.model().properties().into_iter();
    let broken = properties.find(|property| {
        matches!(property.expectation, Expectation::Always) && checker.discovery(property.name).is_some()
    });
    match &broken {
        Some(property) => println!("found    {name:24} {:.1?}: {}", started.elapsed(), property.name),
        None => println!("MISSED   {name}"),
    }
    broken.is_some()
}
