//! The properties of charges in slots of their own.

use stateright::Property;

use crate::charges::{Charges, Listed, Record, USERS, World, LIMIT};

pub fn properties() -> Vec<Property<Charges>> {
    vec![
        Property::always(
            "a user's live and sent requests are never more than allowed",
            |_, world: &World| {
                let recorded: Vec<Listed> =
                    (0..2).filter_map(|request| world.recorded(request)).collect();
                let of = |user| recorded.iter().filter(|charge| charge.user == user).count();
                (0..USERS).all(|user| of(user) <= LIMIT)
            },
        ),
        Property::always("each live or sent request is in a log", |_, world: &World| {
            let is_sent = |record: &Record| matches!(record, Record::Live { .. } | Record::Sent { .. });
            (0..2).all(|request| {
                let record = &world.records[request];
                !is_sent(record)
                    || record.charge().is_some_and(|charge| {
                        !world.counts(charge.at)
                            || world.counted(charge.user, request).is_some_and(|at| at >= charge.at)
                    })
            })
        }),
        Property::always("in the end the logs are what the records say", |_, world: &World| {
            let agrees = |user: usize, request: usize| {
                let recorded = world.recorded(request).filter(|charge| charge.user == user);
                world.counted(user, request) == recorded.map(|charge| charge.at)
            };
            !world.is_quiet() || (0..USERS).all(|user| agrees(user, 0) && agrees(user, 1))
        }),
        Property::sometimes("a request is refused and the other one sent", |_, world: &World| {
            world.is_quiet()
                && world.records.contains(&Record::Refused)
                && world.records.iter().any(|record| matches!(record, Record::Sent { .. }))
        }),
        Property::sometimes(
            "the second request takes the place of a refunded one",
            |_, world: &World| {
                let of_first = |charge: Option<Listed>| charge.is_some_and(|charge| charge.user == 0);
                world.is_quiet()
                    && of_first(world.records[0].refunded())
                    && matches!(world.records[1], Record::Sent { charged } if of_first(charged))
            },
        ),
        Property::sometimes("a request is sent for its second user", |_, world: &World| {
            let of_second = |charge: Option<Listed>| charge.is_some_and(|charge| charge.user == 1);
            world.is_quiet()
                && matches!(world.records[0], Record::Sent { charged } if of_second(charged))
        }),
        Property::sometimes("both requests are sent for one user, one after the other", |_, world: &World| {
            world.is_quiet()
                && world.records.iter().all(|record| {
                    matches!(record, Record::Sent { charged: Some(Listed { user: 0, .. }) })
                })
        }),
    ]
}
