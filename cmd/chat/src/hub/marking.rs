//! How far this node's messages are, and who has read them.

use waypost::MessageId;

use super::{Hub, Notice, ROOM, State, blocking};
use crate::history;
use crate::marks::{self, Standing};
use crate::room::Key;

/// Of older messages it is not told again, when somebody has read on, that they are read.
const MOST_READ: usize = 200;

impl Hub {
    /// Asks the file how far this node's messages are, and tells of what has changed.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub(crate) async fn refresh_marks(&self) -> anyhow::Result<()> {
        let ids = self.state().open.ask_next();
        if ids.is_empty() {
            return Ok(());
        }
        // What was acknowledged is written down late, unless somebody asks for it.
        self.node.statistics().await?;
        let path = self.path.clone();
        let asked = blocking(move || Ok(marks::ask(&path, &ids)?)).await?;
        let changed: Vec<_> = {
            let state = self.state();
            let differs = |(id, standing): &(MessageId, Option<Standing>)| match standing {
                Some(standing) => state.marks.get(id) != Some(standing),
                None => true,
            };
            asked.into_iter().filter(differs).collect()
        };
        if changed.is_empty() {
            return Ok(());
        }
        let rows = changed.clone();
        self.node.transaction(move |tx| history::set_marks(tx, &rows)).await?;
        for (id, standing) in changed {
            self.set_standing(id, standing);
        }
        self.forget_marks();
        Ok(())
    }

    fn set_standing(&self, id: MessageId, standing: Option<Standing>) {
        let mut state = self.state();
        let settled = standing.as_ref().is_none_or(|standing| standing.mark.settled);
        let known = state.marks.entry(id).or_default();
        match standing {
            Some(standing) => *known = standing,
            // Its row is gone: what was known of it stays.
            None => known.mark.settled = true,
        }
        if settled {
            state.measured.settled(id);
            state.open.remove(id);
        }
        if let Some(mark) = state.mark(self.me(), id) {
            self.tell(Notice::Marked(id, mark));
        }
    }

    /// What is settled and no longer in memory has its mark in the file.
    fn forget_marks(&self) {
        let State { marks, room, .. } = &mut *self.state();
        if marks.len() > 2 * ROOM {
            let sender = self.me().clone();
            marks.retain(|id, standing| {
                !standing.mark.settled || room.holds(&Key { id: *id, sender: sender.clone() })
            });
        }
    }

    /// Somebody has read this node's messages up to this one.
    pub(super) fn tell_read(&self, state: &State, upto: Option<MessageId>) {
        let Some(upto) = upto else { return };
        let me = self.me();
        for key in state.room.said_by(me, upto).take(MOST_READ) {
            if let Some(mark) = state.mark(me, key.id) {
                self.tell(Notice::Marked(key.id, mark));
            }
        }
    }
}
