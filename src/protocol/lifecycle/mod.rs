//! A node's life, put together: when its start returns, whether its process stood still, what is done once a minute, and a stop from its
//! first step to its last. What is decided comes out as [`Effect`]s, which the shell performs in their order.
//!
//! Before each input the shell asks [`Lifecycle::is_late`], and says [`Lifecycle::look`] where it is so: another node may have taken this one's
//! place meanwhile. After each input it asks [`Lifecycle::is_over`], and then does what [`Lifecycle::end`] says.

use std::time::{Duration, Instant};

use super::Now;
use super::life::NOTE_ALONE_MS;
use super::peers::Peers;
use crate::message::Incarnation;

mod stop;

pub use stop::{Begin, End, Last, Offline};

/// How long a start waits for the server, and for another node with our id to object.
pub const CONTACT: Duration = Duration::from_secs(1);
pub const OBJECTION: Duration = Duration::from_millis(150);
/// How often a node looks whether it stood still, and by how much it is then late. A newcomer of its name takes about as long as both to begin.
pub const LOOK: Duration = Duration::from_millis(500);

/// Whether what was decided at that time needs another look before anything begins by it: the process may have stood still since. By a clock that goes on
/// while the machine is suspended.
pub fn may_have_stood_still(since: Instant, counted: Instant) -> bool {
    counted > since + LOOK
}

/// How often the wall clock is looked at, and whether the machine was suspended.
const WATCH_CLOCK: Duration = Duration::from_secs(60);
/// Both clocks never differ by so much while the machine is awake.
const SUSPENDED: Duration = Duration::from_secs(1);
/// How often it is noted when peers were last heard. Together with the clock, in one commit: an idle node must not wear out a memory card.
const NOTE_PEERS: Duration = Duration::from_millis(NOTE_ALONE_MS);
/// The first clean-up comes early: a node that runs for minutes at a time has to clean up too.
const CLEAN_UP_FIRST: Duration = Duration::from_secs(60);

/// What is to be done, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// The node's start returns.
    Started(Result<(), Rival>),
    /// The process stood still until now. The membership is to hear of it, and asks whether another has taken this node's place.
    StoodStill,
    /// Until that is known nothing is handled: the inbox is to give back what has not begun.
    Doubt,
    /// The machine was suspended for so long. Timers stood still meanwhile, and what expires did not: deliveries and looks wake up.
    Suspended(Duration),
    /// What has changed of all peers is to be brought into the file: see [`Peers::note`].
    NotePeers,
    /// The file's clock is to be looked at, and to be noted where that is due.
    LookAtClock,
    /// What is old is to be deleted from the file; then [`Lifecycle::cleaned`].
    CleanUp,
    /// The node begins to stop.
    Begin(Begin),
    /// When to say [`Lifecycle::woke`].
    WakeAt(Option<Instant>),
}

/// Another node of our name, which was there first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rival {
    pub host: String,
    pub incarnation: Incarnation,
}

/// What is around it: looked at, or added to.
pub struct Around<'a> {
    pub now: Now,
    /// The time by a clock that goes on while the machine is suspended, which `now.mono` need not do.
    pub counted: Instant,
    /// Whether there is a connection.
    pub link: bool,
    pub peers: &'a Peers,
    pub out: &'a mut Vec<Effect>,
}

/// A node that has been told to stop.
#[derive(Debug)]
struct Stopping {
    /// Whatever is not done by then is cut short; `None`: that time never comes.
    by: Option<Instant>,
    /// Another is master, or nobody could take over, or this node never was.
    handed_over: bool,
}

#[derive(Debug)]
pub struct Lifecycle {
    /// The start has not returned yet.
    starting: bool,
    /// When to look whether it can.
    contact_at: Option<Instant>,
    /// When to look next whether this process stood still, while there is a connection.
    look_at: Option<Instant>,
    /// By when that is to have happened, and half a second later at the latest, by [`Around::counted`].
    look_by: Instant,
    clock_at: Instant,
    /// By both clocks, when they were compared last.
    compared: (Instant, Instant),
    peers_noted: Instant,
    cleanup_interval: Duration,
    /// `None` while it is being done.
    clean_up_at: Option<Instant>,
    stopping: Option<Stopping>,
}

impl Lifecycle {
    /// Of a node that starts now, by both clocks: see [`Around::counted`].
    pub fn new(cleanup_interval: Duration, now: Instant, counted: Instant) -> Self {
        Self {
            starting: true,
            contact_at: Some(now + CONTACT),
            look_at: None,
            look_by: counted,
            clock_at: now + WATCH_CLOCK,
            compared: (now, counted),
            peers_noted: now,
            cleanup_interval,
            clean_up_at: Some(now + cleanup_interval.min(CLEAN_UP_FIRST)),
            stopping: None,
        }
    }

    /// It is to be woken from now on.
    pub fn start(&mut self, around: &mut Around<'_>) {
        self.wake(around);
    }

    /// Whether the start has not returned yet.
    pub fn is_starting(&self) -> bool {
        self.starting
    }

    /// Whether this process stood still until just now, by a clock that goes on while the machine is suspended.
    pub fn is_late(&self, counted: Instant) -> bool {
        counted > self.look_by + LOOK
    }

    /// Looks whether this process stood still. Frozen or suspended, we would not notice that another node has taken our place.
    pub fn look(&mut self, around: &mut Around<'_>) {
        self.look_around(around);
        self.wake(around);
    }

    fn look_around(&mut self, around: &mut Around<'_>) {
        let stood_still = self.is_late(around.counted);
        self.look_again(around);
        // Without a connection nobody could have spoken to us, and the next one begins with a doubt of its own.
        if stood_still && around.link {
            around.out.extend([Effect::StoodStill, Effect::Doubt]);
        }
    }

    fn look_again(&mut self, around: &Around<'_>) {
        self.look_by = around.counted + LOOK;
        self.look_at = around.link.then(|| around.now.mono + LOOK);
    }

    /// There is a connection, or another one; said before the membership hears of it.
    pub fn link_up(&mut self, around: &mut Around<'_>) {
        self.look_again(around);
        if self.starting {
            self.contact_at = Some(around.now.mono + OBJECTION);
        }
        self.wake(around);
    }

    /// The connection is lost, or could not be made: a start does not wait for it.
    pub fn link_down(&mut self, around: &mut Around<'_>) {
        self.started(around, Ok(()));
        self.wake(around);
    }

    /// This node has stood back for another of its name.
    pub fn stood_back(&mut self, around: &mut Around<'_>, rival: Rival) {
        self.started(around, Err(rival));
        self.wake(around);
    }

    fn started(&mut self, around: &mut Around<'_>, result: Result<(), Rival>) {
        if std::mem::take(&mut self.starting) {
            self.contact_at = None;
            around.out.push(Effect::Started(result));
        }
    }

    /// The time has come that [`Effect::WakeAt`] named.
    pub fn woke(&mut self, around: &mut Around<'_>) {
        let now = around.now.mono;
        let is_due = |at: &mut Instant| *at <= now;
        if self.contact_at.take_if(is_due).is_some() {
            self.look_for_objections(around);
        }
        if self.look_at.take_if(is_due).is_some() {
            self.look_around(around);
        }
        if self.clock_at <= now {
            self.watch_clock(around);
        }
        if self.clean_up_at.take_if(is_due).is_some() {
            around.out.push(Effect::CleanUp);
        }
        self.wake(around);
    }

    /// Lets the start return, once a node with our id has had the time to object.
    fn look_for_objections(&mut self, around: &mut Around<'_>) {
        let objects_until = || around.peers.objects_until(around.now.mono, OBJECTION);
        self.contact_at = around.link.then(objects_until).flatten();
        if self.contact_at.is_none() {
            self.started(around, Ok(()));
        }
    }

    /// Timers stand still while the machine is suspended, and what expires doesn't.
    fn watch_clock(&mut self, around: &mut Around<'_>) {
        let (now, counted) = (around.now.mono, around.counted);
        let (before, counted_before) = self.compared;
        let awake = now.saturating_duration_since(before);
        let all = counted.saturating_duration_since(counted_before);
        self.compared = (now, counted);
        if all > awake + SUSPENDED {
            around.out.push(Effect::Suspended(all - awake));
        }
        let is_due = now.saturating_duration_since(self.peers_noted) >= NOTE_PEERS;
        if is_due || around.peers.forgets_soon(around.now) {
            self.peers_noted = now;
            around.out.push(Effect::NotePeers);
        }
        around.out.push(Effect::LookAtClock);
        self.clock_at = now + WATCH_CLOCK;
    }

    /// The file has been cleaned up, or failed at it.
    pub fn cleaned(&mut self, around: &mut Around<'_>) {
        self.clean_up_at = around.now.mono.checked_add(self.cleanup_interval);
        self.wake(around);
    }

    fn wake(&self, around: &mut Around<'_>) {
        let by = self.stopping.as_ref().and_then(|stopping| stopping.by);
        let times = [self.contact_at, self.look_at, Some(self.clock_at), self.clean_up_at, by];
        // A stop whose time is over has ended, or is about to.
        around.out.push(Effect::WakeAt(times.into_iter().flatten().min()));
    }
}

#[cfg(test)]
mod tests;
