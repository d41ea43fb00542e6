//! The scenarios: what is measured in turn, and which targets are judged by it.

use crate::error::BenchError;
use crate::options::Scenario;
use crate::record::Record;
use crate::stage::Stage;

mod backlog;
mod batched;
mod cost;
mod fanout;
mod flight;
mod latency;
mod normal;
mod outage;
mod scale;
mod senders;
mod wear;

/// Runs one of them.
///
/// # Errors
/// What spoils the whole run; what only lacks an anchor is told in the record.
pub(crate) async fn run(
    stage: &Stage,
    scenario: Scenario,
    record: &mut Record,
) -> Result<(), BenchError> {
    match scenario {
        Scenario::One => flight::one(stage, record).await,
        Scenario::Many => flight::many(stage, record).await,
        Scenario::Live => batched::live(stage, record).await,
        Scenario::Drain => batched::drain(stage, record).await,
        Scenario::Fanout => fanout::run(stage, record).await,
        Scenario::Latency => latency::run(stage, record).await,
        Scenario::Backlog => backlog::run(stage, record).await,
        Scenario::Scale => scale::run(stage, record).await,
        Scenario::Outage => outage::run(stage, record).await,
        Scenario::Senders => senders::run(stage, record).await,
        Scenario::Wear => wear::run(stage, record).await,
        Scenario::Normal => normal::run(stage, record).await,
    }
}
