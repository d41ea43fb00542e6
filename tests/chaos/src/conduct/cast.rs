//! Who takes part: a server, a link a node, senders and receivers, or sellers and buyers.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use anyhow::bail;
use tokio::net::TcpStream;

use super::disk::Disk;
use super::link::Link;
use super::part::{Part, Settings};
use super::roles::{Buyer, Receiver, Seller, Sender, Server, Stage};
use super::server::{find_server, free_port};
use super::supervise::Node;
use crate::journal::{Event, Role};

/// What a server takes by default.
pub(super) const USUAL_MAX_PAYLOAD: usize = 1024 * 1024;
/// The server's name in the journal.
pub(super) const SERVER: &str = "nats";

const SENDERS: [&str; 3] = ["s1", "s2", "s3"];
const CHANNELS: [(&str, &[&str]); 2] =
    [("orders", &["r1", "r2"]), ("readings", &["r3", "r4", "r5"])];
const SELLERS: [&str; 2] = ["a1", "a2"];
const BUYERS: [&str; 3] = ["b1", "b2", "b3"];

/// Who sends and who receives in this part.
pub(super) fn names(part: Part) -> (Vec<String>, Vec<String>) {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    match part {
        Part::Messages => {
            (owned(&SENDERS), CHANNELS.iter().flat_map(|(_, readers)| owned(readers)).collect())
        }
        Part::ExactlyOnce => (owned(&SELLERS), owned(&BUYERS)),
    }
}

/// All that runs.
#[derive(Debug)]
pub(super) struct Cast {
    pub(super) server: Node,
    pub(super) max_payload: Arc<AtomicUsize>,
    pub(super) senders: Vec<Node>,
    pub(super) receivers: Vec<Node>,
    /// By node.
    pub(super) links: Vec<(String, Link)>,
    /// By node: those disks that can be full.
    pub(super) disks: Vec<(String, Disk)>,
}

impl Cast {
    /// Starts everything.
    pub(super) async fn start(settings: &Settings, stage: &Stage) -> anyhow::Result<Self> {
        let mut random = fastrand::Rng::with_seed(settings.seed);
        let max_payload = Arc::new(AtomicUsize::new(USUAL_MAX_PAYLOAD));
        let port = free_port()?;
        let binary = find_server()?;
        let server =
            Server { stage: stage.clone(), binary, port, max_payload: Arc::clone(&max_payload) };
        note(stage, SERVER, Role::Server, None);
        let server = Node::start(SERVER, server, Arc::clone(&stage.journal), random.u64(..));
        let mut cast = Self {
            server,
            max_payload,
            senders: vec![],
            receivers: vec![],
            links: vec![],
            disks: vec![],
        };
        cast.wait_for_server(port).await?;
        let (senders, receivers) = names(settings.part);
        for name in receivers.iter().chain(&senders) {
            std::fs::create_dir_all(stage.home(name))?;
            cast.links.push((name.clone(), Link::to(port).await?));
        }
        // One of each, so that the others' files lie on the machine's own disk.
        for name in [&senders[0], &receivers[0]].into_iter().filter(|_| settings.mounts) {
            cast.disks.push((name.clone(), Disk::mount(&stage.home(name))?));
        }
        cast.disks.push((senders[1].clone(), Disk::Limited));
        for name in &receivers {
            let node = cast.receiver(stage, settings.part, name, random.u64(..));
            cast.receivers.push(node);
        }
        for name in &senders {
            let node = cast.sender(stage, settings.part, name, &receivers, random.u64(..));
            cast.senders.push(node);
        }
        Ok(cast)
    }

    /// Everybody who can be killed, but the server.
    pub(super) fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.senders.iter().chain(&self.receivers)
    }

    /// Ends everything, in the order in which nothing is lost.
    pub(super) async fn stop(self) -> anyhow::Result<()> {
        for node in self.senders.into_iter().chain(self.receivers).chain([self.server]) {
            node.stop().await?;
        }
        Ok(())
    }

    fn url(&self, name: &str) -> String {
        let link = self.links.iter().find(|(node, _)| node == name);
        link.expect("every node has a link").1.url()
    }

    fn receiver(&self, stage: &Stage, part: Part, name: &str, seed: u64) -> Node {
        let (stage, url, journal) = (stage.clone(), self.url(name), Arc::clone(&stage.journal));
        let name = name.to_owned();
        match part {
            Part::Messages => {
                let found = CHANNELS.iter().find(|(_, readers)| readers.contains(&name.as_str()));
                let channel = found.expect("every receiver reads a channel").0.to_owned();
                note(&stage, &name, Role::Receiver, Some(&channel));
                Node::start(&name.clone(), Receiver { stage, name, url, channel }, journal, seed)
            }
            Part::ExactlyOnce => {
                note(&stage, &name, Role::Buyer, None);
                Node::start(&name.clone(), Buyer { stage, name, url }, journal, seed)
            }
        }
    }

    fn sender(
        &self,
        stage: &Stage,
        part: Part,
        name: &str,
        receivers: &[String],
        seed: u64,
    ) -> Node {
        let (stage, url, journal) = (stage.clone(), self.url(name), Arc::clone(&stage.journal));
        let name = name.to_owned();
        if part == Part::ExactlyOnce {
            note(&stage, &name, Role::Seller, None);
            let (buyers, is_limited) = (receivers.to_vec(), self.is_limited(&name));
            let seller = Seller { stage, name: name.clone(), url, buyers, is_limited };
            return Node::start(&name, seller, journal, seed);
        }
        note(&stage, &name, Role::Sender, None);
        let readers = CHANNELS.iter().map(|(channel, readers)| {
            ((*channel).to_owned(), readers.iter().map(|reader| (*reader).to_owned()).collect())
        });
        let sender = Sender {
            readers: Arc::new(readers.collect()),
            random: fastrand::Rng::with_seed(seed),
            stage,
            name: name.clone(),
            url,
            next: None,
            feeder: None,
        };
        Node::start(&name, sender, journal, seed)
    }

    fn is_limited(&self, name: &str) -> bool {
        self.disks.iter().any(|(node, disk)| node == name && matches!(disk, Disk::Limited))
    }

    async fn wait_for_server(&self, port: u16) -> anyhow::Result<()> {
        for _ in 0..400 {
            if self.server.has_failed() {
                break;
            }
            if TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        bail!("the NATS server does not answer; log/server tells more")
    }
}

fn note(stage: &Stage, node: &str, role: Role, channel: Option<&str>) {
    let channel = channel.map(str::to_owned);
    stage.journal.note(Event::Node { node: node.to_owned(), role, channel });
}
