//! The one writer: takes whatever waits, commits it as one transaction, answers all.

use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use waypost::protocol::TopicId;
use waypost::protocol::admin::Step;
use waypost::protocol::delivery::Settled;
use waypost::protocol::election;
use waypost::protocol::inbox::Source;
use waypost::protocol::life::Record;
use waypost::protocol::membership::Known;
use waypost::protocol::orders::Order;
use waypost::protocol::peers::Start;
use waypost::protocol::settling::{Attempt, Run, Settling};
use waypost::{ChannelName, MessageId, Mode, NodeId, StartAt, StoreId};

use super::{Draft, File, Limits, Notice, Op, Receipt, Row, Transaction, Uid};
use crate::dice::Dice;

/// What the writer is asked to do.
#[derive(Debug, Clone)]
pub(crate) enum Work {
    Send(Vec<Draft>),
    /// `taken`: what was handled since the source's last commit.
    Accept {
        source: Source,
        id: MessageId,
        taken: Vec<Uid>,
        by: By,
    },
    /// The same, with rows of the program's own; always by a handler.
    AcceptIn {
        source: Source,
        id: MessageId,
        taken: Vec<Uid>,
        effect: Uid,
    },
    Settle(Vec<Run>, Vec<Attempt>),
    KnowPeer(Box<Known>),
    Subscribe(NodeId, ChannelName, Start),
    Unsubscribe(NodeId, ChannelName),
    Forget(NodeId),
    Purge(NodeId, Option<ChannelName>),
    Join(ChannelName, Mode, StartAt),
    Leave(ChannelName),
    RaiseLastId {
        from: MessageId,
        newest: MessageId,
    },
    NewStore {
        from: MessageId,
    },
    SaveElection {
        seq: u64,
        record: election::Record,
    },
    CleanUp,
    /// Ends what has expired before it had a reader.
    ExpireUnclaimed,
    /// Nothing but the clock.
    NoteClock,
    NoteOrder(Box<Order>),
    /// Of the order of this number.
    Step(u64, Step),
    /// What waits.
    Count,
}

impl Work {
    /// Whether its commit is fsynced before the answer.
    fn is_full(&self) -> bool {
        if let Self::Settle(runs, _) = self {
            return runs.iter().any(|run| run.how != Settled::Acknowledged);
        }
        matches!(
            self,
            Self::Send(_)
                | Self::AcceptIn { .. }
                | Self::Subscribe(..)
                | Self::Unsubscribe(..)
                | Self::Forget(..)
                | Self::Purge(..)
                | Self::Join(..)
                | Self::RaiseLastId { .. }
                | Self::NewStore { .. }
                | Self::Step(_, Step::Drain(_) | Step::PurgeQueue)
                | Self::SaveElection { .. }
        )
    }
}

/// Who has a receipt written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    Node,
    /// It answered the message itself.
    Handler,
    /// Whoever runs handlers beside others, once they have ended.
    Runner,
}

/// What became of it.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    Done,
    Sent(Vec<Rc<Row>>),
    QueueFull,
    /// It had been taken before; nothing was written.
    AlreadyAccepted,
    Joined {
        joined_ms: u64,
    },
    Store(StoreId),
    Waiting(u64),
    /// When the next message expires that waits for a first reader.
    Expires(Option<u64>),
    /// The file failed; nobody knows what of the group is in it.
    Failed,
}

/// What a group did.
#[derive(Default)]
pub(crate) struct Group {
    pub(crate) answers: Vec<(Work, Answer)>,
    pub(crate) notices: Vec<Notice>,
    pub(crate) complaints: Vec<String>,
    pub(crate) full: bool,
    /// For the oracle: new messages, receipts, and cursors whose accounts changed.
    pub(crate) appended: Vec<Rc<Row>>,
    pub(crate) receipts: Vec<Uid>,
    pub(crate) touched: BTreeSet<(NodeId, TopicId)>,
    ops: Vec<Op>,
}

#[derive(Debug, Default)]
pub(crate) struct Writer {
    queue: VecDeque<Work>,
    running: Vec<Work>,
    /// Nothing is written before the file was opened again.
    pub(crate) down: bool,
    /// The cursors that were open when it went down.
    pub(crate) open_before: Vec<(NodeId, TopicId)>,
}

impl Writer {
    pub(crate) fn submit(&mut self, work: Work) {
        self.queue.push_back(work);
    }

    /// Begins a group, if something waits and none is running; whether it has to be fsynced.
    pub(crate) fn begin(&mut self) -> Option<bool> {
        if !self.running.is_empty() || self.queue.is_empty() {
            return None;
        }
        self.running = self.queue.drain(..).collect();
        Some(self.running.iter().any(Work::is_full))
    }

    pub(crate) fn is_running(&self) -> bool {
        !self.running.is_empty()
    }

    /// Whether anything waits to be written.
    pub(crate) fn is_busy(&self) -> bool {
        self.down || !self.running.is_empty() || !self.queue.is_empty()
    }

    /// The group that runs, given up.
    pub(crate) fn abandon(&mut self) -> Vec<Work> {
        std::mem::take(&mut self.running)
    }

    /// Runs the group's transaction, up to its commit.
    pub(crate) fn run(
        &mut self,
        file: &mut File,
        limits: Limits,
        now_ms: u64,
        clock: Option<(Record, Duration)>,
        dice: &mut Dice,
        under_way: Option<&Settling>,
    ) -> Group {
        let works = std::mem::take(&mut self.running);
        let full = works.iter().any(Work::is_full);
        let mut transaction = Transaction {
            tables: &mut file.current,
            ops: Vec::new(),
            notices: Vec::new(),
            limits,
            now_ms,
            dice,
            under_way,
            complaints: Vec::new(),
        };
        let answers = works.into_iter().map(|work| {
            let answer = transaction.perform(&work);
            (work, answer)
        });
        let answers = answers.collect();
        if let Some((record, truly)) = clock {
            transaction.put(Op::Clock(record, truly));
        }
        let Transaction { ops, notices, complaints, .. } = transaction;
        let mut group = Group { answers, notices, complaints, full, ..Group::default() };
        for op in &ops {
            match op {
                Op::Append(row) => group.appended.push(row.clone()),
                Op::Receipt(uid, _) => group.receipts.push(*uid),
                Op::Cursor(receiver, topic, _) | Op::Fate(receiver, topic, ..) => {
                    group.touched.insert((receiver.clone(), *topic));
                }
                _ => {}
            }
        }
        Group { ops, ..group }
    }
}

impl Group {
    pub(crate) fn commit(&mut self, file: &mut File) {
        file.committed(std::mem::take(&mut self.ops));
        if self.full {
            file.sync();
        }
    }

    /// The fsync failed: the commit may stand in the log, or not, and is surely not on the disk.
    pub(crate) fn fail(&mut self, file: &mut File, stands: bool) {
        if stands {
            file.committed(std::mem::take(&mut self.ops));
        } else {
            file.roll_back();
        }
    }
}

impl Transaction<'_> {
    fn perform(&mut self, work: &Work) -> Answer {
        match work {
            Work::Send(batch) => return self.send(batch).map_or(Answer::QueueFull, Answer::Sent),
            Work::Accept { source, id, taken, .. } => {
                self.advance(source, *id, taken, Receipt::Plain);
            }
            Work::AcceptIn { source, id, taken, effect } => {
                if !self.advance(source, *id, taken, Receipt::Transaction) {
                    return Answer::AlreadyAccepted;
                }
                self.put(Op::Effect(*effect));
            }
            Work::Settle(runs, attempts) => {
                self.settle(runs);
                self.note_attempts(attempts);
            }
            Work::KnowPeer(peer) => self.know_peer(peer),
            Work::Subscribe(node, channel, start) => self.subscribe(node, channel, *start),
            Work::Unsubscribe(node, channel) => self.unsubscribe(node, channel),
            Work::Forget(node) => self.forget(node),
            Work::Purge(node, channel) => self.purge(node, channel.as_ref()),
            Work::Join(channel, ..) => return Answer::Joined { joined_ms: self.join(channel) },
            Work::Leave(channel) => self.leave(channel),
            Work::RaiseLastId { newest, .. } => self.raise_last_id(*newest),
            Work::NewStore { from } => return Answer::Store(self.new_store(*from)),
            Work::SaveElection { record, .. } => self.save_election(record.clone()),
            Work::CleanUp => self.clean_up(),
            Work::ExpireUnclaimed => {
                self.expire_unclaimed();
                return Answer::Expires(self.tables.unclaimed_expires());
            }
            Work::NoteOrder(_) | Work::NoteClock => {}
            Work::Step(_, step) => return self.step(step),
            Work::Count => return self.count(),
        }
        Answer::Done
    }

    fn step(&mut self, step: &Step) -> Answer {
        match step {
            // The node's own, which were submitted before it.
            Step::Forget(_) | Step::Settle => {}
            Step::Leave(channels) => channels.iter().for_each(|channel| self.leave(channel)),
            Step::Drain(by) => self.put(Op::Draining(by.clone())),
            Step::PurgeQueue => {
                let cursors = self.tables.cursors.keys();
                let receivers: BTreeSet<NodeId> = cursors.map(|(node, _)| node.clone()).collect();
                receivers.iter().for_each(|receiver| self.purge(receiver, None));
            }
            Step::PurgeSent { before_ms } => {
                self.delete_settled(before_ms.unwrap_or(self.now_ms + 1));
            }
            Step::Count => return self.count(),
        }
        Answer::Done
    }

    fn count(&self) -> Answer {
        let cursors = self.tables.cursors.iter();
        let pending =
            cursors.map(|((_, topic), row)| row.pending(self.tables.topics[topic].accepted));
        Answer::Waiting(pending.sum())
    }
}
