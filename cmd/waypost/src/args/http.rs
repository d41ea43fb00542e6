//! Options of the commands that run a node.

use waypost_http::Address;

/// What is served over HTTP while the node runs.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Http {
    /// Serve /metrics, /healthz and /readyz here while the node runs, like 127.0.0.1:9464; whoever reaches it can read them
    #[arg(long = "http", value_name = "ADDR")]
    pub(crate) address: Option<Address>,
    /// When /readyz says yes while NATS is away: queueing (messages wait, so yes) or connected (no)
    #[arg(long, value_name = "WHEN", default_value = "queueing", requires = "address")]
    pub(crate) ready_when: Ready,
}

/// When a node whose server is away is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Ready {
    /// As long as messages can wait
    Queueing,
    /// Only while it is connected
    Connected,
}
