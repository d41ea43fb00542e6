//! The network as the page draws it: who is there, who takes part in what, and what waits between whom. This node tells what it sees itself; what waits
//! at others they are asked for, in the background, while somebody looks.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use waypost::management::{ChannelInfo, Network};
use waypost::{Mode, NodeId};

use super::Hub;

/// Between two questions to all nodes.
const ASK_INTERVAL: Duration = Duration::from_secs(2);
/// Most nodes that are told of.
const MAX_NODES: usize = 200;
/// Most channels of a node that are told of.
const MAX_CHANNELS: usize = 20;
/// Most backlogs that are told of, the longest.
const MAX_BACKLOGS: usize = 500;

/// Who is there, and what waits.
#[derive(Debug, Serialize)]
pub(crate) struct Picture {
    nodes: Vec<Node>,
    /// Nodes that are left out.
    more: usize,
    backlog: Vec<Backlog>,
}

#[derive(Debug, Serialize)]
struct Node {
    name: NodeId,
    me: bool,
    online: bool,
    master: bool,
    /// It is online, and did not say what waits at it.
    silent: bool,
    /// How it takes part in this channel, if it does.
    mode: Option<Mode>,
    channels: Vec<Joined>,
}

#[derive(Debug, Serialize)]
struct Joined {
    name: String,
    mode: Mode,
}

/// Messages at one node that wait for another; for none: for a first reader.
#[derive(Debug, Clone, Serialize)]
struct Backlog {
    from: NodeId,
    to: Option<NodeId>,
    messages: u64,
}

/// What the other nodes said last.
#[derive(Debug, Default)]
pub(super) struct Heard {
    asked: Option<Instant>,
    /// What waits at others, and who did not say.
    backlog: Vec<Backlog>,
    silent: Vec<NodeId>,
}

impl Heard {
    fn take(&mut self, me: &NodeId, network: &Network) {
        let others = network.backlog().filter(|(from, _, _)| *from != me);
        self.backlog = others
            .map(|(from, to, messages)| Backlog { from: from.clone(), to: to.cloned(), messages })
            .collect();
        self.silent.clone_from(&network.unanswered);
    }
}

impl Hub {
    /// The network as it is known now; has the others asked, so that the next look knows more.
    ///
    /// # Errors
    /// The node is shut down, or its file cannot be read.
    pub(crate) async fn picture(self: &Arc<Self>) -> anyhow::Result<Picture> {
        self.ask_others();
        let topology = self.node().topology().await?;
        let accounts = self.node().statistics().await?.accounts;
        let master = self.node().master().map(|(node, _)| node);
        let (mut backlog, silent) = {
            let state = self.state();
            (state.heard.backlog.clone(), state.heard.silent.clone())
        };
        let own = accounts.into_iter().filter(|account| account.pending > 0);
        backlog.extend(own.map(|account| Backlog {
            from: self.me().clone(),
            to: account.receiver,
            messages: account.pending,
        }));
        backlog.sort_by(|a, b| b.messages.cmp(&a.messages).then_with(|| a.from.cmp(&b.from)));
        backlog.truncate(MAX_BACKLOGS);
        let node = |name: &NodeId, online: bool, channels: &[ChannelInfo]| {
            let mut joined: Vec<_> = channels.iter().map(Joined::of).collect();
            joined.truncate(MAX_CHANNELS);
            let here = channels.iter().find(|channel| channel.name.as_str() == self.channel());
            Node {
                me: name == self.me(),
                online,
                master: master.as_ref() == Some(name),
                silent: online && silent.contains(name),
                mode: here.map(|here| here.mode),
                channels: joined,
                name: name.clone(),
            }
        };
        let mut peers = topology.peers;
        peers.sort_by_key(|peer| (!peer.online, peer.node.clone()));
        let more = (peers.len() + 1).saturating_sub(MAX_NODES);
        let mut nodes = vec![node(self.me(), true, &topology.channels)];
        nodes.extend(
            peers
                .iter()
                .take(MAX_NODES - 1)
                .map(|peer| node(&peer.node, peer.online, &peer.channels)),
        );
        Ok(Picture { nodes, more, backlog })
    }

    fn ask_others(self: &Arc<Self>) {
        let now = Instant::now();
        {
            let heard = &mut self.state().heard;
            if heard.asked.is_some_and(|asked| now.duration_since(asked) < ASK_INTERVAL) {
                return;
            }
            heard.asked = Some(now);
        }
        let hub = Arc::clone(self);
        tokio::spawn(async move {
            match hub.node().network().await {
                Ok(network) => hub.state().heard.take(hub.me(), &network),
                Err(error) => tracing::debug!("the other nodes: {error}"),
            }
        });
    }
}

impl Joined {
    fn of(channel: &ChannelInfo) -> Self {
        Self { name: channel.name.to_string(), mode: channel.mode }
    }
}
