//! Acknowledgements, batched for a moment.
//!
//! Settled deliveries up to the oldest open one are acknowledged with `multiple`; later ones one by one, so that a slow
//! delivery delays no other acknowledgement.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::try_join_all;
use lapin::Channel;
use lapin::options::{BasicAckOptions, BasicNackOptions, BasicRejectOptions};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::RPC_TIMEOUT;
use super::error::{RabbitError, within};
use crate::broker::Settlement;

pub(super) type SettledDelivery = (u64, Settlement);

/// The first settlement of a batch waits this long for others.
const GATHER: Duration = Duration::from_millis(2);
const BATCH_MAX: usize = 64;

/// A quarter of the prefetch, so that unwritten acknowledgements do not stop deliveries.
pub(super) fn batch_max(prefetch: u16) -> usize {
    usize::from(prefetch / 4).clamp(1, BATCH_MAX)
}

/// Writes settlements to `channel`. After `finish` is cancelled it writes the remaining ones and ends.
pub(super) async fn write_all(
    channel: &Channel,
    mut settlements: UnboundedReceiver<SettledDelivery>,
    batch_max: usize,
    finish: CancellationToken,
) -> Result<(), RabbitError> {
    let mut batch = Vec::with_capacity(batch_max);
    let mut deliveries = Deliveries::default();
    loop {
        tokio::select! {
            biased;
            () = finish.cancelled(), if !settlements.is_closed() => settlements.close(),
            count = settlements.recv_many(&mut batch, batch_max) => {
                if count == 0 {
                    return Ok(());
                }
                gather(&mut settlements, &mut batch, batch_max).await;
                write(channel, deliveries.plan(&mut batch)).await?;
            }
        }
    }
}

/// Waits until the batch is full or [`GATHER`] has passed.
async fn gather(
    settlements: &mut UnboundedReceiver<SettledDelivery>,
    batch: &mut Vec<SettledDelivery>,
    batch_max: usize,
) {
    let until = Instant::now() + GATHER;
    while batch.len() < batch_max {
        let room = batch_max - batch.len();
        match timeout_at(until, settlements.recv_many(batch, room)).await {
            Ok(1..) => {}
            Ok(0) | Err(_) => return,
        }
    }
}

async fn write(channel: &Channel, plan: Plan) -> Result<(), RabbitError> {
    let requeue = BasicNackOptions { multiple: false, requeue: true };
    let nacks = plan.nacks.iter().map(|tag| channel.basic_nack(*tag, requeue));
    let counted = BasicRejectOptions { requeue: true };
    let rejects = plan.rejects.iter().map(|tag| channel.basic_reject(*tag, counted));
    let ack = |tag, multiple| channel.basic_ack(tag, BasicAckOptions { multiple });
    let up_to = plan.ack_up_to.iter().map(|tag| ack(*tag, true));
    let acks = up_to.chain(plan.acks.iter().map(|tag| ack(*tag, false)));
    // The broker must see a requeue before an acknowledgement of everything up to a higher tag.
    if !plan.nacks.is_empty() {
        within("requeue", RPC_TIMEOUT, try_join_all(nacks)).await?;
    }
    if !plan.rejects.is_empty() {
        within("requeue", RPC_TIMEOUT, try_join_all(rejects)).await?;
    }
    within("acknowledge", RPC_TIMEOUT, try_join_all(acks)).await?;
    Ok(())
}

/// The settled and open deliveries of a channel. Tags count from 1 without a gap.
#[derive(Default)]
struct Deliveries {
    highest: u64,
    /// The unsettled tags below it, at most the prefetch.
    open: BTreeSet<u64>,
}

/// The frames to write, in this order.
#[derive(Debug, Default, PartialEq, Eq)]
struct Plan {
    nacks: Vec<u64>,
    /// Every version of RabbitMQ counts a reject; since 4.3 a nack is not counted.
    rejects: Vec<u64>,
    /// A tag that is open at the broker itself: for a settled tag RabbitMQ closes the channel.
    ack_up_to: Option<u64>,
    acks: Vec<u64>,
}

impl Deliveries {
    fn plan(&mut self, batch: &mut Vec<SettledDelivery>) -> Plan {
        for (tag, _) in batch.iter() {
            self.settle(*tag);
        }
        let oldest_open = self.open.first().copied().unwrap_or(u64::MAX);
        let mut plan = Plan::default();
        for (tag, settlement) in batch.drain(..) {
            match settlement {
                Settlement::Requeue => plan.nacks.push(tag),
                Settlement::RequeueCounted => plan.rejects.push(tag),
                Settlement::Ack if tag < oldest_open => plan.ack_up_to = plan.ack_up_to.max(Some(tag)),
                Settlement::Ack => plan.acks.push(tag),
            }
        }
        plan
    }

    fn settle(&mut self, tag: u64) {
        if tag > self.highest {
            self.open.extend(self.highest + 1..tag);
            self.highest = tag;
        } else {
            self.open.remove(&tag);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Settlement::{Ack, Requeue, RequeueCounted};
    use super::*;

    const NONE: (&[u64], &[u64]) = (&[], &[]);

    #[track_caller]
    fn check(
        deliveries: &mut Deliveries,
        batch: &[SettledDelivery],
        requeues: (&[u64], &[u64]),
        ack_up_to: Option<u64>,
        acks: &[u64],
    ) {
        let (nacks, rejects) = (requeues.0.to_vec(), requeues.1.to_vec());
        let expected = Plan { nacks, rejects, ack_up_to, acks: acks.to_vec() };
        assert_eq!(deliveries.plan(&mut batch.to_vec()), expected);
    }

    #[test]
    fn deliveries_below_the_oldest_open_one_are_acknowledged_together() {
        let mut deliveries = Deliveries::default();
        check(&mut deliveries, &[(2, Ack), (1, Ack), (3, Ack)], NONE, Some(3), &[]);
        check(&mut deliveries, &[(4, Ack)], NONE, Some(4), &[]);
    }

    #[test]
    fn an_open_delivery_does_not_delay_the_others() {
        let mut deliveries = Deliveries::default();
        check(&mut deliveries, &[(2, Ack), (4, Ack)], NONE, None, &[2, 4]);
        check(&mut deliveries, &[(5, Ack), (3, Ack)], NONE, None, &[5, 3]);
        check(&mut deliveries, &[(1, Ack)], NONE, Some(1), &[]);
        check(&mut deliveries, &[(6, Ack)], NONE, Some(6), &[]);
    }

    #[test]
    fn a_requeue_is_never_covered_by_a_multiple_acknowledgement() {
        let mut deliveries = Deliveries::default();
        check(&mut deliveries, &[(1, Ack), (3, Requeue), (2, Ack)], (&[3], &[]), Some(2), &[]);
        check(&mut deliveries, &[(5, Ack), (4, Requeue)], (&[4], &[]), Some(5), &[]);
        let mixed = [(8, Ack), (6, RequeueCounted), (7, Requeue)];
        check(&mut deliveries, &mixed, (&[7], &[6]), Some(8), &[]);
    }

    #[test]
    fn only_open_deliveries_are_remembered() {
        let mut deliveries = Deliveries::default();
        for tag in 2..10_000 {
            deliveries.plan(&mut vec![(tag, Ack)]);
        }
        assert_eq!(deliveries.open.len(), 1);
    }
}
