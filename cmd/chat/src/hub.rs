//! The chat of one channel on one node: what terminal and web page share.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::sync::{Notify, broadcast};
use waypost::error::TransactionError;
use waypost::{Channel, MessageId, Mode, Node, NodeId, rusqlite};

use crate::history::{self, HistoryError, Reader};
use crate::marks::{self, Mark, Open, Standing};
use crate::room::{Ignored, Key, Post, Room, Upto};

mod health;
mod marking;
mod network;
mod receiving;
mod sending;

pub(crate) use health::Sample;
pub(crate) use network::Picture;
pub(crate) use sending::waits_for_room;

/// The reason of a connection that was not made yet.
pub(crate) const NOT_YET: &str = "not connected yet";
/// Messages that are kept in memory; older ones are read from the file.
const ROOM: usize = 2000;
/// What a listener may be behind before it misses the oldest.
const NOTICES: usize = 1024;
/// Somebody is taken for typing this long after the last word of it; sent again somewhat sooner.
pub(crate) const TYPING_LASTS: Duration = Duration::from_secs(6);

/// Something that terminal and web page show.
#[derive(Debug, Clone)]
pub(crate) enum Notice {
    /// A message is new.
    Said(Arc<Post>),
    /// A message looks different.
    Changed(Arc<Post>),
    /// This node's message has gone on.
    Marked(MessageId, Mark),
    /// This node's user has read on, here or on another page: what was said to all, or to this node alone.
    Read { direct: bool, upto: Upto },
    /// Somebody began or stopped typing.
    Typing(NodeId, bool),
    /// Somebody came.
    Joined(NodeId),
    /// Somebody went.
    Left(NodeId),
    /// The connection came or went; the number of messages that wait.
    Link { connected: bool, reason: String, away: Duration, waiting: usize },
    /// The number of messages that wait has changed while there is no connection.
    Waiting(usize),
    /// Something that the user should know.
    Warning(String),
}

/// The connection as it is shown.
#[derive(Debug, Clone)]
pub(crate) struct LinkState {
    pub(crate) connected: bool,
    pub(crate) reason: String,
    /// Since when.
    pub(crate) since: Instant,
}

struct State {
    room: Room,
    marks: BTreeMap<MessageId, Standing>,
    open: Open,
    online: BTreeSet<NodeId>,
    /// Who takes part in the channel and is not there.
    away: BTreeSet<NodeId>,
    link: LinkState,
    typing: BTreeMap<NodeId, receiving::Typing>,
    measured: health::Measured,
    heard: network::Heard,
}

impl State {
    fn mark(&self, me: &NodeId, id: MessageId) -> Option<Mark> {
        let standing = self.marks.get(&id)?;
        let post = self.room.post(&Key { id, sender: me.clone() });
        Some(standing.mark(post.as_ref().map_or(&[], |post| &post.read_by)))
    }
}

/// Shared by all who show the chat.
pub(crate) struct Hub {
    node: Node,
    channel: Channel,
    path: PathBuf,
    state: Mutex<State>,
    notices: broadcast::Sender<Notice>,
    /// Something of ours was sent or delivered: marks may have changed.
    pub(crate) moved: Notify,
}

impl Hub {
    /// Reads the history and begins to receive, if the channel is read.
    ///
    /// # Errors
    /// The file is of a newer program, or cannot be read or written.
    pub(crate) async fn start(node: Node, channel: Channel) -> anyhow::Result<Arc<Self>> {
        let prepared = node.transaction(|tx| history::prepare(tx)).await;
        prepared.map_err(|error| match error {
            TransactionError::User(HistoryError::Newer(version)) => {
                anyhow::Error::from(HistoryError::Newer(version))
            }
            error => anyhow::Error::from(error),
        })?;
        let path = node.storage();
        let (file, name) = (path.clone(), channel.name().to_string());
        let (room, open, known) = blocking(move || {
            let reader = Reader::open(&file)?;
            let room = reader.page(&name, None, ROOM)?;
            let open = reader.open_marks(&name, marks::MAX_OPEN)?;
            let mut known = BTreeMap::new();
            for post in room.view() {
                if let Some(standing) = reader.standing(post.key.id)? {
                    known.insert(post.key.id, standing);
                }
            }
            Ok((room, Open::new(open), known))
        })
        .await
        .context("the history cannot be read")?;
        let link = LinkState { connected: false, reason: String::new(), since: Instant::now() };
        let state = State {
            room,
            marks: known,
            open,
            online: BTreeSet::new(),
            away: BTreeSet::new(),
            link,
            typing: BTreeMap::new(),
            measured: health::Measured::default(),
            heard: network::Heard::default(),
        };
        let (notices, _) = broadcast::channel(NOTICES);
        let hub = Arc::new(Self {
            node,
            channel,
            path,
            state: Mutex::new(state),
            notices,
            moved: Notify::new(),
        });
        if hub.channel.mode().reads() {
            let receiving = hub.clone();
            hub.channel
                .on_message(move |message| {
                    let hub = receiving.clone();
                    async move { hub.receive(message).await }
                })
                .await?;
        }
        Ok(hub)
    }

    pub(crate) fn node(&self) -> &Node {
        &self.node
    }

    pub(crate) fn me(&self) -> &NodeId {
        self.node.id()
    }

    pub(crate) fn channel(&self) -> &str {
        self.channel.name().as_str()
    }

    pub(crate) fn mode(&self) -> Mode {
        self.channel.mode()
    }

    pub(crate) fn notices(&self) -> broadcast::Receiver<Notice> {
        self.notices.subscribe()
    }

    pub(crate) fn tell(&self, notice: Notice) {
        // Nobody may be listening.
        let _ = self.notices.send(notice);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // It holds no promise that a panic could have broken half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The messages that came last, at most this many, in their order.
    pub(crate) fn last(&self, limit: usize) -> Vec<Post> {
        self.state().room.last(limit)
    }

    /// The messages that came before this number, read from the file.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(crate) async fn before(
        &self,
        seq: u64,
        limit: usize,
    ) -> anyhow::Result<Vec<(Post, Option<Mark>)>> {
        let (file, channel) = (self.path.clone(), self.channel().to_owned());
        blocking(move || {
            let reader = Reader::open(&file)?;
            let posts = reader.page(&channel, Some(seq), limit)?.view();
            let marked = posts.into_iter().map(|post| {
                let standing = reader.standing(post.key.id)?;
                let mark = standing.map(|standing| standing.mark(&post.read_by));
                Ok((post, mark))
            });
            Ok(marked.collect::<rusqlite::Result<_>>()?)
        })
        .await
    }

    pub(crate) fn post(&self, key: &Key) -> Option<Post> {
        self.state().room.post(key)
    }

    /// How far a message of this node's is; none of one that has been away from memory for long.
    pub(crate) fn mark(&self, id: MessageId) -> Option<Mark> {
        self.state().mark(self.me(), id)
    }

    pub(crate) fn online(&self) -> BTreeSet<NodeId> {
        self.state().online.clone()
    }

    pub(crate) fn away(&self) -> BTreeSet<NodeId> {
        self.state().away.clone()
    }

    pub(crate) fn link(&self) -> LinkState {
        self.state().link.clone()
    }

    pub(crate) fn ignored(&self) -> Ignored {
        self.state().room.ignored()
    }

    /// How many of this node's messages have not reached all their readers.
    pub(crate) fn waiting(&self) -> usize {
        self.state().open.len()
    }

    pub(crate) fn typing(&self) -> Vec<NodeId> {
        let now = Instant::now();
        let mut state = self.state();
        state.typing.retain(|_, typing| typing.until > now);
        state.typing.keys().cloned().collect()
    }

    /// How far this node has read, by sender, of what was said to all, and to it alone.
    pub(crate) fn read(&self) -> (Upto, Upto) {
        self.state().room.read_upto(self.me())
    }

    /// Sets who is there and who is not, and tells of those who came and went.
    pub(crate) fn set_present(&self, online: BTreeSet<NodeId>, away: BTreeSet<NodeId>) {
        let before = {
            let mut state = self.state();
            state.away = away;
            std::mem::replace(&mut state.online, online.clone())
        };
        for node in online.difference(&before) {
            self.tell(Notice::Joined(node.clone()));
        }
        for node in before.difference(&online) {
            self.state().typing.remove(node);
            self.tell(Notice::Left(node.clone()));
        }
    }

    /// Notes that the connection came or went, and tells so.
    pub(crate) fn set_link(&self, connected: bool, reason: &str) {
        let (away, waiting) = {
            let mut state = self.state();
            let changed = state.link.connected != connected;
            let first = !connected && matches!(state.link.reason.as_str(), "" | NOT_YET);
            if !changed && (!first || state.link.reason == reason) {
                return;
            }
            let away = state.link.since.elapsed();
            let since = if changed { Instant::now() } else { state.link.since };
            state.link = LinkState { connected, reason: reason.to_owned(), since };
            (away, state.open.len())
        };
        self.tell(Notice::Link { connected, reason: reason.to_owned(), away, waiting });
    }
}

/// Runs what waits for the disk where that holds up nobody.
async fn blocking<R: Send + 'static>(
    work: impl FnOnce() -> anyhow::Result<R> + Send + 'static,
) -> anyhow::Result<R> {
    tokio::task::spawn_blocking(work).await.context("a reading thread ended early")?
}
