//! Who elects, and how long everything takes.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::message::NodeId;
use crate::notation::duration;

/// Most voters. Every further one makes an election slower, and above seven hardly safer.
pub const MAX_VOTERS: usize = 31;
/// Largest state that any settings allow, in bytes.
pub const MAX_STATE_BYTES: usize = 16 * 1024 * 1024;
/// Shortest time between two beats: each is a frame to every node and one back from every voter.
const SHORTEST_BEAT: Duration = Duration::from_millis(10);
/// Longest of all times.
const LONGEST: Duration = Duration::from_secs(3600);

/// Who elects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// A majority of these nodes. All others follow.
    Quorum {
        /// Who has a vote.
        voters: Vec<NodeId>,
    },
    /// A majority of the nodes that the candidate sees: there is always a master, and one for each side of a partition.
    Visible,
}

/// How long everything takes.
///
/// The master's lease lasts for `lost_after` less `lease_margin`, counted from the sending of a beat; whoever answered that beat votes for
/// nobody else for `lost_after`, counted from its receipt. So the lease ends at least `lease_margin` before somebody else can be elected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Times {
    /// Between two beats of the master. Default 1 s; longer saves frames, and notices less soon.
    #[serde(with = "duration")]
    pub beat: Duration,
    /// Silence after which a master counts as lost. Default 3 s; longer makes failover slower, shorter makes a slow network unseat masters.
    #[serde(with = "duration")]
    pub lost_after: Duration,
    /// At most so much later, by chance, a node stands for election, so that not all stand at once. Default 1 s.
    #[serde(with = "duration")]
    pub jitter: Duration,
    /// By how much a master's lease ends before others can elect: what two nodes' clocks may drift apart within `lost_after`. Default 500 ms.
    #[serde(with = "duration")]
    pub lease_margin: Duration,
    /// How long handing over may take before the master just resigns. Default 1 s.
    #[serde(with = "duration")]
    pub handoff: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            beat: Duration::from_secs(1),
            lost_after: Duration::from_secs(3),
            jitter: Duration::from_secs(1),
            lease_margin: Duration::from_millis(500),
            handoff: Duration::from_secs(1),
        }
    }
}

impl Times {
    /// How long one answered beat keeps the master in office.
    pub fn lease(&self) -> Duration {
        self.lost_after.saturating_sub(self.lease_margin)
    }

    /// Checks each time, and each with the others.
    ///
    /// # Errors
    /// The first time that contradicts another.
    pub fn validate(&self) -> Result<(), SettingsError> {
        let named = [
            ("beat", self.beat),
            ("lost_after", self.lost_after),
            ("jitter", self.jitter),
            ("lease_margin", self.lease_margin),
            ("handoff", self.handoff),
        ];
        for (name, value) in named {
            if value.is_zero() || value > LONGEST {
                return Err(SettingsError::OutOfRange { name, value });
            }
        }
        let rules = [
            ("10ms", SHORTEST_BEAT, "beat", self.beat),
            ("lease_margin", self.lease_margin, "half of lost_after", self.lost_after / 2),
            ("a hundredth of lost_after", self.lost_after / 100, "lease_margin", self.lease_margin),
            (
                "two beats",
                self.beat.saturating_mul(2),
                "lost_after less lease_margin",
                self.lease(),
            ),
        ];
        for (short, shorter, long, longer) in rules {
            if shorter > longer {
                return Err(SettingsError::TooLong { short, shorter, long, longer });
            }
        }
        Ok(())
    }
}

/// Settings that contradict each other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// A time is zero, or longer than any may be.
    #[error("election_times.{name} ({value:?}) must be above zero and at most {LONGEST:?}")]
    OutOfRange {
        /// Which one.
        name: &'static str,
        /// How long it is.
        value: Duration,
    },
    /// Two times contradict each other.
    #[error("election_times: {short} ({shorter:?}) must not be longer than {long} ({longer:?})")]
    TooLong {
        /// Which time is to be the shorter one.
        short: &'static str,
        /// How long it is.
        shorter: Duration,
        /// Which time is to be the longer one.
        long: &'static str,
        /// How long it is.
        longer: Duration,
    },
    /// No voter is named.
    #[error("election names nobody: name the nodes that elect, three or five of them")]
    NoVoters,
    /// A voter is named twice.
    #[error("election names {0} twice")]
    Duplicate(NodeId),
    /// There are too many voters.
    #[error("election has {actual} names, at most {MAX_VOTERS}")]
    TooMany {
        /// How many are named.
        actual: usize,
    },
}

/// Settings that are allowed, and that people should know about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Warning {
    /// This node is none of the voters: it follows, and is never master.
    NotAVoter {
        /// This node.
        me: NodeId,
    },
    /// One voter.
    NoFailover,
    /// Two voters: where one is gone the other is no majority.
    TwoCannotFailOver,
    /// An even number of voters survives no more failures than one voter less.
    Even {
        /// How many there are.
        voters: usize,
    },
    /// `Visible`.
    OneMasterPerSide,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAVoter { me } => {
                write!(f, "{me} is not among the voters that election names: it follows, and is never master")
            }
            Self::NoFailover => f.write_str(
                "election names one voter: it is always master, and nobody takes over from it",
            ),
            Self::TwoCannotFailOver => f.write_str(
                "two voters cannot fail over: when one is gone the other is no majority; name a third voter",
            ),
            Self::Even { voters } => write!(
                f,
                "{voters} voters survive no more failures than {}: name an odd number",
                voters - 1
            ),
            Self::OneMasterPerSide => f.write_str(
                "without configured voters a partition has one master on each side: guard resources with the fencing token, \
                 or name voters",
            ),
        }
    }
}

/// All that an election is told by its configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Who elects.
    pub mode: Mode,
    /// How long everything takes.
    pub times: Times,
    /// Most bytes of the state that is handed on. Default 256 KiB; all of it goes to every node whenever it is set.
    pub max_state_bytes: usize,
    /// Most terms that another node can be ahead and be believed. Default 1,000,000.
    pub max_term_jump: u64,
}

impl Settings {
    /// The default settings, with these voters.
    pub fn new(mode: Mode) -> Self {
        Self {
            mode,
            times: Times::default(),
            max_state_bytes: 256 * 1024,
            max_term_jump: 1_000_000,
        }
    }

    /// Checks times and voters.
    ///
    /// # Errors
    /// What contradicts itself. A list without this node is allowed: the node observes.
    pub fn validate(&self) -> Result<(), SettingsError> {
        self.times.validate()?;
        let Mode::Quorum { voters } = &self.mode else { return Ok(()) };
        if voters.is_empty() {
            return Err(SettingsError::NoVoters);
        }
        if voters.len() > MAX_VOTERS {
            return Err(SettingsError::TooMany { actual: voters.len() });
        }
        let twice = voters.iter().enumerate().find(|(n, voter)| voters[..*n].contains(voter));
        twice.map_or(Ok(()), |(_, voter)| Err(SettingsError::Duplicate(voter.clone())))
    }

    /// What people should know about these settings.
    pub fn warnings(&self, me: &NodeId) -> Vec<Warning> {
        let Mode::Quorum { voters } = &self.mode else { return vec![Warning::OneMasterPerSide] };
        let mut warnings = Vec::new();
        if !voters.contains(me) {
            warnings.push(Warning::NotAVoter { me: me.clone() });
        }
        match voters.len() {
            1 => warnings.push(Warning::NoFailover),
            2 => warnings.push(Warning::TwoCannotFailOver),
            n if n % 2 == 0 => warnings.push(Warning::Even { voters: n }),
            _ => {}
        }
        warnings
    }

    /// A number that differs where the voters do (FNV-1a over their sorted names); 0 without a quorum.
    pub(crate) fn voters_hash(&self) -> u64 {
        let Mode::Quorum { voters } = &self.mode else { return 0 };
        let mut names: Vec<&str> = voters.iter().map(NodeId::as_str).collect();
        names.sort_unstable();
        let bytes = names.iter().flat_map(|name| name.bytes().chain([0]));
        bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
    }
}
