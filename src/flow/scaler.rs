//! Tells how many workers the load needs, from the queues and the states that workers report.
//!
//! It keeps nothing but its last answer, for a moment, so that frequent questions load neither the store nor the broker.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use crate::broker::RequestQueues;
use crate::domain::scaling::{Scale, ScalePolicy, WorkersUnknown, wanted_workers};
use crate::store::{Store, StoreError, StoreFault};

/// For the store and the broker, at the same time.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
const ANSWER_KEPT: Duration = Duration::from_secs(5);

/// The reason for which the number of workers is unknown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScaleUnknown {
    #[error("the workers' states cannot be read: {0}")]
    Store(StoreError),
    #[error(transparent)]
    Workers(#[from] WorkersUnknown),
}

pub type ScaleAnswer = Result<Scale, ScaleUnknown>;

pub struct Scaler {
    store: Arc<dyn Store>,
    queues: Arc<dyn RequestQueues>,
    policy: ScalePolicy,
    last: Mutex<Option<(Instant, ScaleAnswer)>>,
}

impl Scaler {
    pub fn new(store: Arc<dyn Store>, queues: Arc<dyn RequestQueues>, policy: ScalePolicy) -> Scaler {
        Scaler { store, queues, policy, last: Mutex::default() }
    }

    /// All that ask at one time share one reading.
    pub async fn answer(&self) -> ScaleAnswer {
        let mut last = self.last.lock().await;
        if let Some((_, answer)) = last.as_ref().filter(|(at, _)| at.elapsed() < ANSWER_KEPT) {
            return answer.clone();
        }
        let answer = self.decide().await;
        *last = Some((Instant::now(), answer.clone()));
        answer
    }

    async fn decide(&self) -> ScaleAnswer {
        let (workers, queues) = tokio::join!(
            timeout(ANSWER_WITHIN, self.store.reported_workers()),
            timeout(ANSWER_WITHIN, self.queues.depths())
        );
        let silent = Err(StoreError::Unavailable(StoreFault::NoAnswer));
        let workers = workers.unwrap_or(silent).map_err(ScaleUnknown::Store)?;
        // Without the broker the present number stays.
        let queues = queues.ok().and_then(Result::ok);
        Ok(wanted_workers(&self.policy, &workers, queues)?)
    }
}
