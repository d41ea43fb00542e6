//! The end of a node, step by step.

use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};

use super::jobs::complain;
use super::{Driver, Job};
use crate::core::Input;
use crate::protocol::lifecycle::{End, Last, Offline};
use crate::store::Settlement;
use crate::transport::Transport;

impl<T: Transport> Driver<T> {
    pub(super) async fn end(mut self) {
        let reply = self.stop_reply.take();
        let End { first, hang_up, then } = self.core.end();
        for step in first {
            match step {
                Last::NotePeers => self.say(Input::NotePeers),
                Last::Resign { within } => {
                    // Nobody is to take this node for a master any more, and nobody is called or answered.
                    self.say(Input::Resign);
                    self.outlets.end(within).await;
                }
                Last::CutShort { within } => self.abort_handlers(within).await,
                Last::Commit { within } => self.await_commits(within).await,
                Last::Unnote => self.begun.begin_anew(&self.core.noted_at_end()),
                Last::Goodbye => self.say(Input::Goodbye),
                Last::Settle => self.settle_last().await,
            }
        }
        let Self { transport, mut jobs, store, .. } = self;
        transport.close(hang_up).await;
        for step in then {
            match step {
                Offline::Note { within } => note_last(&mut jobs, within).await,
                Offline::Close => store.close().await,
            }
        }
        if let Some(reply) = reply {
            let _ = reply.send(());
        }
    }

    async fn abort_handlers(&mut self, within: Duration) {
        let done = self.handlers.abort(within).await;
        if !self.handlers.is_idle() {
            tracing::warn!(node = %self.me, "a handler does not end; it is left behind");
        }
        for (source, results) in done {
            self.count(&source, &results);
            self.say(Input::Finished { source, results });
        }
    }

    async fn await_commits(&mut self, within: Duration) {
        let commits = async {
            while self.core.committing() > 0 {
                let Some(completion) = self.jobs.next().await else { return };
                self.completed(completion);
            }
        };
        if tokio::time::timeout(within, commits).await.is_err() {
            tracing::warn!(node = %self.me, "what was handled last could not be noted; it comes again");
        }
    }

    async fn settle_last(&mut self) {
        let at = self.at();
        let (runs, attempts) = self.core.unrecorded((&self.around, at), &mut self.effects);
        let settlements = runs.into_iter().map(Settlement::from).collect();
        if let Err(error) = self.store.settle(settlements, attempts).await {
            complain(&self.me, "note what has been settled", &error);
        }
    }
}

async fn note_last(jobs: &mut FuturesUnordered<Job>, within: Duration) {
    let noted = async { while jobs.next().await.is_some() {} };
    if tokio::time::timeout(within, noted).await.is_err() {
        tracing::warn!("some of what was still to be noted was not");
    }
    jobs.clear();
}
