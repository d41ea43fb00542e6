//! P5 and P6: what a process does at its start, after it stood still, and when it stops; and what it says of why messages don't move.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use waypost::Reason;
use waypost::protocol::membership::PROBE;
use waypost::protocol::stalls::News;

/// A process that stood still, and has not heard its own word since then.
#[derive(Debug)]
struct Doubt {
    /// By its machine's clock.
    since: Duration,
    /// The number of its first keepalive since then.
    first_word: Option<u64>,
}

/// What one process has said of why messages don't move.
#[derive(Debug, Default)]
struct Said {
    shown: Vec<Reason>,
    /// Told to begin, and not to end.
    begun: Vec<Reason>,
}

/// By node, of the process that runs.
#[derive(Debug, Default)]
pub(crate) struct Lives {
    starting: BTreeSet<usize>,
    /// Since when they have a connection, or had their first one.
    linked: BTreeMap<usize, Duration>,
    /// Their own word has come back.
    echoed: BTreeSet<usize>,
    doubts: BTreeMap<usize, Doubt>,
    /// By when they have to have stopped, by their machine's clock.
    stops: BTreeMap<usize, Duration>,
    /// They have said goodbye.
    gone: BTreeSet<usize>,
    closed: BTreeSet<usize>,
    said: BTreeMap<usize, Said>,
}

impl Lives {
    pub(crate) fn begins(&mut self, node: usize) {
        self.starting.insert(node);
    }

    pub(crate) fn links(&mut self, node: usize, now: Duration) {
        self.linked.entry(node).or_insert(now);
    }

    /// Its start returns. Where it has a connection, others have heard it before that and could object, or it has waited for that.
    pub(crate) fn started(&mut self, node: usize, link: bool, now: Duration) -> Result<(), String> {
        self.starting.remove(&node);
        let waited = self.linked.get(&node).is_some_and(|since| *since + PROBE <= now);
        match !link || waited || self.echoed.contains(&node) {
            true => Ok(()),
            false => Err("its start returns, and nobody had the time to object".to_owned()),
        }
    }

    pub(crate) fn is_starting(&self, node: usize) -> bool {
        self.starting.contains(&node)
    }

    pub(super) fn process_ended(&mut self, node: usize) {
        self.starting.remove(&node);
        self.linked.remove(&node);
        self.echoed.remove(&node);
        self.doubts.remove(&node);
        self.stops.remove(&node);
        self.gone.remove(&node);
        self.closed.remove(&node);
        self.said.remove(&node);
    }

    /// It stood still until now, and had a connection: another may have taken its place.
    pub(crate) fn stood_still(&mut self, node: usize, since: Duration) {
        self.doubts.insert(node, Doubt { since, first_word: None });
    }

    /// It broadcasts a keepalive with this number.
    pub(crate) fn speaks(&mut self, node: usize, number: u64) {
        if let Some(doubt) = self.doubts.get_mut(&node) {
            doubt.first_word.get_or_insert(number);
        }
    }

    /// This keepalive of its own has come back.
    pub(crate) fn hears_itself(&mut self, node: usize, number: u64) {
        self.echoed.insert(node);
        self.doubts.remove_if(node, |doubt| doubt.first_word.is_some_and(|it| number >= it));
    }

    /// Whoever has no connection has nobody to ask.
    pub(crate) fn loses_link(&mut self, node: usize) {
        self.doubts.remove(&node);
    }

    /// A handler is called.
    pub(crate) fn handles(&mut self, node: usize, now: Duration) -> Result<(), String> {
        self.doubts.remove_if(node, |doubt| doubt.since + PROBE <= now);
        match self.doubts.get(&node) {
            Some(Doubt { since, .. }) => Err(format!(
                "it stood still until {since:?}, and does not know yet whether another has taken its place"
            )),
            None => Ok(()),
        }
    }

    pub(crate) fn stops(&mut self, node: usize, by: Duration) {
        self.stops.entry(node).or_insert(by);
    }

    /// Whether it should have stopped, at this time by its machine's clock.
    pub(crate) fn is_overdue(&self, node: usize, now: Duration) -> bool {
        self.stops.get(&node).is_some_and(|by| *by <= now)
    }

    pub(crate) fn says_goodbye(&mut self, node: usize) {
        self.gone.insert(node);
    }

    pub(crate) fn is_gone(&self, node: usize) -> bool {
        self.gone.contains(&node)
    }

    /// It closes its file.
    pub(crate) fn closes(&mut self, node: usize) {
        self.closed.insert(node);
    }

    /// It has done all that belongs to an orderly end.
    pub(crate) fn ends_in_order(&self, node: usize) -> Result<(), String> {
        match self.gone.contains(&node) && self.closed.contains(&node) {
            true => Ok(()),
            false => Err("it stops without a goodbye".to_owned()),
        }
    }

    /// Its status shows these from now on. `link`, `denied`: whether it has a connection, and whether something is refused there.
    pub(crate) fn shows(
        &mut self,
        node: usize,
        (link, denied): (bool, bool),
        reasons: Vec<Reason>,
    ) -> Result<(), String> {
        let cut_off = reasons.iter().any(|it| matches!(it, Reason::NoServer { .. }));
        let twice = |(at, it): (usize, &Reason)| {
            reasons[..at].iter().any(|other| it.is_about_the_same(other))
        };
        if reasons.iter().enumerate().any(twice) {
            return Err(format!("it shows a reason twice: {reasons:?}"));
        }
        if cut_off == link {
            return Err(format!("its connection is there ({link}), and it shows {reasons:?}"));
        }
        if denied != reasons.iter().any(|it| matches!(it, Reason::Denied { .. })) {
            return Err(format!(
                "its server refuses something ({denied}), and it shows {reasons:?}"
            ));
        }
        let said = self.said.entry(node).or_default();
        said.shown = reasons;
        if cut_off {
            // One reason for which there is no connection has become another, and its end is not told.
            said.begun.retain(|it| !matches!(it, Reason::Denied { .. }));
        }
        Ok(())
    }

    pub(crate) fn tells(&mut self, node: usize, news: &News) -> Result<(), String> {
        let Said { shown, begun } = self.said.entry(node).or_default();
        let has = |all: &[Reason], it: &Reason| all.iter().any(|other| it.is_about_the_same(other));
        match news {
            News::Begins(reason) if has(begun, reason) => {
                Err(format!("it tells twice that this begins: {reason:?}"))
            }
            News::Begins(reason) if !has(shown, reason) => {
                Err(format!("it tells what it does not show: {reason:?}"))
            }
            News::Begins(reason) => {
                begun.push(reason.clone());
                Ok(())
            }
            News::Ends(reason) if !has(begun, reason) => {
                Err(format!("it tells the end of what never began: {reason:?}"))
            }
            News::Ends(reason) if has(shown, reason) => {
                Err(format!("it tells the end of what it shows: {reason:?}"))
            }
            News::Ends(reason) => {
                begun.retain(|other| !reason.is_about_the_same(other));
                Ok(())
            }
        }
    }

    /// A mark of a limit is told where it is shown.
    pub(crate) fn tells_of_limit(&self, node: usize, reason: &Reason) -> Result<(), String> {
        let said = self.said.get(&node);
        match said.is_some_and(|it| it.shown.iter().any(|other| reason.is_about_the_same(other))) {
            true => Ok(()),
            false => Err(format!("it tells of a limit, and does not show it: {reason:?}")),
        }
    }

    /// A reason that holds although nothing is in anybody's way any more; but for a clock that is wrong and a server that refuses something.
    pub(crate) fn holds(&self) -> Option<(usize, &Reason)> {
        let is_left =
            |it: &&Reason| !matches!(it, Reason::ClockWrong { .. } | Reason::Denied { .. });
        let mut all = self.said.iter().flat_map(|(node, said)| {
            said.shown.iter().chain(&said.begun).map(move |reason| (*node, reason))
        });
        all.find(|(_, reason)| is_left(reason))
    }
}

trait RemoveIf<V> {
    fn remove_if(&mut self, key: usize, is: impl FnOnce(&V) -> bool);
}

impl<V> RemoveIf<V> for BTreeMap<usize, V> {
    fn remove_if(&mut self, key: usize, is: impl FnOnce(&V) -> bool) {
        if self.get(&key).is_some_and(is) {
            self.remove(&key);
        }
    }
}
