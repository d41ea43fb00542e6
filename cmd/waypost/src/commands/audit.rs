//! `waypost audit`: which decisions a node's file has on record.

use std::time::SystemTime;

use waypost::inspect::Inspector;
use waypost::{Config, StartAt};

use super::queue;
use crate::args::From;
use crate::output::{Output, time_ms};
use crate::run::Outcome;

pub(super) async fn run(
    config: &Config,
    since: Option<From>,
    output: &Output,
) -> anyhow::Result<Outcome> {
    let look = |file: &Inspector| Ok((file.audit(u32::MAX)?, file.now_ms()?));
    let (mut rows, now_ms) = queue::read(config, look).await?;
    if let Some(StartAt::SinceMs(age_ms)) = since.map(|since| since.start_at(SystemTime::now())) {
        let since_ms = now_ms.saturating_sub(age_ms);
        rows.retain(|row| row.at_ms >= since_ms);
    }
    if output.json() {
        output.print_json(&rows).await?;
    } else {
        let cells = rows.into_iter().map(|row| {
            let term = row.term.map(|term| term.to_string()).unwrap_or_default();
            [time_ms(row.at_ms), row.action, row.subject, term, row.detail]
        });
        output.print_rows(["time", "action", "about", "term", "detail"], cells).await?;
    }
    Ok(Outcome::Done)
}
