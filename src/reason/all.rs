//! All reasons, the most important first.

use super::{Template, apart, count, processes, shown, size, span};
use crate::message::{ChannelName, MessageId, NodeId};

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
        "stop the node, run `waypost db check`, look at the disk; if it is confirmed, restore a backup with `waypost db restore`"
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

    /// The node's files take as much as they may: sends are refused.
    StorageLimit {
        /// The file.
        path: String,
        /// What the files take, less what is free in the database.
        used_bytes: u64,
        /// The most that they may take.
        limit_bytes: u64,
    } = "storage_limit"
        let used = size(*used_bytes);
        let limit = size(*limit_bytes);
        "the files of {path} take {used}, and storage_limit is {limit}"
        "wait until receivers take some messages, raise storage_limit, or purge"
        "there is room again below the storage_limit of {path}"

    /// The database is gone, and its log is not: a new one would destroy what that holds.
    StrayLog {
        /// The file.
        path: String,
        /// The log.
        log: String,
    } = "stray_log"
        "{path:?} is missing or empty, yet {log:?} holds data of it"
        "put the database back beside its log, or move the log away to start anew"
        "{path:?} stands beside its own log"

    /// The log beside the database was written for another one, or for another state of it.
    ForeignLog {
        /// The file.
        path: String,
        /// The log.
        log: String,
        /// How that shows.
        said: String,
    } = "foreign_log"
        "the log {log:?} does not belong to {path:?}, {said}"
        "restore a backup with `waypost db restore BACKUP`, which sets the log aside, or put back the database that the log belongs to"
        "{path:?} stands beside its own log"

    /// Another program reads an old state of the file, so that its log cannot begin again.
    LogHeld {
        /// How long the log is.
        bytes: u64,
        /// The processes that read it, where the system tells.
        readers: Vec<u32>,
    } = "log_held"
        let who = processes(readers);
        let size = size(*bytes);
        "{who} keeps reading an old state of the file, so its log grows: {size}"
        "end what it does (a backup, a database browser); the log takes from storage_limit and the disk"
        "the file's log is held up no longer"

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

    /// This process may open no more files, and a connection is one.
    NoFiles {
        /// What the system says.
        said: String,
    } = "no_files"
        "this process can open no more files, so there is no connection to NATS ({said}); messages wait"
        "raise its limit (ulimit -n, LimitNOFILE=), or let it open fewer; it is tried again by itself"
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

    /// The node's files have come near to the most that they may take.
    StorageNear {
        /// For whom most messages wait; none: a channel's first reader, yet to come, or nobody.
        receiver: Option<NodeId>,
        /// How much of the limit, for whom, since when.
        near: String,
    } = "storage_near"
        "the limit of the files comes near ({near})"
        "look after that receiver, raise storage_limit, or free some space: at it send is refused, or the oldest messages give way"
        "the limit of the files is near no longer"

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

    /// The wall clock and the file's own, which counts what is known to have passed, are more than an hour apart. Messages are delivered all the same.
    ClockApart {
        /// By how much the wall clock is ahead, in milliseconds; below zero: behind.
        by_ms: i64,
    } = "clock_apart"
        let apart = apart(*by_ms);
        "the wall clock is {apart} what is known to have passed"
        "nothing has to be done; if that time passed, stop the node and run `waypost db believe-clock`; if the clock is wrong, set it"
        "the wall clock shows what is known to have passed"

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
