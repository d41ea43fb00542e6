//! What can be written on the command line.

use std::ffi::OsString;
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};
use waypost::{ChannelName, Kind, MessageId, NodeId, Priority};
use waypost_bench::Scenario;
use waypost_process::streams;

mod order;
mod top;
mod values;

pub(crate) use order::subcommand_first;
use top::TOP_HELP;
pub(crate) use top::{FASTEST, SLOWEST, Top};
pub(crate) use values::{From, Ttl, Wait};
use values::{parse_duration, parse_from, parse_seconds, parse_ttl, parse_wait};

const AFTER_HELP: &str = "\
Exit codes:
  0    done
  1    it failed; standard error says why. `send`: the ids could not be printed, and all was committed
  2    the command line or the settings are wrong
  3    `send --wait DURATION`: some messages are not settled yet (they are safe, and the next run carries on);
       `bench`: no target is missed, but not all could be measured
  4    no node answered, or not the one that was asked, or one did not that others hear (what the others said is printed)
  5    `send`: a message of this run expired or became a dead letter while it waited; standard error says how many, and for whom
  130, 143  `send` was ended by SIGINT or SIGTERM; what it printed is durable. `bench` was; nothing of it is left

Settings come from, the later winning: the defaults, the file of --config, the environment, the command line.
Every field of the file can stand in the environment: ack_timeout as WAYPOST_ACK_TIMEOUT, auth.token as WAYPOST_AUTH_TOKEN.

Where neither --db nor --id is given, the node's file is ./waypost.db and its name comes from the host's; with --id alone the file
is ./waypost-ID.db. Two nodes need two files and two names.

Options may stand before or after the subcommand. Results go to standard output, all else to standard error.";

const SEND_EXAMPLES: &str = "\
Examples:
  waypost send orders 'two boxes of nails'
  waypost send photos --kind image/jpeg < pier.jpg
  tail -F sensor.log | waypost send readings --lines --ttl 10m --priority low
  waypost send orders 'urgent' --to warehouse --wait 30s

A line whose id was printed is durable: it will arrive, however long the network or the receiver is away. Empty lines are
messages too; only the line break is taken off. When a receiver's queue or the disk is full, --lines waits until there is room.

When nobody takes the ids any more (`| head -1`, a full disk), the messages are sent all the same; exit 1 then, and standard error says
how many are committed and how many ids were printed. Exit 5: a message of this run expired or became a dead letter while `send` waited.";

const ORDERS_HELP: &str = "\
Each node obeys or refuses by itself, as its setting `management` says, writes that into its audit (`waypost audit`), and answers what it
did. A node that is not there gets nothing, also not later. Without --yes a terminal is asked for confirmation.

Exit codes: 0: all obeyed. 1: one refused, or it failed. 2: no --yes, and no terminal to ask. 4: one is not there, or did not answer
(it may have obeyed); standard error names it.

The NATS server's permissions say who may give orders at all: an operator's login, with --id the name that it is bound to.";

const BENCH_HELP: &str = "\
Scenarios:
  one      one message in flight, one receiver
  many     one message in flight, many receivers
  live     batching, sent and received at once
  drain    batching, a backlog of 1,000,000 drained
  fanout   many readers of one channel: the cost of a send, deliveries in all
  latency  send to handler, at a steady pace and after a minute of silence
  backlog  1,000,000 pending: start, memory, pace, file
  scale    one node with 1,000 peers: idle, and all served at once
  senders  concurrent senders, an fsync behind every Ok
  wear     bytes written to the disk for each message, at 0.1 to 100 messages a second
  normal   without an fsync (Durability::Normal): told, not judged
  outage   the server away for some seconds: told, not judged

Each measures its own anchors in turn with what it judges. A target that could not be judged is told, never passed.

Exit codes: 0: all targets are met (--quick: it ran). 1: one is missed, or the run failed. 2: wrong usage. 3: none is missed, but not all could
be measured. 130, 143: it was ended by SIGINT or SIGTERM; nothing of it is left.";

const RECV_EXAMPLES: &str = "\
Examples:
  waypost recv orders
  waypost recv orders --count 1 --json | jq -r .text
  waypost recv readings --from 2h --idle 5s

A message is acknowledged after its line was written in one write: into a file or a pipe, from which nobody may have read it yet. What
`recv | program` has in its pipe when the program dies is lost to the program, and does not come again. When nobody reads the pipe any
more, `recv` ends.

A payload with line breaks is printed as it is; with --json
every message is one line. Killed between writing and acknowledging, `recv` prints that one message again in its next run.";

/// Sends and receives messages that arrive in order, once, however long the network is away; looks after nodes and their files.
// No `Debug`: an address may hold a password.
#[derive(Parser)]
#[command(name = "waypost", version, after_long_help = AFTER_HELP, propagate_version = true)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of all subcommands.
#[derive(Clone, clap::Args)]
#[command(next_help_heading = "Options of all commands")]
pub(crate) struct Global {
    /// NATS servers, tried in turn [default: nats://localhost:4222]
    #[arg(long, global = true, value_name = "URL[,URL]", value_delimiter = ',')]
    #[arg(env = "WAYPOST_NATS", hide_env_values = true)]
    pub(crate) nats: Option<Vec<String>>,
    /// This node's name [default: the one kept in the file, or the host's]
    #[arg(long, global = true, value_name = "NODE", env = "WAYPOST_ID")]
    pub(crate) id: Option<NodeId>,
    /// The node's file; `{id}` stands for its name [default: ./waypost.db, with --id ./waypost-ID.db]
    #[arg(long, global = true, value_name = "PATH", env = "WAYPOST_DB")]
    pub(crate) db: Option<PathBuf>,
    /// How long to wait for the file while another process has it [default: 10s]
    #[arg(long, global = true, value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) lock_wait: Option<Duration>,
    /// The first part of every subject; nodes with different prefixes do not see each other [default: waypost]
    #[arg(long, global = true, env = "WAYPOST_PREFIX")]
    pub(crate) prefix: Option<String>,
    /// A .creds file for the NATS server
    #[arg(long, global = true, value_name = "FILE", env = "WAYPOST_CREDS")]
    pub(crate) creds: Option<PathBuf>,
    /// A TOML file with settings
    #[arg(long, global = true, value_name = "FILE", env = "WAYPOST_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// Say more on standard error; twice for everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Say only errors on standard error
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
}

/// How results are printed. Not with the options of all commands, because `bench --json` takes a file.
#[derive(Debug, Clone, Copy, clap::Args)]
#[command(next_help_heading = "Options of all commands")]
pub(crate) struct Format {
    /// Results as JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Send a message, standard input, or each of its lines; print the ids
    #[command(after_long_help = SEND_EXAMPLES)]
    Send(Send),
    /// Print the messages of a channel, one a line
    #[command(after_long_help = RECV_EXAMPLES)]
    Recv(Recv),
    /// Ask the running nodes who is there
    Peers(Format),
    /// Ask the running nodes who takes part in which channel
    Topology(Topology),
    /// Watch all running nodes: rates, backlog, latency, peers, master, what changed
    #[command(after_long_help = TOP_HELP)]
    Top(Top),
    /// Ask the running nodes who is master; exit 1 where nobody is
    Master(Format),
    /// Print the state that the master hands on
    State {
        /// As this node has it [default: the master]
        node: Option<NodeId>,
        #[command(flatten)]
        format: Format,
    },
    /// Ask the running nodes for their accounts and counters
    Stats(Stats),
    /// Have a node leave all channels, and stay out until it is readmitted or started again
    #[command(after_long_help = ORDERS_HELP)]
    Kick {
        /// The node
        node: NodeId,
        #[command(flatten)]
        order: Ordering,
    },
    /// Have nodes leave one channel, and stay out of it
    #[command(after_long_help = ORDERS_HELP)]
    #[command(
        override_usage = "waypost kick-channel [OPTIONS] <CHANNEL> <NODE>...\n       waypost kick-channel [OPTIONS] --all <CHANNEL>"
    )]
    KickChannel {
        /// The channel
        channel: ChannelName,
        #[command(flatten)]
        nodes: Nodes,
        #[command(flatten)]
        order: Ordering,
    },
    /// Have nodes give up what waits in their queues, or delete what is settled
    #[command(after_long_help = ORDERS_HELP)]
    #[command(
        override_usage = "waypost purge [OPTIONS] <WHAT> <NODE>...\n       waypost purge [OPTIONS] --all <WHAT>"
    )]
    Purge {
        /// What: queue (accounted as purged), sent (kept only for the retention), or all
        what: Purge,
        #[command(flatten)]
        nodes: Nodes,
        #[command(flatten)]
        order: Ordering,
    },
    /// Have nodes forget a peer, with what waits for it
    #[command(after_long_help = ORDERS_HELP)]
    Forget {
        /// The peer
        node: NodeId,
        /// Who is to forget it [default: every node that answers]
        #[arg(long, value_name = "NODE", num_args = 1..)]
        on: Vec<NodeId>,
        #[command(flatten)]
        order: Ordering,
    },
    /// Have a node take no new messages, and deliver what it has, until it is readmitted; a restart does not end it
    #[command(after_long_help = ORDERS_HELP)]
    Drain {
        /// The node
        node: NodeId,
        #[command(flatten)]
        order: Ordering,
    },
    /// End what a kick or a drain began
    #[command(after_long_help = ORDERS_HELP)]
    Readmit {
        /// The node
        node: NodeId,
        #[command(flatten)]
        order: Ordering,
    },
    /// Show which orders, purges and other decisions a node's file has on record, the newest first
    Audit {
        /// Only since this time, like 2026-11-21T09:30:00Z, or for this long, like 2h
        #[arg(long, value_name = "TIME", value_parser = parse_from)]
        since: Option<From>,
        #[command(flatten)]
        format: Format,
    },
    /// Show what a node's file holds for each receiver, the node running or not
    Queue(Format),
    /// Tell one message's story: accepted, where it waits and for what, attempts, settled when
    Why {
        /// The message's id, as `send` printed it
        #[arg(value_name = "ID")]
        message: MessageId,
        #[command(flatten)]
        format: Format,
    },
    /// Look after a node's file
    Db {
        #[command(subcommand)]
        action: Db,
        #[command(flatten)]
        format: Format,
    },
    /// Check what a node here needs: NATS, permissions, clock, disk, SQLite
    Doctor(Format),
    /// Measure what this machine does, beside what its network, its disk and JetStream do
    #[command(after_long_help = BENCH_HELP)]
    Bench(Bench),
    /// One node of a bench, told what to do by the process that measures it
    #[command(hide = true)]
    BenchNode,
    /// Print completions for a shell
    #[command(hide = true)]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Send {
    /// The channel
    pub(crate) channel: ChannelName,
    /// The message; without it, standard input as one message
    pub(crate) text: Option<OsString>,
    /// Each line of standard input is a message, committed as it arrives
    #[arg(long, conflicts_with = "text")]
    pub(crate) lines: bool,
    /// Only for this node; it need not be known yet
    #[arg(long, value_name = "NODE")]
    pub(crate) to: Option<NodeId>,
    /// How long the message may wait, like 10m; `none`: for ever [default: 7days]
    #[arg(long, value_name = "DURATION", value_parser = parse_ttl)]
    pub(crate) ttl: Option<Ttl>,
    /// The lane: high, normal or low
    #[arg(long, default_value = "normal")]
    pub(crate) priority: Priority,
    /// What the message is about [default: message]
    #[arg(long)]
    pub(crate) kind: Option<Kind>,
    /// Stay until every message in the file is settled by every known reader; with a DURATION at most so long, then exit 3
    #[arg(long, value_name = "DURATION", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = values::WAIT_FOREVER, value_parser = parse_wait)]
    #[arg(conflicts_with = "flush")]
    pub(crate) wait: Option<Wait>,
    /// After the last commit, deliver for at most this long; 0 for not at all
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = parse_duration)]
    pub(crate) flush: Duration,
    #[command(flatten)]
    pub(crate) http: waypost_http::Options,
    #[command(flatten)]
    pub(crate) format: Format,
}

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Recv {
    /// The channel
    pub(crate) channel: ChannelName,
    /// Stop after this many messages
    #[arg(long, value_name = "N")]
    pub(crate) count: Option<NonZeroU64>,
    /// Stop after this long without a message
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) idle: Option<Duration>,
    /// Where to begin with senders that do not know this reader yet: joined, now, all, a time like 2026-11-21T09:30:00Z, or an
    /// age like 10m
    #[arg(long, value_name = "START", default_value = "joined", value_parser = parse_from)]
    pub(crate) from: From,
    #[command(flatten)]
    pub(crate) http: waypost_http::Options,
    #[command(flatten)]
    pub(crate) format: Format,
}

#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Topology {
    /// As a graph for Graphviz: nodes, and what waits between them
    #[arg(long, conflicts_with = "json")]
    pub(crate) dot: bool,
    #[command(flatten)]
    pub(crate) format: Format,
}

/// How an order is given.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Ordering {
    /// Do not ask for confirmation; needed where there is no terminal
    #[arg(long, short = 'y')]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) format: Format,
}

/// Who is to obey.
#[derive(Debug, Clone, clap::Args)]
#[group(required = true)]
pub(crate) struct Nodes {
    /// The nodes
    #[arg(value_name = "NODE")]
    pub(crate) nodes: Vec<NodeId>,
    /// Every node that answers
    #[arg(long, conflicts_with = "nodes")]
    pub(crate) all: bool,
}

/// What is purged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Purge {
    /// What waits for known receivers
    Queue,
    /// What is settled
    Sent,
    /// Both
    All,
}

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Stats {
    /// All about one node
    #[arg(value_name = "NODE", conflicts_with_all = ["node", "all"])]
    pub(crate) one: Option<NodeId>,
    /// The same
    #[arg(long, value_name = "ID", conflicts_with = "all")]
    pub(crate) node: Option<NodeId>,
    /// All about every node
    #[arg(long)]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) format: Format,
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Db {
    /// Check the file: its structure, every payload's checksum, and that the accounts add up
    Check,
    /// Copy the file while it is in use; the target must not exist
    Backup {
        /// The new file
        to: PathBuf,
    },
    /// Put a backup in the file's place; the old file is kept, and the node must not be running
    Restore {
        /// The backup
        from: PathBuf,
        /// Also where the file holds messages that the backup lacks
        #[arg(long, short = 'y')]
        yes: bool,
    },
    /// Give free pages back to the disk; the node must not be running
    Vacuum,
    /// End a drain in the file of a node that is not running: `waypost readmit` needs one that is
    Readmit,
    /// Count time that was not counted because nothing showed that the wall clock is right; the node must not be running
    ///
    /// All that waits is older by that time, and expires where it is too old. docs/clocks.md says when to use it.
    BelieveClock,
}

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Bench {
    /// Only this; may be given several times [default: all]
    #[arg(long = "scenario", value_name = "NAME")]
    pub(crate) scenarios: Vec<Scenario>,
    /// What to measure it beside
    #[arg(long, value_name = "PEER")]
    pub(crate) peer: Option<Peer>,
    /// A second server, whose JetStream has `sync_interval: always`
    #[arg(long, value_name = "URL")]
    pub(crate) jetstream_always: Option<String>,
    /// Rounds; a ratio is the median of theirs [default: 5]
    #[arg(long, value_name = "N")]
    pub(crate) runs: Option<NonZeroUsize>,
    /// Length of one measurement [default: 3]
    #[arg(long, value_name = "S", value_parser = parse_seconds)]
    pub(crate) seconds: Option<Duration>,
    /// Write the results to this file, as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Write a page and plots into this folder
    #[arg(long, value_name = "DIR")]
    pub(crate) report: Option<PathBuf>,
    /// Where the nodes' files lie while it runs: a folder on the disk that is to be measured [default: the system's for temporary files]
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// Short and small, to see that all works: judges nothing
    #[arg(long)]
    pub(crate) quick: bool,
}

/// What can be measured besides waypost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Peer {
    /// JetStream of the same server
    Jetstream,
}

impl Command {
    /// Whether it draws on the whole terminal, and standard error is that terminal.
    pub(crate) fn takes_screen(&self) -> bool {
        matches!(self, Self::Top(Top { once: false, .. })) && streams::errors_are_terminal()
    }

    /// Whether results are wanted as JSON on standard output.
    pub(crate) fn json(&self) -> bool {
        match self {
            Self::Kick { order, .. }
            | Self::KickChannel { order, .. }
            | Self::Purge { order, .. }
            | Self::Forget { order, .. }
            | Self::Drain { order, .. }
            | Self::Readmit { order, .. } => order.format.json,
            Self::Peers(format)
            | Self::Master(format)
            | Self::State { format, .. }
            | Self::Topology(Topology { format, .. })
            | Self::Queue(format)
            | Self::Doctor(format)
            | Self::Why { format, .. }
            | Self::Audit { format, .. }
            | Self::Db { format, .. }
            | Self::Send(Send { format, .. })
            | Self::Recv(Recv { format, .. })
            | Self::Stats(Stats { format, .. }) => format.json,
            Self::Top(_) | Self::Bench(_) | Self::BenchNode | Self::Completions { .. } => false,
        }
    }
}
