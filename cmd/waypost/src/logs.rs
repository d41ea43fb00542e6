//! Log lines on standard error.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Sets up logging: warnings by default, less with `quiet`, more with each `verbose`. The NATS client's own lines are left out below `-vv`
/// unless they are warnings: what matters of them, a node says itself.
pub(crate) fn start(verbose: u8, quiet: bool) {
    let filter = match (quiet, verbose) {
        (true, _) => "error",
        (_, 0) => "warn",
        (_, 1) => "warn,waypost=info",
        (_, 2) => "info,waypost=debug",
        _ => "info,waypost=trace",
    };
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal() && !no_color)
        .with_target(verbose > 1)
        .with_env_filter(EnvFilter::new(filter))
        .init();
}
