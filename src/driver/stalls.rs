//! Why messages don't move: looked at from time to time and at each change, told once when it begins and once when it ends.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::oneshot;

use super::{Completion, Driver, Timer};
use crate::clock;
use crate::config::Overflow;
use crate::event::{Event, Status};
use crate::message::{ChannelName, NodeId, TopicId};
use crate::protocol::report::About;
use crate::protocol::stalls::{self, News, Snapshot, Standing, Telling, Waiting};
use crate::reason::{Reason, Told};
use crate::store::{Pending, StoreError};
use crate::transport::Transport;

/// Between two looks where nothing changes: what waits is counted anew.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Least time until the next look.
const LOOK_SOON: Duration = Duration::from_millis(250);
/// Refusals of the server that are kept.
const MAX_DENIED: usize = 16;
/// Most reasons in the node's status.
const MAX_SHOWN: usize = 100;

/// What was found at the last look, and what has been told of it.
#[derive(Debug, Default)]
pub(super) struct Stalls {
    telling: Telling,
    /// What the server has refused on this connection.
    pub(super) denied: Vec<String>,
    waiting: Vec<Pending>,
    counting: bool,
    /// Who asked while it was being counted.
    asked: Vec<oneshot::Sender<Vec<Reason>>>,
}

impl<T: Transport> Driver<T> {
    /// The timer's look: counts what waits, and then tells.
    pub(super) fn look_for_stalls(&mut self) {
        self.arm(Timer::Stalls, Some(Instant::now() + LOOK_EVERY));
        self.count_pending();
    }

    pub(super) fn ask_for_reasons(&mut self, reply: oneshot::Sender<Vec<Reason>>) {
        self.stalls.asked.push(reply);
        self.count_pending();
    }

    fn count_pending(&mut self) {
        if !std::mem::replace(&mut self.stalls.counting, true) {
            let answer = self.store.pending();
            self.await_job(answer, Completion::Pending);
        }
    }

    pub(super) fn found_pending(&mut self, pending: Result<Vec<Pending>, StoreError>) {
        self.stalls.counting = false;
        self.take_pending(pending);
        self.tell_stalls();
        let asked = std::mem::take(&mut self.stalls.asked);
        if !asked.is_empty() {
            let reasons = self.reasons();
            for reply in asked {
                let _ = reply.send(reasons.clone());
            }
        }
    }

    fn take_pending(&mut self, pending: Result<Vec<Pending>, StoreError>) {
        // Where the file does not say it, what was found before goes on.
        if let Ok(pending) = pending {
            self.stalls.waiting = pending;
        }
    }

    pub(super) fn denied(&mut self, said: String) {
        let denied = &mut self.stalls.denied;
        if denied.len() < MAX_DENIED && !denied.contains(&said) {
            denied.push(said);
        }
        self.tell_stalls();
    }

    pub(super) fn storage_changed(&mut self, event: Event) {
        self.tell(event);
        self.tell_stalls();
    }

    /// Tells what has begun or ended since the last time.
    pub(super) fn tell_stalls(&mut self) {
        // What stands at the very start is no news yet.
        if self.contact.is_some() && !self.link {
            return;
        }
        let mut reasons = self.reasons();
        let now = Instant::now();
        let all_news = self.stalls.telling.look(now, self.has_no_link(), &reasons);
        reasons.truncate(MAX_SHOWN);
        // Before it is told: whoever hears of it looks there.
        self.status.send_if_modified(|status: &mut Status| {
            let differs = status.reasons != reasons;
            status.reasons = reasons;
            differs
        });
        for news in all_news {
            match news {
                News::Begins(reason) => {
                    tracing::warn!(node = %self.me, "{reason}");
                    self.tell(Event::Stalled { reason });
                }
                News::Ends(reason) => {
                    tracing::warn!(node = %self.me, "{}", reason.over());
                    self.tell(Event::Resumed { reason });
                }
            }
        }
        if let Some(at) = self.stalls.telling.wake_at() {
            let at = at.clamp(now + LOOK_SOON, now + LOOK_EVERY);
            if self.armed.get(&Timer::Stalls).is_none_or(|armed| *armed > at) {
                self.arm(Timer::Stalls, Some(at));
            }
        }
    }

    /// Whether this node looks for a connection: a server that refuses something may be the reason.
    fn has_no_link(&self) -> bool {
        !self.link && !self.peers.has_stood_back()
    }

    fn reasons(&self) -> Vec<Reason> {
        let limit = u64::try_from(self.config.queue_limit.get()).unwrap_or(u64::MAX);
        stalls::reasons(Snapshot {
            node: self.own_reasons(),
            no_link: self.has_no_link(),
            waiting: self.stalls.waiting.iter().map(|pending| self.waiting(pending)).collect(),
            limit: (self.config.overflow == Overflow::Reject).then_some(limit),
        })
    }

    /// For a report, with what waits now; and how many more there are.
    pub(super) fn told_reasons(
        &mut self,
        pending: Result<Vec<Pending>, StoreError>,
        about: Option<&About>,
    ) -> (Vec<Told>, u64) {
        self.take_pending(pending);
        let mut reasons = self.reasons();
        if let Some(about) = about {
            stalls::keep_about(&mut reasons, about);
        }
        let left = reasons.len().saturating_sub(MAX_SHOWN);
        (reasons.iter().take(MAX_SHOWN).map(Told::from).collect(), left as u64)
    }

    /// What hinders this node itself.
    fn own_reasons(&self) -> Vec<Reason> {
        let link = self.status.borrow().link.reason();
        // What it refuses, where there is no connection because of that, comes below with all else that it does.
        let is_below = |it: &Reason| it.is_of_the_server() && !self.stalls.denied.is_empty();
        let mut reasons: Vec<Reason> = link.filter(|it| !is_below(it)).into_iter().collect();
        reasons.extend(self.store.reasons());
        reasons.extend(self.admin.closed().reasons());
        let mut refused: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for said in &self.stalls.denied {
            refused.entry(Reason::refused(said.clone()).name()).or_default().push(said);
        }
        reasons.extend(refused.into_values().map(|alike| Reason::refused(alike.join("; "))));
        let leadership = self.leadership.as_ref();
        reasons.extend(leadership.and_then(|it| it.stall(clock::now(), &self.peers)));
        reasons.extend(self.laggards.near().cloned());
        // A clock that was never set says nothing.
        let clock = Reason::of_clock(SystemTime::now()).or_else(|| self.store.clock_reason());
        reasons.extend(clock);
        let deaf = self.peers.deaf();
        reasons.extend(deaf.map(|channel| Reason::PausedHere { channel: channel.clone() }));
        reasons
    }

    fn waiting(&self, pending: &Pending) -> Waiting {
        let Pending { receiver, topic, channel, count } = pending.clone();
        let standing = match &receiver {
            Some(receiver) => self.standing(receiver, topic, &channel),
            None => Standing::Moving,
        };
        Waiting { receiver, channel, pending: count, standing }
    }

    fn standing(&self, receiver: &NodeId, topic: TopicId, channel: &ChannelName) -> Standing {
        let hindrance = self.peers.hindrance(self.store.now_ms(), receiver, channel);
        hindrance.unwrap_or_else(|| self.outbound.standing(receiver, topic))
    }
}
