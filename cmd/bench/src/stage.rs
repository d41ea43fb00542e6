//! What all scenarios of a run share, and what has to be gone when it ends.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tempfile::TempDir;
use waypost::{Config, Node, NodeId};

use crate::anchors::jetstream::JetStream;
use crate::error::{BenchError, unusable};
use crate::machine::Machine;
use crate::options::{Options, Sizes};
use crate::payload::Payloads;
use crate::progress::Progress;
use crate::server::{Lost, Server};
use crate::window::Window;

/// How long a node of the bench takes to end: what it still has to deliver is of no interest.
const LAST_WORDS: Duration = Duration::from_millis(50);
/// How often removing the folder is tried: a node that was cancelled while it started may still be closing its file.
const REMOVALS: u32 = 40;

/// What all scenarios of a run share.
pub(crate) struct Stage {
    pub(crate) options: Options,
    pub(crate) sizes: Sizes,
    pub(crate) server: Server,
    pub(crate) payloads: Arc<Payloads>,
    pub(crate) progress: Progress,
    /// JetStream as it comes, or why there is none.
    pub(crate) jetstream: Result<JetStream, String>,
    /// JetStream with `sync_interval: always`, or why there is none.
    pub(crate) jetstream_always: Result<JetStream, String>,
    machine: Machine,
    server_name: String,
    folder: TempDir,
    /// What no other run has: part of every subject and stream.
    mark: String,
    places: AtomicU64,
    nodes: Mutex<Vec<(String, Node)>>,
}

/// A folder and a prefix for nodes that see each other and nobody else.
pub(crate) struct Place {
    folder: PathBuf,
    prefix: String,
}

impl Place {
    /// A file beside those of its nodes.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The first part of its nodes' subjects.
    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }
}

impl Stage {
    /// Finds the servers and makes the folder.
    ///
    /// # Errors
    /// There is no server, or the folder cannot be made.
    pub(crate) async fn set(options: Options) -> Result<(Self, Lost), BenchError> {
        let server = Server::new(options.config.clone());
        let mut lost = Lost::new();
        let client = lost.watch(&server).await?;
        let info = client.server_info();
        let mark = format!("waypost-bench-{:08x}", fastrand::u32(..));
        let jetstream = match options.jetstream {
            false => Err("not asked for: --peer jetstream".to_owned()),
            true => JetStream::find(&server, &format!("{mark}-default")).await?,
        };
        let jetstream_always = match &options.jetstream_always {
            None => {
                Err("no server with sync_interval: always was named: --jetstream-always".to_owned())
            }
            Some(url) => {
                let server = server.at(url);
                lost.watch(&server).await?;
                JetStream::find(&server, &format!("{mark}-always")).await?
            }
        };
        let folder = folder(options.dir.as_deref())?;
        let machine = Machine::look(folder.path());
        if machine.is_in_memory() {
            tracing::warn!(
                "{} is in memory, where an fsync costs nothing: figures with one mean nothing; name a folder on a disk with --dir",
                folder.path().display()
            );
        }
        let sizes = options.sizes();
        let stage = Self {
            progress: Progress::new(options.chosen().len() * sizes.runs),
            payloads: Arc::new(Payloads::new()),
            server_name: format!("nats-server {}", info.version),
            places: AtomicU64::new(0),
            nodes: Mutex::default(),
            machine,
            sizes,
            options,
            server,
            jetstream,
            jetstream_always,
            folder,
            mark,
        };
        Ok((stage, lost))
    }

    /// Where the nodes' files lie.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A subject that nobody else uses.
    pub(crate) fn own_subject(&self, word: &str) -> String {
        format!("{}.{word}", self.mark)
    }

    /// The measurement that most figures come from.
    pub(crate) fn window(&self) -> Window {
        Window { warm: self.sizes.warm, length: self.sizes.window, end: None }
    }

    /// A new place.
    ///
    /// # Errors
    /// Its folder cannot be made.
    pub(crate) fn place(&self) -> Result<Place, BenchError> {
        let n = self.places.fetch_add(1, Ordering::Relaxed);
        let folder = self.folder().join(n.to_string());
        std::fs::create_dir(&folder).map_err(|error| unusable(&folder, &error))?;
        Ok(Place { folder, prefix: format!("{}-{n}", self.mark) })
    }

    /// Starts a node in this place. It ends with [`Stage::leave`] or the run.
    ///
    /// # Errors
    /// It does not start.
    pub(crate) async fn node(
        &self,
        place: &Place,
        id: &str,
        tune: impl FnOnce(&mut Config),
    ) -> Result<Node, BenchError> {
        let mut config = self.config(place, id);
        tune(&mut config);
        let node = Node::builder().config(config).start().await?;
        self.keep(&place.prefix, node.clone());
        Ok(node)
    }

    /// The settings of a node in this place: the defaults.
    pub(crate) fn config(&self, place: &Place, id: &str) -> Config {
        // Whatever else is set for nodes on this machine: the bench is about the defaults.
        let Config { nats, auth, tls, .. } = self.server.config().clone();
        let mut config = Config::default();
        (config.nats, config.auth, config.tls) = (nats, auth, tls);
        config.id = Some(NodeId::new(id).expect("a valid name"));
        config.storage = Some(place.folder.join(format!("{id}.db")));
        config.prefix.clone_from(&place.prefix);
        config.shutdown_timeout = LAST_WORDS;
        config
    }

    /// Stops the nodes of this place and removes their files.
    pub(crate) async fn leave(&self, place: Place) {
        let (gone, kept) = {
            let mut nodes = self.nodes.lock().expect("nothing panics with it");
            nodes.drain(..).partition::<Vec<_>, _>(|(prefix, _)| *prefix == place.prefix)
        };
        self.nodes.lock().expect("nothing panics with it").extend(kept);
        stop(gone).await;
        remove(&place.folder).await;
    }

    /// Ends all that is left of the run.
    pub(crate) async fn clear(self) -> (Options, (Machine, String)) {
        let Self {
            nodes, folder, jetstream, jetstream_always, options, machine, server_name, ..
        } = self;
        stop(nodes.into_inner().expect("nothing panics with it")).await;
        for jetstream in [jetstream, jetstream_always].into_iter().flatten() {
            jetstream.clear().await;
        }
        remove(folder.path()).await;
        (options, (machine, server_name))
    }

    fn keep(&self, prefix: &str, node: Node) {
        self.nodes.lock().expect("nothing panics with it").push((prefix.to_owned(), node));
    }
}

/// At once, so that nobody waits for what another would have answered.
async fn stop(nodes: Vec<(String, Node)>) {
    futures_util::future::join_all(nodes.iter().map(|(_, node)| node.shutdown())).await;
}

async fn remove(folder: &Path) {
    for _ in 0..REMOVALS {
        if !folder.exists() || std::fs::remove_dir_all(folder).is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    tracing::warn!("{} could not be removed: remove it by hand", folder.display());
}

fn folder(dir: Option<&Path>) -> Result<TempDir, BenchError> {
    let parent = dir.map_or_else(std::env::temp_dir, Path::to_owned);
    let made = tempfile::Builder::new().prefix("waypost-bench-").tempdir_in(&parent);
    made.map_err(|error| unusable(&parent, &error))
}
