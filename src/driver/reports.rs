//! What this node tells about itself.

use super::Driver;
use super::jobs::Completion;
use crate::condition::Health;
use crate::core::Answered;
use crate::protocol::report::{MAX_ROWS, Query, Report, Topology};
use crate::transport::Transport;

impl<T: Transport> Driver<T> {
    /// Gathers the answer to a question, once the store has told the accounts.
    pub(super) fn gather_report(&mut self, query: &Query) {
        let Topology { node, election, mut channels, mut peers } = self.core.topology(self.at());
        let state = query.state.then(|| self.core.state_to_report()).flatten();
        let truncated = channels.len() > MAX_ROWS || peers.len() > MAX_ROWS;
        channels.truncate(MAX_ROWS);
        peers.truncate(MAX_ROWS);
        let mut report = Report {
            to: query.from.clone(),
            node,
            query: query.query,
            incarnation: self.incarnation,
            store: self.core.store(),
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
        let (store, about) = (self.store.clone(), query.about.clone());
        self.jobs.push(Box::pin(async move {
            if let Ok(mut accounts) = store.accounts().await {
                report.truncated |= accounts.len() > MAX_ROWS;
                accounts.truncate(MAX_ROWS);
                report.accounts = accounts;
            }
            report.now_ms = Some(store.now_ms());
            // What waits is counted last: whoever asks may just have sent it.
            let pending = store.pending().await.ok();
            Completion::Answered(Answered::Report { report: Box::new(report), pending, about })
        }));
    }
}
