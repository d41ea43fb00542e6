//! Two live nodes with one name: whoever came second stands back.
//!
//! A newcomer is told by the one that was there first. Where that one stood still meanwhile, both go on at first: the newcomer
//! stands back for as long as its peers would still take the other for online, and after that it is the other one that stands back. A node
//! that stood still finds out before it handles anything: what was said under its name in the meantime lies before its own echo.
//!
//! Beyond the first two seconds the word of a rival counts only once it has answered a question on our own subject. Whoever can do that can
//! receive our messages and answer them as well.

use std::time::{Duration, Instant};

use super::{Action, Membership};
use crate::protocol::frame::Keepalive;

/// How long after first coming up an older node of our name is believed to be the rightful one.
pub const PROBE: Duration = Duration::from_secs(2);
/// Ages that differ by less are taken for equal: more than a frame is under way. Shorter than `PROBE`, so that of two that are
/// about as old both still probe.
pub(super) const SAME_AGE: Duration = Duration::from_secs(1);
/// How long a rival has for its answer, and to stand back once it was told.
const ANSWER: Duration = Duration::from_secs(1);

/// A node that stood still, and does not know yet whether another has taken its place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Doubt {
    /// What was said up to this keepalive was said before.
    spoken: u64,
    /// It goes on by then, whatever it has heard.
    pub(super) until: Instant,
    /// Somebody spoke under our name: our echo is not enough.
    rival: bool,
}

/// A question to whoever else has our name.
#[derive(Debug, Clone, Copy)]
pub(super) struct Challenge {
    nonce: u64,
    asked: Instant,
}

impl Membership {
    /// Whether messages have to wait: this node stood still, and does not know yet whether it is still the only one of its name.
    pub fn is_in_doubt(&self) -> bool {
        self.doubt.is_some()
    }

    /// Until when an older node of our name has time to object to a start. None until our own first word came back: until then the
    /// older one has not heard it either. As slow as we are, it may be too, up to a limit: whoever stood still meanwhile is not slow.
    pub fn objects_until(&self, least: Duration) -> Option<Instant> {
        let (first_up, back) = (self.first_up?, self.first_echo?);
        let took = back.saturating_duration_since(first_up).min(PROBE);
        Some(back + least.max(took * 2))
    }

    pub(super) fn begin_to_doubt(&mut self, now: Instant, spoken: u64) {
        if self.up_since.is_some() {
            self.doubt = Some(Doubt { spoken, until: now + PROBE, rival: false });
            self.beat_soon(now);
        }
    }

    pub(super) fn end_doubt_in_time(&mut self, now: Instant) {
        if self.up_since.is_none() || self.doubt.is_some_and(|doubt| doubt.until <= now) {
            self.doubt = None;
        }
    }

    /// A keepalive under our own name: our own, come back, or that of another node.
    pub(super) fn own_name(&mut self, now: Instant, keepalive: &Keepalive, out: &mut Vec<Action>) {
        if keepalive.incarnation == self.incarnation {
            return self.echo(now, keepalive);
        }
        if keepalive.goodbye {
            return;
        }
        // Only a node that speaks of us is surely alive: a keepalive can come late, from a run of ours that has ended.
        if keepalive.rival == Some(self.incarnation) {
            let older = self.is_older_than(now, keepalive);
            self.tell_of_rival(keepalive, self.is_probing(now) && !older, out);
            if !older && !self.is_probing(now) && self.is_young(now) {
                self.challenge(now, out);
            }
            if older {
                // It heard of us before we heard of it, and stands back only for one that speaks of it.
                self.speak_up(now, keepalive);
            }
        } else {
            self.speak_up(now, keepalive);
        }
        if let Some(doubt) = &mut self.doubt {
            doubt.rival = true;
        }
        if self.is_back(now) {
            self.challenge(now, out);
        }
    }

    /// Another node of our name has answered our question.
    pub(super) fn rival_answered(
        &mut self,
        now: Instant,
        nonce: u64,
        keepalive: &Keepalive,
        out: &mut Vec<Action>,
    ) {
        let in_time = |it: &Challenge| it.nonce == nonce && now < it.asked + ANSWER;
        if keepalive.incarnation == self.incarnation
            || self.challenge.take_if(|it| in_time(it)).is_none()
        {
            return;
        }
        if !self.is_older_than(now, keepalive) {
            // As long as it may have stood still. An established node gives way to nobody; the other finds out by itself.
            return self.tell_of_rival(keepalive, self.is_young(now), out);
        }
        if !self.is_back(now) {
            return;
        }
        // Everybody took us for gone, and it has taken our place.
        let replaced = Duration::from_millis(keepalive.uptime_ms) >= self.limits.offline_after;
        self.tell_of_rival(keepalive, replaced, out);
        if !replaced {
            if let Some(doubt) = &mut self.doubt {
                doubt.until = now + ANSWER;
            }
            self.speak_up(now, keepalive);
        }
    }

    /// Our own word came back. Whatever the server had for us before is read by now.
    fn echo(&mut self, now: Instant, keepalive: &Keepalive) {
        self.first_echo.get_or_insert(now);
        if self.doubt.is_some_and(|it| !it.rival && keepalive.counter > it.spoken) {
            self.doubt = None;
        }
    }

    /// Asks whoever else has our name to answer on our own subject. Not without a link, where it could not leave and would count as asked.
    fn challenge(&mut self, now: Instant, out: &mut Vec<Action>) {
        if self.up_since.is_none() || self.challenge.is_some_and(|it| now < it.asked + ANSWER) {
            return;
        }
        let nonce = self.jitter.draw();
        self.challenge = Some(Challenge { nonce, asked: now });
        out.push(Action::Hello { to: self.me.clone(), nonce });
    }

    fn tell_of_rival(&self, keepalive: &Keepalive, stop: bool, out: &mut Vec<Action>) {
        let (host, incarnation) = (keepalive.host.clone(), keepalive.incarnation);
        out.push(Action::Conflict { host, incarnation, stop });
    }

    fn speak_up(&mut self, now: Instant, keepalive: &Keepalive) {
        self.rival = Some(keepalive.incarnation);
        self.beat_soon(now);
    }

    /// Whether this node has just started.
    pub fn is_probing(&self, now: Instant) -> bool {
        self.first_up.is_some_and(|up| now < up + PROBE)
    }

    /// Whether this node stood still or was cut off until now, so that another may have taken its place.
    fn is_back(&self, now: Instant) -> bool {
        self.doubt.is_some()
            || self.up_since != self.first_up && self.up_since.is_some_and(|up| now < up + PROBE)
    }

    /// Whether one that was there before us may have stood still until now without being taken for offline.
    fn is_young(&self, now: Instant) -> bool {
        let youth = self.limits.offline_after.max(PROBE);
        self.first_up.is_some_and(|up| now < up + youth)
    }

    /// Which of two nodes with one name came first. Both must come to the same answer, so ages that a slow network could have mixed up
    /// do not decide.
    fn is_older_than(&self, now: Instant, other: &Keepalive) -> bool {
        let mine = now.saturating_duration_since(self.started);
        let theirs = Duration::from_millis(other.uptime_ms);
        if mine.abs_diff(theirs) < SAME_AGE {
            self.incarnation < other.incarnation
        } else {
            mine > theirs
        }
    }
}
