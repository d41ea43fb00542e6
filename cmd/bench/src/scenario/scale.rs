//! One node with a thousand peers: what it costs to know them, and whether all are served alike (target 7).

use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use crate::error::BenchError;
use crate::part::Part;
use crate::record::{Bound, Record, Unit};
use crate::simulator::Simulator;
use crate::stage::{Place, Stage};
use crate::stats::Spread;
use crate::window::{PATIENCE, reach, stalled};

const PROCESSOR: &str = "processor time of an idle node";
const MEMORY: &str = "resident memory of a peer";
const SLOWEST: &str = "slowest receiver / median receiver";

/// Target 7.
pub(super) async fn run(stage: &Stage, record: &mut Record) -> Result<(), BenchError> {
    let peers = stage.sizes.peers;
    let served = format!("{peers} receivers at once, deliveries in all");
    for _ in 0..stage.sizes.runs {
        let place = stage.place()?;
        let mut part = sender(stage, &place).await?;
        let process = part.process();
        let alone = process.resident_bytes();
        stage.progress.step(format!("scale: {peers} peers arrive"));
        let simulator = Simulator::start(stage, place.prefix(), peers).await?;
        known(peers as u64, async || part.readers().await).await?;

        stage.progress.step(format!("scale: {peers} peers, idle"));
        let (begin, before) = (Instant::now(), process.processor_time());
        tokio::time::sleep(stage.sizes.idle).await;
        let (seconds, after) = (begin.elapsed().as_secs_f64(), process.processor_time());
        let used = before.and_then(|before| Ok(after?.saturating_sub(before)));
        let share = used.map(|used| 100.0 * used.as_secs_f64() / seconds);
        record.add_or_tell(PROCESSOR, Unit::Percent, share);
        let grown = alone.and_then(|alone| Ok((process.resident_bytes()? - alone).max(0.0)));
        record.add_or_tell(MEMORY, Unit::Bytes, grown.map(|grown| grown / peers as f64));

        stage.progress.step(format!("scale: {served}"));
        let (rate, fairness) = serve(stage, &mut part, &simulator).await?;
        record.add(&served, Unit::PerSecond, rate);
        record.add(SLOWEST, Unit::Ratio, fairness);
        part.end().await?;
        drop(simulator);
        stage.leave(place).await;
        stage.progress.round_done();
    }
    record.note("the peers are simulated on one connection; the node is alone in its process");
    let of =
        |what: &str, by: f64| record.runs(what).map(|runs| runs.iter().map(|v| v / by).collect());
    let values = [
        (
            format!("{PROCESSOR} with {peers} peers, % of one core"),
            Bound::AtMost(2.0),
            of(PROCESSOR, 1.0),
        ),
        (format!("{MEMORY}, KiB"), Bound::AtMost(32.0), of(MEMORY, 1024.0)),
        (format!("{peers} receivers: {SLOWEST}"), Bound::AtLeast(0.5), of(SLOWEST, 1.0)),
    ];
    for (what, bound, values) in values {
        record.judge(7, bound, what, values);
    }
    Ok(())
}

/// Deliveries a second of a node that is alone in its process, to as many simulated receivers at once.
pub(super) async fn served(stage: &Stage) -> Result<f64, BenchError> {
    let place = stage.place()?;
    let mut part = sender(stage, &place).await?;
    let simulator = Simulator::start(stage, place.prefix(), stage.sizes.peers).await?;
    known(stage.sizes.peers as u64, async || part.readers().await).await?;
    let (rate, _) = serve(stage, &mut part, &simulator).await?;
    part.end().await?;
    drop(simulator);
    stage.leave(place).await;
    Ok(rate)
}

/// A node that is alone in its process and refuses nothing.
async fn sender(stage: &Stage, place: &Place) -> Result<Part, BenchError> {
    let mut config = stage.config(place, "sender");
    config.queue_limit = NonZeroUsize::MAX;
    let mut part = Part::spawn(stage, &config).await?;
    part.begin().await?;
    part.begun().await?;
    Ok(part)
}

/// Waits until a node knows so many readers.
pub(super) async fn known(
    peers: u64,
    mut readers: impl AsyncFnMut() -> Result<u64, BenchError>,
) -> Result<(), BenchError> {
    let deadline = Instant::now() + PATIENCE;
    while readers().await? < peers {
        if Instant::now() > deadline {
            return Err(stalled("the peers do not become known"));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// Deliveries a second over all, and how the slowest receiver fares beside the one in the middle.
async fn serve(
    stage: &Stage,
    part: &mut Part,
    simulator: &Simulator,
) -> Result<(f64, f64), BenchError> {
    part.fill(stage.sizes.many_each).await?;
    simulator.resume().await;
    reach("the first of a thousand receivers", || simulator.handled_by_all() > 0).await?;
    tokio::time::sleep(stage.sizes.warm).await;
    let (begin, before) = (Instant::now(), simulator.handled());
    // Long enough for every receiver to be served many times over.
    let length = 2 * stage.sizes.window;
    let most = before.len() as u64 * stage.sizes.many_each;
    while begin.elapsed() < length && simulator.handled_by_all() < most {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (seconds, after) = (begin.elapsed().as_secs_f64(), simulator.handled());
    let gained: Vec<f64> = before.iter().zip(&after).map(|(b, a)| (a - b) as f64).collect();
    let spread = Spread::of(&gained);
    let spread = spread.filter(|spread| spread.median > 0.0);
    let spread =
        spread.ok_or_else(|| BenchError::Short { what: "a thousand receivers".to_owned() })?;
    Ok((gained.iter().sum::<f64>() / seconds, spread.min / spread.median))
}
