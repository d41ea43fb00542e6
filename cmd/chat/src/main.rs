//! `chat`: a chat over waypost nodes, in the terminal and on a web page.
#![deny(clippy::print_stdout, clippy::print_stderr, clippy::disallowed_methods)]

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use tracing_subscriber::EnvFilter;
use waypost::{Link, Node};

mod args;
mod history;
mod hub;
mod marks;
mod room;
mod terminal;
mod watch;
mod web;

use args::Args;
use hub::Hub;
use terminal::{After, End, Log, Terminal};
use waypost_process::{Signals, begin, streams};
use web::Page;

/// How long the last messages of standard input are delivered when nothing else keeps the node.
const LAST_DELIVERIES: Duration = Duration::from_secs(5);
/// A look at the marks asks about as many, or more.
const MARKS_AT_ONCE: usize = 64;

fn main() {
    if let Err(error) = begin() {
        streams::say(format_args!("chat: {:#}", anyhow::Error::new(error)));
        streams::exit(1);
    }
    let args = Args::try_parse().unwrap_or_else(|error| streams::explain(&error));
    if let Err(reason) = args.check().and_then(|()| args::check_variables(std::env::vars_os())) {
        streams::explain(&Args::command().error(ErrorKind::ValueValidation, reason));
    }
    let terminal = Arc::new(Terminal::here());
    log(args.verbose, terminal.log());
    let result = execute(args, &terminal);
    terminal.restore();
    let code = match result {
        Ok(()) => 0,
        Err(error) => {
            streams::say(format_args!("chat: {error:#}"));
            1
        }
    };
    // A thread that waits for a line must not keep the program.
    streams::exit(code);
}

fn log(verbose: u8, to: Log) {
    let filter = match verbose {
        // The terminal is the user's; what matters of a node is told there.
        0 => "error",
        1 => "warn,waypost=info,chat=info",
        _ => "info,waypost=debug,chat=debug",
    };
    tracing_subscriber::fmt()
        .with_writer(to)
        .with_ansi(false)
        .with_env_filter(EnvFilter::new(filter))
        .init();
}

fn execute(args: Args, terminal: &Arc<Terminal>) -> anyhow::Result<()> {
    let runtime = waypost_process::runtime()?;
    let result = runtime.block_on(run(args, terminal));
    runtime.shutdown_background();
    result
}

async fn run(args: Args, terminal: &Arc<Terminal>) -> anyhow::Result<()> {
    let restored = terminal.clone();
    let mut signals = Signals::listen()?;
    signals.before_exit(move || restored.restore());
    // Before the node is started: nothing is joined by a program that cannot go on.
    let page = Page::bind(&args).await?;
    let tabs = page.as_ref().map(Page::tabs);
    let listener = args.http.listen().await?;
    let node =
        Node::builder().config(args.config()).start().await.context("the node does not start")?;
    let server = args.http.serve(listener, &node, "chat");
    let events = node.events_since_start();
    let ended = async {
        if let Link::Conflict { host } = node.status().link {
            anyhow::bail!(
                "another node with this name runs on {host}: give this one another --node-id"
            );
        }
        let channel = node.join(&args.channel, args.mode.into()).await?;
        let hub = Hub::start(node.clone(), channel).await?;
        tokio::spawn(watch::run(hub.clone(), events));
        converse(&args, terminal, &hub, page).await
    };
    let result = tokio::select! {
        result = ended => result,
        _ = signals.caught() => Ok(()),
    };
    if let Some(tabs) = tabs {
        tabs.close().await;
    }
    if let Some(server) = server {
        server.stop().await;
    }
    node.shutdown().await;
    result
}

/// Terminal and web page at the same time, until the user leaves.
async fn converse(
    args: &Args,
    terminal: &Terminal,
    hub: &Arc<Hub>,
    page: Option<Page>,
) -> anyhow::Result<()> {
    let Some(page) = page else {
        let ended = terminal.run(hub.clone(), None, After::Stop).await;
        if let End::InputEnded { not_done, unshown } = ended {
            deliver_the_last(hub).await?;
            if let Some(error) = unshown {
                anyhow::bail!(
                    "standard output: {error}; what came from then on was not shown; the input was sent but for {not_done} lines"
                );
            }
            if not_done > 0 {
                anyhow::bail!("{not_done} lines were not done: standard output says why");
            }
        }
        return Ok(());
    };
    let url = page.url.clone();
    if args.open {
        open(&url, args.web_token.as_deref());
    }
    let served = page.serve(hub.clone());
    tokio::select! {
        ended = terminal.run(hub.clone(), Some(format!("web page: {url}")), After::GoOn) => { drop(ended); Ok(()) }
        served = served => served.context("the web page is no longer served"),
    }
}

/// Delivers for a moment more, and tells what has to wait for the next run.
async fn deliver_the_last(hub: &Hub) -> anyhow::Result<()> {
    let left = hub.node().flush(LAST_DELIVERIES).await?.waiting;
    // Of several receivers each may wait for other messages: the posts are counted once, and a receiver may wait for more than posts.
    let longest = left.iter().map(|waiting| waiting.pending).max().unwrap_or(0);
    if longest == 0 {
        return Ok(());
    }
    for _ in 0..=hub.waiting() / MARKS_AT_ONCE {
        hub.refresh_marks().await?;
    }
    let count = longest.max(hub.waiting() as u64);
    let (wait, go) = match count {
        1 => ("message waits", "it goes"),
        _ => ("messages wait", "they go"),
    };
    let file = hub.node().storage();
    let file = match std::env::current_dir()
        .ok()
        .and_then(|here| file.strip_prefix(here).ok().map(Path::to_owned))
    {
        Some(inside) => Path::new(".").join(inside),
        None => file,
    };
    let file = file.display();
    streams::say(format_args!("{count} {wait} in {file}; {go} out with the next run"));
    Ok(())
}

/// Opens the page in the user's browser, if there is one.
fn open(url: &str, token: Option<&str>) {
    let program = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let url = token.map_or_else(|| url.to_owned(), |token| format!("{url}?token={token}"));
    let opened = tokio::process::Command::new(program)
        .arg(url)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    if let Err(error) = opened {
        tracing::error!("no browser can be opened with {program}: {error}");
    }
}
