//! Orders: those that others give this node, and those that it gives.

use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::command::Reply;
use super::election::Office;
use super::{Completion, Driver, Timer};
use crate::config::Management;
use crate::event::Event;
use crate::gate::Closed;
use crate::message::{ChannelName, NodeId};
use crate::protocol::election::{StaleToken, Term, Token};
use crate::protocol::frame::{Frame, MAX_CHANNELS, detail};
use crate::protocol::orders::{Done, MAX_UNDER_WAY, Order, Outcome, Ruling, Task, Verdict};
use crate::protocol::report::{Query, Report};
use crate::refusal::{ChannelError, NodeError, OrderError};
use crate::store::{Entry, Store, StoreError};
use crate::transport::{Audience, Subject, Transport};

/// How often a node that is being drained looks whether it is empty.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// What the audit calls an order.
const ACTION: &str = "order";
/// What it calls one that came, before anything was done.
const RECEIVED: &str = "order received";

const FILE_FAILED: &str = "its file could not be read or written";

/// An order or a question of ours that waits for its answer.
pub(super) struct Asking {
    to: Subject,
    node: NodeId,
    frame: Frame,
    within: Duration,
    answer: Answer,
}

enum Answer {
    Outcome(Reply<Result<Done, OrderError>>),
    Report(Reply<Result<Box<Report>, OrderError>>),
}

impl Answer {
    fn fail(self, error: OrderError) {
        // Whoever asked may have gone.
        match self {
            Self::Outcome(reply) => drop(reply.send(Err(error))),
            Self::Report(reply) => drop(reply.send(Err(error))),
        }
    }
}

/// What an order came to, as far as the file is concerned.
pub(super) struct Obeyed {
    from: NodeId,
    order: u64,
    task: Task,
    /// Those that were left.
    channels: Vec<ChannelName>,
    /// What was closed before it.
    before: Closed,
    /// Whose deliveries stand still for it.
    held: Vec<NodeId>,
    result: Result<Done, StoreError>,
}

impl<T: Transport> Driver<T> {
    /// An order came, by the subject of whom it names.
    pub(super) fn ordered(&mut self, order: Order) {
        let by_master =
            self.office.as_ref().is_some_and(|office| office.obeys(&order.from, order.term));
        match self.orders.judge(Instant::now(), &order, by_master) {
            Ruling::Obey => self.note_order(order),
            Ruling::Refuse(reason) => self.refuse_order(&order, reason),
            Ruling::Repeat(verdict) => self.say_outcome(order.from, order.order, verdict),
            Ruling::Ignore => {}
        }
    }

    /// Nothing is done at an order that is not on record.
    fn note_order(&mut self, order: Order) {
        let audited = self.config.audit.management;
        let row = audited.then(|| entry(RECEIVED, &order.from, order.term, order.task.to_string()));
        // The highest term that was obeyed is on disk before anything is done: a master of before is not obeyed any more, whatever is killed.
        let token = order.term.filter(|_| self.config.management == Management::MasterOnly);
        let token = token.map(|term| Token { term, node: order.from.clone() });
        let answer = self.store.note_order(token, row.into_iter().collect());
        let order = Box::new(order);
        self.await_job(answer, |result| Completion::OrderNoted { order, result });
    }

    pub(super) fn order_noted(
        &mut self,
        order: Order,
        result: Result<Result<(), StaleToken>, StoreError>,
    ) {
        let reason = match result {
            Ok(Ok(())) => return self.obey(order),
            Ok(Err(stale)) => stale.to_string(),
            Err(error) => {
                self.complain("note an order", &error);
                FILE_FAILED.to_owned()
            }
        };
        let verdict = Verdict::Refused(detail(&reason));
        self.orders.obeyed(&order.from, order.order, verdict.clone());
        self.say_outcome(order.from, order.order, verdict);
    }

    fn refuse_order(&mut self, order: &Order, reason: String) {
        let row = format!("{}: refused, {reason}", order.task);
        let row = entry(ACTION, &order.from, order.term, row);
        if self.config.audit.management {
            let answer = self.store.enter(vec![row]);
            self.await_job(answer, Completion::Noted);
        }
        let (by, task) = (order.from.clone(), order.task.to_string());
        self.tell(Event::OrderRefused { by, task, reason: reason.clone() });
        let verdict = Verdict::Refused(detail(&reason));
        self.say_outcome(order.from.clone(), order.order, verdict);
    }

    fn obey(&mut self, order: Order) {
        let Order { from, order, term, task, .. } = order;
        let before = self.gate.look().clone();
        let Some(channels) = self.begin(&from, &task) else {
            let reason = format!("it is kept out of {MAX_CHANNELS} channels already: readmit it");
            let verdict = Verdict::Refused(reason);
            self.orders.obeyed(&from, order, verdict.clone());
            return self.say_outcome(from, order, verdict);
        };
        let forgotten = match &task {
            Task::Forget { node } => {
                let (reply, forgotten) = oneshot::channel();
                self.forget(node.clone(), Some(reply));
                Some(forgotten)
            }
            _ => None,
        };
        let held: Vec<NodeId> = match task {
            Task::PurgeQueue | Task::PurgeAll => self.outbound.receivers().cloned().collect(),
            _ => Vec::new(),
        };
        held.iter().for_each(|receiver| self.outbound.stand_still(receiver.clone()));
        // What is under way to the file counts as settled, and neither waits nor is purged.
        let before_ms = self.store.now_ms();
        let (reply, settled) = oneshot::channel();
        self.settle_waiters.push(reply);
        self.settle();
        let (store, audited) = (self.store.clone(), self.config.audit.management);
        self.jobs.push(Box::pin(async move {
            let result = async {
                let mut done = Done::default();
                if let Some(forgotten) = forgotten {
                    done.purged = match forgotten.await {
                        Ok(Ok(pending)) => pending,
                        Ok(Err(NodeError::Storage(error))) => return Err(error),
                        Ok(Err(_)) | Err(_) => return Err(StoreError::Unanswered),
                    };
                }
                settled.await.unwrap_or(Err(StoreError::Closed))?;
                execute(&store, &from, &task, &channels, before_ms, done).await
            };
            let result = result.await;
            if let Ok(done) = &result
                && audited
                && let row = entry(ACTION, &from, term, format!("{task}: {done}"))
                && let Err(error) = store.enter(vec![row]).await
            {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "an order was obeyed, and is missing in the audit");
            }
            Completion::Obeyed(Obeyed { from, order, task, channels, before, held, result })
        }));
    }

    /// What holds from the moment of the order on. Which channels are to be left; none where the order cannot be kept.
    fn begin(&mut self, by: &NodeId, task: &Task) -> Option<Vec<ChannelName>> {
        match task {
            Task::Kick => {
                self.gate.change().kicked = Some(by.clone());
                self.show_gate();
                return Some(self.peers.channels().cloned().collect());
            }
            Task::KickChannel { channel } => {
                let mut closed = self.gate.change();
                if closed.channels.len() >= MAX_CHANNELS && !closed.channels.contains_key(channel) {
                    return None;
                }
                closed.channels.insert(channel.clone(), by.clone());
                drop(closed);
                let joined = self.peers.has_joined(channel);
                return Some(joined.then(|| channel.clone()).into_iter().collect());
            }
            Task::Drain => {
                self.gate.change().draining = Some(by.clone());
                self.show_gate();
                self.hold();
            }
            Task::Readmit => {
                *self.gate.change() = Closed::default();
                self.show_gate();
                self.arm(Timer::Drain, None);
                self.hold();
            }
            _ => {}
        }
        Some(Vec::new())
    }

    /// Takes messages in no channel while the node is being drained, and in all again afterwards.
    fn hold(&mut self) {
        let held = self.gate.look().draining.is_some();
        self.with_peers(|it, around| it.hold(around, held));
    }

    pub(super) fn obeyed(&mut self, obeyed: Obeyed) {
        let Obeyed { from, order, task, channels, before, held, result } = obeyed;
        for receiver in &held {
            self.with_outbound(|it, around| it.given_up(around, receiver));
        }
        let verdict = match result {
            Ok(done) => {
                self.follow(&from, &task, channels);
                Verdict::Done(done)
            }
            Err(error) => {
                self.complain("obey an order", &error);
                self.give_up(&task, before);
                // Not the error itself, in which the file's path stands.
                Verdict::Refused(FILE_FAILED.to_owned())
            }
        };
        self.settled.send_modify(|changes| *changes += 1);
        self.tell_stalls();
        self.orders.obeyed(&from, order, verdict.clone());
        self.say_outcome(from, order, verdict);
    }

    /// What follows from an order that was obeyed.
    fn follow(&mut self, by: &NodeId, task: &Task, channels: Vec<ChannelName>) {
        for channel in channels {
            self.has_left(channel);
        }
        let by = by.clone();
        match task {
            Task::Kick => {
                self.tell(Event::Kicked { by, channel: None });
            }
            Task::KickChannel { channel } => {
                self.tell(Event::Kicked { by, channel: Some(channel.clone()) });
            }
            Task::Drain => self.tell_draining(by),
            Task::Readmit => {
                self.tell(Event::Readmitted { by });
            }
            _ => {}
        }
    }

    /// A node that was being drained when it ended goes on with it.
    pub(super) fn go_on_draining(&mut self) {
        let by = self.gate.look().draining.clone();
        if let Some(by) = by {
            self.tell_draining(by);
        }
    }

    fn tell_draining(&mut self, by: NodeId) {
        self.tell(Event::Draining { by });
        self.look_whether_drained();
    }

    /// Lets the node's status say who keeps it from what.
    fn show_gate(&self) {
        let closed = self.gate.look().clone();
        self.status.send_modify(|status| {
            (status.kicked, status.draining) = (closed.kicked, closed.draining);
        });
    }

    /// The file did not take it: nobody is kept out by an order that failed.
    fn give_up(&mut self, task: &Task, mut before: Closed) {
        match task {
            Task::Kick => self.gate.change().kicked = before.kicked,
            Task::KickChannel { channel } => {
                let mut closed = self.gate.change();
                match before.channels.remove(channel) {
                    Some(by) => closed.channels.insert(channel.clone(), by),
                    None => closed.channels.remove(channel),
                };
            }
            Task::Drain => {
                self.gate.change().draining = before.draining;
                self.hold();
            }
            Task::Readmit => {
                *self.gate.change() = before;
                self.hold();
                self.look_whether_drained();
            }
            _ => {}
        }
        self.show_gate();
    }

    pub(super) fn look_whether_drained(&mut self) {
        self.settle();
        let answer = self.store.waiting();
        self.await_job(answer, Completion::Waiting);
    }

    pub(super) fn still_waiting(&mut self, waiting: Result<u64, StoreError>) {
        if self.gate.look().draining.is_none() {
            return;
        }
        match waiting {
            Ok(0) => {
                tracing::warn!(node = %self.me, "nothing waits any more in this node, which is being drained");
                self.tell(Event::Drained);
            }
            _ => self.arm(Timer::Drain, Some(Instant::now() + LOOK_AGAIN)),
        }
    }

    /// Whether an order keeps this node out of the channel.
    pub(super) fn may_join(&self, channel: &ChannelName) -> Result<(), ChannelError> {
        match self.gate.look().out_of(channel) {
            Some(by) => Err(ChannelError::Kicked { channel: channel.clone(), by: by.clone() }),
            None => Ok(()),
        }
    }

    /// The file has it as joined, and it is not.
    pub(super) fn stay_out(&mut self, channel: ChannelName) {
        let answer = self.store.leave(vec![channel]);
        self.await_job(answer, Completion::Noted);
    }

    fn say_outcome(&mut self, to: NodeId, order: u64, result: Verdict) {
        let outcome = Outcome { node: self.me.clone(), to: to.clone(), order, result };
        if to == self.me && self.asking.contains_key(&order) {
            return self.outcome_came(outcome);
        }
        let to = Subject::Management { to: Audience::Node(to), from: self.me.clone() };
        // One that is lost is asked for again.
        let _ = self.transport.try_publish(&to, Frame::Outcome(outcome).encode());
    }

    pub(super) fn give_order(
        &mut self,
        to: NodeId,
        task: Task,
        within: Duration,
        reply: Reply<Result<Done, OrderError>>,
    ) {
        let incarnation = self.peers.views().find(|peer| peer.node == to);
        let order = Order {
            from: self.me.clone(),
            to: to.clone(),
            order: fastrand::u64(..),
            incarnation: incarnation.map(|peer| peer.incarnation),
            term: self.office.as_ref().and_then(Office::term_in_office),
            task,
        };
        let subject = Subject::Order { to: to.clone(), from: self.me.clone() };
        let number = order.order;
        let (frame, answer) = (Frame::Order(order.clone()), Answer::Outcome(reply));
        let is_mine = to == self.me;
        self.ask(number, Asking { to: subject, node: to, frame, within, answer });
        if is_mine && self.asking.contains_key(&number) {
            self.note_order(order);
        }
    }

    pub(super) fn ask_about(
        &mut self,
        node: NodeId,
        within: Duration,
        reply: Reply<Result<Box<Report>, OrderError>>,
    ) {
        let query =
            Query { from: self.me.clone(), query: fastrand::u64(..), state: false, about: None };
        let to = Subject::Management { to: Audience::Node(node.clone()), from: self.me.clone() };
        let (frame, answer) = (Frame::Query(query.clone()), Answer::Report(reply));
        let is_mine = node == self.me;
        self.ask(query.query, Asking { to, node, frame, within, answer });
        if is_mine && self.asking.contains_key(&query.query) {
            self.report(&query);
        }
    }

    /// Says it for the first time; to this node itself it is not said.
    fn ask(&mut self, number: u64, asking: Asking) {
        let node = asking.node.clone();
        let is_mine = node == self.me;
        if !self.asked.has_room() {
            return asking.answer.fail(OrderError::TooMany { limit: MAX_UNDER_WAY * 64 });
        }
        if !is_mine && !self.link {
            return asking.answer.fail(OrderError::NotConnected);
        }
        if !is_mine && !self.peers.is_online(&node) {
            return asking.answer.fail(OrderError::Offline { node });
        }
        self.asked.ask(Instant::now(), number, node, asking.within);
        if !is_mine {
            let _ = self.transport.try_publish(&asking.to, asking.frame.clone().encode());
        }
        self.asking.insert(number, asking);
        let wake_at = self.asked.wake_at();
        self.arm(Timer::Orders, wake_at);
    }

    pub(super) fn look_at_orders(&mut self) {
        let due = self.asked.woke(Instant::now());
        for number in due.again {
            let Some(asking) = self.asking.get(&number) else { continue };
            if asking.node != self.me {
                let _ = self.transport.try_publish(&asking.to, asking.frame.clone().encode());
            }
        }
        for number in due.over {
            let Some(Asking { node, within, answer, .. }) = self.asking.remove(&number) else {
                continue;
            };
            answer.fail(OrderError::Unanswered { node, within });
        }
        let wake_at = self.asked.wake_at();
        self.arm(Timer::Orders, wake_at);
    }

    pub(super) fn outcome_came(&mut self, outcome: Outcome) {
        let Outcome { node, order, result, .. } = outcome;
        if let Some(Answer::Outcome(reply)) = self.answered_by(order, &node) {
            let result = match result {
                Verdict::Done(done) => Ok(done),
                Verdict::Refused(reason) => Err(OrderError::Refused { node, reason }),
            };
            let _ = reply.send(result);
        }
    }

    pub(super) fn reported(&mut self, report: Box<Report>) {
        if let Some(Answer::Report(reply)) = self.answered_by(report.query, &report.node) {
            let _ = reply.send(Ok(report));
        }
    }

    /// Who waits for this answer; nobody, where another node was asked, or it came before.
    fn answered_by(&mut self, number: u64, node: &NodeId) -> Option<Answer> {
        if !self.asked.answered(number, node) {
            return None;
        }
        let wake_at = self.asked.wake_at();
        self.arm(Timer::Orders, wake_at);
        self.asking.remove(&number).map(|asking| asking.answer)
    }
}

fn entry(action: &'static str, by: &NodeId, term: Option<Term>, detail: String) -> Entry {
    Entry { action, subject: by.to_string(), detail, term: term.map(Term::get) }
}

/// Does what an order asks of the file.
async fn execute(
    store: &Store,
    from: &NodeId,
    task: &Task,
    channels: &[ChannelName],
    before_ms: u64,
    mut done: Done,
) -> Result<Done, StoreError> {
    if !channels.is_empty() {
        store.leave(channels.to_vec()).await?;
        done.left = channels.len() as u64;
    }
    match task {
        Task::Drain => store.set_draining(Some(from.clone())).await?,
        Task::Readmit => store.set_draining(None).await?,
        _ => {}
    }
    if matches!(task, Task::PurgeQueue | Task::PurgeAll) {
        done.purged = store.purge_queue().await?;
    }
    if matches!(task, Task::PurgeSent | Task::PurgeAll) {
        // What was purged a moment ago is settled as well.
        let before_ms = if *task == Task::PurgeAll { store.now_ms() + 1 } else { before_ms };
        let cleaned = store.purge_sent(before_ms).await?;
        (done.deleted, done.records) = (cleaned.messages, cleaned.records);
    }
    done.waiting = store.waiting().await?;
    Ok(done)
}
