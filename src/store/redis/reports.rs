//! The states that workers report.

use std::time::Duration;

use super::RedisStore;
use super::library::Step;
use super::pack::Unpacker;
use crate::domain::worker_state::{ReportedWorker, WorkerState};
use crate::store::StoreError;
use crate::store::retention::WORKERS_MAX;

impl RedisStore {
    /// Not watched for faults: the heartbeat is, and a report that fails harms no request.
    pub(super) async fn write_report(
        &self,
        worker_id: u64,
        state: Option<&WorkerState>,
    ) -> Result<(), StoreError> {
        let call = self
            .call(Step::ReportWorker, &[self.keys.worker_states()])
            .arg(self.settings().pack())
            .arg(format!("{worker_id:016x}"))
            .arg(state.map(WorkerState::pack).unwrap_or_default());
        self.run_unwatched("report_worker", &call, |answer| (answer == b"r").then_some(())).await
    }

    pub(super) async fn read_reports(&self) -> Result<Vec<ReportedWorker>, StoreError> {
        let call = self
            .call(Step::ReportedWorkers, &[self.keys.worker_states()])
            .arg(self.settings().pack())
            .arg(WORKERS_MAX);
        self.run("reported_workers", &call, reported_workers).await
    }
}

fn reported_workers(answer: &[u8]) -> Option<Vec<ReportedWorker>> {
    let (mut words, mut workers) = (Unpacker::new(answer), Vec::new());
    while !words.is_empty() {
        let worker_id = u64::from_str_radix(str::from_utf8(words.bytes(16)?).ok()?, 16).ok()?;
        let silent_for = Duration::from_millis(words.u32()?.into());
        if let Some(state) = WorkerState::unpack(words.long()?) {
            workers.push(ReportedWorker { worker_id, silent_for, state });
        }
    }
    Some(workers)
}
