//! Orders: does what the part that decides about them wants done.

use std::time::Duration;

use tokio::sync::oneshot;

use super::command::Reply;
use super::{Completion, Driver, Timer};
use crate::clock;
use crate::event::Event;
use crate::message::NodeId;
use crate::protocol::admin::{
    Admin, Answer, Around, Closed, Effect, Failure, MAX_ASKED, News, Row, Step, Work,
};
use crate::protocol::election::{StaleToken, Term, Token};
use crate::protocol::frame::Frame;
use crate::protocol::orders::{Done, Order, Task};
use crate::protocol::report::Report;
use crate::refusal::{NodeError, OrderError};
use crate::store::{Entry, Store, StoreError};
use crate::transport::{Audience, Subject, Transport};

/// Who waits for an answer.
pub(super) enum Asker {
    Outcome(Reply<Result<Done, OrderError>>),
    Report(Reply<Result<Box<Report>, OrderError>>),
}

fn entry(row: Row) -> Entry {
    let Row { action, by, term, detail } = row;
    Entry { action, subject: by.to_string(), detail, term: term.map(Term::get) }
}

fn failed(node: NodeId, why: Failure) -> OrderError {
    match why {
        Failure::Refused(reason) => OrderError::Refused { node, reason },
        Failure::TooMany => OrderError::TooMany { limit: MAX_ASKED },
        Failure::NotConnected => OrderError::NotConnected,
        Failure::Offline => OrderError::Offline { node },
        Failure::Unanswered { within } => OrderError::Unanswered { node, within },
    }
}

impl<T: Transport> Driver<T> {
    /// Has it decided what follows from something, and does that.
    pub(super) fn with_admin<R>(
        &mut self,
        decide: impl FnOnce(&mut Admin, &mut Around<'_>) -> R,
    ) -> R {
        let (now, mut out) = (self.now(), Vec::new());
        let outbound = &self.outbound;
        let around = &mut Around {
            now,
            link: self.link,
            term: self.leadership.as_ref().and_then(|it| it.term_in_office(clock::now())),
            peers: &self.peers,
            receivers: &|| outbound.receivers().cloned().collect(),
            out: &mut out,
        };
        let decided = decide(&mut self.admin, around);
        for effect in out {
            self.perform_for_admin(effect);
        }
        decided
    }

    fn perform_for_admin(&mut self, effect: Effect) {
        match effect {
            Effect::Note { order, token, row } => self.note_order(order, token, row),
            Effect::Enter(row) => {
                let answer = self.store.enter(vec![entry(row)]);
                self.await_job(answer, Completion::Noted);
            }
            Effect::Close(closed) => self.close(closed),
            Effect::Hold(held) => self.with_peers(|it, around| it.hold(around, held)),
            Effect::StandStill(receiver) => self.outbound.stand_still(receiver),
            Effect::GoOn(receiver) => {
                self.with_outbound(|it, around| it.given_up(around, &receiver));
            }
            Effect::Execute(work) => self.execute(work),
            Effect::Left(channel) => self.has_left(channel),
            Effect::Settled => {
                self.settled.send_modify(|changes| *changes += 1);
                self.tell_stalls();
            }
            Effect::Say { to, frame } => {
                let from = self.me.clone();
                let to = match *frame {
                    Frame::Order(_) => Subject::Order { to, from },
                    _ => Subject::Management { to: Audience::Node(to), from },
                };
                let _ = self.transport.try_publish(&to, frame.encode());
            }
            Effect::Answer { number, node, answer } => self.answer_asker(number, node, answer),
            Effect::Report(query) => self.report(&query),
            Effect::Count => {
                self.settle();
                let answer = self.store.waiting();
                self.await_job(answer, Completion::Waiting);
            }
            Effect::Tell(news) => self.tell_of_order(news),
            Effect::WakeAt(at) => self.arm(Timer::Admin, at),
        }
    }

    fn note_order(&mut self, order: Box<Order>, token: Option<Token>, row: Option<Row>) {
        let answer = self.store.note_order(token, row.map(entry).into_iter().collect());
        self.await_job(answer, |result| Completion::OrderNoted { order, result });
    }

    pub(super) fn order_noted(
        &mut self,
        order: Order,
        result: Result<Result<(), StaleToken>, StoreError>,
    ) {
        let result = match result {
            Ok(noted) => noted.map_err(|stale| Some(stale.to_string())),
            Err(error) => {
                self.complain("note an order", &error);
                Err(None)
            }
        };
        self.with_admin(|it, around| it.noted(around, order, result));
    }

    /// Lets channels, and the node's status, say who keeps it from what.
    fn close(&self, closed: Closed) {
        let Closed { kicked, draining, .. } = closed.clone();
        self.gate.show(closed);
        self.status.send_modify(|status| (status.kicked, status.draining) = (kicked, draining));
    }

    fn execute(&mut self, work: Box<Work>) {
        let forgotten = work.steps().iter().find_map(|step| match step {
            Step::Forget(node) => Some(node.clone()),
            _ => None,
        });
        let forgotten = forgotten.map(|node| {
            let (reply, forgotten) = oneshot::channel();
            self.forget(node, Some(reply));
            forgotten
        });
        // What is under way to the file counts as settled, and neither waits nor is purged.
        let (reply, settled) = oneshot::channel();
        self.settle_waiters.push(reply);
        self.settle();
        let store = self.store.clone();
        self.jobs.push(Box::pin(async move {
            let result = perform(&store, &work, forgotten, settled).await;
            if let Ok(done) = &result
                && let Some(row) = work.row(done)
                && let Err(error) = store.enter(vec![entry(row)]).await
            {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "an order was obeyed, and is missing in the audit");
            }
            Completion::Executed { work, result }
        }));
    }

    pub(super) fn executed(&mut self, work: Work, result: Result<Done, StoreError>) {
        if let Err(error) = &result {
            self.complain("obey an order", error);
        }
        self.with_admin(|it, around| it.executed(around, work, result.ok()));
    }

    pub(super) fn give_order(
        &mut self,
        to: NodeId,
        task: Task,
        within: Duration,
        reply: Reply<Result<Done, OrderError>>,
    ) {
        let number = fastrand::u64(..);
        self.askers.insert(number, Asker::Outcome(reply));
        self.with_admin(|it, around| it.give(around, number, to, task, within));
    }

    pub(super) fn ask_about(
        &mut self,
        node: NodeId,
        within: Duration,
        reply: Reply<Result<Box<Report>, OrderError>>,
    ) {
        let number = fastrand::u64(..);
        self.askers.insert(number, Asker::Report(reply));
        self.with_admin(|it, around| it.ask_about(around, number, node, within));
    }

    fn answer_asker(&mut self, number: u64, node: NodeId, answer: Answer) {
        // Whoever asked may have gone.
        match (self.askers.remove(&number), answer) {
            (Some(Asker::Outcome(reply)), Answer::Done(done)) => drop(reply.send(Ok(done))),
            (Some(Asker::Report(reply)), Answer::Report(report)) => drop(reply.send(Ok(report))),
            (Some(Asker::Outcome(reply)), Answer::Failed(why)) => {
                let _ = reply.send(Err(failed(node, why)));
            }
            (Some(Asker::Report(reply)), Answer::Failed(why)) => {
                let _ = reply.send(Err(failed(node, why)));
            }
            // An answer of the other kind is not let through to here.
            (None, _) | (Some(_), Answer::Done(_) | Answer::Report(_)) => {}
        }
    }

    fn tell_of_order(&self, news: News) {
        self.tell(match news {
            News::Refused { by, task, reason } => Event::OrderRefused { by, task, reason },
            News::Kicked { by, channel } => Event::Kicked { by, channel },
            News::Draining { by } => Event::Draining { by },
            News::Drained => {
                tracing::warn!(node = %self.me, "nothing waits any more in this node, which is being drained");
                Event::Drained
            }
            News::Readmitted { by } => Event::Readmitted { by },
        });
    }
}

/// Does what an order asks of the file; what was begun before it in the driver's own turn is waited for.
async fn perform(
    store: &Store,
    work: &Work,
    mut forgotten: Option<oneshot::Receiver<Result<u64, NodeError>>>,
    settled: oneshot::Receiver<Result<(), StoreError>>,
) -> Result<Done, StoreError> {
    let (mut done, mut settled) = (Done::default(), Some(settled));
    for step in work.steps() {
        match step {
            Step::Forget(_) => {
                let Some(forgotten) = forgotten.take() else { continue };
                done.purged = match forgotten.await {
                    Ok(Ok(pending)) => pending,
                    Ok(Err(NodeError::Storage(error))) => return Err(error),
                    Ok(Err(_)) | Err(_) => return Err(StoreError::Unanswered),
                };
            }
            Step::Settle => {
                let Some(settled) = settled.take() else { continue };
                settled.await.unwrap_or(Err(StoreError::Closed))?;
            }
            Step::Leave(channels) => {
                store.leave(channels.clone()).await?;
                done.left = channels.len() as u64;
            }
            Step::Drain(by) => store.set_draining(by.clone()).await?,
            Step::PurgeQueue => done.purged = store.purge_queue().await?,
            Step::PurgeSent { before_ms } => {
                let before_ms = before_ms.unwrap_or_else(|| store.now_ms() + 1);
                let cleaned = store.purge_sent(before_ms).await?;
                (done.deleted, done.records) = (cleaned.messages, cleaned.records);
            }
            Step::Count => done.waiting = store.waiting().await?,
        }
    }
    Ok(done)
}
