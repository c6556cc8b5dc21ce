//! What must always hold, and what has to be seen at least once for that to mean anything.

use stateright::{Model as _, Property};

use crate::model::{Fate, Life, Provider, World};
use crate::store::{Charge, Outcome, Record};
use crate::worker::Phase;

pub fn all(life: &Life) -> Vec<Property<Life>> {
    let mut all = vec![
        Property::always("one SMS, or two after a re-send that two lookups allowed", |_, world: &World| {
            world.accepted().count() <= 1 + usize::from(world.history.resent)
        }),
        Property::always("one POST that may be accepted, or two after such a re-send", |_, world: &World| {
            world.posts.len() <= 1 + usize::from(world.history.resent)
        }),
        Property::always("all SMS carry one code", |_, world: &World| {
            world.posts.iter().all(|post| post.code == world.posts[0].code)
        }),
        Property::always("no POST after the deadline", |_, world: &World| !world.history.posted_too_late),
        Property::always("two workers are never about to POST", |_, world: &World| {
            world.workers.iter().filter(|worker| worker.phase == Phase::Ready && worker.fits).count() <= 1
        }),
        Property::always("a delivery is acknowledged after a confirmed result", |_, world: &World| {
            world.acked <= world.confirms
        }),
        Property::always("results never contradict each other", |_, world: &World| {
            let recorded = |outcome: &Outcome| world.store.record == Record::Ended(*outcome);
            world.published.len() <= 1 && world.published.iter().all(recorded)
        }),
        Property::always("an outcome is true", |_, world: &World| is_true(world)),
        Property::always(
            "the charge is kept if something was or may have been sent, else refunded once",
            |_, world: &World| charge_is_right(world),
        ),
        Property::always("a step asked again gets its first answer", |_, world: &World| {
            !world.history.unequal_answer
        }),
        Property::always("nothing is stuck before the end", |life, world: &World| {
            has_ended(life, world) || can_go_on(life, world)
        }),
        Property::sometimes("a re-send is accepted", |_, world: &World| {
            world.history.resent && sent(world).is_some_and(|message| message == 1)
        }),
        Property::sometimes("a doubt that was taken over resolves to sent", |_, world: &World| {
            world
                .workers
                .iter()
                .any(|worker| worker.took_over && matches!(worker.phase, Phase::Settling(Outcome::Sent(_))))
        }),
        Property::sometimes("unknown is published", |_, world: &World| {
            world.published.contains(&Outcome::Unknown)
        }),
        Property::sometimes("unknown is said of what was sent", |_, world: &World| {
            world.store.record == Record::Ended(Outcome::Unknown) && world.accepted().next().is_some()
        }),
        Property::sometimes("failed is published", |_, world: &World| {
            world.published.contains(&Outcome::Failed)
        }),
        Property::sometimes("rejected is published", |_, world: &World| {
            world.published.contains(&Outcome::Rejected)
        }),
        Property::sometimes(
            "a callback proves a send",
            |_, world: &World| matches!(world.store.record, Record::Open(open) if open.proof.is_some()),
        ),
        Property::sometimes("everything ends", has_ended),
    ];
    all.push(match life.provider {
        Provider::Prompt => {
            Property::always("never two SMS, as the provider keeps its word", |_, world: &World| {
                world.accepted().count() <= 1
            })
        }
        Provider::Laggard => {
            Property::sometimes("two SMS, as the provider does not keep its word", |_, world: &World| {
                world.accepted().count() == 2
            })
        }
    });
    all
}

fn sent(world: &World) -> Option<u8> {
    match world.store.record {
        Record::Ended(Outcome::Sent(message)) => Some(message),
        _ => None,
    }
}

fn is_true(world: &World) -> bool {
    let may_be_accepted = world.posts.iter().any(|post| post.fate != Fate::Vanished);
    match world.store.record {
        Record::Ended(Outcome::Sent(message)) => world.accepted().any(|(accepted, _)| accepted == message),
        Record::Ended(Outcome::Failed | Outcome::Rejected) => !may_be_accepted,
        Record::Ended(Outcome::Unknown) | Record::Open(_) => true,
        Record::Absent => world.posts.is_empty(),
    }
}

fn charge_is_right(world: &World) -> bool {
    let expected = match world.store.record {
        Record::Absent | Record::Ended(Outcome::Rejected) => Charge::Never,
        Record::Open(_) | Record::Ended(Outcome::Sent(_) | Outcome::Unknown) => Charge::Kept,
        Record::Ended(Outcome::Failed) => Charge::Refunded,
    };
    world.store.charge == expected
}

/// Every copy is acknowledged, nobody is at work, and one result was published.
fn has_ended(life: &Life, world: &World) -> bool {
    world.acked == life.copies
        && world.workers.iter().all(|worker| worker.phase == Phase::Idle)
        && matches!(world.store.record, Record::Ended(outcome) if world.published == [outcome])
}

fn can_go_on(life: &Life, world: &World) -> bool {
    let mut actions = Vec::new();
    life.actions(world, &mut actions);
    actions.into_iter().any(|action| action.is_sure())
}
