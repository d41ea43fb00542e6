//! The same without an fsync at every commit: told, so that nobody has to guess what it would bring; never the default.

use waypost::{Config, Durability};

use crate::error::BenchError;
use crate::record::{Record, Unit};
use crate::scenario::batched::SENDING_TASKS;
use crate::scenario::flight::{batching, sending};
use crate::scenario::senders::committed;
use crate::stage::Stage;

/// Judges nothing.
pub(super) async fn run(stage: &Stage, record: &mut Record) -> Result<(), BenchError> {
    let normal = |config: &mut Config| config.durability = Durability::Normal;
    let normal_batching = |config: &mut Config| {
        normal(config);
        batching(config);
    };
    for _ in 0..stage.sizes.runs {
        for tasks in [1, 64] {
            let what = format!(
                "Durability::Normal: send from {tasks} task{}",
                if tasks == 1 { "" } else { "s" }
            );
            stage.progress.step(format!("normal: {what}"));
            record.add(what, Unit::PerSecond, committed(stage, tasks, normal).await?);
        }
        let what = "Durability::Normal: one in flight, 64 tasks sending";
        stage.progress.step(format!("normal: {what}"));
        record.add(what, Unit::PerSecond, sending(stage, 64, normal).await?);
        let what = "Durability::Normal: batching, live";
        stage.progress.step(format!("normal: {what}"));
        let rate = sending(stage, SENDING_TASKS, normal_batching).await?;
        record.add(what, Unit::PerSecond, rate);
        stage.progress.round_done();
    }
    record.note("a power cut can lose the last messages that were sent");
    Ok(())
}
