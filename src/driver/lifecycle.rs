//! The node's life: does what the part that decides about it wants done, up to the last step of a stop.

use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};

use super::{Completion, Driver, Job, Timer, command::Reply};
use crate::clock;
use crate::protocol::leadership::Leadership;
use crate::protocol::lifecycle::{Around, Begin, Effect, End, Last, Lifecycle, Offline, Rival};
use crate::protocol::outbound::Outbound;
use crate::protocol::peers::Peers;
use crate::protocol::{delivery, inbox};
use crate::refusal::StartError;
use crate::store::Settlement;
use crate::transport::Transport;

impl<T: Transport> Driver<T> {
    /// Has it decided what follows from something, and does that.
    pub(super) fn with_lifecycle<R>(
        &mut self,
        decide: impl FnOnce(&mut Lifecycle, &mut Around<'_>) -> R,
    ) -> R {
        let (now, counted, mut out) = (self.now(), clock::now(), Vec::new());
        let (link, peers) = (self.link, &self.peers);
        let around = &mut Around { now, counted, link, peers, out: &mut out };
        let decided = decide(&mut self.lifecycle, around);
        for effect in out {
            self.perform_for_life(effect);
        }
        decided
    }

    fn perform_for_life(&mut self, effect: Effect) {
        match effect {
            Effect::Started(result) => self.started(result),
            Effect::StoodStill => self.with_peers(Peers::stood_still),
            Effect::Doubt => self.receive(inbox::Event::Doubted),
            Effect::Suspended(time) => {
                tracing::info!(node = %self.me, suspended = ?time, "the machine was suspended");
                self.deliver_all(|| delivery::Event::Woke);
                self.wake_for_lapses();
            }
            Effect::NotePeers => self.note_peers(),
            Effect::LookAtClock => {
                let answer = self.store.watch_clock();
                self.await_job(answer, Completion::ClockNoted);
            }
            Effect::CleanUp => self.clean_up(),
            Effect::Begin(step) => self.begin_to_stop(step),
            Effect::WakeAt(at) => self.arm(Timer::Lifecycle, at),
        }
    }

    fn started(&mut self, result: Result<(), Rival>) {
        if let Some(contact) = self.contact.take() {
            let id = self.me.clone();
            let result = result.map_err(|Rival { host, incarnation }| StartError::DuplicateNode {
                id,
                host,
                incarnation,
            });
            let _ = contact.send(result);
        }
        self.tell_stalls();
    }

    pub(super) fn stop(&mut self, deadline: Duration, reply: Reply<()>) {
        let elects = self.leadership.is_some();
        // The first one gets the answer; the channel's closing tells the others that it is done.
        if self.stop_reply.is_none() {
            self.stop_reply = Some(reply);
        }
        self.with_lifecycle(|it, around| it.stop(around, deadline, elects));
    }

    fn begin_to_stop(&mut self, step: Begin) {
        match step {
            Begin::GiveBack => self.handlers.stop(),
            Begin::Inbox => self.receive(inbox::Event::Stop),
            Begin::Peers => self.with_peers(Peers::stop),
            Begin::Admin => {
                self.admin.stop();
                self.askers.clear();
            }
            Begin::Notices => self.take_notices(),
            Begin::Leadership => self.with_leadership(Leadership::stop),
        }
    }

    /// Whether a stop has nothing left to wait for.
    pub(super) fn has_stopped(&self) -> bool {
        if !self.lifecycle.is_stopping() {
            return false;
        }
        let busy = self.inbound.busy() > 0 || self.outbound.is_busy();
        self.lifecycle.is_over(self.now().mono, busy)
    }

    /// The end, step by step.
    pub(super) async fn end(mut self) {
        let reply = self.stop_reply.take();
        let End { first, hang_up, then } = self.lifecycle.end();
        for step in first {
            match step {
                Last::NotePeers => self.note_peers(),
                Last::Resign { within } => self.close_election(within).await,
                Last::CutShort { within } => self.abort_handlers(within).await,
                Last::Commit { within } => self.await_commits(within).await,
                Last::Unnote => self.begun.begin_anew(&self.inbound.noted_at_end()),
                Last::Goodbye => self.with_peers(Peers::goodbye),
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
            self.receive(inbox::Event::Finished { source, results });
        }
    }

    async fn await_commits(&mut self, within: Duration) {
        let commits = async {
            while self.inbound.committing() > 0 {
                let Some(completion) = self.jobs.next().await else { return };
                self.completed(completion);
            }
        };
        if tokio::time::timeout(within, commits).await.is_err() {
            tracing::warn!(node = %self.me, "what was handled last could not be noted; it comes again");
        }
    }

    async fn settle_last(&mut self) {
        let (runs, attempts) = self.with_outbound(Outbound::unrecorded);
        let settlements = runs.into_iter().map(Settlement::from).collect();
        if let Err(error) = self.store.settle(settlements, attempts).await {
            self.complain("note what has been settled", &error);
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
