//! Which fault happens when: a pure function of the seed.

use std::fmt;
use std::time::Duration;

use super::proxy::Way;
use super::servers::{End, Kind};
use super::twilio::Mood;

/// A family of faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    WorkerKills,
    RabbitRestarts,
    RedisRestarts,
    Freezes,
    Network,
    Provider,
    Rollouts,
}

/// All of them.
pub const EVERY_FAMILY: [Family; 7] = [
    Family::WorkerKills,
    Family::RabbitRestarts,
    Family::RedisRestarts,
    Family::Freezes,
    Family::Network,
    Family::Provider,
    Family::Rollouts,
];

/// A connection of the workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    Rabbit,
    Redis,
    Twilio,
}

/// One fault.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// `kill -9`, and another worker in its place.
    KillWorker(usize),
    /// SIGTERM, and another worker in its place.
    RollWorker(usize),
    Restart(Kind, End, Duration),
    Freeze(Kind, Duration),
    Cut(Link),
    Network(Link, Way, Duration),
    Provider(&'static str, Mood, Duration),
}

impl Fault {
    /// It can leave the sender of a POST in doubt without the provider knowing it: the sender dies, an answer is cut off,
    /// or it cannot be written down before another takes the request over.
    pub fn leaves_silent_doubt(&self) -> bool {
        match self {
            Fault::KillWorker(_) => true,
            Fault::Restart(kind, ..) | Fault::Freeze(kind, _) => *kind == Kind::Redis,
            Fault::Cut(link) | Fault::Network(link, ..) => *link != Link::Rabbit,
            Fault::RollWorker(_) | Fault::Provider(..) => false,
        }
    }
}

/// A fault and when it begins.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    pub at: Duration,
    pub fault: Fault,
}

/// The faults of some families over a length of time. `slack` stretches the time between them.
pub fn plan(families: &[Family], seed: u64, length: Duration, slack: f64) -> Vec<Step> {
    let mut steps: Vec<Step> =
        families.iter().flat_map(|&family| steps_of(family, seed, length, slack)).collect();
    steps.sort_by_key(|step| step.at);
    steps
}

fn steps_of(family: Family, seed: u64, length: Duration, slack: f64) -> Vec<Step> {
    // Another family beside it changes nothing of what happens to this one.
    let mut chance = fastrand::Rng::with_seed(seed.wrapping_mul(31).wrapping_add(family as u64));
    let mut steps = Vec::new();
    let mut at = Duration::ZERO;
    loop {
        at += family.every().mul_f64(slack * (0.5 + chance.f64()));
        // Each family has its turn, however short the run is.
        if at >= length && !steps.is_empty() {
            return steps;
        }
        let within = length.mul_f64(0.5 + chance.f64() / 2.0);
        steps.push(Step { at: at.min(within), fault: fault(family, &mut chance) });
    }
}

impl Family {
    /// The mean time from one to the next.
    fn every(self) -> Duration {
        Duration::from_millis(match self {
            Family::WorkerKills => 2_500,
            Family::RabbitRestarts => 9_000,
            Family::RedisRestarts => 5_000,
            Family::Freezes => 3_500,
            Family::Network => 2_000,
            Family::Provider => 5_000,
            Family::Rollouts => 4_000,
        })
    }
}

fn fault(family: Family, chance: &mut fastrand::Rng) -> Fault {
    let mut span = |from_ms, to_ms| Duration::from_millis(chance.u64(from_ms..to_ms));
    match family {
        Family::WorkerKills => Fault::KillWorker(chance.usize(..100)),
        Family::Rollouts => Fault::RollWorker(chance.usize(..100)),
        Family::RabbitRestarts => {
            let down = span(0, 3_000);
            Fault::Restart(Kind::Rabbit, end(chance), down)
        }
        Family::RedisRestarts => {
            let down = span(0, 3_000);
            Fault::Restart(Kind::Redis, end(chance), down)
        }
        Family::Freezes => {
            let span = span(300, 5_000);
            Fault::Freeze(if chance.bool() { Kind::Rabbit } else { Kind::Redis }, span)
        }
        Family::Network => network(chance),
        Family::Provider => provider(chance),
    }
}

fn end(chance: &mut fastrand::Rng) -> End {
    if chance.bool() { End::Graceful } else { End::Killed }
}

fn network(chance: &mut fastrand::Rng) -> Fault {
    let link = *chance.choice(&[Link::Rabbit, Link::Redis, Link::Twilio]).expect("there are some");
    let span = Duration::from_millis(chance.u64(500..6_000));
    match chance.u8(..4) {
        0 => Fault::Cut(link),
        1 => Fault::Network(link, Way::Slow(Duration::from_millis(chance.u64(20..400))), span),
        2 => Fault::Network(link, Way::Black, span),
        _ => Fault::Network(link, Way::Shut, span),
    }
}

fn provider(chance: &mut fastrand::Rng) -> Fault {
    let span = Duration::from_millis(chance.u64(1_000..5_000));
    match chance.u8(..4) {
        0 => Fault::Provider("throttling", Mood::THROTTLING, span),
        1 => Fault::Network(Link::Twilio, Way::Shut, span),
        _ => Fault::Provider("storm", Mood::STORM, span),
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>7.2} s  ", self.at.as_secs_f64())?;
        match &self.fault {
            Fault::Provider(name, _, span) => write!(f, "Provider({name}, {span:?})"),
            fault => write!(f, "{fault:?}"),
        }
    }
}
