use proptest::prelude::*;

use super::*;

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
/// A day in 2026.
const START: u64 = 1_780_000_000_000;

/// A machine, what truly happens to it, and a node's file on it.
#[derive(Debug, Clone)]
struct Bench {
    truth: u64,
    booted: u64,
    machine: Machine,
    wall_off: i64,
    trust: Trust,
    kept: Option<Record>,
    shown: Shown,
    youngest: u64,
    /// When `kept` was written, truly.
    seen_truth: u64,
    running: Option<Life>,
    /// How long it was suspended in this boot, and whether its clock stands still meanwhile, as on a system that has no other.
    suspended: u64,
    stands_still: bool,
    /// Of that, what has passed since `kept` was written.
    unnoted: u64,
}

fn machine(boot: u64) -> Machine {
    Machine { host: Some(7), boot: Some(boot), time_namespace: 1 }
}

impl Bench {
    fn new(wall_off: i64, trust: Trust) -> Self {
        Self {
            truth: START,
            booted: START - MINUTE,
            machine: machine(1),
            wall_off,
            trust,
            kept: None,
            shown: Shown::default(),
            youngest: 0,
            seen_truth: START,
            running: None,
            suspended: 0,
            stands_still: false,
            unnoted: 0,
        }
    }

    fn reading(&self) -> Reading {
        Reading {
            machine: self.machine,
            wall_ms: self.truth.saturating_add_signed(self.wall_off),
            trust: self.trust,
            up_ms: self.truth - self.booted - self.uncounted(),
        }
    }

    /// What the clock since the boot lacks.
    fn uncounted(&self) -> u64 {
        if self.stands_still { self.suspended } else { 0 }
    }

    /// A node that runs neither notices nor notes anything.
    fn suspend(&mut self, ms: u64) {
        self.truth += ms;
        self.suspended += ms;
        self.unnoted += ms;
    }

    fn open(&mut self) -> Gap {
        let (life, gap) = Life::open(self.kept, self.shown.clone(), self.youngest, &self.reading());
        self.running = Some(life);
        self.note();
        gap
    }

    fn file_ms(&self) -> u64 {
        self.running.as_ref().expect("it runs").at(self.reading().up_ms)
    }

    /// The node writes its record.
    fn note(&mut self) {
        let reading = self.reading();
        if let Some(life) = &mut self.running {
            life.look(&reading);
            self.kept = Some(life.record(&reading));
            self.shown = life.shown().clone();
            self.seen_truth = self.truth;
            self.unnoted = 0;
        }
    }

    fn send(&mut self) {
        self.youngest = self.file_ms();
    }

    fn close(&mut self) {
        self.note();
        self.running = None;
    }

    fn crash(&mut self) {
        self.running = None;
    }

    /// Time in which the machine is on, or suspended.
    fn pass(&mut self, ms: u64) {
        self.truth += ms;
    }

    fn run(&mut self, ms: u64) {
        let mut left = ms;
        while left > 0 {
            let step = left.min(10 * MINUTE);
            self.pass(step);
            left -= step;
            if left > 0 {
                self.note();
            }
        }
    }

    /// The machine is off for so long, then on for some time.
    fn reboot(&mut self, off: u64, on: u64, wall_off: i64, trust: Trust) {
        self.running = None;
        self.truth += off;
        (self.booted, self.suspended) = (self.truth, 0);
        self.machine.boot = self.machine.boot.map(|boot| boot + 1);
        (self.wall_off, self.trust) = (wall_off, trust);
        self.truth += on;
    }
}

#[test]
fn a_restart_in_the_same_boot_counts_the_time_between_whatever_the_wall_clock_shows() {
    for off in [-(START as i64), -(21 * DAY as i64), 0, 3_650 * DAY as i64] {
        let mut bench = Bench::new(0, Trust::Unknown);
        bench.open();
        let first = bench.file_ms();
        bench.close();
        bench.wall_off = off;
        bench.pass(3 * HOUR);
        assert_eq!(bench.open(), Gap::Exact);
        assert_eq!(bench.file_ms(), first + 3 * HOUR, "off by {off}");
    }
}

#[test]
fn a_suspended_node_counts_the_time_and_so_does_the_next_run() {
    let mut bench = Bench::new(0, Trust::Unknown);
    bench.open();
    let first = bench.file_ms();
    bench.suspend(5 * DAY);
    assert_eq!(bench.file_ms(), first + 5 * DAY);
    bench.close();
    bench.suspend(3 * DAY);
    assert_eq!(bench.open(), Gap::Exact);
    assert_eq!(bench.file_ms(), first + 8 * DAY);
}

#[test]
fn a_reboot_counts_the_time_off_between_two_right_clocks() {
    for trust in [Trust::Synchronised, Trust::Told] {
        let mut bench = Bench::new(0, trust);
        bench.open();
        let first = bench.file_ms();
        bench.close();
        bench.reboot(30 * DAY, MINUTE, 0, trust);
        assert_eq!(bench.open(), Gap::Wall { ms: 30 * DAY + MINUTE });
        assert_eq!(bench.file_ms(), first + 30 * DAY + MINUTE);
        assert_eq!(bench.shown.wall_ms(bench.file_ms()), bench.truth);
    }
}

#[test]
fn a_boot_at_1970_counts_the_powered_time_and_a_later_correction_changes_nothing() {
    let mut bench = Bench::new(0, Trust::Synchronised);
    bench.open();
    let first = bench.file_ms();
    bench.close();
    bench.reboot(8 * HOUR, 3 * MINUTE, -(START as i64), Trust::Unknown);
    assert!(matches!(bench.open(), Gap::Uncounted { counted_ms, .. } if counted_ms == 3 * MINUTE));
    assert_eq!(bench.file_ms(), first + 3 * MINUTE);
    bench.pass(MINUTE);
    (bench.wall_off, bench.trust) = (0, Trust::Synchronised);
    bench.note();
    assert_eq!(bench.file_ms(), first + 4 * MINUTE);
    // What was accepted before is shown by the corrected clock.
    assert_eq!(bench.shown.wall_ms(bench.file_ms()), bench.truth);
    bench.close();
    assert_eq!(bench.open(), Gap::Exact);
    assert_eq!(bench.file_ms(), first + 4 * MINUTE);
}

#[test]
fn a_clock_years_ahead_is_not_believed_nor_one_that_went_back() {
    for off in [1_000 * DAY as i64, -(10 * DAY as i64)] {
        let mut bench = Bench::new(0, Trust::Synchronised);
        bench.open();
        let first = bench.file_ms();
        bench.close();
        bench.reboot(HOUR, MINUTE, off, Trust::Synchronised);
        assert!(matches!(bench.open(), Gap::Uncounted { counted_ms: MINUTE, .. }));
        assert_eq!(bench.file_ms(), first + MINUTE);
        bench.close();
        // Back to the right time.
        bench.reboot(HOUR, MINUTE, 0, Trust::Synchronised);
        bench.open();
        assert!(bench.file_ms() <= first + 2 * HOUR + 2 * MINUTE);
    }
}

#[test]
fn a_battery_backed_clock_that_nobody_ever_set_does_not_count_against_a_synchronised_one() {
    let behind = -(30 * DAY as i64);
    let mut bench = Bench::new(behind, Trust::Battery);
    bench.open();
    let first = bench.file_ms();
    bench.close();
    bench.reboot(HOUR, MINUTE, 0, Trust::Synchronised);
    assert!(matches!(bench.open(), Gap::Uncounted { .. }));
    assert_eq!(bench.file_ms(), first + MINUTE);
    // From now on it was set, and counts.
    let second = bench.file_ms();
    bench.close();
    bench.reboot(DAY, MINUTE, 0, Trust::Battery);
    assert_eq!(bench.open(), Gap::Wall { ms: DAY + MINUTE });
    assert_eq!(bench.file_ms(), second + DAY + MINUTE);
}

/// Somebody may have set it in between, while no node ran.
#[test]
fn two_readings_of_a_battery_backed_clock_do_not_count_before_it_was_synchronised() {
    let mut bench = Bench::new(-(30 * DAY as i64), Trust::Battery);
    bench.open();
    let first = bench.file_ms();
    bench.close();
    bench.reboot(HOUR, MINUTE, 0, Trust::Battery);
    assert!(matches!(bench.open(), Gap::Uncounted { .. }));
    assert_eq!(bench.file_ms(), first + MINUTE);
}

#[test]
fn a_file_on_another_machine_and_a_machine_whose_identity_is_another_s_count_little() {
    let mut bench = Bench::new(0, Trust::Unknown);
    bench.open();
    let first = bench.file_ms();
    bench.close();
    let there = bench.clone();
    bench.pass(MINUTE);
    bench.booted -= 100 * DAY;
    bench.machine = Machine { host: Some(8), ..machine(9) };
    assert!(matches!(bench.open(), Gap::Uncounted { counted_ms: 0, .. }));
    assert_eq!(bench.file_ms(), first);
    // The same image, so that it seems to be the same machine: it has been running for 100 days, the clock says a minute.
    let mut cloned = there;
    cloned.pass(MINUTE);
    cloned.booted -= 100 * DAY;
    cloned.machine = machine(9);
    cloned.open();
    assert_eq!(cloned.file_ms(), first + POWERED_MS);
}

#[test]
fn a_machine_that_does_not_tell_its_boot_is_known_by_both_clocks_going_on_together() {
    let mut bench = Bench::new(0, Trust::Unknown);
    bench.machine = Machine::default();
    bench.open();
    let first = bench.file_ms();
    bench.close();
    bench.pass(HOUR);
    assert_eq!(bench.open(), Gap::Exact);
    bench.close();
    bench.pass(HOUR);
    bench.wall_off = 3 * DAY as i64;
    assert!(matches!(bench.open(), Gap::Uncounted { counted_ms: 0, .. }));
    assert_eq!(bench.file_ms(), first + HOUR);
}

#[test]
fn a_container_in_a_time_namespace_of_its_own_has_not_been_rebooted() {
    let mut bench = Bench::new(0, Trust::Unknown);
    bench.open();
    let first = bench.file_ms();
    bench.close();
    bench.machine.time_namespace = 2;
    bench.booted -= 50 * DAY;
    assert!(matches!(bench.open(), Gap::Uncounted { counted_ms: 0, .. }));
    assert_eq!(bench.file_ms(), first);
}

#[test]
fn a_machine_restored_from_memory_does_not_take_time_back() {
    let mut bench = Bench::new(0, Trust::Unknown);
    bench.open();
    bench.run(HOUR);
    bench.close();
    let seen = bench.kept.expect("noted").seen_ms;
    // Its clock since the boot is an hour behind.
    bench.booted += HOUR;
    assert!(matches!(bench.open(), Gap::Uncounted { counted_ms: 0, .. }));
    assert_eq!(bench.file_ms(), seen);
    bench.pass(MINUTE);
    assert_eq!(bench.file_ms(), seen + MINUTE);
}

#[test]
fn a_clock_that_is_set_after_it_was_synchronised_is_not_believed_over_a_reboot() {
    let mut bench = Bench::new(0, Trust::Synchronised);
    bench.open();
    bench.pass(MINUTE);
    bench.wall_off = -(20 * DAY as i64);
    bench.note();
    assert_eq!(bench.kept.expect("noted").seen.trust, Trust::Doubted);
    let seen = bench.file_ms();
    bench.close();
    bench.reboot(HOUR, MINUTE, 0, Trust::Synchronised);
    bench.open();
    assert!(bench.file_ms() <= seen + HOUR + MINUTE, "the 20 days are not counted");
}

#[test]
fn a_program_under_a_clock_of_its_own_does_not_change_what_is_shown() {
    let mut bench = Bench::new(0, Trust::Synchronised);
    bench.open();
    let sent = bench.file_ms();
    bench.close();
    (bench.wall_off, bench.trust) = (-(3 * DAY as i64), Trust::Unknown);
    bench.open();
    assert_eq!(bench.shown.wall_ms(sent), START);
    bench.close();
    // And one that came first is corrected by the next.
    let mut bench = Bench::new(-(3 * DAY as i64), Trust::Unknown);
    bench.open();
    let sent = bench.file_ms();
    bench.close();
    bench.wall_off = 0;
    bench.open();
    assert_eq!(bench.shown.wall_ms(sent), START);
}

#[test]
fn a_damaged_row_far_ahead_takes_nobody_s_life() {
    let mut bench = Bench::new(0, Trust::Synchronised);
    bench.open();
    let first = bench.file_ms();
    bench.close();
    bench.youngest = first + 1_000 * DAY;
    bench.open();
    assert!(bench.file_ms() <= first + MINUTE);
}

#[test]
fn an_older_file_begins_with_the_wall_clock_but_not_before_its_youngest_row() {
    let first = |youngest, wall| super::first(youngest, wall);
    assert_eq!(first(0, START), START);
    assert_eq!(first(0, 5), EARLIEST_MS);
    assert_eq!(first(5, 6), 6, "what waits there lives as long as it was to");
    assert_eq!(first(START, START + DAY), START + DAY);
    assert_eq!(first(START, 5), START);
    assert_eq!(first(START, START + 3_000 * DAY), START, "a clock years ahead is not believed");
}

#[test]
fn as_many_boots_as_anybody_looks_back_to_are_remembered() {
    let mut bench = Bench::new(0, Trust::Unknown);
    for boot in 0..1_100_i64 {
        bench.open();
        bench.close();
        bench.reboot(HOUR, MINUTE, -(boot * DAY as i64), Trust::Unknown);
    }
    assert_eq!(bench.shown.segments().len(), MAX_SEGMENTS);
    let rising = |pair: &[Segment]| pair[0].from_ms < pair[1].from_ms;
    assert!(bench.shown.segments().windows(2).all(rising));
    // A good clock needs one segment, however often the machine is started.
    let mut bench = Bench::new(0, Trust::Synchronised);
    for _ in 0..20 {
        bench.open();
        bench.close();
        bench.reboot(HOUR, MINUTE, 0, Trust::Synchronised);
    }
    assert!(bench.shown.segments().len() <= 2);
}

#[derive(Debug, Clone)]
enum Step {
    Run(u64),
    Send,
    Close,
    Crash,
    Restart,
    Pass(u64),
    Suspend(u64),
    SetWall(i64, bool),
    Reboot { off: u64, on: u64, wall_off: i64, battery: bool },
    Backup,
    Restore,
}

fn wall_off() -> impl Strategy<Value = i64> {
    let days = |days: i64| days * DAY as i64;
    prop_oneof![
        3 => Just(0_i64),
        1 => Just(-(START as i64)),
        1 => (-60_i64..60).prop_map(days),
        1 => (-5_000_i64..5_000).prop_map(days),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (1..3 * HOUR).prop_map(Step::Run),
        Just(Step::Send),
        Just(Step::Close),
        Just(Step::Crash),
        Just(Step::Restart),
        (1..3 * DAY).prop_map(Step::Pass),
        (1..10 * DAY).prop_map(Step::Suspend),
        (wall_off(), any::<bool>()).prop_map(|(off, synced)| Step::SetWall(off, synced)),
        (0..40 * DAY, 0..HOUR, wall_off(), any::<bool>())
            .prop_map(|(off, on, wall_off, battery)| Step::Reboot { off, on, wall_off, battery }),
        Just(Step::Backup),
        Just(Step::Restore),
    ]
}

/// A wall clock that is trusted is right, in these histories.
fn trust(off: i64, synchronised: bool, battery: bool) -> Trust {
    match (off, synchronised, battery) {
        (0, true, _) => Trust::Synchronised,
        (0, _, true) => Trust::Battery,
        _ => Trust::Unknown,
    }
}

impl Bench {
    /// Opens the file, and compares with what it held and with what truly passed.
    fn open_checked(&mut self) {
        let (before, seen_truth) = (self.kept, self.seen_truth);
        let floor = self.youngest.max(before.map_or(0, |kept| kept.seen_ms));
        let gap = self.open();
        let now = self.file_ms();
        assert!(now >= floor, "file time fell: {now} < {floor}");
        if let Some(before) = before {
            let charged = now - before.seen_ms;
            let passed = self.truth - seen_truth;
            assert!(charged <= passed, "{charged} of {passed} charged: {gap:?}");
            if before.seen.machine == self.machine {
                let least = passed.saturating_sub(self.uncounted());
                assert!(charged >= least, "{charged} of {passed}: not exact within a boot");
            }
        }
        // Once more at the same moment.
        let mut again = self.clone();
        assert_eq!(again.open(), Gap::Exact);
        assert_eq!(again.file_ms(), now);
        assert_eq!(again.shown, self.shown);
    }

    fn perform(&mut self, step: &Step, backup: &mut Option<Self>) {
        match step {
            Step::Run(ms) if self.running.is_some() => {
                let before = self.file_ms();
                self.run(*ms);
                assert_eq!(self.file_ms(), before + ms, "a running node counts every moment");
            }
            Step::Send if self.running.is_some() => {
                self.note();
                self.send();
            }
            Step::Run(_) | Step::Send => self.open_checked(),
            Step::Close => self.close(),
            Step::Crash => self.crash(),
            Step::Restart => {
                self.close();
                self.open_checked();
            }
            Step::Pass(ms) => {
                self.crash();
                self.pass(*ms);
            }
            Step::Suspend(ms) => {
                let before = self.running.as_ref().map(|_| self.file_ms());
                self.suspend(*ms);
                let counted = if self.stands_still { 0 } else { *ms };
                let after = self.running.as_ref().map(|_| self.file_ms());
                assert_eq!(after, before.map(|before| before + counted));
            }
            Step::SetWall(off, synced) => {
                (self.wall_off, self.trust) = (*off, trust(*off, *synced, false));
                let before = self.running.as_ref().map(|_| self.file_ms());
                self.note();
                assert_eq!(before, self.running.as_ref().map(|_| self.file_ms()));
            }
            Step::Reboot { off, on, wall_off, battery } => {
                // Nor does anybody know how long it was suspended, where it never noted anything again.
                let unnoted = self.unnoted;
                let powered = self.running.as_ref().map(|_| self.file_ms());
                self.reboot(*off, *on, *wall_off, trust(*wall_off, false, *battery));
                self.open_checked();
                if let Some(powered) = powered {
                    let most = self.file_ms() + 10 * MINUTE + unnoted;
                    assert!(powered <= most, "more than ten minutes of a crash are lost");
                }
            }
            Step::Backup => *backup = Some(self.clone()),
            Step::Restore => {
                if let Some(old) = backup {
                    self.running = None;
                    self.kept = old.kept;
                    self.shown = old.shown.clone();
                    (self.youngest, self.seen_truth) = (old.youngest, old.seen_truth);
                    self.open_checked();
                }
            }
        }
    }
}

#[test]
fn a_clock_that_is_believed_takes_file_time_along_and_never_back() {
    let mut bench = Bench::new(0, Trust::Unknown);
    bench.open();
    let sent = bench.file_ms();
    bench.close();
    bench.reboot(500 * DAY, MINUTE, 0, Trust::Synchronised);
    assert!(matches!(bench.open(), Gap::Uncounted { .. }));
    let (before, reading) = (bench.file_ms(), bench.reading());
    let life = bench.running.as_mut().expect("it runs");
    let ahead = life.believe(&reading).expect("the clock is ahead");
    assert_eq!(life.believe(&reading), Ok(0), "twice is once");
    assert_eq!(bench.file_ms(), before + ahead);
    assert_eq!(bench.file_ms(), reading.wall_ms);
    let shown = bench.running.as_ref().expect("it runs").shown().clone();
    assert_eq!((shown.wall_ms(sent), shown.wall_ms(bench.file_ms())), (START, reading.wall_ms));
    // The next start goes on from there, and a clock that is set back changes nothing.
    bench.close();
    bench.pass(MINUTE);
    assert_eq!(bench.open(), Gap::Exact);
    assert_eq!(bench.file_ms(), reading.wall_ms + MINUTE);
    let back = Reading { wall_ms: START, ..bench.reading() };
    let life = bench.running.as_mut().expect("it runs");
    assert_eq!(life.believe(&back), Err(life.at(back.up_ms) - START));
    assert_eq!(bench.file_ms(), reading.wall_ms + MINUTE);
}

proptest! {
    #[test]
    fn no_history_takes_life_or_time_back(
        off in wall_off(),
        stands_still in any::<bool>(),
        steps in proptest::collection::vec(step(), 1..40),
    ) {
        let mut bench = Bench::new(off, trust(off, true, false));
        bench.stands_still = stands_still;
        let mut backup = None;
        bench.open_checked();
        for step in &steps {
            bench.perform(step, &mut backup);
        }
    }

    #[test]
    fn many_short_runs_count_as_one_long_one(
        pauses in proptest::collection::vec((1..DAY, 0..2 * MINUTE, wall_off()), 1..30),
    ) {
        let mut short = Bench::new(0, Trust::Unknown);
        short.open();
        let long = short.running.clone().expect("it runs");
        for (pause, run, off) in pauses {
            short.close();
            short.pass(pause);
            short.wall_off = off;
            short.open();
            short.run(run);
            prop_assert_eq!(short.file_ms(), long.at(short.reading().up_ms));
        }
    }

    #[test]
    fn a_time_is_shown_as_the_wall_clock_showed_it_or_was_corrected_to(
        boots in proptest::collection::vec((wall_off(), 1..DAY), 1..20),
    ) {
        let mut bench = Bench::new(0, Trust::Unknown);
        let mut sent = Vec::new();
        for (off, on) in boots {
            bench.open();
            // Wrong at first, set right while the node runs.
            (bench.wall_off, bench.trust) = (0, Trust::Synchronised);
            bench.pass(MINUTE);
            bench.note();
            sent.push((bench.file_ms(), bench.truth));
            bench.close();
            bench.reboot(on, MINUTE, off, Trust::Unknown);
        }
        for (file_ms, truth) in sent {
            prop_assert!(bench.shown.wall_ms(file_ms).abs_diff(truth) <= 2 * STEADY_MS);
        }
    }
}
