//! Orders, put together: those that others give this node, what they keep it from, and those that it gives. What is decided comes out as
//! [`Effect`]s, which the shell performs in their order. What the store makes of them comes back by [`Admin::noted`],
//! [`Admin::executed`] and [`Admin::waiting`].

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::Now;
use super::allowance::Allowance;
use super::election::Token;
use super::frame::{Frame, MAX_CHANNELS, detail};
use super::orders::{Asked, Done, MAX_UNDER_WAY, Order, Orders, Outcome, Ruling, Task, Verdict};
use super::peers::Peers;
use super::report::{Query, Report};
use crate::message::{ChannelName, Incarnation, NodeId, Term};
use crate::policy::Management;

mod closed;
mod work;

pub use closed::Closed;
pub use work::{Row, Step, Work};

/// How often a node that is being drained looks whether it is empty.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// Most reports a second, so that a stranger's questions cost little.
const REPORTS_A_SECOND: u32 = 20;
/// Most orders and questions of ours that wait for an answer.
pub const MAX_ASKED: usize = MAX_UNDER_WAY * 64;
/// Not the error itself, in which the file's path stands.
const FILE_FAILED: &str = "its file could not be read or written";

/// What is to be done, in this order.
#[derive(Debug)]
pub enum Effect {
    /// An order came that is to be obeyed. On record before anything is done: this row, and the highest token that was obeyed, so that a
    /// master of before is not obeyed any more, whatever is killed. Then [`Admin::noted`].
    Note {
        order: Box<Order>,
        token: Option<Token>,
        row: Option<Row>,
    },
    /// For the audit.
    Enter(Row),
    /// What the node is kept from, from now on.
    Close(Closed),
    /// Whether messages are taken in no channel, as of a node that is being drained.
    Hold(bool),
    /// Nothing is sent to this receiver while the file gives up what waits for it.
    StandStill(NodeId),
    /// Its deliveries go on.
    GoOn(NodeId),
    /// To be done with the file; then [`Admin::executed`].
    Execute(Box<Work>),
    /// A channel has been left, for good.
    Left(ChannelName),
    /// The accounts may have changed.
    Settled,
    /// To be sent to this node. One that is lost is asked for, or said, again.
    Say {
        to: NodeId,
        frame: Box<Frame>,
    },
    /// For whoever asked under this number.
    Answer {
        number: u64,
        node: NodeId,
        answer: Answer,
    },
    /// This node is to tell about itself; then [`Admin::report`].
    Report(Query),
    /// What waits is to be counted, once what is settled is on record; then [`Admin::waiting`].
    Count,
    Tell(News),
    /// When to say [`Admin::woke`].
    WakeAt(Option<Instant>),
}

/// What came of an order or a question of ours.
#[derive(Debug, PartialEq)]
pub enum Answer {
    Done(Done),
    Report(Box<Report>),
    Failed(Failure),
}

/// Why an order or a question of ours came to nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    Refused(String),
    /// Too many wait for an answer.
    TooMany,
    NotConnected,
    Offline,
    Unanswered {
        within: Duration,
    },
}

/// For the node's monitors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    Refused {
        by: NodeId,
        task: String,
        reason: String,
    },
    /// Of all channels, or of one.
    Kicked {
        by: NodeId,
        channel: Option<ChannelName>,
    },
    Draining {
        by: NodeId,
    },
    /// Nothing waits any more.
    Drained,
    Readmitted {
        by: NodeId,
    },
}

/// What is around it: looked at, or added to.
pub struct Around<'a> {
    pub now: Now,
    pub link: bool,
    /// In which this node is master, if it is.
    pub term: Option<Term>,
    pub peers: &'a Peers,
    /// Whom messages are delivered to.
    pub receivers: &'a dyn Fn() -> Vec<NodeId>,
    pub out: &'a mut Vec<Effect>,
}

/// An order or a question of ours that waits for its answer.
#[derive(Debug)]
struct Asking {
    node: NodeId,
    frame: Frame,
    within: Duration,
}

/// How a node is managed.
#[derive(Debug)]
pub struct Admin {
    me: NodeId,
    policy: Management,
    audited: bool,
    orders: Orders,
    closed: Closed,
    /// When to look next whether a node that is being drained is empty.
    look_at: Option<Instant>,
    asked: Asked,
    asking: BTreeMap<u64, Asking>,
    reports: Allowance,
}

impl Admin {
    /// `audited`: whether orders go into the audit. `draining`: for whom the node was being drained when it ended.
    pub fn new(
        me: NodeId,
        incarnation: Incarnation,
        policy: Management,
        audited: bool,
        draining: Option<NodeId>,
    ) -> Self {
        Self {
            orders: Orders::new(me.clone(), incarnation, policy.clone()),
            me,
            policy,
            audited,
            closed: Closed { draining, ..Closed::default() },
            look_at: None,
            asked: Asked::default(),
            asking: BTreeMap::new(),
            reports: Allowance::new(REPORTS_A_SECOND, Duration::from_secs(1)),
        }
    }

    /// What orders keep this node from.
    pub fn closed(&self) -> &Closed {
        &self.closed
    }

    /// A node that was being drained when it ended goes on with it.
    pub fn start(&mut self, around: &mut Around<'_>) {
        if let Some(by) = self.closed.draining.clone() {
            drain(around, by);
        }
    }

    /// No answer is waited for any more.
    pub fn stop(&mut self) {
        self.asking.clear();
        self.asked = Asked::default();
    }

    /// An order came, by the subject of whom it names. `by_master`: that node is master, as far as this one knows.
    pub fn ordered(&mut self, around: &mut Around<'_>, order: Order, by_master: bool) {
        match self.orders.judge(around.now.mono, &order, by_master) {
            Ruling::Obey => self.note(around, order),
            Ruling::Refuse(reason) => self.refuse(around, &order, reason),
            Ruling::Repeat(verdict) => self.say_outcome(around, order.from, order.order, verdict),
            Ruling::Ignore => {}
        }
    }

    /// Nothing is done at an order that is not on record.
    fn note(&mut self, around: &mut Around<'_>, order: Order) {
        let row = self.audited.then(|| Row::received(&order));
        let term = order.term.filter(|_| self.policy == Management::MasterOnly);
        let token = term.map(|term| Token { term, node: order.from.clone() });
        around.out.push(Effect::Note { order: Box::new(order), token, row });
    }

    fn refuse(&mut self, around: &mut Around<'_>, order: &Order, reason: String) {
        let Order { from, order: number, term, task, .. } = order;
        if self.audited {
            let row = Row::ended(from.clone(), *term, task, format!("refused, {reason}"));
            around.out.push(Effect::Enter(row));
        }
        let (by, task, why) = (from.clone(), task.to_string(), reason.clone());
        around.out.push(Effect::Tell(News::Refused { by, task, reason: why }));
        self.say_outcome(around, from.clone(), *number, Verdict::Refused(detail(&reason)));
    }

    /// An order is on record; or it is not to be obeyed, for this reason, and where there is none because the file failed.
    pub fn noted(
        &mut self,
        around: &mut Around<'_>,
        order: Order,
        result: Result<(), Option<String>>,
    ) {
        let reason = match result {
            Ok(()) => return self.obey(around, order),
            Err(reason) => reason.unwrap_or_else(|| FILE_FAILED.to_owned()),
        };
        self.end(around, order.from, order.order, Verdict::Refused(detail(&reason)));
    }

    fn obey(&mut self, around: &mut Around<'_>, order: Order) {
        let Order { from, order, term, task, .. } = order;
        let before = self.closed.clone();
        let Some(channels) = self.begin(around, &from, &task) else {
            let reason = format!("it is kept out of {MAX_CHANNELS} channels already: readmit it");
            return self.end(around, from, order, Verdict::Refused(reason));
        };
        let held = match task {
            Task::PurgeQueue | Task::PurgeAll => (around.receivers)(),
            _ => Vec::new(),
        };
        around.out.extend(held.iter().cloned().map(Effect::StandStill));
        let steps = work::steps(&task, &from, &channels, around.now.file_ms);
        let audited = self.audited;
        let work = Work { from, order, term, task, channels, before, held, audited, steps };
        around.out.push(Effect::Execute(Box::new(work)));
    }

    /// What holds from the moment of the order on. Which channels are to be left; none where the order cannot be kept.
    fn begin(
        &mut self,
        around: &mut Around<'_>,
        by: &NodeId,
        task: &Task,
    ) -> Option<Vec<ChannelName>> {
        match task {
            Task::Kick => {
                self.closed.kicked = Some(by.clone());
                self.show(around);
                return Some(around.peers.channels().cloned().collect());
            }
            Task::KickChannel { channel } => {
                let channels = &mut self.closed.channels;
                if channels.len() >= MAX_CHANNELS && !channels.contains_key(channel) {
                    return None;
                }
                channels.insert(channel.clone(), by.clone());
                self.show(around);
                let joined = around.peers.has_joined(channel);
                return Some(joined.then(|| channel.clone()).into_iter().collect());
            }
            Task::Drain => {
                self.closed.draining = Some(by.clone());
                self.show(around);
                self.hold(around);
            }
            Task::Readmit => {
                self.closed = Closed::default();
                self.look_at = None;
                self.show(around);
                self.hold(around);
                self.wake(around);
            }
            _ => {}
        }
        Some(Vec::new())
    }

    fn show(&self, around: &mut Around<'_>) {
        around.out.push(Effect::Close(self.closed.clone()));
    }

    /// Takes messages in no channel while the node is being drained, and in all again afterwards.
    fn hold(&self, around: &mut Around<'_>) {
        around.out.push(Effect::Hold(self.closed.draining.is_some()));
    }

    /// The file has done this work; or it failed, without a [`Done`].
    pub fn executed(&mut self, around: &mut Around<'_>, work: Work, done: Option<Done>) {
        let Work { from, order, task, channels, before, held, .. } = work;
        around.out.extend(held.into_iter().map(Effect::GoOn));
        let verdict = match done {
            Some(done) => {
                follow(around, &from, &task, channels);
                Verdict::Done(done)
            }
            None => {
                self.give_up(around, &task, before);
                Verdict::Refused(FILE_FAILED.to_owned())
            }
        };
        around.out.push(Effect::Settled);
        self.end(around, from, order, verdict);
    }

    /// The file did not take it: nobody is kept out by an order that failed.
    fn give_up(&mut self, around: &mut Around<'_>, task: &Task, mut before: Closed) {
        match task {
            Task::Kick => self.closed.kicked = before.kicked,
            Task::KickChannel { channel } => {
                let channels = &mut self.closed.channels;
                match before.channels.remove(channel) {
                    Some(by) => channels.insert(channel.clone(), by),
                    None => channels.remove(channel),
                };
            }
            Task::Drain => self.closed.draining = before.draining,
            Task::Readmit => {
                self.closed = before;
                around.out.push(Effect::Count);
            }
            _ => return,
        }
        self.show(around);
        self.hold(around);
    }

    /// So much waits, if the file could say it.
    pub fn waiting(&mut self, around: &mut Around<'_>, waiting: Option<u64>) {
        if self.closed.draining.is_none() {
            return;
        }
        match waiting {
            Some(0) => around.out.push(Effect::Tell(News::Drained)),
            _ => self.look_at = Some(around.now.mono + LOOK_AGAIN),
        }
        self.wake(around);
    }

    fn end(&mut self, around: &mut Around<'_>, from: NodeId, order: u64, verdict: Verdict) {
        self.orders.obeyed(&from, order, verdict.clone());
        self.say_outcome(around, from, order, verdict);
    }

    fn say_outcome(&mut self, around: &mut Around<'_>, to: NodeId, order: u64, result: Verdict) {
        let outcome = Outcome { node: self.me.clone(), to: to.clone(), order, result };
        if to == self.me && self.awaits(order) {
            return self.outcome_came(around, outcome);
        }
        around.out.push(Effect::Say { to, frame: Box::new(Frame::Outcome(outcome)) });
    }

    /// Has a node do this; this node itself, too. The answer comes under this number, which was drawn by chance.
    pub fn give(
        &mut self,
        around: &mut Around<'_>,
        number: u64,
        to: NodeId,
        task: Task,
        within: Duration,
    ) {
        let order = Order {
            from: self.me.clone(),
            to: to.clone(),
            order: number,
            incarnation: around.peers.incarnation(&to),
            term: around.term,
            task,
        };
        let is_mine = to == self.me;
        let frame = Frame::Order(order.clone());
        if self.ask(around, number, Asking { node: to, frame, within }) && is_mine {
            self.note(around, order);
        }
    }

    /// Asks a node about itself; this node itself, too. The answer comes under this number, which was drawn by chance.
    pub fn ask_about(
        &mut self,
        around: &mut Around<'_>,
        number: u64,
        node: NodeId,
        within: Duration,
    ) {
        let query = Query { from: self.me.clone(), query: number, state: false, about: None };
        let is_mine = node == self.me;
        let frame = Frame::Query(query.clone());
        if self.ask(around, number, Asking { node, frame, within }) && is_mine {
            around.out.push(Effect::Report(query));
        }
    }

    /// Says it for the first time; to this node itself it is not said. Whether it waits for an answer now.
    fn ask(&mut self, around: &mut Around<'_>, number: u64, asking: Asking) -> bool {
        let node = asking.node.clone();
        let is_mine = node == self.me;
        let refused = if !self.asked.has_room() {
            Some(Failure::TooMany)
        } else if !is_mine && !around.link {
            Some(Failure::NotConnected)
        } else if !is_mine && !around.peers.is_online(&node) {
            Some(Failure::Offline)
        } else {
            None
        };
        if let Some(why) = refused {
            let answer = Answer::Failed(why);
            around.out.push(Effect::Answer { number, node, answer });
            return false;
        }
        self.asked.ask(around.now.mono, number, node.clone(), asking.within);
        if !is_mine {
            around.out.push(Effect::Say { to: node, frame: Box::new(asking.frame.clone()) });
        }
        self.asking.insert(number, asking);
        self.wake(around);
        true
    }

    /// Whether somebody here waits for the answer of this number.
    fn awaits(&self, number: u64) -> bool {
        self.asking.contains_key(&number)
    }

    /// The time has come that [`Effect::WakeAt`] named.
    pub fn woke(&mut self, around: &mut Around<'_>) {
        let now = around.now.mono;
        if self.look_at.take_if(|at| *at <= now).is_some() {
            around.out.push(Effect::Count);
        }
        let due = self.asked.woke(now);
        for number in due.again {
            if let Some(Asking { node, frame, .. }) = self.asking.get(&number)
                && *node != self.me
            {
                let frame = Box::new(frame.clone());
                around.out.push(Effect::Say { to: node.clone(), frame });
            }
        }
        for number in due.over {
            if let Some(Asking { node, within, .. }) = self.asking.remove(&number) {
                let answer = Answer::Failed(Failure::Unanswered { within });
                around.out.push(Effect::Answer { number, node, answer });
            }
        }
        self.wake(around);
    }

    fn wake(&self, around: &mut Around<'_>) {
        let times = [self.asked.wake_at(), self.look_at];
        around.out.push(Effect::WakeAt(times.into_iter().flatten().min()));
    }

    pub fn outcome_came(&mut self, around: &mut Around<'_>, outcome: Outcome) {
        let Outcome { node, order, result, .. } = outcome;
        let answer = match result {
            Verdict::Done(done) => Answer::Done(done),
            Verdict::Refused(reason) => Answer::Failed(Failure::Refused(reason)),
        };
        let is_order = |frame: &Frame| matches!(frame, Frame::Order(_));
        self.answered(around, order, node, is_order, answer);
    }

    /// A report came from another node.
    pub fn reported(&mut self, around: &mut Around<'_>, report: Box<Report>) {
        let (number, node) = (report.query, report.node.clone());
        let is_query = |frame: &Frame| matches!(frame, Frame::Query(_));
        self.answered(around, number, node, is_query, Answer::Report(report));
    }

    /// Takes the answer of the node that was asked, and no other; of another kind than the question it is none.
    fn answered(
        &mut self,
        around: &mut Around<'_>,
        number: u64,
        node: NodeId,
        is_asked: impl Fn(&Frame) -> bool,
        answer: Answer,
    ) {
        let is_asked = self.asking.get(&number).is_some_and(|asking| is_asked(&asking.frame));
        if !is_asked || !self.asked.answered(number, &node) {
            return;
        }
        self.asking.remove(&number);
        around.out.push(Effect::Answer { number, node, answer });
        self.wake(around);
    }

    /// Somebody asks this node about itself.
    pub fn queried(&mut self, around: &mut Around<'_>, query: Query) {
        if self.reports.take(around.now.mono) {
            around.out.push(Effect::Report(query));
        }
    }

    /// What this node tells about itself.
    pub fn report(&mut self, around: &mut Around<'_>, report: Box<Report>) {
        if report.to == self.me && self.awaits(report.query) {
            return self.reported(around, report);
        }
        let to = report.to.clone();
        around.out.push(Effect::Say { to, frame: Box::new(Frame::Report(report)) });
    }
}

/// What follows from an order that was obeyed.
fn follow(around: &mut Around<'_>, by: &NodeId, task: &Task, channels: Vec<ChannelName>) {
    around.out.extend(channels.into_iter().map(Effect::Left));
    let by = by.clone();
    match task {
        Task::Kick => around.out.push(Effect::Tell(News::Kicked { by, channel: None })),
        Task::KickChannel { channel } => {
            let channel = Some(channel.clone());
            around.out.push(Effect::Tell(News::Kicked { by, channel }));
        }
        Task::Drain => drain(around, by),
        Task::Readmit => around.out.push(Effect::Tell(News::Readmitted { by })),
        _ => {}
    }
}

fn drain(around: &mut Around<'_>, by: NodeId) {
    around.out.extend([Effect::Tell(News::Draining { by }), Effect::Count]);
}

#[cfg(test)]
mod tests;
