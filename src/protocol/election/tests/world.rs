//! Several nodes, a network that delays, loses, repeats and cuts, disks that take their time, in virtual time. Whatever happens is judged at
//! once: no two masters in a term, none at one moment, and nothing committed is lost.

use std::collections::BTreeMap;
use std::time::Instant;

use super::*;

#[derive(Debug)]
enum Task {
    Deliver { to: usize, frame: Frame },
    Written { at: usize, run: u128, seq: u64 },
    Wake { at: usize },
    Start { at: usize },
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Weather {
    /// Longest way of a frame.
    pub(super) delay: Duration,
    /// Of a hundred frames so many are lost, and as many come twice.
    pub(super) lost_percent: u64,
    /// Longest writing.
    pub(super) disk: Duration,
}

impl Weather {
    pub(super) const FINE: Self = Self { delay: ms(2), lost_percent: 0, disk: ms(10) };
    pub(super) const STORM: Self = Self { delay: ms(120), lost_percent: 10, disk: ms(80) };
}

pub(super) struct Machine {
    pub(super) name: NodeId,
    pub(super) durable: Durable,
    pub(super) process: Option<Election>,
    writing: Option<(u64, Record)>,
    run: u128,
    /// Stopped by a signal until then; what comes meanwhile waits.
    frozen_until: Duration,
    /// Machines hear each other where this is the same.
    pub(super) side: u8,
    pub(super) notices: Vec<(Duration, Notice)>,
    pub(super) answers: Vec<Action>,
}

pub(super) struct World {
    pub(super) settings: Settings,
    pub(super) machines: Vec<Machine>,
    pub(super) weather: Weather,
    pub(super) now: Duration,
    pub(super) dice: Jitter,
    start: Instant,
    tasks: BTreeMap<(Duration, u64), Task>,
    number: u64,
    /// Who was master in a term.
    masters: BTreeMap<Term, NodeId>,
    /// Numbers that callers were told to be set.
    pub(super) committed: BTreeSet<u64>,
    pub(super) tickets: u64,
}

impl World {
    pub(super) fn new(settings: Settings, names: &[&str], weather: Weather, seed: u64) -> Self {
        let machine = |name: &&str| Machine {
            name: node(name),
            durable: Durable::default(),
            process: None,
            writing: None,
            run: 0,
            frozen_until: Duration::ZERO,
            side: 0,
            notices: Vec::new(),
            answers: Vec::new(),
        };
        let mut world = Self {
            settings,
            machines: names.iter().map(machine).collect(),
            weather,
            now: Duration::ZERO,
            dice: Jitter::new(seed),
            start: Instant::now(),
            tasks: BTreeMap::new(),
            number: 0,
            masters: BTreeMap::new(),
            committed: BTreeSet::new(),
            tickets: 0,
        };
        (0..names.len()).for_each(|at| world.start(at));
        world
    }

    fn time(&self) -> Now {
        Now { mono: self.start + self.now, file_ms: 0 }
    }

    fn plan(&mut self, after: Duration, task: Task) {
        self.number += 1;
        self.tasks.insert((self.now + after, self.number), task);
    }

    fn start(&mut self, at: usize) {
        let seed = self.dice.draw();
        let (settings, now) = (self.settings.clone(), self.time());
        let machine = &mut self.machines[at];
        machine.run += 1;
        let run = Incarnation::from_u128(machine.run);
        let (name, durable) = (machine.name.clone(), machine.durable.clone());
        machine.process = Some(Election::new(name, run, settings, durable, seed, now));
        self.tell(at, Event::LinkUp);
        self.look_around();
    }

    pub(super) fn kill(&mut self, at: usize) {
        let torn = self.dice.draw().is_multiple_of(2);
        let machine = &mut self.machines[at];
        machine.process = None;
        machine.frozen_until = Duration::ZERO;
        // What was being written is there or not.
        if let Some((_, record)) = machine.writing.take().filter(|_| torn) {
            machine.durable.write(record);
        }
        self.look_around();
    }

    pub(super) fn start_after(&mut self, at: usize, pause: Duration) {
        self.plan(pause, Task::Start { at });
    }

    pub(super) fn freeze(&mut self, at: usize, time: Duration) {
        self.machines[at].frozen_until = self.now + time;
    }

    pub(super) fn part(&mut self, sides: &[u8]) {
        for (machine, side) in self.machines.iter_mut().zip(sides) {
            machine.side = *side;
        }
    }

    /// Without a quorum nodes go by whom they see.
    pub(super) fn look_around(&mut self) {
        if self.settings.mode != Mode::Visible {
            return;
        }
        for at in 0..self.machines.len() {
            let side = self.machines[at].side;
            let seen = self.machines.iter().filter(|m| m.side == side && m.process.is_some());
            let seen = seen.map(|machine| machine.name.clone()).collect();
            self.tell(at, Event::Visible(seen));
        }
    }

    pub(super) fn tell(&mut self, at: usize, event: Event) {
        let now = self.time();
        let Some(process) = &mut self.machines[at].process else { return };
        let mut out = Vec::new();
        process.handle(now, event, &mut out);
        for action in out {
            self.perform(at, action);
        }
        let process = self.machines[at].process.as_ref().expect("it ran just now");
        if let Some(wake) = process.wake_at() {
            let after = wake.saturating_duration_since(now.mono).max(Duration::from_micros(100));
            self.plan(after, Task::Wake { at });
        }
        self.judge();
    }

    fn perform(&mut self, at: usize, action: Action) {
        match action {
            Action::Persist { seq, record } => {
                let (run, disk) = (self.machines[at].run, self.weather.disk);
                let after = self.dice.up_to(disk);
                self.machines[at].writing = Some((seq, record));
                self.plan(after, Task::Written { at, run, seq });
            }
            Action::Send(frame) => {
                for to in (0..self.machines.len()).filter(|to| *to != at) {
                    self.send(at, to, &frame);
                }
            }
            Action::Notice(notice) => {
                if let Notice::BecameMaster { state, .. } = &notice {
                    let has = numbers(&state.json);
                    let lost: Vec<_> = self.committed.difference(&has).collect();
                    let quorum = matches!(self.settings.mode, Mode::Quorum { .. });
                    assert!(lost.is_empty() || !quorum, "{lost:?} are lost, {has:?} are there");
                }
                let now = self.now;
                self.machines[at].notices.push((now, notice));
            }
            other => {
                if let Action::SetDone { ticket, .. } = other {
                    self.committed.insert(ticket);
                }
                self.machines[at].answers.push(other);
            }
        }
    }

    fn send(&mut self, from: usize, to: usize, frame: &Frame) {
        if self.machines[from].side != self.machines[to].side {
            return;
        }
        let Weather { delay, lost_percent, .. } = self.weather;
        let copies = match self.dice.draw() % 100 {
            n if n < lost_percent => 0,
            n if n < 2 * lost_percent => 2,
            _ => 1,
        };
        for _ in 0..copies {
            let after = self.dice.up_to(delay);
            self.plan(after, Task::Deliver { to, frame: frame.clone() });
        }
    }

    /// What must hold at every moment.
    fn judge(&mut self) {
        if self.settings.mode == Mode::Visible {
            return;
        }
        let now = self.time().mono;
        let running = self.machines.iter().filter_map(|machine| machine.process.as_ref());
        let tokens: Vec<Token> = running.filter_map(|process| process.token(now)).collect();
        assert!(tokens.len() < 2, "two masters at {:?}: {tokens:?}", self.now);
        for Token { term, node } in tokens {
            let known = self.masters.entry(term).or_insert_with(|| node.clone());
            assert_eq!(*known, node, "two masters in term {term}");
        }
    }

    fn due(&mut self, task: Task) {
        let at = match task {
            Task::Deliver { to: at, .. }
            | Task::Written { at, .. }
            | Task::Wake { at }
            | Task::Start { at } => at,
        };
        let frozen_until = self.machines[at].frozen_until;
        if frozen_until > self.now {
            self.plan(frozen_until - self.now, task);
            return;
        }
        match task {
            Task::Deliver { to, frame } => self.tell(to, Event::Frame(frame)),
            Task::Written { at, run, seq } => {
                let machine = &mut self.machines[at];
                let current = machine.run == run && machine.process.is_some();
                if current && let Some((_, record)) = machine.writing.take_if(|w| w.0 == seq) {
                    machine.durable.write(record);
                    self.tell(at, Event::Persisted { seq });
                }
            }
            Task::Wake { at } => {
                let now = self.time().mono;
                let wake = self.machines[at].process.as_ref().and_then(Election::wake_at);
                if wake.is_some_and(|wake| wake <= now) {
                    self.tell(at, Event::Woke);
                }
            }
            Task::Start { at } => {
                if self.machines[at].process.is_none() {
                    self.start(at);
                }
            }
        }
    }

    pub(super) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some((&(at, number), _)) = self.tasks.first_key_value()
            && at <= end
        {
            let task = self.tasks.remove(&(at, number)).expect("just seen");
            self.now = at;
            self.judge();
            self.due(task);
        }
        self.now = end;
    }

    pub(super) fn master(&self) -> Option<usize> {
        let now = self.time().mono;
        let leads = |machine: &Machine| machine.process.as_ref().is_some_and(|p| p.is_master(now));
        self.machines.iter().position(leads)
    }

    pub(super) fn masters_now(&self) -> usize {
        let now = self.time().mono;
        let processes = self.machines.iter().filter_map(|machine| machine.process.as_ref());
        processes.filter(|process| process.is_master(now)).count()
    }

    /// Runs until there is a master, and says how long that took.
    pub(super) fn until_master(&mut self, most: Duration) -> (usize, Duration) {
        let since = self.now;
        while self.now < since + most {
            self.run(ms(1));
            if let Some(master) = self.master() {
                return (master, self.now - since);
            }
        }
        panic!("no master within {most:?}");
    }

    /// A caller adds a number to the state.
    pub(super) fn set(&mut self, at: usize) -> u64 {
        self.tickets += 1;
        let ticket = self.tickets;
        if let Some(process) = &self.machines[at].process {
            let mut all = numbers(&process.state().json);
            all.insert(ticket);
            let json = serde_json::to_vec(&all).expect("numbers").into();
            self.tell(at, Event::SetState { ticket, json });
        }
        ticket
    }
}

pub(super) fn numbers(json: &[u8]) -> BTreeSet<u64> {
    let numbers: Option<BTreeSet<u64>> = serde_json::from_slice(json).expect("a state of ours");
    numbers.unwrap_or_default()
}
