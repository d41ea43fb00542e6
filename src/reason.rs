//! Why messages don't move: each way in one sentence, with what to do about it.
//!
//! A [`Reason`] says the same wherever it is told: [`Node::status`](crate::Node::status), events, log lines, `waypost why`, `waypost doctor`, `/readyz`.
//! `docs/troubleshooting.md` lists all of them.

use std::fmt;
use std::time::{Duration, SystemTime};

use serde::ser::SerializeStruct;
use serde::{Deserialize, Serialize, Serializer};

use crate::message::{ChannelName, NodeId};

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

mod all;

pub use all::Reason;

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
            Self::QueueFull { receiver, .. }
            | Self::LimitNear { receiver, .. }
            | Self::StorageNear { receiver, .. } => receiver.as_ref(),
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
            Self::QueueFull { .. } | Self::LimitNear { .. } | Self::StorageNear { .. } => false,
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
        matches!(
            self,
            Self::Unauthorized { .. }
                | Self::NoTrust { .. }
                | Self::NoFiles { .. }
                | Self::NoServer { .. }
        )
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
                | Self::NoFiles { .. }
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
                | Self::StorageLimit { .. }
                | Self::StrayLog { .. }
                | Self::ForeignLog { .. }
                | Self::LogHeld { .. }
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

/// Who reads the file.
fn processes(pids: &[u32]) -> String {
    match pids {
        [] => "another program".to_owned(),
        [pid] => format!("process {pid}"),
        pids => {
            let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
            format!("each of the processes {}", pids.join(", "))
        }
    }
}

/// To the nearest minute: two clocks that are two days apart are looked at one after the other, and are a moment less apart by that.
fn apart(by_ms: i64) -> String {
    let by = span(by_ms.unsigned_abs().saturating_add(30_000));
    if by_ms < 0 { format!("{by} behind") } else { format!("{by} ahead of") }
}

/// How many bytes, in the unit that fits.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 3] = ["KiB", "MiB", "GiB"];
    // In tenths.
    let (mut tenths, mut unit) = (u128::from(bytes) * 10 / 1024, UNITS[0]);
    for larger in &UNITS[1..] {
        if tenths < 10_240 {
            break;
        }
        (tenths, unit) = (tenths / 1024, larger);
    }
    format!("{}.{} {unit}", tenths / 10, tenths % 10)
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
mod tests;
