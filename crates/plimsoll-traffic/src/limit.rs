//! How many connections at once: per listener, and per client address.
//!
//! In go arrivals, out come slots that give themselves back when dropped. Memory is bounded by the slots held: an
//! address without a connection has no entry. It must never admit more than the maximum, over all workers.

use crate::sync::atomic::AtomicU32;
use crate::sync::atomic::Ordering::Relaxed;
use crate::sync::{Mutex, MutexGuard};
use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError};

/// Locks among which the addresses are spread, so that workers seldom meet at one.
const SHARDS: usize = 64;

/// Connections per client address, over all workers.
#[derive(Debug)]
pub struct PerClient {
    /// `u32::MAX` is no limit; then nothing is counted.
    max: AtomicU32,
    shards: Box<[Mutex<HashMap<Client, u32>>]>,
    /// Seeded at random by the standard library, so that nobody can choose addresses that share a shard.
    spread: RandomState,
}

/// Who counts as one client: an IPv4 address, or an IPv6 /64, the smallest block that one customer is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Client {
    V4(u32),
    V6(u64),
}

/// A connection of a client; given back on drop.
#[derive(Debug)]
#[must_use = "dropping a slot gives it back"]
pub struct ClientSlot {
    limit: Arc<PerClient>,
    client: Client,
}

impl PerClient {
    /// At most `max` connections at once from one address; `u32::MAX` is no limit.
    pub fn new(max: u32) -> PerClient {
        PerClient {
            max: AtomicU32::new(max),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            spread: RandomState::new(),
        }
    }

    /// Changes the maximum; what is held stays.
    pub fn set_max(&self, max: u32) {
        self.max.store(max, Relaxed);
    }

    /// True if there is a limit at all. Without one nobody needs a slot.
    pub fn is_limited(&self) -> bool {
        self.max.load(Relaxed) != u32::MAX
    }

    /// A slot for one more connection from this address; `None` when it has `max`.
    pub fn enter(self: &Arc<Self>, ip: IpAddr) -> Option<ClientSlot> {
        let client = Client::from(ip);
        let mut shard = self.shard(client);
        let held = shard.get(&client).copied().unwrap_or(0);
        if held >= self.max.load(Relaxed) {
            return None;
        }
        shard.insert(client, held + 1);
        Some(ClientSlot { limit: Arc::clone(self), client })
    }

    /// A slot for a connection that is there already, whatever the maximum: it may have come before there was one.
    pub fn enter_anyway(self: &Arc<Self>, ip: IpAddr) -> ClientSlot {
        let client = Client::from(ip);
        *self.shard(client).entry(client).or_insert(0) += 1;
        ClientSlot { limit: Arc::clone(self), client }
    }

    fn shard(&self, client: Client) -> MutexGuard<'_, HashMap<Client, u32>> {
        let shard = self.spread.hash_one(client) as usize % SHARDS;
        // Nothing below panics half-way through a change, so a poisoned map is still right.
        self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<IpAddr> for Client {
    fn from(ip: IpAddr) -> Client {
        match ip.to_canonical() {
            IpAddr::V4(v4) => Client::V4(v4.to_bits()),
            IpAddr::V6(v6) => Client::V6((v6.to_bits() >> 64) as u64),
        }
    }
}

impl Drop for ClientSlot {
    fn drop(&mut self) {
        let mut shard = self.limit.shard(self.client);
        match shard.get_mut(&self.client) {
            Some(held) if *held > 1 => *held -= 1,
            _ => drop(shard.remove(&self.client)),
        }
    }
}

/// A counter with a maximum: the connections of one listener.
#[derive(Debug)]
pub struct Gate {
    max: AtomicU32,
    held: AtomicU32,
}

/// A connection of a listener; given back on drop.
#[derive(Debug)]
#[must_use = "dropping a slot gives it back"]
pub struct GateSlot {
    gate: Arc<Gate>,
}

impl Gate {
    /// At most `max` at once.
    pub fn new(max: u32) -> Gate {
        Gate { max: AtomicU32::new(max), held: AtomicU32::new(0) }
    }

    /// Changes the maximum; what is held stays.
    pub fn set_max(&self, max: u32) {
        self.max.store(max, Relaxed);
    }

    /// A slot, unless `max` are held.
    pub fn enter(self: &Arc<Self>) -> Option<GateSlot> {
        // One step, so that the maximum holds at every instant; a plain count, so `Relaxed`.
        let max = self.max.load(Relaxed);
        let entered = self.held.fetch_update(Relaxed, Relaxed, |held| (held < max).then(|| held + 1));
        entered.is_ok().then(|| GateSlot { gate: Arc::clone(self) })
    }

    /// Slots held now.
    pub fn held(&self) -> u32 {
        self.held.load(Relaxed)
    }
}

impl Drop for GateSlot {
    fn drop(&mut self) {
        self.gate.held.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn entries(limit: &PerClient) -> usize {
        limit.shards.iter().map(|s| s.lock().unwrap().len()).sum()
    }

    #[test]
    fn a_changed_maximum_counts_what_is_held() {
        let gate = Arc::new(Gate::new(1));
        let held = gate.enter();
        gate.set_max(2);
        let second = gate.enter();
        assert!(second.is_some() && gate.enter().is_none());
        gate.set_max(1);
        drop(held);
        assert!(gate.enter().is_none(), "one is still held");
    }

    #[test]
    fn refuses_the_connection_above_the_maximum_and_admits_after_one_ends() {
        let limit = Arc::new(PerClient::new(2));
        let (a, _b) = (limit.enter(ip("192.0.2.1")), limit.enter(ip("192.0.2.1")));
        assert!(a.is_some() && limit.enter(ip("192.0.2.1")).is_none());
        assert!(limit.enter(ip("192.0.2.2")).is_some());
        drop(a);
        assert!(limit.enter(ip("192.0.2.1")).is_some());
    }

    #[test]
    fn an_ipv6_client_counts_by_its_64_and_a_mapped_one_as_ipv4() {
        let limit = Arc::new(PerClient::new(1));
        let _six = limit.enter(ip("2001:db8:0:1::1")).unwrap();
        assert!(limit.enter(ip("2001:db8:0:1:ffff::2")).is_none());
        let _other = limit.enter(ip("2001:db8:0:2::1")).unwrap();
        let _four = limit.enter(ip("::ffff:192.0.2.1")).unwrap();
        assert!(limit.enter(ip("192.0.2.1")).is_none());
        assert!(limit.enter(ip("::ffff:192.0.2.2")).is_some());
    }

    #[test]
    fn keeps_no_entry_for_an_address_without_connections() {
        let limit = Arc::new(PerClient::new(8));
        let slots: Vec<_> = (0..1_000u32).map(|i| limit.enter(IpAddr::V4((i / 2).into())).unwrap()).collect();
        assert_eq!(entries(&limit), 500);
        drop(slots);
        assert_eq!(entries(&limit), 0);
    }

    #[test]
    fn what_was_there_before_counts_even_above_the_maximum() {
        let limit = Arc::new(PerClient::new(1));
        let mut before: Vec<_> = (0..2).map(|_| limit.enter_anyway(ip("192.0.2.1"))).collect();
        assert!(limit.enter(ip("192.0.2.1")).is_none());
        before.pop();
        assert!(limit.enter(ip("192.0.2.1")).is_none(), "one is still held");
        before.pop();
        assert!(limit.enter(ip("192.0.2.1")).is_some());
        assert_eq!(entries(&limit), 0);
    }

    #[test]
    fn a_refusal_leaves_no_entry() {
        let limit = Arc::new(PerClient::new(0));
        assert!(limit.enter(ip("192.0.2.1")).is_none());
        assert_eq!(entries(&limit), 0);
    }

    #[test]
    fn many_threads_never_exceed_a_maximum_and_end_at_none() {
        let (clients, gate) = (Arc::new(PerClient::new(3)), Arc::new(Gate::new(3)));
        let (here, worst) = (AtomicU32::new(0), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..2_000 {
                        let Some(_slot) = clients.enter(ip("192.0.2.1")) else {
                            continue;
                        };
                        worst.fetch_max(here.fetch_add(1, Relaxed) + 1, Relaxed);
                        let _gate = gate.enter().expect("as wide as the limit before it");
                        here.fetch_sub(1, Relaxed);
                    }
                });
            }
        });
        assert!((1..=3).contains(&worst.load(Relaxed)));
        assert_eq!((entries(&clients), gate.held()), (0, 0));
    }

    #[test]
    fn a_gate_counts_what_is_held() {
        let gate = Arc::new(Gate::new(1));
        let slot = gate.enter();
        assert!(gate.enter().is_none());
        assert_eq!(gate.held(), 1);
        drop(slot);
        assert!(gate.held() == 0 && gate.enter().is_some());
    }
}
