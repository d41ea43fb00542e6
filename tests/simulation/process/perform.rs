//! What the core wants done is done, and told to the judges.

use std::rc::Rc;
use std::time::Instant;

use waypost::core::{self, Answered, Effect, Input, Job, Output};
use waypost::event::Event;
use waypost::protocol::delivery::HANDLER_FAILED;
use waypost::protocol::frame::Frame;
use waypost::protocol::inbox::Source;
use waypost::protocol::leadership::Call;
use waypost::{MessageId, Reason};

use super::{Content, Process, Question, Timer};
use crate::file::{By, Row, Work};
use crate::network::{Kind, Sent};
use crate::world::World;

impl Process {
    /// What that tells at once.
    pub(super) fn perform(
        &mut self,
        world: &mut World,
        effect: Effect<Content>,
    ) -> Option<Input<Rc<Row>>> {
        match effect {
            Effect::WakeAt { timer, at } => self.wake_at(world, timer, at),
            Effect::Publish { receiver } => {
                let why = self.publish(world, &receiver).err()?;
                return Some(Input::Unsent { receiver, why });
            }
            Effect::Answer(answer) => {
                let to = Some(answer.to.clone());
                let sent = Sent::new(Kind::Ack, self.id.clone(), to, Frame::Answer(answer));
                let _ = world.publish(self.me, sent);
            }
            Effect::Send { to, frame } => self.send(world, to, *frame),
            Effect::WentBack { receiver: _, newest, from } => {
                world.note_went_back(self.me, newest);
                world.submit(self.me, Work::RaiseLastId { from, newest });
            }
            Effect::Settled(run) => world.note_settled(self.me, &run),
            Effect::Gone { receiver } => {
                self.arm(world, Timer::Core(core::Timer::Receiver(receiver)), None);
            }
            Effect::Renewed => world.oracle.store_changed(self.me),
            Effect::Handle { source, messages, note, beside_others } => {
                return self.hand_out(world, source, messages, note, beside_others);
            }
            Effect::Unnote { slot } => drop(world.machines[self.me].notes.remove(&slot)),
            Effect::Cease { source } => self.cease(source),
            Effect::Commit { source, id, alone } => return self.commit(world, source, id, alone),
            Effect::Gap { source, gap } => world.note_gap(self.me, &source, gap),
            Effect::Detached { channel } => drop(self.handled_here.remove(&channel)),
            Effect::Job(job) => self.give_to_file(world, job),
            Effect::TakeNotices => self.take_notices(world),
            Effect::Output(output) => self.put_out(world, output),
            Effect::Unmatched
            | Effect::Repeated { .. }
            | Effect::Refused { .. }
            | Effect::GiveBack => {}
        }
        None
    }

    fn wake_at(&mut self, world: &mut World, timer: core::Timer, at: Option<Instant>) {
        let at = match timer {
            core::Timer::Election => {
                let left = |at: Instant| at.saturating_duration_since(world.truly());
                at.map(|at| world.mono(self.me) + left(at))
            }
            _ => at.map(|at| world.since_base(at)),
        };
        self.arm(world, Timer::Core(timer), at);
    }

    fn commit(
        &mut self,
        world: &mut World,
        source: Source,
        id: MessageId,
        alone: bool,
    ) -> Option<Input<Rc<Row>>> {
        let taken = world.oracle.take_finished(self.me, &source);
        let work = Work::Accept { source: source.clone(), id, taken, by: By::Node };
        if alone && world.commit_alone(self.me, work.clone()) {
            return Some(Input::Answered(Answered::Committed { source, id, taken: true }));
        }
        world.submit(self.me, work);
        None
    }

    fn give_to_file(&mut self, world: &mut World, job: Job) {
        let work = match job {
            Job::Page { age, request } => return world.read_page(self.me, age, request),
            Job::Settle { runs, attempts } => Work::Settle(runs, attempts),
            Job::Subscribe { node, channel, start } => Work::Subscribe(node, channel, start),
            Job::Unsubscribe { node, channel } => Work::Unsubscribe(node, channel),
            Job::Forget { node, .. } => Work::Forget(node),
            Job::Purge { node, channel, .. } => Work::Purge(node, channel),
            Job::Join { channel, how: (mode, start), .. } => Work::Join(channel, mode, start),
            Job::Leave { channel, .. } => Work::Leave(channel),
            Job::NoteOrder { order, .. } => Work::NoteOrder(order),
            Job::SaveElection { seq, record, .. } => Work::SaveElection { seq, record },
            Job::Execute(work) => return self.execute(world, work),
            Job::Waiting => Work::Count,
            Job::Pending => return world.ask_file(self.me, Question::Count),
            Job::Measure => return world.ask_file(self.me, Question::Measure),
            Job::Expire => Work::ExpireUnclaimed,
            Job::CleanUp => Work::CleanUp,
            Job::Report(query) => return world.violated(format!("nobody asked {query:?}")),
            Job::NotePeers(known) => {
                for peer in known {
                    world.submit(self.me, Work::KnowPeer(Box::new(peer)));
                }
                return;
            }
            Job::Enter(row) => {
                if row.action == core::ELECTION {
                    world.note_entered(self.me);
                }
                return;
            }
            Job::NoteClock => return world.look_at_clock(self.me),
        };
        world.submit(self.me, work);
    }

    /// What its program sees and hears.
    fn put_out(&mut self, world: &mut World, output: Output) {
        match output {
            Output::Reasons(reasons) => {
                world.note_reasons(self.me, (self.core.is_linked(), self.is_denied), reasons);
            }
            Output::Closed(closed) => self.close(world, &closed),
            Output::Leader(view) => world.note_shown(self.me, view),
            Output::Started(Ok(())) => world.note_started(self.me, self.core.is_linked()),
            Output::Started(Err(rival)) => {
                world.violated(format!("{} does not start for {rival:?}", self.id));
            }
            Output::Channel { ticket, result } => self.is_done(world, ticket, result),
            Output::Ordered { number, node, answer } => {
                self.order_answered(world, number, &node, &answer);
            }
            Output::StateSet { ticket, result } => {
                self.answered_once(world, ticket);
                world.note_set(self.me, ticket, result.ok());
            }
            Output::HandedOver { ticket, .. } => self.answered_once(world, ticket),
            Output::AllReasons(_) => {
                world.violated(format!("nobody asked {} for reasons", self.id))
            }
            Output::Call(call) => {
                world.note_called(self.me, &call);
                if let Call::ShuttingDown { .. } = call {
                    world.function_runs(self.me, self.run);
                }
            }
            Output::Event(event) => self.hears(world, event),
            Output::Election(notice) => world.note_told(self.me, &notice),
            Output::Stall(news) => world.note_news(self.me, &news),
            Output::Limit(near) => {
                let reason: Reason = near.reason();
                world.note_near(self.me, &reason);
            }
            Output::Link(_)
            | Output::Peers { .. }
            | Output::AccountsChanged
            | Output::Dismiss
            | Output::Suspended(_) => {}
        }
    }

    fn hears(&mut self, world: &mut World, event: Event) {
        match event {
            Event::AttemptFailed { receiver, id, attempt, answer }
                if answer.starts_with(HANDLER_FAILED) =>
            {
                world.note_attempt(self.me, &receiver, id, attempt);
            }
            Event::Conflict { incarnation, stopped: true, .. } => {
                let id = &self.id;
                let what = format!("{id} stands back for {incarnation}, and there is no such node");
                world.violated(what);
            }
            Event::PeersFull { refused } => world.violated(format!("no room for {refused}")),
            _ => {}
        }
    }
}
