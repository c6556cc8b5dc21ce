//! Properties that must always hold, and worlds that must be reached at least once.

use stateright::Property;

use crate::life::{Life, Provider};
use crate::store::{Charge, Outcome, ProviderIndex, Record};
use crate::worker::{Phase, Worker};
use crate::world::{Fate, Other, World};

pub fn all(life: &Life) -> Vec<Property<Life>> {
    let mut all = vec![
        Property::always(
            "one SMS, or two after a resend that two lookups allowed, or that none answered",
            |_, world: &World| world.accepted().count() <= 1 + usize::from(may_be_doubled(world)),
        ),
        Property::always("one POST that may be accepted, or two after such a resend", |_, world: &World| {
            world.posts.len() <= 1 + usize::from(may_be_doubled(world))
        }),
        Property::always("the record names every provider that was called", |_, world: &World| {
            names_providers(world)
        }),
        Property::always("all SMS have one code", |_, world: &World| {
            world.posts.iter().all(|post| post.code == world.posts[0].code)
        }),
        Property::always("no POST after the deadline", |_, world: &World| !world.history.posted_too_late),
        Property::always("two workers are never about to POST", |_, world: &World| {
            world
                .workers
                .iter()
                .filter(|worker| worker.phase == Phase::Ready && worker.post_fits_lease)
                .count()
                <= 1
        }),
        Property::always("a delivery is acknowledged after a confirmed result", |_, world: &World| {
            world.acked <= world.confirms
        }),
        Property::always("results never contradict each other", |_, world: &World| {
            let recorded = |outcome: &Outcome| world.store.record == Record::Completed(*outcome);
            world.published.len() <= 1 && world.published.iter().all(recorded)
        }),
        Property::always("an outcome is true", |_, world: &World| is_true(world)),
        Property::always(
            "the charge is kept if something was or may have been sent, else refunded once",
            |_, world: &World| charge_is_right(world),
        ),
        Property::always("a repeated call gets its first answer", |_, world: &World| {
            !world.history.unequal_answer
        }),
        Property::always("nothing is stuck before the end", |life, world: &World| {
            has_ended(life, world) || can_go_on(life, world)
        }),
        Property::sometimes("a resend is accepted", |_, world: &World| {
            world.history.resent && sent(world).is_some_and(|message| message == 1)
        }),
        Property::sometimes("an attempt in doubt is taken over and completed as sent", |_, world: &World| {
            world
                .workers
                .iter()
                .any(|worker| worker.took_over && matches!(worker.phase, Phase::Completing(Outcome::Sent(_))))
        }),
        Property::sometimes("an answer names no message", |_, world: &World| {
            world.published.contains(&Outcome::SentUnnamed)
        }),
        Property::sometimes("unknown is published", |_, world: &World| {
            world.published.contains(&Outcome::Unknown)
        }),
        Property::sometimes("a sent request ends as unknown", |_, world: &World| {
            world.store.record == Record::Completed(Outcome::Unknown) && world.accepted().next().is_some()
        }),
        Property::sometimes("failed is published", |_, world: &World| {
            world.published.contains(&Outcome::Failed)
        }),
        Property::sometimes("rejected is published", |_, world: &World| {
            world.published.contains(&Outcome::Rejected)
        }),
        Property::sometimes(
            "a receipt arrives before the completion",
            |_, world: &World| matches!(world.store.record, Record::Open(open) if open.receipt.is_some()),
        ),
        Property::sometimes("everything ends", has_ended),
    ];
    if life.other {
        all.push(Property::sometimes(
            "a message is found beside one of another request",
            |_, world: &World| {
                let found = |worker: &Worker| {
                    worker.took_over && matches!(worker.phase, Phase::Completing(Outcome::Sent(_)))
                };
                world.other == Other::Unnamed && world.workers.iter().any(found)
            },
        ));
        all.push(Property::sometimes(
            "a message that may be another request's is not taken",
            |_, world: &World| {
                world.store.record == Record::Completed(Outcome::Unknown) && world.other == Other::Unnamed
            },
        ));
    }
    if life.providers > 1 {
        all.extend(of_two_providers());
    }
    all.push(match life.provider {
        Provider::Prompt => Property::always(
            "never two SMS with a prompt provider that answers lookups",
            |_, world: &World| world.accepted().count() <= 1 || world.history.handed_over,
        ),
        Provider::Laggard => {
            Property::sometimes("two SMS with a laggard", |_, world: &World| world.accepted().count() == 2)
        }
    });
    all
}

fn of_two_providers() -> [Property<Life>; 3] {
    [
        Property::sometimes(
            "the other provider sends after a refusal or before the first call",
            |_, world: &World| sent_by(world) == Some(1) && world.posts.len() == 1,
        ),
        Property::sometimes("each provider sends, after lookups without an answer", |_, world: &World| {
            world.history.handed_over && world.accepted().count() == 2
        }),
        Property::sometimes(
            "the message in doubt is found after the other provider got it",
            |_, world: &World| world.history.handed_over && sent_by(world) == Some(0),
        ),
    ]
}

fn sent_by(world: &World) -> Option<ProviderIndex> {
    sent(world).map(|message| world.posts[usize::from(message)].provider)
}

fn may_be_doubled(world: &World) -> bool {
    world.history.resent || world.history.handed_over
}

fn names_providers(world: &World) -> bool {
    let Record::Open(open) = world.store.record else { return true };
    world.posts.iter().all(|post| open.named.has(post.provider))
}

fn sent(world: &World) -> Option<u8> {
    match world.store.record {
        Record::Completed(Outcome::Sent(message)) => Some(message),
        _ => None,
    }
}

fn is_true(world: &World) -> bool {
    let may_be_accepted = world.posts.iter().any(|post| post.fate != Fate::Vanished);
    match world.store.record {
        Record::Completed(Outcome::Sent(message)) => {
            world.accepted().any(|(accepted, _)| accepted == message)
        }
        Record::Completed(Outcome::SentUnnamed) => world.accepted().next().is_some(),
        Record::Completed(Outcome::Failed | Outcome::Rejected) => !may_be_accepted,
        Record::Completed(Outcome::Unknown) | Record::Open(_) => true,
        Record::Absent => world.posts.is_empty(),
    }
}

fn charge_is_right(world: &World) -> bool {
    let expected = match world.store.record {
        Record::Absent | Record::Completed(Outcome::Rejected) => Charge::Never,
        Record::Open(_) | Record::Completed(Outcome::Sent(_) | Outcome::SentUnnamed | Outcome::Unknown) => {
            Charge::Kept
        }
        Record::Completed(Outcome::Failed) => Charge::Refunded,
    };
    world.store.charge == expected
}

/// Every copy is acknowledged, all workers are idle, and one result was published.
fn has_ended(life: &Life, world: &World) -> bool {
    world.acked == life.copies
        && world.workers.iter().all(|worker| worker.phase == Phase::Idle)
        && matches!(world.store.record, Record::Completed(outcome) if world.published == [outcome])
}

fn can_go_on(life: &Life, world: &World) -> bool {
    let mut actions = Vec::new();
    life.possible(world, &mut actions);
    actions.into_iter().any(|action| action.happens_eventually())
}
