//! A large backlog: its start, its memory, its pace, its file (target 6).

use std::path::Path;
use std::time::{Duration, Instant};

use waypost::inspect::Inspector;
use waypost::{Config, Mode};

use super::flight::{Tune, batching, plain, unbounded};
use crate::crowd::{CHANNEL, Crowd, fill};
use crate::error::BenchError;
use crate::part::Part;
use crate::payload::PAYLOAD_BYTES;
use crate::record::{Bound, Plot, Record, Unit};
use crate::stage::Stage;
use crate::table::grouped;
use crate::window::{PATIENCE, reach, stalled};

/// Bytes that a message's payload may take in the file, as a multiple of itself and beside it.
const LARGEST_ROW: f64 = 1.5 * PAYLOAD_BYTES as f64 + 100.0;
/// What the file may grow by when it is filled again after a clean-up.
const GROWTH: f64 = 1.1;
/// Messages in a file that is filled twice.
const AGAIN: u64 = 100_000;
const MIB: f64 = 1024.0 * 1024.0;
/// A drain that takes longer is cut short, as a multiple of a window.
const LONGEST_WINDOWS: u32 = 5;

const FIRST: &str = "start to first delivery";
const MEMORY: &str = "resident memory above an idle node";
const ROW: &str = "file size of a message";
const GROWN: &str = "file size when filled again after a clean-up / before";

/// Target 6.
pub(super) async fn run(stage: &Stage, record: &mut Record) -> Result<(), BenchError> {
    let (large, small) = (stage.sizes.backlog, stage.sizes.small_backlog);
    let rate =
        |count: u64, how: &str| format!("rate of a backlog of {}, {how}", grouped(count as f64));
    for _ in 0..stage.sizes.runs {
        let idle = idle_bytes(stage).await?;
        let few = drained(stage, small, Rest::Left).await?;
        record.add(rate(small, "one in flight"), Unit::PerSecond, few.one_in_flight);
        let many = drained(stage, large, Rest::Batched).await?;
        record.add(rate(large, "one in flight"), Unit::PerSecond, many.one_in_flight);
        if let Some(batched) = many.batched {
            record.add(rate(large, "batching"), Unit::PerSecond, batched);
        }
        record.add(FIRST, Unit::Seconds, many.first.as_secs_f64());
        record.add_or_tell("resident memory of an idle node", Unit::Bytes, idle.clone());
        let above = idle.and_then(|idle| many.peak.map(|peak| (peak - idle).max(0.0)));
        record.add_or_tell(MEMORY, Unit::Bytes, above);
        record.add(ROW, Unit::Bytes, many.file_bytes / large as f64);
        record.add(GROWN, Unit::Ratio, filled_again(stage, AGAIN.min(large)).await?);
        stage.progress.round_done();
    }
    let of =
        |what: &str, by: f64| record.runs(what).map(|runs| runs.iter().map(|v| v / by).collect());
    let pending = grouped(large as f64);
    let values = [
        (format!("{FIRST}, {pending} pending, seconds"), Bound::AtMost(1.0), of(FIRST, 1.0)),
        (format!("{MEMORY}, {pending} pending, MiB"), Bound::AtMost(64.0), of(MEMORY, MIB)),
        (format!("{ROW} / (1.5 payload + 100 bytes)"), Bound::AtMost(1.0), of(ROW, LARGEST_ROW)),
        (GROWN.to_owned(), Bound::AtMost(GROWTH), of(GROWN, 1.0)),
    ];
    for (what, bound, values) in values {
        record.judge(6, bound, what, values);
    }
    let (of, to) = (rate(large, "one in flight"), rate(small, "one in flight"));
    record.judge_ratio(6, Bound::AtLeast(0.9), &of, &to);
    record.note("the sending node is alone in its process, and started twice: the slower start counts; its memory is the most that it had, from its start to the end of the drain");
    curves(stage, record).await
}

/// What becomes of the messages that one frame at a time has not brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rest {
    Left,
    /// They are drained with batching on.
    Batched,
}

/// What one backlog showed.
struct Drained {
    one_in_flight: f64,
    /// The rest of it, in frames of many.
    batched: Option<f64>,
    first: Duration,
    /// Or why it is not known.
    peak: Result<f64, String>,
    file_bytes: f64,
}

/// Makes a backlog, stops the node, and starts it again in a process of its own.
async fn drained(stage: &Stage, count: u64, rest: Rest) -> Result<Drained, BenchError> {
    stage.progress.step(format!("backlog: {count} messages wait"));
    let crowd = Crowd::gather(stage, 1, unbounded(plain)).await?;
    crowd.pause().await?;
    crowd.fill(count).await?;
    crowd.sender.shutdown().await;
    let file_bytes = size(&crowd.sender.storage());
    crowd.resume().await?;

    stage.progress.step(format!("backlog: {count} messages, one in flight"));
    let mut config = stage.config(crowd.place(), "sender");
    unbounded(plain)(&mut config);
    let (flow, what) = (&crowd.flow, "messages of a backlog");
    flow.expect(count);
    let (part, mut first) = start(stage, &config, &crowd).await?;
    let one_in_flight = flow.drained(what, stage.sizes.window).await?;
    let mut peak = part.process().peak_bytes();
    part.end().await?;

    let mut batched = None;
    if rest == Rest::Batched && flow.handled() < count {
        stage.progress.step(format!("backlog: {count} messages, batching"));
        batching(&mut config);
        flow.expect(count);
        let (part, again) = start(stage, &config, &crowd).await?;
        first = first.max(again);
        batched = match flow.drained(what, stage.sizes.window * LONGEST_WINDOWS).await {
            // So few were left that there is nothing to measure.
            Err(BenchError::Short { .. }) => None,
            rate => Some(rate?),
        };
        let later = part.process().peak_bytes();
        peak = peak.and_then(|peak| later.map(|later| later.max(peak)));
        part.end().await?;
    }
    crowd.part().await;
    Ok(Drained { one_in_flight, batched, first, peak, file_bytes })
}

/// Starts the sender in a process of its own; how long it took to the next delivery.
async fn start(
    stage: &Stage,
    config: &Config,
    crowd: &Crowd<'_>,
) -> Result<(Part, Duration), BenchError> {
    let mut part = Part::spawn(stage, config).await?;
    let begin = Instant::now();
    part.begin().await?;
    let first = crowd.flow.begun("the first delivery after a start").await? - begin;
    part.begun().await?;
    Ok((part, first))
}

/// The memory of a node with one peer and nothing to do, or why it is not known.
async fn idle_bytes(stage: &Stage) -> Result<Result<f64, String>, BenchError> {
    stage.progress.step("backlog: an idle node");
    let crowd = Crowd::gather(stage, 1, plain).await?;
    crowd.sender.shutdown().await;
    let config = stage.config(crowd.place(), "sender");
    let mut part = Part::spawn(stage, &config).await?;
    part.begin().await?;
    part.begun().await?;
    let deadline = Instant::now() + PATIENCE;
    while part.readers().await? < 1 {
        if Instant::now() > deadline {
            return Err(stalled("the idle node's peer"));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tokio::time::sleep(stage.sizes.window.min(Duration::from_secs(1))).await;
    let bytes = part.process().resident_bytes();
    part.end().await?;
    crowd.part().await;
    Ok(bytes)
}

/// The file's size after a second filling, as a multiple of that after the first, all of it settled and cleaned away in between. The node is
/// stopped before each look, so that nothing is left in the log beside the file.
async fn filled_again(stage: &Stage, count: u64) -> Result<f64, BenchError> {
    stage.progress.step("backlog: space used again");
    let crowd = Crowd::gather(stage, 1, unbounded(plain)).await?;
    crowd.pause().await?;
    let path = crowd.sender.storage();
    crowd.fill(count).await?;
    crowd.sender.shutdown().await;
    let filled = size(&path);
    let forgetful = unbounded(|config: &mut Config| {
        config.retention = Duration::ZERO;
        config.cleanup_interval = Duration::from_millis(20);
    });
    let sender = stage.node(crowd.place(), "sender", forgetful).await?;
    let out = sender.join(CHANNEL, Mode::Writer).await?;
    sender.purge("reader-0", None).await?;
    reach("the clean-up", || messages(&path) == Some(0)).await?;
    fill(&out, &stage.payloads, count).await?;
    sender.shutdown().await;
    let again = size(&path);
    crowd.part().await;
    Ok(again / filled)
}

fn messages(path: &Path) -> Option<u64> {
    let summary = Inspector::open(path).and_then(|inspector| inspector.summary());
    // It is busy for a moment now and then.
    summary.ok().map(|summary| summary.messages)
}

fn size(path: &Path) -> f64 {
    path.metadata().map_or(f64::NAN, |file| file.len() as f64)
}

/// The rate over the size of the backlog, for the plot.
async fn curves(stage: &Stage, record: &mut Record) -> Result<(), BenchError> {
    let ways: [(&str, Tune); 2] = [("one in flight", plain), ("batching", batching)];
    for (name, tune) in ways {
        let mut points = Vec::new();
        let mut count = 1_000;
        while count <= stage.sizes.backlog {
            stage.progress.step(format!("backlog: {count} messages, {name}"));
            let crowd = Crowd::gather(stage, 1, unbounded(tune)).await?;
            crowd.pause().await?;
            crowd.fill(count).await?;
            crowd.flow.expect(count);
            crowd.resume().await?;
            let longest = stage.sizes.window * 2;
            let rate = crowd.flow.drained("messages of a backlog", longest).await?;
            points.push([count as f64, rate]);
            crowd.part().await;
            count *= 10;
        }
        record.draw(Plot::Backlog, name, points);
    }
    Ok(())
}
