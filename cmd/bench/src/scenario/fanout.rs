//! Many readers of one channel (target 4).

use std::sync::Arc;
use std::time::Duration;

use waypost::Node;

use super::batched::SENDING_TASKS;
use super::flight::{FASTEST_BATCHED, backlog, batching, plain, sending, unbounded};
use crate::crowd::{CHANNEL, Pace, Senders};
use crate::error::BenchError;
use crate::flow::Flow;
use crate::record::{Bound, Record, Unit};
use crate::simulator::Simulator;
use crate::stage::Stage;
use crate::window::{PATIENCE, stalled};

const LIVE: &str = "waypost, batching, live, one receiver";

/// Target 4.
pub(super) async fn run(stage: &Stage, record: &mut Record) -> Result<(), BenchError> {
    let (many, receivers) = (stage.sizes.peers, stage.sizes.receivers);
    let cost = |tasks: usize, readers: usize| {
        let plural = |n: usize| if n == 1 { "" } else { "s" };
        format!(
            "time of a send: {tasks} task{}, {readers} reader{}",
            plural(tasks),
            plural(readers)
        )
    };
    let total = format!("waypost, batching, {receivers} receivers, deliveries in all");
    for _ in 0..stage.sizes.runs {
        for readers in [1, many] {
            for (tasks, each) in [1, 64].into_iter().zip(costs(stage, readers, [1, 64]).await?) {
                record.add(cost(tasks, readers), Unit::Microseconds, each);
            }
        }
        stage.progress.step(format!("fanout: {LIVE}"));
        let live = sending(stage, SENDING_TASKS, batching).await?;
        record.add(LIVE, Unit::PerSecond, live);
        stage.progress.step(format!("fanout: {total}"));
        record.add(
            &total,
            Unit::PerSecond,
            backlog(stage, receivers, FASTEST_BATCHED, batching).await?,
        );
        stage.progress.round_done();
    }
    record.note(format!(
        "the {many} readers are simulated, known to the node, online and paused: what delivering to them costs is not a cost of send; with 64 \
         tasks a send's time is that of one of 64 at the same time"
    ));
    for tasks in [1, 64] {
        record.judge_ratio(4, Bound::AtMost(1.2), &cost(tasks, many), &cost(tasks, 1));
    }
    record.judge_ratio(4, Bound::AtLeast(5.0), &total, LIVE);
    Ok(())
}

/// Microseconds of a send, by so many tasks at the same time.
async fn costs<const N: usize>(
    stage: &Stage,
    readers: usize,
    tasks: [usize; N],
) -> Result<[f64; N], BenchError> {
    let place = stage.place()?;
    let node = stage.node(&place, "sender", unbounded(plain)).await?;
    let out = node.join(CHANNEL, waypost::Mode::Writer).await?;
    stage.progress.step(format!("fanout: {readers} readers arrive"));
    let simulator = Simulator::start(stage, place.prefix(), readers).await?;
    known(&node, readers).await?;
    let mut costs = [0.0; N];
    for (cost, tasks) in costs.iter_mut().zip(tasks) {
        stage.progress.step(format!("fanout: send from {tasks}, {readers} readers"));
        let flow = Arc::new(Flow::default());
        let senders = Senders { out: &out, payloads: &stage.payloads, flow: &flow };
        let sent = stage.window().rate("commits", || flow.sent());
        let rate = senders.work(tasks, Pace::Free, sent).await?;
        *cost = tasks as f64 * 1e6 / rate;
    }
    drop(simulator);
    stage.leave(place).await;
    Ok(costs)
}

async fn known(node: &Node, readers: usize) -> Result<(), BenchError> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while node.subscribers(CHANNEL).await?.len() < readers {
        if tokio::time::Instant::now() > deadline {
            return Err(stalled("the readers do not become known"));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}
