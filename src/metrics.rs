//! A node's metrics as Prometheus text. A registry is made for every look: what counts is counted elsewhere, so that nothing has to be
//! kept in step, and two nodes in one process share nothing.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{Gauge, GaugeVec, IntCounter, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder};

use crate::condition::{Counters, Health, StorageUse};
use crate::config::Election;
use crate::metering::Queue;
use crate::shared::Shared;

/// How long the file may take to tell what waits.
const PATIENCE: Duration = Duration::from_secs(2);

/// Says what the constants rule out.
const SOUND: &str = "the names and labels are constants that tests use";

/// A node's metrics: see [`Node::metrics`](crate::Node::metrics). Cheap to clone; keeps the node running as a clone of it would.
#[derive(Clone)]
pub struct Metrics {
    shared: Arc<Shared>,
}

impl Metrics {
    /// What [`encode`](Self::encode) gives, as an HTTP content type.
    pub const CONTENT_TYPE: &'static str = prometheus::TEXT_FORMAT;

    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// All metrics in Prometheus' text format, version 0.0.4. `docs/metrics.md` says what each means.
    ///
    /// Asks the file what waits for whom, for at most two seconds: where it does not tell, those metrics are left out, and all others are
    /// there. Works as well while the node is disconnected, and after its shutdown. Each call is a job for the node's writing thread: keep the answer
    /// for a second where strangers can ask. Must be called in a tokio runtime with time enabled. Cancelling is safe.
    pub async fn encode(&self) -> String {
        let store = &self.shared.store;
        let asked = async { tokio::join!(store.accounts(), store.storage()) };
        let (accounts, storage) = match tokio::time::timeout(PATIENCE, asked).await {
            Ok((accounts, storage)) => (accounts.ok(), storage.ok()),
            Err(_) => (None, None),
        };
        let page = Page(Registry::new());
        self.counters(&page);
        self.histograms(&page);
        self.state(&page);
        self.election(&page);
        if let Some(accounts) = accounts {
            let queues = self.shared.named.longest(&accounts);
            page.queues(&queues, self.shared.store.now_ms());
        }
        if let Some(StorageUse { used_bytes, limit_bytes }) = storage {
            let bytes = |bytes| i64::try_from(bytes).unwrap_or(i64::MAX);
            let used = "What the node's files take, less what is free in the database.";
            page.gauge("waypost_storage_used_bytes", used, bytes(used_bytes));
            let limit = "The most that the node's files may take: storage_limit, or its default at this moment.";
            page.gauge("waypost_storage_limit_bytes", limit, bytes(limit_bytes));
        }
        let mut text = String::new();
        TextEncoder::new().encode_utf8(&page.0.gather(), &mut text).expect(SOUND);
        text
    }

    fn counters(&self, page: &Page) {
        let counters = self.shared.tally.read();
        for (name, help, value) in totals(&counters) {
            page.counter(name, help, value);
        }
    }

    fn histograms(&self, page: &Page) {
        let meter = self.shared.store.meter();
        page.add(meter.delivery.clone());
        page.add(meter.ack.clone());
        page.add(meter.commits.clone());
        page.add(meter.commit_jobs.clone());
    }

    fn state(&self, page: &Page) {
        let status = self.shared.status.borrow().clone();
        // What it said last is true no more.
        let runs = !self.shared.line.has_ended();
        let connected = runs && status.link.is_connected();
        let writable = self.shared.store.health() == Health::Healthy;
        page.flag(
            "waypost_connected",
            "Whether the node is connected to a NATS server.",
            connected,
        );
        page.flag(
            "waypost_file_writable",
            "Whether the node's file takes messages; 0 while the disk is full, storage_limit is reached or the file has failed.",
            writable,
        );
        let peers = if runs { status.peers_online } else { 0 };
        let peers = i64::try_from(peers).unwrap_or(i64::MAX);
        page.gauge("waypost_peers_online", "Peers that are online.", peers);
        let wal = i64::try_from(self.shared.store.wal_bytes()).unwrap_or(i64::MAX);
        page.gauge("waypost_wal_bytes", "Size of the file's write-ahead log.", wal);
        let uptime = Gauge::new("waypost_uptime_seconds", "Time since the node was started.");
        let uptime = uptime.expect(SOUND);
        uptime.set(self.shared.started.elapsed().as_secs_f64());
        page.add(uptime);
        let info = Opts::new("waypost_node_info", "The node's name and its version; always 1.");
        let info = IntGaugeVec::new(info, &["node", "version"]).expect(SOUND);
        info.with_label_values(&[self.shared.id.as_str(), env!("CARGO_PKG_VERSION")]).set(1);
        page.add(info);
    }

    fn election(&self, page: &Page) {
        if self.shared.config.election == Election::Off {
            return;
        }
        let leader = &self.shared.leader;
        let term = i64::try_from(leader.term().get()).unwrap_or(i64::MAX);
        page.gauge("waypost_election_term", "The newest term that the node knows.", term);
        page.flag(
            "waypost_election_master",
            "Whether this node is master.",
            leader.token().is_some(),
        );
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").field("node", &self.shared.id).finish_non_exhaustive()
    }
}

type Total = (&'static str, &'static str, u64);

/// Every counter, and what it counts.
fn totals(counters: &Counters) -> [Total; 19] {
    [
        ("waypost_messages_accepted_total", "Messages committed for sending.", counters.accepted),
        (
            "waypost_messages_sent_total",
            "Messages sent to a receiver, one for each receiver, repetitions not counted.",
            counters.sent,
        ),
        (
            "waypost_messages_redelivered_total",
            "Messages sent to a receiver again.",
            counters.redelivered,
        ),
        (
            "waypost_messages_delivered_total",
            "Messages acknowledged by a receiver, one for each receiver.",
            counters.delivered,
        ),
        (
            "waypost_messages_expired_total",
            "Messages that expired for a receiver.",
            counters.expired,
        ),
        (
            "waypost_messages_dead_total",
            "Messages that became dead letters.",
            counters.dead_lettered,
        ),
        (
            "waypost_messages_dropped_total",
            "Messages that gave way to newer ones, were purged, or waited for a receiver that was forgotten or has left.",
            counters.dropped,
        ),
        ("waypost_messages_processed_total", "Messages that a handler took.", counters.processed),
        (
            "waypost_messages_failed_total",
            "Messages that a handler refused, or in which it panicked.",
            counters.failed,
        ),
        (
            "waypost_messages_repeated_total",
            "Messages that came again and were recognised.",
            counters.repeated,
        ),
        ("waypost_acks_sent_total", "Acknowledgements sent.", counters.acks_sent),
        ("waypost_acks_received_total", "Acknowledgements received.", counters.acks_received),
        ("waypost_nacks_sent_total", "Refusals sent.", counters.nacks_sent),
        ("waypost_nacks_received_total", "Refusals received.", counters.nacks_received),
        (
            "waypost_answers_unmatched_total",
            "Answers that fitted nothing.",
            counters.unmatched_answers,
        ),
        ("waypost_keepalives_sent_total", "Keepalives sent.", counters.keepalives_sent),
        ("waypost_keepalives_received_total", "Keepalives received.", counters.keepalives_received),
        (
            "waypost_frames_refused_total",
            "Frames that were refused: not ours, of another version, damaged, or from another sender than they say.",
            counters.refused_frames,
        ),
        (
            "waypost_reconnects_total",
            "Connections to a NATS server after the first.",
            counters.reconnects,
        ),
    ]
}

/// What is being put together for one look.
struct Page(Registry);

impl Page {
    fn add(&self, metric: impl Collector + 'static) {
        self.0.register(Box::new(metric)).expect(SOUND);
    }

    fn counter(&self, name: &str, help: &str, value: u64) {
        let counter = IntCounter::new(name, help).expect(SOUND);
        counter.inc_by(value);
        self.add(counter);
    }

    fn gauge(&self, name: &str, help: &str, value: i64) {
        let gauge = IntGauge::new(name, help).expect(SOUND);
        gauge.set(value);
        self.add(gauge);
    }

    fn flag(&self, name: &str, help: &str, is_so: bool) {
        self.gauge(name, help, i64::from(is_so));
    }

    fn queues(&self, queues: &[Queue<'_>], now_ms: u64) {
        let waiting = Opts::new(
            "waypost_queue_messages",
            "Messages that wait for a receiver; (none): for a first reader; (other): for those beyond the hundred longest queues.",
        );
        let waiting = IntGaugeVec::new(waiting, &["receiver"]).expect(SOUND);
        let oldest = Opts::new(
            "waypost_queue_oldest_age_seconds",
            "Age of the oldest message that waits for a receiver; 0 where none does, left out where it takes long to find.",
        );
        let oldest = GaugeVec::new(oldest, &["receiver"]).expect(SOUND);
        for Queue { receiver, messages, oldest_ms } in queues {
            let count = i64::try_from(*messages).unwrap_or(i64::MAX);
            waiting.with_label_values(&[receiver]).set(count);
            let age_ms = match oldest_ms {
                Some(oldest) => now_ms.saturating_sub(*oldest),
                None if *messages == 0 => 0,
                // It would take too long to find.
                None => continue,
            };
            oldest.with_label_values(&[receiver]).set(age_ms as f64 / 1e3);
        }
        self.add(waiting);
        self.add(oldest);
    }
}
