//! The life of one request, checked exhaustively: `README.md` says what that means.

mod endless;
mod flaw;
mod model;
mod properties;
mod store;
mod worker;

use std::process::ExitCode;
use std::time::Instant;

use stateright::{Checker, Expectation, HasDiscoveries, Model as _, Path};

use crate::flaw::Flaw;
use crate::model::{Action, Life, Provider, World};

const COPIES: u8 = 2;
const FAULTS: u8 = 3;
const REFUSALS: u8 = 1;

/// What a run without arguments found: everything as it should be, or not.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    AsItShould,
    Wrong,
}

/// Without arguments: the model must hold, and each flaw must be found. With a flaw's name: how it goes wrong.
fn main() -> ExitCode {
    let verdict = match std::env::args().nth(1) {
        None => check_all(),
        Some(name) => match Flaw::ALL.into_iter().find(|flaw| format!("{flaw:?}") == name) {
            Some(flaw) => show(flaw),
            None => {
                eprintln!("no such flaw: {name}; there are {:?}", Flaw::ALL);
                Verdict::Wrong
            }
        },
    };
    if verdict == Verdict::AsItShould { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn check_all() -> Verdict {
    println!("{COPIES} copies of a request, 2 workers, at most {FAULTS} faults\n");
    let mut verdicts = Vec::new();
    for provider in [Provider::Prompt, Provider::Laggard] {
        verdicts.push(must_hold(&life(provider, None)));
    }
    println!();
    verdicts.extend(Flaw::ALL.map(must_be_found));
    match verdicts.contains(&Verdict::Wrong) {
        true => Verdict::Wrong,
        false => Verdict::AsItShould,
    }
}

fn life(provider: Provider, flaw: Option<Flaw>) -> Life {
    Life { provider, copies: COPIES, faults: FAULTS, refusals: REFUSALS, flaw }
}

fn must_hold(life: &Life) -> Verdict {
    let started = Instant::now();
    let when = HasDiscoveries::AnyFailures;
    let checker = life.clone().checker().threads(2).finish_when(when).symmetry().spawn_dfs().join();
    let mut verdict = Verdict::AsItShould;
    for property in life.properties() {
        match (&property.expectation, checker.discovery(property.name)) {
            (Expectation::Sometimes, None) => {
                println!("NEVER SEEN  {}", property.name);
                verdict = Verdict::Wrong;
            }
            (Expectation::Always | Expectation::Eventually, Some(path)) => {
                println!("BROKEN  {}", property.name);
                print(path);
                verdict = Verdict::Wrong;
            }
            _ => {}
        }
    }
    // Where a property is broken the search has ended early, and the rest says nothing.
    if verdict == Verdict::AsItShould
        && let Some(world) = endless::circle(life)
    {
        println!("ENDLESS  comes back to {world:?}");
        verdict = Verdict::Wrong;
    }
    println!(
        "{:8} {:?}: {} properties, {} states ({} steps), depth {}, {:.0?}",
        if verdict == Verdict::AsItShould { "holds" } else { "FAILS" },
        life.provider,
        life.properties().len(),
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth(),
        started.elapsed()
    );
    verdict
}

/// The shortest way to a broken property.
struct Found {
    property: &'static str,
    path: Path<World, Action>,
}

fn find(flaw: Flaw) -> Option<Found> {
    // A laggard may bring two SMS, so what does no more than that is found with a provider that keeps its word.
    let provider = if flaw == Flaw::PostsWithoutLease { Provider::Prompt } else { Provider::Laggard };
    let life = life(provider, Some(flaw));
    // One thread: the same shortest way each time.
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
            Verdict::AsItShould
        }
        None => {
            println!("MISSED   {flaw:?}");
            Verdict::Wrong
        }
    }
}

fn show(flaw: Flaw) -> Verdict {
    let Some(Found { property, path }) = find(flaw) else {
        println!("{flaw:?} breaks nothing");
        return Verdict::Wrong;
    };
    println!("{flaw:?} breaks: {property}");
    print(path);
    Verdict::AsItShould
}

fn print(path: Path<World, Action>) {
    let last = path.last_state().clone();
    for action in path.into_actions() {
        println!("    {action:?}");
    }
    println!("  and then {last:#?}");
}
