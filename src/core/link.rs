//! The connection's ups and downs, and how they are shown.

use super::{Core, Effect, Output, Outside, Turn};
use crate::condition::{Link, Outage};
use crate::event::Event;
use crate::protocol::leadership::Leadership;
use crate::protocol::lifecycle::Lifecycle;
use crate::protocol::looks::Looks;
use crate::protocol::outbound::Outbound;
use crate::protocol::peers::Peers;
use crate::protocol::{delivery, membership};

/// A server that lets us in.
#[derive(Debug, Clone)]
pub struct ServerUp {
    /// Its name and version.
    pub name: String,
    /// Most bytes of a frame that it takes.
    pub max_frame: usize,
    /// What it refuses on this connection.
    pub denied: Vec<String>,
}

impl<B: Clone, C> Core<B, C> {
    pub(super) fn link_up<O>(&mut self, turn: &mut Turn<'_, O>, server: ServerUp)
    where
        O: Outside<Queued = B, Content = C>,
    {
        let ServerUp { name: server, max_frame, denied } = server;
        self.max_frame = max_frame;
        if self.peers.has_stood_back() {
            return;
        }
        self.link = true;
        self.looks.link_up(denied);
        self.show_link(turn, Link::Connected { server: server.clone() });
        turn.out.push_back(Effect::Output(Output::Event(Event::Connected { server })));
        self.with_lifecycle(turn, Lifecycle::link_up);
        self.with_peers(turn, Peers::link_up);
        self.with_leadership(turn, Leadership::link_up);
        self.deliver_all(turn, || delivery::Event::LinkUp);
    }

    pub(super) fn link_down<O>(&mut self, turn: &mut Turn<'_, O>, reason: String, outage: Outage)
    where
        O: Outside<Queued = B, Content = C>,
    {
        let told = matches!(self.shown, Link::Disconnected { .. } | Link::Unauthorized { .. });
        let was_up = std::mem::replace(&mut self.link, false);
        if !self.peers.has_stood_back() {
            // It was said of a connection that is gone.
            self.looks.link_down();
            self.show_link(turn, Link::Disconnected { reason: reason.clone(), outage });
        }
        if was_up || !told {
            self.lost_link(turn);
        }
        turn.out.push_back(Effect::Output(Output::Event(Event::Disconnected { reason })));
    }

    pub(super) fn unauthorized<O>(&mut self, turn: &mut Turn<'_, O>, reason: String)
    where
        O: Outside<Queued = B, Content = C>,
    {
        self.link = false;
        self.show_link(turn, Link::Unauthorized { reason: reason.clone() });
        self.lost_link(turn);
        turn.out.push_back(Effect::Output(Output::Event(Event::Unauthorized { reason })));
    }

    pub(super) fn denied<O>(&mut self, turn: &mut Turn<'_, O>, reason: String)
    where
        O: Outside<Queued = B, Content = C>,
    {
        if !self.link && !self.peers.has_stood_back() {
            let outage = Outage::Refused;
            self.show_link(turn, Link::Disconnected { reason: reason.clone(), outage });
        }
        self.with_looks(turn, |it, around| it.denied(around, reason.clone()));
        turn.out.push_back(Effect::Output(Output::Event(Event::Denied { reason })));
    }

    fn lost_link<O>(&mut self, turn: &mut Turn<'_, O>)
    where
        O: Outside<Queued = B, Content = C>,
    {
        self.link = false;
        self.meet(turn, membership::Event::LinkDown);
        self.with_leadership(turn, Leadership::link_down);
        self.with_outbound(turn, Outbound::link_down);
        self.with_lifecycle(turn, Lifecycle::link_down);
    }

    pub(super) fn show_link<O>(&mut self, turn: &mut Turn<'_, O>, link: Link)
    where
        O: Outside<Queued = B, Content = C>,
    {
        self.shown = link.clone();
        turn.out.push_back(Effect::Output(Output::Link(link)));
        self.with_looks(turn, Looks::tell);
    }
}
