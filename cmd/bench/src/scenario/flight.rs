//! One message in flight to each receiver (targets 1 and 2).

use std::num::NonZeroUsize;

use waypost::{Batching, Config};

use super::{cost, scale};
use crate::anchors::jetstream::BATCH;
use crate::anchors::request::Requests;
use crate::crowd::{Crowd, Hands, Pace};
use crate::error::BenchError;
use crate::record::{Bound, Plot, Record, Unit};
use crate::stage::Stage;
use crate::window::Window;

/// Deliveries a second that backlogs are made for: more than one receiver takes, and more than many do.
const FASTEST_ONE: f64 = 40_000.0;
const FASTEST_MANY: f64 = 160_000.0;
/// The same, with batching.
pub(super) const FASTEST_BATCHED: f64 = 1_500_000.0;
/// Requests in flight, and tasks that send.
const AT_ONCE: usize = 64;

const ANCHOR: &str = "async-nats request/reply, one at a time";
const BACKLOG: &str = "waypost, one in flight, a backlog";
const ON_RUNTIME: &str = "waypost, one in flight, a backlog, the handler on a runtime";
const SENDING: &str = "waypost, one in flight, 64 tasks sending";

/// Frames of as many messages as JetStream's batches hold, and no waiting for a frame to fill.
pub(super) fn batching(config: &mut Config) {
    config.batching = Batching::up_to(NonZeroUsize::new(BATCH).expect("above zero"));
}

/// Target 1.
pub(super) async fn one(stage: &Stage, record: &mut Record) -> Result<(), BenchError> {
    for _ in 0..stage.sizes.runs {
        let requests =
            Requests::open(&stage.server, stage.own_subject("request"), &stage.payloads).await?;
        let before = half(stage, &requests, 1, ANCHOR).await?;
        stage.progress.step(format!("one: {BACKLOG}"));
        let waiting = backlog(stage, 1, FASTEST_ONE, plain).await?;
        stage.progress.step(format!("one: {ON_RUNTIME}"));
        let on_runtime = backlog_by(stage, Hands::Runtime, 1, FASTEST_ONE, plain).await?;
        stage.progress.step(format!("one: {SENDING}"));
        let arriving = sending(stage, AT_ONCE, plain).await?;
        let after = half(stage, &requests, 1, ANCHOR).await?;
        record.add(ANCHOR, Unit::PerSecond, f64::midpoint(before, after));
        record.add(BACKLOG, Unit::PerSecond, waiting);
        record.add(ON_RUNTIME, Unit::PerSecond, on_runtime);
        record.add(SENDING, Unit::PerSecond, arriving);
        stage.progress.round_done();
    }
    for what in [BACKLOG, SENDING] {
        record.judge_ratio(1, Bound::AtLeast(0.75), what, ANCHOR);
    }
    Ok(())
}

/// Target 2: what many receivers cost their sender, and what a message costs one of them. Nodes for all of them beside their sender would measure
/// how this machine shares its processors among their threads; that is told, and not judged.
pub(super) async fn many(stage: &Stage, record: &mut Record) -> Result<(), BenchError> {
    let (peers, receivers) = (stage.sizes.peers, stage.sizes.receivers);
    let anchor = format!("async-nats request/reply, {AT_ONCE} at once");
    let served = format!("waypost, one in flight, {peers} simulated receivers, deliveries in all");
    let total = format!("waypost, one in flight, {receivers} receivers, deliveries in all");
    for _ in 0..stage.sizes.runs {
        let requests =
            Requests::open(&stage.server, stage.own_subject("request"), &stage.payloads).await?;
        let before = half(stage, &requests, AT_ONCE, &anchor).await?;
        stage.progress.step(format!("many: {served}"));
        let rate = scale::served(stage).await?;
        let after = half(stage, &requests, AT_ONCE, &anchor).await?;
        record.add(&anchor, Unit::PerSecond, f64::midpoint(before, after));
        record.add(&served, Unit::PerSecond, rate);
        cost::round(stage, FASTEST_ONE, record).await?;
        stage.progress.step(format!("many: {total}"));
        let rate = backlog(stage, receivers, FASTEST_MANY, plain).await?;
        record.add(&total, Unit::PerSecond, rate);
        stage.progress.round_done();
    }
    record.judge_ratio(2, Bound::AtLeast(0.9), &served, &anchor);
    cost::judge(record);
    curves(stage, record).await
}

/// Deliveries a second over the number of receivers, for the plot.
async fn curves(stage: &Stage, record: &mut Record) -> Result<(), BenchError> {
    let ways: [(&str, f64, Tune); 2] =
        [("one in flight", FASTEST_MANY, plain), ("batching", FASTEST_BATCHED, batching)];
    for (name, fastest, tune) in ways {
        let mut points = Vec::new();
        let mut receivers = 1;
        while receivers <= stage.sizes.receivers {
            stage.progress.step(format!("many: {receivers} receivers, {name}"));
            points.push([receivers as f64, backlog(stage, receivers, fastest, tune).await?]);
            receivers *= 2;
        }
        record.draw(Plot::Receivers, name, points);
    }
    Ok(())
}

/// The anchor, half before and half after what it is compared with, so that a machine that grows slower or faster favours neither.
async fn half(
    stage: &Stage,
    requests: &Requests,
    at_once: usize,
    what: &str,
) -> Result<f64, BenchError> {
    stage.progress.step(format!("anchor: {what}"));
    let window = Window { length: stage.sizes.window / 2, ..stage.window() };
    requests.rate(at_once, window).await
}

/// What is set besides the defaults.
pub(super) type Tune = fn(&mut Config);

/// The defaults.
pub(super) fn plain(_: &mut Config) {}

/// The same, and however many may wait.
pub(super) fn unbounded(tune: impl Fn(&mut Config)) -> impl Fn(&mut Config) {
    move |config| {
        tune(config);
        config.queue_limit = NonZeroUsize::MAX;
    }
}

/// Handled messages a second, over all receivers, while each has a backlog.
pub(super) async fn backlog(
    stage: &Stage,
    receivers: usize,
    fastest: f64,
    tune: impl Fn(&mut Config),
) -> Result<f64, BenchError> {
    backlog_by(stage, Hands::Inline, receivers, fastest, tune).await
}

async fn backlog_by(
    stage: &Stage,
    hands: Hands,
    receivers: usize,
    fastest: f64,
    tune: impl Fn(&mut Config),
) -> Result<f64, BenchError> {
    let seconds = (stage.sizes.window + stage.sizes.warm).as_secs_f64();
    let count = (fastest * stage.sizes.share * seconds / receivers as f64) as u64;
    let crowd = Crowd::gather_with(stage, receivers, (hands, None), unbounded(tune)).await?;
    crowd.pause().await?;
    crowd.fill(count).await?;
    crowd.resume().await?;
    let window = Window { end: Some(count * receivers as u64), ..stage.window() };
    let rate = window.rate("messages of a backlog", || crowd.flow.handled()).await?;
    crowd.part().await;
    Ok(rate)
}

/// Handled messages a second while so many tasks send, so that messages always wait.
pub(super) async fn sending(
    stage: &Stage,
    tasks: usize,
    tune: impl Fn(&mut Config),
) -> Result<f64, BenchError> {
    let crowd = Crowd::gather(stage, 1, unbounded(tune)).await?;
    let handled = stage.window().rate("messages of 64 tasks", || crowd.flow.handled());
    let rate = crowd.while_sending(tasks, Pace::ByReader, handled).await?;
    crowd.part().await;
    Ok(rate)
}
