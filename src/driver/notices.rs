//! What the store tells with its commits goes to the core.

use super::Driver;
use super::convert::{head, received};
use crate::core::{Input, Notice as It};
use crate::event::Event;
use crate::store::Notice;
use crate::transport::Transport;

/// Most messages that are shown to the receivers at once, so that the first of them does not wait for a whole full mailbox.
const RUN: usize = 256;

impl<T: Transport> Driver<T> {
    pub(super) fn take_notices(&mut self) {
        let mut notices = self.notices.take().into_iter().peekable();
        while let Some(notice) = notices.next() {
            let notice = match notice {
                Notice::Appended(entry) => {
                    let more = || match notices.next_if(|next| matches!(next, Notice::Appended(_)))
                    {
                        Some(Notice::Appended(entry)) => Some(entry),
                        _ => None,
                    };
                    let run = std::iter::once(entry).chain(std::iter::from_fn(more));
                    It::Appended(run.take(RUN).map(head).collect())
                }
                notice => match self.notice(notice) {
                    Some(notice) => notice,
                    None => continue,
                },
            };
            self.say(Input::Notice(notice));
        }
    }

    /// What the core is to hear of it; some is for monitors only.
    fn notice(&mut self, notice: Notice) -> Option<It<super::Body>> {
        let told = match notice {
            Notice::TopicOpened(topic) => return Some(It::TopicOpened(topic.topic, topic.into())),
            Notice::CursorOpened(cursor) => return Some(It::CursorOpened(cursor.into())),
            Notice::CursorBehind(cursor) => return Some(It::CursorBehind(cursor.into())),
            Notice::CursorClosed { receiver, topic } => {
                return Some(It::CursorClosed { receiver, topic });
            }
            Notice::Appended(entry) => return Some(It::Appended(vec![head(entry)])),
            Notice::Missed { end_seq } => return Some(It::Missed { end_seq }),
            Notice::Dropped { receiver, topic, up_to_seq, count } => {
                self.around.accounts_changed();
                return Some(It::Dropped { receiver, topic, up_to_seq, count });
            }
            Notice::UnclaimedExpires { at_ms } => return Some(It::UnclaimedExpires { at_ms }),
            Notice::Filling => return Some(It::Filling),
            Notice::Down => return Some(It::Down),
            Notice::Up { received: all } => {
                return Some(It::Up { known: all.into_iter().map(received).collect() });
            }
            Notice::LogReleased => return Some(It::Changed),
            Notice::DroppedUnclaimed { channel, count } => {
                self.around.accounts_changed();
                self.tell(Event::DroppedUnclaimed { channel, count });
                return None;
            }
            Notice::ExpiredUnclaimed { channel, count } => {
                self.around.accounts_changed();
                self.tell(Event::ExpiredUnclaimed { channel, count });
                return None;
            }
            Notice::LogCut(cut) => {
                self.tell(Event::LogCut(cut));
                return None;
            }
            Notice::StorageFull => Event::StorageFull,
            Notice::StorageLimitReached(storage) => Event::StorageLimitReached(storage),
            Notice::StorageRecovered => Event::StorageRecovered,
            Notice::StorageFailed(reason) => Event::StorageFailed { reason },
            Notice::LogHeld { bytes, readers } => Event::LogHeld { bytes, readers },
            Notice::ClockJumped { by_ms } => Event::ClockJumped { by_ms },
        };
        self.tell(told);
        Some(It::Changed)
    }
}
