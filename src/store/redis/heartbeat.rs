//! The heartbeat: it reads the shared state, counts the worker, and notices another server. A check that the server takes writes.

use std::time::Duration;

use tokio::time::timeout;

use super::library::Step;
use super::{RedisStore, opening, replies};
use crate::domain::time::millis;
use crate::store::retention::{ACTIVE_WORKER_FOR, LOST_WRITES_FOR};
use crate::store::{SharedState, StoreError, StoreFault, StoreWarning};
use crate::tls::TlsClient;

/// Its callers wait a little longer, so that they get the reason for which there was no answer.
const ANSWERED_WITHIN: Duration = Duration::from_millis(450);

impl RedisStore {
    /// `None` without TLS.
    pub fn tls(&self) -> Option<&TlsClient> {
        self.link.tls()
    }

    pub(super) async fn beat(&self, worker_id: u64, is_active: bool) -> Result<SharedState, StoreError> {
        let answer = match timeout(ANSWERED_WITHIN, self.beat_once(worker_id, is_active)).await {
            Ok(answer) => answer,
            Err(_) => {
                let fault = self.link.connection_fault();
                Err(StoreError::Unavailable(fault.unwrap_or(StoreFault::NoAnswer)))
            }
        };
        self.faults.set_partial(self.shard_servers.silent() > 0);
        self.warnings.note(&self.current_warnings());
        answer
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
        keys.extend([self.keys.format(), self.keys.log_filter()]);
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
                let beat = replies::heartbeat(answer)?;
                if known_server != "-" && known_server != beat.run_id {
                    self.end_blocks_of_lost_server();
                }
                self.link.heartbeat_answered(&beat, route);
                Some(Ok(beat.shared_state))
            })
        };
        let shared_state = self.run_unwatched("heartbeat", &call, read).await?;
        let shared_state = self.opening.close_if_refused(shared_state).await?;
        // Another step may have met another country meanwhile.
        self.damaged_country().take_if(|name| Some(&*name) == country.as_ref());
        self.return_idle_places().await;
        Ok(shared_state)
    }

    pub(super) fn current_warnings(&self) -> Vec<StoreWarning> {
        let (silent, of) = (self.shard_servers.silent(), self.keys.shards());
        let cluster_node = self.link.leads_to_cluster_node().then_some(StoreWarning::ClusterNode);
        let sentinels = self.link.sentinels_are_silent().then_some(StoreWarning::SentinelsSilent);
        // If none answers, the store as a whole is unavailable.
        let shards = (silent > 0 && silent < of).then_some(StoreWarning::ShardsSilent { silent, of });
        [cluster_node, sentinels, shards].into_iter().flatten().collect()
    }

    pub(super) async fn ask_whether_writable(&self) -> Result<(), StoreError> {
        let call =
            self.call(Step::CheckWritable, &[self.keys.by_name("primary")]).arg(self.settings().pack());
        let read = |answer: &[u8]| {
            self.link.server_has_mode(str::from_utf8(answer).ok()?);
            Some(())
        };
        self.run_unwatched("check_writable", &call, read).await
    }
}
