//! What programs and people do, and what goes wrong.

use std::time::Duration;

use waypost::protocol::leadership::Change;
use waypost::protocol::orders::Task;
use waypost::{ChannelName, Mode, NodeId, StartAt};

use crate::file::{Draft, File, Work};
use crate::network::Weather;
use crate::process::Command;
use crate::world::{Event, World};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Crash {
    /// What was committed stays.
    Kill,
    /// Commits that were not synced may be lost.
    PowerCut,
}

#[derive(Debug, Clone)]
pub(crate) enum Act {
    Start(usize),
    Send {
        node: usize,
        drafts: Vec<Draft>,
    },
    Pause {
        node: usize,
        channel: ChannelName,
        paused: bool,
    },
    Handle {
        node: usize,
        channel: ChannelName,
        handling: bool,
    },
    Leave {
        node: usize,
        channel: ChannelName,
    },
    /// An operator on this node has one do this.
    Order {
        node: usize,
        to: NodeId,
        task: Task,
    },
    /// Joins again what it left.
    Rejoin {
        node: usize,
    },
    Forget {
        node: usize,
        peer: NodeId,
    },
    Purge {
        node: usize,
        peer: NodeId,
        channel: Option<ChannelName>,
    },
    Stop {
        node: usize,
        within: Duration,
        away: Duration,
    },
    Crash {
        node: usize,
        how: Crash,
        away: Duration,
    },
    /// A crash between two actions.
    Fuse {
        node: usize,
        actions: u32,
        how: Crash,
        away: Duration,
    },
    /// SIGSTOP, and SIGCONT.
    Freeze {
        node: usize,
        pause: Duration,
    },
    /// A lid that is closed for so long.
    Suspend {
        node: usize,
        pause: Duration,
    },
    Clock {
        node: usize,
        off_ms: i64,
    },
    FailSync {
        node: usize,
    },
    DiskAway {
        node: usize,
        pause: Duration,
    },
    SlowDisk {
        node: usize,
        pause: Duration,
    },
    Weather(Weather),
    Sever {
        node: usize,
    },
    Mend {
        node: usize,
    },
    Split {
        routed: bool,
    },
    Server {
        server: usize,
        up: bool,
    },
    Backup {
        node: usize,
    },
    /// Its file becomes the backup, as if the disk had been replaced.
    Restore {
        node: usize,
        away: Duration,
    },
    /// Its file is lost.
    Wipe {
        node: usize,
        away: Duration,
    },
    /// Whoever is master changes the state; all others are told that they are not.
    SetState(Change),
    /// Something happens to whoever is master.
    Lead(Strike),
    /// Everything that can be mended is.
    Calm,
}

/// What happens to a master, and never so to another.
#[derive(Debug, Clone)]
pub(crate) enum Strike {
    Crash { how: Crash, away: Duration },
    Fuse { actions: u32, how: Crash, away: Duration },
    Freeze { pause: Duration },
    Sever { pause: Duration },
    Stop { within: Duration, away: Duration },
    FailSync,
    DiskAway { pause: Duration },
    HandOver { to: Option<NodeId> },
}

impl World {
    pub(crate) fn act(&mut self, act: Act) {
        if !matches!(act, Act::Send { .. }) {
            log!(self, "{act:?}");
        }
        match act {
            Act::Start(node) => self.start(node),
            Act::Send { node, drafts } => self.send(node, drafts),
            Act::Pause { node, channel, paused } => {
                self.command(node, Command::Pause(channel, paused));
            }
            Act::Handle { node, channel, handling: true } => {
                self.command(node, Command::Attach(channel));
            }
            Act::Handle { node, channel, .. } => self.command(node, Command::Detach(channel)),
            Act::Leave { node, channel } => self.command(node, Command::Leave(channel)),
            Act::Order { node, to, task } => self.command(node, Command::Order(to, task)),
            Act::Rejoin { node } => self.rejoin(node),
            Act::Forget { node, peer } => self.command(node, Command::Forget(peer)),
            Act::Purge { node, peer, channel } => {
                self.command(node, Command::Purge(peer, channel));
            }
            Act::Stop { node, within, away } => {
                self.machines[node].away_until = self.now + away;
                self.command(node, Command::Stop { within });
            }
            Act::Crash { node, how, away } => self.crash(node, how, away),
            Act::Fuse { node, actions, how, away } => {
                self.machines[node].fuse = Some(actions);
                self.machines[node].fuse_crash = (how, away);
            }
            Act::Freeze { node, pause } => self.freeze(node, pause),
            Act::Suspend { node, pause } => self.suspend(node, pause),
            Act::Clock { node, off_ms } => self.set_clock(node, off_ms),
            Act::FailSync { node } => self.machines[node].sync_fails = true,
            Act::DiskAway { node, pause } => self.machines[node].disk_back = self.now + pause,
            Act::SlowDisk { node, pause } => {
                self.machines[node].disk_slow_until = self.now + pause;
            }
            Act::Weather(weather) => self.network.weather = weather,
            Act::Sever { node } => {
                self.network.severed[node] = true;
                self.break_connection(node);
            }
            Act::Mend { node } => {
                self.network.severed[node] = false;
                self.network_mended();
            }
            Act::Split { routed } => self.network.routed = routed,
            Act::Server { server, up } => self.server(server, up),
            Act::Backup { node } => {
                self.machines[node].backup = Some(self.machines[node].file.copy());
            }
            Act::Restore { node, away } => {
                self.crash(node, Crash::Kill, away);
                if let Some(backup) = self.machines[node].backup.clone() {
                    self.oracle.restored(node, &backup.current);
                    self.machines[node].file = backup;
                    self.machines[node].restored = true;
                    self.machines[node].forgetful = true;
                }
            }
            Act::Wipe { node, away } => {
                self.crash(node, Crash::Kill, away);
                let store = waypost::StoreId::from_u128(self.dice.wide());
                self.machines[node].file = File::new(store);
                self.machines[node].forgetful = true;
                self.oracle.wiped(node);
            }
            Act::SetState(change) => {
                for node in 0..self.machines.len() {
                    self.command(node, Command::SetState(change.clone()));
                }
            }
            Act::Lead(strike) => {
                let master = self.oracle.elections.masters(self.truly()).next();
                if let Some(node) = master {
                    self.strike(node, strike);
                }
            }
            Act::Calm => self.calm_down(),
        }
    }

    fn strike(&mut self, node: usize, strike: Strike) {
        let act = match strike {
            Strike::Crash { how, away } => Act::Crash { node, how, away },
            Strike::Fuse { actions, how, away } => Act::Fuse { node, actions, how, away },
            Strike::Freeze { pause } => Act::Freeze { node, pause },
            Strike::Sever { pause } => {
                self.schedule(self.now + pause, Event::Act(Act::Mend { node }));
                Act::Sever { node }
            }
            Strike::Stop { within, away } => Act::Stop { node, within, away },
            Strike::FailSync => Act::FailSync { node },
            Strike::DiskAway { pause } => Act::DiskAway { node, pause },
            Strike::HandOver { to } => return self.command(node, Command::HandOver(to)),
        };
        self.act(act);
    }

    fn command(&mut self, node: usize, command: Command) {
        let run = self.run_of(node);
        self.schedule(self.now, Event::Command { node, run, command });
    }

    /// A second later, if it still runs then.
    pub(crate) fn command_later(&mut self, node: usize, command: Command) {
        let (run, at) = (self.run_of(node), self.now + Duration::from_secs(1));
        self.schedule(at, Event::Command { node, run, command });
    }

    /// A program that is kept out tries again.
    pub(crate) fn join_later(
        &mut self,
        node: usize,
        channel: ChannelName,
        mode: Mode,
        start: StartAt,
    ) {
        self.command_later(node, Command::Join(channel, mode, start));
    }

    pub(crate) fn rejoin_later(&mut self, node: usize) {
        for (channel, mode, start) in self.machines[node].joins.clone() {
            self.join_later(node, channel, mode, start);
        }
    }

    fn rejoin(&mut self, node: usize) {
        for (channel, mode, start) in self.machines[node].joins.clone() {
            self.command(node, Command::Join(channel, mode, start));
        }
    }

    /// A program that is not running, or kept out, sends later.
    fn send(&mut self, node: usize, drafts: Vec<Draft>) {
        let process = self.machines[node].process.as_ref();
        if process.is_some_and(|it| drafts.iter().all(|draft| it.admits(&draft.channel))) {
            self.submit(node, Work::Send(drafts));
        } else if !self.calm {
            let at = self.now + self.dice.millis(500, 3_000);
            self.schedule(at, Event::Act(Act::Send { node, drafts }));
        }
    }

    fn server(&mut self, server: usize, up: bool) {
        self.network.server_up[server] = up;
        if up {
            return self.network_mended();
        }
        for node in 0..self.machines.len() {
            if self.network.connections[node].server == server {
                self.break_connection(node);
            }
        }
        // Those on it may find the other one at once.
        self.network_mended();
    }

    fn calm_down(&mut self) {
        self.calm = true;
        self.network.weather = Weather::default();
        self.network.severed.fill(false);
        self.network.server_up = [true; 2];
        self.network.routed = true;
        self.network_mended();
        for node in 0..self.machines.len() {
            let machine = &mut self.machines[node];
            machine.fuse = None;
            machine.sync_fails = false;
            machine.disk_back = self.now;
            machine.disk_slow_until = self.now;
            machine.away_until = self.now;
            self.schedule(self.now, Event::Start { node });
            self.command(node, Command::Readmit);
            self.rejoin(node);
            for (channel, mode, _) in self.machines[node].joins.clone() {
                self.command(node, Command::Pause(channel.clone(), false));
                if mode.reads() {
                    self.command(node, Command::Attach(channel));
                }
            }
        }
    }
}
