//! What a run is to do.

use std::ffi::OsString;
use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::Serialize;
use waypost::Config;

/// What a run is to do.
#[derive(Clone)]
pub struct Options {
    /// Where the servers are, and who we are to them; the rest is not looked at.
    pub config: Config,
    /// What to measure; empty for all.
    pub scenarios: Vec<Scenario>,
    /// Whether to measure JetStream too.
    pub jetstream: bool,
    /// A server with JetStream that syncs every message (`sync_interval: always`).
    pub jetstream_always: Option<String>,
    /// Rounds of every scenario. Default: 5, quick: 1.
    pub runs: Option<NonZeroUsize>,
    /// Length of one measurement. Default: 3 s, quick: 0.1 s.
    pub window: Option<Duration>,
    /// The results as JSON.
    pub json: Option<PathBuf>,
    /// A folder for the page and the plots.
    pub report: Option<PathBuf>,
    /// Where the nodes' files lie. Default: the system's folder for temporary files.
    pub dir: Option<PathBuf>,
    /// Short and small, to see that all works; it judges nothing.
    pub quick: bool,
    /// How this run was asked for, for the page; without secrets.
    pub command: String,
    /// The command that runs [`serve_part`](crate::serve_part): a program and its words.
    pub part: Vec<OsString>,
}

/// A group of targets that share their nodes and anchors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scenario {
    /// One message in flight to one receiver.
    One,
    /// One message in flight to each of many receivers.
    Many,
    /// Frames of many messages, sent and received at once.
    Live,
    /// Frames of many messages out of a stored backlog.
    Drain,
    /// Many readers of one channel.
    Fanout,
    /// From the call of `send` to the start of the handler.
    Latency,
    /// A large backlog: its start, its memory, its file.
    Backlog,
    /// A thousand peers.
    Scale,
    /// Concurrent senders.
    Senders,
    /// What a message writes to the disk.
    Wear,
    /// Without an fsync at every commit: told, not judged.
    Normal,
    /// The server away for some seconds: told, not judged.
    Outage,
}

impl Scenario {
    /// All of them, in the order in which they run.
    pub const ALL: [Self; 12] = [
        Self::One,
        Self::Many,
        Self::Live,
        Self::Drain,
        Self::Fanout,
        Self::Latency,
        Self::Backlog,
        Self::Scale,
        Self::Senders,
        Self::Wear,
        Self::Normal,
        Self::Outage,
    ];

    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::One => "one",
            Self::Many => "many",
            Self::Live => "live",
            Self::Drain => "drain",
            Self::Fanout => "fanout",
            Self::Latency => "latency",
            Self::Backlog => "backlog",
            Self::Scale => "scale",
            Self::Senders => "senders",
            Self::Wear => "wear",
            Self::Normal => "normal",
            Self::Outage => "outage",
        }
    }

    /// What it measures, in a line.
    pub const fn title(self) -> &'static str {
        match self {
            Self::One => "one message in flight, one receiver",
            Self::Many => "one message in flight, many receivers",
            Self::Live => "batching, sent and received at once",
            Self::Drain => "batching, a backlog drained",
            Self::Fanout => "many readers of one channel",
            Self::Latency => "send to handler, at a steady pace and after a silence",
            Self::Backlog => "a large backlog: start, memory, pace, file",
            Self::Scale => "one node with 1,000 peers",
            Self::Senders => "concurrent senders, an fsync behind every Ok",
            Self::Wear => {
                "bytes written to the disk, from one message in 10 seconds to 100 a second"
            }
            Self::Normal => "without an fsync (Durability::Normal): told, not judged",
            Self::Outage => "the server away for some seconds: told, not judged",
        }
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// No scenario has this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no scenario is called {0:?}; there are: {names}", names = names())]
pub struct UnknownScenario(pub String);

fn names() -> String {
    Scenario::ALL.map(Scenario::name).join(", ")
}

impl FromStr for Scenario {
    type Err = UnknownScenario;

    fn from_str(text: &str) -> Result<Self, UnknownScenario> {
        let named = Self::ALL.into_iter().find(|scenario| scenario.name() == text);
        named.ok_or_else(|| UnknownScenario(text.to_owned()))
    }
}

impl Options {
    /// The scenarios to run, each once, in their order.
    pub(crate) fn chosen(&self) -> Vec<Scenario> {
        let wanted =
            |scenario: &Scenario| self.scenarios.is_empty() || self.scenarios.contains(scenario);
        Scenario::ALL.into_iter().filter(wanted).collect()
    }

    pub(crate) fn sizes(&self) -> Sizes {
        let full = Sizes {
            runs: self.runs.map_or(5, NonZeroUsize::get),
            window: self.window.unwrap_or(Duration::from_secs(3)),
            warm: Duration::from_millis(500),
            backlog: 1_000_000,
            small_backlog: 10_000,
            receivers: 64,
            peers: 1_000,
            silence: Duration::from_secs(60),
            idle: Duration::from_secs(20),
            outage: Duration::from_secs(4),
            share: 1.0,
            turns: 4,
            wear: 1.0,
            many_each: 5_000,
        };
        if !self.quick {
            return full;
        }
        Sizes {
            runs: self.runs.map_or(1, NonZeroUsize::get),
            window: self.window.unwrap_or(Duration::from_millis(100)),
            warm: Duration::from_millis(50),
            backlog: 5_000,
            small_backlog: 1_000,
            receivers: 4,
            peers: 100,
            silence: Duration::from_secs(2),
            idle: Duration::from_millis(500),
            outage: Duration::from_millis(500),
            share: 0.05,
            turns: 1,
            wear: 0.0,
            many_each: 500,
        }
    }
}

/// How much of everything.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Sizes {
    /// Rounds.
    pub(crate) runs: usize,
    /// Length of one measurement.
    #[serde(serialize_with = "seconds")]
    pub(crate) window: Duration,
    /// What goes on before a measurement begins.
    #[serde(serialize_with = "seconds")]
    pub(crate) warm: Duration,
    /// Messages in a large backlog.
    pub(crate) backlog: u64,
    /// Messages in a small one.
    pub(crate) small_backlog: u64,
    /// Receivers in `many`.
    pub(crate) receivers: usize,
    /// Of the messages that a backlog needs to last for a window: with less it may be over sooner.
    pub(crate) share: f64,
    /// Turns of everything that `latency` measures, in a round.
    pub(crate) turns: u32,
    /// Of the messages that `wear` sends at each rate: with less, what is written once in a while is seen too often or not at all.
    pub(crate) wear: f64,
    /// Messages that wait for each of the simulated peers: more than any of them gets while it is looked at.
    pub(crate) many_each: u64,
    /// Simulated peers.
    pub(crate) peers: usize,
    /// Time without a message before the one that is measured.
    #[serde(serialize_with = "seconds")]
    pub(crate) silence: Duration,
    /// Time in which an idle node is looked at.
    #[serde(serialize_with = "seconds")]
    pub(crate) idle: Duration,
    /// Time before, in, and at least after an outage.
    #[serde(serialize_with = "seconds")]
    pub(crate) outage: Duration,
}

fn seconds<S: serde::Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_f64(time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_is_found_by_its_name_and_others_are_told_the_names() {
        for scenario in Scenario::ALL {
            assert_eq!(scenario.name().parse(), Ok(scenario));
        }
        let error = "fast".parse::<Scenario>().expect_err("no such scenario").to_string();
        assert!(error.contains("\"fast\"") && error.contains("one, many, live"), "{error}");
    }
}
