//! A thousand peers on one connection: they say that they are there, answer hellos, and acknowledge what comes at once. So only the node
//! that serves them is measured, not a thousand nodes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use async_nats::{Client, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::task::JoinSet;
use waypost::protocol::frame::{Answer, ChannelPresence, Frame, Keepalive, MessageFrame, Verdict};
use waypost::{ChannelName, Incarnation, Mode, NodeId, StartAt, StoreId};

use crate::crowd::CHANNEL;
use crate::error::BenchError;
use crate::stage::Stage;
use crate::window::{PATIENCE, stalled};

/// As nodes do by default.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// New peers a second: a node asks no more strangers than a thousand who they are.
const ARRIVALS_A_SECOND: u32 = 800;

/// The peers. They end when dropped.
pub(crate) struct Simulator {
    peers: Arc<Peers>,
    client: Client,
    _tasks: JoinSet<()>,
}

struct Peers {
    prefix: String,
    all: Vec<Peer>,
    channel: ChannelName,
    paused: AtomicBool,
    since: Instant,
}

struct Peer {
    id: NodeId,
    incarnation: Incarnation,
    store: StoreId,
    /// Keepalives said.
    counter: AtomicU64,
    /// Messages acknowledged.
    handled: AtomicU64,
}

impl Simulator {
    /// So many readers of the bench's channel, paused, under this prefix. They arrive by and by.
    ///
    /// # Errors
    /// No server.
    pub(crate) async fn start(
        stage: &Stage,
        prefix: &str,
        count: usize,
    ) -> Result<Self, BenchError> {
        let client = stage.server.client().await?;
        let refused = |error: async_nats::SubscribeError| BenchError::Request {
            url: stage.server.url().to_owned(),
            reason: error.to_string(),
        };
        let frames = client.subscribe(format!("{prefix}.msg.*.*")).await.map_err(refused)?;
        let questions =
            client.subscribe(format!("{prefix}.mgmt.node.*.*")).await.map_err(refused)?;
        // An echo on the same connection proves that what was subscribed before it is live.
        let echo = stage.own_subject("echo");
        let mut heard = client.subscribe(echo.clone()).await.map_err(refused)?;
        publish(&client, echo, Bytes::new()).await;
        if tokio::time::timeout(PATIENCE, heard.next()).await.is_err() {
            return Err(stalled("the simulated peers' connection"));
        }
        let peers = Arc::new(Peers {
            prefix: prefix.to_owned(),
            all: (0..count).map(Peer::new).collect(),
            channel: ChannelName::new(CHANNEL).expect("a valid name"),
            paused: AtomicBool::new(true),
            since: Instant::now(),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(answer_frames(Arc::clone(&peers), client.clone(), frames));
        tasks.spawn(answer_questions(Arc::clone(&peers), client.clone(), questions));
        tasks.spawn(be_present(Arc::clone(&peers), client.clone()));
        Ok(Self { peers, client, _tasks: tasks })
    }

    /// All take messages from now on, and say so at once.
    pub(crate) async fn resume(&self) {
        self.peers.paused.store(false, Relaxed);
        for peer in &self.peers.all {
            self.peers.say_present(&self.client, peer).await;
        }
    }

    /// Messages that each has acknowledged.
    pub(crate) fn handled(&self) -> Vec<u64> {
        self.peers.all.iter().map(|peer| peer.handled.load(Relaxed)).collect()
    }

    /// Messages that all have acknowledged.
    pub(crate) fn handled_by_all(&self) -> u64 {
        self.peers.all.iter().map(|peer| peer.handled.load(Relaxed)).sum()
    }
}

impl Peer {
    fn new(n: usize) -> Self {
        let number = u128::from(fastrand::u64(1..)) << 64 | n as u128;
        Self {
            id: NodeId::new(format!("peer-{n}")).expect("a valid name"),
            incarnation: Incarnation::from_u128(number),
            store: StoreId::from_u128(number),
            counter: AtomicU64::new(0),
            handled: AtomicU64::new(0),
        }
    }
}

impl Peers {
    /// The peer that this subject is for, and who sent it: `PREFIX.KIND.PEER.FROM`.
    fn addressed<'a>(&self, subject: &'a str) -> Option<(&Peer, &'a str)> {
        let mut words = subject.rsplit('.');
        let (from, to) = (words.next()?, words.next()?);
        let number: usize = to.strip_prefix("peer-")?.parse().ok()?;
        Some((self.all.get(number)?, from))
    }

    fn keepalive(&self, peer: &Peer) -> Keepalive {
        let age_ms = u64::try_from(self.since.elapsed().as_millis()).expect("a short run");
        Keepalive {
            from: peer.id.clone(),
            incarnation: peer.incarnation,
            store: peer.store,
            counter: 1 + peer.counter.fetch_add(1, Relaxed),
            session: 1,
            uptime_ms: age_ms,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            host: "simulated".to_owned(),
            channels: vec![ChannelPresence {
                name: self.channel.clone(),
                mode: Mode::Reader,
                age_ms,
                paused: self.paused.load(Relaxed),
                start: StartAt::default(),
            }],
            left: Vec::new(),
            draining: false,
            elects: false,
            goodbye: false,
            rival: None,
        }
    }

    async fn say_present(&self, client: &Client, peer: &Peer) {
        let frame = Frame::Keepalive(self.keepalive(peer)).encode();
        publish(client, format!("{}.keepalive.{}", self.prefix, peer.id), frame).await;
    }

    fn answer(&self, peer: &Peer, frame: MessageFrame) -> Option<(String, Bytes)> {
        let id = frame.messages.last()?.id;
        let paused = self.paused.load(Relaxed);
        if !paused {
            peer.handled.fetch_add(frame.messages.len() as u64, Relaxed);
        }
        let to = format!("{}.ack.{}.{}", self.prefix, frame.from, peer.id);
        let answer = Answer {
            from: peer.id.clone(),
            to: frame.from,
            store: frame.store,
            stream: frame.stream,
            id: if paused { frame.messages[0].id } else { id },
            last: if paused { frame.previous } else { Some(id) },
            verdict: if paused { Verdict::Paused } else { Verdict::Ack },
        };
        Some((to, Frame::Answer(answer).encode()))
    }
}

async fn answer_frames(peers: Arc<Peers>, client: Client, mut frames: Subscriber) {
    while let Some(message) = frames.next().await {
        let Some((peer, _)) = peers.addressed(&message.subject) else { continue };
        let Ok(Frame::Messages(frame)) = Frame::decode(&message.payload) else { continue };
        if let Some((to, answer)) = peers.answer(peer, frame) {
            publish(&client, to, answer).await;
        }
    }
}

async fn answer_questions(peers: Arc<Peers>, client: Client, mut questions: Subscriber) {
    while let Some(message) = questions.next().await {
        let Some((peer, from)) = peers.addressed(&message.subject) else { continue };
        let Ok(Frame::Hello { nonce, .. }) = Frame::decode(&message.payload) else { continue };
        let welcome = Frame::Welcome { nonce, keepalive: peers.keepalive(peer) }.encode();
        let to = format!("{}.mgmt.node.{from}.{}", peers.prefix, peer.id);
        publish(&client, to, welcome).await;
    }
}

/// One after the other, evenly: first as fast as strangers are asked, then as nodes do.
async fn be_present(peers: Arc<Peers>, client: Client) {
    let count = u32::try_from(peers.all.len()).unwrap_or(u32::MAX).max(1);
    let mut tick = tokio::time::interval(Duration::from_secs(1) / ARRIVALS_A_SECOND);
    loop {
        for peer in &peers.all {
            tick.tick().await;
            peers.say_present(&client, peer).await;
        }
        tick = tokio::time::interval(KEEPALIVE_INTERVAL / count);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    }
}

async fn publish(client: &Client, to: String, frame: Bytes) {
    // It fails only where the connection is gone for good, which ends the run elsewhere.
    let _ = client.publish(to, frame).await;
}
