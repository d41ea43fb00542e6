//! Orders of other nodes: who may give them, which were obeyed before; and our own that wait for an answer.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use super::allowance::Allowance;
use crate::message::{Incarnation, NodeId};
use crate::policy::Management;

mod task;

pub use task::{Done, Order, Outcome, Task, Verdict};

/// Most orders whose outcome is remembered.
pub const REMEMBERED: usize = 256;
/// Most orders that may be under way at once, ours and those of others each.
pub const MAX_UNDER_WAY: usize = 64;
/// Most orders that are obeyed in a second.
const OBEYED_A_SECOND: u32 = 20;
/// Most orders that are refused, with a row in the audit each, in a minute. Further ones get no answer.
const REFUSED_A_MINUTE: u32 = 60;
/// How long to wait for an answer before an order is said again.
pub const REPEAT: Duration = Duration::from_millis(500);

/// What to do with an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ruling {
    /// Obey it, then say so with [`Orders::obeyed`].
    Obey,
    /// Refuse it, for this reason; it was not refused before.
    Refuse(String),
    /// It was answered so before.
    Repeat(Verdict),
    /// Nothing: it is being obeyed, or there are too many.
    Ignore,
}

/// Which orders are obeyed.
#[derive(Debug)]
pub struct Orders {
    me: NodeId,
    incarnation: Incarnation,
    policy: Management,
    under_way: Vec<(NodeId, u64)>,
    obeyed: VecDeque<((NodeId, u64), Verdict)>,
    refused: VecDeque<((NodeId, u64), Verdict)>,
    obeying: Allowance,
    refusing: Allowance,
}

impl Orders {
    pub fn new(me: NodeId, incarnation: Incarnation, policy: Management) -> Self {
        Self {
            me,
            incarnation,
            policy,
            under_way: Vec::new(),
            obeyed: VecDeque::new(),
            refused: VecDeque::new(),
            obeying: Allowance::new(OBEYED_A_SECOND, Duration::from_secs(1)),
            refusing: Allowance::new(REFUSED_A_MINUTE, Duration::from_secs(60)),
        }
    }

    /// Decides about an order that came by the subject of the node that it names as its giver. `by_master`: that node is master, as far as
    /// this one knows.
    pub fn judge(&mut self, now: Instant, order: &Order, by_master: bool) -> Ruling {
        let key = (order.from.clone(), order.order);
        if self.under_way.contains(&key) {
            return Ruling::Ignore;
        }
        let before = self.obeyed.iter().chain(&self.refused).find(|(known, _)| *known == key);
        if let Some((_, verdict)) = before {
            return Ruling::Repeat(verdict.clone());
        }
        if let Some(reason) = self.objection(order, by_master) {
            if !self.refusing.take(now) {
                return Ruling::Ignore;
            }
            remember(&mut self.refused, key, Verdict::Refused(reason.clone()));
            return Ruling::Refuse(reason);
        }
        // Whoever is not heard now says it again.
        if self.under_way.len() >= MAX_UNDER_WAY || !self.obeying.take(now) {
            return Ruling::Ignore;
        }
        self.under_way.push(key);
        Ruling::Obey
    }

    /// What came of an order that was to be obeyed.
    pub fn obeyed(&mut self, from: &NodeId, order: u64, verdict: Verdict) {
        let key = (from.clone(), order);
        self.under_way.retain(|known| *known != key);
        remember(&mut self.obeyed, key, verdict);
    }

    fn objection(&self, order: &Order, by_master: bool) -> Option<String> {
        match &self.policy {
            Management::Off => {
                return Some("management is off in this node's settings".to_owned());
            }
            Management::Only(nodes) if !nodes.contains(&order.from) => {
                return Some(format!("this node's settings let {} give no orders", order.from));
            }
            Management::MasterOnly if !by_master => {
                return Some(match order.term {
                    Some(term) => format!(
                        "this node obeys the master only, and {} in term {term} is none that it knows",
                        order.from
                    ),
                    None => "this node obeys the master only".to_owned(),
                });
            }
            Management::Only(_) | Management::Anyone | Management::MasterOnly => {}
        }
        if order.incarnation.is_some_and(|run| run != self.incarnation) {
            return Some("the order was for another run of this node".to_owned());
        }
        match &order.task {
            Task::Unknown => Some("this version of waypost does not know such a task".to_owned()),
            Task::Forget { node } if *node == self.me => {
                Some("a node cannot forget itself".to_owned())
            }
            _ => None,
        }
    }
}

fn remember(kept: &mut VecDeque<((NodeId, u64), Verdict)>, key: (NodeId, u64), verdict: Verdict) {
    if kept.len() >= REMEMBERED {
        kept.pop_front();
    }
    kept.push_back((key, verdict));
}

/// Orders and questions of our own that wait for an answer.
#[derive(Debug, Default)]
pub struct Asked {
    waiting: BTreeMap<u64, Waiting>,
}

#[derive(Debug)]
struct Waiting {
    node: NodeId,
    again: Instant,
    end: Instant,
}

/// What is due.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Due {
    /// To be said again.
    pub again: Vec<u64>,
    /// Nobody answered in time.
    pub over: Vec<u64>,
}

impl Asked {
    /// Whether there is room for another one.
    pub fn has_room(&self) -> bool {
        self.waiting.len() < MAX_UNDER_WAY * 64
    }

    /// This was said to the node.
    pub fn ask(&mut self, now: Instant, number: u64, node: NodeId, within: Duration) {
        let waiting = Waiting { node, again: now + REPEAT, end: now + within };
        self.waiting.insert(number, waiting);
    }

    /// An answer came from this node. Whether it was asked.
    pub fn answered(&mut self, number: u64, node: &NodeId) -> bool {
        let asked = self.waiting.get(&number).is_some_and(|waiting| waiting.node == *node);
        asked && self.waiting.remove(&number).is_some()
    }

    pub fn woke(&mut self, now: Instant) -> Due {
        let mut due = Due::default();
        for (number, waiting) in &mut self.waiting {
            if waiting.end <= now {
                due.over.push(*number);
            } else if waiting.again <= now {
                waiting.again = now + REPEAT;
                due.again.push(*number);
            }
        }
        for number in &due.over {
            self.waiting.remove(number);
        }
        due
    }

    pub fn wake_at(&self) -> Option<Instant> {
        self.waiting.values().map(|waiting| waiting.again.min(waiting.end)).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str) -> NodeId {
        NodeId::new(name).expect("a valid name")
    }

    fn order(from: &str, order: u64, task: Task) -> Order {
        Order { from: node(from), to: node("me"), order, incarnation: None, term: None, task }
    }

    fn orders(policy: Management) -> Orders {
        Orders::new(node("me"), Incarnation::from_u128(1), policy)
    }

    #[test]
    fn an_order_that_comes_twice_is_obeyed_once_and_answered_twice() {
        let (now, mut orders) = (Instant::now(), orders(Management::Anyone));
        let kick = order("hq", 7, Task::Kick);
        assert_eq!(orders.judge(now, &kick, false), Ruling::Obey);
        assert_eq!(orders.judge(now, &kick, false), Ruling::Ignore, "it is under way");
        let done = Verdict::Done(Done { left: 2, ..Done::default() });
        orders.obeyed(&kick.from, 7, done.clone());
        assert_eq!(orders.judge(now, &kick, false), Ruling::Repeat(done));
        assert_eq!(orders.judge(now, &order("other", 7, Task::Kick), false), Ruling::Obey);
    }

    #[test]
    fn the_settings_say_who_may_give_orders() {
        let now = Instant::now();
        let refusal = |mut orders: Orders, order: Order| match orders.judge(now, &order, false) {
            Ruling::Refuse(reason) => reason,
            other => panic!("{other:?}"),
        };
        let off = refusal(orders(Management::Off), order("hq", 1, Task::Kick));
        assert!(off.contains("off"), "{off}");
        let only = || Management::Only(vec![node("hq")]);
        let only_hq = refusal(orders(only()), order("eve", 1, Task::Kick));
        assert!(only_hq.contains("eve"), "{only_hq}");
        assert_eq!(orders(only()).judge(now, &order("hq", 1, Task::Drain), false), Ruling::Obey);
    }

    #[test]
    fn what_makes_no_sense_here_is_refused_with_a_reason() {
        let (now, mut orders) = (Instant::now(), orders(Management::Anyone));
        let late = Order {
            incarnation: Some(Incarnation::from_u128(9)),
            ..order("hq", 1, Task::PurgeAll)
        };
        for (order, word) in [
            (late, "another run"),
            (order("hq", 2, Task::Unknown), "does not know"),
            (order("hq", 3, Task::Forget { node: node("me") }), "itself"),
        ] {
            let Ruling::Refuse(reason) = orders.judge(now, &order, false) else {
                panic!("{order:?}")
            };
            assert!(reason.contains(word), "{reason}");
            let again = orders.judge(now, &order, false);
            assert_eq!(again, Ruling::Repeat(Verdict::Refused(reason)), "and not audited again");
        }
    }

    #[test]
    fn strangers_cannot_fill_the_memory_or_the_audit_nor_keep_others_out() {
        let now = Instant::now();
        let mut orders = orders(Management::Only(vec![node("hq")]));
        let refused = (0..10_000)
            .map(|n| orders.judge(now, &order("eve", n, Task::Kick), false))
            .filter(|ruling| matches!(ruling, Ruling::Refuse(_)))
            .count();
        assert_eq!(refused, REFUSED_A_MINUTE as usize);
        assert_eq!(orders.judge(now, &order("hq", 1, Task::Kick), false), Ruling::Obey);
        for n in 2..2_000 {
            let now = now + Duration::from_secs(n);
            assert_eq!(orders.judge(now, &order("hq", n, Task::Kick), false), Ruling::Obey);
            orders.obeyed(&node("hq"), n, Verdict::Done(Done::default()));
        }
        assert_eq!((orders.obeyed.len(), orders.under_way.len()), (REMEMBERED, 1));
    }

    #[test]
    fn an_order_of_ours_is_said_again_until_its_time_is_over() {
        let (start, mut asked) = (Instant::now(), Asked::default());
        asked.ask(start, 1, node("a"), REPEAT * 2 + REPEAT / 2);
        assert_eq!(asked.wake_at(), Some(start + REPEAT));
        assert_eq!(asked.woke(start + REPEAT), Due { again: vec![1], over: vec![] });
        assert!(!asked.answered(1, &node("b")), "it was not asked");
        assert_eq!(asked.woke(start + REPEAT * 3), Due { again: vec![], over: vec![1] });
        assert!(!asked.answered(1, &node("a")), "too late");
        assert_eq!(asked.wake_at(), None);
    }
}
