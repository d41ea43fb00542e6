//! Who is furthest behind when what waits comes near a limit, and when that is to be told: once at each mark, and again when it is another.

use crate::message::NodeId;

/// Told when so many percent of the limit are used.
pub const MARKS: [u64; 3] = [50, 80, 95];
/// A mark counts as left only this many percent below it, so that a backlog that goes up and down around it is told once.
const SLACK: u64 = 5;

/// What waits for one receiver; `None`: for a channel's first reader, yet to come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Laggard {
    pub receiver: Option<NodeId>,
    pub pending: u64,
    /// When the oldest was sent; `None` where that was not found in time.
    pub oldest_ms: Option<u64>,
}

/// What is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Used {
    /// By the receiver with the most messages, which that one counts alone.
    Messages,
    /// So many bytes by all together. Most of them are taken to wait for whom most messages wait: their sizes are not counted.
    Bytes(u64),
}

/// To be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// How much of the limit is used.
    pub percent: u64,
    pub laggard: Laggard,
}

/// From which number on a mark of this limit is reached.
pub fn mark_at(limit: u64, percent: u64) -> u64 {
    let at = (u128::from(limit) * u128::from(percent)).div_ceil(100);
    u64::try_from(at).unwrap_or(u64::MAX).max(1)
}

/// What has been told of one limit.
#[derive(Debug, Default)]
pub struct Watch {
    told: Option<Told>,
}

#[derive(Debug)]
struct Told {
    mark: u64,
    receiver: Option<NodeId>,
}

impl Watch {
    /// Looks at all who wait. Says what is to be told now.
    pub fn look(&mut self, limit: u64, used: Used, waiting: &[Laggard]) -> Option<Warning> {
        let furthest = waiting.iter().max_by_key(|laggard| rank(laggard));
        let furthest = furthest.filter(|laggard| laggard.pending > 0);
        let amount = match used {
            Used::Messages => furthest.map_or(0, |laggard| laggard.pending),
            Used::Bytes(bytes) => bytes,
        };
        let reached = |slack| {
            let is_reached = |mark: &u64| amount >= mark_at(limit, *mark - slack);
            MARKS.into_iter().rev().find(is_reached)
        };
        let mark = reached(0);
        // What was told holds until it is left by some more.
        let kept = self.told.take().and_then(|told| {
            let mark = reached(SLACK)?.min(told.mark);
            Some(Told { mark, ..told })
        });
        let is_higher = mark > kept.as_ref().map(|told| told.mark);
        let is_another = kept.as_ref().zip(furthest).is_some_and(|(told, furthest)| {
            told.receiver != furthest.receiver && overtook(told, furthest, waiting)
        });
        if !is_higher && !is_another {
            self.told = kept;
            return None;
        }
        let mark = mark.max(kept.map(|told| told.mark))?;
        let laggard = match furthest {
            Some(furthest) => furthest.clone(),
            None => Laggard { receiver: None, pending: 0, oldest_ms: None },
        };
        self.told = Some(Told { mark, receiver: laggard.receiver.clone() });
        let percent = u128::from(amount) * 100 / u128::from(limit.max(1));
        Some(Warning { percent: u64::try_from(percent).unwrap_or(u64::MAX), laggard })
    }

    /// Whether a mark is reached, so that it has to be looked at again.
    pub fn is_alert(&self) -> bool {
        self.told.is_some()
    }
}

/// Who is further behind comes later: who has more waiting, or whose messages are older.
fn rank(laggard: &Laggard) -> (u64, u64, std::cmp::Reverse<Option<&NodeId>>) {
    let age = u64::MAX - laggard.oldest_ms.unwrap_or(u64::MAX);
    (laggard.pending, age, std::cmp::Reverse(laggard.receiver.as_ref()))
}

/// Whether another one is so far ahead of the one that was told that it is worth a word: two that are equally slow take turns.
fn overtook(told: &Told, furthest: &Laggard, waiting: &[Laggard]) -> bool {
    let before = waiting.iter().find(|laggard| laggard.receiver == told.receiver);
    let Some(before) = before.filter(|laggard| laggard.pending > 0) else { return true };
    furthest.pending > before.pending.saturating_add(before.pending / 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(name: &str, pending: u64, oldest_ms: u64) -> Laggard {
        let receiver = (!name.is_empty()).then(|| NodeId::new(name).expect("a valid name"));
        Laggard { receiver, pending, oldest_ms: Some(oldest_ms) }
    }

    fn told(watch: &mut Watch, waiting: &[Laggard]) -> Option<(u64, String)> {
        watch.look(100, Used::Messages, waiting).map(|warning| {
            let receiver = warning.laggard.receiver;
            (warning.percent, receiver.map_or(String::new(), |node| node.to_string()))
        })
    }

    fn said(percent: u64, name: &str) -> Option<(u64, String)> {
        Some((percent, name.to_owned()))
    }

    #[test]
    fn each_mark_is_told_once_with_the_one_who_is_furthest_behind() {
        let mut watch = Watch::default();
        let both = |slow, quick| [waits("quick", quick, 9), waits("slow", slow, 1)];
        assert_eq!(told(&mut watch, &both(49, 3)), None);
        assert!(!watch.is_alert());
        assert_eq!(told(&mut watch, &both(50, 3)), said(50, "slow"));
        assert_eq!(told(&mut watch, &both(79, 20)), None);
        assert_eq!(told(&mut watch, &both(96, 20)), said(96, "slow"), "two marks at once");
        assert_eq!(told(&mut watch, &both(100, 20)), None);
        assert!(watch.is_alert());
    }

    #[test]
    fn a_backlog_that_moves_around_a_mark_is_told_once() {
        let mut watch = Watch::default();
        assert_eq!(told(&mut watch, &[waits("a", 80, 1)]), said(80, "a"));
        for pending in [79, 76, 81, 75, 80] {
            assert_eq!(told(&mut watch, &[waits("a", pending, 1)]), None, "{pending}");
        }
        assert_eq!(told(&mut watch, &[waits("a", 74, 1)]), None);
        assert_eq!(told(&mut watch, &[waits("a", 80, 1)]), said(80, "a"), "it had been left");
        assert_eq!(told(&mut watch, &[waits("a", 44, 1)]), None);
        assert!(!watch.is_alert());
        assert_eq!(told(&mut watch, &[waits("a", 50, 1)]), said(50, "a"));
    }

    #[test]
    fn another_laggard_is_told_and_two_equal_ones_do_not_take_turns() {
        let mut watch = Watch::default();
        assert_eq!(told(&mut watch, &[waits("a", 60, 1), waits("b", 59, 1)]), said(60, "a"));
        assert_eq!(told(&mut watch, &[waits("a", 60, 1), waits("b", 61, 1)]), None);
        assert_eq!(told(&mut watch, &[waits("a", 60, 1), waits("b", 67, 1)]), said(67, "b"));
        assert_eq!(told(&mut watch, &[waits("a", 70, 1), waits("b", 67, 1)]), None);
        assert_eq!(told(&mut watch, &[waits("a", 70, 1)]), said(70, "a"), "b was forgotten");
        assert_eq!(told(&mut watch, &[waits("", 71, 1)]), said(71, ""), "a first reader to come");
    }

    #[test]
    fn of_the_bytes_the_one_is_told_for_whom_most_messages_wait() {
        let mut watch = Watch::default();
        let waiting = [waits("old", 1, 1_000), waits("many", 500, 2_000)];
        let mut look = |used| watch.look(1_000, Used::Bytes(used), &waiting);
        assert_eq!(look(499), None);
        let warning = look(500).expect("half of it");
        assert_eq!((warning.percent, &warning.laggard), (50, &waiting[1]));
        assert_eq!(look(460), None);
        assert_eq!(look(790), None);
        assert_eq!(look(951).expect("a mark").percent, 95);
        // Settled messages alone fill it, too.
        let mut watch = Watch::default();
        let warning = watch.look(1_000, Used::Bytes(800), &[]).expect("a mark");
        assert_eq!((warning.percent, warning.laggard.receiver), (80, None));
    }

    #[test]
    fn the_marks_of_any_limit_lie_within_it() {
        for limit in [1, 2, 3, 5, 10, 999, 1_000_000, u64::MAX] {
            let marks = MARKS.map(|percent| mark_at(limit, percent));
            assert!(marks.is_sorted() && marks[0] >= 1 && marks[2] <= limit, "{limit}: {marks:?}");
        }
        let mut watch = Watch::default();
        assert!(watch.look(1, Used::Messages, &[waits("a", 1, 1)]).is_some());
        assert!(watch.look(u64::MAX, Used::Messages, &[waits("a", 1, 1)]).is_none());
    }
}
