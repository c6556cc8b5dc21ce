//! Acknowledgements, gathered for a moment and written together.
//!
//! Everything up to the oldest delivery that is still open goes as one acknowledgement of many; what lies beyond it goes
//! one by one, so that a delivery that is held back holds back nothing else.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::try_join_all;
use lapin::Channel;
use lapin::options::{BasicAckOptions, BasicNackOptions};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::RPC_TIMEOUT;
use super::error::{RabbitError, within};
use crate::broker::Settlement;

/// What became of a delivery, by its tag.
pub(super) type SettledDelivery = (u64, Settlement);

/// How long the first of a batch waits for others.
const GATHER: Duration = Duration::from_millis(2);
const BATCH_MAX: usize = 64;

/// How many settlements go together: not so large a part of the prefetch that deliveries stop for want of room.
pub(super) fn batch_max(prefetch: u16) -> usize {
    usize::from(prefetch / 4).clamp(1, BATCH_MAX)
}

/// Writes settlements to `channel` until `finish` is cancelled and every one made before is written.
pub(super) async fn write_all(
    channel: &Channel,
    mut settlements: UnboundedReceiver<SettledDelivery>,
    batch_max: usize,
    finish: CancellationToken,
) -> Result<(), RabbitError> {
    let mut batch = Vec::with_capacity(batch_max);
    let mut order = Order::default();
    loop {
        tokio::select! {
            biased;
            () = finish.cancelled(), if !settlements.is_closed() => settlements.close(),
            count = settlements.recv_many(&mut batch, batch_max) => {
                if count == 0 {
                    return Ok(());
                }
                gather(&mut settlements, &mut batch, batch_max).await;
                write(channel, order.plan(&mut batch)).await?;
            }
        }
    }
}

/// Waits for more, until the batch is full or its first member has waited long enough.
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
    let ack = |tag, multiple| channel.basic_ack(tag, BasicAckOptions { multiple });
    let up_to = plan.ack_up_to.iter().map(|tag| ack(*tag, true));
    let acks = up_to.chain(plan.acks.iter().map(|tag| ack(*tag, false)));
    // The broker must see a requeue before an acknowledgement of everything up to a higher tag.
    if !plan.nacks.is_empty() {
        within("requeue", RPC_TIMEOUT, try_join_all(nacks)).await?;
    }
    within("acknowledge", RPC_TIMEOUT, try_join_all(acks)).await?;
    Ok(())
}

/// Which deliveries of a channel are settled. Its tags count from 1 without a gap.
#[derive(Default)]
struct Order {
    /// The highest tag that was settled.
    highest: u64,
    /// The tags below it that are not settled. Never more than the prefetch.
    open: BTreeSet<u64>,
}

/// What to write, in this order.
#[derive(Debug, Default, PartialEq, Eq)]
struct Plan {
    nacks: Vec<u64>,
    /// Names a tag that is itself open at the broker: RabbitMQ closes the channel otherwise.
    ack_up_to: Option<u64>,
    acks: Vec<u64>,
}

impl Order {
    /// Takes a batch and tells how to write it.
    fn plan(&mut self, batch: &mut Vec<SettledDelivery>) -> Plan {
        for (tag, _) in batch.iter() {
            self.settle(*tag);
        }
        let oldest_open = self.open.first().copied().unwrap_or(u64::MAX);
        let mut plan = Plan::default();
        for (tag, settlement) in batch.drain(..) {
            match settlement {
                Settlement::Requeue => plan.nacks.push(tag),
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
    use super::Settlement::{Ack, Requeue};
    use super::*;

    #[track_caller]
    fn check(
        order: &mut Order,
        batch: &[SettledDelivery],
        nacks: &[u64],
        ack_up_to: Option<u64>,
        acks: &[u64],
    ) {
        let expected = Plan { nacks: nacks.to_vec(), ack_up_to, acks: acks.to_vec() };
        assert_eq!(order.plan(&mut batch.to_vec()), expected);
    }

    #[test]
    fn what_lies_below_the_oldest_open_delivery_goes_as_one() {
        let mut order = Order::default();
        check(&mut order, &[(2, Ack), (1, Ack), (3, Ack)], &[], Some(3), &[]);
        check(&mut order, &[(4, Ack)], &[], Some(4), &[]);
    }

    #[test]
    fn a_held_delivery_does_not_block_the_others() {
        let mut order = Order::default();
        check(&mut order, &[(2, Ack), (4, Ack)], &[], None, &[2, 4]);
        check(&mut order, &[(5, Ack), (3, Ack)], &[], None, &[5, 3]);
        check(&mut order, &[(1, Ack)], &[], Some(1), &[]);
        check(&mut order, &[(6, Ack)], &[], Some(6), &[]);
    }

    #[test]
    fn a_requeue_is_never_covered_by_an_acknowledgement_of_many() {
        let mut order = Order::default();
        check(&mut order, &[(1, Ack), (3, Requeue), (2, Ack)], &[3], Some(2), &[]);
        check(&mut order, &[(5, Ack), (4, Requeue)], &[4], Some(5), &[]);
    }

    #[test]
    fn only_what_is_open_is_remembered() {
        let mut order = Order::default();
        for tag in 2..10_000 {
            order.plan(&mut vec![(tag, Ack)]);
        }
        assert_eq!(order.open.len(), 1);
    }
}
