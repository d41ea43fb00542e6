//! The election's shell: does what the part that decides about leadership wants done.

use std::time::Duration;

use super::callbacks::Callback;
use super::command::Reply;
use super::{Completion, Driver, Timer};
use crate::clock;
use crate::event::Event;
use crate::event::election::ElectionEvent;
use crate::message::{NodeId, Term};
use crate::protocol::Now;
use crate::protocol::election::{Frame, Notice, Version};
use crate::protocol::frame::Frame as Wire;
use crate::protocol::leadership::{self, Around, Change, Effect, Leadership};
use crate::refusal::{HandOverError, SetStateError};
use crate::store::{Entry, StoreError};
use crate::transport::{PublishError, Subject, Transport};

/// What the audit calls what an election decided.
const ACTION: &str = "election";

impl<T: Transport> Driver<T> {
    /// Has it decided what follows from something, and does that. Nothing happens where there is no election.
    pub(super) fn with_leadership(
        &mut self,
        decide: impl FnOnce(&mut Leadership, &mut Around<'_>),
    ) {
        let now = Now { mono: clock::now(), file_ms: self.store.now_ms() };
        let Self { leadership: Some(leadership), peers, link, max_frame, .. } = self else {
            return;
        };
        let (link, max_frame, mut out) = (*link, *max_frame, Vec::new());
        decide(leadership, &mut Around { now, peers, link, max_frame, out: &mut out });
        for effect in out {
            self.perform_for_leadership(effect);
        }
    }

    fn perform_for_leadership(&mut self, effect: Effect) {
        match effect {
            Effect::Show(view) => self.outlets.show(view),
            Effect::Say(frame) => self.say(frame),
            Effect::Save { seq, record, entry } => {
                let rows = entry.map(row).into_iter().collect();
                let answer = self.store.save_election(record, rows);
                self.await_job(answer, move |result| Completion::ElectionSaved { seq, result });
            }
            Effect::Enter(entry) => {
                let answer = self.store.enter(vec![row(entry)]);
                self.await_job(answer, Completion::Noted);
            }
            Effect::Tell(notice) => self.tell_of_election(&notice),
            Effect::Call(call) => {
                if let Some(done) = self.outlets.call(call) {
                    self.jobs.push(Box::pin(async move {
                        // It panicked, or its runtime is gone.
                        let _ = done.await;
                        Completion::ToldOfShutdown
                    }));
                }
            }
            Effect::StateSet { ticket, result } => self.outlets.state_set(ticket, result),
            Effect::HandedOver { ticket, result } => self.outlets.handed_over(ticket, result),
            Effect::Free => self.lifecycle.handed_over(),
            Effect::WakeAt { at } => self.arm(Timer::Election, at.map(clock::timer_at)),
        }
    }

    fn say(&mut self, frame: Frame) {
        let to = Subject::Election { from: self.me.clone() };
        let sent = self.transport.try_publish(&to, Wire::Election(frame).encode());
        if let Err(error @ PublishError::TooLarge { .. }) = sent {
            tracing::error!(node = %self.me, %error, "the master's state does not fit through the NATS server: raise its max_payload");
            self.tell(Event::Denied { reason: format!("the state does not fit: {error}") });
        }
    }

    fn tell_of_election(&mut self, notice: &Notice) {
        let event = ElectionEvent::from(notice);
        tracing::info!(node = %self.me, ?event, "election");
        if let Notice::OtherVoters { node } = notice {
            tracing::warn!(node = %self.me, other = %node, "its settings name other voters: give all nodes the same list");
        }
        self.outlets.tell(event.clone());
        self.tell(Event::Election(event));
    }

    pub(super) fn election_saved(&mut self, seq: u64, result: Result<(), StoreError>) {
        if let Err(error) = &result {
            self.complain("keep what was promised in an election", error);
        }
        self.with_leadership(|it, around| it.saved(around, seq, result.is_ok()));
    }

    pub(super) fn set_state(
        &mut self,
        change: Change,
        reply: Reply<Result<Version, SetStateError>>,
    ) {
        if self.leadership.is_none() {
            let _ = reply.send(Err(SetStateError::Off));
            return;
        }
        let ticket = self.outlets.setting(reply);
        self.with_leadership(|it, around| it.set_state(around, ticket, change));
    }

    pub(super) fn hand_over(
        &mut self,
        to: Option<NodeId>,
        reply: Reply<Result<NodeId, HandOverError>>,
    ) {
        if self.leadership.is_none() {
            let _ = reply.send(Err(HandOverError::Off));
            return;
        }
        let ticket = self.outlets.handing(reply);
        self.with_leadership(|it, around| it.hand_over(around, ticket, to));
    }

    /// From now on this is called.
    pub(super) fn register(&mut self, callback: Callback) {
        let moment = callback.moment();
        self.outlets.register(callback);
        self.with_leadership(|it, around| it.registered(around, moment));
    }

    /// Nobody is to take this node for a master any more, and nobody is called or answered.
    pub(super) async fn close_election(&mut self, within: Duration) {
        self.with_leadership(Leadership::close);
        self.leadership = None;
        self.outlets.end(within).await;
    }
}

fn row(entry: leadership::Entry) -> Entry {
    let leadership::Entry { subject, term, detail } = entry;
    Entry { action: ACTION, subject: subject.to_string(), detail, term: term.map(Term::get) }
}
