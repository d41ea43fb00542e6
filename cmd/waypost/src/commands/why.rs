//! `waypost why`: one message's story.

use anyhow::bail;
use serde::Serialize;
use waypost::inspect::{Accepted, InboxSpan, Inspector, ReceiverState, ReceiverStory, Story};
use waypost::management::{self, About};
use waypost::reason::Told;
use waypost::{Config, MessageId, NodeId, Reason};

use super::{doctor, queue, reasons};
use crate::output::{Output, age, bytes, printable, time_ms};
use crate::run::Outcome;
use crate::settings;

pub(super) async fn run(
    config: &Config,
    id: MessageId,
    output: &Output,
) -> anyhow::Result<Outcome> {
    let look = move |file: &Inspector| Ok((file.why(id)?, file.now_ms()?));
    let (story, now_ms) = match queue::read(config, look).await {
        Ok(read) => read,
        Err(error) => {
            // A node that runs may know why.
            if let Ok((mut reasons, _)) = reasons::of_file(config, &[]).await
                && !output.json()
            {
                reasons.retain(|told| told.reason.starts_with("file_"));
                output.print(lines(&reasons).join("\n")).await?;
            }
            return Err(error);
        }
    };
    let Some(story) = story else {
        bail!(
            "this file knows nothing of message {id}: it was neither sent nor received here, or was deleted after its retention"
        );
    };
    if !output.json() {
        output.print(tell(&story, now_ms).join("\n")).await?;
    }
    let found = reasons(config, &story).await?;
    if output.json() {
        let (reasons, unknown) = found.unzip();
        output.print_json(&Answer { story: &story, reasons, unknown }).await?;
    } else if let Some((reasons, unknown)) = found {
        output.print(because(&reasons, unknown).join("\n")).await?;
    }
    Ok(Outcome::Done)
}

/// The story, and why it does not go on; none where it has ended.
#[derive(Serialize)]
struct Answer<'a> {
    #[serde(flatten)]
    story: &'a Story,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasons: Option<Vec<Told>>,
    #[serde(skip_serializing_if = "is_nothing")]
    unknown: Option<Unknown>,
}

/// What more there may be in the way than is told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
struct Unknown {
    /// Reasons that the node knows, too.
    reasons: u64,
    /// Receivers of whom the node was not asked.
    receivers: u64,
}

fn is_nothing(unknown: &Option<Unknown>) -> bool {
    unknown.is_none_or(|unknown| unknown == Unknown::default())
}

/// Most questions to the node: of so many receivers' groups.
const MOST_QUESTIONS: usize = 10;

/// Why the message does not move for those for whom it waits; none where it waits for nobody.
async fn reasons(config: &Config, story: &Story) -> anyhow::Result<Option<(Vec<Told>, Unknown)>> {
    let Some(accepted) = &story.accepted else { return Ok(None) };
    let waits = |receiver: &&ReceiverStory| {
        matches!(receiver.state, ReceiverState::Next | ReceiverState::Waiting { .. })
    };
    let waiting: Vec<NodeId> =
        story.receivers.iter().filter(waits).map(|receiver| receiver.receiver.clone()).collect();
    if waiting.is_empty() && !story.receivers.is_empty() {
        return Ok(None);
    }
    // Of a channel without a reader, that it has none; of others, what is said of the receiver.
    let about = |receivers: &[NodeId]| About {
        channel: accepted.channel.clone(),
        receivers: receivers.to_vec(),
    };
    let mut abouts: Vec<About> =
        waiting.chunks(About::MOST_RECEIVERS).take(MOST_QUESTIONS).map(about).collect();
    if abouts.is_empty() {
        abouts.push(about(&[]));
    }
    let asked: usize = abouts.iter().map(|about| about.receivers.len()).sum();
    let (mut reasons, left) = reasons::of_file(config, &abouts).await?;
    if let Some(refused) = refused(config, &reasons).await {
        reasons.insert(0, refused);
    }
    reasons.retain(|told| !OF_OTHERS.contains(&&*told.reason));
    Ok(Some((reasons, Unknown { reasons: left, receivers: (waiting.len() - asked) as u64 })))
}

/// Why a node is silent, where the server would refuse some of what it does: tried under its name.
async fn refused(config: &Config, reasons: &[Told]) -> Option<Told> {
    if reasons.iter().all(|told| told.reason != "silent") {
        return None;
    }
    let node = doctor::name(config, &settings::storage(config).ok()?);
    let found = management::permissions(config, &node).await.ok()?.refused;
    (!found.is_empty()).then(|| Told::from(&Reason::refused(found.join("; "))))
}

/// Reasons of a node that keep none of its own messages.
const OF_OTHERS: [&str; 7] = [
    "no_quorum",
    "paused_here",
    "clock_wrong",
    "clock_apart",
    "storage_limit",
    "storage_near",
    "log_held",
];

fn lines(reasons: &[Told]) -> Vec<String> {
    reasons.iter().map(|told| printable(&format!("because {told}"))).collect()
}

fn because(reasons: &[Told], unknown: Unknown) -> Vec<String> {
    let mut lines = lines(reasons);
    if unknown.reasons > 0 {
        lines
            .push(format!("and {} more, which `waypost queue` shows by receiver", unknown.reasons));
    }
    if unknown.receivers > 0 {
        lines.push(format!(
            "the node was not asked about {} more receivers: `waypost queue` shows what waits for them",
            unknown.receivers
        ));
    }
    if lines.is_empty() {
        lines.push("nothing is in the way: it is being delivered".to_owned());
    }
    lines
}

fn tell(story: &Story, now_ms: u64) -> Vec<String> {
    let mut lines = vec![format!("message {}", story.id)];
    if let Some(accepted) = &story.accepted {
        lines.extend(acceptance(accepted, now_ms));
        if story.receivers.is_empty() {
            lines.push("waits: no reader of the channel is known yet".to_owned());
        }
    }
    lines.extend(story.receivers.iter().flat_map(receiver));
    lines.extend(story.received.iter().map(|span| received(story.id, span)));
    lines.iter().map(|line| printable(line)).collect()
}

fn acceptance(accepted: &Accepted, now_ms: u64) -> Vec<String> {
    let to = accepted.target.as_ref().map(|node| format!(" for {node} alone")).unwrap_or_default();
    let expires = accepted
        .expires_ms
        .map_or("never expires".to_owned(), |at_ms| format!("expires {}", time_ms(at_ms)));
    let mut lines = vec![
        format!(
            "accepted {} ({} ago) on {:?}{to}",
            time_ms(accepted.created_ms),
            age(now_ms, accepted.created_ms),
            accepted.channel.as_str()
        ),
        format!(
            "         kind {}, priority {}, {} stored, {expires}",
            accepted.kind,
            accepted.lane,
            bytes(accepted.stored_bytes)
        ),
    ];
    if !accepted.intact {
        lines.push(
            "damaged: its checksum does not fit, so it is never delivered; see `waypost db check`"
                .to_owned(),
        );
    }
    lines
}

fn receiver(story: &ReceiverStory) -> Vec<String> {
    let state = match &story.state {
        ReceiverState::Next => "is next".to_owned(),
        ReceiverState::Waiting { behind } => format!("waits for its turn behind {behind} others"),
        ReceiverState::Settled { outcome, at_ms } => format!("{outcome} {}", time_ms(*at_ms)),
        ReceiverState::NotForIt => {
            "not for it: it began to read later, or had left before".to_owned()
        }
        other => format!("{other:?}"),
    };
    let mut lines = vec![format!("{}: {state}", story.receiver)];
    lines.extend(story.failures.iter().map(|failure| {
        format!("  attempt {} {}: {}", failure.attempt, time_ms(failure.at_ms), failure.answer)
    }));
    if let Some(dead) = &story.dead_letter {
        lines.push(format!("  dead letter {}: {}", time_ms(dead.died_ms), dead.reason));
        lines.extend(dead.redriven_as.map(|id| format!("  sent again as {id}")));
    }
    lines
}

fn received(id: MessageId, span: &InboxSpan) -> String {
    let channel = span.channel.as_str();
    let at = time_ms(span.at_ms);
    if id == span.last_id {
        return format!("received from {} on {channel:?}, committed {at}", span.sender);
    }
    format!(
        "may be one of those received from {} on {channel:?}: between {} and {}, the last committed {at}",
        span.sender, span.first_id, span.last_id
    )
}
