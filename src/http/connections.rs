//! Bounds the connections of a server, and the bytes that they hold.
//!
//! A connection either works on a request or waits for its client: for a head, a body, the next request, or the reading of
//! an answer. At a bound the one that has waited longest gives way: clients that only hold their places lose them.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use crate::telemetry::events;

/// The time for a request head, counted from its first byte, and for the first byte of a connection.
const HEAD_WITHIN: Duration = Duration::from_secs(30);
/// The time for the next request of a connection. It is longer than proxies keep idle connections: closing a connection
/// while a proxy sends a request on it would fail that request.
const NEXT_REQUEST_WITHIN: Duration = Duration::from_secs(630);
/// The time in which a client reads an answer.
const READ_WITHIN: Duration = Duration::from_secs(30);
/// The least read buffer of hyper. It is not counted: the bound on connections covers it.
const BUFFER_BYTES_FREE: usize = 8 * 1024;
/// The least time between two warnings about a bound.
pub(super) const WARNING_EVERY: Duration = Duration::from_secs(60);

/// The bounds of one server.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    pub connections_max: usize,
    /// Request heads and bodies in memory, over all connections.
    pub bytes_max: usize,
    /// No connection gives way to a new one earlier: in a burst, its request may be waiting in the kernel.
    pub gives_way_after: Duration,
}

/// The connections of one server.
pub(super) struct Connections {
    limits: ConnectionLimits,
    state: Mutex<State>,
    /// A connection has ended or has begun to wait, which may make room for another.
    changed: Notify,
}

#[derive(Default)]
struct State {
    progress: HashMap<u64, Progress>,
    /// The connections that wait for their clients, the longest wait first.
    waiting: BTreeSet<(Instant, u64)>,
    /// Connections that were closed here and have not yet ended.
    closing: usize,
    bytes: usize,
    /// The part of `bytes` whose connections have the order to free it.
    freeing: usize,
    next_id: u64,
    warned: HashMap<CloseReason, Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Waits for its first byte.
    /// Not read yet, though its first request may have come.
    Accepted,
    Opened,
    Head,
    Body,
    Working,
    /// Waits for its next request.
    Idle,
    Closing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum CloseReason {
    Head,
    Idle,
    Unread,
    Connections,
    Bytes,
}

impl CloseReason {
    fn as_str(self) -> &'static str {
        match self {
            CloseReason::Head => "head",
            CloseReason::Idle => "idle",
            CloseReason::Unread => "unread",
            CloseReason::Connections => "connections",
            CloseReason::Bytes => "bytes",
        }
    }
}

struct Progress {
    stage: Stage,
    since: Instant,
    /// The start of a write that the client does not take.
    write_blocked: Option<Instant>,
    /// Bytes that hyper has read and may not have parsed.
    unparsed: usize,
    /// True if the read buffer was empty at the last read since the request began.
    is_drained: bool,
    /// The largest read buffer so far, if it is not free: hyper never shrinks it.
    buffer_bytes: usize,
    body_bytes: usize,
    /// The body gave way to others. The connection is closed behind its answer.
    is_refused: bool,
    /// The part of the bytes that is about to be freed.
    freeing: usize,
    signals: Arc<Signals>,
}

#[derive(Default)]
struct Signals {
    close: Notify,
    refuse_body: Notify,
}

/// The answer to a wish for more bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// The bytes are counted.
    Now,
    /// The bytes are counted. Other tasks, woken before this one, free them in their next turn.
    NextTurn,
    /// All bytes belong to requests at work.
    Never,
}

impl Progress {
    /// The bytes that closing the connection would free, and that nothing frees yet.
    fn bytes_to_free(&self) -> usize {
        if self.is_freeing() { 0 } else { self.buffer_bytes + self.body_bytes }
    }

    fn is_freeing(&self) -> bool {
        self.is_refused || self.stage == Stage::Closing
    }

    /// Returns the bytes that are now about to be freed.
    fn free_all(&mut self) -> usize {
        let bytes = self.bytes_to_free();
        self.freeing += bytes;
        bytes
    }

    fn waiting_since(&self) -> Option<Instant> {
        match self.stage {
            Stage::Closing | Stage::Accepted => None,
            Stage::Working => self.write_blocked,
            Stage::Opened | Stage::Head | Stage::Body | Stage::Idle => {
                Some(self.write_blocked.unwrap_or(self.since))
            }
        }
    }

    fn enter(&mut self, stage: Stage) {
        if self.stage != Stage::Closing {
            (self.stage, self.since) = (stage, Instant::now());
        }
    }

    fn overdue(&self, now: Instant) -> Option<CloseReason> {
        if self.write_blocked.is_some_and(|since| now >= since + READ_WITHIN) {
            return Some(CloseReason::Unread);
        }
        let (within, reason) = match self.stage {
            Stage::Opened | Stage::Head => (HEAD_WITHIN, CloseReason::Head),
            Stage::Idle => (NEXT_REQUEST_WITHIN, CloseReason::Idle),
            // A body has a time limit of its own, which is answered.
            Stage::Body | Stage::Working | Stage::Accepted | Stage::Closing => return None,
        };
        (now >= self.since + within).then_some(reason)
    }
}

impl State {
    /// Changes a connection and keeps the order of those that wait. Returns true if it has begun to wait.
    fn update(&mut self, id: u64, change: impl FnOnce(&mut Progress)) -> bool {
        let Some(progress) = self.progress.get_mut(&id) else { return false };
        let before = progress.waiting_since();
        change(progress);
        let after = progress.waiting_since();
        if before != after {
            if let Some(since) = before {
                self.waiting.remove(&(since, id));
            }
            if let Some(since) = after {
                self.waiting.insert((since, id));
            }
        }
        before.is_none() && after.is_some()
    }

    fn close(&mut self, id: u64, reason: CloseReason, limits: ConnectionLimits) {
        self.count(reason, limits);
        self.closing += 1;
        let mut freeing = 0;
        self.update(id, |progress| {
            freeing = progress.free_all();
            progress.enter(Stage::Closing);
            progress.signals.close.notify_one();
        });
        self.freeing += freeing;
    }

    /// The body is answered with 503, and the connection closed behind it.
    fn refuse_body(&mut self, id: u64, limits: ConnectionLimits) {
        self.count(CloseReason::Bytes, limits);
        let mut freeing = 0;
        self.update(id, |progress| {
            freeing = progress.free_all();
            progress.is_refused = true;
            progress.enter(Stage::Working);
            progress.signals.refuse_body.notify_one();
        });
        self.freeing += freeing;
    }

    /// Counts more bytes of a connection, at the cost of those that have waited longest.
    fn reserve(&mut self, id: u64, more: usize, limits: ConnectionLimits) -> Room {
        while self.bytes - self.freeing + more > limits.bytes_max {
            let holds_bytes = |other: &u64| *other != id && self.progress[other].bytes_to_free() > 0;
            let Some(other) = self.waiting.iter().map(|(_, other)| *other).find(holds_bytes) else {
                self.count(CloseReason::Bytes, limits);
                return Room::Never;
            };
            match &self.progress[&other] {
                Progress { stage: Stage::Body, write_blocked: None, body_bytes: 1.., .. } => {
                    self.refuse_body(other, limits);
                }
                _ => self.close(other, CloseReason::Bytes, limits),
            }
        }
        self.bytes += more;
        match self.bytes > limits.bytes_max {
            true => Room::NextTurn,
            false => Room::Now,
        }
    }

    fn count(&mut self, reason: CloseReason, limits: ConnectionLimits) {
        events::http_connection_closed(reason.as_str());
        let max = match reason {
            CloseReason::Connections => limits.connections_max,
            CloseReason::Bytes => limits.bytes_max,
            CloseReason::Head | CloseReason::Idle | CloseReason::Unread => return,
        };
        let now = Instant::now();
        if self.warned.get(&reason).is_none_or(|at| now >= *at + WARNING_EVERY) {
            self.warned.insert(reason, now);
            events::http_bound_reached(reason.as_str(), max);
        }
    }
}

impl Connections {
    pub(super) fn new(limits: ConnectionLimits) -> Arc<Connections> {
        Arc::new(Connections { limits, state: Mutex::default(), changed: Notify::new() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until another connection may be opened, and closes the one that has waited longest for its client.
    pub(super) async fn room(&self) {
        loop {
            let next_closable = {
                let mut state = self.state();
                let open = state.progress.len();
                if open < self.limits.connections_max {
                    return;
                }
                let is_full = open - state.closing >= self.limits.connections_max;
                is_full.then(|| self.close_longest_waiting(&mut state, self.limits.gives_way_after)).flatten()
            };
            let changed = self.changed.notified();
            match next_closable {
                Some(at) => drop(timeout_at(at, changed).await),
                None => changed.await,
            }
        }
    }

    /// Frees a descriptor.
    pub(super) fn close_one(&self) {
        self.close_longest_waiting(&mut self.state(), Duration::ZERO);
    }

    /// Returns when a connection will have waited this long, if none has.
    fn close_longest_waiting(&self, state: &mut State, wait: Duration) -> Option<Instant> {
        let (since, id) = state.waiting.first().copied()?;
        if since.elapsed() < wait {
            return Some(since + wait);
        }
        state.close(id, CloseReason::Connections, self.limits);
        None
    }

    pub(super) fn close_overdue(&self) {
        let now = Instant::now();
        let mut state = self.state();
        let shortest = HEAD_WITHIN.min(READ_WITHIN);
        let old = state.waiting.iter().take_while(|(since, _)| now >= *since + shortest);
        let overdue: Vec<_> =
            old.filter_map(|(_, id)| Some((*id, state.progress[id].overdue(now)?))).collect();
        for (id, reason) in overdue {
            state.close(id, reason, self.limits);
        }
    }

    pub(super) fn open(self: &Arc<Connections>) -> Arc<Connection> {
        let signals = Arc::<Signals>::default();
        let mut state = self.state();
        let id = state.next_id;
        state.next_id += 1;
        state.progress.insert(
            id,
            Progress {
                stage: Stage::Accepted,
                since: Instant::now(),
                write_blocked: None,
                unparsed: 0,
                is_drained: true,
                buffer_bytes: 0,
                body_bytes: 0,
                is_refused: false,
                freeing: 0,
                signals: signals.clone(),
            },
        );
        Arc::new(Connection { id, connections: self.clone(), signals })
    }
}

/// One open connection. It reports its progress, and ends when the last reference is dropped.
pub(super) struct Connection {
    id: u64,
    connections: Arc<Connections>,
    signals: Arc<Signals>,
}

impl Connection {
    fn update(&self, change: impl FnOnce(&mut Progress)) {
        let mut state = self.connections.state();
        if state.update(self.id, change) && state.progress.len() >= self.connections.limits.connections_max {
            self.connections.changed.notify_one();
        }
    }

    /// Waits until the server closes the connection.
    pub(super) async fn closed(&self) {
        self.signals.close.notified().await;
    }

    /// True if the client has made the server wait this long.
    pub(super) fn has_waited(&self, wait: Duration) -> bool {
        let state = self.connections.state();
        let since = state.progress.get(&self.id).and_then(Progress::waiting_since);
        since.is_some_and(|since| since.elapsed() >= wait)
    }

    /// Before a read. `free` is the free part of the read buffer, which hyper has allocated.
    pub(super) fn room_to_read(&self, free: usize) -> Room {
        let limits = self.connections.limits;
        let mut state = self.connections.state();
        let Some(progress) = state.progress.get_mut(&self.id) else { return Room::Never };
        // Beyond the head hyper reads only into an empty buffer.
        if matches!(progress.stage, Stage::Body | Stage::Working) {
            progress.unparsed = 0;
        }
        let buffer = Some(progress.unparsed + free).filter(|bytes| *bytes > BUFFER_BYTES_FREE).unwrap_or(0);
        let more = buffer.saturating_sub(progress.buffer_bytes);
        if more == 0 || progress.is_freeing() {
            return Room::Now;
        }
        let room = state.reserve(self.id, more, limits);
        if room != Room::Never {
            state.update(self.id, |progress| progress.buffer_bytes += more);
        }
        room
    }

    pub(super) fn received(&self, bytes: usize) {
        self.update(|progress| {
            progress.unparsed += bytes;
            progress.is_drained = false;
            if bytes > 0 && matches!(progress.stage, Stage::Accepted | Stage::Opened | Stage::Idle) {
                progress.enter(Stage::Head);
            }
        });
    }

    /// A read found nothing. Between the head of a request and the end of its answer hyper reads only into an empty
    /// buffer, so this proves that no part of a next request was read.
    pub(super) fn read_blocked(&self) {
        self.update(|progress| {
            progress.is_drained = true;
            if progress.stage == Stage::Accepted {
                progress.enter(Stage::Opened);
            }
        });
    }

    pub(super) fn request_began(&self) {
        self.update(|progress| {
            progress.is_drained = false;
            progress.enter(Stage::Working);
        });
    }

    /// The answer is complete, but perhaps not yet read.
    pub(super) fn answered(&self) {
        // A part of the next request may have come with this one.
        self.update(|progress| progress.enter(if progress.is_drained { Stage::Idle } else { Stage::Head }));
    }

    pub(super) fn write_blocked(&self) {
        self.update(|progress| {
            progress.write_blocked = Some(Instant::now());
            if progress.is_refused {
                progress.signals.close.notify_one();
            }
        });
    }

    pub(super) fn written(&self) {
        self.update(|progress| progress.write_blocked = None);
    }

    /// Counts the body of the current request until it is dropped.
    pub(super) fn body(self: Arc<Connection>) -> BodyInFlight {
        self.update(|progress| progress.enter(Stage::Body));
        BodyInFlight(self)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let mut state = self.connections.state();
        let Some(progress) = state.progress.remove(&self.id) else { return };
        if let Some(since) = progress.waiting_since() {
            state.waiting.remove(&(since, self.id));
        }
        state.bytes -= progress.buffer_bytes + progress.body_bytes;
        state.freeing -= progress.freeing;
        state.closing -= usize::from(progress.stage == Stage::Closing);
        drop(state);
        self.connections.changed.notify_one();
    }
}

/// The body of a request, counted while it is in memory.
pub(super) struct BodyInFlight(Arc<Connection>);

impl BodyInFlight {
    /// The buffer that the head was read into. The head keeps it, and the body is read into another.
    pub(super) fn head_buffer_bytes(&self) -> usize {
        let state = self.0.connections.state();
        state.progress.get(&self.0.id).map_or(0, |progress| progress.buffer_bytes.max(BUFFER_BYTES_FREE))
    }

    pub(super) fn grow(&self, more: usize) -> Room {
        let connection = &self.0;
        let mut state = connection.connections.state();
        if state.progress.get(&connection.id).is_none_or(Progress::is_freeing) {
            return Room::Never;
        }
        let room = state.reserve(connection.id, more, connection.connections.limits);
        if room != Room::Never {
            state.update(connection.id, |progress| progress.body_bytes += more);
        }
        room
    }

    /// Waits until the unfinished body must give way to others.
    pub(super) async fn refused(&self) {
        self.0.signals.refuse_body.notified().await;
    }

    /// The body is complete.
    pub(super) fn complete(&self) {
        self.0.update(|progress| progress.enter(Stage::Working));
    }
}

impl Drop for BodyInFlight {
    fn drop(&mut self) {
        let mut state = self.0.connections.state();
        let (mut freed, mut no_longer_freeing) = (0, 0);
        state.update(self.0.id, |progress| {
            freed = std::mem::take(&mut progress.body_bytes);
            no_longer_freeing = freed.min(progress.freeing);
            progress.freeing -= no_longer_freeing;
        });
        state.bytes -= freed;
        state.freeing -= no_longer_freeing;
    }
}
