//! Who waits to say what it wants: connections that have sent no whole head yet, by the address that they come from.
//!
//! Few of an address are read at a time, and the others wait in a row: ten thousand clients of one host may come at once. Whoever
//! says nothing keeps only its own address waiting.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::passwords::network;

/// So many connections are no websockets yet, or never.
const MOST: usize = 16 << 10;

/// So many heads of one address are read at a time.
const MOST_AT_ONCE: usize = 64;

/// See the module.
#[derive(Debug)]
pub struct Doors {
    most: usize,
    visitors: Mutex<Visitors>,
}

#[derive(Debug, Default)]
struct Visitors {
    count: usize,
    by_network: HashMap<IpAddr, Door>,
}

#[derive(Debug)]
struct Door {
    count: usize,
    turns: Arc<Semaphore>,
}

/// A connection that is no websocket, until it is dropped.
#[derive(Debug)]
pub struct Visitor {
    doors: Arc<Doors>,
    network: IpAddr,
    turns: Arc<Semaphore>,
}

impl Doors {
    /// With nobody before them.
    pub fn new() -> Arc<Self> {
        Self::of(MOST)
    }

    fn of(most: usize) -> Arc<Self> {
        Arc::new(Self { most, visitors: Mutex::default() })
    }

    /// Somebody has come. `None` if too many of its address are here already: of one address may be twice as many as have room
    /// still, so that none takes all of it.
    pub fn arrive(self: &Arc<Self>, peer: IpAddr) -> Option<Visitor> {
        let network = network(peer);
        let mut visitors = self.lock();
        let free = self.most.saturating_sub(visitors.count);
        let here = visitors.by_network.get(&network).map_or(0, |door| door.count);
        if here >= 2 * free {
            return None;
        }
        visitors.count += 1;
        let new = || Door { count: 0, turns: Arc::new(Semaphore::new(MOST_AT_ONCE)) };
        let door = visitors.by_network.entry(network).or_insert_with(new);
        door.count += 1;
        Some(Visitor { doors: Arc::clone(self), network, turns: Arc::clone(&door.turns) })
    }

    fn lock(&self) -> MutexGuard<'_, Visitors> {
        self.visitors.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Visitor {
    /// Its turn, when it has come.
    pub async fn turn(&self) -> OwnedSemaphorePermit {
        Arc::clone(&self.turns).acquire_owned().await.expect("the semaphore is never closed")
    }
}

impl Drop for Visitor {
    fn drop(&mut self) {
        let mut visitors = self.doors.lock();
        visitors.count -= 1;
        if let Entry::Occupied(mut door) = visitors.by_network.entry(self.network) {
            door.get_mut().count -= 1;
            if door.get().count == 0 {
                door.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    const PEERS: [IpAddr; 2] =
        [IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)), IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2))];

    #[test]
    fn no_address_takes_all_the_room_and_it_is_given_back() {
        let doors = Doors::of(300);
        let all = |peer| std::iter::from_fn(|| doors.arrive(peer)).collect::<Vec<_>>();
        let first = all(PEERS[0]);
        assert_eq!(first.len(), 200);
        let second = all(PEERS[1]);
        assert!((60..100).contains(&second.len()), "{}", second.len());
        drop((first, second));
        assert!(doors.lock().by_network.is_empty() && doors.lock().count == 0);
        assert!(Doors::new().most * 2 / 3 >= 10_000, "as many clients of one host may come at once");
    }

    #[test]
    fn the_silent_keep_only_their_own_address_waiting() {
        let doors = Doors::new();
        let silent: Vec<_> = (0..MOST_AT_ONCE).map(|_| doors.arrive(PEERS[0]).expect("there is room")).collect();
        let mut turns: Vec<_> = silent.iter().map(|one| one.turn().now_or_never().expect("at once")).collect();
        let behind = doors.arrive(PEERS[0]).expect("there is room");
        assert!(behind.turn().now_or_never().is_none());
        let other = doors.arrive(PEERS[1]).expect("there is room");
        assert!(other.turn().now_or_never().is_some());
        turns.pop();
        assert!(behind.turn().now_or_never().is_some());
    }
}
