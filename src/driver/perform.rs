//! What the core wants done is done.

use super::Driver;
use super::convert::{Body, Held, advance};
use super::jobs::Completion;
use crate::clock;
use crate::core::{Answered, Effect, Input, Output, Timer};
use crate::event::Event;
use crate::message::MessageId;
use crate::protocol::inbox::begun::Slot;
use crate::protocol::inbox::{Gap, Source};
use crate::protocol::leadership::Call;
use crate::protocol::lifecycle::Rival;
use crate::refusal::StartError;
use crate::transport::Transport;

impl<T: Transport> Driver<T> {
    /// What that tells at once.
    pub(super) fn perform(&mut self, effect: Effect<Held>) -> Option<Input<Body>> {
        match effect {
            Effect::WakeAt { timer: timer @ Timer::Election, at } => {
                self.arm(timer, at.map(clock::timer_at));
            }
            Effect::WakeAt { timer, at } => self.arm(timer, at),
            Effect::Publish { receiver } => {
                let why = self.publish_messages(&receiver).err()?;
                return Some(Input::Unsent { receiver, why });
            }
            Effect::Answer(answer) => self.send_answer(answer),
            Effect::Send { to, frame } => self.send(to, *frame),
            Effect::WentBack { receiver, newest, from } => {
                self.tell(Event::OutboxWentBack { receiver, newest });
                self.take_new_store(from, newest);
            }
            Effect::Settled(run) => self.settled(run),
            Effect::Unmatched => self.tally.unmatched_answers.add(1),
            Effect::Gone { receiver } => {
                self.ahead.forget(&receiver);
                self.flights.forget(&receiver);
                self.arm(Timer::Receiver(receiver), None);
            }
            Effect::Renewed => self.ahead.clear(),
            Effect::Handle { source, messages, note, beside_others } => {
                self.note_begun(&source, &messages, note);
                return self.start_handlers(source, messages, beside_others);
            }
            Effect::Unnote { slot } => self.begun.clear(slot),
            Effect::Cease { source } => self.handlers.cease(&source),
            Effect::Commit { source, id, alone } => return self.commit(source, id, alone),
            Effect::Gap { source, gap } => self.tell_of_gap(source, gap),
            Effect::Repeated { source, id } => {
                self.tell(Event::Repeated { sender: source.sender, id });
            }
            Effect::Refused { from, reason } => self.refuse(Some(from), reason),
            Effect::GiveBack => self.handlers.stop(),
            Effect::Detached { channel } => drop(self.consumers.remove(&channel)),
            Effect::Job(job) => self.give_to_store(job),
            Effect::TakeNotices => self.take_notices(),
            Effect::Output(output) => self.put_out(output),
        }
        None
    }

    /// What the program sees and hears.
    fn put_out(&mut self, output: Output) {
        match output {
            Output::Link(link) => self.status.send_modify(|status| status.link = link),
            Output::Peers { online } => {
                self.status.send_if_modified(|status| {
                    std::mem::replace(&mut status.peers_online, online) != online
                });
            }
            Output::Reasons(reasons) => {
                self.status.send_modify(|status| status.reasons = reasons);
            }
            Output::Closed(closed) => {
                // Lets channels, and the node's status, say who keeps it from what.
                let (kicked, draining) = (closed.kicked.clone(), closed.draining.clone());
                self.gate.show(closed);
                self.status
                    .send_modify(|status| (status.kicked, status.draining) = (kicked, draining));
            }
            Output::Leader(view) => self.outlets.show(view),
            Output::AccountsChanged => self.around.accounts_changed(),
            Output::Started(result) => self.has_started(result),
            Output::Channel { ticket, result } => self.answer_about_channel(ticket, result),
            Output::Ordered { number, node, answer } => self.answer_order(number, node, answer),
            Output::StateSet { ticket, result } => self.outlets.state_set(ticket, result),
            Output::HandedOver { ticket, result } => self.outlets.handed_over(ticket, result),
            Output::AllReasons(reasons) => {
                for reply in std::mem::take(&mut self.asking_for_reasons) {
                    let _ = reply.send(reasons.clone());
                }
            }
            Output::Dismiss => self.ordering.clear(),
            Output::Call(call) => self.call(call),
            Output::Event(event) => self.tell(event),
            Output::Election(notice) => self.tell_of_election(&notice),
            Output::Stall(news) => self.tell_of_stall(news),
            Output::Limit(near) => self.tell(Event::LimitNear(near)),
            Output::Suspended(time) => {
                tracing::info!(node = %self.me, suspended = ?time, "the machine was suspended");
            }
        }
    }

    fn note_begun(
        &mut self,
        source: &Source,
        messages: &[(MessageId, Held)],
        note: Option<(Slot, u32)>,
    ) {
        if let (Some((slot, ends)), [(first, _), ..], Some((last, _))) =
            (note, messages, messages.last())
        {
            self.begun.note(slot, source, (*first, *last), ends);
        }
    }

    fn commit(&mut self, source: Source, id: MessageId, alone: bool) -> Option<Input<Body>> {
        let advance = advance(&source, id);
        if alone && self.store.accept_alone(&advance) {
            return Some(Input::Answered(Answered::Committed { source, id, taken: true }));
        }
        let answer = self.store.accept(advance);
        self.ask("commit a received message", answer, move |done| Answered::Committed {
            source,
            id,
            taken: done.is_some(),
        });
        None
    }

    fn tell_of_gap(&self, source: Source, gap: Gap) {
        let (sender, channel, lane) = (source.sender, source.stream.channel, source.stream.lane);
        self.tell(match gap {
            Gap::Skipped(count) => Event::Gap { sender, channel, lane, count },
            Gap::WeWentBack { sender_says } => {
                Event::InboxWentBack { sender, channel, sender_says }
            }
        });
    }

    fn has_started(&mut self, result: Result<(), Rival>) {
        if let Some(contact) = self.contact.take() {
            let id = self.me.clone();
            let result = result.map_err(|Rival { host, incarnation }| StartError::DuplicateNode {
                id,
                host,
                incarnation,
            });
            let _ = contact.send(result);
        }
    }

    fn call(&mut self, call: Call) {
        if let Some(done) = self.outlets.call(call) {
            self.jobs.push(Box::pin(async move {
                // It panicked, or its runtime is gone.
                let _ = done.await;
                Completion::ToldOfShutdown
            }));
        }
    }
}
