//! How the parts are put together: what each is shown of the others when it decides, and what follows from its decision for them.

use super::{Address, AuditRow, Core, Effect, Job, Output, Outside, Timer, Turn};
use crate::event::Event;
use crate::message::NodeId;
use crate::protocol::admin::{self, Admin, Step};
use crate::protocol::frame::Frame;
use crate::protocol::inbound::{self, Inbound};
use crate::protocol::leadership::{self, Leadership};
use crate::protocol::lifecycle::{self, Begin, Lifecycle, Rival};
use crate::protocol::looks::{self, Looks};
use crate::protocol::membership::{self, Departure, News};
use crate::protocol::outbound::{self, Outbound};
use crate::protocol::peers::{self, Peers};
use crate::protocol::{delivery, inbox};

impl<B: Clone, C> Core<B, C> {
    pub(super) fn with_outbound<O, R>(
        &mut self,
        turn: &mut Turn<'_, O>,
        decide: impl FnOnce(&mut Outbound<B>, &mut outbound::Around<'_>) -> R,
    ) -> R
    where
        O: Outside<Queued = B, Content = C>,
    {
        let mut out = Vec::new();
        let decided = {
            let mut settling = turn.outside.settling();
            let around = &mut outbound::Around {
                now: turn.at.now,
                link: self.link,
                peers: &self.peers,
                settling: &mut settling,
                awaited: turn.outside.is_awaited(),
                tight: turn.outside.is_tight(),
                out: &mut out,
            };
            let decided = decide(&mut self.outbound, around);
            self.outbound.finish(around);
            decided
        };
        turn.out.extend(out.into_iter().map(|effect| self.of_outbound(turn.at.now, effect)));
        decided
    }

    fn of_outbound(&self, now: crate::protocol::Now, effect: outbound::Effect) -> Effect<C> {
        use outbound::Effect as It;
        match effect {
            It::Publish { receiver } => Effect::Publish { receiver },
            It::Load { age, request } => Effect::Job(Job::Page { age, request }),
            It::Settled(run) => Effect::Settled(run),
            It::Attempted { receiver, id, attempt, answer } => {
                Effect::Output(Output::Event(Event::AttemptFailed {
                    receiver,
                    id,
                    attempt,
                    answer,
                }))
            }
            It::Unanswered { receiver, id, times } => {
                Effect::Output(Output::Event(Event::Unanswered { receiver, id, times }))
            }
            It::Record { runs, attempts } => Effect::Job(Job::Settle { runs, attempts }),
            It::RecordAt { at } => Effect::WakeAt { timer: Timer::Record, at },
            It::WentBack { receiver, newest, from } => Effect::WentBack { receiver, newest, from },
            It::Unmatched => Effect::Unmatched,
            It::Wake { receiver } => {
                let at = self.outbound.wake_at(&receiver, now);
                Effect::WakeAt { timer: Timer::Receiver(receiver), at }
            }
            It::Gone { receiver } => Effect::Gone { receiver },
        }
    }

    /// Says this to one delivery.
    pub(super) fn deliver<O>(
        &mut self,
        turn: &mut Turn<'_, O>,
        receiver: &NodeId,
        event: delivery::Event<B>,
    ) where
        O: Outside<Queued = B, Content = C>,
    {
        self.with_outbound(turn, |it, around| it.deliver(around, receiver, event));
    }

    pub(super) fn deliver_all<O>(
        &mut self,
        turn: &mut Turn<'_, O>,
        event: impl Fn() -> delivery::Event<B>,
    ) where
        O: Outside<Queued = B, Content = C>,
    {
        self.with_outbound(turn, |it, around| it.deliver_all(around, event));
    }

    /// Says this to the inbox.
    pub(super) fn receive<O>(&mut self, turn: &mut Turn<'_, O>, event: inbox::Event<C>)
    where
        O: Outside<Queued = B, Content = C>,
    {
        self.with_inbound(turn, |it, around| it.say(around, event));
    }

    pub(super) fn with_inbound<O>(
        &mut self,
        turn: &mut Turn<'_, O>,
        decide: impl FnOnce(&mut Inbound<C>, &mut inbound::Around<'_, C>),
    ) where
        O: Outside<Queued = B, Content = C>,
    {
        let (now, mut out) = (turn.at.now, Vec::new());
        decide(
            &mut self.inbound,
            &mut inbound::Around { now, peers: &mut self.peers, out: &mut out },
        );
        for effect in out {
            self.of_inbound(turn, effect);
        }
        if self.peers.is_parting() {
            self.with_peers(turn, Peers::part);
        }
    }

    fn of_inbound<O>(&mut self, turn: &mut Turn<'_, O>, effect: inbound::Effect<C>)
    where
        O: Outside<Queued = B, Content = C>,
    {
        use inbound::Effect as It;
        turn.out.push_back(match effect {
            It::Handle { source, messages, note, beside_others } => {
                Effect::Handle { source, messages, note, beside_others }
            }
            It::Unnote { slot } => Effect::Unnote { slot },
            It::Cease { source } => Effect::Cease { source },
            It::Commit { source, id, alone } => Effect::Commit { source, id, alone },
            It::Answer(answer) => Effect::Answer(answer),
            It::Gap { source, gap } => Effect::Gap { source, gap },
            It::Repeated { source, id } => Effect::Repeated { source, id },
            It::Refused { sender, reason } => Effect::Refused { from: sender, reason },
            It::WakeAt { at } => Effect::WakeAt { timer: Timer::Inbox, at },
            It::Unknown { sender } => return self.meet(turn, membership::Event::Unknown(sender)),
        });
    }

    /// Says this to the membership.
    pub(super) fn meet<O>(&mut self, turn: &mut Turn<'_, O>, event: membership::Event)
    where
        O: Outside<Queued = B, Content = C>,
    {
        self.with_peers(turn, |it, around| it.handle(around, event));
    }

    pub(super) fn with_peers<O, R>(
        &mut self,
        turn: &mut Turn<'_, O>,
        decide: impl FnOnce(&mut Peers, &mut peers::Around<'_>) -> R,
    ) -> R
    where
        O: Outside<Queued = B, Content = C>,
    {
        let mut out = Vec::new();
        let (outbound, inbound) = (&self.outbound, &self.inbound);
        let around = &mut peers::Around {
            now: turn.at.now,
            store: outbound.store(),
            sends_to: &|channel| outbound.sends_to_readers_of(channel),
            works_for: &|channel| inbound.works_for(channel),
            out: &mut out,
        };
        let decided = decide(&mut self.peers, around);
        for effect in out {
            self.of_peers(turn, effect);
        }
        decided
    }

    fn of_peers<O>(&mut self, turn: &mut Turn<'_, O>, effect: peers::Effect)
    where
        O: Outside<Queued = B, Content = C>,
    {
        use peers::Effect as It;
        match effect {
            It::Beat(keepalive) => {
                let frame = Box::new(Frame::Keepalive(*keepalive));
                turn.out.push_back(Effect::Send { to: Address::All, frame });
            }
            It::Say { to, frame } => {
                turn.out.push_back(Effect::Send { to: Address::Node(to), frame })
            }
            It::Note(known) => turn.out.push_back(Effect::Job(Job::NotePeers(known))),
            It::Subscribe { node, channel, start } => {
                turn.out.push_back(Effect::Job(Job::Subscribe { node, channel, start }));
            }
            It::Unsubscribe { node, channel } => {
                self.outbound.stand_still(node.clone());
                turn.out.push_back(Effect::Job(Job::Unsubscribe { node, channel }));
            }
            It::Forget { node } => {
                self.outbound.stand_still(node.clone());
                turn.out.push_back(Effect::Job(Job::Forget { node, ticket: None }));
            }
            It::Heard { node, news } => self.heard(turn, node, &news),
            It::Offline { node, why } => {
                self.deliver(turn, &node, delivery::Event::Offline);
                let goodbye = why == Departure::Goodbye;
                turn.out
                    .push_back(Effect::Output(Output::Event(Event::PeerOffline { node, goodbye })));
            }
            It::Consumer { channel, consumer } => {
                self.receive(turn, inbox::Event::Consumer { channel, consumer });
            }
            It::Rival { host, incarnation, stop } => {
                self.rival(turn, Rival { host, incarnation }, stop);
            }
            It::Full { refused } => {
                turn.out.push_back(Effect::Output(Output::Event(Event::PeersFull { refused })))
            }
            It::Changed => self.with_leadership(turn, Leadership::peers_changed),
            It::Wake => {
                let at = self.peers.wake_at();
                turn.out.push_back(Effect::WakeAt { timer: Timer::Membership, at });
                turn.out.push_back(Effect::Output(Output::Peers { online: self.peers.online() }));
            }
        }
    }

    fn heard<O>(&mut self, turn: &mut Turn<'_, O>, node: NodeId, news: &News)
    where
        O: Outside<Queued = B, Content = C>,
    {
        if news.other_store {
            turn.out.push_back(Effect::Output(Output::Event(Event::PeerLostItsFile {
                node: node.clone(),
            })));
        }
        if news.online || news.restarted {
            let restarted = news.restarted;
            turn.out.push_back(Effect::Output(Output::Event(Event::PeerOnline {
                node: node.clone(),
                restarted,
            })));
        }
        self.with_outbound(turn, |it, around| it.heard(around, &node, news));
    }

    fn rival<O>(&mut self, turn: &mut Turn<'_, O>, rival: Rival, stop: bool)
    where
        O: Outside<Queued = B, Content = C>,
    {
        let Rival { host, incarnation } = rival.clone();
        turn.out.push_back(Effect::Output(Output::Event(Event::Conflict {
            host: host.clone(),
            incarnation,
            stopped: stop,
        })));
        if !stop {
            return;
        }
        turn.out.push_back(Effect::Job(Job::Enter(AuditRow {
            action: "stand back for another node",
            subject: self.me.to_string(),
            term: None,
            detail: format!("on {host}, run {incarnation}"),
        })));
        self.link = false;
        // Its name has a vote, and the other one uses it.
        self.with_leadership(turn, Leadership::stand_back);
        self.show_link(turn, crate::condition::Link::Conflict { host });
        self.deliver_all(turn, || delivery::Event::LinkDown);
        self.with_lifecycle(turn, |it, around| it.stood_back(around, rival));
    }

    /// Nothing happens where there is no election.
    pub(super) fn with_leadership<O>(
        &mut self,
        turn: &mut Turn<'_, O>,
        decide: impl FnOnce(&mut Leadership, &mut leadership::Around<'_>),
    ) where
        O: Outside<Queued = B, Content = C>,
    {
        let (now, mut out) = (turn.at.of_leases(), Vec::new());
        let Self { leadership: Some(leadership), peers, link, max_frame, .. } = self else {
            return;
        };
        let (link, max_frame) = (*link, *max_frame);
        let around = &mut leadership::Around { now, peers, link, max_frame, out: &mut out };
        decide(leadership, around);
        for effect in out {
            self.of_leadership(turn, effect);
        }
    }

    fn of_leadership<O: Outside>(&mut self, turn: &mut Turn<'_, O>, effect: leadership::Effect) {
        use leadership::Effect as It;
        turn.out.push_back(match effect {
            It::Show(view) => Effect::Output(Output::Leader(view)),
            It::Say(frame) => {
                let frame = Box::new(Frame::Election(frame));
                Effect::Send { to: Address::Voters, frame }
            }
            It::Save { seq, record, entry } => {
                Effect::Job(Job::SaveElection { seq, record, row: entry.map(Into::into) })
            }
            It::Enter(entry) => Effect::Job(Job::Enter(entry.into())),
            It::Tell(notice) => Effect::Output(Output::Election(notice)),
            It::Call(call) => Effect::Output(Output::Call(call)),
            It::StateSet { ticket, result } => Effect::Output(Output::StateSet { ticket, result }),
            It::HandedOver { ticket, result } => {
                Effect::Output(Output::HandedOver { ticket, result })
            }
            It::WakeAt { at } => Effect::WakeAt { timer: Timer::Election, at },
            It::Free => return self.lifecycle.handed_over(),
        });
    }

    pub(super) fn with_admin<O, R>(
        &mut self,
        turn: &mut Turn<'_, O>,
        decide: impl FnOnce(&mut Admin, &mut admin::Around<'_>) -> R,
    ) -> R
    where
        O: Outside<Queued = B, Content = C>,
    {
        let (counted, mut out) = (turn.at.counted, Vec::new());
        let outbound = &self.outbound;
        let around = &mut admin::Around {
            now: turn.at.now,
            link: self.link,
            term: self.leadership.as_ref().and_then(|it| it.term_in_office(counted)),
            peers: &self.peers,
            receivers: &|| outbound.receivers().cloned().collect(),
            out: &mut out,
        };
        let decided = decide(&mut self.admin, around);
        for effect in out {
            self.of_admin(turn, effect);
        }
        decided
    }

    fn of_admin<O>(&mut self, turn: &mut Turn<'_, O>, effect: admin::Effect)
    where
        O: Outside<Queued = B, Content = C>,
    {
        use admin::Effect as It;
        match effect {
            It::Note { order, token, row } => {
                let row = row.map(Into::into);
                turn.out.push_back(Effect::Job(Job::NoteOrder { order, token, row }));
            }
            It::Enter(row) => turn.out.push_back(Effect::Job(Job::Enter(row.into()))),
            It::Close(closed) => turn.out.push_back(Effect::Output(Output::Closed(closed))),
            It::Hold(held) => self.with_peers(turn, |it, around| it.hold(around, held)),
            It::StandStill(receiver) => self.outbound.stand_still(receiver),
            It::GoOn(receiver) => {
                self.with_outbound(turn, |it, around| it.given_up(around, &receiver));
            }
            It::Execute(work) => self.execute(turn, work),
            It::Left(channel) => self.has_left(turn, channel),
            It::Settled => {
                turn.out.push_back(Effect::Output(Output::AccountsChanged));
                self.with_looks(turn, Looks::tell);
            }
            It::Say { to, frame } => {
                let to = match *frame {
                    Frame::Order(_) => Address::Order(to),
                    _ => Address::Node(to),
                };
                turn.out.push_back(Effect::Send { to, frame });
            }
            It::Answer { number, node, answer } => {
                turn.out.push_back(Effect::Output(Output::Ordered { number, node, answer }));
            }
            It::Report(query) => {
                self.with_outbound(turn, Outbound::record);
                turn.out.push_back(Effect::Job(Job::Report(query)));
            }
            It::Count => {
                self.with_outbound(turn, Outbound::record);
                turn.out.push_back(Effect::Job(Job::Waiting));
            }
            It::Tell(news) => turn.out.push_back(Effect::Output(Output::Event(told(news)))),
            It::WakeAt(at) => turn.out.push_back(Effect::WakeAt { timer: Timer::Admin, at }),
        }
    }

    /// What is under way to the file counts as settled, and neither waits nor is purged.
    fn execute<O>(&mut self, turn: &mut Turn<'_, O>, work: Box<admin::Work>)
    where
        O: Outside<Queued = B, Content = C>,
    {
        for step in work.steps() {
            if let Step::Forget(node) = step {
                self.outbound.stand_still(node.clone());
            }
        }
        turn.out.push_back(Effect::Job(Job::Execute(work)));
        self.with_outbound(turn, Outbound::record);
    }

    pub(super) fn with_lifecycle<O, R>(
        &mut self,
        turn: &mut Turn<'_, O>,
        decide: impl FnOnce(&mut Lifecycle, &mut lifecycle::Around<'_>) -> R,
    ) -> R
    where
        O: Outside<Queued = B, Content = C>,
    {
        let mut out = Vec::new();
        let around = &mut lifecycle::Around {
            now: turn.at.now,
            counted: turn.at.counted,
            link: self.link,
            peers: &self.peers,
            out: &mut out,
        };
        let decided = decide(&mut self.lifecycle, around);
        for effect in out {
            self.of_lifecycle(turn, effect);
        }
        decided
    }

    fn of_lifecycle<O>(&mut self, turn: &mut Turn<'_, O>, effect: lifecycle::Effect)
    where
        O: Outside<Queued = B, Content = C>,
    {
        use lifecycle::Effect as It;
        match effect {
            It::Started(result) => {
                turn.out.push_back(Effect::Output(Output::Started(result)));
                self.with_looks(turn, Looks::tell);
            }
            It::StoodStill => self.with_peers(turn, Peers::stood_still),
            It::Doubt => self.receive(turn, inbox::Event::Doubted),
            It::Suspended(time) => {
                turn.out.push_back(Effect::Output(Output::Suspended(time)));
                self.deliver_all(turn, || delivery::Event::Woke);
                self.with_looks(turn, Looks::wake);
            }
            It::NotePeers => self.with_peers(turn, |it, around| it.note(around, None)),
            It::LookAtClock => turn.out.push_back(Effect::Job(Job::NoteClock)),
            It::CleanUp => turn.out.push_back(Effect::Job(Job::CleanUp)),
            It::Begin(step) => self.begin_to_stop(turn, step),
            It::WakeAt(at) => turn.out.push_back(Effect::WakeAt { timer: Timer::Lifecycle, at }),
        }
    }

    fn begin_to_stop<O>(&mut self, turn: &mut Turn<'_, O>, step: Begin)
    where
        O: Outside<Queued = B, Content = C>,
    {
        match step {
            Begin::GiveBack => turn.out.push_back(Effect::GiveBack),
            Begin::Inbox => self.receive(turn, inbox::Event::Stop),
            Begin::Peers => self.with_peers(turn, Peers::stop),
            Begin::Admin => {
                self.admin.stop();
                turn.out.push_back(Effect::Output(Output::Dismiss));
            }
            Begin::Notices => turn.out.push_back(Effect::TakeNotices),
            Begin::Leadership => self.with_leadership(turn, Leadership::stop),
        }
    }

    pub(super) fn with_looks<O, R>(
        &mut self,
        turn: &mut Turn<'_, O>,
        decide: impl FnOnce(&mut Looks, &mut looks::Around<'_>) -> R,
    ) -> R
    where
        O: Outside<Queued = B, Content = C>,
    {
        let (outbound, outside, mut out) = (&self.outbound, turn.outside, Vec::new());
        let around = &mut looks::Around {
            now: turn.at.now,
            counted: turn.at.counted,
            wall: turn.at.wall,
            starting: self.lifecycle.is_starting(),
            link: self.link,
            connection: &self.shown,
            file: &|| outside.hindrances(),
            apart: &|| outside.wrong_clock(),
            closed: self.admin.closed(),
            peers: &self.peers,
            leadership: self.leadership.as_ref(),
            standing: &|receiver, topic| outbound.standing(receiver, topic),
            out: &mut out,
        };
        let decided = decide(&mut self.looks, around);
        for effect in out {
            self.of_looks(turn, effect);
        }
        decided
    }

    fn of_looks<O>(&mut self, turn: &mut Turn<'_, O>, effect: looks::Effect)
    where
        O: Outside<Queued = B, Content = C>,
    {
        use looks::Effect as It;
        if let It::Measure = effect {
            self.with_outbound(turn, Outbound::record);
        }
        turn.out.push_back(match effect {
            It::Count => Effect::Job(Job::Pending),
            It::Measure => Effect::Job(Job::Measure),
            It::Expire => Effect::Job(Job::Expire),
            It::Show(reasons) => Effect::Output(Output::Reasons(reasons)),
            It::Tell(news) => Effect::Output(Output::Stall(news)),
            It::Near(near) => Effect::Output(Output::Limit(near)),
            It::Answer(reasons) => Effect::Output(Output::AllReasons(reasons)),
            It::WakeAt(at) => Effect::WakeAt { timer: Timer::Looks, at },
        });
    }
}

fn told(news: admin::News) -> Event {
    use admin::News as It;
    match news {
        It::Refused { by, task, reason } => Event::OrderRefused { by, task, reason },
        It::Kicked { by, channel } => Event::Kicked { by, channel },
        It::Draining { by } => Event::Draining { by },
        It::Drained => Event::Drained,
        It::Readmitted { by } => Event::Readmitted { by },
    }
}
