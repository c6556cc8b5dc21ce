//! Dead letters for a process that answers operators: one act at a time, over a connection of its own, within a time limit.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::operation::{self, Operation, OperationRow, Selection};
use super::replayer::Replayer;
use super::{Listing, read};
use crate::broker::{DeadLetterQueue, DeadLetters, DeadLettersError};

/// Dead letters that an act reads.
pub const READ_MAX: usize = 100;
/// For connecting, reading and changing.
const ACT_WITHIN: Duration = Duration::from_secs(6);
/// For returning the dead letters that stay. Later ones return with the end of the connection.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);

#[derive(Clone)]
pub struct DeadLetterDesk {
    queue: Arc<dyn DeadLetterQueue>,
    replayer: Arc<Replayer>,
    /// A reader hides the dead letters from other readers.
    turn: Arc<Semaphore>,
}

pub struct DeskAct {
    pub kind: DeskActKind,
    pub ids: Vec<String>,
    /// Changes nothing.
    pub dry_run: bool,
}

#[derive(Clone, Copy)]
pub enum DeskActKind {
    Replay { force: bool },
    Drop,
}

#[derive(Debug, PartialEq, Eq)]
pub enum DeskError {
    /// Another act is in progress.
    Busy,
    /// Where something was to be changed, it may have been.
    NoAnswerInTime,
    Failed(String),
}

struct Done {
    listing: Listing,
    rows: Vec<OperationRow>,
}

impl DeadLetterDesk {
    pub fn new(queue: Arc<dyn DeadLetterQueue>, replayer: Replayer) -> DeadLetterDesk {
        DeadLetterDesk { queue, replayer: Arc::new(replayer), turn: Arc::new(Semaphore::new(1)) }
    }

    pub async fn list(&self) -> Result<Listing, DeskError> {
        self.run(None).await.map(|done| done.listing)
    }

    pub async fn act(&self, act: DeskAct) -> Result<Vec<OperationRow>, DeskError> {
        self.run(Some(act)).await.map(|done| done.rows)
    }

    /// A task of its own: a caller that goes away interrupts no act.
    async fn run(&self, act: Option<DeskAct>) -> Result<Done, DeskError> {
        let Ok(turn) = self.turn.clone().try_acquire_owned() else { return Err(DeskError::Busy) };
        let desk = self.clone();
        let task = tokio::spawn(async move {
            let _turn = turn;
            desk.open_and_perform(act).await
        });
        task.await.unwrap_or_else(|_| Err(DeskError::Failed("the act panicked".to_owned())))
    }

    async fn open_and_perform(&self, act: Option<DeskAct>) -> Result<Done, DeskError> {
        let work = async {
            let mut queue = self.queue.open().await?;
            let done = self.perform(act, queue.as_mut()).await;
            Ok::<_, DeadLettersError>((queue, done))
        };
        let (queue, done) = timeout(ACT_WITHIN, work)
            .await
            .map_err(|_| DeskError::NoAnswerInTime)?
            .map_err(|error| DeskError::Failed(error.to_string()))?;
        let _ = timeout(CLOSE_WITHIN, queue.close()).await;
        done.map_err(|error| DeskError::Failed(error.to_string()))
    }

    async fn perform(
        &self,
        act: Option<DeskAct>,
        queue: &mut dyn DeadLetters,
    ) -> Result<Done, DeadLettersError> {
        let listing = read(queue, READ_MAX).await?;
        let rows = match act {
            None => Vec::new(),
            Some(DeskAct { kind, ids, dry_run }) => {
                let operation = match kind {
                    DeskActKind::Replay { force } => Operation::Replay { replayer: &self.replayer, force },
                    DeskActKind::Drop => Operation::Drop,
                };
                let selection = Selection { ids: &ids, all: None, dry_run };
                operation::apply(operation, &selection, &listing.entries, queue).await
            }
        };
        Ok(Done { listing, rows })
    }
}
