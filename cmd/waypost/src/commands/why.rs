//! `waypost why`: one message's story.

use anyhow::bail;
use waypost::inspect::{Accepted, InboxSpan, ReceiverState, ReceiverStory, Story};
use waypost::{Config, MessageId};

use super::queue;
use crate::output::{Output, age, bytes, printable, time_ms};
use crate::run::Outcome;

pub(super) async fn run(
    config: &Config,
    id: MessageId,
    output: &Output,
) -> anyhow::Result<Outcome> {
    let Some(story) = queue::read(config, move |inspector| inspector.why(id)).await? else {
        bail!(
            "this file knows nothing of message {id}: it was neither sent nor received here, or was deleted after its retention"
        );
    };
    if output.json() {
        output.print_json(&story).await?;
    } else {
        output.print(tell(&story).join("\n")).await?;
    }
    Ok(Outcome::Done)
}

fn tell(story: &Story) -> Vec<String> {
    let mut lines = vec![format!("message {}", story.id)];
    if let Some(accepted) = &story.accepted {
        lines.extend(acceptance(accepted));
        if story.receivers.is_empty() {
            lines.push("waits: no reader of the channel is known yet".to_owned());
        }
    }
    lines.extend(story.receivers.iter().flat_map(receiver));
    lines.extend(story.received.iter().map(|span| received(story.id, span)));
    lines.iter().map(|line| printable(line)).collect()
}

fn acceptance(accepted: &Accepted) -> Vec<String> {
    let to = accepted.target.as_ref().map(|node| format!(" for {node} alone")).unwrap_or_default();
    let expires = accepted
        .expires_ms
        .map_or("never expires".to_owned(), |at_ms| format!("expires {}", time_ms(at_ms)));
    let mut lines = vec![
        format!(
            "accepted {} ({} ago) on {:?}{to}",
            time_ms(accepted.created_ms),
            age(accepted.created_ms),
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
        ReceiverState::Next => {
            "is next: under way, or waits for this receiver to be online".to_owned()
        }
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
