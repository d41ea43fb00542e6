//! `waypost recv`: a line a message, acknowledged after it was written.

use std::collections::BTreeSet;
use std::io;
use std::num::NonZeroU64;
use std::pin::pin;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use tokio::time::Instant;
use tracing::info;
use waypost::error::AckError;
use waypost::{
    Channel, ChannelName, Config, Headers, Kind, Message, MessageId, Messages, Mode, Node, NodeId,
    Priority, Reason,
};

use super::node;
use crate::args::Recv;
use crate::output::{Output, STDOUT, time_ms};
use crate::run::Outcome;
use waypost_process::{Signals, streams};

/// How long the end waits for answers. Acknowledgements are on their way by then; what was not printed has no answer, and only the
/// goodbye, after which senders keep it for the next run without counting an attempt.
const LAST_WORDS: Duration = Duration::from_millis(250);
const UNACKNOWLEDGED: &str = "a message was printed and not acknowledged; it comes again";

pub(super) async fn run(
    mut config: Config,
    args: Recv,
    output: &Output,
    mut signals: Signals,
) -> anyhow::Result<Outcome> {
    config.shutdown_timeout = config.shutdown_timeout.min(LAST_WORDS);
    let listener = args.http.listen().await?;
    let (node, mut standing) = node::start(config).await?;
    let server = args.http.serve(listener, &node, "waypost");
    // Both outlive the node: a message that is dropped before is refused, which costs it an attempt.
    let (mut messages, mut unprinted) = (None, None);
    let received = tokio::select! {
        received = async {
            let (channel, joined) = join(&node, &args).await?;
            let messages = messages.insert(joined);
            let from = (&node, &channel, messages);
            receive(from, &mut unprinted, &args, output, &mut signals).await
        } => received,
        error = standing.lost() => Err(error),
    };
    if let Some(server) = server {
        server.stop().await;
    }
    // The senders hear the last acknowledgement and the goodbye before this returns.
    node.shutdown().await;
    standing.told().await;
    received.map(|()| Outcome::Done)
}

/// Why no message comes any more.
fn why_ended(node: &Node, channel: &Channel) -> anyhow::Error {
    match channel.kicked_by() {
        Some(by) if node.status().kicked.as_ref() == Some(&by) => {
            anyhow::anyhow!("{}", Reason::Kicked { by })
        }
        Some(by) => {
            anyhow::anyhow!("{}", Reason::KickedFrom { by, channel: channel.name().clone() })
        }
        None => anyhow::anyhow!("the node has stopped"),
    }
}

async fn join(node: &Node, args: &Recv) -> anyhow::Result<(Channel, Messages)> {
    let start = args.from.start_at(SystemTime::now());
    let channel = node.join_from(&args.channel, Mode::Reader, start).await?;
    let messages = channel.messages().await?;
    Ok((channel, messages))
}

/// Until the count is reached, nothing came for too long, a signal, or nobody reads standard output any more, also where nothing is to be
/// written. A message that was not printed is left in `unprinted`.
async fn receive(
    (node, channel, messages): (&Node, &Channel, &mut Messages),
    unprinted: &mut Option<Message>,
    args: &Recv,
    output: &Output,
    signals: &mut Signals,
) -> anyhow::Result<()> {
    let mut left = args.count.map(NonZeroU64::get);
    let mut owed = Owed::default();
    let mut abandoned = pin!(streams::abandoned());
    output.end_torn_line().await.context(STDOUT)?;
    while left != Some(0) {
        let idle_at = args.idle.and_then(|idle| Instant::now().checked_add(idle));
        let message = tokio::select! {
            biased;
            _ = signals.caught() => return owed.settled(),
            message = messages.next() => match message {
                Some(message) => message,
                None => return Err(why_ended(node, channel)),
            },
            () = until(idle_at) => return owed.settled(),
            () = &mut abandoned => {
                info!("nobody reads standard output any more");
                return owed.settled();
            }
        };
        if owed.knows(&message) {
            owed.acknowledge(message).await?;
            continue;
        }
        let line = line(&message, output.json())?;
        let message = unprinted.insert(message);
        // A line that is written is acknowledged, signal or not, so that it is not printed again.
        let Ok(written) = output.write_unless_ended(line, signals).await else {
            return owed.settled();
        };
        match written {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return owed.settled(),
            Err(error) => {
                let id = message.id();
                return Err(error).with_context(|| format!("message {id} could not be printed"));
            }
        }
        let Some(message) = unprinted.take() else { continue };
        owed.acknowledge(message).await?;
        left = left.map(|left| left - 1);
    }
    owed.settled()
}

/// Messages that were printed and that the file could not note yet. They come again, and are not printed again. At most one a sender,
/// kind of address and lane.
#[derive(Default)]
struct Owed {
    ids: BTreeSet<(NodeId, MessageId)>,
    error: Option<AckError>,
}

impl Owed {
    fn knows(&self, message: &Message) -> bool {
        self.ids.contains(&(message.sender().clone(), message.id()))
    }

    /// Acknowledges what was printed. While the disk is full or fails, which the node's events tell, it stays owed.
    async fn acknowledge(&mut self, message: Message) -> anyhow::Result<()> {
        let key = (message.sender().clone(), message.id());
        match message.ack().await {
            Ok(()) => {
                self.ids.remove(&key);
            }
            Err(AckError::Storage(error)) if error.is_transient() => {
                self.ids.insert(key);
                self.error = Some(AckError::Storage(error));
            }
            Err(error) => return Err(error).context(UNACKNOWLEDGED),
        }
        Ok(())
    }

    fn settled(self) -> anyhow::Result<()> {
        match self.error {
            Some(error) if !self.ids.is_empty() => Err(error).context(UNACKNOWLEDGED),
            _ => Ok(()),
        }
    }
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// A message as one object.
#[derive(Serialize)]
struct Line<'a> {
    id: MessageId,
    sender: &'a NodeId,
    channel: &'a ChannelName,
    kind: &'a Kind,
    priority: Priority,
    created: String,
    attempt: u32,
    headers: &'a Headers,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
}

fn line(message: &Message, json: bool) -> serde_json::Result<Vec<u8>> {
    let mut line = Vec::new();
    if json {
        let text = message.text().ok();
        let base64 = text.is_none().then(|| STANDARD.encode(message.payload()));
        // Another node's clock may say anything, also what no date can hold.
        let created = message.created().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let created = time_ms(u64::try_from(created.as_millis()).unwrap_or(u64::MAX));
        let object = Line {
            id: message.id(),
            sender: message.sender(),
            channel: message.channel(),
            kind: message.kind(),
            priority: message.priority(),
            created,
            attempt: message.attempt(),
            headers: message.headers(),
            text,
            base64,
        };
        serde_json::to_writer(&mut line, &object)?;
    } else {
        line.extend_from_slice(message.payload());
    }
    line.push(b'\n');
    Ok(line)
}
