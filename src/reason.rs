//! Why messages don't move: each way in one sentence, with what to do about it.
//!
//! A [`Reason`] says the same wherever it is told: [`Node::status`](crate::Node::status), events, log lines, `waypost why`, `waypost doctor`, `/readyz`.
//! `docs/troubleshooting.md` lists all of them.

use std::fmt;
use std::time::{Duration, SystemTime};

use serde::ser::SerializeStruct;
use serde::{Deserialize, Serialize, Serializer};

use crate::message::{ChannelName, MessageId, NodeId};

/// A reason's texts before its values are filled in, as they stand in `docs/troubleshooting.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Template {
    /// The reason's name, which does not change.
    pub name: &'static str,
    /// What is the matter; `{word}` stands for a value.
    pub sentence: &'static str,
    /// What to do about it.
    pub remedy: &'static str,
    /// What is said when it is over.
    pub over: &'static str,
}

/// Defines the reasons, the most important first. `let` gives a word of the texts where the field alone does not read well.
macro_rules! reasons {
    ($(
        $(#[$doc:meta])*
        $variant:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* } = $name:literal
        $(let $word:ident = $value:expr;)*
        $sentence:literal
        $remedy:literal
        $over:literal
    )+) => {
        /// Why messages don't move. `Display` gives the sentence and the remedy.
        #[derive(Debug, Clone, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum Reason {
            $($(#[$doc])* $variant { $($(#[$field_doc])* $field: $type,)* },)+
        }

        impl Reason {
            /// All reasons, the most important first.
            pub const ALL: &[Template] = &[$(Template {
                name: $name,
                sentence: $sentence,
                remedy: $remedy,
                over: $over,
            },)+];

            /// Its name, for programs: it does not change.
            pub const fn name(&self) -> &'static str {
                match self {
                    $(Self::$variant { .. } => $name,)+
                }
            }

            /// What is the matter, in one sentence.
            #[allow(unused_variables)]
            pub fn sentence(&self) -> String {
                match self {
                    $(Self::$variant { $($field),* } => {
                        $(let $word = $value;)*
                        format!($sentence)
                    })+
                }
            }

            /// What to do about it.
            #[allow(unused_variables)]
            pub fn remedy(&self) -> String {
                match self {
                    $(Self::$variant { $($field),* } => {
                        $(let $word = $value;)*
                        format!($remedy)
                    })+
                }
            }

            /// What is said once it is over.
            #[allow(unused_variables)]
            pub fn over(&self) -> String {
                match self {
                    $(Self::$variant { $($field),* } => {
                        $(let $word = $value;)*
                        format!($over)
                    })+
                }
            }
        }
    };
}

reasons! {
    /// The node has stopped, by itself or by `shutdown`.
    Ended {} = "ended"
        "the node has ended"
        "start it again; its log says why it ended"
        "the node runs"

    /// A part of the node panicked: a bug.
    Broken {
        /// Which part.
        what: String,
    } = "broken"
        "{what} panicked, and nothing is accepted"
        "restart the node, and report this with its log"
        "{what} works again"

    /// Another node with this name was there first: this one neither sends nor receives.
    NameTaken {
        /// The other's host.
        host: String,
    } = "name_taken"
        "another node with this name is running on {host}, so this one neither sends nor receives"
        "stop one of them, or give this one another id and a file of its own"
        "no other node with this name is running"

    /// No node runs on a file in which messages wait.
    NotRunning {
        /// The file.
        path: String,
    } = "not_running"
        "no node runs on {path}"
        "start it; messages wait in the file until then"
        "a node runs on {path}"

    /// A node has its file open, and does not answer questions over NATS.
    Silent {
        /// The node.
        node: NodeId,
        /// Its process.
        pid: u32,
    } = "silent"
        "node {node} (process {pid}) runs and answers no question over NATS"
        "look at its log, and compare its server and prefix with these settings"
        "node {node} answers"

    /// Another node, or another run of this one, has the file open.
    FileInUse {
        /// The file.
        path: String,
        /// Who has it.
        who: String,
    } = "file_in_use"
        "{path:?} is in use by {who}"
        "stop that one, or give this node a file of its own"
        "{path:?} is free"

    /// Another program holds a lock of SQLite's on the file.
    FileLocked {
        /// The file.
        path: String,
    } = "file_locked"
        "{path:?} is locked by another program"
        "close what has it open (a database browser, a backup)"
        "{path:?} is free"

    /// The file cannot be read or written.
    FileFailed {
        /// The file.
        path: String,
        /// What the failed call said.
        said: String,
    } = "file_failed"
        "{path} cannot be read or written ({said})"
        "look at the disk; the node tries again by itself"
        "{path} can be written again"

    /// The file's structure is damaged.
    FileDamaged {
        /// The file.
        path: String,
        /// What SQLite said.
        said: String,
    } = "file_damaged"
        "{path} is damaged ({said})"
        "stop the node, run `waypost db check`, restore a backup if it is confirmed"
        "{path} can be written again"

    /// The file was deleted or replaced while it was open.
    FileReplaced {
        /// The file.
        path: String,
    } = "file_replaced"
        "{path} was deleted or replaced while it was open"
        "put the right file back, then restart the node"
        "{path} is the right file again"

    /// There is no space for messages.
    DiskFull {
        /// The file.
        path: String,
    } = "disk_full"
        "no space left for {path}, the disk is full (or a quota, or a limit)"
        "free some space; a running node goes on by itself"
        "there is space again for {path}"

    /// The node was kicked out of all channels.
    Kicked {
        /// By whom.
        by: NodeId,
    } = "kicked"
        "{by} kicked this node from all channels, so it neither sends nor receives"
        "ask who did it; it takes part again after readmit, or a restart"
        "this node was readmitted"

    /// The node was kicked out of a channel.
    KickedFrom {
        /// By whom.
        by: NodeId,
        /// From where.
        channel: ChannelName,
    } = "kicked_from"
        let channel = channel.as_str();
        "{by} kicked this node from {channel:?}"
        "ask who did it; it takes part again after readmit, or a restart"
        "this node was readmitted to {channel:?}"

    /// The node is being drained: it delivers what it has and takes no more.
    Draining {
        /// At whose order.
        by: NodeId,
    } = "draining"
        "this node is being drained by {by}, so it takes no messages"
        "ask who did it; it takes messages again after readmit, and a restart does not end it"
        "this node is drained no longer"

    /// The server refuses our credentials.
    Unauthorized {
        /// What the server says.
        said: String,
    } = "unauthorized"
        "the NATS server refuses our credentials ({said}); messages wait"
        "give others (--creds, or `auth` in the settings), or correct the user at the server; it is tried again by itself"
        "the NATS server lets us in"

    /// A certificate, a key or a file of the settings keeps the connection from being encrypted.
    NoTrust {
        /// What was wrong.
        said: String,
    } = "no_trust"
        "no encrypted connection to NATS ({said}); messages wait"
        "renew or correct what is named, here or at the server; files are read again at each try"
        "connected to NATS"

    /// There is no connection to a server.
    NoServer {
        /// What the client says.
        said: String,
    } = "no_server"
        "not connected to NATS ({said}); messages wait"
        "start a server there, or correct the address or the network; it is tried again by itself"
        "connected to NATS"

    /// The server refuses one of our subscriptions or publications.
    Denied {
        /// What the server says.
        said: String,
    } = "denied"
        "the NATS server's permissions are too narrow ({said})"
        "allow this user the subjects of docs/security.md; `waypost doctor` names those that are missing"
        "the NATS server allows what it refused"

    /// A limit of the server keeps this node from doing all that it has to.
    ServerLimit {
        /// What the server says.
        said: String,
    } = "server_limit"
        "a limit of the NATS server is too low ({said})"
        "raise it in the server's configuration, or in the account's"
        "the NATS server's limit is no longer in the way"

    /// The server says something that is neither a refusal nor a limit that is known here.
    ServerSaid {
        /// What it says.
        said: String,
    } = "server_said"
        "the NATS server says {said}"
        "look at its log: whether that keeps messages from moving is not known here"
        "the NATS server says nothing of that kind any more"

    /// A receiver's queue has reached its limit: sends are refused.
    QueueFull {
        /// The receiver; none: a channel's first reader, yet to come.
        receiver: Option<NodeId>,
        /// How many messages wait for it.
        waiting: u64,
        /// The limit.
        limit: u64,
    } = "queue_full"
        let receiver = shown(receiver.as_ref());
        "{waiting} messages wait for {receiver}, limit {limit}"
        "wait until it takes some, raise queue_limit, or purge"
        "the queue for {receiver} has room again"

    /// What waits has come near to a limit.
    LimitNear {
        /// Who is furthest behind; none: a channel's first reader, yet to come.
        receiver: Option<NodeId>,
        /// How much of which limit, for whom, since when.
        near: String,
    } = "limit_near"
        "a limit comes near ({near})"
        "look after that receiver, or raise the limit: at it send is refused, or the oldest messages give way"
        "no limit is near any more"

    /// Nobody is master, and too few voters are there to elect one.
    NoQuorum {
        /// How many voters are online, this node included where it has a vote.
        online: u64,
        /// How many have a vote.
        voters: u64,
        /// How many have to agree.
        needed: u64,
    } = "no_quorum"
        "no master can be elected: {online} of {voters} voters are online, {needed} are needed"
        "start the others, or look at their connections (docs/election.md)"
        "enough voters are online to elect a master"

    /// The wall clock says what cannot be. Messages are delivered all the same.
    ClockWrong {
        /// What it says, in UTC.
        says: String,
    } = "clock_wrong"
        "the clock says {says}, which can't be right"
        "set it (NTP, or the board's battery); messages are delivered all the same, but the times that are shown mislead"
        "the clock is right again"

    /// This node reads a channel and takes no messages there.
    PausedHere {
        /// The channel.
        channel: ChannelName,
    } = "paused_here"
        let channel = channel.as_str();
        "this node takes no messages on {channel:?}, which is paused or has no handler"
        "resume the channel, or give it a handler; what is sent meanwhile waits at the senders"
        "this node takes messages on {channel:?}"

    /// Messages wait for a channel's first reader.
    NobodyYet {
        /// How many messages wait.
        waiting: u64,
        /// The channel.
        channel: ChannelName,
    } = "nobody_yet"
        let wait = count(*waiting);
        let channel = channel.as_str();
        "{wait} on {channel:?} for a first reader, and no node has joined it to read"
        "start the reader, and compare its channel, server and prefix with this node's"
        "{channel:?} has a reader"

    /// Messages wait for a receiver that this node has never heard.
    NeverHeard {
        /// The receiver.
        receiver: NodeId,
        /// How many messages wait for it.
        waiting: u64,
    } = "never_heard"
        let wait = count(*waiting);
        "{wait} for {receiver}, which was never heard"
        "start it, and compare its name, server and prefix with what is meant"
        "{receiver} is online"

    /// Messages wait for a receiver that is offline.
    Offline {
        /// The receiver.
        receiver: NodeId,
        /// How many messages wait for it.
        waiting: u64,
        /// How long ago it was last heard, in milliseconds, as far as this run knows.
        heard_ms_ago: u64,
    } = "offline"
        let wait = count(*waiting);
        let age = span(*heard_ms_ago);
        "{wait} for {receiver}, which is offline, last heard {age} ago"
        "start it, or look at its network; `waypost forget` gives up what waits"
        "{receiver} is online"

    /// Messages wait for a receiver that has not joined their channel to read it.
    NotJoined {
        /// The receiver.
        receiver: NodeId,
        /// How many messages wait for it in the channel.
        waiting: u64,
        /// The channel.
        channel: ChannelName,
    } = "not_joined"
        let wait = count(*waiting);
        let channel = channel.as_str();
        "{wait} on {channel:?} for {receiver}, which is online and does not read that channel"
        "have it join the channel as a reader, or purge what waits"
        "{receiver} reads {channel:?}"

    /// Messages wait for a receiver that takes none at present.
    Paused {
        /// The receiver.
        receiver: NodeId,
        /// How many messages wait for it in the channel.
        waiting: u64,
        /// The channel.
        channel: ChannelName,
    } = "paused"
        let wait = count(*waiting);
        let channel = channel.as_str();
        "{wait} on {channel:?} for {receiver}, which has paused that channel or has no handler there"
        "resume it there; the messages go on by themselves"
        "{receiver} takes messages on {channel:?}"

    /// A receiver refuses a message; those behind it wait.
    Refusing {
        /// The receiver.
        receiver: NodeId,
        /// How many messages wait for it in the channel, this one included.
        waiting: u64,
        /// The channel.
        channel: ChannelName,
        /// The message.
        id: MessageId,
        /// How often it was refused.
        attempts: u64,
    } = "refusing"
        let wait = count(*waiting);
        let channel = channel.as_str();
        "{wait} on {channel:?} for {receiver}, whose handler refused {id} {attempts} times"
        "look at its log; `waypost why` tells its answers, and after max_attempts it becomes a dead letter"
        "{receiver} goes on with {channel:?}"

    /// A receiver is online and does not answer; what is behind the message waits.
    NoAnswer {
        /// The receiver.
        receiver: NodeId,
        /// How many messages wait for it in the channel, this one included.
        waiting: u64,
        /// The channel.
        channel: ChannelName,
        /// The message.
        id: MessageId,
        /// How often it was sent.
        attempts: u64,
    } = "no_answer"
        let wait = count(*waiting);
        let channel = channel.as_str();
        "{wait} on {channel:?} for {receiver}, which is online and did not answer {id}, sent {attempts} times"
        "it may have handled it; look whether its node hangs, and at its permissions to publish"
        "{receiver} answers on {channel:?}"

    /// A receiver's handler is still busy with a message; what is behind it waits.
    Working {
        /// The receiver.
        receiver: NodeId,
        /// How many messages wait for it in the channel, this one included.
        waiting: u64,
        /// The channel.
        channel: ChannelName,
        /// The message.
        id: MessageId,
    } = "working"
        let wait = count(*waiting);
        let channel = channel.as_str();
        "{wait} on {channel:?} for {receiver}, whose handler is still busy with {id}"
        "look whether it hangs or waits for something; no attempt is counted meanwhile"
        "{receiver} goes on with {channel:?}"
}

/// 2024-01-01T00:00:00Z: no waypost is older.
const EARLIEST: Duration = Duration::from_secs(1_704_067_200);
/// 2100-01-01T00:00:00Z.
const LATEST: Duration = Duration::from_secs(4_102_444_800);
/// The last second that the usual format has room for.
const LAST: Duration = Duration::from_secs(253_402_300_799);

impl Reason {
    /// Whether a wall clock that says this was ever set.
    pub fn of_clock(now: SystemTime) -> Option<Self> {
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let shown = SystemTime::UNIX_EPOCH + since.min(LAST);
        let says = || humantime::format_rfc3339_seconds(shown).to_string();
        (!(EARLIEST..LATEST).contains(&since)).then(|| Self::ClockWrong { says: says() })
    }

    /// The receiver that it is about, if it is about one.
    pub fn receiver(&self) -> Option<&NodeId> {
        match self {
            Self::QueueFull { receiver, .. } | Self::LimitNear { receiver, .. } => {
                receiver.as_ref()
            }
            Self::NeverHeard { receiver, .. }
            | Self::Offline { receiver, .. }
            | Self::NotJoined { receiver, .. }
            | Self::Paused { receiver, .. }
            | Self::Refusing { receiver, .. }
            | Self::NoAnswer { receiver, .. }
            | Self::Working { receiver, .. } => Some(receiver),
            _ => None,
        }
    }

    /// The channel that it is about, if it is about one.
    pub fn channel(&self) -> Option<&ChannelName> {
        match self {
            Self::KickedFrom { channel, .. }
            | Self::PausedHere { channel }
            | Self::NobodyYet { channel, .. }
            | Self::NotJoined { channel, .. }
            | Self::Paused { channel, .. }
            | Self::Refusing { channel, .. }
            | Self::NoAnswer { channel, .. }
            | Self::Working { channel, .. } => Some(channel),
            _ => None,
        }
    }

    /// Whether both say the same of the same, with other numbers perhaps.
    pub fn is_about_the_same(&self, other: &Self) -> bool {
        self.key() == other.key()
    }

    pub(crate) fn key(&self) -> (usize, Option<&NodeId>, Option<&ChannelName>) {
        (self.rank(), self.receiver(), self.channel())
    }

    /// Its place among all: the lower, the more important.
    fn rank(&self) -> usize {
        let name = self.name();
        Self::ALL.iter().position(|template| template.name == name).unwrap_or(usize::MAX)
    }

    /// Whether it is about messages that wait for somebody, rather than about the node.
    pub fn is_about_a_receiver(&self) -> bool {
        match self {
            // That is about the sends that are refused, or will be.
            Self::QueueFull { .. } | Self::LimitNear { .. } => false,
            Self::NobodyYet { .. } => true,
            _ => self.receiver().is_some(),
        }
    }

    /// From what a server says besides its answers.
    #[doc(hidden)]
    pub fn refused(said: String) -> Self {
        let lower = said.to_lowercase();
        if lower.starts_with("maximum ") {
            Self::ServerLimit { said }
        } else if lower.starts_with("permissions violation") {
            Self::Denied { said }
        } else {
            Self::ServerSaid { said }
        }
    }

    /// Whether it says why there is no connection: one such reason can follow another.
    pub(crate) fn is_about_the_link(&self) -> bool {
        matches!(self, Self::Unauthorized { .. } | Self::NoTrust { .. } | Self::NoServer { .. })
    }

    /// Whether it is of what a server has said, which nobody knows of any more while there is no connection.
    pub(crate) fn is_of_the_server(&self) -> bool {
        matches!(self, Self::Denied { .. } | Self::ServerLimit { .. } | Self::ServerSaid { .. })
    }

    /// Whether this node is cut off by it, so that it knows nothing of its receivers.
    pub(crate) fn cuts_off(&self) -> bool {
        matches!(
            self,
            Self::Ended { .. }
                | Self::NameTaken { .. }
                | Self::Unauthorized { .. }
                | Self::NoTrust { .. }
                | Self::NoServer { .. }
        )
    }

    /// Whether it is about the file.
    pub(crate) fn is_about_the_file(&self) -> bool {
        matches!(
            self,
            Self::Broken { .. }
                | Self::FileInUse { .. }
                | Self::FileLocked { .. }
                | Self::FileFailed { .. }
                | Self::FileDamaged { .. }
                | Self::FileReplaced { .. }
                | Self::DiskFull { .. }
        )
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.sentence(), self.remedy())
    }
}

impl Serialize for Reason {
    /// As a [`Told`].
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut told = serializer.serialize_struct("Told", 5)?;
        told.serialize_field("reason", self.name())?;
        told.serialize_field("sentence", &self.sentence())?;
        told.serialize_field("remedy", &self.remedy())?;
        told.serialize_field("receiver", &self.receiver())?;
        told.serialize_field("channel", &self.channel())?;
        told.end()
    }
}

/// A reason as another node tells it, which may know more of them than this version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Told {
    /// Its name.
    pub reason: String,
    /// What is the matter.
    pub sentence: String,
    /// What to do about it.
    pub remedy: String,
    /// The receiver that it is about, if it is about one.
    #[serde(default)]
    pub receiver: Option<NodeId>,
    /// The channel that it is about, if it is about one.
    #[serde(default)]
    pub channel: Option<ChannelName>,
}

impl From<&Reason> for Told {
    fn from(reason: &Reason) -> Self {
        Self {
            reason: reason.name().to_owned(),
            sentence: reason.sentence(),
            remedy: reason.remedy(),
            receiver: reason.receiver().cloned(),
            channel: reason.channel().cloned(),
        }
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.sentence, self.remedy)
    }
}

/// The most important first.
pub(crate) fn sort(reasons: &mut [Reason]) {
    reasons.sort_by(|a, b| a.key().cmp(&b.key()));
}

fn shown(receiver: Option<&NodeId>) -> &str {
    receiver.map_or("a first reader", NodeId::as_str)
}

fn count(waiting: u64) -> String {
    match waiting {
        1 => "1 message waits".to_owned(),
        _ => format!("{waiting} messages wait"),
    }
}

/// How long, in its two greatest units.
pub(crate) fn span(millis: u64) -> String {
    let coarse = match millis / 1000 {
        secs @ 0..=3_599 => secs,
        secs @ 3_600..=86_399 => secs - secs % 60,
        secs => secs - secs % 3_600,
    };
    humantime::format_duration(Duration::from_secs(coarse)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str) -> NodeId {
        NodeId::new(name).expect("a valid name")
    }

    #[test]
    fn a_reason_says_what_is_the_matter_and_what_to_do() {
        let offline = Reason::Offline { receiver: node("b"), waiting: 1, heard_ms_ago: 3_725_000 };
        assert_eq!(
            offline.to_string(),
            "1 message waits for b, which is offline, last heard 1h 2m ago: start it, or look at its network; \
             `waypost forget` gives up what waits"
        );
        assert_eq!(Told::from(&offline).to_string(), offline.to_string());
        let nobody = Reason::QueueFull { receiver: None, waiting: 5, limit: 5 };
        assert_eq!(nobody.sentence(), "5 messages wait for a first reader, limit 5");
    }

    #[test]
    fn a_clock_that_was_never_set_is_noticed() {
        let name = |at: SystemTime| Reason::of_clock(at).map(|reason| reason.name());
        let epoch = SystemTime::UNIX_EPOCH;
        assert_eq!(name(epoch - EARLIEST), Some("clock_wrong"));
        assert_eq!(name(epoch), Some("clock_wrong"));
        assert_eq!(name(epoch + EARLIEST), None);
        assert_eq!(name(epoch + LATEST), Some("clock_wrong"));
        assert_eq!(name(epoch + 100 * LATEST), Some("clock_wrong"));
        let never_set = Reason::of_clock(epoch).expect("1970").sentence();
        assert_eq!(never_set, "the clock says 1970-01-01T00:00:00Z, which can't be right");
    }

    #[test]
    fn what_another_node_tells_is_read_whatever_its_name() {
        let reason = Reason::Denied { said: "x".to_owned() };
        let json = serde_json::to_string(&reason).expect("texts");
        let told: Told = serde_json::from_str(&json).expect("the same fields");
        assert_eq!(told, Told::from(&reason));
        let newer = r#"{"reason":"of_tomorrow","sentence":"s","remedy":"r","more":1}"#;
        let told: Told = serde_json::from_str(newer).expect("unknown fields are ignored");
        assert_eq!(told.to_string(), "s: r");
    }

    /// A text as the table has it: values in italics.
    fn in_markdown(text: &str) -> String {
        text.replace(":?}", "}").replace(['{', '}'], "*")
    }

    #[test]
    fn the_table_of_reasons_says_what_the_code_says() {
        let page = include_str!("../docs/troubleshooting.md");
        let rows = page.lines().filter_map(|line| {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            let name = cells.get(3)?.strip_prefix('`')?.strip_suffix('`')?;
            Some((name, cells[2].to_owned()))
        });
        let rows: std::collections::BTreeMap<&str, String> = rows.collect();
        for Template { name, sentence, remedy, .. } in Reason::ALL {
            let text = format!("{}: {}", in_markdown(sentence), in_markdown(remedy));
            assert_eq!(rows.get(name), Some(&text), "the row of {name}");
        }
        assert_eq!(rows.len(), Reason::ALL.len(), "a row for a reason that there is not");
    }

    #[test]
    fn names_are_unique_and_texts_are_short_sentences() {
        for (index, template) in Reason::ALL.iter().enumerate() {
            let Template { name, sentence, remedy, over } = *template;
            assert!(Reason::ALL[..index].iter().all(|other| other.name != name), "{name} twice");
            for text in [sentence, remedy, over] {
                assert!(!text.is_empty() && !text.ends_with('.'), "{name}: {text}");
                assert!(text.split_whitespace().count() <= 25, "{name}: {text}");
            }
        }
    }
}
