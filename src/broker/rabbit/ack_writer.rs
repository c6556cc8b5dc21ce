//! The task that writes the acknowledgements of one session.

use lapin::Channel;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::acks::{SettledDelivery, batch_max, write_all};
use super::error::RabbitError;
use super::{CLOSE_TIMEOUT, SETTLE_GRACE};

/// Ends the task when dropped.
pub(super) struct AckWriter {
    task: JoinHandle<Result<(), RabbitError>>,
    finish: CancellationToken,
}

impl AckWriter {
    pub(super) fn start(
        channel: &Channel,
        settlements: UnboundedReceiver<SettledDelivery>,
        prefetch: u16,
    ) -> AckWriter {
        let (channel, finish) = (channel.clone(), CancellationToken::new());
        let finished = finish.clone();
        let write = async move { write_all(&channel, settlements, batch_max(prefetch), finished).await };
        AckWriter { task: tokio::spawn(write), finish }
    }

    /// Waits until nothing more can be written.
    pub(super) async fn failure(&mut self) -> RabbitError {
        match (&mut self.task).await {
            Ok(Err(error)) => error,
            // A panic is logged.
            Ok(Ok(())) | Err(_) => RabbitError::Ended("acknowledgements are no longer written"),
        }
    }

    /// Writes what is settled. The broker redelivers what cannot be written in time.
    pub(super) async fn finish(mut self) {
        self.finish.cancel();
        let _ = timeout(CLOSE_TIMEOUT, &mut self.task).await;
        sleep(SETTLE_GRACE).await;
    }
}

impl Drop for AckWriter {
    fn drop(&mut self) {
        self.task.abort();
    }
}
