//! Who connects, by address: how many connections one may have at a time, so that no single one takes the places of all.
//!
//! Both listeners ask here before they serve a connection. What an address is, to those who count it, is in [`Peer`].

use crate::shares::Shares;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many bits of an address of IPv6 say whose it is: the rest, whoever has those may choose.
const NETWORK_BITS: u32 = 64;

/// An address that counts as one: of IPv6, its network.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Peer(IpAddr);

impl Peer {
    /// Whose that address is.
    #[must_use]
    pub fn of(address: IpAddr) -> Peer {
        Peer(match address.to_canonical() {
            IpAddr::V6(address) if !address.is_loopback() => {
                let network = u128::from(address) & (u128::MAX << (128 - NETWORK_BITS));
                IpAddr::V6(Ipv6Addr::from_bits(network))
            }
            other => other,
        })
    }

    /// Nobody that is known.
    pub(crate) fn unknown() -> Peer {
        Peer(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
    }

    /// Whether it is on this machine: who serves others from there, such as a proxy, has all of their connections.
    fn is_here(self) -> bool {
        self.0.is_loopback()
    }
}

/// Where a client is, as people who look at what it holds are told.
pub(crate) fn origin(address: SocketAddr) -> Arc<str> {
    SocketAddr::new(address.ip().to_canonical(), address.port()).to_string().into()
}

/// How many connections an address may have at a time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PerAddress {
    /// Half of all; those of this machine are not counted.
    Half,
    /// So many, on this machine too.
    Most(usize),
}

/// How many connections there may be at a time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Connections {
    /// In all; past that they wait to be accepted.
    pub most: usize,
    /// Of one address; past that they are closed.
    pub per_address: PerAddress,
}

/// Those who have connections of a listener.
#[derive(Debug)]
pub(crate) struct Peers {
    most: usize,
    counts_own: bool,
    counts: Mutex<Shares<Peer>>,
}

/// A connection that is counted, until it is dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    peers: Arc<Peers>,
    peer: Peer,
}

impl Peers {
    pub(crate) fn new(connections: Connections) -> Arc<Peers> {
        let (most, counts_own) = match connections.per_address {
            PerAddress::Half => (connections.most / 2, false),
            PerAddress::Most(most) => (most, true),
        };
        Arc::new(Peers { most: most.max(1), counts_own, counts: Mutex::default() })
    }

    /// One more connection of that peer; none if it has as many as it may.
    pub(crate) fn seat(self: &Arc<Peers>, peer: Peer) -> Option<Seat> {
        let mut counts = self.counts();
        if counts.of(&peer) >= self.most && (self.counts_own || !peer.is_here()) {
            return None;
        }
        counts.add(&peer, 1);
        Some(Seat { peers: self.clone(), peer })
    }

    fn counts(&self) -> MutexGuard<'_, Shares<Peer>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.peers.counts().take_off(&self.peer, 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(address: &str) -> Peer {
        Peer::of(address.parse().unwrap())
    }

    #[test]
    fn an_address_is_its_network() {
        assert_eq!(peer("2001:db8:1:2::1"), peer("2001:db8:1:2:ffff::9"));
        assert_ne!(peer("2001:db8:1:2::1"), peer("2001:db8:1:3::1"));
        assert_eq!(peer("::ffff:192.0.2.1"), peer("192.0.2.1"));
        assert_ne!(peer("192.0.2.1"), peer("192.0.2.2"));
        assert!(peer("::1").is_here() && peer("127.9.9.9").is_here() && peer("::ffff:127.0.0.1").is_here());
    }

    #[test]
    fn half_is_for_one_and_nobody_is_kept_in_mind_who_is_gone() {
        let peers = Peers::new(Connections { most: 4, per_address: PerAddress::Half });
        let seats: Vec<Seat> = (0..2).map(|_| peers.seat(peer("192.0.2.1")).unwrap()).collect();
        assert!(peers.seat(peer("192.0.2.1")).is_none());
        let other = peers.seat(peer("192.0.2.2")).unwrap();
        let here: Vec<Seat> = (0..9).map(|_| peers.seat(peer("127.0.0.1")).unwrap()).collect();
        drop(seats);
        assert!(peers.seat(peer("192.0.2.1")).is_some());
        drop((other, here));
        assert!(peers.counts().is_empty());
    }
}
