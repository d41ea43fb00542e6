//! Handing messages to handlers, how they ended, and giving back what none will take now.

use super::work::{Handed, Stage, State, Work};
use super::{Action, BUSY, Consumer, Done, Inbox, Source};
use crate::message::{MessageId, StoreId};
use crate::protocol::Now;
use crate::protocol::frame::{Verdict, detail};

impl<B> Inbox<B> {
    /// Hands waiting messages to handlers while there are free ones: those of a frame together, so that a frame of many costs one turn.
    pub(super) fn start_ready(&mut self, now: Now, out: &mut Vec<Action<B>>) {
        while !self.suspended && self.running < self.limits.handlers {
            let Some(source) = self.ready.pop_front() else { return };
            let Some(state) = self.active.get_mut(&source) else { continue };
            let Some(work) = state.work.front_mut().filter(|w| w.stage == Stage::Waiting) else {
                continue;
            };
            if self.last.get(&source).is_some_and(|last| work.id <= *last) {
                // Committed after all, by a commit that seemed to have failed.
                let id = work.id;
                self.committed(&source, id, out);
                continue;
            }
            let is_suspect = self.begun.is_suspect(&source, work.id);
            if let Err(at) = self.begun.may_begin(now.mono, is_suspect, self.running) {
                self.ready.push_front(source);
                return self.due_at(at);
            }
            let messages = state.hand_out(|id| self.begun.is_suspect(&source, id));
            let (Some(first), Some(last)) = (messages.first(), messages.last()) else { continue };
            let note = self.begun.begin(&source, (first.0, last.0));
            let slot = note.map(|(slot, _)| slot);
            state.handed = Some(Handed { count: messages.len(), slot, is_suspect });
            self.running += 1;
            out.push(Action::Handle { source, messages, note });
        }
    }

    /// They are in work no more, which is noted where that is not plain from their commit.
    fn unnote(
        &mut self,
        source: &Source,
        results: &[(MessageId, Result<Done, String>)],
        out: &mut Vec<Action<B>>,
    ) {
        let handed = self.active.get_mut(source).and_then(|state| state.handed.take());
        let Some(Handed { count, slot: Some(slot), is_suspect }) = handed else { return };
        self.begun.end(slot);
        let taken = |result: &Result<_, _>| matches!(result, Ok(Done::Handled | Done::Committed));
        if is_suspect || results.len() < count || !results.iter().all(|(_, one)| taken(one)) {
            out.push(Action::Unnote { slot });
        }
        let survived = results.iter().rev().find(|(_, one)| *one != Ok(Done::Returned));
        if let Some((id, _)) = survived {
            let over = self.begun.survived(source, *id);
            out.extend(over.into_iter().map(|slot| Action::Unnote { slot }));
        }
    }

    pub(super) fn finished(
        &mut self,
        source: Source,
        results: Vec<(MessageId, Result<Done, String>)>,
        out: &mut Vec<Action<B>>,
    ) {
        self.running = self.running.saturating_sub(1);
        self.unnote(&source, &results, out);
        for (id, result) in results {
            self.ended(&source, id, result, out);
        }
        let Some(state) = self.active.get_mut(&source) else { return };
        let verdict = state.ceased.take().unwrap_or(BUSY);
        if state.take_back() {
            self.give_back(source, verdict, out);
        } else if state.work.front().is_some_and(|work| work.stage == Stage::Waiting) {
            // The rest of a frame of which a suspect was handed out by itself.
            self.ready.push_back(source);
        }
    }

    fn ended(
        &mut self,
        source: &Source,
        id: MessageId,
        result: Result<Done, String>,
        out: &mut Vec<Action<B>>,
    ) {
        let Some(state) = self.active.get_mut(source) else { return };
        let Some(work) = state.work.front_mut().filter(|work| work.id == id) else { return };
        match result {
            Ok(Done::Committed) => self.committed(source, id, out),
            Ok(Done::Handled) if work.last_of_frame => {
                work.stage = Stage::Committing;
                out.push(Action::Commit { source: source.clone(), id });
            }
            Ok(Done::Handled) => {
                state.handled = Some(id);
                self.held_bytes -= work.bytes;
                state.work.pop_front();
            }
            Ok(Done::Returned) => {
                let ready = self.consumers.get(&source.stream.channel) == Some(&Consumer::Ready);
                state.take_back();
                self.give_back(source.clone(), if ready { BUSY } else { Verdict::Paused }, out);
            }
            Err(text) => {
                state.take_back();
                self.give_back(source.clone(), Verdict::Failed { detail: detail(&text) }, out);
            }
        }
    }

    /// Whether messages of the same sender's stream are in work that came under another store id of its: the sender's file was replaced,
    /// and its messages are still handled one at a time (P3).
    pub(super) fn is_held_up(&self, source: &Source) -> bool {
        let of_sender = Source { store: StoreId::from_u128(0), ..source.clone() };
        let others = self.active.range(of_sender..);
        let mut others = others.take_while(|(other, _)| other.sender == source.sender);
        others.any(|(other, _)| other.stream == source.stream && other.store != source.store)
    }

    /// Drops what is not handed out of this source, and says `verdict` about the first of it. What was handled before it is
    /// committed first, so that it does not come again.
    pub(super) fn give_back(&mut self, source: Source, verdict: Verdict, out: &mut Vec<Action<B>>) {
        let Some(state) = self.active.get_mut(&source) else { return };
        let mut first = None;
        let held_bytes = &mut self.held_bytes;
        state.work.retain(|work| {
            let keep = work.stage != Stage::Waiting;
            if !keep {
                *held_bytes -= work.bytes;
                first = first.or(Some(work.id));
            }
            keep
        });
        let Some(first) = first else { return };
        if let Some(work) = state.work.back_mut() {
            work.last_of_frame = true;
            state.then = Some((first, verdict));
        } else if let Some(id) = state.handled.take() {
            let stage = Stage::Committing;
            state.work.push_back(Work { id, bytes: 0, body: None, stage, last_of_frame: true });
            state.then = Some((first, verdict));
            out.push(Action::Commit { source, id });
        } else {
            self.active.remove(&source);
            let last = self.last.get(&source).copied();
            out.push(Action::Answer { source, id: first, verdict, last });
        }
    }

    pub(super) fn give_back_all(
        &mut self,
        which: impl Fn(&Source) -> bool,
        verdict: &Verdict,
        out: &mut Vec<Action<B>>,
    ) {
        for (source, state) in self.active.iter_mut().filter(|(source, _)| which(source)) {
            state.cease(source, verdict, out);
        }
        let waits = |state: &State<B>| state.work.iter().any(|work| work.stage == Stage::Waiting);
        let sources: Vec<Source> = self
            .active
            .iter()
            .filter(|(source, state)| which(source) && waits(state))
            .map(|(source, _)| source.clone())
            .collect();
        for source in sources {
            self.give_back(source, verdict.clone(), out);
        }
    }
}
