//! A simulation of the scaler: workers, a queue, and an orchestrator with the behaviour that `k8s/components/worker-keda` gives it.
//!
//! The number comes from the program's own function. `OTPOST_BLESS=1` writes the pictures of `docs/scaling.md`.

use std::collections::VecDeque;
use std::time::Duration;

use otpost::domain::channel::Channel;
use otpost::domain::scaling::{QueueDepth, ScalePolicy, wanted_workers};
use otpost::domain::worker_state::{Rate, ReportedWorker, WorkerState};

use super::picture::{self, Moment};

const POLICY: ScalePolicy = ScalePolicy { workers_max: 20, backlog_within: Duration::from_secs(30) };
/// KEDA asks at this interval.
const POLL_SECONDS: usize = 15;
/// The orchestrator takes the highest number of this time before it ends workers.
const STABILIZATION_SECONDS: usize = 300;
/// A change by less than this share is none.
const TOLERANCE: f64 = 0.1;
/// From the decision to the first request.
const START_SECONDS: usize = 10;
/// 64 slots with an answer of a second.
const CAPACITY: f64 = 64.0;

struct Load {
    name: &'static str,
    seconds: usize,
    backlog: f64,
    /// Requests in a second.
    arrivals: fn(usize) -> f64,
    is_gate_closed: fn(usize) -> bool,
}

const NEVER: fn(usize) -> bool = |_| false;

#[derive(Default)]
struct Simulation {
    backlog: f64,
    workers: u32,
    /// Starting workers, by the second in which they are ready.
    starting: VecDeque<(usize, u32)>,
    /// Of all workers, smoothed as each of them does.
    rate: f64,
    in_flight: f64,
    recommended: VecDeque<u32>,
    /// The number a minute ago, by which the orchestrator ends at most half.
    a_minute_ago: VecDeque<u32>,
    changes: Vec<i64>,
}

impl Simulation {
    fn desired(&self) -> u32 {
        self.workers + self.starting.iter().map(|(_, count)| count).sum::<u32>()
    }

    fn work(&mut self, second: usize, arrivals: f64, is_closed: bool) {
        while let Some((_, count)) = self.starting.front().copied().filter(|(ready, _)| *ready <= second) {
            self.workers += count;
            self.starting.pop_front();
        }
        let can = if is_closed { 0.0 } else { f64::from(self.workers) * CAPACITY };
        let ended = (self.backlog + arrivals).min(can);
        self.backlog += arrivals - ended;
        self.in_flight = ended;
        // The mean over about 10 s.
        self.rate += (ended - self.rate) * (1.0 - (-0.1_f64).exp());
    }

    fn ask(&self, is_closed: bool) -> u32 {
        let share = |whole: f64| whole / f64::from(self.workers.max(1));
        let text = WorkerState {
            handlers_max: 64,
            in_flight: share(self.in_flight).round() as u32,
            ended: Rate::per_second(share(self.rate)),
            capacity: Some(Rate::per_second(CAPACITY)),
            closed_by: is_closed.then(|| "breaker".to_owned()),
            ..WorkerState::default()
        };
        let email = WorkerState { channel: Channel::Email, ..WorkerState::default() };
        let report = |state: &WorkerState| ReportedWorker {
            worker_id: 1,
            silent_for: Duration::ZERO,
            state: state.clone(),
        };
        let reports: Vec<ReportedWorker> =
            (0..self.workers).flat_map(|_| [report(&text), report(&email)]).collect();
        let consumers = if is_closed { 0 } else { self.workers };
        let depths = [
            QueueDepth { ready: self.backlog as u32, consumers },
            QueueDepth { ready: 0, consumers: self.workers },
        ];
        wanted_workers(&POLICY, &reports, Some(depths)).expect("all report").wanted
    }

    /// The orchestrator reads the number, and starts or ends workers.
    fn follow(&mut self, second: usize, wanted: u32) {
        let desired = self.desired();
        self.recommended.push_back(wanted);
        self.a_minute_ago.push_back(desired);
        while self.recommended.len() > STABILIZATION_SECONDS / POLL_SECONDS {
            self.recommended.pop_front();
        }
        while self.a_minute_ago.len() > 60 / POLL_SECONDS {
            self.a_minute_ago.pop_front();
        }
        let is_near = (f64::from(wanted) / f64::from(desired) - 1.0).abs() <= TOLERANCE;
        let lowest = self.a_minute_ago.front().map_or(0, |before| before / 2).max(1);
        let highest = self.recommended.iter().max().copied().unwrap_or(wanted);
        if !is_near && wanted > desired {
            let more = (wanted - desired).min(desired.max(4));
            self.starting.push_back((second + START_SECONDS, more));
            self.changes.push(more.into());
        } else if !is_near && highest < desired {
            let target = highest.max(lowest).min(desired);
            let fewer = (desired - target).min(self.workers);
            self.workers -= fewer;
            self.changes.push(-i64::from(fewer));
        }
    }
}

fn run(load: &Load) -> (Vec<Moment>, Vec<i64>) {
    let recommended = VecDeque::from([2]);
    let mut simulation =
        Simulation { backlog: load.backlog, workers: 2, recommended, ..Simulation::default() };
    let mut moments = Vec::new();
    let mut wanted = 2;
    for second in 0..load.seconds {
        let (arrivals, is_closed) = ((load.arrivals)(second), (load.is_gate_closed)(second));
        simulation.work(second, arrivals, is_closed);
        if second > 0 && second.is_multiple_of(POLL_SECONDS) {
            wanted = simulation.ask(is_closed);
            simulation.follow(second, wanted);
        }
        moments.push(Moment {
            arrivals,
            backlog: simulation.backlog,
            workers: simulation.workers,
            wanted,
            is_closed,
        });
    }
    simulation.changes.retain(|change| *change != 0);
    picture::compare(load.name, &moments);
    (moments, simulation.changes)
}

fn most_workers(moments: &[Moment]) -> u32 {
    moments.iter().map(|moment| moment.workers).max().expect("a moment")
}

/// The last second with a backlog.
fn caught_up_at(moments: &[Moment]) -> usize {
    moments.iter().rposition(|moment| moment.backlog >= 1.0).expect("there is a backlog")
}

#[test]
fn a_backlog_is_worked_off_by_all_workers_that_are_allowed() {
    let load =
        Load { name: "backlog", seconds: 900, backlog: 60_000.0, arrivals: |_| 40.0, is_gate_closed: NEVER };
    let (moments, changes) = run(&load);
    assert_eq!(most_workers(&moments), 20);
    assert!(caught_up_at(&moments) < 120, "{}", caught_up_at(&moments));
    assert_eq!(moments.last().expect("a moment").workers, 1, "40 a second are less than 48");
    assert!(changes.iter().filter(|change| **change > 0).count() <= 4, "{changes:?}");
}

#[test]
fn a_burst_starts_workers_and_ends_them_once() {
    let load = Load {
        name: "burst",
        seconds: 1_200,
        backlog: 0.0,
        arrivals: |second| if (120..240).contains(&second) { 700.0 } else { 60.0 },
        is_gate_closed: NEVER,
    };
    let (moments, changes) = run(&load);
    assert!((12..=20).contains(&most_workers(&moments)), "{}", most_workers(&moments));
    assert!(caught_up_at(&moments) < 300, "{}", caught_up_at(&moments));
    assert_eq!(moments.last().expect("a moment").workers, 2);
    let first_end = changes.iter().position(|change| *change < 0).expect("some end");
    assert!(changes[first_end..].iter().all(|change| *change < 0), "{changes:?}");
}

#[test]
fn an_outage_starts_no_workers_and_its_backlog_does() {
    let load = Load {
        name: "outage",
        seconds: 1_200,
        backlog: 0.0,
        arrivals: |_| 90.0,
        is_gate_closed: |second| (120..420).contains(&second),
    };
    let (moments, _) = run(&load);
    assert!(moments[120..430].iter().all(|moment| moment.workers == moments[119].workers));
    assert!(most_workers(&moments[430..]) > 10);
    let caught_up = caught_up_at(&moments);
    assert!((430..520).contains(&caught_up), "{caught_up}");
    assert_eq!(moments.last().expect("a moment").workers, 2);
}

#[test]
fn a_flapping_load_does_not_flap_the_workers() {
    let load = Load {
        name: "flapping",
        seconds: 1_200,
        backlog: 0.0,
        arrivals: |second| if second / 60 % 2 == 0 { 60.0 } else { 450.0 },
        is_gate_closed: NEVER,
    };
    let (moments, changes) = run(&load);
    // The backlog of the first minutes needs more workers than the load.
    assert!(changes.iter().filter(|change| **change < 0).count() <= 1, "{changes:?}");
    assert!(moments[300..].iter().all(|moment| moment.backlog < 450.0));
    let steady = moments[600].workers;
    assert!(moments[600..].iter().all(|moment| moment.workers == steady));
}
