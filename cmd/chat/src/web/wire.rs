//! What page and program say to each other, as JSON.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use waypost::{MessageId, Mode, NodeId};

use crate::hub::{Hub, Notice, Picture, Sample};
use crate::marks::Mark;
use crate::room::{Content, File, Key, Post, Upto};

/// Messages that a page gets at first, and at most with each look further back.
pub(crate) const PAGE: usize = 100;
/// Of very long ones a page gets fewer.
const PAGE_BYTES: usize = 256 * 1024;

/// What a page asks for.
#[derive(Debug, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub(crate) enum Order {
    /// Send a text. `nonce` names the order, so that it is not carried out twice when it is repeated after a lost connection.
    Say {
        text: String,
        to: Option<NodeId>,
        nonce: String,
    },
    File {
        file: File,
        to: Option<NodeId>,
        nonce: String,
    },
    Edit {
        key: Key,
        text: String,
        nonce: String,
    },
    Delete {
        key: Key,
        nonce: String,
    },
    React {
        key: Key,
        emoji: String,
        on: bool,
        nonce: String,
    },
    /// These messages were seen.
    Read {
        keys: Vec<Key>,
    },
    Typing {
        on: bool,
    },
    /// Messages that came before this number.
    Before {
        seq: u64,
    },
    /// Who is there, who reads what, and what waits for whom.
    Network,
    /// How the node did over the last minutes.
    Health,
}

/// A message and how far it is.
#[derive(Debug, Serialize)]
pub(crate) struct Shown {
    #[serde(flatten)]
    post: Post,
    #[serde(skip_serializing_if = "Option::is_none")]
    mark: Option<Mark>,
}

/// How far this node's user has read, by sender.
#[derive(Debug, Serialize)]
pub(crate) struct Reads {
    all: Upto,
    direct: Upto,
}

/// What a page is told.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Told {
    Hello {
        me: NodeId,
        channel: String,
        mode: Mode,
        posts: Vec<Shown>,
        online: BTreeSet<NodeId>,
        away: BTreeSet<NodeId>,
        connected: bool,
        reason: String,
        away_ms: u64,
        waiting: usize,
        typing: Vec<NodeId>,
        read: Reads,
        more: bool,
    },
    Post {
        post: Shown,
    },
    Changed {
        post: Shown,
    },
    Mark {
        id: MessageId,
        mark: Mark,
    },
    Read {
        reader: NodeId,
        direct: bool,
        upto: Upto,
    },
    /// So that a page knows that the program is there.
    Beat,
    Typing {
        node: NodeId,
        on: bool,
    },
    Joined {
        node: NodeId,
    },
    Left {
        node: NodeId,
    },
    Link {
        connected: bool,
        reason: String,
        away_ms: u64,
        waiting: usize,
    },
    Waiting {
        waiting: usize,
    },
    Warning {
        text: String,
    },
    Page {
        /// What was asked for.
        before: u64,
        posts: Vec<Shown>,
        more: bool,
    },
    Done {
        nonce: String,
        error: Option<String>,
    },
    Network {
        #[serde(flatten)]
        picture: Picture,
    },
    Health {
        samples: Vec<Sample>,
    },
}

impl Told {
    /// Everything that a page needs to begin.
    pub(crate) fn hello(hub: &Hub) -> Self {
        let (posts, cut) = fitting(hub.last(PAGE), |post| post);
        let (all, direct) = hub.read();
        let link = hub.link();
        let away_ms = if link.connected { 0 } else { link.since.elapsed().as_millis() };
        Self::Hello {
            me: hub.me().clone(),
            channel: hub.channel().to_owned(),
            mode: hub.mode(),
            more: cut || posts.len() == PAGE,
            posts: posts.into_iter().map(|post| shown(hub, post)).collect(),
            online: hub.online(),
            away: hub.away(),
            connected: link.connected,
            reason: link.reason,
            away_ms: u64::try_from(away_ms).unwrap_or(u64::MAX),
            waiting: hub.waiting(),
            typing: hub.typing(),
            read: Reads { all, direct },
        }
    }

    pub(crate) fn of(hub: &Hub, notice: Notice) -> Self {
        match notice {
            Notice::Said(post) => Self::Post { post: shown(hub, (*post).clone()) },
            Notice::Changed(post) => Self::Changed { post: shown(hub, (*post).clone()) },
            Notice::Marked(id, mark) => Self::Mark { id, mark },
            Notice::Read { direct, upto } => Self::Read { reader: hub.me().clone(), direct, upto },
            Notice::Typing(node, on) => Self::Typing { node, on },
            Notice::Joined(node) => Self::Joined { node },
            Notice::Left(node) => Self::Left { node },
            Notice::Link { connected, reason, away, waiting } => {
                let away_ms = if connected { 0 } else { away.as_millis() };
                let away_ms = u64::try_from(away_ms).unwrap_or(u64::MAX);
                Self::Link { connected, reason, away_ms, waiting }
            }
            Notice::Waiting(waiting) => Self::Waiting { waiting },
            Notice::Warning(text) => Self::Warning { text },
        }
    }

    /// Messages that came before this number.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(crate) async fn before(hub: &Hub, seq: u64) -> anyhow::Result<Self> {
        let (posts, cut) = fitting(hub.before(seq, PAGE).await?, |(post, _)| post);
        let more = cut || posts.len() == PAGE;
        Ok(Self::Page {
            before: seq,
            posts: posts.into_iter().map(|(post, mark)| Shown { post, mark }).collect(),
            more,
        })
    }
}

/// Those of these that came last and are no more than a page may hold; whether some were left out.
fn fitting<T>(mut posts: Vec<T>, post: impl Fn(&T) -> &Post) -> (Vec<T>, bool) {
    let mut sizes: Vec<_> = posts.iter().map(|it| (post(it).seq, size(post(it)))).collect();
    sizes.sort_unstable_by_key(|(seq, _)| Reverse(*seq));
    let mut sum = 0_usize;
    let sums = sizes.into_iter().map(|(seq, size)| {
        sum += size;
        (seq, sum)
    });
    // One at least, or nothing older could ever be asked for.
    let first = sums.enumerate().take_while(|(at, (_, sum))| *at == 0 || *sum <= PAGE_BYTES).last();
    let first = first.map_or(0, |(_, (seq, _))| seq);
    let count = posts.len();
    posts.retain(|it| post(it).seq >= first);
    let is_cut = posts.len() < count;
    (posts, is_cut)
}

/// What it takes on its way, roughly.
fn size(post: &Post) -> usize {
    let text = match &post.content {
        Content::Text(text) => text.len(),
        Content::File(_) | Content::Deleted => 0,
    };
    let reactions = post.reactions.iter().map(|(emoji, by)| emoji.len() + 64 * by.len());
    text + 512 + reactions.sum::<usize>()
}

fn shown(hub: &Hub, post: Post) -> Shown {
    let mark = (post.key.sender == *hub.me()).then(|| hub.mark(post.key.id)).flatten();
    Shown { post, mark }
}
