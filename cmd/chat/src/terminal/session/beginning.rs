//! What is shown at the beginning, and after a time in which too much came.

use std::collections::BTreeSet;
use std::sync::Arc;

use waypost::NodeId;

use super::Session;
use crate::hub::Notice;
use crate::room::Post;
use crate::terminal::output::Piece;

/// Messages among which those are looked for that came too fast to show.
const CATCH_UP: usize = 2000;
/// Own messages whose marks are shown again then.
const MARKS_AGAIN: usize = 100;
/// As many nodes that are here are told one by one.
const FEW: usize = 3;

impl Session {
    /// The greeting and the last messages.
    pub(crate) async fn begin(&mut self, count: usize, greeting: Option<String>) {
        let hub = self.hub.clone();
        self.say(&format!(
            "{} on {:?} ({}); /help shows the commands",
            hub.me(),
            hub.channel(),
            hub.mode()
        ))
        .await;
        if let Some(greeting) = greeting {
            self.say(&greeting).await;
        }
        let mut earlier = hub.last(CATCH_UP);
        let posts = earlier.split_off(earlier.len().saturating_sub(count));
        self.earlier = earlier.into_iter().map(|post| post.key).collect();
        for post in &posts {
            self.post(post).await;
        }
        self.unread.extend(posts.into_iter().map(|post| post.key));
        let link = hub.link();
        if link.connected || !link.reason.is_empty() {
            self.link(link.connected, &link.reason, link.since.elapsed(), hub.waiting()).await;
        }
        let online = hub.online();
        if online.len() > FEW {
            let names: Vec<_> = online.iter().map(|name| self.colours.name(name)).collect();
            self.say(&format!("online: {}", names.join(", "))).await;
            self.here = online;
        } else {
            self.show_presence(online).await;
        }
        self.print(Piece::Begun).await;
        if self.interactive {
            self.tell_read().await;
        }
    }

    /// Shows what came so fast that its notices were lost.
    pub(crate) async fn catch_up(&mut self) {
        let hub = self.hub.clone();
        let posts = hub.last(CATCH_UP);
        let is_full = posts.len() == CATCH_UP;
        let is_new = |post: &&Post| {
            !self.numbers.contains_key(&post.key) && !self.earlier.contains(&post.key)
        };
        let new: Vec<_> = posts.iter().filter(is_new).cloned().collect();
        if is_full && new.len() == CATCH_UP {
            self.say("older messages came too fast to show; /history N shows them").await;
        }
        for post in new {
            self.show(Notice::Said(Arc::new(post))).await;
        }
        let link = hub.link();
        self.link(link.connected, &link.reason, link.since.elapsed(), hub.waiting()).await;
        self.show_presence(hub.online()).await;
        let own = self.shown.iter().rev().filter(|key| key.sender == *hub.me());
        for key in &own.take(MARKS_AGAIN).cloned().collect::<Vec<_>>() {
            if let Some(mark) = hub.mark(key.id) {
                self.mark(key, mark, false).await;
            }
        }
    }

    /// Tells who came and went since that was told last.
    async fn show_presence(&mut self, online: BTreeSet<NodeId>) {
        let gone: Vec<_> = self.here.difference(&online).cloned().collect();
        for node in gone {
            self.went(node).await;
        }
        for node in online {
            self.came(node).await;
        }
    }
}
