//! Log lines on standard error.

use tracing_subscriber::EnvFilter;
use waypost_process::streams;

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
    tracing_subscriber::fmt()
        .with_writer(streams::Log)
        .with_ansi(streams::errors_are_terminal() && streams::has_colour())
        .with_target(verbose > 1)
        .with_env_filter(EnvFilter::new(filter))
        .init();
}
