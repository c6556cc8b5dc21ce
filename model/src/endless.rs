//! Searches for endless runs. Without one, and with "nothing is stuck before the end", every run reaches the end.
//!
//! The checker's own `eventually` visits each world once, by its first path, so it can miss a run that joins another, and
//! it does not search for cycles. All runs of a world end exactly if no cycle can be reached from it.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use stateright::{Model as _, Representative as _};

use crate::life::Life;
use crate::world::World;

/// A world that can be reached from itself, if there is one.
pub fn cycle(life: &Life) -> Option<World> {
    let mut on_path: HashSet<u64> = HashSet::new();
    let mut finished: HashSet<u64> = HashSet::new();
    let mut path: Vec<(u64, Vec<World>)> = Vec::new();
    for start in life.init_states() {
        path.push((fingerprint(&start), life.next_states(&start)));
        on_path.insert(fingerprint(&start));
    }
    while let Some((here, untried)) = path.last_mut() {
        let Some(next) = untried.pop() else {
            on_path.remove(here);
            finished.insert(*here);
            path.pop();
            continue;
        };
        let print = fingerprint(&next);
        if on_path.contains(&print) {
            return Some(next);
        }
        if !finished.contains(&print) {
            on_path.insert(print);
            path.push((print, life.next_states(&next)));
        }
    }
    None
}

fn fingerprint(world: &World) -> u64 {
    let mut hasher = DefaultHasher::new();
    world.representative().hash(&mut hasher);
    hasher.finish()
}
