//! Keepalives, hellos and welcomes of anybody, true and forged, in any order and at any time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use waypost::protocol::Now;
use waypost::protocol::frame::{ChannelPresence, Keepalive};
use waypost::protocol::membership::{Action, Event, Known, Limits, Membership};
use waypost::{ChannelName, Incarnation, Mode, NodeId, StartAt, StoreId};

use super::choices::Choices;

const NAMES: usize = 12;
const MAX_PEERS: usize = 6;
/// The bound that `protocol::membership` keeps strangers within.
const MAX_STRANGERS: usize = 1_024;
/// Least time between two keepalives of a node.
const FLOOR: Duration = Duration::from_millis(50);

/// What happened so far, as far as promises depend on it.
struct Model {
    /// Everybody, this node first.
    names: Vec<NodeId>,
    membership: Membership,
    start: Instant,
    now: Duration,
    link: bool,
    last_beat: Option<Duration>,
    /// The questions that were asked.
    hellos: Vec<(NodeId, u64)>,
    /// Who answered one, or stood in the file.
    proven: BTreeSet<NodeId>,
    online: BTreeMap<NodeId, bool>,
}

/// Bytes that choose what happens to a node's membership.
pub fn check(input: &[u8]) {
    let mut choices = Choices::new(input);
    let mut model = Model::new(&mut choices);
    while !choices.is_empty() {
        model.step(&mut choices);
    }
}

/// The same in a crowd that nobody has room for. It takes as long as a thousand other choices.
pub fn check_in_a_crowd(input: &[u8]) {
    let mut choices = Choices::new(input);
    let mut model = Model::new(&mut choices);
    model.say(Event::LinkUp);
    model.flood(&mut choices);
    while !choices.is_empty() {
        model.step(&mut choices);
    }
    model.flood(&mut choices);
}

fn name(n: usize) -> NodeId {
    NodeId::new(format!("n{n}")).expect("a valid name")
}

impl Model {
    fn new(choices: &mut Choices) -> Self {
        let seconds = |n: u64| Duration::from_secs(n);
        let limits = Limits {
            interval: seconds(10),
            offline_after: seconds(30),
            expiry: seconds(86_400),
            max_peers: MAX_PEERS,
        };
        let start = Instant::now();
        let known = |n| Known {
            node: name(n),
            incarnation: Incarnation::from_u128(1),
            store: StoreId::from_u128(1),
            host: String::new(),
            version: String::new(),
            channels: Vec::new(),
            seen_ms: 0,
            linked: Duration::ZERO,
            questions: 0,
        };
        let known: Vec<_> = (1..=choices.below(3)).map(known).collect();
        let proven = known.iter().map(|known| known.node.clone()).collect();
        let now = Now { mono: start, file_ms: 0 };
        let (me, mine) = (name(0), Incarnation::from_u128(1));
        Self {
            names: (0..NAMES).map(name).collect(),
            membership: Membership::new(me, mine, limits, known, 7, now),
            start,
            now: Duration::ZERO,
            link: false,
            last_beat: None,
            hellos: Vec::new(),
            proven,
            online: BTreeMap::new(),
        }
    }

    fn step(&mut self, choices: &mut Choices) {
        match choices.below(13) {
            0 => self.say(Event::LinkUp),
            1 => self.say(Event::LinkDown),
            2..=4 => {
                let keepalive = keepalive(choices);
                self.say(Event::Keepalive(keepalive));
            }
            5 => {
                let keepalive = keepalive(choices);
                self.say(Event::Hello { nonce: choices.number(), keepalive });
            }
            6 | 7 => self.welcome(choices),
            8 => self.say(Event::Unknown(name(choices.below(NAMES)))),
            9 if choices.coin() => self.say(Event::Changed),
            9 => {
                let node = name(choices.below(NAMES));
                self.say(Event::Forget(node.clone()));
                self.online.remove(&node);
                self.proven.remove(&node);
            }
            10 => {
                let due =
                    self.membership.wake_at().map(|at| at.saturating_duration_since(self.start));
                self.now = due.unwrap_or(self.now).max(self.now);
                self.say(Event::Woke);
            }
            11 => self.spoke(name(choices.below(NAMES))),
            _ => {
                self.now += choices.time();
                self.say(Event::Woke);
            }
        }
    }

    /// A message or an answer comes from this node.
    fn spoke(&mut self, node: NodeId) {
        let now = self.now();
        let good = self.membership.spoke(now, &node);
        assert_eq!(good, self.online.get(&node) == Some(&true), "a sign of life of a peer's");
        if !good && node != name(0) {
            self.say(Event::Unknown(node));
        }
    }

    /// More nodes than there is room for, all invented; as fast as they can come, or over some seconds.
    fn flood(&mut self, choices: &mut Choices) {
        let pause = Duration::from_millis(u64::from(choices.byte() % 8));
        for n in 0..MAX_STRANGERS + 100 {
            self.now += pause;
            let from = name(1000 + n);
            self.hear(match n % 3 {
                0 => Event::Unknown(from),
                1 => Event::Keepalive(Keepalive { from, ..keepalive(&mut Choices::new(&[])) }),
                _ => Event::Hello {
                    nonce: 1,
                    keepalive: Keepalive { from, ..keepalive(&mut Choices::new(&[])) },
                },
            });
            assert!(self.membership.strangers() <= MAX_STRANGERS, "invented nodes take no room");
        }
        let peers: Vec<_> = self.membership.peers().map(|peer| peer.node).collect();
        assert!(peers.len() <= MAX_PEERS && peers.iter().all(|node| self.proven.contains(node)));
        self.say(Event::Woke);
    }

    /// The answer to a question that was asked, or to none.
    fn welcome(&mut self, choices: &mut Choices) {
        let mut keepalive = keepalive(choices);
        let mut nonce = choices.number();
        if choices.coin()
            && let Some((node, asked)) = choices.pick(&self.hellos)
        {
            (keepalive.from, nonce) = (node.clone(), *asked);
        }
        if self.hellos.iter().any(|(node, asked)| (node, *asked) == (&keepalive.from, nonce)) {
            self.proven.insert(keepalive.from.clone());
        }
        self.say(Event::Welcome { nonce, keepalive });
    }

    fn now(&self) -> Now {
        let file_ms = u64::try_from(self.now.as_millis()).unwrap_or(u64::MAX);
        Now { mono: self.start + self.now, file_ms }
    }

    fn say(&mut self, event: Event) {
        match event {
            Event::LinkUp => self.link = true,
            Event::LinkDown => self.link = false,
            _ => {}
        }
        self.hear(event);
        self.is_consistent(self.now());
    }

    fn hear(&mut self, event: Event) {
        let now = self.now();
        let mut actions = Vec::new();
        self.membership.handle(now, event, &mut actions);
        for action in actions {
            self.judge(action);
        }
    }

    fn judge(&mut self, action: Action) {
        match action {
            Action::Beat { .. } => {
                assert!(self.link, "nothing is said without a link");
                let since = self.last_beat.map(|last| self.now - last);
                assert!(
                    since.is_none_or(|since| since >= FLOOR),
                    "nobody makes us speak too often"
                );
                self.last_beat = Some(self.now);
            }
            Action::Hello { to, nonce } => {
                assert!(self.link, "nothing is said without a link");
                self.hellos.push((to, nonce));
                // Old questions are forgotten, or the model would grow with the input.
                if self.hellos.len() > MAX_STRANGERS {
                    self.hellos.remove(0);
                }
            }
            Action::Heard { node, news, keepalive } => {
                assert_eq!(node, keepalive.from);
                assert!(self.proven.contains(&node), "a node that has proved nothing is no peer");
                let before = self.online.insert(node, true);
                assert_eq!(news.online, before != Some(true), "online is news once");
            }
            Action::Offline { node, .. } => {
                let before = self.online.insert(node, false);
                assert_eq!(before, Some(true), "only who was online goes offline");
            }
            Action::Expired { node } => {
                assert_ne!(self.online.get(&node), Some(&true), "who is online is not forgotten");
            }
            // Also to itself: another node of its name asks whether it lives.
            Action::Welcome { .. } => {}
            Action::Full { refused } => assert_ne!(refused, name(0)),
            Action::Conflict { .. } => {}
        }
    }

    fn is_consistent(&self, now: Now) {
        let peers = self.names.iter().filter(|node| self.membership.is_peer(node));
        let mut count = 0;
        for node in peers {
            count += 1;
            assert!(self.proven.contains(node), "{node} has proved nothing");
            let online = self.online.get(node) == Some(&true);
            assert_eq!(self.membership.is_online(node), online, "{node}: told, and believed");
        }
        assert!(count <= MAX_PEERS && self.membership.strangers() <= MAX_STRANGERS);
        match self.membership.wake_at() {
            Some(at) => assert!(at > now.mono, "a timer that is due was not acted upon"),
            None => assert!(!self.link, "a node with a link has always something to wait for"),
        }
    }
}

fn keepalive(choices: &mut Choices) -> Keepalive {
    let flags = choices.byte();
    let set = |bit: u8| flags & (1 << bit) != 0;
    let mode = [Mode::Reader, Mode::Writer, Mode::ReadWrite][choices.below(3)];
    let channel = |n: usize| ChannelName::new(format!("c{n}")).expect("a valid name");
    let presence = |n: usize| ChannelPresence {
        name: channel(n),
        mode,
        age_ms: u64::MAX,
        paused: set(6),
        start: StartAt::SinceMs(u64::MAX),
    };
    Keepalive {
        from: name(choices.below(NAMES)),
        incarnation: Incarnation::from_u128(choices.id() % 5),
        store: StoreId::from_u128(1 + u128::from(set(0))),
        counter: choices.number(),
        session: choices.number(),
        uptime_ms: choices.number(),
        version: "1".to_owned(),
        host: "host".to_owned(),
        channels: (0..usize::from(flags & 3)).map(presence).collect(),
        left: if set(2) { vec![channel(1)] } else { Vec::new() },
        draining: set(3),
        elects: false,
        goodbye: set(4),
        rival: set(5).then(|| Incarnation::from_u128(1)),
    }
}
