//! The drain that the node is under, kept so that a restart does not end it.

use rusqlite::{Connection, OptionalExtension, params};

use super::columns::parsed;
use super::error::StoreError;
use super::fault::At;
use super::job::Group;
use super::{Answer, Store};
use crate::config::Durability;
use crate::message::NodeId;

pub(super) const SELECT: &str = "SELECT by_node FROM waypost_drain";
pub(super) const BEGIN: &str =
    "INSERT OR REPLACE INTO waypost_drain (only, by_node, at_ms) VALUES (1, ?1, ?2)";
pub(super) const END: &str = "DELETE FROM waypost_drain";

/// At whose order the node is being drained, if it is.
pub(super) fn load(conn: &Connection) -> Result<Option<NodeId>, StoreError> {
    conn.query_row(SELECT, [], |row| parsed(row, 0)).optional().at("read whether it is drained")
}

impl Store {
    /// The node is being drained at this one's order; `None`: no more. Fsynced.
    pub(crate) fn set_draining(&self, by: Option<NodeId>) -> Answer<()> {
        let set = move |group: &mut Group<'_>| {
            let changed = match &by {
                Some(by) => group
                    .conn
                    .prepare_cached(BEGIN)
                    .and_then(|mut begin| begin.execute(params![by.as_str(), group.now_ms])),
                None => group.conn.prepare_cached(END).and_then(|mut end| end.execute([])),
            };
            changed.at("note a drain").map(|_| ())
        };
        self.run(Durability::Full, set)
    }
}
