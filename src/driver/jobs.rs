//! What the store does for the driver in the meantime, and what follows from it.

use std::pin::Pin;
use std::time::Duration;

use tokio::sync::oneshot;

use super::{ConsumerId, Driver};
use crate::event::Event;
use crate::message::{ChannelName, MessageId, Mode, NodeId, StartAt, StoreId};
use crate::protocol::admin::Work;
use crate::protocol::election::StaleToken;
use crate::protocol::inbox::{self, Source};
use crate::protocol::leadership::Leadership;
use crate::protocol::lifecycle::Lifecycle;
use crate::protocol::looks::{Filled, Pending};
use crate::protocol::orders::{Done, Order};
use crate::protocol::outbound::PageRequest;
use crate::refusal::{ChannelError, NodeError};
use crate::store::{Forgotten, Page, StoreError, again};
use crate::transport::Transport;

pub(super) type Job = Pin<Box<dyn Future<Output = Completion>>>;

type Reply<T> = oneshot::Sender<T>;

/// What a look at the settlements came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    Some,
    Nothing,
}

pub(super) enum Completion {
    Page {
        age: u64,
        request: PageRequest,
        page: Result<Page, String>,
    },
    Settled {
        /// Whether there was anything to write.
        result: Result<Written, StoreError>,
        waiters: Vec<Reply<Result<(), StoreError>>>,
    },
    NewStore {
        from: MessageId,
        result: Result<StoreId, StoreError>,
    },
    Committed {
        source: Source,
        id: MessageId,
        result: Result<(), StoreError>,
    },
    Joined {
        channel: ChannelName,
        how: (Mode, StartAt),
        result: Result<u64, StoreError>,
        reply: Reply<Result<(), ChannelError>>,
    },
    Left {
        channel: ChannelName,
        result: Result<(), StoreError>,
        reply: Reply<Result<(), ChannelError>>,
    },
    Subscribed {
        node: NodeId,
        channel: ChannelName,
        result: Result<(), StoreError>,
    },
    Unsubscribed {
        node: NodeId,
        channel: ChannelName,
        result: Result<u64, StoreError>,
    },
    Purged {
        node: NodeId,
        result: Result<u64, StoreError>,
        reply: Reply<Result<u64, StoreError>>,
    },
    Forgotten {
        node: NodeId,
        result: Result<Forgotten, StoreError>,
        reply: Option<Reply<Result<u64, NodeError>>>,
    },
    Noted(Result<(), StoreError>),
    ClockNoted(Result<(), StoreError>),
    OrderNoted {
        order: Box<Order>,
        result: Result<Result<(), StaleToken>, StoreError>,
    },
    ElectionSaved {
        seq: u64,
        result: Result<(), StoreError>,
    },
    ToldOfShutdown,
    CleanedUp,
    /// Nobody reads this stream any more.
    Gone {
        channel: ChannelName,
        consumer: ConsumerId,
    },
    /// With what waits, and what of it was asked about.
    Report {
        report: Box<crate::protocol::report::Report>,
        pending: Result<Vec<Pending>, StoreError>,
        about: Option<crate::protocol::report::About>,
    },
    Executed {
        work: Box<Work>,
        result: Result<Done, StoreError>,
    },
    Waiting(Result<u64, StoreError>),
    Measured(Result<Filled, StoreError>),
    Expired {
        took: Duration,
        /// When the next message expires, by the file's clock.
        next_ms: Result<Option<u64>, StoreError>,
    },
    Pending(Result<Vec<Pending>, StoreError>),
}

impl<T: Transport> Driver<T> {
    /// Has the loop take what comes of a job that the store has been given.
    pub(super) fn await_job<R>(
        &mut self,
        answer: impl Future<Output = Result<R, StoreError>> + 'static,
        completion: impl FnOnce(Result<R, StoreError>) -> Completion + 'static,
    ) {
        self.jobs.push(Box::pin(async move { completion(answer.await) }));
    }

    /// What the store told with its commits came before its answers, and is taken first.
    pub(super) fn completed(&mut self, completion: Completion) {
        self.take_notices();
        match completion {
            Completion::Page { age, request, page } => self.page_read(age, request, page),
            Completion::Settled { result, waiters } => {
                self.settled(result, waiters);
            }
            Completion::NewStore { from, result } => match result {
                Ok(store) => self.new_store(from, store),
                Err(error) => {
                    // The next answer that proves it tries again.
                    self.outbound.no_new_store();
                    self.complain("take a new store id", &error);
                }
            },
            Completion::Committed { source, id, result } => {
                let event = match result {
                    Ok(()) => inbox::Event::Committed { source, id },
                    Err(error) => {
                        self.complain("commit a received message", &error);
                        inbox::Event::CommitFailed { source, id }
                    }
                };
                self.receive(event);
            }
            Completion::Joined { channel, how, result, reply } => {
                let result = self.file_joined(channel, how, result);
                let _ = reply.send(result);
            }
            Completion::Left { channel, result, reply } => {
                if result.is_ok() {
                    self.has_left(channel);
                }
                let _ = reply.send(result.map_err(Into::into));
            }
            Completion::Subscribed { node, channel, result } => {
                self.subscribed(node, channel, result);
            }
            Completion::Unsubscribed { node, channel, result } => {
                self.unsubscribed(node, channel, result);
            }
            Completion::Purged { node, result, reply } => {
                self.with_outbound(|it, around| it.given_up(around, &node));
                let _ = reply.send(result);
            }
            Completion::Forgotten { node, result, reply } => {
                self.forgotten(node, result, reply);
            }
            Completion::Noted(Err(error)) => self.complain("note a peer", &error),
            Completion::ClockNoted(Err(error)) => self.complain("note the file's clock", &error),
            Completion::Noted(Ok(())) | Completion::ClockNoted(Ok(())) => {}
            Completion::OrderNoted { order, result } => self.order_noted(*order, result),
            Completion::ElectionSaved { seq, result } => self.election_saved(seq, result),
            Completion::ToldOfShutdown => self.with_leadership(Leadership::told_of_shutdown),
            Completion::CleanedUp => self.with_lifecycle(Lifecycle::cleaned),
            Completion::Gone { channel, consumer } => self.detach(&channel, consumer),
            Completion::Executed { work, result } => self.executed(*work, result),
            Completion::Waiting(waiting) => {
                self.with_admin(|it, around| it.waiting(around, waiting.ok()));
            }
            Completion::Measured(found) => {
                self.with_looks(|it, around| it.measured(around, found.ok()));
            }
            Completion::Expired { took, next_ms } => {
                if let Err(error) = &next_ms {
                    self.complain("note what expired without a reader", error);
                }
                let next_ms = next_ms.map_err(drop);
                self.with_looks(|it, around| it.expired(around, took, next_ms));
            }
            Completion::Pending(pending) => {
                self.with_looks(|it, around| it.counted(around, pending.ok()));
            }
            Completion::Report { report, pending, about } => {
                self.send_report(*report, pending, about.as_ref());
            }
        }
    }

    pub(super) fn complain(&self, what: &str, error: &StoreError) {
        // The store has told that there is no room or that the disk fails; everything that has to wait for it tries again, twice a second.
        if error.is_told() {
            tracing::debug!(node = %self.me, error = error as &dyn std::error::Error, "could not {what}");
        } else {
            tracing::warn!(node = %self.me, error = error as &dyn std::error::Error, "could not {what}");
        }
    }

    /// The file has it as joined.
    fn file_joined(
        &mut self,
        channel: ChannelName,
        how: (Mode, StartAt),
        result: Result<u64, StoreError>,
    ) -> Result<(), ChannelError> {
        let joined_ms = result?;
        if let Some(by) = self.admin.closed().out_of(&channel).cloned() {
            // It was kicked while it joined.
            let answer = self.store.leave(vec![channel.clone()]);
            self.await_job(answer, Completion::Noted);
            return Err(ChannelError::Kicked { channel, by });
        }
        self.with_peers(|it, around| it.joined(around, channel, how, joined_ms));
        Ok(())
    }

    fn settled(
        &mut self,
        result: Result<Written, StoreError>,
        waiters: Vec<Reply<Result<(), StoreError>>>,
    ) {
        match &result {
            // Who waits for a change looks again, and each look asks for what is not on record: to call that a change would never end.
            Ok(Written::Nothing) => {}
            Ok(Written::Some) => self.settled.send_modify(|changes| *changes += 1),
            Err(error) => self.complain("note what has been settled", error),
        }
        let taken = result.is_ok();
        self.with_outbound(|it, around| it.recorded(around, taken));
        for waiter in waiters {
            let result = match &result {
                Ok(_) => Ok(()),
                Err(error) => Err(again(error)),
            };
            let _ = waiter.send(result);
        }
    }

    pub(super) fn clean_up(&mut self) {
        let store = self.store.clone();
        let me = self.me.clone();
        self.jobs.push(Box::pin(async move {
            match store.cleanup().await {
                Ok(cleaned) => tracing::debug!(node = %me, ?cleaned, "cleaned up"),
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(node = %me, error, "could not clean up");
                }
            }
            Completion::CleanedUp
        }));
    }

    fn forgotten(
        &mut self,
        node: NodeId,
        result: Result<Forgotten, StoreError>,
        reply: Option<Reply<Result<u64, NodeError>>>,
    ) {
        self.with_outbound(|it, around| it.given_up(around, &node));
        if let Ok(forgotten) = &result {
            self.with_peers(|it, around| it.forgotten(around, node.clone()));
            self.tell(Event::PeerForgotten { node, pending: forgotten.pending });
            self.settled.send_modify(|changes| *changes += 1);
        } else if let Err(error) = &result {
            self.complain("forget a peer", error);
            self.peers.not_forgotten(&node);
        }
        if let Some(reply) = reply {
            let _ = reply.send(result.map(|forgotten| forgotten.pending).map_err(Into::into));
        }
    }
}
