//! The machines on which nodes run: starts, crashes, power cuts, the disk, the program with its handlers.

use std::collections::BTreeMap;
use std::time::Duration;

use waypost::protocol::TopicId;
use waypost::protocol::admin::Step;
use waypost::protocol::inbox::begun::{Note, Slot};
use waypost::protocol::inbox::{Done, Source};
use waypost::protocol::life::{self, Life, Reading, Record, Shown, Trust};
use waypost::{ChannelName, MessageId, Mode, NodeId, StartAt, StoreId};

use crate::dice::Dice;
use crate::file::{self, Answer, By, File, Group, Mailbox, Uid, Work, Writer};
use crate::plan::{Crash, NodePlan, Style};
use crate::process::{Command, Content, Input, Process, Settings};
use crate::world::{Event, World};

pub(crate) struct Machine {
    pub(crate) id: NodeId,
    pub(crate) settings: Settings,
    pub(crate) limits: file::Limits,
    pub(crate) style: Style,
    /// What the program joins at its start.
    pub(crate) joins: Vec<(ChannelName, Mode, StartAt)>,
    pub(crate) file: File,
    pub(crate) writer: Writer,
    pub(crate) mailbox: Mailbox,
    pub(crate) notices_due: bool,
    pub(crate) process: Option<Process>,
    /// What is noted beside the file of messages that were handed out: a killed process leaves it, a power cut does not.
    pub(crate) notes: BTreeMap<Slot, Note>,
    pub(crate) runs: u64,
    /// Not started again before this time.
    pub(crate) away_until: Duration,
    pub(crate) frozen_until: Duration,
    /// Since when its process has not run, where it has not since then.
    pub(crate) stands_since: Option<Duration>,
    /// The writer could do nothing at this time.
    pub(crate) last_down: Option<Duration>,
    /// When its process was started.
    pub(crate) started: Duration,
    /// Suspended, from when until when.
    asleep: Option<(Duration, Duration)>,
    /// How long it was suspended before: its monotonic clock stood still.
    slept: Duration,
    pub(crate) clock_off_ms: i64,
    /// Whether its wall clock is trusted even when it is wrong.
    lies: bool,
    /// What there is to show that its wall clock is right, when it is.
    trust: Trust,
    boots: u64,
    /// `None`: with the next start.
    booted: Option<Duration>,
    /// The file's clock, in this run or the last one.
    pub(crate) life: Option<Life>,
    /// Actions left before the crash.
    pub(crate) fuse: Option<u32>,
    pub(crate) fuse_crash: (Crash, Duration),
    pub(crate) blown: bool,
    /// The next fsync fails.
    pub(crate) sync_fails: bool,
    /// The disk can't be written before this time.
    pub(crate) disk_back: Duration,
    pub(crate) disk_slow_until: Duration,
    /// When the writer's last answer reaches the process.
    answered_at: Duration,
    pub(crate) backup: Option<File>,
    /// Its file was an older copy at some time.
    pub(crate) restored: bool,
    /// Its file may lack what it once held.
    pub(crate) forgetful: bool,
    commits: u64,
}

/// How a handler's call ends.
#[derive(Debug, Clone)]
pub(crate) enum Ending {
    Handled,
    /// With it ends the process.
    Ends,
    /// Or it panicked.
    Failed,
    /// It answers the message itself, plainly or with rows of its own.
    Acks(Uid),
    Transacts(Uid),
    Answered(Done),
}

impl Machine {
    /// Whether its monotonic clock ever stood still.
    pub(crate) fn was_suspended(&self) -> bool {
        self.asleep.is_some() || self.slept > Duration::ZERO
    }

    pub(crate) fn new(plan: &NodePlan, dice: &mut Dice) -> Self {
        Self {
            id: plan.id.clone(),
            settings: plan.settings.clone(),
            limits: plan.limits,
            style: plan.style,
            joins: plan.joins.clone(),
            file: File::new(StoreId::from_u128(dice.wide())),
            writer: Writer::default(),
            mailbox: Mailbox::default(),
            notices_due: false,
            process: None,
            notes: BTreeMap::new(),
            runs: 0,
            away_until: Duration::ZERO,
            frozen_until: Duration::ZERO,
            stands_since: None,
            last_down: None,
            started: Duration::ZERO,
            asleep: None,
            slept: Duration::ZERO,
            clock_off_ms: 0,
            lies: plan.lies,
            trust: plan.trust,
            boots: 1,
            booted: Some(Duration::ZERO),
            life: None,
            fuse: None,
            fuse_crash: (Crash::Kill, Duration::ZERO),
            blown: false,
            sync_fails: false,
            disk_back: Duration::ZERO,
            disk_slow_until: Duration::ZERO,
            answered_at: Duration::ZERO,
            backup: None,
            restored: false,
            forgetful: false,
            commits: 0,
        }
    }
}

/// Whoever stood still for longer than this notices: it looks every half second, and is late by as much.
const NOTICED: Duration = Duration::from_millis(1_010);
/// A start waits for a server, for its own word to come back, and twice as long as that took.
const STARTED_BY: Duration = Duration::from_secs(8);

/// What should have come to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Overdue {
    Start,
    Stop,
}

/// With a commit, the clock is noted once it was noted so long ago.
const NOTE_MS: u64 = 30_000;

/// Compares what a clock has counted since it was noted with what has truly passed.
fn judge_clock(
    kept: &Record,
    file_ms: u64,
    passed: Duration,
    reading: &Reading,
    lies: bool,
) -> Result<(), String> {
    let passed_ms = passed.as_millis() as u64;
    let Some(counted_ms) = file_ms.checked_sub(kept.seen_ms) else {
        return Err(format!("it fell from {} to {file_ms}", kept.seen_ms));
    };
    let exact = kept.seen.machine == reading.machine;
    // Nothing can be held against a clock that is trusted and wrong, between two boots, up to its bound.
    let most_ms = if lies && !exact { life::LONGEST_GAP_MS.max(passed_ms) } else { passed_ms };
    // Both are cut down to whole milliseconds.
    if counted_ms > most_ms + 2 {
        return Err(format!("it takes {counted_ms} ms of {passed_ms} from a message's life"));
    }
    if exact && counted_ms + 2 < passed_ms {
        return Err(format!("it counts {counted_ms} ms of {passed_ms} within a boot"));
    }
    Ok(())
}

impl World {
    pub(crate) fn start(&mut self, node: usize) {
        if self.machines[node].process.is_some() || self.machines[node].away_until > self.now {
            return;
        }
        log!(self, "{} starts", self.machines[node].id);
        let now = self.now;
        let machine = &mut self.machines[node];
        machine.runs += 1;
        (machine.started, machine.stands_since) = (now, None);
        let run = self.run_of(node);
        self.start_clock(node);
        let restored = self.machines[node].file.current.restored();
        self.oracle.starts(node, &self.machines[node].file.current);
        let Machine { settings, file, .. } = &self.machines[node];
        let (elects, file) = (settings.election.is_some(), &file.current.election);
        if let Err(what) = self.oracle.elections.starts(node, elects, file) {
            self.violated(what);
        }
        if let Some(at_ms) = self.machines[node].file.current.unclaimed_expires() {
            self.tell(node, vec![file::Notice::UnclaimedExpires { at_ms }]);
        }
        self.oracle.lives.begins(node);
        let by = self.now + STARTED_BY;
        self.schedule(by, Event::Overdue { node, run, what: Overdue::Start });
        let process = Process::start(self, node, run, restored);
        self.machines[node].process = Some(process);
        if self.machines[node].settings.election.is_some() {
            let at = self.now + self.dice.micros(100, 5_000);
            self.schedule(at, Event::Command { node, run, command: Command::Listen });
        }
        for (channel, mode, start) in self.machines[node].joins.clone() {
            let command = Command::Join(channel, mode, start);
            let at = self.now + self.dice.micros(100, 5_000);
            self.schedule(at, Event::Command { node, run, command });
        }
        self.hang_up(node);
        let number = self.network.connections[node].number;
        let at = self.now + self.dice.micros(500, 50_000);
        self.schedule(at, Event::Connect { node, number });
    }

    /// What the machine's clocks say. What shows that the wall clock is right, is right, but for those of which the plan says otherwise.
    pub(crate) fn reading(&self, node: usize) -> Reading {
        let machine = &self.machines[node];
        let up = self.now.saturating_sub(machine.booted.unwrap_or(self.now));
        Reading {
            machine: life::Machine {
                host: Some(node as u64),
                boot: Some(machine.boots),
                time_namespace: 0,
            },
            wall_ms: self.wall_ms(node),
            trust: if machine.clock_off_ms == 0 || machine.lies {
                machine.trust
            } else {
                Trust::Unknown
            },
            up_ms: up.as_millis() as u64,
        }
    }

    /// File time: of the file that is open, or that was last.
    pub(crate) fn file_ms(&self, node: usize) -> u64 {
        let up_ms = self.reading(node).up_ms;
        self.machines[node].life.as_ref().map_or(0, |life| life.at(up_ms))
    }

    fn start_clock(&mut self, node: usize) {
        let now = self.now;
        self.machines[node].booted.get_or_insert(now);
        let reading = self.reading(node);
        let file = &self.machines[node].file.current;
        let kept = file.clock.map(|(record, _)| record);
        let (life, gap) = Life::open(kept, Shown::default(), file.last_created_ms(), &reading);
        if let Some((kept, truly)) = file.clock
            && let Err(what) = judge_clock(
                &kept,
                life.at(reading.up_ms),
                now - truly,
                &reading,
                self.machines[node].lies,
            )
        {
            let id = &self.machines[node].id;
            let what = format!("the clock of {id}: {what}: {gap:?}");
            self.violated(what);
        }
        let machine = &mut self.machines[node];
        machine.file.note_clock(life.record(&reading), now, gap.missing_ms());
        machine.life = Some(life);
    }

    /// Somebody sets the wall clock.
    pub(crate) fn set_clock(&mut self, node: usize, off_ms: i64) {
        self.machines[node].clock_off_ms = off_ms;
        let (reading, before) = (self.reading(node), self.file_ms(node));
        if let Some(life) = &mut self.machines[node].life {
            life.look(&reading);
        }
        if self.file_ms(node) != before {
            self.violated("file time changes with the wall clock".to_owned());
        }
    }

    /// What is to be written of the clock with other things.
    fn clock_to_note(&self, node: usize) -> Option<(Record, Duration)> {
        let machine = &self.machines[node];
        let record = machine.life.as_ref()?.record(&self.reading(node));
        let noted = machine.file.current.clock.map_or(0, |(kept, _)| kept.seen_ms);
        (record.seen_ms >= noted + NOTE_MS).then_some((record, self.now))
    }

    /// Whether somebody has vouched for a wall clock that was wrong.
    pub(crate) fn lies(&self, node: usize) -> bool {
        self.machines[node].lies
    }

    /// The machine's monotonic clock, which stands still while it is suspended.
    pub(crate) fn mono(&self, node: usize) -> Duration {
        let Machine { asleep, slept, .. } = &self.machines[node];
        let now = asleep.map_or(Duration::ZERO, |(from, until)| self.now.min(until) - from);
        self.now - *slept - now
    }

    /// The machine sleeps: nothing on it happens, and its monotonic clock stands still; the others go on.
    pub(crate) fn suspend(&mut self, node: usize, pause: Duration) {
        self.wake(node);
        let until = self.now + pause;
        self.freeze(node, pause);
        self.machines[node].asleep = Some((self.now, until));
    }

    /// Its process does not run for so long.
    pub(crate) fn freeze(&mut self, node: usize, pause: Duration) {
        let machine = &mut self.machines[node];
        machine.stands_since.get_or_insert(self.now);
        machine.frozen_until = machine.frozen_until.max(self.now + pause);
    }

    /// Its process runs, and may have stood still until now.
    pub(crate) fn runs(&mut self, node: usize) {
        let machine = &mut self.machines[node];
        let Some(since) = machine.stands_since.take() else { return };
        let stood = machine.frozen_until.saturating_sub(since);
        let is_linked = machine.process.as_ref().is_some_and(Process::is_linked);
        if stood > NOTICED && is_linked {
            let now = self.mono(node);
            self.oracle.lives.stood_still(node, now);
        }
    }

    fn wake(&mut self, node: usize) {
        let mono = self.mono(node);
        let machine = &mut self.machines[node];
        machine.slept = self.now - mono;
        machine.asleep = None;
    }

    /// Ends the process where it stands, and starts it again after a while.
    pub(crate) fn crash(&mut self, node: usize, how: Crash, away: Duration) {
        self.wake(node);
        let machine = &mut self.machines[node];
        machine.away_until = machine.away_until.max(self.now + away);
        (machine.fuse, machine.blown) = (None, false);
        (machine.frozen_until, machine.stands_since) = (Duration::ZERO, None);
        let back = machine.away_until;
        self.schedule(back, Event::Start { node });
        if self.machines[node].process.take().is_none() {
            return;
        }
        log!(self, "{} is gone: {how:?}, for {away:?}", self.machines[node].id);
        self.end_writing(node);
        if how == Crash::PowerCut {
            self.machines[node].notes.clear();
            self.cut_power(node);
        }
        self.ended(node);
    }

    fn ended(&mut self, node: usize) {
        let machine = &mut self.machines[node];
        machine.writer = Writer::default();
        machine.mailbox = Mailbox::default();
        machine.notices_due = false;
        (machine.fuse, machine.blown) = (None, false);
        self.oracle.process_ended(node);
        self.hang_up(node);
    }

    /// The commit that was under way stands in the file, or it does not.
    fn end_writing(&mut self, node: usize) {
        if self.dice.coin() {
            return;
        }
        if let Some(mut group) = self.run_group(node) {
            group.fail(&mut self.machines[node].file, true);
            self.check_group(node, &group);
        }
    }

    fn cut_power(&mut self, node: usize) {
        let before = self.oracle.durable(node, &self.machines[node].file.current);
        let lost = self.machines[node].file.power_cut(&mut self.dice);
        self.machines[node].forgetful = true;
        log!(self, "{}: the power cut takes {lost} commits", self.machines[node].id);
        self.machines[node].boots += 1;
        self.machines[node].booted = None;
        if let Err(what) = self.oracle.survived(node, &before, &self.machines[node].file.current) {
            self.violated(what);
        }
    }

    pub(crate) fn fuse_blows(&mut self, node: usize) {
        if self.machines[node].blown {
            let (how, away) = self.machines[node].fuse_crash;
            self.crash(node, how, away);
        }
    }

    /// A graceful stop has come to its end: goodbye, everything written, the file closed.
    pub(crate) fn stopped(&mut self, node: usize) {
        self.judge_end(node);
        self.with_process(node, Process::finish);
        if self.machines[node].blown {
            // In the midst of it.
            return self.fuse_blows(node);
        }
        log!(self, "{} has stopped", self.machines[node].id);
        self.machines[node].process = None;
        self.write_all(node);
        if let Err(what) = self.oracle.ends(
            node,
            &self.machines[node].file.current,
            self.machines[node].writer.down,
        ) {
            let id = &self.machines[node].id;
            self.violated(format!("{id}: {what}"));
        }
        if !self.machines[node].writer.down {
            let reading = self.reading(node);
            let Machine { life, file, .. } = &mut self.machines[node];
            if let Some(life) = life {
                file.note_clock(life.record(&reading), self.now, 0);
            }
        }
        self.ended(node);
        let at = self.machines[node].away_until;
        self.schedule(at, Event::Start { node });
    }

    /// Has the writer do all that it was asked, where it can. What it answers.
    pub(crate) fn write_all(&mut self, node: usize) -> Vec<(Work, Answer)> {
        let mut answers = Vec::new();
        if self.machines[node].writer.down {
            return answers;
        }
        self.machines[node].writer.begin();
        while let Some(mut group) = self.run_group(node) {
            group.full = true;
            group.commit(&mut self.machines[node].file);
            self.check_group(node, &group);
            // `shutdown` closes the store last: a program that waits for an answer meanwhile still gets it.
            for (work, answer) in &group.answers {
                self.answered(node, work, answer);
            }
            answers.append(&mut group.answers);
            self.machines[node].writer.begin();
        }
        answers
    }

    /// A process that has been told to stop ends in time, and before that only where there is nothing left to wait for.
    fn judge_end(&mut self, node: usize) {
        let overdue = self.oracle.lives.is_overdue(node, self.mono(node));
        let early = (!overdue).then(|| self.oracle.is_at_work(node)).flatten();
        if let Some(what) = early {
            let id = &self.machines[node].id;
            self.violated(format!("{id} stops before its time, while {what}"));
        }
    }

    pub(crate) fn note_stop(&mut self, node: usize, run: u64, within: Duration) {
        let by = self.mono(node) + within;
        self.oracle.lives.stops(node, by);
        let at = self.now + within + Duration::from_millis(1);
        self.schedule(at, Event::Overdue { node, run, what: Overdue::Stop });
    }

    /// Something should have happened by now.
    pub(crate) fn overdue(&mut self, node: usize, run: u64, what: Overdue) {
        let (now, mono) = (self.now, self.mono(node));
        let machine = &self.machines[node];
        let late = match what {
            Overdue::Stop => {
                let before = mono.saturating_sub(Duration::from_millis(1));
                self.oracle.lives.is_overdue(node, before)
            }
            Overdue::Start if !self.oracle.lives.is_starting(node) => return,
            Overdue::Start => now >= machine.frozen_until.max(machine.started) + STARTED_BY,
        };
        if late {
            let id = &self.machines[node].id;
            return self.violated(format!("{id}: its {what:?} has no end"));
        }
        // It stood still meanwhile.
        self.schedule(now + Duration::from_millis(100), Event::Overdue { node, run, what });
    }

    /// The clock is looked at, and noted by itself where that was long ago.
    pub(crate) fn look_at_clock(&mut self, node: usize) {
        let reading = self.reading(node);
        let machine = &mut self.machines[node];
        let noted = machine.file.current.clock.map_or(0, |(kept, _)| kept.seen_ms);
        let Some(life) = &mut machine.life else { return };
        life.look(&reading);
        if life.at(reading.up_ms) >= noted + life::NOTE_ALONE_MS {
            self.submit(node, Work::NoteClock);
        }
    }

    pub(crate) fn submit(&mut self, node: usize, work: Work) {
        self.machines[node].writer.submit(work);
        self.begin_group(node);
    }

    /// Commits this at once, where nobody else is writing.
    pub(crate) fn commit_alone(&mut self, node: usize, work: Work) -> bool {
        let machine = &mut self.machines[node];
        if machine.writer.is_busy() || machine.disk_back > self.now {
            return false;
        }
        machine.writer.submit(work);
        machine.writer.begin();
        let Some(mut group) = self.run_group(node) else { return false };
        group.commit(&mut self.machines[node].file);
        self.check_group(node, &group);
        for (work, _) in &group.answers {
            if let Work::Accept { source, taken, .. } = work {
                self.oracle.has_committed(node, source, taken);
            }
        }
        self.tell(node, group.notices);
        true
    }

    fn begin_group(&mut self, node: usize) {
        let machine = &mut self.machines[node];
        let Some(full) = machine.writer.begin() else { return };
        let slow = machine.disk_slow_until > self.now;
        let mut at = self.now + self.dice.micros(20, 300);
        if full {
            at += self.dice.micros(100, 4_000);
        }
        if slow {
            at += self.dice.micros(1_000, 800_000);
        }
        self.schedule(at, Event::Written { node, run: self.run_of(node) });
    }

    fn run_group(&mut self, node: usize) -> Option<Group> {
        let (now_ms, clock) = (self.file_ms(node), self.clock_to_note(node));
        let Machine { file, limits, writer, process, .. } = &mut self.machines[node];
        if !writer.is_running() {
            return None;
        }
        let under_way = process.as_ref().map(Process::settling);
        let under_way = under_way.as_deref();
        Some(writer.run(file, *limits, now_ms, clock, &mut self.dice, under_way))
    }

    pub(crate) fn written(&mut self, node: usize) {
        let down = self.machines[node].writer.down;
        if down || self.machines[node].disk_back > self.now {
            let works = self.machines[node].writer.abandon();
            self.refuse(node, works);
            if !down {
                let open = self.machines[node].file.current.open_keys();
                self.go_down(node, open);
            }
            return self.begin_group(node);
        }
        let open_before = self.machines[node].file.current.open_keys();
        let Some(mut group) = self.run_group(node) else { return };
        if group.full && std::mem::take(&mut self.machines[node].sync_fails) {
            let stands = self.dice.coin();
            log!(self, "{}: an fsync fails, the commit stands: {stands}", self.machines[node].id);
            let file = &mut self.machines[node].file;
            group.fail(file, stands);
            if stands {
                self.check_group(node, &group);
            }
            let works = group.answers.into_iter().map(|(work, _)| work).collect();
            self.refuse(node, works);
            self.go_down(node, open_before);
            return self.begin_group(node);
        }
        group.commit(&mut self.machines[node].file);
        self.check_group(node, &group);
        let Group { answers, notices, .. } = group;
        self.tell(node, notices);
        for (work, answer) in answers {
            self.answer(node, work, answer);
        }
        self.begin_group(node);
    }

    /// Answers come in the order in which the writer gives them.
    fn answer(&mut self, node: usize, work: Work, answer: Answer) {
        let at = (self.now + self.dice.micros(1, 200)).max(self.machines[node].answered_at);
        self.machines[node].answered_at = at;
        self.schedule(at, Event::Completed { node, run: self.run_of(node), work, answer });
    }

    fn refuse(&mut self, node: usize, works: Vec<Work>) {
        for work in works {
            self.answer(node, work, Answer::Failed);
        }
    }

    fn tell(&mut self, node: usize, notices: Vec<file::Notice>) {
        let machine = &mut self.machines[node];
        let limit = machine.limits.notices;
        notices.into_iter().for_each(|notice| machine.mailbox.put(notice, limit));
        if !machine.mailbox.is_empty() && !std::mem::replace(&mut machine.notices_due, true) {
            let at = self.now + self.dice.micros(1, 200);
            self.schedule(at, Event::Notices { node, run: self.run_of(node) });
        }
    }

    /// After a failed write nothing is written before the file was opened again. These cursors were open before.
    fn go_down(&mut self, node: usize, open_before: Vec<(NodeId, TopicId)>) {
        let machine = &mut self.machines[node];
        machine.writer.down = true;
        machine.last_down = Some(self.now);
        machine.writer.open_before = open_before;
        self.tell(node, vec![file::Notice::Down]);
        let at = self.machines[node].disk_back.max(self.now) + self.dice.micros(500, 1_000_000);
        self.schedule(at, Event::Reopen { node, run: self.run_of(node) });
    }

    pub(crate) fn reopen(&mut self, node: usize) {
        if !self.machines[node].writer.down {
            return;
        }
        if self.machines[node].disk_back > self.now {
            let at = self.machines[node].disk_back;
            return self.schedule(at, Event::Reopen { node, run: self.run_of(node) });
        }
        log!(self, "{}: the file is open again", self.machines[node].id);
        let machine = &mut self.machines[node];
        machine.writer.down = false;
        machine.last_down = Some(self.now);
        machine.file.sync();
        let open_before = std::mem::take(&mut machine.writer.open_before);
        let notices = machine.file.current.retold(&open_before);
        self.tell(node, notices);
        self.begin_group(node);
    }

    fn check_group(&mut self, node: usize, group: &Group) {
        self.machines[node].commits += 1;
        let audit = self.machines[node].commits.is_multiple_of(self.plan.audit_every);
        let now = self.now;
        let Self { oracle, machines, .. } = self;
        if let Err(what) = oracle.committed(node, group, &machines[node].file.current, audit, now) {
            self.violated(what);
        }
    }

    pub(crate) fn completed(&mut self, node: usize, work: Work, answer: Answer) {
        self.answered(node, &work, &answer);
        self.input(node, Input::Completed(work, answer));
    }

    /// What follows for the program from what the file has answered.
    fn answered(&mut self, node: usize, work: &Work, answer: &Answer) {
        let run = self.run_of(node);
        match (work, answer) {
            (Work::Send(_), Answer::Sent(rows)) => {
                log!(self, "{}: accepted {}", self.machines[node].id, list(rows));
                self.oracle.accepted(node, rows, self.now);
            }
            (Work::Join(channel, mode, _), Answer::Joined { .. }) if mode.reads() => {
                self.oracle.joined(node, channel, self.now);
                let at = self.now + self.dice.micros(100, 20_000);
                let command = Command::Attach(channel.clone());
                self.schedule(at, Event::Command { node, run, command });
            }
            (Work::Join(..), Answer::Joined { .. }) => {}
            (Work::Join(channel, mode, start), _) => {
                let command = Command::Join(channel.clone(), *mode, *start);
                let at = self.now + Duration::from_secs(1);
                self.schedule(at, Event::Command { node, run, command });
            }
            (Work::Leave(channel), Answer::Done) => self.oracle.left(node, channel),
            (Work::Step(_, Step::Leave(channels)), Answer::Done) => {
                channels.iter().for_each(|channel| self.oracle.left(node, channel));
            }
            (Work::Accept { source, taken, .. }, Answer::Done) => {
                self.oracle.has_committed(node, source, taken);
            }
            (Work::AcceptIn { source, taken, effect, .. }, Answer::Done) => {
                self.oracle.has_committed(node, source, taken);
                self.oracle.transaction_answered(node, *effect);
            }
            _ => {}
        }
    }

    pub(crate) fn start_handler(
        &mut self,
        node: usize,
        run: u64,
        source: Source,
        id: MessageId,
        content: Content,
    ) {
        let uid = content.uid;
        log!(self, "{} handles #{uid}, attempt {}", self.machines[node].id, content.attempt);
        self.trace.mix(&[uid, node as u64]);
        let now = self.mono(node);
        if let Err(what) = self.oracle.lives.handles(node, now) {
            let id = &self.machines[node].id;
            self.violated(format!("P5: {id} handles #{uid}: {what}"));
        }
        let sender = self.index[&source.sender];
        let files = (&self.machines[node].file.current, &self.machines[sender].file.current);
        let receiver = (node, &self.machines[node].id);
        if let Err(what) = self.oracle.handles(receiver, &source, id, uid, files) {
            self.violated(what);
        }
        let style = self.machines[node].style;
        let poison = style.poison > 0 && uid.is_multiple_of(style.poison);
        let fails = !self.calm && self.dice.permille(style.failing);
        let deadly = style.deadly > 0 && uid.is_multiple_of(style.deadly);
        let ending = if deadly {
            Ending::Ends
        } else if poison || fails {
            Ending::Failed
        } else if self.dice.permille(style.transacting) {
            Ending::Transacts(uid)
        } else if self.dice.permille(style.acking) {
            Ending::Acks(uid)
        } else {
            Ending::Handled
        };
        let slow = !self.calm && self.dice.permille(style.slow);
        let longest = if slow {
            3 * self.machines[node].settings.delivery.ack_timeout.as_micros() as u64
        } else {
            4_000
        };
        let at = self.now + self.dice.micros(20, longest);
        self.schedule(at, Event::HandlerEnds { node, run, source, id, ending });
    }

    pub(crate) fn handler_ends(
        &mut self,
        node: usize,
        source: Source,
        id: MessageId,
        ending: Ending,
    ) {
        let result = match ending {
            Ending::Ends => {
                let away = self.dice.micros(50_000, 5_000_000);
                return self.crash(node, Crash::Kill, away);
            }
            Ending::Acks(uid) => {
                let taken = self.oracle.taken_with(node, &source, uid);
                return self.submit(node, Work::Accept { source, id, taken, by: By::Handler });
            }
            Ending::Transacts(uid) => {
                let taken = self.oracle.taken_with(node, &source, uid);
                return self.submit(node, Work::AcceptIn { source, id, taken, effect: uid });
            }
            Ending::Handled => Ok(Done::Handled),
            Ending::Answered(done) => Ok(done),
            Ending::Failed => Err("it did not like it".to_owned()),
        };
        self.oracle.handler_ended(node, &source, &result);
        self.input(node, Input::Handled { source, id, result });
    }
}

/// Messages in a line of the trace.
fn list(rows: &[std::rc::Rc<file::Row>]) -> String {
    let rows = rows.iter().map(|row| {
        let to = row.target.as_ref().map_or(String::new(), |target| format!(" to {target}"));
        format!("#{} seq {} {}/{}{to}", row.uid, row.seq, row.channel, row.lane)
    });
    rows.collect::<Vec<_>>().join(", ")
}
