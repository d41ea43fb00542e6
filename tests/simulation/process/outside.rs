//! What the core looks at while it decides.

use std::cell::{RefCell, RefMut};
use std::ops::DerefMut;
use std::rc::Rc;

use waypost::Reason;
use waypost::core::Outside;
use waypost::protocol::frame::FrameMessage;
use waypost::protocol::inbox::{Incoming, Source};
use waypost::protocol::settling::Settling;

use super::{Content, Process};
use crate::file::{Row, Uid};
use crate::world::World;

/// Largest payload of the simulation: a message's number.
const MAX_PAYLOAD_BYTES: usize = 8;

/// What of the world matters to a node.
#[derive(Debug, Clone, Copy)]
pub(super) struct Around {
    awaited: bool,
    down: bool,
    /// Every message whose number this divides cannot be unpacked; 0: none.
    refused: u64,
}

impl Process {
    pub(super) fn around(&self, world: &World) -> Around {
        let machine = &world.machines[self.me];
        let (awaited, refused) = (world.plan.awaited, machine.style.refused);
        Around { awaited, down: machine.writer.down, refused }
    }
}

impl Around {
    pub(super) fn with(self, settling: &RefCell<Settling>) -> Surroundings<'_> {
        Surroundings { around: self, settling }
    }
}

pub(super) struct Surroundings<'a> {
    around: Around,
    settling: &'a RefCell<Settling>,
}

impl Outside for Surroundings<'_> {
    type Queued = Rc<Row>;
    type Content = Content;

    fn settling(&self) -> impl DerefMut<Target = Settling> {
        let settling: RefMut<'_, Settling> = self.settling.borrow_mut();
        settling
    }

    fn is_awaited(&self) -> bool {
        self.around.awaited
    }

    fn is_tight(&self) -> bool {
        false
    }

    fn hindrances(&self) -> Vec<Reason> {
        let full = || Reason::DiskFull { path: "its file".to_owned() };
        self.around.down.then(full).into_iter().collect()
    }

    fn wrong_clock(&self) -> Option<Reason> {
        None
    }

    fn open(
        &self,
        _: &Source,
        message: FrameMessage,
        attempt: u32,
    ) -> Result<Incoming<Content>, String> {
        let payload = message.body.payload(MAX_PAYLOAD_BYTES).expect("as it was sent");
        let uid = Uid::from_be_bytes(payload[..].try_into().expect("eight bytes were sent"));
        if self.around.refused > 0 && uid.is_multiple_of(self.around.refused) {
            return Err("it is too large for this one".to_owned());
        }
        Ok(Incoming { id: message.id, bytes: 1024, body: Content { uid, attempt } })
    }
}
