//! What a node looks at from time to time, put together: why messages don't move ([`stalls`]), who is furthest behind near a limit
//! ([`laggard`](super::laggard)), and what expires before any reader is known ([`lapse`](super::lapse)). When each is looked at, and what is
//! told of it, is decided here and comes out as [`Effect`]s, which the shell performs in their order. What the store finds comes back by
//! [`Looks::counted`], [`Looks::measured`] and [`Looks::expired`].

use std::time::{Duration, Instant, SystemTime};

use super::admin::Closed;
use super::lapse::Lapses;
use super::leadership::Leadership;
use super::peers::Peers;
use super::report::About;
use super::stalls::{self, News, Snapshot, Standing, Telling, Waiting};
use super::{Now, TopicId};
use crate::condition::{LimitNear, Link};
use crate::message::{ChannelName, NodeId};
use crate::reason::{Reason, Told};

mod behind;

use behind::Behind;
pub use behind::Filled;

/// Between two looks where nothing changes: what waits is counted anew.
pub const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Least time until the next look.
const LOOK_SOON: Duration = Duration::from_millis(250);
/// Refusals of the server that are kept.
const MAX_DENIED: usize = 16;
/// Most reasons in the node's status, and in a report.
const MAX_SHOWN: usize = 100;

/// What is to be done, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// What waits is to be counted; then [`Looks::counted`].
    Count,
    /// What waits for whom, and how full the files are, is to be found out, once what is settled is on its way there; then [`Looks::measured`].
    Measure,
    /// What has expired before it had a reader is to be ended in the file; then [`Looks::expired`].
    Expire,
    /// The reasons that the node's status shows from now on. Before any of them is told: whoever hears of it looks there.
    Show(Vec<Reason>),
    /// For the node's monitors and its log.
    Tell(News),
    /// The same: what waits, or the files, have reached a mark of a limit.
    Near(LimitNear),
    /// For all who asked since the last answer.
    Answer(Vec<Reason>),
    /// When to say [`Looks::woke`].
    WakeAt(Option<Instant>),
}

/// What waits in one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// `None`: for a first reader, yet to come.
    pub receiver: Option<NodeId>,
    pub topic: TopicId,
    pub channel: ChannelName,
    pub count: u64,
}

/// How many messages may wait for one receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub queue: u64,
    /// Whether what goes beyond is refused, rather than taking the place of what is older.
    pub rejects: bool,
}

/// What is around it: looked at, or added to.
pub struct Around<'a> {
    pub now: Now,
    /// The time by a clock that goes on while the machine is suspended.
    pub counted: Instant,
    pub wall: SystemTime,
    /// Whether the node's start has not returned yet.
    pub starting: bool,
    /// Whether there is a connection.
    pub link: bool,
    /// How it is shown.
    pub connection: &'a Link,
    /// What hinders the file.
    pub file: &'a dyn Fn() -> Vec<Reason>,
    /// Whether the wall clock is far from what is known to have passed.
    pub apart: &'a dyn Fn() -> Option<Reason>,
    pub closed: &'a Closed,
    pub peers: &'a Peers,
    pub leadership: Option<&'a Leadership>,
    /// How it is with a receiver's messages of a topic, as far as sending knows.
    pub standing: &'a dyn Fn(&NodeId, TopicId) -> Standing,
    pub out: &'a mut Vec<Effect>,
}

impl Around<'_> {
    /// What stands at the very start is no news yet, and is neither shown nor told.
    fn is_too_early(&self) -> bool {
        self.starting && !self.link
    }

    /// Whether this node looks for a connection: a server that refuses something may be the reason.
    fn has_no_link(&self) -> bool {
        !self.link && !self.peers.has_stood_back()
    }
}

#[derive(Debug)]
pub struct Looks {
    limits: Limits,
    telling: Telling,
    /// As last shown.
    shown: Vec<Reason>,
    /// What the server has refused on this connection.
    denied: Vec<String>,
    /// As last counted.
    waiting: Vec<Pending>,
    /// When to count what waits, and to look.
    look_at: Option<Instant>,
    counting: bool,
    /// Whether somebody asks for what is being counted.
    asked: bool,
    behind: Behind,
    lapses: Lapses,
}

impl Looks {
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            telling: Telling::default(),
            shown: Vec::new(),
            denied: Vec::new(),
            waiting: Vec::new(),
            look_at: None,
            counting: false,
            asked: false,
            behind: Behind::default(),
            lapses: Lapses::default(),
        }
    }

    /// So much waits for each of these at the start, in one topic or another.
    pub fn restored<'a>(&mut self, now: Instant, pending: impl Iterator<Item = (&'a NodeId, u64)>) {
        self.behind.restored(now, self.limits.queue, pending);
    }

    /// The first look.
    pub fn start(&mut self, around: &mut Around<'_>) {
        self.look(around);
        self.wake(around);
    }

    /// The time has come that [`Effect::WakeAt`] named.
    pub fn woke(&mut self, around: &mut Around<'_>) {
        let now = around.now.mono;
        if self.look_at.is_some_and(|at| at <= now) {
            self.look(around);
        }
        if !around.is_too_early() && self.behind.is_due(now) {
            around.out.push(Effect::Measure);
        }
        if self.lapses.wake_at(around.now).is_some_and(|at| at <= now) {
            self.lapses.begin();
            around.out.push(Effect::Expire);
        }
        self.wake(around);
    }

    fn look(&mut self, around: &mut Around<'_>) {
        self.look_at = Some(around.now.mono + LOOK_EVERY);
        self.count(around);
    }

    fn count(&mut self, around: &mut Around<'_>) {
        if !std::mem::replace(&mut self.counting, true) {
            around.out.push(Effect::Count);
        }
    }

    /// Somebody wants all reasons, looked at anew: [`Effect::Answer`].
    pub fn ask(&mut self, around: &mut Around<'_>) {
        self.asked = true;
        self.count(around);
    }

    /// What waits has been counted, if the file could say it.
    pub fn counted(&mut self, around: &mut Around<'_>, pending: Option<Vec<Pending>>) {
        self.counting = false;
        self.take(pending);
        self.tell(around);
        if std::mem::take(&mut self.asked) {
            around.out.push(Effect::Answer(self.reasons(around)));
        }
    }

    fn take(&mut self, pending: Option<Vec<Pending>>) {
        // Where the file does not say it, what was found before goes on.
        if let Some(pending) = pending {
            self.waiting = pending;
        }
    }

    /// There is a connection, on which the server has refused this. To be told with [`tell`](Self::tell).
    pub fn link_up(&mut self, denied: Vec<String>) {
        self.denied = denied;
    }

    /// The connection is gone, and with it what was said of it.
    pub fn link_down(&mut self) {
        self.denied.clear();
    }

    /// The server has refused something.
    pub fn denied(&mut self, around: &mut Around<'_>, said: String) {
        if self.denied.len() < MAX_DENIED && !self.denied.contains(&said) {
            self.denied.push(said);
        }
        self.tell(around);
    }

    /// Shows and tells what has begun or ended since the last time, as it is to be after each change of the connection or of the file.
    pub fn tell(&mut self, around: &mut Around<'_>) {
        if around.is_too_early() {
            return;
        }
        let mut reasons = self.reasons(around);
        let now = around.now.mono;
        let all_news = self.telling.look(now, around.has_no_link(), &reasons);
        reasons.truncate(MAX_SHOWN);
        if reasons != self.shown {
            self.shown.clone_from(&reasons);
            around.out.push(Effect::Show(reasons));
        }
        around.out.extend(all_news.into_iter().map(Effect::Tell));
        if let Some(at) = self.telling.wake_at() {
            let at = at.clamp(now + LOOK_SOON, now + LOOK_EVERY);
            self.look_at = Some(self.look_at.map_or(at, |before| before.min(at)));
        }
        self.wake(around);
    }

    /// For a report, with what waits now; and how many more there are.
    pub fn report(
        &mut self,
        around: &mut Around<'_>,
        pending: Option<Vec<Pending>>,
        about: Option<&About>,
    ) -> (Vec<Told>, u64) {
        self.take(pending);
        let mut reasons = self.reasons(around);
        if let Some(about) = about {
            stalls::keep_about(&mut reasons, about);
        }
        let left = reasons.len().saturating_sub(MAX_SHOWN);
        (reasons.iter().take(MAX_SHOWN).map(Told::from).collect(), left as u64)
    }

    fn reasons(&self, around: &Around<'_>) -> Vec<Reason> {
        stalls::reasons(Snapshot {
            node: self.own_reasons(around),
            no_link: around.has_no_link(),
            waiting: self.waiting.iter().map(|pending| waiting(around, pending)).collect(),
            limit: self.limits.rejects.then_some(self.limits.queue),
        })
    }

    /// What hinders this node itself.
    fn own_reasons(&self, around: &Around<'_>) -> Vec<Reason> {
        let link = around.connection.reason();
        // What it refuses, where there is no connection because of that, comes below with all else that it does.
        let is_below = |it: &Reason| it.is_of_the_server() && !self.denied.is_empty();
        let mut reasons: Vec<Reason> = link.filter(|it| !is_below(it)).into_iter().collect();
        reasons.extend((around.file)());
        reasons.extend(around.closed.reasons());
        reasons.extend(stalls::refusals(&self.denied));
        let leadership = around.leadership;
        reasons.extend(leadership.and_then(|it| it.stall(around.counted, around.peers)));
        reasons.extend(self.behind.near().cloned());
        // A clock that was never set says nothing.
        reasons.extend(Reason::of_clock(around.wall).or_else(around.apart));
        let deaf = around.peers.deaf();
        reasons.extend(deaf.map(|channel| Reason::PausedHere { channel: channel.clone() }));
        reasons
    }

    /// What waits for somebody, or the files, may have reached a mark.
    pub fn filling(&mut self, around: &mut Around<'_>) {
        self.behind.look_soon(around.now.mono);
        self.wake(around);
    }

    /// What waits for whom, and how full the files are; none where the file did not say it.
    pub fn measured(&mut self, around: &mut Around<'_>, found: Option<Filled>) {
        let near = self.behind.measured(around.now, self.limits.queue, found);
        self.tell(around);
        around.out.extend(near.into_iter().map(Effect::Near));
        self.wake(around);
    }

    /// A message that waits for a first reader may expire at this file time, and none before it.
    pub fn unclaimed_expires(&mut self, around: &mut Around<'_>, at_ms: u64) {
        self.lapses.expires(at_ms);
        self.wake(around);
    }

    /// What expired without a reader has ended, in so much time, and the next does at this file time; or the file failed.
    pub fn expired(
        &mut self,
        around: &mut Around<'_>,
        took: Duration,
        next_ms: Result<Option<u64>, ()>,
    ) {
        match next_ms {
            Ok(next_ms) => self.lapses.looked(around.now.mono, took, next_ms),
            Err(()) => self.lapses.failed(around.now.mono),
        }
        self.wake(around);
    }

    /// Says when to look next. File time goes on while the machine is suspended, and timers do not: to be said after that.
    pub fn wake(&mut self, around: &mut Around<'_>) {
        let behind = self.behind.wake_at().filter(|_| !around.is_too_early());
        let times = [self.look_at, behind, self.lapses.wake_at(around.now)];
        around.out.push(Effect::WakeAt(times.into_iter().flatten().min()));
    }
}

fn waiting(around: &Around<'_>, pending: &Pending) -> Waiting {
    let Pending { receiver, topic, channel, count } = pending.clone();
    let standing = receiver.as_ref().map_or(Standing::Moving, |receiver| {
        let hindrance = around.peers.hindrance(around.now.file_ms, receiver, &channel);
        hindrance.unwrap_or_else(|| (around.standing)(receiver, topic))
    });
    Waiting { receiver, channel, pending: count, standing }
}

#[cfg(test)]
mod tests;
