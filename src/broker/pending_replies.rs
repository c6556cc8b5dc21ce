//! A bounded table of callers that wait for replies, by correlation id. A caller that stops waiting leaves it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::oneshot;

/// Callers at once. Further callers receive no reply.
const CALLERS_MAX: usize = 10_000;

/// The callers that wait for replies over one connection.
#[derive(Default)]
pub(super) struct PendingReplies(Mutex<Table>);

#[derive(Default)]
struct Table {
    /// By correlation id.
    callers: HashMap<String, Vec<Caller>>,
    count: usize,
    last_id: u64,
    closed: bool,
}

type Caller = (u64, oneshot::Sender<Vec<u8>>);

/// A caller's place in the table. Dropping it frees the place.
pub(super) struct PendingReply {
    table: Arc<PendingReplies>,
    correlation_id: String,
    id: u64,
    reply: oneshot::Receiver<Vec<u8>>,
}

impl PendingReplies {
    /// Waits for a reply from now on. `None` if the table is full or the connection was lost.
    pub(super) fn enter(self: &Arc<PendingReplies>, correlation_id: &str) -> Option<PendingReply> {
        let mut table = self.lock();
        if table.closed || table.count >= CALLERS_MAX {
            return None;
        }
        let (sender, reply) = oneshot::channel();
        table.count += 1;
        table.last_id += 1;
        let id = table.last_id;
        table.callers.entry(correlation_id.to_owned()).or_default().push((id, sender));
        Some(PendingReply { table: Arc::clone(self), correlation_id: correlation_id.to_owned(), id, reply })
    }

    /// True if no caller waits.
    pub(super) fn is_empty(&self) -> bool {
        self.lock().callers.is_empty()
    }

    /// Hands a reply to all its callers: copies of one request have one result.
    pub(super) fn answer(&self, correlation_id: &str, body: &[u8]) {
        let mut table = self.lock();
        let callers = table.callers.remove(correlation_id).unwrap_or_default();
        table.count -= callers.len();
        drop(table);
        for (_, sender) in callers {
            // The caller may have stopped waiting just now.
            let _ = sender.send(body.to_vec());
        }
    }

    /// The connection was lost: no reply comes any more, and all callers stop waiting.
    pub(super) fn close(&self) {
        *self.lock() = Table { closed: true, ..Table::default() };
    }

    fn remove(&self, correlation_id: &str, id: u64) {
        let mut table = self.lock();
        let Some(callers) = table.callers.get_mut(correlation_id) else { return };
        let before = callers.len();
        callers.retain(|(caller, _)| *caller != id);
        let (removed, is_empty) = (before - callers.len(), callers.is_empty());
        table.count -= removed;
        if is_empty {
            table.callers.remove(correlation_id);
        }
    }

    /// A panic under the lock can only have left a count that is too high.
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl PendingReply {
    /// Waits for the reply; `None` after the connection was lost.
    pub(super) async fn reply(&mut self) -> Option<Vec<u8>> {
        (&mut self.reply).await.ok()
    }

    /// The reply, if it has arrived.
    pub(super) fn reply_so_far(&mut self) -> Option<Vec<u8>> {
        self.reply.try_recv().ok()
    }
}

impl Drop for PendingReply {
    fn drop(&mut self) {
        self.table.remove(&self.correlation_id, self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_empty(replies: &PendingReplies) -> bool {
        let table = replies.lock();
        table.callers.is_empty() && table.count == 0
    }

    #[tokio::test]
    async fn every_copy_of_a_request_receives_its_result_and_no_other_caller_does() {
        let replies = Arc::new(PendingReplies::default());
        let [mut one, mut other] = [(); 2].map(|()| replies.enter("a").expect("room"));
        let mut stranger = replies.enter("b").expect("room");
        replies.answer("a", b"sent");
        assert_eq!(one.reply().await.as_deref(), Some(b"sent" as &[u8]));
        assert_eq!(other.reply_so_far().as_deref(), Some(b"sent" as &[u8]));
        assert_eq!(stranger.reply_so_far(), None);
        replies.answer("a", b"again");
        drop((one, other, stranger));
        assert!(is_empty(&replies));
    }

    #[test]
    fn a_caller_that_goes_away_leaves_nothing_behind() {
        let replies = Arc::new(PendingReplies::default());
        let [one, other] = [(); 2].map(|()| replies.enter("a").expect("room"));
        drop(one);
        assert_eq!(replies.lock().count, 1);
        drop(other);
        assert!(is_empty(&replies));
    }

    #[test]
    fn the_table_is_bounded() {
        let replies = Arc::new(PendingReplies::default());
        let mut all: Vec<PendingReply> =
            (0..CALLERS_MAX).map(|_| replies.enter("a").expect("room")).collect();
        assert!(replies.enter("b").is_none());
        all.pop();
        assert!(replies.enter("b").is_some());
    }

    #[tokio::test]
    async fn no_caller_waits_for_a_lost_connection() {
        let replies = Arc::new(PendingReplies::default());
        let mut early = replies.enter("a").expect("room");
        replies.close();
        assert_eq!(early.reply().await, None);
        assert!(replies.enter("a").is_none());
        drop(early);
        assert!(is_empty(&replies));
    }
}
