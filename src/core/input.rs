//! What happens to a node.

use std::time::Duration;

use super::{ServerUp, Timer};
use crate::condition::Outage;
use crate::message::{ChannelName, MessageId, Mode, NodeId, StartAt, StoreId, TopicId};
use crate::protocol::admin::Work;
use crate::protocol::delivery::{Head, Unsent};
use crate::protocol::frame::Frame;
use crate::protocol::inbox::{Done as Handled, Source};
use crate::protocol::leadership::{Change, Moment, Ticket};
use crate::protocol::looks::{Filled, Pending};
use crate::protocol::orders::{Done, Order, Task};
use crate::protocol::outbound::{Cursor, PageRequest, Read, Topic};
use crate::protocol::peers::ConsumerId;
use crate::protocol::report::{About, Report};

/// On which kind of subject a frame came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    Message,
    Ack,
    Keepalive,
    Election,
    Order,
    /// `all`: it is for everybody who manages, not for this node alone.
    Management {
        all: bool,
    },
}

#[derive(Debug)]
pub enum Input<B> {
    /// The node begins; the first input.
    Start,
    /// There is a connection, or another one.
    LinkUp(ServerUp),
    /// There is none, or none could be made.
    LinkDown {
        reason: String,
        outage: Outage,
    },
    /// The server refuses our credentials.
    Unauthorized {
        reason: String,
    },
    /// The server refuses what the node wants to do there.
    Denied {
        reason: String,
    },
    /// The connection takes frames again: whoever was refused first sends. To be said while there is room and the number of those who wait sinks
    /// ([`waits_for_room`](super::Core::waits_for_room)); then `RoomEnds`.
    Room,
    RoomEnds,
    /// The frame that was to be published to this receiver did not leave.
    Unsent {
        receiver: NodeId,
        why: Unsent,
    },
    /// On a subject that names its sender.
    Frame {
        port: Port,
        from: NodeId,
        frame: Frame,
    },
    /// What the store told with its commits. It comes before the answers to what was asked of it.
    Notice(Notice<B>),
    /// What became of a [`Job`](super::Job).
    Answered(Answered<B>),
    /// Messages that were handed out together have been handled, up to the first that did not end well.
    Finished {
        source: Source,
        results: Vec<(MessageId, Result<Handled, String>)>,
    },
    /// The program's function for a stop has returned.
    ToldOfShutdown,
    /// Nothing happened; but whoever handles messages was at one for so long that the next must not begin before it has been looked whether the process
    /// stood still, as before every input. What is not to go on has ceased when the effects have been performed.
    Look,
    /// This timer's time has come.
    Woke(Timer),
    /// A peer's leaving is acted upon, once what is there already has been taken: see [`leaves_by`](super::Core::leaves_by).
    LeaveNext,
    Command(Command),
    /// At the end: what has changed of peers is to be written, mastership is given up without a successor, a last word is said.
    NotePeers,
    Resign,
    Goodbye,
}

/// What the store tells of its own accord.
#[derive(Debug)]
pub enum Notice<B> {
    TopicOpened(TopicId, Topic),
    CursorOpened(Cursor),
    CursorBehind(Cursor),
    CursorClosed {
        receiver: NodeId,
        topic: TopicId,
    },
    /// Messages in their order. Many are told in portions, so that the first of them does not wait for the last.
    Appended(Vec<Head<B>>),
    Missed {
        end_seq: u64,
    },
    Dropped {
        receiver: NodeId,
        topic: TopicId,
        up_to_seq: u64,
        count: u64,
    },
    UnclaimedExpires {
        at_ms: u64,
    },
    Filling,
    Down,
    Up {
        known: Vec<(Source, MessageId)>,
    },
    /// What hinders the file may be another thing now.
    Changed,
}

/// What became of a job.
#[derive(Debug)]
pub enum Answered<B> {
    Page {
        age: u64,
        request: PageRequest,
        read: Option<Read<B>>,
    },
    Settled {
        taken: bool,
    },
    /// `None`: it could not be taken.
    NewStore {
        from: MessageId,
        store: Option<StoreId>,
    },
    Committed {
        source: Source,
        id: MessageId,
        taken: bool,
    },
    /// `joined_ms`: since when, by the file; `None`: it failed, and whoever asked knows.
    Joined {
        channel: ChannelName,
        how: (Mode, StartAt),
        ticket: Ticket,
        joined_ms: Option<u64>,
    },
    Left {
        channel: ChannelName,
        taken: bool,
    },
    Subscribed {
        node: NodeId,
        channel: ChannelName,
        taken: bool,
    },
    /// With how many messages were given up.
    Unsubscribed {
        node: NodeId,
        channel: ChannelName,
        purged: Option<u64>,
    },
    Purged {
        node: NodeId,
    },
    /// With how many messages waited.
    Forgotten {
        node: NodeId,
        pending: Option<u64>,
    },
    /// `Err(Some)`: the token is stale, and why; `Err(None)`: the file did not take it.
    OrderNoted {
        order: Box<Order>,
        result: Result<(), Option<String>>,
    },
    ElectionSaved {
        seq: u64,
        taken: bool,
    },
    CleanedUp,
    Executed {
        work: Box<Work>,
        done: Option<Done>,
    },
    Waiting(Option<u64>),
    Pending(Option<Vec<Pending>>),
    Measured(Option<Filled>),
    /// `next_ms`: when the next such message expires, if any does.
    Expired {
        took: Duration,
        next_ms: Result<Option<u64>, ()>,
    },
    /// What this node says of itself, but for the reasons.
    Report {
        report: Box<Report>,
        pending: Option<Vec<Pending>>,
        about: Option<About>,
    },
}

/// What programs ask of their node. A ticket names whoever waits for the answer.
#[derive(Debug, Clone)]
pub enum Command {
    Join {
        channel: ChannelName,
        how: (Mode, StartAt),
        ticket: Ticket,
    },
    Leave {
        channel: ChannelName,
        ticket: Ticket,
    },
    Pause {
        channel: ChannelName,
        paused: bool,
        ticket: Ticket,
    },
    /// Somebody takes this channel's messages from now on.
    Attach {
        channel: ChannelName,
        consumer: ConsumerId,
        ticket: Ticket,
    },
    Detach {
        channel: ChannelName,
        consumer: ConsumerId,
    },
    /// Why messages don't move, looked at anew.
    Reasons,
    /// What is known to be settled is to be brought into the file.
    Record,
    Forget {
        node: NodeId,
        ticket: Ticket,
    },
    Purge {
        node: NodeId,
        channel: Option<ChannelName>,
        ticket: Ticket,
    },
    /// Has a node do this. `number`: drawn by chance, the same nowhere else.
    Order {
        number: u64,
        to: NodeId,
        task: Task,
        within: Duration,
    },
    /// Asks a node about itself.
    Ask {
        number: u64,
        to: NodeId,
        within: Duration,
    },
    SetState {
        change: Change,
        ticket: Ticket,
    },
    HandOver {
        to: Option<NodeId>,
        ticket: Ticket,
    },
    /// A function is called at this moment from now on.
    Registered(Moment),
    Stop {
        within: Duration,
    },
}
