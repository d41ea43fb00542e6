//! The chat of one channel on one node: what terminal and web page share.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::sync::{Notify, broadcast};
use waypost::error::TransactionError;
use waypost::{Channel, HandlerResult, Message, MessageId, Mode, Node, NodeId, rusqlite};

use crate::history::{self, HistoryError, Reader};
use crate::marks::{self, Mark, Open};
use crate::room::{
    Applied, Change, Event, Ignored, KIND_TYPING, Key, Post, Refusal, Room, TypingBody,
};

mod health;
mod network;
mod sending;

pub(crate) use health::Sample;
pub(crate) use network::Picture;

/// The reason of a connection that was not made yet.
pub(crate) const NOT_YET: &str = "not connected yet";
/// Messages that are kept in memory; older ones are read from the file.
const ROOM: usize = 2000;
/// Between two attempts to write down what came.
const RETRY: Duration = Duration::from_secs(1);
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
    /// Somebody has read on.
    Read(NodeId, BTreeMap<NodeId, MessageId>),
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
    marks: BTreeMap<MessageId, Mark>,
    open: Open,
    online: BTreeSet<NodeId>,
    link: LinkState,
    typing: BTreeMap<NodeId, Instant>,
    measured: health::Measured,
    heard: network::Heard,
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
            let open = reader.open_marks(marks::MAX_OPEN)?;
            let mut known = BTreeMap::new();
            for post in room.view() {
                if let Some(mark) = reader.mark(post.key.id)? {
                    known.insert(post.key.id, mark);
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

    /// The last messages, at most this many.
    pub(crate) fn last(&self, limit: usize) -> Vec<Post> {
        let mut posts = self.state().room.view();
        posts.split_off(posts.len().saturating_sub(limit))
    }

    /// Messages before this one, read from the file.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(crate) async fn before(
        &self,
        key: Key,
        limit: usize,
    ) -> anyhow::Result<Vec<(Post, Option<Mark>)>> {
        let (file, channel) = (self.path.clone(), self.channel().to_owned());
        blocking(move || {
            let reader = Reader::open(&file)?;
            let posts = reader.page(&channel, Some(&key), limit)?.view();
            let marked =
                posts.into_iter().map(|post| reader.mark(post.key.id).map(|mark| (post, mark)));
            Ok(marked.collect::<rusqlite::Result<_>>()?)
        })
        .await
    }

    pub(crate) fn post(&self, key: &Key) -> Option<Post> {
        self.state().room.post(key)
    }

    pub(crate) fn mark(&self, id: MessageId) -> Option<Mark> {
        self.state().marks.get(&id).copied()
    }

    pub(crate) fn online(&self) -> BTreeSet<NodeId> {
        self.state().online.clone()
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
        state.typing.retain(|_, until| *until > now);
        state.typing.keys().cloned().collect()
    }

    /// How far this node has read, by sender.
    pub(crate) fn read(&self) -> BTreeMap<NodeId, MessageId> {
        self.state().room.read_by(self.me())
    }

    /// Sets who is there, and tells of those who came and went.
    pub(crate) fn set_online(&self, online: BTreeSet<NodeId>) {
        let before = std::mem::replace(&mut self.state().online, online.clone());
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

    async fn receive(&self, mut message: Message) -> HandlerResult {
        let event = Event {
            sender: message.sender().clone(),
            id: message.id(),
            kind: message.kind().as_str().to_owned(),
            to: message.is_direct().then(|| self.me().clone()),
            body: message.payload().to_vec(),
        };
        if event.kind == KIND_TYPING {
            match TypingBody::read(&event.body) {
                Ok(TypingBody { on }) => self.set_typing(event.sender, on),
                Err(refusal) => self.refuse(&event, refusal),
            }
            return Ok(());
        }
        let change = match Change::of(&event) {
            Ok(change) => change,
            Err(refusal) => {
                self.refuse(&event, refusal);
                return Ok(());
            }
        };
        let known = self.take(&mut message, &event, &change).await?;
        if matches!(change, Change::Text(_) | Change::File(_) | Change::Edit { .. }) {
            self.set_typing(event.sender.clone(), false);
        }
        for note in known {
            // It was read before it was written.
            let _ = self.state().room.handle(&note);
        }
        self.apply(&event, change);
        Ok(())
    }

    /// Writes a message down and takes it, in one commit. A statement that fails, for lack of space perhaps, is no fault of the message's:
    /// refused, it would become a dead letter in the end, so it is tried again until the node stops.
    async fn take(
        &self,
        message: &mut Message,
        event: &Event,
        change: &Change,
    ) -> Result<Vec<Event>, TransactionError<rusqlite::Error>> {
        loop {
            let (name, row, effect) = (self.channel().to_owned(), event.clone(), change.clone());
            match message.ack_in(move |tx| history::record(tx, &name, &row, &effect)).await {
                Err(TransactionError::User(error)) => {
                    tracing::error!("message {} cannot be written down yet: {error}", event.id);
                    tokio::time::sleep(RETRY).await;
                }
                result => return result,
            }
        }
    }

    fn refuse(&self, event: &Event, refusal: Refusal) {
        tracing::debug!(sender = %event.sender, id = %event.id, kind = event.kind, "ignored: {refusal}");
        self.state().room.refuse(refusal);
    }

    fn set_typing(&self, who: NodeId, on: bool) {
        let changed = {
            let mut state = self.state();
            match on {
                true => state.typing.insert(who.clone(), Instant::now() + TYPING_LASTS).is_none(),
                false => state.typing.remove(&who).is_some(),
            }
        };
        if changed || on {
            self.tell(Notice::Typing(who, on));
        }
    }

    fn apply(&self, event: &Event, change: Change) {
        let upto = match &change {
            Change::Read(upto) => upto.clone(),
            _ => BTreeMap::new(),
        };
        // Told under the lock, so that nobody hears of two changes in the wrong order.
        let mut state = self.state();
        let notice = match state.room.apply(event, change) {
            Applied::New(key) => state.room.post(&key).map(|post| Notice::Said(Arc::new(post))),
            Applied::Changed(key) => {
                state.room.post(&key).map(|post| Notice::Changed(Arc::new(post)))
            }
            Applied::Read => Some(Notice::Read(event.sender.clone(), upto)),
            Applied::Nothing => None,
        };
        if let Some(notice) = notice {
            self.tell(notice);
        }
    }

    /// Asks the file how far this node's messages are, and tells of what has changed.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub(crate) async fn refresh_marks(&self) -> anyhow::Result<()> {
        let ids = self.state().open.ask_next();
        if ids.is_empty() {
            return Ok(());
        }
        // What was acknowledged is written down late, unless somebody asks for it.
        self.node.statistics().await?;
        let path = self.path.clone();
        let asked = blocking(move || Ok(marks::ask(&path, &ids)?)).await?;
        let changed: Vec<_> = {
            let state = self.state();
            let differs = |(id, mark): &(MessageId, Mark)| state.marks.get(id) != Some(mark);
            asked.into_iter().filter(differs).collect()
        };
        if changed.is_empty() {
            return Ok(());
        }
        let rows = changed.clone();
        self.node.transaction(move |tx| history::set_marks(tx, &rows)).await?;
        for (id, mark) in changed {
            let mut state = self.state();
            state.marks.insert(id, mark);
            if mark.settled {
                state.measured.settled(id);
                state.open.remove(id);
            }
            self.tell(Notice::Marked(id, mark));
        }
        Ok(())
    }
}

/// Runs what waits for the disk where that holds up nobody.
async fn blocking<R: Send + 'static>(
    work: impl FnOnce() -> anyhow::Result<R> + Send + 'static,
) -> anyhow::Result<R> {
    tokio::task::spawn_blocking(work).await.context("a reading thread ended early")?
}
