//! What a node wants done.

use std::time::{Duration, Instant};

use crate::condition::{LimitNear, Link};
use crate::event::Event;
use crate::message::{ChannelName, MessageId, Mode, NodeId, StartAt, Term, Token};
use crate::protocol::admin::{self, Closed, Work};
use crate::protocol::election::{Notice, Record, Version};
use crate::protocol::frame::{Answer, Frame};
use crate::protocol::inbox::Source;
use crate::protocol::inbox::begun::Slot;
use crate::protocol::leadership::{self, Call, LeadershipView, NotHandedOver, NotSet, Ticket};
use crate::protocol::lifecycle::Rival;
use crate::protocol::membership::Known;
use crate::protocol::orders::Order;
use crate::protocol::outbound::PageRequest;
use crate::protocol::peers::{Refused, Start};
use crate::protocol::report::Query;
use crate::protocol::settling::{Attempt, Run};
use crate::protocol::stalls::News;
use crate::reason::Reason;

/// What the audit calls what an election decided.
pub const ELECTION: &str = "election";

/// Whose timer; each has at most one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timer {
    Receiver(NodeId),
    Inbox,
    Membership,
    /// By the clock that goes on while the machine is suspended; all others stand still with it.
    Election,
    Record,
    Lifecycle,
    Admin,
    Looks,
}

/// For whom a frame is that is neither messages nor an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// Everybody: a keepalive.
    All,
    Voters,
    /// A node that is to obey.
    Order(NodeId),
    Node(NodeId),
}

/// A row of the file's audit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRow {
    pub action: &'static str,
    /// Who decided, or whom it is about.
    pub subject: String,
    pub term: Option<Term>,
    pub detail: String,
}

impl From<admin::Row> for AuditRow {
    fn from(admin::Row { action, by, term, detail }: admin::Row) -> Self {
        Self { action, subject: by.to_string(), term, detail }
    }
}

impl From<leadership::Entry> for AuditRow {
    fn from(leadership::Entry { subject, term, detail }: leadership::Entry) -> Self {
        Self { action: ELECTION, subject: subject.to_string(), term, detail }
    }
}

/// Why a program did not get what it asked about a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotDone {
    /// An order keeps this node out of it.
    Kicked {
        by: NodeId,
    },
    Refused(Refused),
}

/// What is to be done with the file. What becomes of it comes back as an [`Answered`](super::Answered) of the same name; what is
/// without one needs no answer. Jobs reach the file in the order in which they were said.
#[derive(Debug)]
pub enum Job {
    Page {
        age: u64,
        request: PageRequest,
    },
    /// What has been settled, also where it is nothing.
    Settle {
        runs: Vec<Run>,
        attempts: Vec<Attempt>,
    },
    Subscribe {
        node: NodeId,
        channel: ChannelName,
        start: Start,
    },
    Unsubscribe {
        node: NodeId,
        channel: ChannelName,
    },
    /// For whoever asked, if anybody did.
    Forget {
        node: NodeId,
        ticket: Option<Ticket>,
    },
    Purge {
        node: NodeId,
        channel: Option<ChannelName>,
        ticket: Ticket,
    },
    Join {
        channel: ChannelName,
        how: (Mode, StartAt),
        ticket: Ticket,
    },
    Leave {
        channel: ChannelName,
        ticket: Option<Ticket>,
    },
    /// With the highest token that was obeyed, and a row of the audit, in one commit.
    NoteOrder {
        order: Box<Order>,
        token: Option<Token>,
        row: Option<AuditRow>,
    },
    /// To be fsynced, in one commit.
    SaveElection {
        seq: u64,
        record: Record,
        row: Option<AuditRow>,
    },
    /// Its steps, one after the other. Where one is to forget a node, [`Answered::Forgotten`](super::Answered::Forgotten) comes before
    /// [`Answered::Executed`](super::Answered::Executed).
    Execute(Box<Work>),
    /// What waits for anybody is to be counted.
    Waiting,
    /// What waits for each, and why it may.
    Pending,
    /// What waits for whom, and how full the files are.
    Measure,
    Expire,
    CleanUp,
    /// What this node tells about itself is to be gathered; see [`Answered::Report`](super::Answered::Report).
    Report(Query),
    /// No answer.
    NotePeers(Vec<Known>),
    Enter(AuditRow),
    NoteClock,
}

/// What is to be done, in this order.
#[derive(Debug)]
pub enum Effect<C> {
    /// To say [`Input::Woke`](super::Input::Woke) then, and at no other time; `None`: not at all.
    WakeAt {
        timer: Timer,
        at: Option<Instant>,
    },
    /// This receiver's next frame, if nobody is served before it ([`is_behind`](super::Core::is_behind)) and there is room:
    /// [`next_frame`](super::Core::next_frame). Where it does not leave, [`Input::Unsent`](super::Input::Unsent).
    Publish {
        receiver: NodeId,
    },
    /// To be published. One that does not leave is asked for again.
    Answer(Answer),
    /// The same of anything else. What matters of it is said again.
    Send {
        to: Address,
        frame: Box<Frame>,
    },
    /// The file turned out to be an older copy of itself: a new store id for messages above `from`, and no id up to `newest` is given out. Then
    /// [`Answered::NewStore`](super::Answered::NewStore).
    WentBack {
        receiver: NodeId,
        newest: MessageId,
        from: MessageId,
    },
    /// What has been settled, for whoever counts and tells.
    Settled(Run),
    /// An answer that fits nothing.
    Unmatched,
    /// Nothing is for this receiver any more.
    Gone {
        receiver: NodeId,
    },
    /// Messages travel under another store id: frames that were made ahead are none any more.
    Renewed,

    /// See [`inbound::Effect::Handle`](crate::protocol::inbound::Effect::Handle).
    Handle {
        source: Source,
        messages: Vec<(MessageId, C)>,
        note: Option<(Slot, u32)>,
        beside_others: bool,
    },
    Unnote {
        slot: Slot,
    },
    Cease {
        source: Source,
    },
    /// Write the receipt. `alone`: no other would share the commit, and it may be made on the spot.
    Commit {
        source: Source,
        id: MessageId,
        alone: bool,
    },
    Gap {
        source: Source,
        gap: crate::protocol::inbox::Gap,
    },
    Repeated {
        source: Source,
        id: MessageId,
    },
    /// Bytes from the network that are none of ours.
    Refused {
        from: NodeId,
        reason: String,
    },
    /// Streams are to give back what nobody has looked at.
    GiveBack,
    /// Nobody takes this channel's messages any more.
    Detached {
        channel: ChannelName,
    },

    Job(Job),
    /// What the store has told is to be taken now.
    TakeNotices,

    /// For the program.
    Output(Output),
}

/// What a program sees, hears, is asked and answered.
#[derive(Debug)]
pub enum Output {
    /// What the node's status shows from now on, in `Link` to `Leader`. It comes before it is told.
    Link(Link),
    Peers {
        online: usize,
    },
    Reasons(Vec<Reason>),
    Closed(Closed),
    Leader(LeadershipView),
    /// Accounts have changed.
    AccountsChanged,

    /// The node's start returns.
    Started(Result<(), Rival>),
    /// What came of a command about a channel.
    Channel {
        ticket: Ticket,
        result: Result<(), NotDone>,
    },
    Ordered {
        number: u64,
        node: NodeId,
        answer: admin::Answer,
    },
    StateSet {
        ticket: Ticket,
        result: Result<Version, NotSet>,
    },
    HandedOver {
        ticket: Ticket,
        result: Result<NodeId, NotHandedOver>,
    },
    /// For all who asked for reasons.
    AllReasons(Vec<Reason>),
    /// Nobody gets an answer to an order or a question any more.
    Dismiss,
    /// The program's function for this is to be called, after those before it have returned.
    Call(Call),

    /// For the node's monitors.
    Event(Event),
    Election(Notice),
    Stall(News),
    Limit(LimitNear),
    /// The machine was suspended for so long.
    Suspended(Duration),
}
