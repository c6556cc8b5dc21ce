//! Does every run end? Together with "nothing is stuck before the end" this says that every run reaches the end.
//!
//! The checker's own `eventually` looks at each world once, on whichever way led there first, and can miss a run that
//! joins another; and it does not look for circles. A world's runs all end exactly if no circle can be reached from it.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use stateright::{Model as _, Representative as _};

use crate::model::{Life, World};

/// A world that can come back, if there is one.
pub fn circle(life: &Life) -> Option<World> {
    let mut on_the_way: HashSet<u64> = HashSet::new();
    let mut ends: HashSet<u64> = HashSet::new();
    let mut way: Vec<(u64, Vec<World>)> = Vec::new();
    for start in life.init_states() {
        way.push((fingerprint(&start), life.next_states(&start)));
        on_the_way.insert(fingerprint(&start));
    }
    while let Some((here, untried)) = way.last_mut() {
        let Some(next) = untried.pop() else {
            on_the_way.remove(here);
            ends.insert(*here);
            way.pop();
            continue;
        };
        let print = fingerprint(&next);
        if on_the_way.contains(&print) {
            return Some(next);
        }
        if !ends.contains(&print) {
            on_the_way.insert(print);
            way.push((print, life.next_states(&next)));
        }
    }
    None
}

fn fingerprint(world: &World) -> u64 {
    let mut hasher = DefaultHasher::new();
    world.representative().hash(&mut hasher);
    hasher.finish()
}
