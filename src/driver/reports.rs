//! What this node tells about itself.

use super::{Completion, Driver};
use crate::clock;
use crate::condition::Health;
use crate::protocol::frame::ChannelPresence;
use crate::protocol::leadership::Leadership;
use crate::protocol::looks::Pending;
use crate::protocol::report::{About, ChannelInfo, MAX_ROWS, PeerInfo, Query, Report, Topology};
use crate::store::StoreError;
use crate::transport::Transport;

impl From<&ChannelPresence> for ChannelInfo {
    fn from(presence: &ChannelPresence) -> Self {
        Self {
            name: presence.name.clone(),
            mode: presence.mode,
            paused: presence.paused,
            age_ms: presence.age_ms,
        }
    }
}

impl<T: Transport> Driver<T> {
    pub(super) fn topology(&self) -> Topology {
        let now_ms = self.store.now_ms();
        let peers = self.peers.views().map(|peer| PeerInfo {
            heard_ms_ago: now_ms.saturating_sub(peer.seen_ms),
            node: peer.node,
            online: peer.online,
            incarnation: peer.incarnation,
            host: peer.host,
            version: peer.version,
            draining: peer.draining,
            channels: peer.channels.iter().map(ChannelInfo::from).collect(),
        });
        Topology {
            node: self.me.clone(),
            election: self.leadership.as_ref().map(|it| it.info(clock::now())),
            channels: self.peers.presences(now_ms).map(|it| ChannelInfo::from(&it)).collect(),
            peers: peers.collect(),
        }
    }

    /// Answers a question, once the store has told the accounts.
    pub(super) fn report(&mut self, query: &Query) {
        let Topology { node, election, mut channels, mut peers } = self.topology();
        let leadership = self.leadership.as_ref().filter(|_| query.state);
        let state = leadership.and_then(Leadership::state_to_report);
        let truncated = channels.len() > MAX_ROWS || peers.len() > MAX_ROWS;
        channels.truncate(MAX_ROWS);
        peers.truncate(MAX_ROWS);
        let mut report = Report {
            to: query.from.clone(),
            node,
            query: query.query,
            incarnation: self.incarnation,
            store: self.outbound.store(),
            host: self.host.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_ms: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            now_ms: None,
            link: self.status.borrow().link.clone(),
            storage: match self.store.health() {
                Health::Healthy => "healthy".to_owned(),
                Health::Full => "full".to_owned(),
                Health::AtLimit(_) => "at its limit".to_owned(),
                Health::Failed(reason) => reason.to_string(),
            },
            channels,
            peers,
            accounts: Vec::new(),
            counters: self.tally.read(),
            election,
            state,
            reasons: Vec::new(),
            reasons_left: 0,
            latency: self.store.meter().latency(),
            truncated,
        };
        self.settle();
        let (store, about) = (self.store.clone(), query.about.clone());
        self.jobs.push(Box::pin(async move {
            if let Ok(mut accounts) = store.accounts().await {
                report.truncated |= accounts.len() > MAX_ROWS;
                accounts.truncate(MAX_ROWS);
                report.accounts = accounts;
            }
            report.now_ms = Some(store.now_ms());
            // What waits is counted last: whoever asks may just have sent it.
            let pending = store.pending().await;
            Completion::Report { report: Box::new(report), pending, about }
        }));
    }

    pub(super) fn send_report(
        &mut self,
        mut report: Report,
        pending: Result<Vec<Pending>, StoreError>,
        about: Option<&About>,
    ) {
        (report.reasons, report.reasons_left) = self.told_reasons(pending, about);
        self.with_admin(|it, around| it.report(around, Box::new(report)));
    }
}
