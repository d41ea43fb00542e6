//! From the call of `send` to the start of the handler, at a steady pace and after a silence (target 5).

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use waypost::{Channel, Mode};

use crate::anchors::fsync;
use crate::anchors::request::Requests;
use crate::crowd::CHANNEL;
use crate::error::BenchError;
use crate::pace;
use crate::payload::{stamp, stamped};
use crate::record::{Bound, Plot, Record, Unit};
use crate::scenario::flight::plain;
use crate::stage::{Place, Stage};
use crate::window::reach;

const A_SECOND: u32 = 1_000;
const INTERVAL: Duration = Duration::from_millis(1);
/// The p99 may be this much above the fsync's.
const SLACK: Duration = Duration::from_millis(5);
/// Messages before those that are measured, in each turn.
const WARM_UP: u32 = 100;

const WAYPOST: &str = "waypost, send to handler";
const FIRST: &str = "waypost, first message after a silence";
const FSYNC: &str = "fsync";
const REQUEST: &str = "async-nats request/reply";
const STREAM: &str = "JetStream, publish to consumer";

/// Target 5.
pub(super) async fn run(stage: &Stage, record: &mut Record) -> Result<(), BenchError> {
    let mut all: [(&str, Vec<Duration>); 4] =
        [FSYNC, REQUEST, WAYPOST, STREAM].map(|what| (what, Vec::new()));
    for _ in 0..stage.sizes.runs {
        stage.progress.step("latency: fsync");
        let flat_out = fsync::times(stage.folder(), stage.sizes.window).await?;
        record.add("fsync, one after the other, p50", Unit::Microseconds, micros(&flat_out, 0.5)?);
        stage.progress.step("latency: fsync, request/reply, waypost, JetStream in turn");
        let scene = Scene::set(stage).await?;
        let (rounds, why) = scene.in_turn(stage).await?;
        stage.progress.step(format!(
            "latency: {} of silence",
            humantime::format_duration(stage.sizes.silence)
        ));
        tokio::time::sleep(stage.sizes.silence).await;
        let first = scene.first().await?;
        stage.leave(scene.place).await;
        if let Some(why) = why {
            record.miss(STREAM, why);
        }
        for ((what, all), round) in all.iter_mut().zip(rounds) {
            if !round.is_empty() {
                add(record, what, &round)?;
            }
            all.extend(round);
        }
        record.add(FIRST, Unit::Microseconds, first.as_secs_f64() * 1e6);
        stage.progress.round_done();
    }
    judge(record);
    for (what, mut times) in all {
        times.sort_unstable();
        record.draw(Plot::Latency, what, distribution(&times));
    }
    record.note(format!(
        "{A_SECOND} a second in an open loop: each has its time, whatever became of those before it, and is measured from then on; the anchors \
         go at the same pace"
    ));
    Ok(())
}

fn add(record: &mut Record, what: &str, times: &[Duration]) -> Result<(), BenchError> {
    for (name, share) in [("p50", 0.5), ("p99", 0.99), ("most", 1.0)] {
        record.add(format!("{what}, {name}"), Unit::Microseconds, micros(times, share)?);
    }
    Ok(())
}

fn micros(times: &[Duration], share: f64) -> Result<f64, BenchError> {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let time = pace::percentile(&sorted, share);
    let short = || BenchError::Short { what: "times of single messages".to_owned() };
    Ok(time.ok_or_else(short)?.as_secs_f64() * 1e6)
}

fn judge(record: &mut Record) {
    let shares = |of: &str, limit: &dyn Fn(usize) -> Result<f64, String>| {
        let runs = record.runs(of)?;
        runs.iter().enumerate().map(|(n, value)| Ok(value / limit(n)?)).collect()
    };
    let run = |what: String, n: usize| -> Result<f64, String> {
        let runs = record.runs(&what)?;
        runs.get(n).copied().ok_or_else(|| format!("{what} is missing in a round"))
    };
    let p50 = |n| Ok(run(format!("{FSYNC}, p50"), n)? + 2.0 * run(format!("{REQUEST}, p50"), n)?);
    let p99 = |n| Ok(run(format!("{FSYNC}, p99"), n)? + SLACK.as_secs_f64() * 1e6);
    let values = [
        ("p50 / (fsync p50 + 2 request/reply p50)", 1.0, shares(&format!("{WAYPOST}, p50"), &p50)),
        ("p99 / (fsync p99 + 5 ms)", 1.0, shares(&format!("{WAYPOST}, p99"), &p99)),
        ("first message after a silence / (fsync p99 + 5 ms)", 2.0, shares(FIRST, &p99)),
    ];
    for (what, most, values) in values {
        record.judge(5, Bound::AtMost(most), what, values);
    }
}

/// Share of the messages against the time that they took at most, in microseconds.
fn distribution(sorted: &[Duration]) -> Vec<[f64; 2]> {
    let shares = (0..100).map(f64::from).chain([99.5, 99.9, 99.95, 99.99]);
    shares
        .filter_map(|percent| {
            let time = pace::percentile(sorted, percent / 100.0)?;
            Some([percent, time.as_secs_f64() * 1e6])
        })
        .collect()
}

/// A sender and a reader that notes when each message came.
struct Scene {
    place: Place,
    out: Channel,
    epoch: Instant,
    times: Arc<Mutex<Vec<Duration>>>,
}

impl Scene {
    async fn set(stage: &Stage) -> Result<Self, BenchError> {
        let place = stage.place()?;
        let epoch = Instant::now();
        let times = Arc::new(Mutex::new(Vec::new()));
        let sender = stage.node(&place, "sender", plain).await?;
        let reader = stage.node(&place, "reader", plain).await?;
        let incoming = reader.join(CHANNEL, Mode::Reader).await?;
        let noted = Arc::clone(&times);
        let handler = move |message: waypost::Message| {
            let now = epoch.elapsed();
            if let Some(sent) = stamp(message.payload()) {
                noted.lock().expect("nothing panics with it").push(now.saturating_sub(sent));
            }
            std::future::ready(Ok(()))
        };
        incoming.on_message(handler).await?;
        let out = sender.join(CHANNEL, Mode::Writer).await?;
        let scene = Self { place, out, epoch, times };
        // Until this one arrives they do not know each other.
        scene.first().await?;
        Ok(scene)
    }

    /// Sends one message, and waits for it.
    async fn first(&self) -> Result<Duration, BenchError> {
        self.times.lock().expect("nothing panics with it").clear();
        self.out.send(stamped(self.epoch.elapsed())).await?;
        let came = || !self.times.lock().expect("nothing panics with it").is_empty();
        reach("a single message", came).await?;
        Ok(self.times.lock().expect("nothing panics with it")[0])
    }

    /// The times of fsyncs, requests, our messages and JetStream's. They take turns several times, because a disk that others use too is not the
    /// same from one second to the next. And why there are none of JetStream's.
    async fn in_turn(
        &self,
        stage: &Stage,
    ) -> Result<([Vec<Duration>; 4], Option<String>), BenchError> {
        let turn = stage.sizes.window.mul_f64(2.0 / f64::from(stage.sizes.turns));
        let count = WARM_UP + (turn.as_secs_f64() * f64::from(A_SECOND)) as u32;
        let requests =
            Requests::open(&stage.server, stage.own_subject("request"), &stage.payloads).await?;
        let (mut all, mut why) = ([const { Vec::new() }; 4], None);
        for _ in 0..stage.sizes.turns {
            let stream = match &stage.jetstream {
                Ok(jetstream) => jetstream.at_pace(INTERVAL, count).await,
                Err(why) => Err(why.clone()),
            };
            let turn = [
                fsync::at_pace(stage.folder(), INTERVAL, count).await?,
                requests.at_pace(INTERVAL, count).await?,
                self.at_pace(count).await?,
                stream.unwrap_or_else(|told| {
                    why = Some(told);
                    Vec::new()
                }),
            ];
            for (all, times) in all.iter_mut().zip(turn) {
                all.extend(times.into_iter().skip(WARM_UP as usize));
            }
        }
        Ok((all, why))
    }

    /// The time that each of so many messages took.
    async fn at_pace(&self, count: u32) -> Result<Vec<Duration>, BenchError> {
        self.times.lock().expect("nothing panics with it").clear();
        let (out, epoch, runtime) = (self.out.clone(), self.epoch, Handle::current());
        let sends = tokio::task::spawn_blocking(move || {
            let mut sends = Vec::with_capacity(count as usize);
            pace::keep(INTERVAL, count, |meant| {
                let out = out.clone();
                let payload = stamped(meant.duration_since(epoch));
                sends.push(runtime.spawn(async move { out.send(payload).await }));
            });
            sends
        });
        for sent in sends.await? {
            sent.await??;
        }
        let came = || self.times.lock().expect("nothing panics with it").len() >= count as usize;
        reach("the last of a stream of single messages", came).await?;
        Ok(std::mem::take(&mut *self.times.lock().expect("nothing panics with it")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_round_is_judged_by_its_own_anchors() {
        let mut record = Record::new(crate::options::Scenario::Latency, false);
        for (fsync, request, waypost) in [(100.0, 50.0, 150.0), (1_000.0, 50.0, 1_200.0)] {
            for (what, value) in [(FSYNC, fsync), (REQUEST, request), (WAYPOST, waypost)] {
                record.add(format!("{what}, p50"), Unit::Microseconds, value);
                record.add(format!("{what}, p99"), Unit::Microseconds, value);
            }
            record.add(FIRST, Unit::Microseconds, 2.0 * (fsync + 5_000.0));
        }
        judge(&mut record);
        let runs = |n: usize| record.judgements[n].runs.clone();
        assert_eq!(runs(0), [150.0 / 200.0, 1_200.0 / 1_100.0]);
        assert_eq!(runs(1), [150.0 / 5_100.0, 1_200.0 / 6_000.0]);
        assert_eq!(runs(2), [2.0, 2.0]);
    }
}
