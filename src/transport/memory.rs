//! A network in memory that loses, repeats, delays and reorders, for tests.
//!
//! It keeps to tokio's clock, so that paused time makes an hour's outage take no time, and to one seed: the same calls in
//! the same order meet the same fate. As with NATS, frames of one sender to one receiver keep their order unless
//! reordering is asked for, and a node hears its own broadcasts.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::{PublishError, Role, ServerInfo, Subject, Transport, TransportEvent};
use crate::condition::Outage;
use crate::message::NodeId;

/// Frames that may be under way to one transport; one more is dropped, and the transport told that it is slow.
const CAPACITY: usize = 1_024;
/// From the return of a connection to the proof that subscriptions are live.
const ECHO_TIME: Duration = Duration::from_millis(1);

/// What happens to frames. Probabilities are from 0 to 1.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Faults {
    pub(crate) loss: f64,
    pub(crate) duplication: f64,
    /// How often a frame waits for up to ten times the longest delay, while others overtake it.
    pub(crate) reordering: f64,
    /// Each frame takes a time from this range.
    pub(crate) delay: std::ops::Range<Duration>,
}

impl Default for Faults {
    /// A network that only takes its time.
    fn default() -> Self {
        Self {
            loss: 0.0,
            duplication: 0.0,
            reordering: 0.0,
            delay: Duration::from_micros(100)..Duration::from_millis(2),
        }
    }
}

/// The network; clones are the same one.
#[derive(Clone)]
pub(crate) struct MemoryNetwork(Arc<Mutex<State>>);

struct State {
    rng: fastrand::Rng,
    faults: Faults,
    max_payload: usize,
    endpoints: BTreeMap<u64, Endpoint>,
    next_endpoint: u64,
    /// Orders what arrives at the same time.
    next_arrival: u64,
    cut: BTreeSet<NodeId>,
    /// Pairs between which nothing passes, though both are connected; in one direction each.
    parted: BTreeSet<(NodeId, NodeId)>,
}

struct Endpoint {
    me: NodeId,
    role: Role,
    up: bool,
    arrivals: BinaryHeap<Reverse<Arrival>>,
    /// When the latest frame of each sender arrives: the next one of it is not earlier.
    latest: BTreeMap<NodeId, Instant>,
    slow: bool,
    wake: Arc<Notify>,
}

struct Arrival {
    at: Instant,
    number: u64,
    event: TransportEvent,
}

/// One node's place in a [`MemoryNetwork`].
pub(crate) struct MemoryTransport {
    network: MemoryNetwork,
    endpoint: u64,
    me: NodeId,
    wake: Arc<Notify>,
}

impl MemoryNetwork {
    pub(crate) fn new(seed: u64, faults: Faults) -> Self {
        Self(Arc::new(Mutex::new(State {
            rng: fastrand::Rng::with_seed(seed),
            faults,
            max_payload: 1_048_576,
            endpoints: BTreeMap::new(),
            next_endpoint: 0,
            next_arrival: 0,
            cut: BTreeSet::new(),
            parted: BTreeSet::new(),
        })))
    }

    /// Several may have the same name; each of them then gets what is meant for it.
    pub(crate) fn connect(&self, me: &NodeId, role: Role) -> MemoryTransport {
        let wake = Arc::new(Notify::new());
        let mut state = self.state();
        let number = state.next_endpoint;
        state.next_endpoint += 1;
        let endpoint = Endpoint {
            me: me.clone(),
            role,
            up: false,
            arrivals: BinaryHeap::new(),
            latest: BTreeMap::new(),
            slow: false,
            wake: Arc::clone(&wake),
        };
        state.endpoints.insert(number, endpoint);
        if state.cut.contains(me) {
            state.arrive(number, Instant::now(), cut());
        } else {
            state.raise(number);
        }
        drop(state);
        MemoryTransport { network: self.clone(), endpoint: number, me: me.clone(), wake }
    }

    pub(crate) fn set_faults(&self, faults: Faults) {
        self.state().faults = faults;
    }

    /// For all connections from now on; those that are up learn it with their next `Up`.
    pub(crate) fn set_max_payload(&self, bytes: usize) {
        self.state().max_payload = bytes;
    }

    /// The node loses its connection, and with it what is under way to it.
    pub(crate) fn cut(&self, node: &NodeId) {
        let mut state = self.state();
        if state.cut.insert(node.clone()) {
            for number in state.endpoints_of(node) {
                let endpoint = state.endpoints.get_mut(&number).expect("just listed");
                endpoint.up = false;
                endpoint.arrivals.clear();
                endpoint.latest.clear();
                state.arrive(number, Instant::now(), cut());
            }
        }
    }

    /// The node gets its connection back.
    pub(crate) fn heal(&self, node: &NodeId) {
        let mut state = self.state();
        if state.cut.remove(node) {
            for number in state.endpoints_of(node) {
                state.raise(number);
            }
        }
    }

    /// From now on nothing passes between the two, though both stay connected.
    pub(crate) fn part(&self, one: &NodeId, other: &NodeId) {
        let mut state = self.state();
        state.parted.insert((one.clone(), other.clone()));
        state.parted.insert((other.clone(), one.clone()));
    }

    /// Undoes every [`MemoryNetwork::part`].
    pub(crate) fn join_all(&self) {
        self.state().parted.clear();
    }

    /// A stranger publishes whatever it likes.
    pub(crate) fn inject(&self, to: &Subject, frame: Bytes) {
        self.state().publish(to, &frame);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn endpoints_of(&self, node: &NodeId) -> Vec<u64> {
        self.endpoints.iter().filter(|(_, e)| e.me == *node).map(|(number, _)| *number).collect()
    }

    fn raise(&mut self, number: u64) {
        let server = ServerInfo {
            name: "memory".to_owned(),
            id: "memory".to_owned(),
            cluster: None,
            version: "0".to_owned(),
            address: "memory".to_owned(),
            rtt: ECHO_TIME,
        };
        let max_payload = self.max_payload;
        let up = TransportEvent::Up { max_payload, server, denied: Vec::new() };
        let at = Instant::now() + ECHO_TIME;
        self.arrive(number, at, up);
    }

    fn arrive(&mut self, number: u64, at: Instant, event: TransportEvent) {
        let order = self.next_arrival;
        self.next_arrival += 1;
        if let Some(endpoint) = self.endpoints.get_mut(&number) {
            endpoint.arrivals.push(Reverse(Arrival { at, number: order, event }));
            endpoint.wake.notify_one();
        }
    }

    fn publish(&mut self, to: &Subject, frame: &Bytes) {
        let receivers: Vec<_> = self
            .endpoints
            .iter()
            .filter(|(_, e)| e.up && to.is_for(&e.me, e.role))
            .map(|(number, e)| (*number, e.me.clone()))
            .collect();
        for (number, me) in receivers {
            if self.parted.contains(&(to.from().clone(), me)) {
                continue;
            }
            if self.rng.f64() < self.faults.loss {
                continue;
            }
            self.carry(number, to, frame);
            if self.rng.f64() < self.faults.duplication {
                self.carry(number, to, frame);
            }
        }
    }

    fn carry(&mut self, number: u64, to: &Subject, frame: &Bytes) {
        let range = self.faults.delay.clone();
        let span = range.end.saturating_sub(range.start);
        let mut at = Instant::now() + range.start + span.mul_f64(self.rng.f64());
        let overtaken = self.rng.f64() < self.faults.reordering;
        let detour = range.end.mul_f64(10.0 * self.rng.f64());
        let endpoint = self.endpoints.get_mut(&number).expect("the caller has just found it");
        if endpoint.arrivals.len() >= CAPACITY {
            if !std::mem::replace(&mut endpoint.slow, true) {
                self.arrive(number, Instant::now(), TransportEvent::Slow);
            }
            return;
        }
        if overtaken {
            at += detour;
        } else {
            let latest = endpoint.latest.entry(to.from().clone()).or_insert(at);
            at = at.max(*latest);
            *latest = at;
        }
        self.arrive(number, at, TransportEvent::Frame { from: to.clone(), bytes: frame.clone() });
    }

    /// What has arrived, or when the next thing will.
    fn take(&mut self, number: u64) -> Result<TransportEvent, Option<Instant>> {
        let endpoint = self.endpoints.get_mut(&number).expect("a transport keeps its endpoint");
        match endpoint.arrivals.peek() {
            Some(Reverse(next)) if next.at > Instant::now() => Err(Some(next.at)),
            None => Err(None),
            Some(_) => {
                let Reverse(arrival) = endpoint.arrivals.pop().expect("just seen");
                match arrival.event {
                    TransportEvent::Up { .. } => endpoint.up = true,
                    TransportEvent::Slow => endpoint.slow = false,
                    _ => {}
                }
                Ok(arrival.event)
            }
        }
    }
}

impl Transport for MemoryTransport {
    async fn next(&mut self) -> TransportEvent {
        loop {
            let taken = self.network.state().take(self.endpoint);
            match taken {
                Ok(event) => return event,
                Err(None) => self.wake.notified().await,
                // Whichever comes first, the next arrival or an earlier one: look again.
                Err(Some(at)) => drop(timeout_at(at, self.wake.notified()).await),
            }
        }
    }

    fn try_publish(&mut self, to: &Subject, frame: Bytes) -> Result<(), PublishError> {
        let mut state = self.network.state();
        if !state.endpoints.get(&self.endpoint).is_some_and(|endpoint| endpoint.up) {
            return Err(PublishError::NotConnected);
        }
        let (size, limit) = (frame.len(), state.max_payload);
        if size > limit {
            return Err(PublishError::TooLarge { size, limit });
        }
        state.publish(to, &frame);
        Ok(())
    }

    /// What does not fit any more is lost on its way.
    fn has_room(&mut self) -> bool {
        true
    }

    /// What was published is under way already.
    async fn close(self, _within: Duration) {}
}

impl Drop for MemoryTransport {
    fn drop(&mut self) {
        tracing::trace!(node = %self.me, "leaves the network");
        self.network.state().endpoints.remove(&self.endpoint);
    }
}

impl PartialEq for Arrival {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Arrival {}

impl PartialOrd for Arrival {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Arrival {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

fn cut() -> TransportEvent {
    TransportEvent::Down { reason: "the network is cut".to_owned(), outage: Outage::NoServer }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    fn node(name: &str) -> NodeId {
        NodeId::new(name).expect("a valid name")
    }

    fn message(to: &str, from: &str) -> Subject {
        Subject::Message { to: node(to), from: node(from) }
    }

    async fn up(network: &MemoryNetwork, name: &str) -> MemoryTransport {
        let mut transport = network.connect(&node(name), Role::Node { elects: true });
        assert!(matches!(transport.next().await, TransportEvent::Up { .. }));
        transport
    }

    /// The first bytes of all frames until nothing comes any more.
    async fn drain(transport: &mut MemoryTransport) -> Vec<u8> {
        let mut seen = Vec::new();
        while let Ok(event) = timeout(Duration::from_secs(60), transport.next()).await {
            if let TransportEvent::Frame { bytes, .. } = event {
                seen.push(bytes[0]);
            }
        }
        seen
    }

    async fn hundred_under(seed: u64, faults: Faults) -> Vec<u8> {
        let network = MemoryNetwork::new(seed, faults);
        let (mut alice, mut bob) = (up(&network, "alice").await, up(&network, "bob").await);
        for n in 0..100 {
            let frame = Bytes::from(vec![n]);
            alice.try_publish(&message("bob", "alice"), frame).expect("connected");
        }
        drain(&mut bob).await
    }

    #[tokio::test(start_paused = true)]
    async fn without_faults_all_arrive_once_and_in_order() {
        let seen = hundred_under(1, Faults::default()).await;
        assert_eq!(seen, (0..100).collect::<Vec<_>>());
    }

    #[tokio::test(start_paused = true)]
    async fn a_seed_repeats_its_faults() {
        let faults = Faults { loss: 0.2, duplication: 0.2, reordering: 0.2, ..Faults::default() };
        let seen = hundred_under(7, faults.clone()).await;
        assert_eq!(seen, hundred_under(7, faults.clone()).await);
        assert_ne!(seen, hundred_under(8, faults).await);
        assert!((0..100).any(|n| !seen.contains(&n)), "nothing lost: {seen:?}");
        assert!((0..100).any(|n| seen.iter().filter(|s| **s == n).count() > 1), "none repeated");
        assert!(!seen.is_sorted(), "nothing overtook: {seen:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_cut_node_is_told_and_hears_nothing_until_it_is_healed() {
        let network = MemoryNetwork::new(1, Faults::default());
        let (mut alice, mut bob) = (up(&network, "alice").await, up(&network, "bob").await);
        let frame = || Bytes::from_static(b"x");
        alice.try_publish(&message("bob", "alice"), frame()).expect("connected");
        network.cut(&node("bob"));
        alice.try_publish(&message("bob", "alice"), frame()).expect("connected");
        assert!(matches!(bob.next().await, TransportEvent::Down { .. }));
        let refused = bob.try_publish(&message("alice", "bob"), frame());
        assert_eq!(refused, Err(PublishError::NotConnected));
        network.set_max_payload(3);
        network.heal(&node("bob"));
        assert!(matches!(bob.next().await, TransportEvent::Up { max_payload: 3, .. }));
        assert_eq!(drain(&mut bob).await, b"");
        let refused = bob.try_publish(&message("alice", "bob"), Bytes::from_static(b"four"));
        assert_eq!(refused, Err(PublishError::TooLarge { size: 4, limit: 3 }));
        network.part(&node("alice"), &node("bob"));
        bob.try_publish(&message("alice", "bob"), frame()).expect("connected");
        assert_eq!(drain(&mut alice).await, b"");
        network.join_all();
        bob.try_publish(&message("alice", "bob"), frame()).expect("connected");
        assert_eq!(drain(&mut alice).await, b"x");
    }

    #[tokio::test(start_paused = true)]
    async fn broadcasts_reach_all_and_a_slow_one_is_told() {
        let network = MemoryNetwork::new(1, Faults::default());
        let (mut alice, mut twin) = (up(&network, "alice").await, up(&network, "alice").await);
        let mut looker = network.connect(&node("looker"), Role::Observer);
        assert!(matches!(looker.next().await, TransportEvent::Up { .. }));
        let keepalive = Subject::Keepalive { from: node("alice") };
        for _ in 0..CAPACITY + 10 {
            alice.try_publish(&keepalive, Bytes::from_static(b"k")).expect("connected");
        }
        assert_eq!(twin.next().await, TransportEvent::Slow);
        for transport in [&mut alice, &mut twin, &mut looker] {
            assert_eq!(drain(transport).await.len(), CAPACITY);
        }
        network.inject(&message("looker", "eve"), Bytes::from_static(b"m"));
        assert_eq!(drain(&mut looker).await, b"");
    }
}
