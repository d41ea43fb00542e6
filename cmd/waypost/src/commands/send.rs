//! `waypost send`: commits, prints the ids, then stays to deliver.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

use bytes::Bytes;
use waypost::{Config, MessageId, Mode, NewMessage, Node};

use super::node;
use crate::args::{Send, Ttl};
use crate::output::Output;
use crate::run::Outcome;
use waypost_signals::{Number, Signals};

mod input;
mod lines;
mod settle;

/// How long a node that has nothing left to wait for takes to say goodbye.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How sending ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sent {
    /// All is committed.
    All,
    /// Nobody reads the ids any more.
    Unread,
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
        match send(&node, &args, payload, output, &mut signals).await? {
            Sent::All => settle::stay(&node, &args, &mut signals).await,
            Sent::Unread => Ok(Outcome::Done),
            Sent::Interrupted(number) => {
                settle::report(&settle::waiting(&node).await?);
                Ok(Outcome::Interrupted(number))
            }
        }
    };
    let outcome = tokio::select! {
        outcome = work => outcome,
        error = standing.lost() => Err(error),
    };
    if let Some(server) = server {
        server.stop().await;
    }
    node.shutdown().await;
    outcome
}

async fn send(
    node: &Node,
    args: &Send,
    payload: Option<Bytes>,
    output: &Output,
    signals: &mut Signals,
) -> anyhow::Result<Sent> {
    let channel = node.join(&args.channel, Mode::Writer).await?;
    let Some(payload) = payload else {
        let lines = input::lines(node.config().max_payload_bytes)?;
        return lines::send(&channel, args, lines, output, signals).await;
    };
    let id = channel.send(message(args, payload)).await?;
    tokio::select! {
        written = output.write(printed(&[id], output.json())) => Ok(unless_unread(written)?),
        number = signals.caught() => Ok(Sent::Interrupted(number)),
    }
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

/// The ids, a line each.
fn printed(ids: &[MessageId], json: bool) -> Vec<u8> {
    let line = |id| if json { format!("{{\"id\":\"{id}\"}}\n") } else { format!("{id}\n") };
    ids.iter().map(line).collect::<String>().into_bytes()
}

fn unless_unread(written: std::io::Result<()>) -> std::io::Result<Sent> {
    match written {
        Ok(()) => Ok(Sent::All),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(Sent::Unread),
        Err(error) => Err(error),
    }
}
