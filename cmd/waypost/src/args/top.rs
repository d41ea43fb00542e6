//! Options of `top`.

use std::time::Duration;

use super::values::parse_duration;

pub(super) const TOP_HELP: &str = "\
Keys: q quits, space pauses, s sorts by name, backlog or rate, + and - change the pace, arrows scroll, ? explains the columns.

It asks the nodes as `waypost stats` does, over a connection of its own, and takes part in nothing. Rates and latencies are those between two
looks. A node without the feature `metrics` tells no latency. NO_COLOR leaves out colours.

Exit codes: 0: quit. 2: no terminal, and no --once. 4: --once, and no node answered. 129, 130, 143: a signal; the terminal is given back.";

#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Top {
    /// Look twice within about a second, print the table, and end
    #[arg(long)]
    pub(crate) once: bool,
    /// Pause between two looks, from 500ms to 60s
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = parse_duration)]
    pub(crate) interval: Duration,
}
