//! P2: the accounts that a file keeps, against each message's own fate.

use std::collections::BTreeSet;

use waypost::NodeId;
use waypost::protocol::TopicId;

use crate::file::{CursorRow, Outcome, Tables};

/// Checks these cursors.
pub(crate) fn check<'a>(
    file: &Tables,
    cursors: impl IntoIterator<Item = &'a (NodeId, TopicId)>,
) -> Result<(), String> {
    let seen: BTreeSet<_> = cursors.into_iter().collect();
    seen.into_iter().try_for_each(|key| check_cursor(file, key))
}

fn check_cursor(file: &Tables, key: &(NodeId, TopicId)) -> Result<(), String> {
    let (receiver, topic) = key;
    let Some(row) = file.cursors.get(key) else { return Ok(()) };
    let CursorRow { acknowledged, expired, dead, purged, .. } = *row;
    let mut counted = [0_u64; 5];
    let mut waits = None;
    for (seq, fate) in file.fates.get(key).into_iter().flatten() {
        let place = match fate {
            None => 0,
            Some(Outcome::Acknowledged) => 1,
            Some(Outcome::Expired) => 2,
            Some(Outcome::Dead) => 3,
            Some(Outcome::Purged) => 4,
        };
        counted[place] += 1;
        if fate.is_none() {
            waits = waits.or(Some(*seq));
        } else if let Some(waits) = waits {
            return Err(format!("{receiver} {topic:?}: {seq} is settled and {waits} is not"));
        }
    }
    let pending = row.pending(file.topics[topic].accepted);
    let kept = [pending, acknowledged, expired, dead, purged];
    if kept != counted {
        return Err(format!(
            "{receiver} {topic:?}: the file counts {kept:?}, the oracle {counted:?}"
        ));
    }
    let rows = file.behind(*topic, row.acked_seq).count() as u64;
    if row.open && rows != pending {
        return Err(format!("{receiver} {topic:?}: {pending} are pending, {rows} are there"));
    }
    Ok(())
}
