//! Stopping: finish what runs, deliver what can be delivered, say goodbye, close the file last.

use std::time::{Duration, Instant};

use futures_util::StreamExt;

use super::{Driver, Timer, command::Reply};
use crate::protocol::inbox;
use crate::protocol::leadership::Leadership;
use crate::protocol::outbound::Outbound;
use crate::protocol::peers::Peers;
use crate::store::Settlement;
use crate::transport::Transport;

/// How long the goodbye may take to reach the socket.
const GOODBYE: Duration = Duration::from_millis(500);

/// How long the receipts of what was handled may take.
const COMMITS: Duration = Duration::from_secs(1);

/// How long aborted handlers may take to end.
pub(super) const ABORT: Duration = Duration::from_secs(1);

pub(super) struct Stopping {
    /// The time for it is over.
    pub(super) overdue: bool,
    /// Another is master, or nobody could take over, or this node never was.
    pub(super) handed_over: bool,
    reply: Reply<()>,
}

impl<T: Transport> Driver<T> {
    pub(super) fn stop(&mut self, deadline: Duration, reply: Reply<()>) {
        if self.stopping.is_some() {
            // The first one gets the answer; the channel's closing tells the others that it is done.
            return;
        }
        let handed_over = self.leadership.is_none();
        self.stopping = Some(Stopping { overdue: false, handed_over, reply });
        self.arm(Timer::Stop, Some(Instant::now() + deadline));
        self.handlers.stop();
        self.receive(inbox::Event::Stop);
        self.with_peers(Peers::stop);
        // Whoever gave an order learns that there will be no answer.
        self.admin.stop();
        self.askers.clear();
        self.take_notices();
        self.with_leadership(Leadership::stop);
    }

    /// Whether there is nothing left to wait for; then, who waits for that.
    pub(super) fn stopped(&mut self) -> Option<Reply<()>> {
        let stopping = self.stopping.as_ref()?;
        let busy = !stopping.handed_over || self.inbound.busy() > 0 || self.outbound.is_busy();
        if busy && !stopping.overdue {
            return None;
        }
        self.stopping.take().map(|stopping| stopping.reply)
    }

    /// A handler that does not end is not waited for. Its message comes again; those before it in the same frame do not.
    async fn abort_handlers(&mut self) {
        let done = self.handlers.abort(ABORT).await;
        if !self.handlers.is_idle() {
            tracing::warn!(node = %self.me, "a handler does not end; it is left behind");
        }
        for (source, results) in done {
            self.count(&source, &results);
            self.receive(inbox::Event::Finished { source, results });
        }
        let commits = async {
            while self.inbound.committing() > 0 {
                let Some(completion) = self.jobs.next().await else { return };
                self.completed(completion);
            }
        };
        if tokio::time::timeout(COMMITS, commits).await.is_err() {
            tracing::warn!(node = %self.me, "what was handled last could not be noted; it comes again");
        }
    }

    pub(super) async fn finish(self, reply: Reply<()>) {
        self.end(Some(GOODBYE)).await;
        let _ = reply.send(());
    }

    /// Nobody holds the node any more: end at once, without a word. The file is closed in order all the same.
    pub(super) async fn cancel(self) {
        self.end(None).await;
    }

    /// The end, in order: what runs is cut short, and the file learns what it does not know yet. Others are told where there is time for a goodbye.
    async fn end(mut self, goodbye: Option<Duration>) {
        self.note_peers();
        self.close_election().await;
        self.abort_handlers().await;
        self.begun.begin_anew(&self.inbound.noted_at_end());
        if goodbye.is_some() {
            self.with_peers(Peers::goodbye);
        }
        let (runs, attempts) = self.with_outbound(Outbound::unrecorded);
        let settlements = runs.into_iter().map(Settlement::from).collect();
        if let Err(error) = self.store.settle(settlements, attempts).await {
            self.complain("note what has been settled", &error);
        }
        self.transport.close(goodbye.unwrap_or_default()).await;
        // What is still to be noted, in the audit above all.
        let noted = async { while self.jobs.next().await.is_some() {} };
        if tokio::time::timeout(COMMITS, noted).await.is_err() {
            tracing::warn!("some of what was still to be noted was not");
        }
        drop(self.jobs);
        self.store.close().await;
    }
}
