//! What breaks, when, and for how long. Every tormentor draws from its own seed, and mends what it broke, at once when the calm begins.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::cast::{Cast, SERVER, USUAL_MAX_PAYLOAD};
use super::clock::Clocks;
use super::disk::Room;
use super::link::Wire;
use super::part::Part;
use super::roles::Stage;
use super::streams::{Stream, Streams};
use super::supervise::{Node, Order};
use crate::journal::{self, Event, Journal};
use crate::payload::SMALL_MAX_PAYLOAD;

/// Tormentors of links; each has its own links.
const ON_LINKS: usize = 2;

/// Before a disk is left as it is.
const TRIES_TO_FILL: u32 = 5;

/// Messages that one restored file can forget, roughly: what is accepted within seconds.
const MOST_FORGOTTEN: u64 = 1_000;

/// One who breaks things.
struct Tormentor {
    cast: Arc<Cast>,
    journal: Arc<Journal>,
    random: fastrand::Rng,
    calm: watch::Receiver<bool>,
}

/// Lets them loose until the calm. A node is killed every so many milliseconds on average, whatever else happens.
pub(super) fn begin(
    cast: &Arc<Cast>,
    stage: &Stage,
    part: Part,
    seed: u64,
    kill_every: Duration,
) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let mut seeds = fastrand::Rng::with_seed(seed);
    let mut one = || Tormentor {
        cast: Arc::clone(cast),
        journal: Arc::clone(&stage.journal),
        random: fastrand::Rng::with_seed(seeds.u64(..)),
        calm: stage.calm.clone(),
    };
    tasks.spawn(one().kill(kill_every));
    tasks.spawn(one().freeze());
    tasks.spawn(one().server());
    for nth in 0..ON_LINKS {
        tasks.spawn(one().links(nth));
    }
    if !cast.disks.is_empty() {
        tasks.spawn(one().disks());
    }
    tasks.spawn(one().streams(Arc::clone(&stage.streams)));
    if part == Part::Messages {
        tasks.spawn(one().restores(stage.clone()));
    }
    if let Some(clocks) = &stage.clocks {
        tasks.spawn(one().clocks(clocks.clone()));
    }
    tasks
}

impl Tormentor {
    /// Waits a while; whether it was not interrupted by the calm.
    async fn rest(&mut self, ms: Range<u64>) -> bool {
        let rest = Duration::from_millis(self.random.u64(ms));
        tokio::time::timeout(rest, self.calm.wait_for(|calm| *calm)).await.is_err()
    }

    fn fault(&self, what: &str, node: &str) {
        self.journal.note(Event::Fault { what: what.to_owned(), node: node.to_owned() });
    }

    fn healed(&self, what: &str, node: &str, felt: Option<u64>) {
        self.journal.note(Event::Healed { what: what.to_owned(), node: node.to_owned(), felt });
    }

    fn nodes(&self) -> Vec<&Node> {
        self.cast.nodes().collect()
    }

    async fn kill(mut self, every: Duration) {
        let mean = u64::try_from(every.as_millis()).unwrap_or(u64::MAX).max(2);
        while self.rest(mean / 2..mean * 3 / 2 + 1).await {
            let nodes = self.cast.nodes().count();
            // Now and then two at once.
            let count = if self.random.u8(..20) == 0 { 2 } else { 1 };
            for at in self.random.choose_multiple(0..nodes, count) {
                self.nodes()[at].order(Order::Kill);
            }
        }
    }

    async fn freeze(mut self) {
        while self.rest(1_000..5_000).await {
            let at = self.random.usize(..self.cast.nodes().count());
            let name = self.nodes()[at].name.clone();
            self.fault("freeze", &name);
            self.nodes()[at].order(Order::Freeze);
            self.rest(200..4_000).await;
            self.nodes()[at].order(Order::Thaw);
            self.healed("freeze", &name, None);
        }
    }

    async fn server(mut self) {
        while self.rest(5_000..14_000).await {
            match self.random.u8(..20) {
                0..8 => self.cast.server.order(Order::Kill),
                8..13 => {
                    self.fault("freeze", SERVER);
                    self.cast.server.order(Order::Freeze);
                    self.rest(300..6_000).await;
                    self.cast.server.order(Order::Thaw);
                    self.healed("freeze", SERVER, None);
                }
                _ => {
                    let usual = self.cast.max_payload.load(Ordering::Relaxed) == USUAL_MAX_PAYLOAD;
                    let limit = if usual { SMALL_MAX_PAYLOAD } else { USUAL_MAX_PAYLOAD };
                    self.fault("max_payload", SERVER);
                    self.cast.max_payload.store(limit, Ordering::Relaxed);
                    self.cast.server.order(Order::Restart);
                }
            }
        }
    }

    async fn links(mut self, nth: usize) {
        let own: Vec<usize> =
            (0..self.cast.links.len()).filter(|at| at % ON_LINKS == nth).collect();
        while self.rest(300..2_500).await {
            let at = own[self.random.usize(..own.len())];
            let (what, wire, hold_ms) = self.wire();
            let cast = Arc::clone(&self.cast);
            let (name, link) = &cast.links[at];
            self.fault(what, name);
            link.felt();
            link.set(wire);
            self.rest(hold_ms).await;
            let felt = link.felt();
            link.set(Wire::Whole);
            self.healed(what, name, Some(felt));
        }
    }

    /// A way in which a wire breaks, and for how long.
    fn wire(&mut self) -> (&'static str, Wire, Range<u64>) {
        let random = &mut self.random;
        match random.u8(..5) {
            0 => ("cut", Wire::Cut, 100..5_000),
            1 => ("held", Wire::Held, 300..7_000),
            2 => {
                let (up, down) = [(true, true), (true, false), (false, true)][random.usize(..3)];
                ("half-open", Wire::Swallowing { up, down }, 500..8_000)
            }
            3 => {
                let late = Duration::from_millis(random.u64(5..150));
                ("slow", Wire::Slow { late, bytes_per_s: random.u32(5_000..200_000) }, 1_000..6_000)
            }
            _ => ("reset", Wire::Resetting { after: random.usize(1..6_000) }, 50..1_500),
        }
    }

    /// Sets one clock after the other wrong, and some right again.
    async fn clocks(mut self, clocks: Clocks) {
        while self.rest(1_000..5_000).await {
            let at = self.random.usize(..self.cast.nodes().count());
            let name = self.nodes()[at].name.clone();
            self.fault(journal::CLOCK, &name);
            clocks.step(&name, &mut self.random).expect("the conductor's own files can be written");
            self.rest(500..8_000).await;
            // Others stay wrong through restarts, until they are set again.
            if self.random.bool() {
                clocks.correct(&name).expect("the conductor's own files can be written");
            }
            self.healed(journal::CLOCK, &name, None);
        }
    }

    /// Lets those go who read what nodes log, and what senders print.
    async fn streams(mut self, streams: Arc<Streams>) {
        while self.rest(1_000..6_000).await {
            let (senders, nodes) = (self.cast.senders.len(), self.cast.nodes().count());
            let (stream, what, among) = match self.random.bool() {
                true => (Stream::Output, journal::STDOUT_CLOSED, senders),
                false => (Stream::Error, journal::STDERR_CLOSED, nodes),
            };
            let at = self.random.usize(..among);
            let name = self.nodes()[at].name.clone();
            self.fault(what, &name);
            let closed = streams.close(&name, stream, |run| {
                if stream == Stream::Output {
                    self.journal.note(Event::Close { node: name.clone(), run });
                }
            });
            self.healed(what, &name, Some(closed.into()));
        }
    }

    /// Puts an older copy in the place of the last sender's file: the one whose disk and writes are left alone.
    async fn restores(mut self, stage: Stage) {
        let cast = Arc::clone(&self.cast);
        let sender = cast.senders.last().expect("there are senders");
        for number in 0.. {
            if !self.rest(8_000..20_000).await {
                return;
            }
            let Some(run) = stage.streams.run(&sender.name, Stream::Output) else { continue };
            let copy = stage.folder.join(format!("backup.{number}"));
            match stage.back_up(&sender.name, run, &copy).await {
                Ok(true) => {}
                Ok(false) => continue,
                Err(error) => panic!("a backup could not be asked for: {error:#}"),
            }
            self.rest(100..2_000).await;
            self.fault(journal::RESTORE, &sender.name);
            stage.progress.forget(MOST_FORGOTTEN);
            sender.order(Order::Restore(copy));
            self.healed(journal::RESTORE, &sender.name, None);
        }
    }

    async fn disks(mut self) {
        while self.rest(2_000..9_000).await {
            let cast = Arc::clone(&self.cast);
            let (name, disk) = &cast.disks[self.random.usize(..cast.disks.len())];
            let node =
                cast.nodes().find(|node| node.name == *name).expect("every disk is a node's");
            let process = || u32::try_from(node.process.load(Ordering::Relaxed)).ok();
            self.fault(disk.fault(), name);
            // Refused where more is written at that moment than there would be room for.
            let taken = || matches!(disk.leave(Room::None, process()), Ok(true));
            let filled = (0..TRIES_TO_FILL).any(|_| taken());
            self.rest(300..4_000).await;
            disk.leave(Room::Enough, process()).expect("what was taken can be given back");
            self.healed(disk.fault(), name, Some(filled.into()));
        }
    }
}
