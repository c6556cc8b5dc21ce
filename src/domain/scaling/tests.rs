//! The rules of the scaler, one table each.

use super::*;

const POLICY: ScalePolicy = ScalePolicy { workers_max: 20, backlog_within: Duration::from_secs(30) };

/// Sends 10 a second with all its slots, and does so at half of them.
fn busy() -> WorkerState {
    WorkerState {
        handlers_max: 10,
        in_flight: 5,
        ended: Rate::per_second(5.0),
        capacity: Some(Rate::per_second(10.0)),
        ..WorkerState::default()
    }
}

fn idle() -> WorkerState {
    WorkerState { in_flight: 0, ended: Rate::default(), ..busy() }
}

fn report(state: WorkerState, silent_seconds: u64) -> ReportedWorker {
    ReportedWorker { worker_id: 1, silent_for: Duration::from_secs(silent_seconds), state }
}

/// Each worker's text messages in one state, and an idle channel of e-mails.
fn scale(workers: u32, state: &WorkerState, ready: u32) -> Scale {
    let mut reports: Vec<ReportedWorker> = (0..workers).map(|_| report(state.clone(), 0)).collect();
    let email = WorkerState { channel: Channel::Email, ..WorkerState::default() };
    reports.extend((0..workers).map(|_| report(email.clone(), 0)));
    let consumers = if state.closed_by.is_some() { 0 } else { workers };
    let depths = [QueueDepth { ready, consumers }, QueueDepth { ready: 0, consumers: workers }];
    wanted_workers(&POLICY, &reports, Some(depths)).expect("all report")
}

#[track_caller]
fn expect(scale: &Scale, wanted: u32, reason: ScaleReason) {
    assert_eq!((scale.wanted, scale.channels[0].reason), (wanted, reason), "{scale:?}");
}

#[test]
fn there_are_as_many_workers_as_rate_and_backlog_need() {
    // 10 a second, of 7.5 for each worker.
    expect(&scale(2, &busy(), 0), 2, ScaleReason::Load);
    // 300 more within 30 s: another 10 a second.
    expect(&scale(2, &busy(), 300), 3, ScaleReason::Load);
    expect(&scale(2, &busy(), 3_000), 15, ScaleReason::Load);
    expect(&scale(2, &busy(), 1_000_000), 20, ScaleReason::Load);
    let scale = scale(2, &busy(), 300);
    assert_eq!((scale.present, scale.channels[0].ready, scale.channels[0].workers), (2, Some(300), 2));
    assert_eq!((scale.channels[0].rate, scale.channels[0].capacity), (10.0, Some(10.0)));
}

#[test]
fn one_worker_stays() {
    for present in [20, 2, 1] {
        expect(&scale(present, &idle(), 0), 1, ScaleReason::Idle);
    }
}

#[test]
fn the_busier_channel_decides() {
    let (text, mail) = (report(idle(), 0), report(WorkerState { channel: Channel::Email, ..busy() }, 0));
    let depths = [0, 600].map(|ready| QueueDepth { ready, consumers: 1 });
    let scale = wanted_workers(&POLICY, &[text, mail], Some(depths)).expect("both report");
    let wanted: Vec<u32> = scale.channels.iter().map(|channel| channel.wanted).collect();
    assert_eq!((scale.wanted, scale.present, wanted), (4, 1, vec![1, 4]));
}

#[test]
fn a_closed_gate_holds_the_number() {
    let closed = WorkerState { closed_by: Some("breaker".to_owned()), ..busy() };
    let held = scale(3, &closed, 100_000);
    expect(&held, 3, ScaleReason::GateClosed);
    assert_eq!(held.channels[0].closed_by.as_deref(), Some("breaker"));
    // Also if one of many is closed.
    let mut reports: Vec<ReportedWorker> = (0..3).map(|_| report(busy(), 0)).collect();
    reports.push(report(closed, 0));
    let depths = [QueueDepth { ready: 100_000, consumers: 3 }; 2];
    let scale = wanted_workers(&POLICY, &reports, Some(depths)).expect("all report");
    expect(&scale, 4, ScaleReason::GateClosed);
}

#[test]
fn a_closed_gate_keeps_no_worker_without_work() {
    let closed = WorkerState { closed_by: Some("kill_switch".to_owned()), ..idle() };
    expect(&scale(4, &closed, 0), 1, ScaleReason::Idle);
}

#[test]
fn more_workers_do_not_start_where_sends_wait() {
    let waits = WorkerState { in_flight: 10, waiting: 6, ..busy() };
    expect(&scale(2, &waits, 10_000), 2, ScaleReason::SendsWait);
    let half = WorkerState { waiting: 5, ..waits.clone() };
    expect(&scale(2, &half, 10_000), 20, ScaleReason::Load);
    // Fewer may be enough.
    expect(&scale(8, &WorkerState { ended: Rate::per_second(1.0), ..waits }, 0), 2, ScaleReason::Load);
}

#[test]
fn missing_data_hold_the_number() {
    expect(&scale(3, &WorkerState { capacity: None, ..busy() }, 500), 3, ScaleReason::CapacityUnknown);
    let reports: Vec<ReportedWorker> = (0..3).map(|_| report(busy(), 0)).collect();
    let scale = wanted_workers(&POLICY, &reports, None).expect("all report");
    expect(&scale, 3, ScaleReason::QueueUnknown);
    assert_eq!((scale.channels[0].ready, scale.channels[0].consumers), (None, None));
    let none_consumes = [QueueDepth { ready: 100_000, consumers: 0 }; 2];
    let scale = wanted_workers(&POLICY, &reports, Some(none_consumes)).expect("all report");
    expect(&scale, 3, ScaleReason::NotConsuming);
}

#[test]
fn the_number_is_unknown_where_no_worker_is_seen() {
    let depths = [QueueDepth { ready: 100_000, consumers: 0 }; 2];
    assert_eq!(wanted_workers(&POLICY, &[], Some(depths)), Err(WorkersUnknown::NoneSeen));
    assert_eq!(wanted_workers(&POLICY, &[], None), Err(WorkersUnknown::NoneSeen));
}

#[test]
fn one_worker_is_enough_for_a_channel_without_any() {
    let depths = [QueueDepth { ready: 0, consumers: 3 }, QueueDepth { ready: 100_000, consumers: 0 }];
    let scale = wanted_workers(&POLICY, &[], Some(depths)).expect("some consume");
    assert_eq!((scale.channels[1].wanted, scale.channels[1].reason), (1, ScaleReason::NoWorkers));
}

#[test]
fn workers_that_report_nothing_are_counted_by_their_consumers() {
    let depths = [QueueDepth { ready: 100, consumers: 5 }; 2];
    let scale = wanted_workers(&POLICY, &[], Some(depths)).expect("nothing is silent");
    assert_eq!(scale.present, 5);
    expect(&scale, 5, ScaleReason::CapacityUnknown);
}

#[test]
fn a_draining_or_silent_worker_does_not_count() {
    let depths = [4, 2].map(|consumers| QueueDepth { ready: 0, consumers });
    let draining = WorkerState { draining: true, ..busy() };
    let reports = [
        report(busy(), 0),
        report(busy(), 9),
        report(busy(), 10),
        report(draining.clone(), 0),
        report(draining, 59),
    ];
    let scale = wanted_workers(&POLICY, &reports, Some(depths)).expect("most report");
    assert_eq!((scale.present, scale.channels[0].workers), (2, 2));
}

#[test]
fn the_number_is_unknown_after_most_have_fallen_silent() {
    let depths = [QueueDepth { ready: 0, consumers: 1 }; 2];
    let reports = [report(busy(), 0), report(busy(), 10), report(busy(), 59)];
    assert_eq!(wanted_workers(&POLICY, &reports, Some(depths)), Err(WorkersUnknown::MostSilent));
}

#[test]
fn the_answer_stays_where_it_was_reached() {
    // Whatever the rate, the number that it leads to leads to itself.
    for rate in [0.1, 1.0, 7.4, 7.5, 7.6, 40.0, 149.0, 150.0] {
        let mut workers = 1;
        for _ in 0..20 {
            let ended = Rate::per_second(rate / f64::from(workers));
            workers = scale(workers, &WorkerState { ended, ..busy() }, 0).wanted;
        }
        let ended = Rate::per_second(rate / f64::from(workers));
        assert_eq!(scale(workers, &WorkerState { ended, ..busy() }, 0).wanted, workers, "{rate} a second");
    }
}
