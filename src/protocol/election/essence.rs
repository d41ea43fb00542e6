//! All that decides what a node does next, as bytes: two nodes with the same essence behave alike. A model checker tells states apart by it.
//!
//! Every struct is taken apart whole, so that a field more does not compile until somebody has decided whether it counts.

use std::collections::BTreeMap;
use std::time::Instant;

use super::candidate::{Asking, Standing};
use super::disk::{Disk, Owed, Written};
use super::follower::Heard;
use super::handoff::{Handing, Parting};
use super::master::{Answer, Master};
use super::{Election, Role, State, Term, Version};
use crate::message::NodeId;

/// How times and names are to be told apart.
pub struct Eyes<'a> {
    pub time: &'a dyn Fn(Instant) -> u8,
    /// Below 255; nodes of which nothing else is known are compared by it.
    pub node: &'a dyn Fn(&NodeId) -> u8,
    /// Whether it makes a difference which master was heard last, where that counts as lost from this time on.
    pub heard: &'a dyn Fn(Instant) -> bool,
}

impl Election {
    /// Appends the essence. Left out are numbers that only tell beats, rounds and writings apart, chance, what only
    /// people are told, and what never changes.
    pub fn essence(&self, eyes: &Eyes<'_>, out: &mut Vec<u8>) {
        let Self {
            me: _,
            incarnation: _,
            settings: _,
            voters_hash: _,
            jitter: _,
            term,
            vote,
            state: State { version, json },
            disk: Disk { holds, writing, retry_at, seq: _ },
            owed: Owed { vote: owed_vote, beat, stored },
            role,
            heard,
            quiet_until,
            campaign_at,
            round: _,
            visible,
            link,
            stopping,
            parting,
            nobody_took_over: _,
            told: _,
            odd: _,
            refused: _,
            due: _,
        } = self;
        let mut pen = Pen { eyes, out };
        pen.term(*term);
        pen.node(vote.as_ref());
        pen.version(*version);
        pen.out.push(json.len() as u8);
        pen.out.extend_from_slice(json);
        pen.option(holds.as_ref(), Pen::written);
        pen.option(writing.as_ref().map(|(_, written)| written), Pen::written);
        pen.option(retry_at.as_ref(), Pen::time);
        pen.node(owed_vote.as_ref());
        pen.node(beat.as_ref().map(|(master, _)| master));
        pen.node(stored.as_ref());
        pen.role(role);
        let counts = |heard: &&Heard| (eyes.heard)(self.lost_at(heard));
        pen.option(heard.as_ref().filter(counts), Pen::heard);
        pen.time(quiet_until);
        if matches!(role, Role::Follower) {
            pen.time(campaign_at);
        }
        pen.out.push(visible.iter().fold(0, |set, node| set | 1 << (eyes.node)(node)));
        pen.out.push(u8::from(*link) | u8::from(*stopping) << 1);
        pen.option(parting.as_ref(), |pen, parting| {
            let Parting { to, term, again, until } = parting;
            pen.node(Some(to));
            pen.term(*term);
            pen.time(again);
            pen.time(until);
        });
    }

    pub fn me(&self) -> &NodeId {
        &self.me
    }

    /// The number of the last round of pre-votes.
    pub fn round(&self) -> u64 {
        self.round
    }

    /// The number of the last beat, where this node was elected.
    pub fn beat_number(&self) -> Option<u64> {
        if let Role::Master(master) = &self.role { Some(master.number) } else { None }
    }

    pub fn is_standing(&self) -> bool {
        matches!(self.role, Role::Standing(_))
    }

    /// Whether it was elected, ready or not.
    pub fn is_in_office(&self) -> bool {
        self.office().is_some()
    }
}

struct Pen<'a, 'b> {
    eyes: &'a Eyes<'b>,
    out: &'a mut Vec<u8>,
}

impl Pen<'_, '_> {
    fn option<T>(&mut self, value: Option<&T>, write: impl FnOnce(&mut Self, &T)) {
        self.out.push(u8::from(value.is_some()));
        if let Some(value) = value {
            write(self, value);
        }
    }

    fn time(&mut self, at: &Instant) {
        self.out.push((self.eyes.time)(*at));
    }

    fn node(&mut self, node: Option<&NodeId>) {
        self.out.push(node.map_or(255, |node| (self.eyes.node)(node)));
    }

    fn term(&mut self, term: Term) {
        self.out.push(term.get() as u8);
    }

    fn version(&mut self, version: Version) {
        self.term(version.term);
        self.out.push(version.rev as u8);
    }

    fn written(&mut self, written: &Written) {
        let Written { term, vote, version } = written;
        self.term(*term);
        self.node(vote.as_ref());
        self.version(*version);
    }

    fn heard(&mut self, heard: &Heard) {
        let Heard { master, term, at, ready, gone } = heard;
        self.node(Some(master));
        self.term(*term);
        self.time(at);
        self.out.push(u8::from(*ready) | u8::from(*gone) << 1);
    }

    fn role(&mut self, role: &Role) {
        match role {
            Role::Follower => self.out.push(1),
            Role::Asking(Asking { answers, until }) => {
                self.out.push(2);
                self.map(answers, |pen, granted| pen.out.push(u8::from(*granted)));
                self.time(until);
            }
            Role::Standing(Standing { votes, need, until, handoff, reign }) => {
                self.out.push(3);
                self.out.push(votes.iter().fold(0, |set, node| set | 1 << (self.eyes.node)(node)));
                self.out.push(*need as u8);
                self.time(until);
                self.option(handoff.as_ref(), |pen, term| pen.term(*term));
                self.option(reign.as_deref(), Self::master);
            }
            Role::Master(master) => {
                self.out.push(4);
                self.master(master);
            }
        }
    }

    fn master(&mut self, master: &Master) {
        let Master {
            term,
            reason: _,
            since,
            ready,
            beats,
            number: _,
            next_beat,
            answers,
            stored,
            waiting,
            pushed,
            handing,
            carried,
        } = master;
        self.term(*term);
        self.time(since);
        self.out.push(u8::from(*ready));
        self.out.push(beats.len() as u8);
        beats.iter().for_each(|(_, sent)| self.time(sent));
        self.time(next_beat);
        self.map(answers, |pen, Answer { sent, version }| {
            pen.option(sent.as_ref(), Pen::time);
            pen.version(*version);
        });
        self.option(stored.as_ref(), |pen, version| pen.version(*version));
        self.out.push(waiting.len() as u8);
        for (ticket, version) in waiting {
            self.out.push(*ticket as u8);
            self.version(*version);
        }
        self.option(pushed.as_ref(), |pen, (version, at)| {
            pen.version(*version);
            pen.time(at);
        });
        self.option(handing.as_ref(), |pen, Handing { to, until }| {
            pen.node(to.as_ref());
            pen.time(until);
        });
        self.option(carried.as_ref(), |pen, (term, until)| {
            pen.term(*term);
            pen.time(until);
        });
    }

    /// In the order of what is written, whatever nodes are called.
    fn map<T>(&mut self, map: &BTreeMap<NodeId, T>, mut write: impl FnMut(&mut Pen<'_, '_>, &T)) {
        let mut entries: Vec<Vec<u8>> = map
            .iter()
            .map(|(node, value)| {
                let mut out = vec![(self.eyes.node)(node)];
                write(&mut Pen { eyes: self.eyes, out: &mut out }, value);
                out
            })
            .collect();
        entries.sort_unstable();
        self.out.push(entries.len() as u8);
        entries.iter().for_each(|entry| self.out.extend_from_slice(entry));
    }
}
