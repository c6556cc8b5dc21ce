//! Checks the life of one request exhaustively, and with more than one shard charges and places: see `README.md`.

mod actions;
mod charge_properties;
mod charges;
mod effects;
mod endless;
mod flaw;
mod life;
mod model;
mod places;
mod properties;
mod sharded;
mod store;
mod worker;
mod world;

use std::process::ExitCode;
use std::time::Instant;

use stateright::{Checker, Expectation, HasDiscoveries, Model as _, Path};

use crate::flaw::Flaw;
use crate::life::{Life, Provider};
use crate::world::{Action, World};

const COPIES: u8 = 2;
const FAULTS: u8 = 3;
const REFUSALS: u8 = 1;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Expected,
    Unexpected,
}

impl Verdict {
    fn of(is_expected: bool) -> Verdict {
        if is_expected { Verdict::Expected } else { Verdict::Unexpected }
    }
}

/// Without arguments the model must hold, and each flaw must be found. A flaw's name prints its shortest run.
fn main() -> ExitCode {
    let verdict = match std::env::args().nth(1) {
        None => check_all(),
        Some(name) => match Flaw::ALL.into_iter().find(|flaw| format!("{flaw:?}") == name) {
            Some(flaw) => show(flaw),
            None => {
                eprintln!("no such flaw: {name}; there are {:?}", Flaw::ALL);
                Verdict::Unexpected
            }
        },
    };
    if verdict == Verdict::Expected { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn check_all() -> Verdict {
    println!("{COPIES} copies of a request, 2 workers, at most {FAULTS} faults\n");
    let mut verdicts: Vec<_> = sharded::must_hold().map(Verdict::of).into();
    verdicts.extend(sharded::flaws_must_be_found().into_iter().map(Verdict::of));
    println!();
    for provider in [Provider::Prompt, Provider::Laggard] {
        verdicts.push(must_hold(&life(provider, None)));
        verdicts.push(must_hold(&beside_another(provider, None)));
        verdicts.push(must_hold(&two_providers(provider, None)));
    }
    println!();
    verdicts.extend(Flaw::ALL.map(must_be_found));
    match verdicts.contains(&Verdict::Unexpected) {
        true => Verdict::Unexpected,
        false => Verdict::Expected,
    }
}

fn life(provider: Provider, flaw: Option<Flaw>) -> Life {
    Life { provider, copies: COPIES, faults: FAULTS, refusals: REFUSALS, providers: 1, other: false, flaw }
}

/// With another request to the same recipient and one fault fewer, so that the search ends soon.
fn beside_another(provider: Provider, flaw: Option<Flaw>) -> Life {
    Life { faults: FAULTS - 1, other: true, ..life(provider, flaw) }
}

/// With another provider in the route and one fault fewer.
fn two_providers(provider: Provider, flaw: Option<Flaw>) -> Life {
    Life { faults: FAULTS - 1, providers: 2, ..life(provider, flaw) }
}

fn must_hold(life: &Life) -> Verdict {
    let started = Instant::now();
    let when = HasDiscoveries::AnyFailures;
    let checker = life.clone().checker().threads(2).finish_when(when).symmetry().spawn_dfs().join();
    let mut verdict = Verdict::Expected;
    for property in life.properties() {
        match (&property.expectation, checker.discovery(property.name)) {
            (Expectation::Sometimes, None) => {
                println!("NEVER SEEN  {}", property.name);
                verdict = Verdict::Unexpected;
            }
            (Expectation::Always | Expectation::Eventually, Some(path)) => {
                println!("BROKEN  {}", property.name);
                print(path);
                verdict = Verdict::Unexpected;
            }
            _ => {}
        }
    }
    // A broken property has ended the search early.
    if verdict == Verdict::Expected
        && let Some(world) = endless::cycle(life)
    {
        println!("ENDLESS  returns to {world:?}");
        verdict = Verdict::Unexpected;
    }
    println!(
        "{:8} {:?}{}: {} properties, {} states ({} steps), depth {}, {:.0?}",
        if verdict == Verdict::Expected { "holds" } else { "FAILS" },
        life.provider,
        match (life.other, life.providers) {
            (true, _) => ", beside another request",
            (_, 2) => ", two providers",
            _ => "",
        },
        life.properties().len(),
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth(),
        started.elapsed()
    );
    verdict
}

/// The shortest run to a broken property.
struct Found {
    property: &'static str,
    path: Path<World, Action>,
}

fn find(flaw: Flaw) -> Option<Found> {
    // A laggard may cause two SMS, so a flaw that does no more is found with a prompt provider.
    let provider = if flaw == Flaw::PostsWithoutLease { Provider::Prompt } else { Provider::Laggard };
    let life = match flaw {
        Flaw::TakesUnnamedMessage => beside_another(provider, Some(flaw)),
        Flaw::RetriesElsewhereInDoubt | Flaw::CallsUnnamedProvider | Flaw::HandsOverAgain => {
            two_providers(provider, Some(flaw))
        }
        _ => life(provider, Some(flaw)),
    };
    // One thread finds the same shortest run each time.
    let checker = life.clone().checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let broken = life.properties().into_iter().filter(|property| property.expectation == Expectation::Always);
    broken
        .filter_map(|property| {
            Some(Found { property: property.name, path: checker.discovery(property.name)? })
        })
        .min_by_key(|found| found.path.clone().into_actions().len())
}

fn must_be_found(flaw: Flaw) -> Verdict {
    let started = Instant::now();
    match find(flaw) {
        Some(Found { property, path }) => {
            let (name, steps) = (format!("{flaw:?}"), path.into_actions().len());
            println!("found    {name:24} after {steps:2} steps, {:.1?}: {property}", started.elapsed());
            Verdict::Expected
        }
        None => {
            println!("MISSED   {flaw:?}");
            Verdict::Unexpected
        }
    }
}

fn show(flaw: Flaw) -> Verdict {
    let Some(Found { property, path }) = find(flaw) else {
        println!("{flaw:?} breaks nothing");
        return Verdict::Unexpected;
    };
    println!("{flaw:?} breaks: {property}");
    print(path);
    Verdict::Expected
}

fn print(path: Path<World, Action>) {
    let last = path.last_state().clone();
    for action in path.into_actions() {
        println!("    {action:?}");
    }
    println!("  and then {last:#?}");
}
