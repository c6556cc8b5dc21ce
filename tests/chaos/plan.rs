//! The plan of faults: a pure function of the seed.

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
    /// `kill -9`; another worker replaces it.
    KillWorker(usize),
    /// SIGTERM; another worker replaces it.
    RollWorker(usize),
    Restart(Kind, End, Duration),
    Freeze(Kind, Duration),
    Cut(Link),
    Network(Link, Way, Duration),
    Provider(&'static str, Mood, Duration),
}

impl Fault {
    /// The fault can leave a POST in doubt unknown to the provider: the worker dies, its answer is cut off, or the answer
    /// cannot be recorded before another handler takes the request over.
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
    // A family's faults do not depend on the other families.
    let mut rng = fastrand::Rng::with_seed(seed.wrapping_mul(31).wrapping_add(family as u64));
    let mut steps = Vec::new();
    let mut at = Duration::ZERO;
    loop {
        at += family.every().mul_f64(slack * (0.5 + rng.f64()));
        // Each family occurs at least once, however short the run is.
        if at >= length && !steps.is_empty() {
            return steps;
        }
        let within = length.mul_f64(0.5 + rng.f64() / 2.0);
        steps.push(Step { at: at.min(within), fault: fault(family, &mut rng) });
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

fn fault(family: Family, rng: &mut fastrand::Rng) -> Fault {
    let mut span = |from_ms, to_ms| Duration::from_millis(rng.u64(from_ms..to_ms));
    match family {
        Family::WorkerKills => Fault::KillWorker(rng.usize(..100)),
        Family::Rollouts => Fault::RollWorker(rng.usize(..100)),
        Family::RabbitRestarts => {
            let down = span(0, 3_000);
            Fault::Restart(Kind::Rabbit, end(rng), down)
        }
        Family::RedisRestarts => {
            let down = span(0, 3_000);
            Fault::Restart(Kind::Redis, end(rng), down)
        }
        Family::Freezes => {
            let span = span(300, 5_000);
            Fault::Freeze(if rng.bool() { Kind::Rabbit } else { Kind::Redis }, span)
        }
        Family::Network => network(rng),
        Family::Provider => provider(rng),
    }
}

fn end(rng: &mut fastrand::Rng) -> End {
    if rng.bool() { End::Graceful } else { End::Killed }
}

fn network(rng: &mut fastrand::Rng) -> Fault {
    let link = *rng.choice(&[Link::Rabbit, Link::Redis, Link::Twilio]).expect("there are some");
    let span = Duration::from_millis(rng.u64(500..6_000));
    match rng.u8(..4) {
        0 => Fault::Cut(link),
        1 => Fault::Network(link, Way::Slow(Duration::from_millis(rng.u64(20..400))), span),
        2 => Fault::Network(link, Way::Black, span),
        _ => Fault::Network(link, Way::Shut, span),
    }
}

fn provider(rng: &mut fastrand::Rng) -> Fault {
    let span = Duration::from_millis(rng.u64(1_000..5_000));
    match rng.u8(..4) {
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
