//! Who elects a master.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::message::{NameError, NodeId};
use crate::notation::words::{self, Words};
use crate::policy::{Mode, Settings, SettingsError};

/// Who elects a master. Written `"off"`, `"visible"`, or as the names of the voters: `["a", "b", "c"]`, or `"a, b, c"`.
///
/// `docs/election.md` says what is guaranteed in each mode, and what is not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Election {
    /// Nobody: there is no master.
    #[default]
    Off,
    /// A majority of these nodes, the same list on every node. Others that name them follow: they know the master and have its state. Three
    /// voters survive the loss of one; two cannot fail over.
    Quorum {
        /// Who has a vote.
        voters: Vec<NodeId>,
    },
    /// A majority of the nodes that a candidate sees: there is always a master, and one on each side of a partition.
    Visible,
}

impl Election {
    /// A quorum of these voters.
    ///
    /// # Errors
    /// A name is not valid.
    pub fn quorum<S: AsRef<str>>(voters: impl IntoIterator<Item = S>) -> Result<Self, NameError> {
        let voters = voters.into_iter().map(NodeId::new).collect::<Result<_, _>>()?;
        Ok(Self::Quorum { voters })
    }

    fn mode(&self) -> Option<Mode> {
        match self {
            Self::Off => None,
            Self::Quorum { voters } => Some(Mode::Quorum { voters: voters.clone() }),
            Self::Visible => Some(Mode::Visible),
        }
    }
}

impl super::Config {
    /// What an election needs to know; none where there is none.
    pub(crate) fn election_settings(&self) -> Option<Settings> {
        let mode = self.election.mode()?;
        let times = self.election_times;
        let max_state_bytes = self.max_state_bytes;
        Some(Settings { times, max_state_bytes, ..Settings::new(mode) })
    }

    /// What the user of these settings should know about their election, where it is allowed and hardly meant: two voters, of which none
    /// can fail over, or a node that is none of them. Empty where there is nothing to say.
    pub fn election_warnings(&self, me: &NodeId) -> Vec<String> {
        let settings = self.election_settings();
        let warnings = settings.into_iter().flat_map(|settings| settings.warnings(me));
        warnings.map(|warning| warning.to_string()).collect()
    }

    pub(super) fn validate_election(&self) -> Result<(), SettingsError> {
        // Wrong times are an error even where nobody elects: they would be one as soon as somebody does.
        self.election_times.validate()?;
        self.election_settings().map_or(Ok(()), |settings| settings.validate())
    }

    /// A name among the voters that looks like a keyword that was misspelt.
    pub(super) fn odd_voter(&self) -> Option<&NodeId> {
        let Election::Quorum { voters } = &self.election else { return None };
        let words = ["off", "none", "no", "false", "visible", "quorum"];
        voters.iter().find(|voter| words.iter().any(|w| w.eq_ignore_ascii_case(voter.as_str())))
    }
}

impl Serialize for Election {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Off => to.serialize_str("off"),
            Self::Visible => to.serialize_str("visible"),
            Self::Quorum { voters } => to.collect_seq(voters),
        }
    }
}

impl<'de> Deserialize<'de> for Election {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let wrong = |_| D::Error::custom("not \"off\", \"visible\", or a list of names of nodes");
        match words::read(from, &["off", "visible"]).map_err(wrong)? {
            Words::Keyword("off") => Ok(Self::Off),
            Words::Keyword(_) => Ok(Self::Visible),
            Words::Names(names) => Self::quorum(&names).map_err(D::Error::custom),
        }
    }
}
