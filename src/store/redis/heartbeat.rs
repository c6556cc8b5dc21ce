//! The heartbeat: it reads the shared state, counts the worker, and notices another server.

use std::time::Duration;

use tokio::time::timeout;

use super::library::Step;
use super::{RedisStore, opening, replies};
use crate::domain::time::millis;
use crate::store::retention::{ACTIVE_WORKER_FOR, LOST_WRITES_FOR};
use crate::store::{SharedState, StoreError, StoreFault};

/// Its callers wait a little longer, so that they learn why there was no answer.
const ANSWERED_WITHIN: Duration = Duration::from_millis(450);

impl RedisStore {
    pub(super) async fn beat(&self, worker_id: u64, is_active: bool) -> Result<SharedState, StoreError> {
        match timeout(ANSWERED_WITHIN, self.beat_once(worker_id, is_active)).await {
            Ok(answer) => answer,
            Err(_) => {
                let fault = self.link.connection_fault();
                Err(StoreError::Unavailable(fault.unwrap_or(StoreFault::NoAnswer)))
            }
        }
    }

    async fn beat_once(&self, worker_id: u64, is_active: bool) -> Result<SharedState, StoreError> {
        if !self.keys.are_sharded() {
            return self.shared_heartbeat(worker_id, is_active).await;
        }
        let (shared_state, countries, ()) = tokio::join!(
            self.shared_heartbeat(worker_id, is_active),
            self.read_countries(),
            self.check_next_servers()
        );
        shared_state.and_then(|shared_state| countries.map(|()| shared_state))
    }

    async fn shared_heartbeat(&self, worker_id: u64, is_active: bool) -> Result<SharedState, StoreError> {
        let old_data = self.open().await?;
        let (known_server, route) = (self.link.server(), self.link.route_number());
        let country = self.damaged_country().clone();
        let mut keys = self.keys.all_shared();
        keys.push(self.keys.format());
        keys.extend(country.as_deref().map(|name| self.keys.by_name(name)));
        let call = self
            .call(Step::Heartbeat, &keys)
            .arg(self.settings().pack())
            .arg(format!("{worker_id:016x}"))
            .arg(u8::from(is_active))
            .arg(millis(ACTIVE_WORKER_FOR))
            .arg(millis(LOST_WRITES_FOR))
            .arg(&known_server)
            .arg(old_data.format(self.shards));
        let read = |answer: &[u8]| {
            opening::refusal(answer).map(Err).or_else(|| {
                let (shared_state, lost_writes_left, server) = replies::heartbeat(answer)?;
                if known_server != "-" && known_server != server {
                    self.end_blocks_of_lost_server();
                }
                self.link.heartbeat_answered(server, lost_writes_left, route);
                Some(Ok(shared_state))
            })
        };
        let shared_state = self.run_unwatched("heartbeat", &call, read).await?;
        let shared_state = self.opening.heed(shared_state).await?;
        // Another step may have met another country meanwhile.
        self.damaged_country().take_if(|name| Some(&*name) == country.as_ref());
        self.return_idle_places().await;
        Ok(shared_state)
    }
}
