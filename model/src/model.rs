//! The model for the checker: initial world, actions, effects and properties.

use stateright::{Model, Property};

use crate::life::Life;
use crate::properties;
use crate::store::{Charge, Record, Store};
use crate::worker::Worker;
use crate::world::{Action, Age, History, Other, WORKERS, World};

impl Model for Life {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World {
            ready: self.copies,
            acked: 0,
            workers: [Worker::IDLE; WORKERS as usize],
            store: Store { record: Record::Absent, charge: Charge::Never },
            late: None,
            posts: Vec::new(),
            age: Age::Young,
            too_late: false,
            faults_left: self.faults,
            refusals_left: self.refusals,
            published: Vec::new(),
            confirms: 0,
            other: if self.other { Other::NotStarted } else { Other::None },
            history: History::default(),
        }]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        self.possible(world, actions);
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut next = world.clone();
        self.apply(&mut next, action);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Life>> {
        properties::all(self)
    }
}
