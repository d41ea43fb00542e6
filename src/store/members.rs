//! Membership as last known: peers, what they read, and what this node itself has joined.

use std::time::Duration;

use rusqlite::{Connection, params};

use super::columns::{all, parsed};
use super::error::StoreError;
use super::fault::At;
use super::job::Group;
use super::types::{Cursor, Forgotten, Peer, Start, Subscription};
use super::{audit, cursors};
use crate::message::{ChannelName, Incarnation, NodeId, StoreId};
use crate::protocol::frame::ChannelPresence;

pub(super) const UPSERT_PEER: &str = "INSERT INTO waypost_peers (node, store_id, incarnation, host, first_seen_ms, last_seen_ms, version, channels, linked_ms, questions) VALUES (?1, ?2, ?3, ?4, ?5, ?5, ?6, ?7, ?8, ?9) ON CONFLICT (node) DO UPDATE SET store_id = excluded.store_id, incarnation = excluded.incarnation, host = excluded.host, last_seen_ms = excluded.last_seen_ms, version = excluded.version, channels = excluded.channels, linked_ms = excluded.linked_ms, questions = excluded.questions";
pub(super) const SELECT_PEERS: &str = "SELECT node, store_id, incarnation, host, last_seen_ms, version, channels, linked_ms, questions FROM waypost_peers ORDER BY node";
pub(super) const DELETE_PEER: &str = "DELETE FROM waypost_peers WHERE node = ?1";
pub(super) const SUBSCRIBE: &str =
    "INSERT OR IGNORE INTO waypost_subscriptions (node, channel, since_ms) VALUES (?1, ?2, ?3)";
pub(super) const UNSUBSCRIBE: &str =
    "DELETE FROM waypost_subscriptions WHERE node = ?1 AND channel = ?2";
pub(super) const UNSUBSCRIBE_ALL: &str = "DELETE FROM waypost_subscriptions WHERE node = ?1";
pub(super) const SELECT_SUBSCRIPTIONS: &str =
    "SELECT node, channel, since_ms FROM waypost_subscriptions ORDER BY node, channel";
pub(super) const JOIN: &str = "INSERT INTO waypost_joins (channel, joined_ms) VALUES (?1, ?2) ON CONFLICT (channel) DO UPDATE SET joined_ms = excluded.joined_ms, left_ms = NULL WHERE left_ms IS NOT NULL";
pub(super) const SELECT_JOINED: &str = "SELECT joined_ms FROM waypost_joins WHERE channel = ?1";
pub(super) const SELECT_LEFT: &str =
    "SELECT channel FROM waypost_joins WHERE left_ms IS NOT NULL ORDER BY left_ms DESC";
pub(super) const LEAVE: &str =
    "UPDATE waypost_joins SET left_ms = ?2 WHERE channel = ?1 AND left_ms IS NULL";

/// Most bytes of the names of a peer's channels that are kept.
const CHANNEL_BYTES: usize = 16 * 1024;

/// A peer's channels as text, as far as there is room.
fn channels(channels: &[ChannelPresence]) -> String {
    let mut bytes = 0;
    let fits = |channel: &&ChannelPresence| {
        bytes += channel.name.as_str().len();
        bytes <= CHANNEL_BYTES
    };
    let channels: Vec<_> = channels.iter().take_while(fits).collect();
    serde_json::to_string(&channels).unwrap_or_else(|_| "[]".to_owned())
}

pub(super) fn know_peer(group: &mut Group<'_>, peer: &Peer) -> Result<(), StoreError> {
    group
        .conn
        .prepare_cached(UPSERT_PEER)
        .and_then(|mut upsert| {
            upsert.execute(params![
                peer.node.as_str(),
                peer.store_id.to_bytes(),
                peer.incarnation.to_bytes(),
                peer.host,
                peer.last_seen_ms,
                peer.version,
                channels(&peer.channels),
                u64::try_from(peer.linked.as_millis()).unwrap_or(u64::MAX),
                peer.questions
            ])
        })
        .at("write a peer")?;
    Ok(())
}

/// From now on the node has a cursor in every broadcast of the channel; those that it got now.
pub(super) fn subscribe(
    group: &mut Group<'_>,
    node: &NodeId,
    channel: &ChannelName,
    start: Start,
) -> Result<Vec<Cursor>, StoreError> {
    group
        .conn
        .prepare_cached(SUBSCRIBE)
        .and_then(|mut insert| {
            insert.execute(params![node.as_str(), channel.as_str(), group.now_ms])
        })
        .at("write a subscription")?;
    group.ledger.set_subscribed(channel, node, true);
    cursors::open_all(group, node, channel, start)
}

/// The node has left the channel: what waited for it there is purged.
pub(super) fn unsubscribe(
    group: &mut Group<'_>,
    node: &NodeId,
    channel: &ChannelName,
) -> Result<u64, StoreError> {
    group
        .conn
        .prepare_cached(UNSUBSCRIBE)
        .and_then(|mut delete| delete.execute(params![node.as_str(), channel.as_str()]))
        .at("delete a subscription")?;
    group.ledger.set_subscribed(channel, node, false);
    cursors::close_all(group, node, channel)
}

/// Nothing is known of the node any more, and nothing waits for it.
pub(super) fn forget(group: &mut Group<'_>, node: &NodeId) -> Result<Forgotten, StoreError> {
    let forgotten = cursors::forget(group, node)?;
    for sql in [UNSUBSCRIBE_ALL, DELETE_PEER] {
        group
            .conn
            .prepare_cached(sql)
            .and_then(|mut delete| delete.execute([node.as_str()]))
            .at("forget a peer")?;
    }
    group.ledger.unsubscribe_all(node);
    let Forgotten { pending, acknowledged, expired, dead, purged } = forgotten;
    let detail = format!(
        "{pending} pending, {acknowledged} acknowledged, {expired} expired, {dead} dead, {purged} purged"
    );
    audit::record(group, "forget", node.as_str(), &detail)?;
    Ok(forgotten)
}

/// Since when this node has been in the channel.
pub(super) fn join(group: &mut Group<'_>, channel: &ChannelName) -> Result<u64, StoreError> {
    group
        .conn
        .prepare_cached(JOIN)
        .and_then(|mut insert| insert.execute(params![channel.as_str(), group.now_ms]))
        .at("write a join")?;
    group
        .conn
        .prepare_cached(SELECT_JOINED)
        .and_then(|mut select| select.query_row([channel.as_str()], |row| row.get(0)))
        .at("read a join")
}

pub(super) fn leave(group: &mut Group<'_>, channel: &ChannelName) -> Result<(), StoreError> {
    group
        .conn
        .prepare_cached(LEAVE)
        .and_then(|mut update| update.execute(params![channel.as_str(), group.now_ms]))
        .at("write a leave")?;
    Ok(())
}

pub(super) fn peers(conn: &Connection) -> Result<Vec<Peer>, StoreError> {
    all(conn, SELECT_PEERS, |row| {
        Ok(Peer {
            node: parsed(row, 0)?,
            store_id: StoreId::from_bytes(row.get(1)?),
            incarnation: Incarnation::from_bytes(row.get(2)?),
            host: row.get(3)?,
            last_seen_ms: row.get(4)?,
            version: row.get(5)?,
            // Damaged, it is said again.
            channels: serde_json::from_str(row.get_ref(6)?.as_str()?).unwrap_or_default(),
            linked: Duration::from_millis(row.get(7)?),
            questions: row.get(8)?,
        })
    })
}

pub(super) fn subscriptions(conn: &Connection) -> Result<Vec<Subscription>, StoreError> {
    all(conn, SELECT_SUBSCRIPTIONS, |row| {
        Ok(Subscription { node: parsed(row, 0)?, channel: parsed(row, 1)?, since_ms: row.get(2)? })
    })
}

/// The channels that this node has left, the latest first.
pub(super) fn left(conn: &Connection) -> Result<Vec<ChannelName>, StoreError> {
    all(conn, SELECT_LEFT, |row| parsed(row, 0))
}
