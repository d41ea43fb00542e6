//! Handlers: messages are handed to them, and how that ended comes back.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Instant;

use waypost::MessageId;
use waypost::core::Input;
use waypost::protocol::inbox::begun::{Note, Slot, Standing};
use waypost::protocol::inbox::{Done, Source};
use waypost::protocol::lifecycle::may_have_stood_still;

use super::Process;
use crate::file::{By, Row, Uid, Work};
use crate::world::World;

/// A message on its way to its handler.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Content {
    pub(crate) uid: Uid,
    pub(crate) attempt: u32,
}

/// Messages that were handed out together.
#[derive(Debug)]
pub(super) struct Handing {
    /// Not begun.
    todo: VecDeque<(MessageId, Content)>,
    results: Vec<(MessageId, Result<Done, String>)>,
    beside_others: bool,
    /// When it was last looked whether the process stood still.
    looked: Instant,
}

impl Process {
    pub(super) fn hand_out(
        &mut self,
        world: &mut World,
        source: Source,
        messages: Vec<(MessageId, Content)>,
        note: Option<(Slot, u32)>,
        beside_others: bool,
    ) -> Option<Input<Rc<Row>>> {
        if let (Some((slot, ends)), Some((last, _))) = (note, messages.last()) {
            let (first, last) = (messages[0].0, *last);
            let (source, standing) = (source.clone(), Standing::Begun);
            let note = Note { source, first, last, ends, standing };
            world.machines[self.me].notes.insert(slot, note);
        }
        let mut todo = VecDeque::from(messages);
        let (id, first) = todo.pop_front()?;
        if !self.handled_here.contains(&source.stream.channel) {
            let results = vec![(id, Ok(Done::Returned))];
            return Some(Input::Finished { source, results });
        }
        let (results, looked) = (Vec::new(), world.truly());
        let handing = Handing { todo, results, beside_others, looked };
        self.handing.insert(source.clone(), handing);
        world.start_handler(self.me, self.run, source, id, first);
        None
    }

    pub(super) fn cease(&mut self, source: Source) {
        self.handing.entry(source).and_modify(|handing| handing.todo.clear());
    }

    pub(super) fn handled(
        &mut self,
        world: &mut World,
        source: Source,
        id: MessageId,
        result: Result<Done, String>,
    ) {
        let Some(handing) = self.handing.get_mut(&source) else { return };
        let goes_on = matches!(result, Ok(Done::Handled | Done::Committed));
        let handled = result == Ok(Done::Handled);
        handing.results.push((id, result));
        if may_have_stood_still(
            std::mem::replace(&mut handing.looked, world.truly()),
            world.truly(),
        ) {
            // What is not to go on has ceased then.
            self.say(world, Input::Look);
        }
        let Some(handing) = self.handing.get_mut(&source) else { return };
        if goes_on && let Some((id, next)) = handing.todo.pop_front() {
            return world.start_handler(self.me, self.run, source, id, next);
        }
        if handled && handing.beside_others {
            let taken = world.oracle.take_finished(self.me, &source);
            return world.submit(self.me, Work::Accept { source, id, taken, by: By::Runner });
        }
        if !goes_on {
            self.take_notices(world);
        }
        self.run_ended(world, source);
    }

    /// A run's last receipt is in the file, or could not be written: then the inbox tries again.
    pub(super) fn run_is_noted(&mut self, world: &mut World, source: Source, failed: bool) {
        let last = self.handing.get_mut(&source).and_then(|handing| handing.results.last_mut());
        if let Some((_, result)) = last.filter(|_| !failed) {
            *result = Ok(Done::Committed);
        }
        self.run_ended(world, source);
    }

    fn run_ended(&mut self, world: &mut World, source: Source) {
        let Some(Handing { results, .. }) = self.handing.remove(&source) else { return };
        self.say(world, Input::Finished { source, results });
    }

    /// Handlers end where they are. What they took before that of the same frame is taken.
    pub(super) fn cut_short(&mut self, world: &mut World) {
        for (source, mut handing) in std::mem::take(&mut self.handing) {
            world.oracle.handler_gone(self.me, &source);
            handing.results.retain(|(_, result)| result.is_ok());
            if !handing.results.is_empty() {
                let results = handing.results;
                self.say(world, Input::Finished { source, results });
            }
        }
    }
}
