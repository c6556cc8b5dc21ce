//! The hosts of `AMQP_URL`, in the order in which one connection tries them.
//!
//! Each connection has an order of its own, random at first, so that many processes spread over the hosts. A connection
//! stays with its host until that fails; then the host is tried after all others.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

const REPORT_INTERVAL: Duration = Duration::from_secs(30);
/// A name may have many addresses; trying them all would take too long.
const ADDRESSES_MAX: usize = 8;

/// A name or an address, and a port.
pub(super) type Host = (String, u16);

/// Never empty.
#[derive(Clone)]
pub(super) struct Hosts {
    hosts: Arc<[Host]>,
    /// Indices of `hosts`: the first is the current one.
    order: VecDeque<usize>,
    /// The current host's address that was connected last.
    connected: Option<SocketAddr>,
    /// The address whose connection was lost last.
    lost: Option<SocketAddr>,
    /// When each host that failed was reported.
    reported: BTreeMap<usize, Instant>,
}

impl Hosts {
    pub(super) fn in_random_order(hosts: &Arc<[Host]>) -> Hosts {
        let mut order: VecDeque<usize> = (0..hosts.len()).collect();
        fastrand::shuffle(order.make_contiguous());
        Hosts::of(hosts, order)
    }

    /// Each host alone.
    pub(super) fn each(hosts: &Arc<[Host]>) -> impl Iterator<Item = Hosts> {
        (0..hosts.len()).map(|host| Hosts::of(hosts, VecDeque::from([host])))
    }

    fn of(hosts: &Arc<[Host]>, order: VecDeque<usize>) -> Hosts {
        Hosts { hosts: Arc::clone(hosts), order, connected: None, lost: None, reported: BTreeMap::new() }
    }

    /// The number of hosts to try.
    pub(super) fn count(&self) -> usize {
        self.order.len()
    }

    pub(super) fn current(&self) -> &Host {
        &self.hosts[self.order[0]]
    }

    /// Counted from 1, as in `AMQP_URL`.
    pub(super) fn number(&self) -> usize {
        self.order[0] + 1
    }

    /// For people: `2 of 3`. `None` for an only host.
    pub(super) fn place(&self) -> Option<String> {
        (self.hosts.len() > 1).then(|| self.place_of(self.number()))
    }

    pub(super) fn place_of(&self, number: usize) -> String {
        format!("{number} of {}", self.hosts.len())
    }

    /// The current host is tried after all others.
    pub(super) fn skip(&mut self) {
        self.order.rotate_left(1);
        self.connected = None;
    }

    pub(super) fn connected_to(&mut self, address: SocketAddr) {
        self.connected = Some(address);
    }

    /// A host that is away for long fails at each reconnect.
    pub(super) fn may_report(&mut self, number: usize) -> bool {
        let is_due = self.reported.get(&number).is_none_or(|at| at.elapsed() >= REPORT_INTERVAL);
        if is_due {
            self.reported.insert(number, Instant::now());
        }
        is_due
    }

    /// The connection to the current host broke.
    pub(super) fn lose(&mut self) {
        self.lost = self.connected.or(self.lost);
        self.skip();
    }

    /// The addresses of a host in random order, the one that was lost last at the end.
    pub(super) fn in_order(&self, addresses: impl IntoIterator<Item = SocketAddr>) -> Vec<SocketAddr> {
        let mut addresses: Vec<SocketAddr> = addresses.into_iter().collect();
        addresses.sort_unstable();
        addresses.dedup();
        fastrand::shuffle(&mut addresses);
        addresses.sort_by_key(|address| Some(*address) == self.lost);
        addresses.truncate(ADDRESSES_MAX);
        addresses
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn hosts(count: usize) -> Arc<[Host]> {
        (0..count).map(|nth| (format!("h{nth}"), 5672)).collect()
    }

    fn numbers(hosts: &mut Hosts) -> Vec<usize> {
        (0..hosts.count()).map(|_| (hosts.number(), hosts.skip()).0).collect()
    }

    #[test]
    fn connections_begin_with_different_hosts() {
        let hosts = hosts(3);
        let first: BTreeSet<usize> = (0..200).map(|_| Hosts::in_random_order(&hosts).number()).collect();
        assert_eq!(first, BTreeSet::from([1, 2, 3]));
    }

    #[test]
    fn a_round_tries_each_host_once_and_the_next_round_keeps_the_order() {
        let mut order = Hosts::in_random_order(&hosts(5));
        let round = numbers(&mut order);
        assert_eq!(round.iter().copied().collect::<BTreeSet<_>>(), (1..=5).collect());
        assert_eq!(numbers(&mut order), round);
    }

    #[test]
    fn a_host_that_fails_is_tried_after_all_others() {
        let mut order = Hosts::in_random_order(&hosts(3));
        let before = order.number();
        order.lose();
        assert_ne!(order.number(), before);
        assert_eq!(numbers(&mut order).last(), Some(&before));
        let only: Vec<usize> =
            Hosts::each(&hosts(3)).map(|host| (host.number() * 10) + host.count()).collect();
        assert_eq!(only, [11, 21, 31]);
    }

    #[test]
    fn the_address_that_was_lost_is_tried_after_the_others_of_its_name() {
        let address = |last: u8| SocketAddr::from(([192, 0, 2, last], 5672));
        let known = || (1..=4).chain(1..=4).map(address);
        let mut only = Hosts::in_random_order(&hosts(1));
        only.connected_to(address(2));
        only.lose();
        for _ in 0..50 {
            let order = only.in_order(known());
            assert_eq!((order.len(), order.last()), (4, Some(&address(2))));
        }
        let first: BTreeSet<SocketAddr> = (0..200).map(|_| only.in_order(known())[0]).collect();
        assert_eq!(first, BTreeSet::from([address(1), address(3), address(4)]));
        assert_eq!(only.in_order((1..=20).map(address)).len(), ADDRESSES_MAX);
    }

    #[test]
    fn an_only_host_has_no_place() {
        assert_eq!(Hosts::in_random_order(&hosts(1)).place(), None);
        let mut order = Hosts::in_random_order(&hosts(2));
        while order.number() != 2 {
            order.skip();
        }
        assert_eq!(order.place().as_deref(), Some("2 of 2"));
    }
}
