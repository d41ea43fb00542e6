//! How a step is measured: in time, or in instructions.

use std::hint::black_box;
use std::process::ExitCode;

use criterion::{BatchSize, Criterion, Throughput};

/// What is measured.
pub(crate) struct Case {
    pub(crate) group: &'static str,
    pub(crate) name: &'static str,
    /// How many messages one step is about.
    pub(crate) messages: u64,
    /// Whether many inputs and results of it may be in memory at the same time.
    pub(crate) batch: BatchSize,
}

impl Case {
    /// A step about one message that takes little memory.
    pub(crate) const fn one(group: &'static str, name: &'static str) -> Self {
        Self { group, name, messages: 1, batch: BatchSize::SmallInput }
    }

    /// A step about several messages, or much memory.
    pub(crate) const fn large(group: &'static str, name: &'static str, messages: u64) -> Self {
        Self { group, name, messages, batch: BatchSize::LargeInput }
    }
}

pub(crate) trait Meter {
    /// Measures `step`. What it takes is made before, and what it returns is dropped afterwards: neither is measured.
    fn measure<I, O>(&mut self, case: Case, make: impl FnMut() -> I, step: impl FnMut(I) -> O);
}

/// Measures times.
pub(crate) struct Times<'a>(pub(crate) &'a mut Criterion);

impl Meter for Times<'_> {
    fn measure<I, O>(&mut self, case: Case, make: impl FnMut() -> I, step: impl FnMut(I) -> O) {
        let (mut make, mut step) = (make, step);
        let mut group = self.0.benchmark_group(case.group);
        group.throughput(Throughput::Elements(case.messages));
        group.bench_function(case.name, |b| b.iter_batched(&mut make, &mut step, case.batch));
        group.finish();
    }
}

/// Runs one case so often that callgrind can count its instructions, or lists all cases.
pub(crate) struct Instructions {
    /// `None`: lists them.
    wanted: Option<(String, u32)>,
    found: bool,
}

/// Steps before the ones that are counted, which bring buffers to their size.
const WARM_UP: u32 = 4;

impl Instructions {
    /// For the arguments `--instructions`, alone or with the case's full name and how often it shall run.
    pub(crate) fn asked_for() -> Option<Self> {
        let mut words = std::env::args().skip(1);
        words.next().filter(|word| word == "--instructions")?;
        let wanted = words.next().zip(words.next());
        let wanted = wanted.map(|(name, times)| {
            (name, times.parse().expect("scripts/instructions gives a number"))
        });
        Some(Self { wanted, found: false })
    }

    /// Fails if the case that was asked for is none.
    pub(crate) fn end(self) -> ExitCode {
        match self.wanted {
            Some((name, _)) if !self.found => {
                eprintln!("micro: there is no {name:?}");
                ExitCode::FAILURE
            }
            _ => ExitCode::SUCCESS,
        }
    }
}

impl Meter for Instructions {
    fn measure<I, O>(&mut self, case: Case, make: impl FnMut() -> I, step: impl FnMut(I) -> O) {
        let (mut make, mut step) = (make, step);
        let name = format!("{}/{}", case.group, case.name);
        let Some((wanted, times)) = &self.wanted else {
            return println!("{}\t{name}", case.messages);
        };
        if *wanted != name {
            return;
        }
        self.found = true;
        for _ in 0..WARM_UP {
            drop(black_box(step(black_box(make()))));
        }
        for _ in 0..*times {
            let input = make();
            drop(counted_by_callgrind(&mut step, input));
        }
    }
}

/// callgrind is told to count inside of this function and nowhere else.
#[inline(never)]
fn counted_by_callgrind<I, O>(step: &mut impl FnMut(I) -> O, input: I) -> O {
    black_box(step(black_box(input)))
}
