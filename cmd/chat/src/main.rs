//! `chat`: a chat over waypost nodes, in the terminal and on a web page.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use tracing_subscriber::EnvFilter;
use waypost::{Link, Node};

mod args;
mod history;
mod hub;
mod marks;
mod room;
mod signals;
mod terminal;
mod watch;

use args::Args;
use hub::Hub;
use signals::Signals;
use terminal::{After, End, Terminal};

/// How long the last messages of standard input are delivered when nothing else keeps the node.
const LAST_DELIVERIES: Duration = Duration::from_secs(5);

fn main() {
    let args = Args::parse();
    let terminal = Terminal::here();
    log(args.verbose);
    let result = execute(args, &terminal);
    terminal.restore();
    let code = match result {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("chat: {error:#}");
            1
        }
    };
    // A thread that waits for a line must not keep the program.
    std::process::exit(code);
}

fn log(verbose: u8) {
    let filter = match verbose {
        // The terminal is the user's; what matters of a node is told there.
        0 => "error",
        1 => "warn,waypost=info,chat=info",
        _ => "info,waypost=debug,chat=debug",
    };
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_env_filter(EnvFilter::new(filter))
        .init();
}

fn execute(args: Args, terminal: &Terminal) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(run(args, terminal));
    runtime.shutdown_background();
    result
}

async fn run(args: Args, terminal: &Terminal) -> anyhow::Result<()> {
    let mut signals = Signals::listen()?;
    let node =
        Node::builder().config(args.config()).start().await.context("the node does not start")?;
    let events = node.events();
    let ended = async {
        if let Link::Conflict { host } = node.status().link {
            anyhow::bail!(
                "another node with this name runs on {host}: give this one another --node-id"
            );
        }
        let channel = node.join(&args.channel, args.mode.into()).await?;
        let hub = Hub::start(node.clone(), channel).await?;
        tokio::spawn(watch::run(hub.clone(), events));
        converse(&args, terminal, &hub).await
    };
    let result = tokio::select! {
        result = ended => result,
        _ = signals.caught() => Ok(()),
    };
    node.shutdown().await;
    result
}

async fn converse(_args: &Args, terminal: &Terminal, hub: &Arc<Hub>) -> anyhow::Result<()> {
    match terminal.run(hub.clone(), None, After::Stop).await? {
        End::Quit => {}
        End::InputEnded => {
            hub.node().flush(LAST_DELIVERIES).await?;
        }
    }
    Ok(())
}
