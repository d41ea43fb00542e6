//! A machine whose clocks a test moves.

use std::sync::{Arc, Mutex};

use super::TimeSource;
use crate::protocol::life::{Machine, Trust};

#[derive(Clone)]
pub(crate) struct HandClock(Arc<Mutex<State>>);

struct State {
    wall_ms: u64,
    up_ms: u64,
    boot: u64,
    trust: Trust,
}

impl HandClock {
    /// A wall clock of which nothing is known.
    pub(crate) fn at(wall_ms: u64) -> Self {
        let state = State { wall_ms, up_ms: 60_000, boot: 1, trust: Trust::Unknown };
        Self(Arc::new(Mutex::new(state)))
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.0.lock().expect("no test panics in here"));
    }

    fn get<T>(&self, get: impl FnOnce(&State) -> T) -> T {
        get(&self.0.lock().expect("no test panics in here"))
    }

    /// Time passes; the machine may be suspended meanwhile.
    pub(crate) fn advance(&self, ms: u64) {
        self.change(|state| {
            state.wall_ms += ms;
            state.up_ms += ms;
        });
    }

    /// Somebody sets the wall clock.
    pub(crate) fn set_wall(&self, wall_ms: u64) {
        self.change(|state| state.wall_ms = wall_ms);
    }

    pub(crate) fn set_trust(&self, trust: Trust) {
        self.change(|state| state.trust = trust);
    }

    /// The machine is off for so long, and has been on for so long since.
    pub(crate) fn reboot(&self, off_ms: u64, up_ms: u64) {
        self.change(|state| {
            state.wall_ms += off_ms + up_ms;
            state.up_ms = up_ms;
            state.boot += 1;
        });
    }
}

impl TimeSource for HandClock {
    fn wall_ms(&self) -> u64 {
        self.get(|state| state.wall_ms)
    }

    fn up_ms(&self) -> u64 {
        self.get(|state| state.up_ms)
    }

    fn machine(&self) -> Machine {
        self.get(|state| Machine { host: Some(7), boot: Some(state.boot), time_namespace: 1 })
    }

    fn trust(&self, _: u64) -> Trust {
        self.get(|state| state.trust)
    }
}
