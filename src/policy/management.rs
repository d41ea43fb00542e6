//! Who may give a node orders.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::message::NodeId;
use crate::notation::words::{self, Words};

/// Who may give a node orders. Written `"anyone"`, `"off"`, `"master"`, or as names: `["hq", "ops"]`, or `"hq, ops"`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Management {
    /// Nobody.
    Off,
    /// Whoever the NATS server lets publish orders.
    #[default]
    Anyone,
    /// Of those, only these.
    Only(Vec<NodeId>),
    /// Of those, only the master that this node knows.
    MasterOnly,
}

impl Serialize for Management {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Off => to.serialize_str("off"),
            Self::Anyone => to.serialize_str("anyone"),
            Self::MasterOnly => to.serialize_str("master"),
            Self::Only(nodes) => to.collect_seq(nodes),
        }
    }
}

impl<'de> Deserialize<'de> for Management {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let wrong = |_| {
            D::Error::custom("not \"anyone\", \"off\", \"master\", or a list of names of nodes")
        };
        match words::read(from, &["anyone", "off", "master"]).map_err(wrong)? {
            Words::Keyword("anyone") => Ok(Self::Anyone),
            Words::Keyword("off") => Ok(Self::Off),
            Words::Keyword(_) => Ok(Self::MasterOnly),
            Words::Names(names) => {
                let nodes = names.iter().map(NodeId::new).collect::<Result<_, _>>();
                nodes.map(Self::Only).map_err(D::Error::custom)
            }
        }
    }
}
