//! What the store tells of its own accord.

use super::{Core, Notice, Outside, Turn};
use crate::event::Event;
use crate::protocol::looks::Looks;
use crate::protocol::{delivery, inbox};

use super::{Effect, Output};

impl<B: Clone, C> Core<B, C> {
    pub(super) fn notice<O>(&mut self, turn: &mut Turn<'_, O>, notice: Notice<B>)
    where
        O: Outside<Queued = B, Content = C>,
    {
        match notice {
            Notice::TopicOpened(id, topic) => self.outbound.know_topic(id, topic),
            Notice::CursorOpened(cursor) => {
                self.with_outbound(turn, |it, around| it.open(around, cursor));
            }
            Notice::CursorBehind(cursor) => {
                self.with_outbound(turn, |it, around| it.begin_anew(around, cursor));
            }
            Notice::CursorClosed { receiver, topic } => {
                self.with_outbound(turn, |it, around| it.close(around, &receiver, topic));
            }
            Notice::Appended(heads) => {
                self.with_outbound(turn, |it, around| it.appended(around, heads));
            }
            Notice::Missed { end_seq } => {
                self.deliver_all(turn, || delivery::Event::Missed { end_seq });
            }
            Notice::Dropped { receiver, topic, up_to_seq, count } => {
                let what = (topic, up_to_seq, count);
                self.with_outbound(turn, |it, around| it.dropped(around, &receiver, what));
                turn.out
                    .push_back(Effect::Output(Output::Event(Event::Dropped { receiver, count })));
            }
            Notice::UnclaimedExpires { at_ms } => {
                self.with_looks(turn, |it, around| it.unclaimed_expires(around, at_ms));
            }
            Notice::Filling => self.with_looks(turn, Looks::filling),
            Notice::Down => {
                self.outbound.outdate_pages();
                self.receive(turn, inbox::Event::Suspended);
            }
            Notice::Up { known } => self.receive(turn, inbox::Event::Resumed { known }),
            Notice::Changed => self.with_looks(turn, Looks::tell),
        }
    }
}
