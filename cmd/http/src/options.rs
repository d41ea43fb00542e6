//! Options of the programs that run a node.

use waypost::Node;
use waypost_process::streams;

use crate::{Address, BindError, Listener, ReadyWhen, Server};

/// What is served over HTTP while the node runs.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Serve /metrics, /healthz and /readyz here while the node runs, like 127.0.0.1:9464; whoever reaches it can read them
    #[arg(long = "http", value_name = "ADDR")]
    address: Option<Address>,
    /// When /readyz says yes while NATS is away: queueing (messages wait, so yes) or connected (no)
    #[arg(long, value_name = "WHEN", default_value = "queueing", requires = "address")]
    ready_when: ReadyWhen,
}

impl Options {
    /// Takes the port, before anything else is begun. Must be called in a tokio runtime. Cancelling is safe.
    ///
    /// # Errors
    /// As [`Address::bind`].
    pub async fn listen(&self) -> Result<Option<Listener>, BindError> {
        match &self.address {
            Some(address) => Ok(Some(address.bind().await?)),
            None => Ok(None),
        }
    }

    /// Answers there for this node. Says on standard error which port it is where the system chose one.
    pub fn serve(&self, listener: Option<Listener>, node: &Node, program: &str) -> Option<Server> {
        let listener = listener?;
        let address = listener.address();
        tracing::info!("metrics and health on http://{address}");
        if self.address.as_ref().is_some_and(|asked| asked.as_str().ends_with(":0")) {
            streams::say(format_args!("{program}: metrics and health on http://{address}"));
        }
        Some(listener.serve(node.clone(), self.ready_when))
    }
}
