//! Each reason for which messages don't move is brought about, and looked for in each place that tells it: the node's status, its events, its log
//! lines, its readiness, its report, `waypost why` and `waypost doctor`.

use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use waypost::management::{Observer, Whom};
use waypost::reason::Template;
use waypost::{
    Builder, Channel, Config, Election, Event, HandlerError, MessageId, Mode, NewMessage, Node,
    NodeId, Reason,
};
use waypost_http::{Address, ReadyWhen, Server};

use crate::http::ask;
use crate::program::Program;
use crate::support::nats_server::NatsServer;
use crate::support::{eventually, eventually_async};

mod rows;

/// What was not told by then is not told any more. Some reasons are told after ten seconds, one after a minute.
const PATIENCE: Duration = Duration::from_secs(150);

/// The log lines of all nodes of this program, as a program that logs warnings has them.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn of_all() -> &'static Self {
        static LOG: OnceLock<Log> = OnceLock::new();
        LOG.get_or_init(|| {
            let log = Self::default();
            let writer = log.clone();
            tracing_subscriber::fmt()
                .with_writer(move || writer.clone())
                .with_ansi(false)
                .with_max_level(tracing::Level::WARN)
                .init();
            log
        })
    }

    fn lines(&self, node: &str) -> Vec<String> {
        let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (text, field) = (String::from_utf8_lossy(&bytes), format!("node={node}"));
        text.lines().filter(|line| line.ends_with(&field)).map(str::to_owned).collect()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn template(name: &str) -> &'static Template {
    Reason::ALL.iter().find(|template| template.name == name).expect("a reason")
}

/// Whether the text holds the sentence and the remedy, whatever the values are.
pub(super) fn says(text: &str, name: &str) -> bool {
    let Template { sentence, remedy, .. } = template(name);
    holds(text, &format!("{sentence}: {remedy}"))
}

fn holds(text: &str, template: &str) -> bool {
    let mut rest = text;
    template.split('{').map(|part| part.split_once('}').map_or(part, |(_, text)| text)).all(
        |literal| match rest.find(literal) {
            Some(at) => {
                rest = &rest[at + literal.len()..];
                true
            }
            None => false,
        },
    )
}

/// A node under test with a name of its own, and its file where the command looks for it.
struct Scene {
    here: Program,
    name: &'static str,
    node: Node,
    /// Its readiness, as a probe sees it.
    health: Server,
    /// Names of what began and what ended.
    begun: Arc<Mutex<Vec<String>>>,
    over: Arc<Mutex<Vec<String>>>,
}

/// Quick to notice.
fn builder(nats: &str, folder: &Path, name: &str) -> Builder {
    Node::builder()
        .id(name)
        .nats([nats])
        .storage(folder.join(format!("waypost-{name}.db")))
        .keepalive_interval(Duration::from_millis(500))
        .offline_after(Duration::from_secs(3))
        .ack_timeout(Duration::from_secs(1))
        .retry_delay(Duration::from_millis(100))
        .shutdown_timeout(Duration::from_secs(5))
}

impl Scene {
    async fn new(nats: &str, name: &'static str) -> Self {
        Self::with(nats, name, |builder| builder).await
    }

    async fn with(
        nats: &str,
        name: &'static str,
        settings: impl FnOnce(Builder) -> Builder,
    ) -> Self {
        Self::on(Program::new(nats), nats, name, settings).await
    }

    /// In this folder, where its file may be already.
    async fn on(
        here: Program,
        nats: &str,
        name: &'static str,
        settings: impl FnOnce(Builder) -> Builder,
    ) -> Self {
        Log::of_all();
        let builder = settings(builder(nats, &here.path(""), name));
        let node = builder.start().await.expect("started");
        let port: Address = "127.0.0.1:0".parse().expect("an address");
        let port = port.bind().await.expect("a free port");
        let health = port.serve(node.clone(), ReadyWhen::Connected);
        let (begun, over) = (Arc::default(), Arc::default());
        let scene = Self { here, name, node, health, begun, over };
        scene.listen();
        scene
    }

    fn listen(&self) {
        let (begun, over) = (self.begun.clone(), self.over.clone());
        let mut events = self.node.events();
        tokio::spawn(async move {
            while let Some(event) = events.next().await {
                let (list, reason) = match event {
                    Event::Stalled { reason } => (&begun, reason),
                    Event::Resumed { reason } => (&over, reason),
                    // Those have an event of their own, at each mark.
                    Event::LimitNear(near) => (&begun, near.reason()),
                    _ => continue,
                };
                list.lock().unwrap_or_else(PoisonError::into_inner).push(reason.name().to_owned());
            }
        });
    }

    /// Another node in the same network.
    async fn other(&self, nats: &str, name: &str) -> Node {
        builder(nats, &self.here.path(""), name).start().await.expect("started")
    }

    async fn writes(&self, channel: &str) -> Channel {
        self.node.join(channel, Mode::Writer).await.expect("joined")
    }

    /// Until the node's status has this reason.
    async fn stands_in_its_status(&self, name: &str) {
        let what = format!("{} has {name} in its status", self.name);
        eventually_async(PATIENCE, &what, async || {
            self.node.status().reasons.iter().any(|reason| reason.name() == name)
        })
        .await;
        let reasons = self.node.reasons().await.expect("it runs");
        assert!(reasons.iter().any(|reason| reason.name() == name), "{name}: {reasons:?}");
    }

    /// Until it is told, as an event where somebody listens since before, and as a log line.
    async fn is_told(&self, name: &str) {
        let told = |list: &Mutex<Vec<String>>| {
            list.lock().unwrap_or_else(PoisonError::into_inner).iter().any(|it| it == name)
        };
        eventually_async(PATIENCE, &format!("{} tells {name}", self.name), async || {
            told(&self.begun)
        })
        .await;
        self.is_logged(name).await;
    }

    async fn is_logged(&self, name: &str) {
        eventually_async(PATIENCE, &format!("{} logs {name}", self.name), async || {
            Log::of_all().lines(self.name).iter().any(|line| says(line, name))
        })
        .await;
    }

    async fn stands_in_its_readiness(&self, name: &str) {
        self.stands_in_its_own_readiness(name).await;
        self.is_told_to_probes(name).await;
    }

    async fn stands_in_its_own_readiness(&self, name: &str) {
        let readiness = self.node.readiness().await;
        let check = readiness.checks.iter().find(|check| check.name == Some(name));
        assert!(check.is_some_and(|check| says(&check.reason, name)), "{name}: {readiness:?}");
    }

    /// `/readyz`, whose answer can be a second old.
    async fn is_told_to_probes(&self, name: &str) {
        let port = self.health.address().port();
        let end = Instant::now() + PATIENCE;
        loop {
            let asked = tokio::task::spawn_blocking(move || ask(port, "GET /readyz"));
            let answer = asked.await.expect("no panic").expect("an answer");
            let ready: serde_json::Value = serde_json::from_str(&answer.body).expect("JSON");
            let checks = ready["checks"].as_array().expect("a list");
            let told = checks.iter().find(|check| check["name"] == name);
            if told.is_some_and(|told| says(told["reason"].as_str().expect("a text"), name)) {
                let all_well = checks.iter().all(|check| check["state"] == "passed");
                let code = if all_well { 200 } else { 503 };
                assert_eq!((answer.code, &ready["ready"]), (code, &all_well.into()), "{ready}");
                return;
            }
            assert!(Instant::now() < end, "/readyz of {} does not tell {name}: {ready}", self.name);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// What the node says about itself when it is asked over the network.
    async fn stands_in_its_report(&self, name: &str) {
        let report = report(self.node.config(), self.name).await;
        let told = report.reasons.iter().find(|told| told.reason == name);
        assert!(told.is_some_and(|told| says(&told.to_string(), name)), "{:?}", report.reasons);
    }

    /// The same run of the command, as somebody would use it who looks at this node's file.
    fn command_says(&self, arguments: &str, name: &str) {
        let arguments = format!("{arguments} --id {}", self.name);
        let mut last = String::new();
        eventually(PATIENCE, &format!("`{arguments}` tells {name}"), || {
            let ended = self.here.run(&arguments);
            last = format!("{}{}", ended.text(), ended.err);
            says(&last, name)
        });
    }

    fn why_says(&self, id: MessageId, name: &str) {
        self.command_says(&format!("why {id}"), name);
    }

    fn doctor_says(&self, name: &str) {
        self.command_says("doctor", name);
    }

    /// All places that a node has for a reason of its receivers, and of all else that is told while it is connected.
    async fn is_told_everywhere(&self, name: &str, message: Option<MessageId>) {
        self.stands_in_its_status(name).await;
        self.stands_in_its_readiness(name).await;
        self.stands_in_its_report(name).await;
        if let Some(id) = message {
            self.why_says(id, name);
        }
        self.doctor_says(name);
        self.is_told(name).await;
    }

    /// That it passes is told too.
    async fn is_over(&self, name: &str) {
        let over = template(name).over;
        eventually_async(
            PATIENCE,
            &format!("{} tells that {name} is over", self.name),
            async || {
                let told = self.over.lock().unwrap_or_else(PoisonError::into_inner).clone();
                told.iter().any(|it| it == name)
                    && Log::of_all().lines(self.name).iter().any(|line| holds(line, over))
            },
        )
        .await;
        let reasons = self.node.status().reasons;
        assert!(reasons.iter().all(|reason| reason.name() != name), "{name}: {reasons:?}");
    }
}

async fn report(config: &Config, node: &str) -> waypost::management::Report {
    asked(config, node).await.expect("it answers")
}

/// Its answer; none where it has not met its server yet.
async fn asked(config: &Config, node: &str) -> Option<waypost::management::Report> {
    let node = NodeId::new(node).expect("a valid name");
    let mut observer = Observer::connect(config).await.expect("connected");
    let reports = observer.reports(Duration::from_secs(5), std::slice::from_ref(&node)).await;
    observer.close().await;
    reports.expect("asked").into_iter().find(|report| report.node == node)
}

/// Sends a text.
async fn send(channel: &Channel, message: impl Into<NewMessage>) -> MessageId {
    channel.send(message).await.expect("accepted")
}
