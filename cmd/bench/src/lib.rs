//! What waypost does a second, beside what the wire, the disk and JetStream do: scenarios, anchors measured in the same run, ratios
//! with targets, and a report. `waypost bench` runs it.
//!
//! Absolute figures drift with the machine and with what else it does; ratios of things measured one right after the other do so less.
//! So every scenario measures its own anchors, round by round in turn with what it judges, and a ratio is taken within a round.
#![deny(clippy::print_stdout, clippy::print_stderr, clippy::disallowed_methods)]

mod anchors;
mod crowd;
mod error;
mod flow;
mod machine;
mod options;
mod pace;
mod part;
mod payload;
mod places;
mod process;
mod progress;
mod proxy;
mod record;
mod report;
mod results;
mod scenario;
mod server;
mod simulator;
mod stage;
mod stats;
mod table;
mod window;

pub use error::BenchError;
pub use options::{Options, Scenario, UnknownScenario};
pub use part::serve as serve_part;
pub use record::{Figure, Judgement, Unit, Verdict};
pub use results::{Results, Standing};

use record::Record;
use stage::Stage;

/// How a run ended that did not fail.
#[derive(Debug)]
pub enum Run {
    /// All scenarios ran.
    Finished(Box<Results>),
    /// It was asked to stop; nothing of it is left.
    Stopped,
}

/// Runs the scenarios, and writes what the options ask for.
///
/// When `stop` is ready the run ends at once. However it ends, no node, stream or file of it is left.
///
/// # Errors
/// No server, one that went away, a folder that cannot be written or is full, or a node that fails.
pub async fn run(options: Options, stop: impl Future<Output = ()>) -> Result<Run, BenchError> {
    let targets = places::Places::check(&options)?;
    let started = std::time::SystemTime::now();
    let (stage, mut lost) = Stage::set(options).await?;
    let ended = tokio::select! {
        records = play(&stage) => Some(records),
        url = lost.lost() => Some(Err(BenchError::ServerLost { url, during: stage.progress.now() })),
        () = stop => None,
    };
    let (options, facts) = stage.clear().await;
    let Some(records) = ended else { return Ok(Run::Stopped) };
    let results = Results::new(started, &options, facts, records?);
    targets.write(&results)?;
    Ok(Run::Finished(Box::new(results)))
}

async fn play(stage: &Stage) -> Result<Vec<Record>, BenchError> {
    let mut records = Vec::new();
    for scenario in stage.options.chosen() {
        let mut record = Record::new(scenario, stage.options.quick);
        scenario::run(stage, scenario, &mut record).await?;
        records.push(record);
    }
    stage.progress.finish();
    Ok(records)
}
