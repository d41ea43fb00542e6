//! Frames of many messages, beside JetStream (target 3).

use std::time::Duration;

use super::flight::{batching, sending, unbounded};
use crate::anchors::jetstream::{BATCH, JetStream, WINDOW};
use crate::crowd::Crowd;
use crate::error::BenchError;
use crate::record::{Bound, Record, Unit};
use crate::stage::Stage;
use crate::table::grouped;

/// Tasks that send: as many messages wait for their commit as JetStream's publisher has unacknowledged.
pub(super) const SENDING_TASKS: usize = WINDOW;
/// A drain that takes longer is cut short, as a multiple of a window.
const LONGEST_WINDOWS: u32 = 5;

const LIVE: &str = "waypost, batching, live";
const LIVE_DEFAULT: &str = "JetStream live";
const LIVE_ALWAYS: &str = "JetStream live, sync_interval: always";

/// Target 3, live.
pub(super) async fn live(stage: &Stage, record: &mut Record) -> Result<(), BenchError> {
    let servers = [
        (&stage.jetstream, LIVE_DEFAULT, ""),
        (&stage.jetstream_always, LIVE_ALWAYS, ", sync_interval: always"),
    ];
    for _ in 0..stage.sizes.runs {
        for (jetstream, what, which) in servers {
            stage.progress.step(format!("live: {what}"));
            let rate = match jetstream {
                Ok(jetstream) => jetstream.live(&stage.payloads, stage.window()).await,
                Err(why) => Err(why.clone()),
            };
            record.add_or_tell(what, Unit::PerSecond, rate);
            publish_rates(stage, record, jetstream, which).await;
        }
        stage.progress.step(format!("live: {LIVE}"));
        record.add(LIVE, Unit::PerSecond, sending(stage, SENDING_TASKS, batching).await?);
        stage.progress.round_done();
    }
    record.judge_ratio(3, Bound::AtLeast(1.5), LIVE, LIVE_DEFAULT);
    record.judge_ratio(3, Bound::AtLeast(15.0), LIVE, LIVE_ALWAYS);
    Ok(())
}

/// Told beside it: what publishing alone does.
async fn publish_rates(
    stage: &Stage,
    record: &mut Record,
    jetstream: &Result<JetStream, String>,
    which: &str,
) {
    let Ok(jetstream) = jetstream else { return };
    for (outstanding, how) in [(1, "one at a time"), (WINDOW, "256 outstanding")] {
        let what = format!("JetStream publish, {how}{which}");
        stage.progress.step(format!("live: {what}"));
        let rate = jetstream.publish(&stage.payloads, outstanding, stage.window()).await;
        record.add_or_tell(&what, Unit::PerSecond, rate);
    }
}

/// Target 3, a stored backlog.
pub(super) async fn drain(stage: &Stage, record: &mut Record) -> Result<(), BenchError> {
    let count = stage.sizes.backlog;
    let waiting = grouped(count as f64);
    let anchor = format!("JetStream, a stream of {waiting} drained in batches of {BATCH}");
    let what = format!("waypost, batching, a backlog of {waiting} drained");
    let longest = stage.sizes.window * LONGEST_WINDOWS;
    for _ in 0..stage.sizes.runs {
        stage.progress.step(format!("drain: {anchor}"));
        let rates = match &stage.jetstream {
            Ok(jetstream) => jetstream.drain(&stage.payloads, count, longest).await,
            Err(why) => Err(why.clone()),
        };
        record.add_or_tell(&anchor, Unit::PerSecond, rates.map(|(_, drained)| drained));
        stage.progress.step(format!("drain: {what}"));
        record.add(&what, Unit::PerSecond, drained(stage, count, longest).await?);
        stage.progress.round_done();
    }
    record.note(format!(
        "a drain that is not over after {} is judged by its rate until then",
        humantime::format_duration(longest)
    ));
    record.judge_ratio(3, Bound::AtLeast(2.5), &what, &anchor);
    Ok(())
}

async fn drained(stage: &Stage, count: u64, longest: Duration) -> Result<f64, BenchError> {
    let crowd = Crowd::gather(stage, 1, unbounded(batching)).await?;
    crowd.pause().await?;
    crowd.fill(count).await?;
    crowd.flow.expect(count);
    crowd.resume().await?;
    let rate = crowd.flow.drained("messages of a backlog", longest).await?;
    crowd.part().await;
    Ok(rate)
}
