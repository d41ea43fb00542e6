//! `waypost send`: commits, prints the ids, then stays to deliver.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

use bytes::Bytes;
use tracing::warn;
use waypost::{Config, Mode, NewMessage, Node};

use super::node;
use crate::args::{Send, Ttl};
use crate::output::Output;
use crate::run::Outcome;
use waypost_process::{Number, Signals};

mod ids;
mod input;
mod lines;
mod losses;
mod settle;

use ids::Ids;

/// How long a node that has nothing left to wait for takes to say goodbye.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How sending ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sent {
    /// All is committed.
    All,
    /// A signal came; what was printed is committed.
    Interrupted(Number),
}

pub(super) async fn run(
    mut config: Config,
    args: Send,
    output: &Output,
    mut signals: Signals,
) -> anyhow::Result<Outcome> {
    // `--flush` and `--wait` say how long to stay; closing is not to add to it.
    let stays = args.wait.is_some() || !args.flush.is_zero();
    let last_words = if stays { LAST_WORDS } else { Duration::ZERO };
    config.shutdown_timeout = config.shutdown_timeout.min(last_words);
    let payload = match (args.lines, args.text.clone()) {
        (true, _) => None,
        (false, Some(text)) => Some(OsString::into_vec(text).into()),
        // Read before the file is opened, which would be locked for as long as somebody types.
        (false, None) => tokio::select! {
            payload = input::whole(config.max_payload_bytes) => Some(payload?),
            number = signals.caught() => return Ok(Outcome::Interrupted(number)),
        },
    };
    let listener = args.http.listen().await?;
    let (node, mut standing) = node::start(config).await?;
    let server = args.http.serve(listener, &node, "waypost");
    let work = async {
        let mut ids = Ids::new(output);
        let sent = send(&node, &args, payload, &mut ids, &mut signals).await;
        // An error below is of more weight, and these ids are told with it or before it.
        let unprinted = ids.report();
        let (interrupted, mut left) = match sent? {
            Sent::All => settle::stay(&node, &args, &mut signals).await?,
            Sent::Interrupted(number) => (Some(number), settle::waiting(&node).await?),
        };
        let lost = losses::take(&node, &mut left).await;
        // A disk that is full stops the accounts, and what was sent is sent.
        let lost = lost.unwrap_or_else(|error| {
            warn!("what expired is not known: {error:#}");
            Vec::new()
        });
        settle::report(&left);
        settle::because(&node, &left).await;
        let is_lost = losses::report(&lost);
        Ok(match interrupted {
            Some(number) => Outcome::Interrupted(number),
            None if is_lost => Outcome::Lost,
            None if unprinted => Outcome::Failed,
            None if args.wait.is_some() && !left.is_empty() => Outcome::Unsettled,
            None => Outcome::Done,
        })
    };
    let outcome = tokio::select! {
        outcome = work => outcome,
        error = standing.lost() => Err(error),
    };
    if let Some(server) = server {
        server.stop().await;
    }
    node.shutdown().await;
    standing.told().await;
    outcome
}

async fn send(
    node: &Node,
    args: &Send,
    payload: Option<Bytes>,
    ids: &mut Ids<'_>,
    signals: &mut Signals,
) -> anyhow::Result<Sent> {
    let channel = node.join(&args.channel, Mode::Writer).await?;
    let Some(payload) = payload else {
        let lines = input::lines(node.config().max_payload_bytes)?;
        return lines::send(&channel, args, lines, ids, signals).await;
    };
    let id = channel.send(message(args, payload)).await?;
    Ok(ids.print(&[id], signals).await.map_or(Sent::All, Sent::Interrupted))
}

/// A message of this payload, as the options want it.
fn message(args: &Send, payload: Bytes) -> NewMessage {
    let is_text = std::str::from_utf8(&payload).is_ok();
    let mut message = NewMessage::bytes(payload).priority(args.priority);
    if is_text {
        message = message.header(waypost::CONTENT_TYPE, "text/plain; charset=utf-8");
    }
    if let Some(kind) = &args.kind {
        message = message.kind(kind.as_str());
    }
    if let Some(node) = &args.to {
        message = message.to(node.as_str());
    }
    match args.ttl {
        None => message,
        Some(Ttl::Never) => message.no_ttl(),
        Some(Ttl::After(ttl)) => message.ttl(ttl),
    }
}
