//! What a master's state may become.

use serde_json::{Map, Value};

use super::{Around, Leadership};
use crate::protocol::election::SetError;

/// What a frame takes besides the state in it, at most.
const FRAME_BYTES: usize = 1024;

/// What a master's state is to become.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// This, as JSON.
    Whole(Vec<u8>),
    Field {
        key: String,
        value: Value,
    },
}

/// Why a state was not set.
#[derive(Debug)]
pub enum NotSet {
    /// By the election.
    Refused(SetError),
    /// It cannot be written as JSON, or not be read again.
    NotJson(serde_json::Error),
    /// A field was to be set in a state that has none.
    NotAnObject,
}

impl From<serde_json::Error> for NotSet {
    fn from(error: serde_json::Error) -> Self {
        Self::NotJson(error)
    }
}

impl Leadership {
    /// The whole of the state after this change. A node that is not master is told so by the election, whatever the change is.
    pub(super) fn next_state(
        &self,
        around: &Around<'_>,
        change: Change,
    ) -> Result<Vec<u8>, NotSet> {
        if self.term_in_office(around.now.mono).is_none() {
            return Ok(b"null".to_vec());
        }
        let json = self.changed(change)?;
        let fits = around.max_frame.saturating_sub(FRAME_BYTES);
        let (actual, limit) = (json.len(), self.max_state_bytes.min(fits));
        if actual > limit {
            return Err(NotSet::Refused(SetError::TooLarge { actual, limit }));
        }
        Ok(json)
    }

    fn changed(&self, change: Change) -> Result<Vec<u8>, NotSet> {
        let (key, value) = match change {
            Change::Whole(json) => {
                // What is nested too deeply could be written and never be read.
                serde_json::from_slice::<Value>(&json)?;
                return Ok(json);
            }
            Change::Field { key, value } => (key, value),
        };
        let mut fields = match serde_json::from_slice(&self.election.state().json)? {
            Value::Object(fields) => fields,
            Value::Null => Map::new(),
            _ => return Err(NotSet::NotAnObject),
        };
        fields.insert(key, value);
        let json = serde_json::to_vec(&fields)?;
        serde_json::from_slice::<Value>(&json)?;
        Ok(json)
    }
}
