//! The scheduler: virtual time, one event after the other, nothing from outside.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use waypost::protocol::TopicId;
use waypost::protocol::election::{self, Version};
use waypost::protocol::inbox::{Done, Gap, Source};
use waypost::protocol::leadership::{Call, Change, LeadershipView, Ticket};
use waypost::protocol::looks::Filled;
use waypost::protocol::outbound::PageRequest;
use waypost::protocol::settling::Run;
use waypost::protocol::stalls::News;
use waypost::{MessageId, NodeId, Reason};

use crate::dice::Dice;
use crate::file::{Answer, Notice, Row, Tables, Work};
use crate::machine::{Ending, Machine, Overdue};
use crate::network::{Network, Sent};
use crate::oracle::Oracle;
use crate::plan::{Act, Plan};
use crate::process::{Command, Found, Input, Page, Process, Question, Timer};
use crate::trace::Trace;

/// More events than this a node and virtual second are a loop that does not rest.
const BUSY: u64 = 2_000;

/// How long the file takes to say what waits.
const ASKED: Duration = Duration::from_micros(200);
/// What has expired before it had a reader ends within this time, and where the file failed, within that.
const ENDED: Duration = Duration::from_secs(4);
const RETRIED: Duration = Duration::from_secs(40);

/// The time by every wall clock that nobody has set wrongly, when a simulation begins.
pub(crate) const WALL_START_MS: u64 = 1_800_000_000_000;

/// Something that happens at its time. `run` tells one process of a node from the next, `number` one connection from the next: what belongs to
/// an earlier one is void.
pub(crate) enum Event {
    Act(Act),
    Start {
        node: usize,
    },
    Arrive {
        node: usize,
        number: u64,
        sent: Rc<Sent>,
    },
    Noticed {
        node: usize,
        number: u64,
    },
    Down {
        node: usize,
        number: u64,
    },
    Room {
        node: usize,
        number: u64,
    },
    Connect {
        node: usize,
        number: u64,
    },
    Proven {
        node: usize,
        number: u64,
    },
    /// The writer's group has come to its commit.
    Written {
        node: usize,
        run: u64,
    },
    Reopen {
        node: usize,
        run: u64,
    },
    Notices {
        node: usize,
        run: u64,
    },
    Completed {
        node: usize,
        run: u64,
        work: Work,
        answer: Answer,
    },
    Page {
        node: usize,
        run: u64,
        page: Page,
    },
    HandlerEnds {
        node: usize,
        run: u64,
        source: Source,
        id: MessageId,
        ending: Ending,
    },
    Timer {
        node: usize,
        run: u64,
        timer: Timer,
        /// When it was to fire, by the machine's monotonic clock; it may be late.
        due: Duration,
    },
    Command {
        node: usize,
        run: u64,
        command: Command,
    },
    /// The file is asked something, beside the writer.
    Asked {
        node: usize,
        run: u64,
        question: Question,
    },
    /// By now this should have come to its end.
    Overdue {
        node: usize,
        run: u64,
        what: Overdue,
    },
}

impl Event {
    /// Whose it is, for a machine that stands still.
    fn node(&self) -> Option<usize> {
        match self {
            Self::Act(_) => None,
            Self::Start { node } => Some(*node),
            Self::Arrive { node, .. }
            | Self::Noticed { node, .. }
            | Self::Down { node, .. }
            | Self::Room { node, .. }
            | Self::Connect { node, .. }
            | Self::Proven { node, .. }
            | Self::Written { node, .. }
            | Self::Reopen { node, .. }
            | Self::Notices { node, .. }
            | Self::Completed { node, .. }
            | Self::Page { node, .. }
            | Self::HandlerEnds { node, .. }
            | Self::Timer { node, .. }
            | Self::Command { node, .. }
            | Self::Asked { node, .. }
            | Self::Overdue { node, .. } => Some(*node),
        }
    }
}

pub(crate) struct World {
    pub(crate) now: Duration,
    base: Instant,
    /// By when it happens, since when it was due, and in which order it was planned.
    queue: BTreeMap<(Duration, Duration, u64), Event>,
    order: u64,
    pub(crate) steps: u64,
    second: (u64, u64),
    pub(crate) machines: Vec<Machine>,
    pub(crate) index: BTreeMap<NodeId, usize>,
    pub(crate) network: Network,
    pub(crate) dice: Dice,
    pub(crate) oracle: Oracle,
    pub(crate) plan: Rc<Plan>,
    pub(crate) trace: Trace,
    /// Faults are over.
    pub(crate) calm: bool,
}

impl World {
    pub(crate) fn new(plan: Rc<Plan>, recording: bool) -> Self {
        let mut dice = Dice::new(plan.seed);
        let machines: Vec<Machine> =
            plan.nodes.iter().map(|node| Machine::new(node, &mut dice)).collect();
        let mut world = Self {
            now: Duration::ZERO,
            base: Instant::now(),
            queue: BTreeMap::new(),
            order: 0,
            steps: 0,
            second: (0, 0),
            index: machines.iter().enumerate().map(|(i, m)| (m.id.clone(), i)).collect(),
            network: Network::new(machines.len(), plan.wire),
            oracle: Oracle::new(&machines),
            machines,
            dice,
            plan: plan.clone(),
            trace: Trace::new(recording),
            calm: false,
        };
        for (at, act) in &plan.acts {
            world.schedule(*at, Event::Act(act.clone()));
        }
        world
    }

    /// Runs until this time, or until something is not as promised.
    pub(crate) fn run_until(&mut self, end: Duration) {
        while self.oracle.violation.is_none() {
            match self.queue.first_key_value() {
                Some(((at, ..), _)) if *at <= end => self.step(),
                _ => break,
            }
        }
        self.now = self.now.max(end);
    }

    fn step(&mut self) {
        let Some(((at, due, order), event)) = self.queue.pop_first() else { return };
        self.now = at;
        self.steps += 1;
        let frozen_until = event.node().map(|node| self.machines[node].frozen_until);
        if let Some(until) = frozen_until.filter(|until| *until > at) {
            // What waits for a machine that stands still keeps its order, however often it is held up.
            self.queue.insert((until, due, order), event);
            return;
        }
        if let Some(node) = event.node() {
            self.runs(node);
        }
        self.count_step();
        self.trace.mix(&[at.as_nanos() as u64, order, event.node().unwrap_or(99) as u64]);
        self.dispatch(event);
    }

    fn count_step(&mut self) {
        if self.second.0 != self.now.as_secs() {
            self.second = (self.now.as_secs(), 0);
        }
        self.second.1 += 1;
        if self.second.1 > BUSY * self.machines.len() as u64 * self.plan.busy_factor {
            self.violated(format!("a busy loop: {} events in this second", self.second.1));
        }
    }

    fn dispatch(&mut self, event: Event) {
        match event {
            Event::Act(act) => self.act(act),
            Event::Start { node } => self.start(node),
            Event::Arrive { node, number, sent } => self.arrived(node, number, sent),
            Event::Noticed { node, number } => self.noticed(node, number),
            Event::Down { node, number } if self.network.connections[node].number == number => {
                self.input(node, Input::LinkDown);
            }
            Event::Down { .. } => {}
            Event::Room { node, number } => {
                let connection = &mut self.network.connections[node];
                if connection.number == number && std::mem::take(&mut connection.full) {
                    self.input(node, Input::Room);
                }
            }
            Event::Connect { node, number } => self.connect(node, number),
            Event::Proven { node, number } => self.proven(node, number),
            Event::Written { node, run } if self.is_run(node, run) => self.written(node),
            Event::Reopen { node, run } if self.is_run(node, run) => self.reopen(node),
            Event::Notices { node, run } if self.is_run(node, run) => {
                self.input(node, Input::Notices);
            }
            Event::Completed { node, run, work, answer } if self.is_run(node, run) => {
                self.completed(node, work, answer);
            }
            Event::Asked { node, run, question } if self.is_run(node, run) => {
                let found = self.find(node, question);
                self.input(node, Input::Found(found));
            }
            Event::Overdue { node, run, what } if self.is_run(node, run) => {
                self.overdue(node, run, what);
            }
            Event::Page { node, run, page } if self.is_run(node, run) => {
                self.input(node, Input::Page(page));
            }
            Event::HandlerEnds { node, run, source, id, ending } if self.is_run(node, run) => {
                self.handler_ends(node, source, id, ending);
            }
            Event::Timer { node, run, timer, due } if self.is_run(node, run) => {
                // The machine was suspended meanwhile.
                if self.mono(node) < due {
                    return self.set_timer(node, run, timer, due);
                }
                self.input(node, Input::Timer(timer, due));
            }
            Event::Command { node, run, command } if self.is_run(node, run) => {
                log!(self, "{}: {command:?}", self.machines[node].id);
                self.input(node, Input::Command(command));
            }
            _ => {}
        }
    }

    fn is_run(&self, node: usize, run: u64) -> bool {
        self.machines[node].process.as_ref().is_some_and(|process| process.run == run)
    }

    /// Gives the node's process something to do, if it runs.
    pub(crate) fn input(&mut self, node: usize, input: Input) {
        let Some(mut process) = self.machines[node].process.take() else { return };
        let stopped = process.take(self, input);
        self.machines[node].process = Some(process);
        if self.machines[node].blown {
            self.fuse_blows(node);
        } else if stopped {
            self.stopped(node);
        }
    }

    pub(crate) fn with_process<T>(
        &mut self,
        node: usize,
        work: impl FnOnce(&mut Process, &mut Self) -> T,
    ) -> Option<T> {
        let mut process = self.machines[node].process.take()?;
        let result = work(&mut process, self);
        self.machines[node].process = Some(process);
        Some(result)
    }

    /// Whether the process may do one more thing before it crashes.
    pub(crate) fn goes_on(&mut self, node: usize) -> bool {
        let machine = &mut self.machines[node];
        if let Some(fuse) = &mut machine.fuse {
            match fuse.checked_sub(1) {
                Some(left) => *fuse = left,
                None => machine.blown = true,
            }
        }
        !machine.blown
    }

    pub(crate) fn schedule(&mut self, at: Duration, event: Event) {
        self.order += 1;
        let at = at.max(self.now);
        self.queue.insert((at, at, self.order), event);
    }

    /// By the machine's monotonic clock.
    pub(crate) fn set_timer(&mut self, node: usize, run: u64, timer: Timer, due: Duration) {
        let at = self.now + due.saturating_sub(self.mono(node));
        self.schedule(at, Event::Timer { node, run, timer, due });
    }

    pub(crate) fn run_of(&self, node: usize) -> u64 {
        self.machines[node].runs
    }

    /// By a clock that goes on while machines are suspended.
    pub(crate) fn truly(&self) -> Instant {
        self.base + self.now
    }

    pub(crate) fn instant(&self, node: usize) -> Instant {
        self.base + self.mono(node)
    }

    pub(crate) fn since_base(&self, at: Instant) -> Duration {
        at.saturating_duration_since(self.base)
    }

    pub(crate) fn wall_ms(&self, node: usize) -> u64 {
        let wall = WALL_START_MS + self.now.as_millis() as u64;
        wall.saturating_add_signed(self.machines[node].clock_off_ms)
    }

    pub(crate) fn take_notices(&mut self, node: usize) -> Vec<Notice> {
        self.machines[node].notices_due = false;
        self.machines[node].mailbox.take()
    }

    /// Reads a page of a backlog, on a connection of its own.
    pub(crate) fn read_page(&mut self, node: usize, age: u64, request: PageRequest) {
        let PageRequest { lane, ref topics, max_messages, .. } = request;
        let machine = &self.machines[node];
        let tables = &machine.file.current;
        let lowest = topics.iter().map(|(_, after)| *after).min().unwrap_or(0);
        let wanted: BTreeMap<TopicId, u64> = topics.iter().copied().collect();
        let is_wanted = |row: &Rc<Row>| {
            row.lane == lane && wanted.get(&row.topic).is_some_and(|after| row.seq > *after)
        };
        let rows = tables.outbox.range(lowest + 1..).map(|(_, row)| row);
        let mut rows = rows.filter(|row| is_wanted(row)).take(max_messages + 1).cloned();
        let mut page: Vec<Rc<Row>> = rows.by_ref().collect();
        let end = page.len() <= max_messages;
        page.truncate(max_messages);
        let last = page.last().map_or(0, |row| row.seq);
        let scanned_to = if end { tables.end_seq.max(lowest) } else { last };
        let readable = !machine.writer.down && !self.dice.permille(self.plan.unreadable);
        let rows = readable.then_some((page, scanned_to, end));
        let page = Page { age, request, rows };
        let at = self.now + self.dice.micros(50, 3_000);
        self.schedule(at, Event::Page { node, run: self.run_of(node), page });
    }

    /// Asks the file what waits. It takes no part in what the dice decide: the reasons are looked at, and change nothing.
    pub(crate) fn ask_file(&mut self, node: usize, question: Question) {
        let (at, run) = (self.now + ASKED, self.run_of(node));
        self.schedule(at, Event::Asked { node, run, question });
    }

    fn find(&mut self, node: usize, question: Question) -> Found {
        let machine = &self.machines[node];
        let file = (!machine.writer.down).then_some(&machine.file.current);
        match question {
            Question::Count => {
                let found = file.map(Tables::all_pending);
                self.judge_unclaimed(node);
                Found::Counted(found)
            }
            // A file of a megabyte, which may take a hundred.
            Question::Measure => Found::Measured(file.map(|file| Filled {
                accounts: file.accounts(),
                used_bytes: 1 << 20,
                limit_bytes: 100 << 20,
            })),
        }
    }

    /// What has expired before it had a reader has ended, unless the node could not see to that.
    fn judge_unclaimed(&mut self, node: usize) {
        let (now, file_ms) = (self.now, self.file_ms(node));
        let machine = &self.machines[node];
        let since =
            [machine.started, machine.frozen_until, machine.disk_slow_until, machine.disk_back];
        let failed = machine.last_down.is_some_and(|down| down + RETRIED > now);
        let able = since.iter().all(|since| *since + ENDED <= now) && !failed;
        if !able || machine.blown || machine.was_suspended() {
            return;
        }
        let file = &machine.file.current;
        let mut unclaimed = file.topics.keys().flat_map(|topic| file.unclaimed(*topic));
        let ended = file_ms.saturating_sub(ENDED.as_millis() as u64);
        let late = unclaimed.find(|row| row.expires_ms.is_some_and(|at| at <= ended));
        if let Some(uid) = late.map(|row| row.uid) {
            let id = machine.id.clone();
            drop(unclaimed);
            self.violated(format!("#{uid} expired at {id} without a reader, and nobody saw it"));
        }
    }

    pub(crate) fn note_reasons(&mut self, node: usize, link: (bool, bool), reasons: Vec<Reason>) {
        log!(self, "{} shows {reasons:?}", self.machines[node].id);
        let verdict = self.oracle.lives.shows(node, link, reasons);
        self.judge_of(node, verdict);
    }

    pub(crate) fn note_started(&mut self, node: usize, link: bool) {
        let now = self.mono(node);
        let verdict = self.oracle.lives.started(node, link, now);
        self.judge_of(node, verdict);
    }

    pub(crate) fn note_news(&mut self, node: usize, news: &News) {
        log!(self, "{}: {news:?}", self.machines[node].id);
        let verdict = self.oracle.lives.tells(node, news);
        self.judge_of(node, verdict);
    }

    pub(crate) fn note_near(&mut self, node: usize, reason: &Reason) {
        let verdict = self.oracle.lives.tells_of_limit(node, reason);
        self.judge_of(node, verdict);
    }

    fn judge_of(&mut self, node: usize, verdict: Result<(), String>) {
        if let Err(what) = verdict {
            let id = &self.machines[node].id;
            self.violated(format!("{id}: {what}"));
        }
    }

    /// A keepalive has been broadcast, or could not be.
    pub(crate) fn note_word(&mut self, node: usize, number: u64, goodbye: bool) {
        self.oracle.lives.speaks(node, number);
        if !goodbye {
            return;
        }
        self.oracle.lives.says_goodbye(node);
        let now = self.truly();
        if self.oracle.elections.view(node).is_some_and(|view| view.token(now).is_some()) {
            let id = &self.machines[node].id;
            self.violated(format!("P9: {id} says goodbye, and is seen as master"));
        }
    }

    pub(crate) fn handler_answered(
        &mut self,
        node: usize,
        run: u64,
        source: Source,
        id: MessageId,
        done: Done,
    ) {
        if done == Done::Returned {
            self.oracle.handler_gone(node, &source);
        }
        let ending = Ending::Answered(done);
        self.schedule(self.now, Event::HandlerEnds { node, run, source, id, ending });
    }

    pub(crate) fn violated(&mut self, what: String) {
        log!(self, "VIOLATED: {what}");
        self.oracle.violation.get_or_insert(what);
    }

    pub(crate) fn note_publish(
        &mut self,
        node: usize,
        _run: u64,
        receiver: &NodeId,
        rows: &[Rc<Row>],
    ) {
        for row in rows {
            self.trace.mix(&[row.uid]);
        }
        if let Err(what) = self.oracle.published(node, receiver, rows) {
            self.violated(what);
        }
    }

    pub(crate) fn note_settled(&mut self, node: usize, run: &Run) {
        let Run { receiver, topic, first_seq, last_seq, how, .. } = run;
        let id = &self.machines[node].id;
        log!(self, "{id}: {receiver} {topic:?} seq {first_seq}-{last_seq} {how:?}");
        let (now, lies) = (self.now, self.lies(node));
        let Self { oracle, machines, index, .. } = self;
        let Machine { file, writer, .. } = &machines[node];
        let of = (&*index, writer.down);
        let by = (!lies).then_some(now);
        if let Err(what) = oracle.settled(node, run, &file.current, of, by) {
            self.violated(what);
        }
    }

    /// A node whose file never lacked anything is not to believe that it does.
    pub(crate) fn note_gap(&mut self, node: usize, source: &Source, gap: Gap) {
        let Machine { id, forgetful, .. } = &self.machines[node];
        if let (Gap::WeWentBack { sender_says }, false) = (gap, forgetful) {
            let sender = &source.sender;
            let what = format!(
                "{id} believes that its file lacks {sender}'s {sender_says}, and it does not"
            );
            self.violated(what);
        }
    }

    pub(crate) fn note_attempt(
        &mut self,
        node: usize,
        receiver: &NodeId,
        id: MessageId,
        attempt: u32,
    ) {
        let rows = self.machines[node].file.current.outbox.values();
        if let Some(seq) = rows.rev().find(|row| row.id == id).map(|row| row.seq) {
            self.oracle.attempted(node, receiver, seq, attempt);
        }
    }

    pub(crate) fn note_closed(&mut self, node: usize, receiver: &NodeId, topic: TopicId) {
        let Self { oracle, machines, .. } = self;
        if let Err(what) = oracle.closed(node, receiver, topic, &machines[node].file.current) {
            self.violated(what);
        }
    }

    pub(crate) fn note_went_back(&mut self, node: usize, newest: MessageId) {
        log!(self, "{} learns that its file went back: {newest}", self.machines[node].id);
        if !self.machines[node].restored {
            let id = self.machines[node].id.clone();
            self.violated(format!("{id} believes that its file went back, and it did not"));
        }
    }
}
impl World {
    /// Whether some process has decided what is not in its file yet, or does not run, or stands still.
    pub(crate) fn is_settling(&self) -> Option<String> {
        let busy = |machine: &&Machine| {
            let frozen = machine.frozen_until > self.now;
            let at_work = frozen || machine.writer.is_busy() || !machine.mailbox.is_empty();
            at_work || machine.process.as_ref().is_none_or(|it| !it.is_settled())
        };
        let to_send = |event: &Event| matches!(event, Event::Act(Act::Send { .. }));
        if self.queue.values().any(to_send) {
            return Some("a program has still to send".to_owned());
        }
        if let Some(machine) = self.machines.iter().find(busy) {
            return Some(format!("{} is not done", machine.id));
        }
        if let Some((node, reason)) = self.oracle.lives.holds() {
            return Some(format!("{} still has a reason: {reason:?}", self.machines[node].id));
        }
        self.oracle.elections.unsettled(self.truly())
    }
}

/// What elections do, as the oracle sees it.
impl World {
    fn judge(&mut self, verdict: Result<(), String>) {
        if let Err(what) = verdict {
            self.violated(what);
        }
    }

    pub(crate) fn note_shown(&mut self, node: usize, view: LeadershipView) {
        let now = self.truly();
        log!(
            self,
            "{} shows {:?} master, term {}, state {}",
            self.machines[node].id,
            view.master(now),
            view.term(),
            view.state().version
        );
        let verdict = self.oracle.elections.shown(node, now, view);
        self.judge(verdict);
    }

    pub(crate) fn note_election_frame(&mut self, node: usize, frame: &election::Frame) {
        let (now, disk) = (self.truly(), self.machines[node].file.durable_election());
        let verdict = self.oracle.elections.said(node, now, frame, disk);
        self.judge(verdict);
    }

    pub(crate) fn note_entered(&mut self, node: usize) {
        let verdict = self.oracle.elections.entered(node, self.now);
        self.judge(verdict);
    }

    pub(crate) fn note_told(&mut self, node: usize, notice: &election::Notice) {
        log!(self, "{}: {notice:?}", self.machines[node].id);
        let verdict = self.oracle.elections.told(node, notice);
        self.judge(verdict);
    }

    pub(crate) fn note_called(&mut self, node: usize, call: &Call) {
        log!(self, "{} calls {call:?}", self.machines[node].id);
        let verdict = self.oracle.elections.called(node, self.truly(), call);
        self.judge(verdict);
    }

    /// The program's function for a stop takes its time.
    pub(crate) fn function_runs(&mut self, node: usize, run: u64) {
        let at = self.now + self.dice.micros(100, 3_000_000);
        self.schedule(at, Event::Command { node, run, command: Command::Returned });
    }

    pub(crate) fn note_setting(
        &mut self,
        node: usize,
        ticket: Ticket,
        before: &[u8],
        change: Change,
    ) {
        if self.machines[node].blown {
            return;
        }
        let verdict = self.oracle.elections.setting(node, ticket, before, change);
        self.judge(verdict);
    }

    pub(crate) fn note_set(&mut self, node: usize, ticket: Ticket, version: Option<Version>) {
        if let Some(version) = version {
            log!(self, "{}: {ticket:?} has set {version}", self.machines[node].id);
        }
        let Self { oracle, machines, .. } = self;
        let disks = machines.iter().map(|it| (&it.id, it.file.durable_election()));
        let verdict = oracle.elections.set(node, ticket, version.is_some(), disks);
        self.judge(verdict);
    }
}
