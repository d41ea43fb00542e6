//! Looks at what waits and why: what the part that decides about them wants done.

use std::time::{Duration, SystemTime};

use waypost::protocol::looks::{Around, Effect, Filled, Looks, Pending};
use waypost::protocol::outbound::Outbound;
use waypost::{Link, Outage, Reason};

use super::{Process, Timer};
use crate::file::Work;
use crate::world::World;

/// What the file says when it is asked.
#[derive(Debug)]
pub(crate) enum Found {
    /// `None`: it failed.
    Counted(Option<Vec<Pending>>),
    Measured(Option<Filled>),
}

/// What it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Question {
    Count,
    Measure,
}

impl Process {
    /// Has it decided what follows from something, and does that, up to a crash.
    pub(super) fn with_looks<R>(
        &mut self,
        world: &mut World,
        decide: impl FnOnce(&mut Looks, &mut Around<'_>) -> R,
    ) -> R {
        let (now, counted, mut out) = (self.now(world), world.truly(), Vec::new());
        let wall = SystemTime::UNIX_EPOCH + Duration::from_millis(world.wall_ms(self.me));
        let down = world.machines[self.me].writer.down;
        let connection = match (self.link, self.was_linked) {
            (true, _) => Link::Connected { server: "simulated".to_owned() },
            (false, false) => Link::Connecting,
            (false, true) => {
                let reason = "it is gone".to_owned();
                Link::Disconnected { reason, outage: Outage::NoServer }
            }
        };
        let Self { outbound, peers, leadership, lifecycle, admin, .. } = self;
        let around = &mut Around {
            now,
            counted,
            wall,
            starting: lifecycle.is_starting(),
            link: self.link,
            connection: &connection,
            file: &|| {
                down.then(|| Reason::DiskFull { path: "its file".to_owned() }).into_iter().collect()
            },
            apart: &|| None,
            closed: admin.closed(),
            peers,
            leadership: leadership.as_ref(),
            standing: &|receiver, topic| outbound.standing(receiver, topic),
            out: &mut out,
        };
        let decided = decide(&mut self.looks, around);
        for effect in out {
            if !matches!(effect, Effect::WakeAt(_)) && !world.goes_on(self.me) {
                break;
            }
            self.perform_for_looks(world, effect);
        }
        decided
    }

    fn perform_for_looks(&mut self, world: &mut World, effect: Effect) {
        match effect {
            Effect::Count => world.ask_file(self.me, Question::Count),
            Effect::Measure => {
                self.with_outbound(world, Outbound::record);
                world.ask_file(self.me, Question::Measure);
            }
            Effect::Expire => world.submit(self.me, Work::ExpireUnclaimed),
            Effect::Show(reasons) => {
                world.note_reasons(self.me, (self.link, self.is_denied), reasons);
            }
            Effect::Tell(news) => world.note_news(self.me, &news),
            Effect::Near(near) => world.note_near(self.me, &near.reason()),
            Effect::Answer(_) => world.violated(format!("nobody asked {} for reasons", self.id)),
            Effect::WakeAt(at) => {
                let at = at.map(|at| world.since_base(at));
                self.arm(world, Timer::Looks, at);
            }
        }
    }

    /// Tells what has begun or ended since the last time.
    pub(super) fn tell_stalls(&mut self, world: &mut World) {
        self.with_looks(world, Looks::tell);
    }

    pub(super) fn found(&mut self, world: &mut World, found: Found) {
        match found {
            Found::Counted(pending) => {
                self.with_looks(world, |it, around| it.counted(around, pending));
            }
            Found::Measured(filled) => {
                self.with_looks(world, |it, around| it.measured(around, filled));
            }
        }
    }
}
