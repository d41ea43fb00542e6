//! Concurrent senders: one fsync serves all who wait for it (target 8).

use std::time::Duration;

use waypost::Config;

use crate::anchors::fsync::{self, APPEND_BYTES};
use crate::crowd::{Crowd, Pace};
use crate::error::BenchError;
use crate::record::{Bound, Record, Unit};
use crate::scenario::flight::{plain, unbounded};
use crate::stage::Stage;

/// Target 8. Nobody reads: what delivery costs is measured elsewhere.
pub(super) async fn run(stage: &Stage, record: &mut Record) -> Result<(), BenchError> {
    let what = |tasks: usize| match tasks {
        1 => "send from one task".to_owned(),
        _ => format!("send from {tasks} tasks"),
    };
    for _ in 0..stage.sizes.runs {
        let anchor = format!("fsyncs of an append of {APPEND_BYTES} bytes, one after the other");
        stage.progress.step(format!("senders: {anchor}"));
        let times = fsync::times(stage.folder(), stage.sizes.window).await?;
        let seconds: f64 = times.iter().map(Duration::as_secs_f64).sum();
        record.add(anchor, Unit::PerSecond, times.len() as f64 / seconds);
        for tasks in [1, 64, 1_024] {
            stage.progress.step(format!("senders: {}", what(tasks)));
            record.add(what(tasks), Unit::PerSecond, committed(stage, tasks, plain).await?);
        }
        stage.progress.round_done();
    }
    record.judge_ratio(8, Bound::AtLeast(15.0), &what(64), &what(1));
    Ok(())
}

/// Messages a second whose `send` returned.
pub(super) async fn committed(
    stage: &Stage,
    tasks: usize,
    tune: impl Fn(&mut Config),
) -> Result<f64, BenchError> {
    let crowd = Crowd::gather(stage, 0, unbounded(tune)).await?;
    let sent = stage.window().rate("commits", || crowd.flow.sent());
    let rate = crowd.while_sending(tasks, Pace::Free, sent).await?;
    crowd.part().await;
    Ok(rate)
}
