//! What became of what the file was to do.

use std::time::Duration;

use waypost::core::{Answered, Input};
use waypost::protocol::inbox::Done;

use super::Process;
use crate::file::{Answer, By, Work};
use crate::world::World;

impl Process {
    /// What the file told with its commits came before its answers, and is taken first.
    pub(super) fn completed(&mut self, world: &mut World, work: Work, answer: Answer) {
        self.take_notices(world);
        let taken = !matches!(answer, Answer::Failed);
        let answered = match work {
            Work::Accept { source, by: By::Runner, .. } => {
                return self.run_is_noted(world, source, !taken);
            }
            Work::Accept { source, id, by: By::Node, .. } => {
                Answered::Committed { source, id, taken }
            }
            // `Message::ack` and `ack_in` tell their handler; what the file did not take is no fault of the message's.
            Work::Accept { source, id, .. } | Work::AcceptIn { source, id, .. } => {
                let done = if taken { Done::Committed } else { Done::Returned };
                return world.handler_answered(self.me, self.run, source, id, done);
            }
            Work::Settle(..) => Answered::Settled { taken },
            Work::Subscribe(node, channel, _) => Answered::Subscribed { node, channel, taken },
            Work::Unsubscribe(node, channel) => {
                Answered::Unsubscribed { node, channel, purged: taken.then_some(0) }
            }
            Work::Forget(node) => Answered::Forgotten { node, pending: taken.then_some(0) },
            Work::Purge(node, _) => Answered::Purged { node },
            Work::Join(channel, mode, start) => {
                let Answer::Joined { joined_ms } = answer else { return };
                let ticket = self.askers.join(channel.clone(), mode, start);
                let (how, joined_ms) = ((mode, start), Some(joined_ms));
                Answered::Joined { channel, how, ticket, joined_ms }
            }
            Work::Leave(channel) => Answered::Left { channel, taken },
            Work::RaiseLastId { from, .. } if taken => {
                return world.submit(self.me, Work::NewStore { from });
            }
            Work::RaiseLastId { from, .. } => Answered::NewStore { from, store: None },
            Work::NewStore { from } => {
                let store = match answer {
                    Answer::Store(store) => Some(store),
                    _ => None,
                };
                Answered::NewStore { from, store }
            }
            Work::SaveElection { seq, record } => {
                if taken {
                    world.oracle.elections.confirmed(self.me, &record);
                }
                Answered::ElectionSaved { seq, taken }
            }
            Work::CleanUp => Answered::CleanedUp,
            Work::ExpireUnclaimed => {
                let next_ms = match answer {
                    Answer::Expires(next_ms) => Ok(next_ms),
                    _ => Err(()),
                };
                Answered::Expired { took: Duration::ZERO, next_ms }
            }
            Work::NoteOrder(order) => {
                Answered::OrderNoted { order, result: if taken { Ok(()) } else { Err(None) } }
            }
            Work::Step(key, _) => return self.step_done(world, key, &answer),
            Work::Count => Answered::Waiting(match answer {
                Answer::Waiting(waiting) => Some(waiting),
                _ => None,
            }),
            Work::Send(_) | Work::KnowPeer(..) | Work::NoteClock => return,
        };
        self.say(world, Input::Answered(answered));
    }
}
