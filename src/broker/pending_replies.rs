//! Who waits for which reply: a bounded table, emptied by whoever stops waiting, however it does.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::oneshot;

/// Those who wait at once. Whoever comes on top of them is not told.
const WAITERS_MAX: usize = 10_000;

/// Those who wait for a reply over one line, by its correlation id.
#[derive(Default)]
pub(super) struct PendingReplies(Mutex<Table>);

#[derive(Default)]
struct Table {
    /// By correlation id.
    waiting: HashMap<String, Vec<Waiting>>,
    count: usize,
    last_id: u64,
    closed: bool,
}

/// One who waits, by number.
type Waiting = (u64, oneshot::Sender<Vec<u8>>);

/// A place in the table. Dropping it leaves the table.
pub(super) struct PendingReply {
    waiters: Arc<PendingReplies>,
    correlation_id: String,
    id: u64,
    reply: oneshot::Receiver<Vec<u8>>,
}

impl PendingReplies {
    /// Waits from now on. `None` if too many wait already, or no reply can come any more.
    pub(super) fn enter(self: &Arc<PendingReplies>, correlation_id: &str) -> Option<PendingReply> {
        let mut table = self.lock();
        if table.closed || table.count >= WAITERS_MAX {
            return None;
        }
        let (sender, reply) = oneshot::channel();
        table.count += 1;
        table.last_id += 1;
        let id = table.last_id;
        table.waiting.entry(correlation_id.to_owned()).or_default().push((id, sender));
        Some(PendingReply { waiters: Arc::clone(self), correlation_id: correlation_id.to_owned(), id, reply })
    }

    /// Hands a reply to all who wait for it: copies of one request have one result.
    pub(super) fn answer(&self, correlation_id: &str, body: &[u8]) {
        let mut table = self.lock();
        let waiting = table.waiting.remove(correlation_id).unwrap_or_default();
        table.count -= waiting.len();
        drop(table);
        for (_, sender) in waiting {
            // Who has stopped waiting just now does not want it.
            let _ = sender.send(body.to_vec());
        }
    }

    /// No reply comes any more: nobody is kept waiting for one.
    pub(super) fn close(&self) {
        *self.lock() = Table { closed: true, ..Table::default() };
    }

    fn leave(&self, correlation_id: &str, id: u64) {
        let mut table = self.lock();
        let Some(waiting) = table.waiting.get_mut(correlation_id) else { return };
        let before = waiting.len();
        waiting.retain(|(waiter, _)| *waiter != id);
        let (left, nobody) = (before - waiting.len(), waiting.is_empty());
        table.count -= left;
        if nobody {
            table.waiting.remove(correlation_id);
        }
    }

    /// A panic while the lock was held cannot have left half a step that matters: a count that is too high.
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl PendingReply {
    /// The reply; `None` once it is known that none comes.
    pub(super) async fn reply(&mut self) -> Option<Vec<u8>> {
        (&mut self.reply).await.ok()
    }

    /// The reply, if it has come.
    pub(super) fn reply_so_far(&mut self) -> Option<Vec<u8>> {
        self.reply.try_recv().ok()
    }
}

impl Drop for PendingReply {
    fn drop(&mut self) {
        self.waiters.leave(&self.correlation_id, self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_empty(waiters: &PendingReplies) -> bool {
        let table = waiters.lock();
        table.waiting.is_empty() && table.count == 0
    }

    #[tokio::test]
    async fn every_copy_of_a_request_hears_its_result_and_nobody_else_does() {
        let waiters = Arc::new(PendingReplies::default());
        let [mut one, mut other] = [(); 2].map(|()| waiters.enter("a").expect("room"));
        let mut stranger = waiters.enter("b").expect("room");
        waiters.answer("a", b"sent");
        assert_eq!(one.reply().await.as_deref(), Some(b"sent" as &[u8]));
        assert_eq!(other.reply_so_far().as_deref(), Some(b"sent" as &[u8]));
        assert_eq!(stranger.reply_so_far(), None);
        waiters.answer("a", b"again");
        drop((one, other, stranger));
        assert!(is_empty(&waiters));
    }

    #[test]
    fn who_goes_away_leaves_nothing_behind() {
        let waiters = Arc::new(PendingReplies::default());
        let [one, other] = [(); 2].map(|()| waiters.enter("a").expect("room"));
        drop(one);
        assert_eq!(waiters.lock().count, 1);
        drop(other);
        assert!(is_empty(&waiters));
    }

    #[test]
    fn the_table_is_bounded() {
        let waiters = Arc::new(PendingReplies::default());
        let mut all: Vec<PendingReply> =
            (0..WAITERS_MAX).map(|_| waiters.enter("a").expect("room")).collect();
        assert!(waiters.enter("b").is_none());
        all.pop();
        assert!(waiters.enter("b").is_some());
    }

    #[tokio::test]
    async fn nobody_waits_for_a_line_that_is_gone() {
        let waiters = Arc::new(PendingReplies::default());
        let mut early = waiters.enter("a").expect("room");
        waiters.close();
        assert_eq!(early.reply().await, None);
        assert!(waiters.enter("a").is_none());
        drop(early);
        assert!(is_empty(&waiters));
    }
}
