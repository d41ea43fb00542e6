//! What a message writes to the disk, beside a plain row (target 9).

use std::time::Duration;

use futures_util::future::{try_join, try_join_all};
use tokio::time::{Instant, sleep, sleep_until};

use super::scale::known;
use crate::error::BenchError;
use crate::part::Part;
use crate::record::{Bound, Record, Unit};
use crate::stage::{Place, Stage};
use crate::window::{PATIENCE, stalled};

/// Messages a second, what they are called, and how many are sent.
const RATES: [(f64, &str, u32); 4] = [
    (0.1, "one message in 10 s", 12),
    (1.0, "1 message a second", 60),
    (20.0, "20 messages a second", 1_200),
    (100.0, "100 messages a second", 6_000),
];
/// Messages before those that are measured.
const WARM_UP: u32 = 3;
/// What is written for a message is written within this time, but for what the system keeps back.
const REST: Duration = Duration::from_secs(5);
/// At least so many are sent at each rate.
const FEWEST: u32 = 3;

/// One round: writes are counted, not timed. Nodes of all rates run side by side.
pub(super) async fn run(stage: &Stage, record: &mut Record) -> Result<(), BenchError> {
    stage.progress.step("wear: all rates side by side");
    let measured = try_join_all(RATES.map(|(rate, _, count)| at_rate(stage, rate, count))).await?;
    for ((_, name, _), written) in RATES.iter().zip(measured) {
        let [row, sender, receiver] =
            ["plain row", "sender", "receiver"].map(|who| format!("{name}, {who}"));
        for (what, written) in [&row, &sender, &receiver].into_iter().zip(written.each()) {
            record.add_or_tell(what, Unit::Bytes, written);
        }
        record.judge_ratio(9, Bound::AtMost(1.5), &sender, &row);
        record.judge_ratio(9, Bound::AtMost(0.75), &receiver, &row);
    }
    record.note("one round: what is written is counted, and does not drift");
    (0..stage.sizes.runs).for_each(|_| stage.progress.round_done());
    Ok(())
}

/// What each process wrote for a message.
struct Written(Result<[f64; 3], String>);

impl Written {
    fn each(self) -> [Result<f64, String>; 3] {
        match self.0 {
            Ok(bytes) => bytes.map(Ok),
            Err(why) => [0; 3].map(|_| Err(why.clone())),
        }
    }
}

async fn at_rate(stage: &Stage, rate: f64, count: u32) -> Result<Written, BenchError> {
    let place = stage.place()?;
    let count = (f64::from(count) * stage.sizes.wear) as u32;
    let interval = if stage.options.quick { 0.1_f64.min(1.0 / rate) } else { 1.0 / rate };
    let written =
        in_place(stage, &place, Duration::from_secs_f64(interval), count.max(FEWEST)).await;
    stage.leave(place).await;
    written
}

async fn in_place(
    stage: &Stage,
    place: &Place,
    interval: Duration,
    count: u32,
) -> Result<Written, BenchError> {
    let mut sender = Part::spawn(stage, &stage.config(place, "sender")).await?;
    let mut reader = Part::spawn(stage, &stage.config(place, "reader")).await?;
    let mut rows = Part::spawn(stage, &stage.config(place, "rows")).await?;
    reader.read().await?;
    sender.begin().await?;
    sender.begun().await?;
    rows.rows(&place.file("rows.db")).await?;
    known(1, async || sender.readers().await).await?;
    pace(&mut sender, &mut rows, interval.min(Duration::from_millis(100)), WARM_UP).await?;
    sleep(if stage.options.quick { Duration::ZERO } else { REST }).await;
    let processes = [rows.process(), sender.process(), reader.process()];
    let look = || processes.map(|process| process.written_bytes());
    let before = look();
    pace(&mut sender, &mut rows, interval, count).await?;
    sleep(if stage.options.quick { Duration::ZERO } else { REST }).await;
    let deadline = Instant::now() + PATIENCE;
    while reader.taken().await? < u64::from(WARM_UP + count) {
        if Instant::now() > deadline {
            return Err(stalled("the last message that is counted"));
        }
        sleep(Duration::from_millis(20)).await;
    }
    let after = look();
    for part in [sender, reader, rows] {
        part.end().await?;
    }
    Ok(Written(each(before, after, count)))
}

fn each(
    before: [Result<u64, String>; 3],
    after: [Result<u64, String>; 3],
    count: u32,
) -> Result<[f64; 3], String> {
    let mut written = [0.0; 3];
    for ((written, before), after) in written.iter_mut().zip(before).zip(after) {
        *written = (after? - before?) as f64 / f64::from(count);
    }
    if written[0] == 0.0 {
        return Err("nothing is written to this disk (is it in memory?)".to_owned());
    }
    Ok(written)
}

/// Sends so many messages, and writes as many rows, each at its time.
async fn pace(
    sender: &mut Part,
    rows: &mut Part,
    interval: Duration,
    count: u32,
) -> Result<(), BenchError> {
    let begin = Instant::now();
    for n in 0..count {
        sleep_until(begin + interval * n).await;
        try_join(sender.send(), rows.row()).await?;
    }
    // What came last has had its time as well.
    sleep_until(begin + interval * count).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_before_is_not_counted_and_nothing_is_no_anchor() {
        let ok = |bytes: [u64; 3]| bytes.map(Ok);
        assert_eq!(each(ok([10, 20, 30]), ok([30, 60, 90]), 2), Ok([10.0, 20.0, 30.0]));
        assert!(each(ok([10, 20, 30]), ok([10, 60, 90]), 2).is_err());
        let untold = || Err("no /proc".to_owned());
        let before = [Ok(1), untold(), Ok(1)];
        assert_eq!(each(before, ok([9, 9, 9]), 2), Err("no /proc".to_owned()));
    }
}
