//! Faults at one exact moment: each scenario causes one.

mod email;
mod failover;
mod provider;
mod rabbit_cluster;
mod redis_cluster;
mod redis_sentinel;
mod servers;
mod two_providers;
mod upgrades;
mod workers;

use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

use super::servers::Servers;
use super::stage::Verdict;

type Running<'a> = Pin<Box<dyn Future<Output = Result<Verdict, String>> + 'a>>;

/// The servers, folder and seed of a scenario.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    pub servers: &'a Servers,
    pub folder: &'a Path,
    pub seed: u64,
}

/// A scenario.
pub struct Scenario {
    pub name: &'static str,
    pub run: for<'a> fn(Place<'a>) -> Running<'a>,
    /// The short run includes it.
    pub short: bool,
    /// It harms no server, so several such scenarios run at once.
    pub alone: bool,
}

/// In the order in which they run.
pub const SCENARIOS: [Scenario; 25] = [
    Scenario {
        name: "a_worker_killed_between_the_answer_and_the_record",
        run: |place| Box::pin(workers::a_worker_killed_between_the_answer_and_the_record(place)),
        short: true,
        alone: false,
    },
    Scenario {
        name: "drain_with_sends_in_backoff",
        run: |place| Box::pin(workers::drain_with_sends_in_backoff(place)),
        short: true,
        alone: false,
    },
    Scenario {
        name: "queue_deleted",
        run: |place| Box::pin(servers::queue_deleted(place)),
        short: true,
        alone: false,
    },
    Scenario {
        name: "script_flush",
        run: |place| Box::pin(servers::script_flush(place)),
        short: true,
        alone: false,
    },
    Scenario {
        name: "a_rolling_upgrade_and_back",
        run: |place| Box::pin(upgrades::a_rolling_upgrade_and_back(place)),
        short: false,
        alone: false,
    },
    Scenario {
        name: "kill_switch",
        run: |place| Box::pin(provider::kill_switch(place)),
        short: false,
        alone: false,
    },
    Scenario {
        name: "a_silent_twilio_for_two_minutes",
        run: |place| Box::pin(provider::a_silent_twilio_for_two_minutes(place)),
        short: false,
        alone: false,
    },
    Scenario {
        name: "a_provider_that_dies_and_returns",
        run: |place| Box::pin(two_providers::a_provider_that_dies_and_returns(place)),
        short: false,
        alone: false,
    },
    Scenario {
        name: "redis_out_of_memory_noeviction",
        run: |place| Box::pin(servers::redis_out_of_memory_noeviction(place)),
        short: false,
        alone: true,
    },
    Scenario {
        name: "redis_read_only",
        run: |place| Box::pin(servers::redis_read_only(place)),
        short: false,
        alone: true,
    },
    Scenario {
        name: "poison_does_not_slow_neighbours",
        run: |place| Box::pin(workers::poison_does_not_slow_neighbours(place)),
        short: false,
        alone: true,
    },
    Scenario {
        name: "hanging_emails_do_not_slow_text_messages",
        run: |place| Box::pin(email::hanging_emails_do_not_slow_text_messages(place)),
        short: false,
        alone: true,
    },
    Scenario {
        name: "redis_cluster_primary_killed",
        run: |place| Box::pin(redis_cluster::primary_killed(place)),
        short: false,
        alone: true,
    },
    Scenario {
        name: "redis_cluster_shards_primary_killed",
        run: |place| Box::pin(redis_cluster::primary_of_shards_killed(place)),
        short: false,
        alone: true,
    },
    Scenario {
        name: "redis_cluster_slot_moved",
        run: |place| Box::pin(redis_cluster::slot_moved(place)),
        short: false,
        alone: true,
    },
    Scenario {
        name: "redis_cluster_planned_failover",
        run: |place| Box::pin(redis_cluster::planned_failover(place)),
        short: false,
        alone: true,
    },
    Scenario {
        name: "redis_sentinel_master_killed",
        run: |place| Box::pin(redis_sentinel::master_killed(place)),
        short: false,
        alone: true,
    },
    Scenario {
        name: "redis_sentinel_master_frozen",
        run: |place| Box::pin(redis_sentinel::master_frozen(place)),
        short: false,
        alone: true,
    },
    Scenario {
        name: "redis_sentinel_planned_failover",
        run: |place| Box::pin(redis_sentinel::planned_failover(place)),
        short: false,
        alone: true,
    },
    Scenario {
        name: "redis_sentinel_failover_without_pause",
        run: |place| Box::pin(redis_sentinel::failover_without_pause(place)),
        short: false,
        alone: true,
    },
    Scenario {
        name: "rabbit_cluster_leader_killed",
        run: |place| Box::pin(rabbit_cluster::leader_killed(place)),
        short: false,
        alone: true,
    },
    Scenario {
        name: "rabbit_cluster_two_killed",
        run: |place| Box::pin(rabbit_cluster::two_killed(place)),
        short: false,
        alone: true,
    },
    Scenario {
        name: "rabbit_cluster_node_frozen",
        run: |place| Box::pin(rabbit_cluster::node_frozen(place)),
        short: false,
        alone: true,
    },
    Scenario {
        name: "rabbit_cluster_rolling_restart",
        run: |place| Box::pin(rabbit_cluster::rolling_restart(place)),
        short: false,
        alone: true,
    },
    Scenario {
        name: "rabbit_cluster_memory_alarm",
        run: |place| Box::pin(rabbit_cluster::memory_alarm(place)),
        short: false,
        alone: true,
    },
];

/// For immediate effects, on a busy machine.
const SOON: Duration = Duration::from_secs(30);
/// For effects after a lease or a backoff has ended.
const LATER: Duration = Duration::from_secs(90);
