//! Which faults a seed's plan has, and when.

use std::time::Duration;

use waypost::protocol::life::Trust;
use waypost::protocol::orders::Task;

use super::{Act, Crash, Plan, channel};
use crate::dice::Dice;
use crate::network::Weather;

const DAY_MS: i64 = 86_400_000;
const YEAR_MS: i64 = 366 * DAY_MS;
const WALL_START_MS: i64 = crate::world::WALL_START_MS as i64;

type Fault = fn(&mut Plan, &mut Dice, usize, Duration);

/// Every kind, with how many plans of a thousand have it.
const KINDS: [(Fault, u32); 19] = [
    (crash, 400),
    (fuse, 500),
    (stop, 200),
    (freeze, 200),
    (clock, 300),
    (disk, 300),
    (weather, 500),
    (sever, 400),
    (split, 250),
    (server, 250),
    (pause, 250),
    (detach, 200),
    (leave, 150),
    (forget, 120),
    (purge, 150),
    (restore, 120),
    (wipe, 80),
    (drain, 120),
    (order, 250),
];

impl Plan {
    pub(super) fn add_faults(&mut self, dice: &mut Dice) {
        let end = self.faults_end.as_millis() as u64;
        for (fault, chance) in KINDS {
            if !dice.permille(chance) {
                continue;
            }
            for _ in 0..dice.between(1, 4) {
                let at = dice.millis(0, end);
                let node = dice.index(self.nodes.len());
                fault(self, dice, node, at);
            }
        }
        self.acts.push((self.faults_end, Act::Calm));
    }

    /// What is done to time itself, to some plans: from dice of its own, so that the others stay as they were.
    pub(super) fn add_time(&mut self, dice: &mut Dice) {
        match dice.below(16) {
            0..=2 => self.suspends(dice),
            3 => self.long_off(dice),
            4..=5 => self.lies(dice),
            _ => {}
        }
    }

    /// Machines sleep for a moment up to days, some while they have been told to stop, or before they crash.
    fn suspends(&mut self, dice: &mut Dice) {
        let end = self.faults_end.as_millis() as u64;
        for _ in 0..dice.between(1, 4) {
            let (at, node) = (dice.millis(0, end), dice.index(self.nodes.len()));
            let pause = dice.millis(1, *dice.clone().pick(&[2_000, 40_000, 600_000]));
            self.then(at, Act::Suspend { node, pause });
            if dice.permille(300) {
                let at = at + pause + dice.millis(0, 5_000);
                crash(self, dice, node, at);
            }
        }
    }

    /// A machine without power for longer than peers are remembered. It comes back, and nobody that was there all the time is forgotten.
    fn long_off(&mut self, dice: &mut Dice) {
        let expiry = Duration::from_secs(90);
        for node in &mut self.nodes {
            node.settings.membership.expiry = expiry;
        }
        self.exact = false;
        let node = dice.index(self.nodes.len());
        let at = dice.millis(10_000, self.faults_end.as_millis() as u64);
        let away = 2 * expiry + dice.millis(0, 120_000);
        self.faults_end = at + away + Duration::from_secs(60);
        self.acts.retain(|(_, act)| !matches!(act, Act::Calm));
        self.acts.push((self.faults_end, Act::Calm));
        self.then(at, Act::Crash { node, how: Crash::PowerCut, away });
    }

    /// A time server that is wrong, or an operator who believes his watch: it is trusted, and takes or gives life over a reboot. All else holds.
    fn lies(&mut self, dice: &mut Dice) {
        self.exact = false;
        let end = self.faults_end.as_millis() as u64;
        for node in 0..self.nodes.len() {
            if dice.coin() {
                self.nodes[node].lies = true;
                self.nodes[node].trust = *dice.pick(&[Trust::Synchronised, Trust::Told]);
                let at = dice.millis(0, end);
                clock(self, dice, node, at);
                let act = Act::Crash { node, how: Crash::PowerCut, away: away(dice) };
                self.then(at + dice.millis(0, 10_000), act);
            }
        }
    }

    fn then(&mut self, at: Duration, act: Act) {
        if at < self.faults_end {
            self.acts.push((at, act));
        }
    }
}

pub(super) fn away(dice: &mut Dice) -> Duration {
    dice.millis(1, *dice.clone().pick(&[50, 2_000, 40_000]))
}

pub(super) fn how(dice: &mut Dice) -> Crash {
    if dice.permille(400) { Crash::PowerCut } else { Crash::Kill }
}

fn crash(plan: &mut Plan, dice: &mut Dice, node: usize, at: Duration) {
    let act = Act::Crash { node, how: how(dice), away: away(dice) };
    plan.then(at, act);
}

/// Most often while messages are sent, when there is something to tear apart.
fn fuse(plan: &mut Plan, dice: &mut Dice, node: usize, at: Duration) {
    let sends = plan.acts.iter().filter(|(_, act)| matches!(act, Act::Send { .. }));
    let times: Vec<Duration> = sends.map(|(at, _)| *at).collect();
    let at = if times.is_empty() || dice.permille(200) { at } else { *dice.pick(&times) };
    let actions = dice.below(25) as u32;
    plan.then(at, Act::Fuse { node, actions, how: how(dice), away: away(dice) });
}

fn stop(plan: &mut Plan, dice: &mut Dice, node: usize, at: Duration) {
    let within = dice.millis(0, 5_000);
    plan.then(at, Act::Stop { node, within, away: away(dice) });
}

fn freeze(plan: &mut Plan, dice: &mut Dice, node: usize, at: Duration) {
    plan.then(at, Act::Freeze { node, pause: away(dice) });
}

/// At 1970, weeks behind, a little off or years ahead; set right while the node runs or is away, or never. It costs nobody a message.
fn clock(plan: &mut Plan, dice: &mut Dice, node: usize, at: Duration) {
    const TIMES: [i64; 6] =
        [-WALL_START_MS, -21 * DAY_MS, -60_000, 60_000, 30 * DAY_MS, 10 * YEAR_MS];
    let off_ms = *dice.pick(&TIMES);
    plan.then(at, Act::Clock { node, off_ms });
    if dice.coin() {
        let at = at + dice.millis(0, 10_000);
        crash(plan, dice, node, at);
    }
    if dice.coin() {
        let at = at + dice.millis(0, 20_000);
        plan.then(at, Act::Clock { node, off_ms: 0 });
    }
}

fn disk(plan: &mut Plan, dice: &mut Dice, node: usize, at: Duration) {
    let pause = away(dice);
    plan.then(
        at,
        match dice.below(3) {
            0 => Act::FailSync { node },
            1 => Act::DiskAway { node, pause },
            _ => Act::SlowDisk { node, pause },
        },
    );
}

fn weather(plan: &mut Plan, dice: &mut Dice, _: usize, at: Duration) {
    let weather = Weather {
        lost: *dice.pick(&[0, 50, 300]),
        doubled: *dice.pick(&[0, 100, 400]),
        late: *dice.pick(&[0, 50, 400]),
        latest: dice.millis(1, *dice.clone().pick(&[20, 2_000, 30_000])),
        shuffled: dice.coin(),
        busy: *dice.pick(&[0, 0, 20]),
    };
    plan.then(at, Act::Weather(weather));
}

fn sever(plan: &mut Plan, dice: &mut Dice, node: usize, at: Duration) {
    plan.then(at, Act::Sever { node });
    plan.then(at + away(dice), Act::Mend { node });
}

fn split(plan: &mut Plan, dice: &mut Dice, _: usize, at: Duration) {
    plan.then(at, Act::Split { routed: false });
    plan.then(at + away(dice), Act::Split { routed: true });
}

fn server(plan: &mut Plan, dice: &mut Dice, _: usize, at: Duration) {
    let server = dice.index(2);
    plan.then(at, Act::Server { server, up: false });
    if dice.coin() {
        plan.then(at, Act::Server { server: 1 - server, up: false });
        plan.then(at + away(dice), Act::Server { server: 1 - server, up: true });
    }
    plan.then(at + away(dice), Act::Server { server, up: true });
}

fn some_channel(plan: &Plan, dice: &mut Dice, node: usize) -> waypost::ChannelName {
    dice.pick(&plan.nodes[node].joins).0.clone()
}

fn pause(plan: &mut Plan, dice: &mut Dice, node: usize, at: Duration) {
    let channel = some_channel(plan, dice, node);
    plan.then(at, Act::Pause { node, channel: channel.clone(), paused: true });
    plan.then(at + away(dice), Act::Pause { node, channel, paused: false });
}

fn detach(plan: &mut Plan, dice: &mut Dice, node: usize, at: Duration) {
    let channel = some_channel(plan, dice, node);
    plan.then(at, Act::Handle { node, channel: channel.clone(), handling: false });
    plan.then(at + away(dice), Act::Handle { node, channel, handling: true });
}

fn leave(plan: &mut Plan, dice: &mut Dice, node: usize, at: Duration) {
    let channel = some_channel(plan, dice, node);
    plan.then(at, Act::Leave { node, channel });
    plan.then(at + away(dice), Act::Rejoin { node });
}

fn forget(plan: &mut Plan, dice: &mut Dice, node: usize, at: Duration) {
    plan.exact = false;
    let peer = plan.nodes[dice.index(plan.nodes.len())].id.clone();
    plan.then(at, Act::Forget { node, peer });
}

fn purge(plan: &mut Plan, dice: &mut Dice, node: usize, at: Duration) {
    let peer = plan.nodes[dice.index(plan.nodes.len())].id.clone();
    let channel = dice.coin().then(|| channel(0));
    plan.then(at, Act::Purge { node, peer, channel });
}

fn restore(plan: &mut Plan, dice: &mut Dice, node: usize, at: Duration) {
    plan.exact = false;
    plan.then(at, Act::Backup { node });
    let back = at + dice.millis(10, 40_000);
    if dice.coin() {
        // What was sent in between has later ids than what is sent afterwards.
        let off_ms = *dice.pick(&[30 * DAY_MS, 10 * YEAR_MS]);
        plan.then(at, Act::Clock { node, off_ms });
        plan.then(back, Act::Clock { node, off_ms: 0 });
    }
    plan.then(back, Act::Restore { node, away: away(dice) });
}

fn wipe(plan: &mut Plan, dice: &mut Dice, node: usize, at: Duration) {
    plan.exact = false;
    plan.then(at, Act::Wipe { node, away: away(dice) });
}

fn drain(plan: &mut Plan, dice: &mut Dice, node: usize, at: Duration) {
    let to = plan.nodes[node].id.clone();
    plan.then(at, Act::Order { node, to: to.clone(), task: Task::Drain });
    plan.then(at + away(dice), Act::Order { node, to, task: Task::Readmit });
}

/// Somebody has some node do something, itself perhaps, and mostly readmits it later.
fn order(plan: &mut Plan, dice: &mut Dice, node: usize, at: Duration) {
    let to = plan.nodes[dice.index(plan.nodes.len())].id.clone();
    let peer = plan.nodes[dice.index(plan.nodes.len())].id.clone();
    let task = match dice.below(8) {
        0 => Task::Kick,
        1 => Task::KickChannel { channel: channel(0) },
        2 => Task::PurgeQueue,
        3 => Task::PurgeSent,
        4 => Task::PurgeAll,
        5 => Task::Forget { node: peer },
        6 => Task::Drain,
        _ => Task::Readmit,
    };
    // A reader that comes later does not get what is gone by then.
    plan.exact &= !matches!(task, Task::PurgeSent | Task::PurgeAll | Task::Forget { .. });
    plan.then(at, Act::Order { node, to: to.clone(), task });
    if dice.permille(700) {
        plan.then(at + away(dice), Act::Order { node, to, task: Task::Readmit });
    }
}
