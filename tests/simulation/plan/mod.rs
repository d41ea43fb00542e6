//! What happens in a simulation: who takes part, what their programs do, and what goes wrong when.

use std::time::Duration;

use waypost::protocol::backoff::Backoff;
use waypost::protocol::life::Trust;
use waypost::protocol::{delivery, inbox, membership};
use waypost::{ChannelName, Mode, NodeId, Priority, StartAt};

use crate::dice::Dice;
use crate::file::{self, Draft, Uid};
use crate::network::Wire;
use crate::process::Settings;

mod acts;
mod election;
mod faults;
mod off;
mod week;

pub(crate) use acts::{Act, Crash};
pub(crate) use off::WAITING;
pub(crate) use week::{MESSAGES, READERS};

/// How a program's handlers behave, in thousandths.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Style {
    pub(crate) failing: u32,
    pub(crate) slow: u32,
    pub(crate) transacting: u32,
    pub(crate) acking: u32,
    /// Every message whose number this divides fails for ever; 0: none.
    pub(crate) poison: Uid,
    /// Every message whose number this divides cannot be taken: it is too large for this one, say. 0: none.
    pub(crate) refused: Uid,
    /// Every message whose number this divides ends the process that handles it; 0: none.
    pub(crate) deadly: Uid,
}

#[derive(Debug, Clone)]
pub(crate) struct NodePlan {
    pub(crate) id: NodeId,
    pub(crate) settings: Settings,
    pub(crate) limits: file::Limits,
    pub(crate) style: Style,
    pub(crate) joins: Vec<(ChannelName, Mode, StartAt)>,
    /// What there is to show that its wall clock is right, when it is.
    pub(crate) trust: Trust,
    /// Whether it is trusted even when it is wrong.
    pub(crate) lies: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) nodes: Vec<NodePlan>,
    /// In any order.
    pub(crate) acts: Vec<(Duration, Act)>,
    pub(crate) wire: Wire,
    /// Pages that cannot be read, in thousandths.
    pub(crate) unreadable: u32,
    /// Most messages in a frame that the servers take.
    pub(crate) most: usize,
    /// Accounts are checked after every so manyth commit.
    pub(crate) audit_every: u64,
    /// How many times as busy as usual a node may be.
    pub(crate) busy_factor: u64,
    /// Whether programs wait to hear what was settled.
    pub(crate) awaited: bool,
    /// When faults end.
    pub(crate) faults_end: Duration,
    /// By when after that everything has settled.
    pub(crate) patience: Duration,
    /// Whether nothing in it excuses that a reader misses a message.
    pub(crate) exact: bool,
}

pub(crate) fn channel(number: usize) -> ChannelName {
    ChannelName::new(["orders", "readings"][number]).expect("a valid name")
}

pub(crate) fn node_id(number: usize) -> NodeId {
    let name = ["ann", "bob", "cat", "dan", "eve", "fay"].get(number);
    let name = name.map_or_else(|| format!("node-{number}"), |name| (*name).to_owned());
    NodeId::new(name).expect("a valid name")
}

/// A node as most want it.
pub(crate) fn node(number: usize) -> NodePlan {
    let interval = Duration::from_secs(10);
    NodePlan {
        id: node_id(number),
        settings: Settings {
            delivery: delivery::Limits {
                ack_timeout: Duration::from_secs(10),
                backoff: Backoff { first: Duration::from_secs(1), cap: Duration::from_secs(300) },
                max_attempts: 10,
                frame_messages: 1,
                frame_bytes: 1_000_000,
                frame_header_bytes: 100_000,
                frame_wait: Duration::ZERO,
                buffer_messages: 256,
                buffer_bytes: 1024 * 1024,
            },
            inbox: inbox::Limits { handlers: 64, held_bytes: 64 * 1024 * 1024 },
            membership: membership::Limits {
                interval,
                offline_after: 3 * interval,
                expiry: Duration::from_secs(7 * 86_400),
                max_peers: 4096,
            },
            cleanup_interval: Duration::from_secs(3_600),
            election: None,
        },
        limits: file::Limits {
            queue: 10_000,
            drop_oldest: false,
            retention_ms: 3 * 86_400_000,
            notices: 32_768,
        },
        style: Style::default(),
        joins: Vec::new(),
        trust: Trust::Synchronised,
        lies: false,
    }
}

impl Plan {
    /// A small world with a mix of faults of the seed's own. A third of them have an election.
    pub(crate) fn from_seed(seed: u64) -> Self {
        let mut plan = Self::without_election(seed);
        plan.add_election();
        plan
    }

    /// The same, as it was before nodes had elections here.
    pub(crate) fn without_election(seed: u64) -> Self {
        let mut dice = Dice::new(seed ^ 0x5157_0000_0000_0000);
        let count = 3 + dice.index(4);
        let channels = 1 + dice.index(2);
        let mut settings = settings(&mut dice);
        if seed.is_multiple_of(4) {
            settings.delivery.frame_wait = Duration::from_millis(30);
        }
        let limits = limits(&mut dice);
        let mut nodes: Vec<NodePlan> = (0..count)
            .map(|number| NodePlan {
                settings: settings.clone(),
                limits,
                style: style(&mut dice),
                trust: [Trust::Synchronised, Trust::Unknown, Trust::Battery]
                    [(seed as usize + number) % 3],
                ..node(number)
            })
            .collect();
        // What has been settled for all known readers is gone after the retention, before a new reader is met.
        let mut exact = limits.retention_ms > 3_600_000;
        for (number, node) in nodes.iter_mut().enumerate() {
            for name in 0..channels {
                let mode = match number {
                    0 => Mode::ReadWrite,
                    1 => *dice.pick(&[Mode::Reader, Mode::ReadWrite]),
                    _ => *dice.pick(&[Mode::Reader, Mode::Writer, Mode::ReadWrite]),
                };
                let start = match dice.below(12) {
                    0 => StartAt::Now,
                    1 => StartAt::All,
                    2 => StartAt::SinceMs(dice.between(0, 60_000)),
                    _ => StartAt::Joined,
                };
                exact &= matches!(start, StartAt::Joined | StartAt::All);
                node.joins.push((channel(name), mode, start));
            }
        }
        let faults_end = Duration::from_secs(dice.between(20, 70));
        let mut plan = Self {
            seed,
            nodes,
            acts: Vec::new(),
            wire: Wire::Bytes,
            unreadable: if dice.permille(300) { 100 } else { 0 },
            most: [usize::MAX, 1, 2, usize::MAX][(seed / 4 % 4) as usize],
            audit_every: 1,
            busy_factor: 1,
            awaited: seed.is_multiple_of(3),
            faults_end,
            patience: Duration::from_secs(3_600),
            exact,
        };
        plan.add_starts(&mut dice);
        plan.add_messages(&mut dice);
        plan.add_faults(&mut dice);
        plan.add_time(&mut Dice::new(seed ^ 0x5157_0000_0000_0001));
        plan
    }

    fn add_starts(&mut self, dice: &mut Dice) {
        for node in 0..self.nodes.len() {
            let late = dice.permille(250);
            let at = dice.millis(0, if late { 30_000 } else { 500 });
            self.acts.push((at, Act::Start(node)));
        }
    }

    fn add_messages(&mut self, dice: &mut Dice) {
        let mut uid = 0;
        let budget = dice.between(10, 45);
        let end = self.faults_end.as_millis() as u64;
        let ttl = dice.permille(350);
        while uid < budget {
            let from = dice.index(self.nodes.len());
            let (channel, mode, _) = dice.pick(&self.nodes[from].joins).clone();
            if !mode.writes() {
                uid += 1;
                continue;
            }
            // Bursts, so that queues form.
            let burst = if dice.permille(300) { dice.between(2, 8) } else { 1 };
            let at = dice.millis(0, end);
            let batch = dice.coin();
            let mut drafts = Vec::new();
            for _ in 0..burst {
                uid += 1;
                let target = dice.permille(200).then(|| self.reader_of(&channel, from, dice));
                drafts.push(Draft {
                    uid,
                    channel: channel.clone(),
                    target: target.flatten(),
                    lane: *dice.pick(&[
                        Priority::Normal,
                        Priority::Normal,
                        Priority::Normal,
                        Priority::High,
                        Priority::Low,
                    ]),
                    ttl_ms: (ttl && dice.permille(300)).then(|| dice.between(500, 60_000)),
                });
            }
            if batch {
                self.acts.push((at, Act::Send { node: from, drafts }));
            } else {
                for (nth, draft) in drafts.into_iter().enumerate() {
                    let at = at + Duration::from_micros(nth as u64 * 700);
                    self.acts.push((at, Act::Send { node: from, drafts: vec![draft] }));
                }
            }
        }
    }

    fn reader_of(&self, channel: &ChannelName, not: usize, dice: &mut Dice) -> Option<NodeId> {
        let reads =
            |node: &NodePlan| node.joins.iter().any(|(c, mode, _)| c == channel && mode.reads());
        let readers = self.nodes.iter().enumerate().filter(|(at, node)| *at != not && reads(node));
        let readers: Vec<NodeId> = readers.map(|(_, node)| node.id.clone()).collect();
        (!readers.is_empty()).then(|| dice.pick(&readers).clone())
    }
}

fn settings(dice: &mut Dice) -> Settings {
    let interval = Duration::from_secs(*dice.pick(&[4, 10, 10]));
    let Settings { mut delivery, mut inbox, membership, .. } = node(0).settings;
    delivery.ack_timeout = Duration::from_secs(*dice.pick(&[1, 3, 10]));
    delivery.backoff.cap = Duration::from_secs(*dice.pick(&[5, 20]));
    delivery.max_attempts = dice.between(2, 6) as u32;
    delivery.frame_messages = *dice.pick(&[1, 1, 1, 2, 4]);
    delivery.buffer_messages = *dice.pick(&[1, 2, 4, 16, 256]);
    inbox.handlers = *dice.pick(&[1, 2, 64]);
    if dice.permille(200) {
        inbox.held_bytes = 3 * 1024;
    }
    Settings {
        delivery,
        inbox,
        membership: membership::Limits { interval, offline_after: 3 * interval, ..membership },
        cleanup_interval: Duration::from_secs(*dice.pick(&[15, 3_600])),
        election: None,
    }
}

fn limits(dice: &mut Dice) -> file::Limits {
    file::Limits {
        queue: if dice.permille(250) { dice.between(2, 10) } else { 10_000 },
        drop_oldest: dice.coin(),
        retention_ms: *dice.pick(&[5_000, 30_000, 3 * 86_400_000, 3 * 86_400_000]),
        notices: *dice.pick(&[1, 4, 32_768]),
    }
}

fn style(dice: &mut Dice) -> Style {
    Style {
        failing: *dice.pick(&[0, 0, 100, 400]),
        slow: *dice.pick(&[0, 0, 50, 200]),
        transacting: *dice.pick(&[0, 0, 300, 1_000]),
        acking: *dice.pick(&[0, 0, 500]),
        poison: *dice.pick(&[0, 0, 0, 7, 11]),
        deadly: *dice.pick(&[0, 0, 0, 0, 23]),
        refused: *dice.pick(&[0, 0, 0, 0, 0, 0, 0, 13]),
    }
}
