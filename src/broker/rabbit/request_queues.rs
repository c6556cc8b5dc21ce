//! Reads the queues by passive declarations, which need no management plugin.

use async_trait::async_trait;
use lapin::Connection;
use lapin::protocol::AMQPSoftError;
use tokio::sync::Mutex;

use super::RabbitSettings;
use super::connect::{OpenConnection, close, connect};
use super::error::RabbitError;
use super::hosts::Hosts;
use super::tls::Certificates;
use super::topology::{close_channel, open, read_queue};
use crate::broker::RequestQueues;
use crate::domain::channel::Channel;
use crate::domain::scaling::{QueueDepth, QueueDepths};

/// It connects at the first reading.
pub struct RabbitRequestQueues {
    settings: RabbitSettings,
    link: Mutex<Link>,
}

struct Link {
    hosts: Hosts,
    /// Empty while it is read from, so that a reading that fails or is dropped also drops the connection.
    open: Option<(OpenConnection, Certificates)>,
}

impl RabbitRequestQueues {
    pub fn new(settings: RabbitSettings) -> RabbitRequestQueues {
        let link = Mutex::new(Link { hosts: settings.hosts(), open: None });
        RabbitRequestQueues { settings, link }
    }

    /// The queues of these names, in their order.
    async fn read<const COUNT: usize>(
        &self,
        names: [String; COUNT],
    ) -> Result<[QueueDepth; COUNT], RabbitError> {
        let mut link = self.link.lock().await;
        let of_use = |open: &(OpenConnection, Certificates)| open.0.status().connected() && !open.1.are_old();
        let (connection, certificates) = match link.open.take().filter(of_use) {
            Some(open) => open,
            None => self.connect(&mut link.hosts).await?,
        };
        let mut depths = [QueueDepth::default(); COUNT];
        for (depth, name) in depths.iter_mut().zip(&names) {
            *depth = depth_of(&connection, name).await?;
        }
        link.open = Some((connection, certificates));
        Ok(depths)
    }

    async fn ready(&self, name: String) -> Result<u32, String> {
        let [depth] = self.read([name]).await.map_err(|error| error.in_words())?;
        Ok(depth.ready)
    }

    /// A reading has less time than a frozen host takes, so each attempt begins with another host.
    async fn connect(&self, hosts: &mut Hosts) -> Result<(OpenConnection, Certificates), RabbitError> {
        hosts.skip();
        let certificates = Certificates::of(self.settings.tls.as_ref());
        let connection = connect(&self.settings, hosts, "scaler").await?;
        Ok((connection, certificates))
    }
}

async fn depth_of(connection: &Connection, queue: &str) -> Result<QueueDepth, RabbitError> {
    let channel = open(connection).await?;
    match read_queue(&channel, queue).await {
        Ok(depth) => {
            close_channel(&channel).await;
            Ok(depth)
        }
        // No worker has declared it yet. The refusal has closed the AMQP channel.
        Err(error) if error.soft() == Some(AMQPSoftError::NOTFOUND) => Ok(QueueDepth::default()),
        Err(error) => Err(error),
    }
}

#[async_trait]
impl RequestQueues for RabbitRequestQueues {
    async fn depths(&self) -> Result<QueueDepths, String> {
        let names = Channel::ALL.map(|channel| self.settings.names.requests_of(channel));
        self.read(names).await.map_err(|error| error.in_words())
    }

    async fn delayed(&self) -> Result<u32, String> {
        self.ready(self.settings.names.delayed()).await
    }

    async fn dead_letters(&self) -> Result<u32, String> {
        self.ready(self.settings.names.dead_letters()).await
    }

    async fn close(&self) {
        if let Some((connection, _)) = self.link.lock().await.open.take() {
            close(&connection).await;
        }
    }
}
