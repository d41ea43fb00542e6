//! What this node sends: messages, changes of messages, read marks, and that somebody is typing.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, bail};
use waypost::error::{SendError, TransactionError};
use waypost::{MessageId, NewMessage, NodeId, Priority, rusqlite};

use super::{Hub, blocking};
use crate::history::{self, Reader};
use crate::marks::Standing;
use crate::room::{Change, Content, Event, KIND_TYPING, Key, MAX_READ_SENDERS, Post, TypingBody};

/// A word of typing that is older is of no use.
const TYPING_TTL: Duration = Duration::from_secs(3);
/// Readers that are told of typing, each by a message of its own; with more nobody is told.
const MAX_TYPING_READERS: usize = 32;

#[derive(Debug, thiserror::Error)]
enum WriteError {
    #[error(transparent)]
    Sql(#[from] rusqlite::Error),
    #[error(transparent)]
    Send(#[from] SendError),
    #[error(transparent)]
    Json(serde_json::Error),
    #[error("that is empty, or longer than is allowed")]
    Limits,
    #[error("that was done before")]
    DoneBefore,
}

/// Whether something was not sent only because there is no room for it at present, on the disk or in a queue.
pub(crate) fn waits_for_room(error: &anyhow::Error) -> bool {
    match error.downcast_ref::<TransactionError<WriteError>>() {
        Some(TransactionError::User(WriteError::Send(error))) => error.is_transient(),
        Some(TransactionError::User(WriteError::Sql(error))) => {
            error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull)
        }
        Some(TransactionError::Storage(error)) => error.is_transient(),
        _ => false,
    }
}

impl Hub {
    /// Sends a text or the like to all, or to one node.
    ///
    /// # Errors
    /// It breaks a limit, the node does not write on the channel, or could not keep it.
    pub(crate) async fn say(
        &self,
        change: Change,
        to: Option<NodeId>,
    ) -> anyhow::Result<MessageId> {
        if to.as_ref() == Some(self.me()) {
            bail!("that is this node itself");
        }
        self.send(change, to, Priority::Normal).await
    }

    /// The same for an order of a page, which may be repeated after a lost connection, or after this program was killed: it is written down with
    /// the message, and carried out once.
    ///
    /// # Errors
    /// As [`say`](Self::say).
    pub(crate) async fn say_once(
        &self,
        change: Change,
        to: Option<NodeId>,
        nonce: String,
    ) -> anyhow::Result<()> {
        if to.as_ref() == Some(self.me()) {
            bail!("that is this node itself");
        }
        self.once(change, to, Some(nonce)).await
    }

    async fn once(
        &self,
        change: Change,
        to: Option<NodeId>,
        nonce: Option<String>,
    ) -> anyhow::Result<()> {
        match self.write(change, to, Priority::Normal, nonce).await {
            Ok(_) | Err(TransactionError::User(WriteError::DoneBefore)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Edits or deletes a message of this node's, or reacts to any. It goes where the message went. `nonce` as with [`say_once`](Self::say_once): what was changed again
    /// since is not changed back.
    ///
    /// # Errors
    /// There is no such message, it is another's, or as [`say`](Self::say).
    pub(crate) async fn change(
        &self,
        key: &Key,
        change: Change,
        nonce: Option<String>,
    ) -> anyhow::Result<()> {
        let post = match self.post(key) {
            Some(post) => post,
            None => self.old_post(key.clone()).await?.context("there is no such message")?,
        };
        let own = key.sender == *self.me();
        match change {
            Change::Edit { .. } if !own => bail!("only {} can edit that", key.sender),
            Change::Delete { .. } if !own => bail!("only {} can delete that", key.sender),
            _ if post.content == Content::Deleted => bail!("it was deleted"),
            Change::Edit { .. } if !matches!(post.content, Content::Text(_)) => {
                bail!("only texts can be edited")
            }
            _ => {}
        }
        let to = post.to.map(|to| if own { to } else { key.sender.clone() });
        self.once(change, to, nonce).await
    }

    pub(super) async fn old_post(&self, key: Key) -> anyhow::Result<Option<Post>> {
        let (file, channel) = (self.path.clone(), self.channel().to_owned());
        blocking(move || Ok(Reader::open(&file)?.post(&channel, &key)?)).await
    }

    /// Tells the senders that these messages were read here; what is not new is left out. Does nothing where this node does not write.
    ///
    /// # Errors
    /// As [`say`](Self::say).
    pub(crate) async fn mark_read(
        &self,
        keys: impl IntoIterator<Item = Key>,
    ) -> anyhow::Result<()> {
        if !self.mode().writes() || !self.mode().reads() {
            return Ok(());
        }
        let mut for_all: BTreeMap<NodeId, MessageId> = BTreeMap::new();
        let mut for_one: BTreeMap<NodeId, MessageId> = BTreeMap::new();
        {
            let state = self.state();
            let (all, direct) = state.room.read_upto(self.me());
            for key in keys.into_iter().filter(|key| key.sender != *self.me()) {
                let Some(post) = state.room.post(&key) else { continue };
                let (known, marks) = match post.to {
                    Some(_) => (&direct, &mut for_one),
                    None => (&all, &mut for_all),
                };
                if known.get(&key.sender).is_some_and(|id| *id >= key.id) {
                    continue;
                }
                let mark = marks.entry(key.sender).or_insert(key.id);
                *mark = (*mark).max(key.id);
            }
        }
        while !for_all.is_empty() {
            let rest = match for_all.keys().nth(MAX_READ_SENDERS).cloned() {
                Some(next) => for_all.split_off(&next),
                None => BTreeMap::new(),
            };
            let part = std::mem::replace(&mut for_all, rest);
            self.send(Change::Read(part), None, Priority::Low).await?;
        }
        for (author, id) in for_one {
            let mark = Change::Read([(author.clone(), id)].into());
            self.send(mark, Some(author), Priority::Low).await?;
        }
        Ok(())
    }

    /// Tells those who are here that somebody at this node is typing, or has stopped. Never waits for those who are not.
    pub(crate) async fn tell_typing(&self, on: bool) {
        if !self.mode().writes() || !self.link().connected {
            return;
        }
        let Ok(readers) = self.node.subscribers(self.channel()).await else { return };
        let online = self.online();
        let here: Vec<_> = readers.into_iter().filter(|reader| online.contains(reader)).collect();
        if here.len() > MAX_TYPING_READERS {
            return;
        }
        let message = |to: NodeId| {
            NewMessage::json(&TypingBody { on })
                .kind(KIND_TYPING)
                .to(to.as_str())
                .priority(Priority::Low)
                .ttl(TYPING_TTL)
        };
        // Nobody misses it.
        let _ = self.channel.send_all(here.into_iter().map(message).collect()).await;
    }

    async fn send(
        &self,
        change: Change,
        to: Option<NodeId>,
        priority: Priority,
    ) -> anyhow::Result<MessageId> {
        Ok(self.write(change, to, priority, None).await?)
    }

    /// Sends it and writes it down, in one commit.
    async fn write(
        &self,
        change: Change,
        to: Option<NodeId>,
        priority: Priority,
        nonce: Option<String>,
    ) -> Result<MessageId, TransactionError<WriteError>> {
        if !change.is_valid() {
            return Err(TransactionError::User(WriteError::Limits));
        }
        let encoded = change.encode().map_err(WriteError::Json);
        let (kind, body) = encoded.map_err(TransactionError::User)?;
        let mut message = NewMessage::bytes(body.clone())
            .kind(kind)
            .header(waypost::CONTENT_TYPE, "application/json")
            .priority(priority);
        if let Some(to) = &to {
            message = message.to(to.as_str());
        }
        let is_post = matches!(change, Change::Text(_) | Change::File(_));
        let (channel, name) = (self.channel.clone(), self.channel().to_owned());
        let (sender, kind) = (self.me().clone(), kind.to_owned());
        let written = self.node.transaction(move |tx| -> Result<_, WriteError> {
            if let Some(nonce) = nonce
                && !history::begin_order(tx, &nonce)?
            {
                return Err(WriteError::DoneBefore);
            }
            let id = channel.send_in(tx, message)?;
            let mut event = Event { sender, id, kind, to, body, seq: 0 };
            event.seq = history::record(tx, &name, &event, &change)?.seq;
            if is_post {
                history::begin_mark(tx, &name, id)?;
            }
            Ok((event, change))
        });
        let (event, change) = written.await?;
        let id = event.id;
        if is_post {
            let mut state = self.state();
            state.marks.insert(id, Standing::default());
            state.open.add(id);
            state.measured.sent(id);
        }
        self.apply(&event, change).await;
        self.moved.notify_one();
        Ok(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_later_is_told_from_what_never_will() {
        let user = |error| anyhow::Error::from(TransactionError::User(error));
        let path = std::path::PathBuf::from("x");
        assert!(waits_for_room(&user(WriteError::Send(SendError::StorageFull { path }))));
        let full = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_FULL);
        let full = rusqlite::Error::SqliteFailure(full, None);
        assert!(waits_for_room(&user(WriteError::Sql(full))));
        assert!(!waits_for_room(&user(WriteError::Send(SendError::Closed))));
        assert!(!waits_for_room(&user(WriteError::Limits)));
        assert!(!waits_for_room(&anyhow::anyhow!("that is this node itself")));
    }
}
