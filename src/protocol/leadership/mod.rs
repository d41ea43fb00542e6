//! Leadership, put together: which frames of an election are looked at and answered, what a state may become, what goes on record, what
//! the program is told and when, and who waits for what. What is decided comes out as [`Effect`]s, which the shell performs in their
//! order. What the store makes of them comes back by [`Leadership::saved`], and the end of a call by [`Leadership::told_of_shutdown`].

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use super::Now;
use super::election::{
    Accession, Action, Deposed, Durable, Election, Event, Frame, Mode, Notice, Record, Said,
    Settings, State, Version,
};
use super::peers::Peers;
use crate::message::{Incarnation, NodeId, Term, Token};

mod change;
mod journal;
mod queries;
mod view;

pub use change::{Change, NotSet};
use journal::Journal;
pub use journal::{Audited, Entry, ROWS_A_MINUTE};
pub use view::LeadershipView;

/// Whoever waits for an answer, as the shell calls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// What is to be done, in this order.
#[derive(Debug)]
pub enum Effect {
    /// What the program sees from now on. It comes before all that is said to others: when the next master hears that this node gave
    /// mastership up, nobody sees this node as master any more.
    Show(LeadershipView),
    /// To be broadcast. One that does not leave is made good: whatever matters is said again.
    Say(Frame),
    /// To be fsynced in one commit, `entry` as a row of the audit; then [`Leadership::saved`]. The next one comes after that.
    Save { seq: u64, record: Record, entry: Option<Entry> },
    /// A row of the audit.
    Enter(Entry),
    /// To be told to the node's monitors.
    Tell(Notice),
    /// The program's function for this is to be called, after those before it have returned.
    Call(Call),
    /// A state is set, or it is not.
    StateSet { ticket: Ticket, result: Result<Version, NotSet> },
    /// Somebody took mastership over, or nobody did.
    HandedOver { ticket: Ticket, result: Result<NodeId, NotHandedOver> },
    /// Nothing is left to hand over: as far as the election goes, the node can stop.
    Free,
    /// When to say [`Leadership::woke`], by the clock of [`Around::now`].
    WakeAt { at: Option<Instant> },
}

/// What the program is told.
#[derive(Debug, Clone, PartialEq)]
pub enum Call {
    BecameMaster {
        reason: Accession,
        /// What the master before has left.
        state: State,
    },
    BecameFollower {
        term: Term,
        reason: Deposed,
    },
    /// The node stops. Once the function has returned: [`Leadership::told_of_shutdown`].
    ShuttingDown {
        /// Where it is master; it stays so until then.
        token: Option<Token>,
    },
}

/// For what the program has functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Moment {
    BecameMaster,
    BecameFollower,
    Shutdown,
}

/// Why mastership was not handed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotHandedOver {
    /// This node is not master.
    NotMaster,
    /// It cannot be master.
    NoVoter(NodeId),
    /// This node is master no longer, and nobody took over in time.
    Nobody,
}

/// What is around it: looked at, or added to.
pub struct Around<'a> {
    /// Its `mono` counts the time for which the machine is suspended.
    pub now: Now,
    pub peers: &'a Peers,
    /// Whether there is a connection.
    pub link: bool,
    /// Most bytes of a frame that the server takes.
    pub max_frame: usize,
    pub out: &'a mut Vec<Effect>,
}

/// A node's part in an election.
#[derive(Debug)]
pub struct Leadership {
    me: NodeId,
    incarnation: Incarnation,
    election: Election,
    mode: Mode,
    max_state_bytes: usize,
    journal: Journal,
    /// What was shown last.
    shown: LeadershipView,
    /// Who waits for the end of a hand-over.
    handing: Vec<Ticket>,
    /// The other master of which people were told last.
    split: Option<(NodeId, Term)>,
    /// How it became master, as far as the program was told, while it is.
    accession: Option<Accession>,
    /// Who had a say when the election was told last, where no voters are named.
    electors: BTreeSet<NodeId>,
    functions: BTreeSet<Moment>,
    /// The program's function for a stop runs.
    telling: bool,
}

impl Leadership {
    /// `durable`: what the file holds, on its disk or not. Settings are taken as valid. Until [`woke`](Self::woke) was said once, nobody is seen as master.
    pub fn new(
        (me, incarnation): (NodeId, Incarnation),
        settings: Settings,
        durable: Durable,
        audited: Audited,
        seed: u64,
        now: Now,
    ) -> Self {
        let (mode, max_state_bytes) = (settings.mode.clone(), settings.max_state_bytes);
        Self {
            election: Election::new(me.clone(), incarnation, settings, durable, seed, now).unsure(),
            me,
            incarnation,
            mode,
            max_state_bytes,
            journal: Journal::new(audited),
            shown: LeadershipView::default(),
            handing: Vec::new(),
            split: None,
            accession: None,
            electors: BTreeSet::new(),
            functions: BTreeSet::new(),
            telling: false,
        }
    }

    /// It is time, by [`Effect::WakeAt`], or the node has just started.
    pub fn woke(&mut self, around: &mut Around<'_>) {
        self.say(around, Event::Woke);
    }

    pub fn link_up(&mut self, around: &mut Around<'_>) {
        self.say(around, Event::LinkUp);
    }

    pub fn link_down(&mut self, around: &mut Around<'_>) {
        self.say(around, Event::LinkDown);
    }

    /// A frame came. What this run of the node said itself comes back, and is nothing new.
    pub fn heard(&mut self, around: &mut Around<'_>, frame: Frame) {
        if frame.from == self.me && frame.incarnation == self.incarnation {
            return;
        }
        // Whoever is behind asks; strangers are not sent anything.
        let asks = matches!(frame.said, Said::StateRequest { .. });
        if asks && !around.peers.is_peer(&frame.from) {
            return;
        }
        self.say(around, Event::Frame(frame));
    }

    /// The writing with this number is durable, or nobody knows whether it is.
    pub fn saved(&mut self, around: &mut Around<'_>, seq: u64, durable: bool) {
        let event = if durable { Event::Persisted { seq } } else { Event::PersistFailed { seq } };
        self.say(around, event);
    }

    /// Others may be online, or gone.
    pub fn peers_changed(&mut self, around: &mut Around<'_>) {
        if self.mode != Mode::Visible {
            return;
        }
        let electors: BTreeSet<NodeId> = around.peers.electors().cloned().collect();
        if electors != self.electors {
            self.electors.clone_from(&electors);
            self.say(around, Event::Visible(electors));
        }
    }

    /// The program wants the state changed: [`Effect::StateSet`] answers.
    pub fn set_state(&mut self, around: &mut Around<'_>, ticket: Ticket, change: Change) {
        match self.next_state(around, change) {
            Ok(json) => {
                let json = Arc::from(json);
                self.say(around, Event::SetState { ticket: ticket.0, json });
            }
            Err(why) => around.out.push(Effect::StateSet { ticket, result: Err(why) }),
        }
    }

    /// The program gives mastership up, to this node or to the best one: [`Effect::HandedOver`] answers. Whoever asks while it is being
    /// handed over gets the same answer.
    pub fn hand_over(&mut self, around: &mut Around<'_>, ticket: Ticket, to: Option<NodeId>) {
        let no_voter = to.as_ref().filter(|node| !self.election.may_lead(node));
        let why = match no_voter {
            _ if self.term_in_office(around.now.mono).is_none() => Some(NotHandedOver::NotMaster),
            Some(node) => Some(NotHandedOver::NoVoter(node.clone())),
            None => None,
        };
        if let Some(why) = why {
            return around.out.push(Effect::HandedOver { ticket, result: Err(why) });
        }
        self.handing.push(ticket);
        if self.handing.len() == 1 {
            self.say(around, Event::HandOver { to });
        }
    }

    /// The program has a function for this from now on, or another one. One for a master is called at once where this node is master.
    pub fn registered(&mut self, around: &mut Around<'_>, moment: Moment) {
        // It may be master no longer, by time alone.
        self.say(around, Event::Woke);
        self.functions.insert(moment);
        if let (Moment::BecameMaster, Some(reason)) = (moment, self.accession) {
            let state = self.election.state().clone();
            self.call(around, Call::BecameMaster { reason, state });
        }
    }

    /// The node stops. The program is told first, and keeps the role for as long as it needs it.
    pub fn stop(&mut self, around: &mut Around<'_>) {
        // It may be master no longer, by time alone.
        self.say(around, Event::Woke);
        if self.functions.contains(&Moment::Shutdown) {
            let token = self.election.token(around.now.mono);
            self.telling = true;
            self.call(around, Call::ShuttingDown { token });
        } else {
            self.told_of_shutdown(around);
        }
    }

    /// The program's function for a stop has returned, or will never.
    pub fn told_of_shutdown(&mut self, around: &mut Around<'_>) {
        self.telling = false;
        self.say(around, Event::Stop);
    }

    /// Another node of our name is there. The name has one vote, and that one uses it.
    pub fn stand_back(&mut self, around: &mut Around<'_>) {
        self.say(around, Event::LinkDown);
        self.say(around, Event::Stop);
    }

    /// The end: nobody is to take this node for a master any more.
    pub fn close(&mut self, around: &mut Around<'_>) {
        let state = self.election.state().clone();
        around.out.push(Effect::Show(LeadershipView::nobody(state)));
    }

    fn say(&mut self, around: &mut Around<'_>, event: Event) {
        let mut actions = Vec::new();
        self.election.handle(around.now, event, &mut actions);
        self.show(around);
        for action in actions {
            self.act(around, action);
        }
        // Also where it is the same time as before: the shell's timers stand still while the machine is suspended.
        around.out.push(Effect::WakeAt { at: self.election.wake_at() });
    }

    fn show(&mut self, around: &mut Around<'_>) {
        let view = LeadershipView::of(&self.election, around.now.mono);
        if view != self.shown {
            self.shown.clone_from(&view);
            around.out.push(Effect::Show(view));
        }
    }

    fn act(&mut self, around: &mut Around<'_>, action: Action) {
        match action {
            Action::Persist { seq, record } => {
                let master = self.election.master(around.now.mono).map(|(master, _)| master);
                let by = master.as_ref().unwrap_or(&self.me);
                let entry = self.journal.of_state(by, &record);
                around.out.push(Effect::Save { seq, record, entry });
            }
            Action::Send(frame) => {
                // A node that stood back for another of its name has nothing to say under it.
                if around.link && !around.peers.has_stood_back() {
                    around.out.push(Effect::Say(frame));
                }
            }
            Action::Notice(notice) => self.notice(around, notice),
            Action::SetDone { ticket, version } => {
                let ticket = Ticket(ticket);
                around.out.push(Effect::StateSet { ticket, result: Ok(version) });
            }
            Action::SetFailed { ticket, why } => {
                let (ticket, result) = (Ticket(ticket), Err(NotSet::Refused(why)));
                around.out.push(Effect::StateSet { ticket, result });
            }
            Action::HandoffDone { to } => {
                for ticket in self.handing.drain(..) {
                    let result = to.clone().ok_or(NotHandedOver::Nobody);
                    around.out.push(Effect::HandedOver { ticket, result });
                }
                // Whatever was asked for meanwhile: the program has its time.
                if !self.telling {
                    around.out.push(Effect::Free);
                }
            }
        }
    }

    fn notice(&mut self, around: &mut Around<'_>, notice: Notice) {
        if self.is_known(&notice) {
            return;
        }
        match &notice {
            Notice::BecameMaster { reason, state, .. } => {
                self.accession = Some(*reason);
                let call = Call::BecameMaster { reason: *reason, state: state.clone() };
                self.call(around, call);
            }
            Notice::BecameFollower { term, reason } => {
                self.accession = None;
                let call = Call::BecameFollower { term: *term, reason: reason.clone() };
                self.call(around, call);
            }
            _ => {}
        }
        let entry = self.journal.of_notice(around.now.mono, &self.me, &notice);
        around.out.extend(entry.map(Effect::Enter));
        around.out.push(Effect::Tell(notice));
    }

    /// Whether people know it already: a master of the other side says so with every beat.
    fn is_known(&mut self, notice: &Notice) -> bool {
        let Notice::SplitSeen { other, term } = notice else { return false };
        let seen = Some((other.clone(), *term));
        std::mem::replace(&mut self.split, seen.clone()) == seen
    }

    fn call(&self, around: &mut Around<'_>, call: Call) {
        let moment = match call {
            Call::BecameMaster { .. } => Moment::BecameMaster,
            Call::BecameFollower { .. } => Moment::BecameFollower,
            Call::ShuttingDown { .. } => Moment::Shutdown,
        };
        if self.functions.contains(&moment) {
            around.out.push(Effect::Call(call));
        }
    }
}

#[cfg(test)]
mod tests;
