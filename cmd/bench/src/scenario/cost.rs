//! Processor time that a message takes at its receiver, beside a reply to a request and a commit (target 2). Each has a process of its own, so that
//! it is nobody else's time.

use std::num::NonZeroUsize;

use tokio::time::sleep;
use waypost::Mode;

use super::scale::known;
use crate::anchors::request::Requests;
use crate::crowd::{self, CHANNEL};
use crate::error::BenchError;
use crate::part::Part;
use crate::record::{Bound, Record, Unit};
use crate::stage::{Place, Stage};

const MESSAGE: &str = "processor time of a message at its receiver, one in flight";
const REPLY: &str =
    "processor time of a request and its reply at the one that answers, one at a time";
const COMMIT: &str = "processor time of a commit that nothing syncs";
/// The most that a message may take of both together.
const MOST: f64 = 1.3;

/// Measures all three, one after the other. `fastest`: more messages a second than one receiver takes.
pub(super) async fn round(
    stage: &Stage,
    fastest: f64,
    record: &mut Record,
) -> Result<(), BenchError> {
    let place = stage.place()?;
    stage.progress.step(format!("many: {REPLY}"));
    let reply = of_a_reply(stage, &place).await?;
    stage.progress.step(format!("many: {MESSAGE}"));
    let message = of_a_message(stage, &place, fastest).await?;
    stage.progress.step(format!("many: {COMMIT}"));
    let mut other = Part::spawn(stage, &stage.config(&place, "rows")).await?;
    let commit = other.commit_cost(&place.file("rows.db")).await?;
    other.end().await?;
    stage.leave(place).await;
    record.add_or_tell(REPLY, Unit::Microseconds, reply);
    record.add_or_tell(MESSAGE, Unit::Microseconds, message);
    record.add(COMMIT, Unit::Microseconds, commit);
    Ok(())
}

/// Judges the rounds.
pub(super) fn judge(record: &mut Record) {
    let shares = [MESSAGE, REPLY, COMMIT].map(|what| record.runs(what).map(<[f64]>::to_vec));
    let [message, reply, commit] = shares;
    let ratios = message.and_then(|message| {
        let both = reply?.into_iter().zip(commit?).map(|(reply, commit)| reply + commit);
        Ok(message.iter().zip(both).map(|(message, both)| message / both).collect())
    });
    let what = format!("{MESSAGE} / ({REPLY} + {COMMIT})");
    record.judge(2, Bound::AtMost(MOST), what, ratios);
}

async fn of_a_reply(stage: &Stage, place: &Place) -> Result<Result<f64, String>, BenchError> {
    let mut other = Part::spawn(stage, &stage.config(place, "answering")).await?;
    let subject = stage.own_subject("question");
    other.answer_requests(&subject).await?;
    let requests = Requests::to_another(&stage.server, subject, &stage.payloads).await?;
    let (asking, cost) = tokio::join!(requests.rate(1, stage.window()), each(stage, &mut other));
    asking?;
    let cost = cost?;
    other.end().await?;
    Ok(cost)
}

async fn of_a_message(
    stage: &Stage,
    place: &Place,
    fastest: f64,
) -> Result<Result<f64, String>, BenchError> {
    let mut reader = Part::spawn(stage, &stage.config(place, "reader")).await?;
    reader.read().await?;
    let endless = |config: &mut waypost::Config| config.queue_limit = NonZeroUsize::MAX;
    let sender = stage.node(place, "sender", endless).await?;
    let out = sender.join(CHANNEL, Mode::Writer).await?;
    known(1, async || Ok(sender.subscribers(CHANNEL).await?.len() as u64)).await?;
    let seconds = (stage.sizes.window + stage.sizes.warm).as_secs_f64();
    let count = (fastest * seconds) as u64;
    crowd::fill(&out, &stage.payloads, count).await?;
    let cost = each(stage, &mut reader).await?;
    reader.end().await?;
    Ok(cost)
}

/// Microseconds of processor time for each that the other process takes in a window.
async fn each(stage: &Stage, other: &mut Part) -> Result<Result<f64, String>, BenchError> {
    sleep(stage.sizes.warm).await;
    let process = other.process();
    let (first, before) = (other.taken().await?, process.processor_time());
    sleep(stage.sizes.window).await;
    let (last, after) = (other.taken().await?, process.processor_time());
    if last == first {
        return Err(BenchError::Short { what: "messages of which each has its cost".to_owned() });
    }
    let used = before.and_then(|before| Ok(after?.saturating_sub(before)));
    Ok(used.map(|used| used.as_secs_f64() * 1e6 / (last - first) as f64))
}
