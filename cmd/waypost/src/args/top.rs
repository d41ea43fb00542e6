//! Options of `top`.

use std::time::Duration;

use super::values::parse_duration;

/// Shortest and longest pause between two looks.
pub(crate) const FASTEST: Duration = Duration::from_millis(500);
pub(crate) const SLOWEST: Duration = Duration::from_secs(60);

pub(super) const TOP_HELP: &str = "\
Keys: q quits, space pauses, s sorts by name, backlog or rate, + and - change the pace, arrows scroll, ? explains the columns.

It asks the nodes as `waypost stats` does, over a connection of its own, and takes part in nothing. Rates and latencies are those between two
looks. A look ends when all have answered that others hear, after 2s at most; then comes the pause. A node without the feature `metrics` tells no latency, an older one no age of what waits. --once cuts lines to the width of a terminal, and elsewhere none. NO_COLOR leaves out colours.

Exit codes: 0: quit. 2: no terminal, and no --once. 4: --once, and no node answered. 129, 130, 143: a signal; the terminal is given back.";

#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Top {
    /// Look twice with a second between, print the table, and end
    #[arg(long)]
    pub(crate) once: bool,
    /// Pause after a look and before the next, from 500ms to 60s
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = parse_interval)]
    pub(crate) interval: Duration,
}

fn parse_interval(text: &str) -> Result<Duration, String> {
    let interval = parse_duration(text)?;
    match (FASTEST..=SLOWEST).contains(&interval) {
        true => Ok(interval),
        false => Err("it is a time from 500ms to 60s".to_owned()),
    }
}
