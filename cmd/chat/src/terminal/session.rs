//! One user's view: what was shown, and what the user asks for.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use waypost::NodeId;

use super::command::{Command, HELP};
use super::editor::Input;
use super::outgoing;
use super::output::{Output, Piece};
use super::paint::{self, Colours};
use super::reports;
use crate::hub::{Hub, Notice, waits_for_room};
use crate::marks::Mark;
use crate::room::{Change, Content, Key, MAX_TEXT_BYTES, Post};

mod beginning;

/// Messages that can be named; older ones cannot any more.
const NUMBERED: usize = 10_000;
/// Between two attempts at what waits for room.
const RETRY: Duration = Duration::from_secs(1);

pub(crate) struct Session {
    hub: Arc<Hub>,
    output: Output,
    colours: Colours,
    interactive: bool,
    not_done: u64,
    /// The messages shown, the first of them with the number `first`, under which the screen knows their places.
    shown: VecDeque<Key>,
    first: usize,
    numbers: BTreeMap<Key, usize>,
    /// The marks of those, as they were told last.
    marked: BTreeMap<Key, Mark>,
    unread: Vec<Key>,
    /// Messages that were there before this began, and were not shown then.
    earlier: BTreeSet<Key>,
    /// The connection as it was shown last.
    link: Option<(bool, String)>,
    /// Who was shown as online.
    here: BTreeSet<NodeId>,
    day: String,
}

impl Session {
    pub(crate) fn new(hub: Arc<Hub>, output: Output, colours: Colours, interactive: bool) -> Self {
        let (shown, numbers) = (VecDeque::new(), BTreeMap::new());
        Self {
            hub,
            output,
            colours,
            interactive,
            not_done: 0,
            shown,
            first: 1,
            numbers,
            marked: BTreeMap::new(),
            unread: Vec::new(),
            earlier: BTreeSet::new(),
            link: None,
            here: BTreeSet::new(),
            day: String::new(),
        }
    }

    pub(crate) fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    /// Lines that could not be done so far.
    pub(crate) fn not_done(&self) -> u64 {
        self.not_done
    }

    /// Why nothing could be shown any more, if so.
    pub(crate) fn unshown(&self) -> Option<String> {
        self.output.failure()
    }

    pub(crate) fn is_interactive(&self) -> bool {
        self.interactive
    }

    async fn print(&self, piece: Piece) {
        self.output.send(piece).await;
    }

    /// A line of the program's own.
    pub(crate) async fn say(&self, text: &str) {
        let lines: Vec<_> =
            text.lines().map(|line| format!("{} {line}", self.colours.dim("*"))).collect();
        self.print(Piece::Lines(lines.join("\n"))).await;
    }

    /// Whether there is something that was shown, and not told as read.
    pub(crate) fn has_unread(&self) -> bool {
        !self.unread.is_empty()
    }

    /// Shows what happened.
    pub(crate) async fn show(&mut self, notice: Notice) {
        match notice {
            Notice::Said(post) => {
                if self.numbers.contains_key(&post.key) {
                    return;
                }
                self.post(&post).await;
                self.unread.push(post.key.clone());
                self.unread.truncate(NUMBERED);
            }
            Notice::Changed(post) => self.changed(&post).await,
            Notice::Marked(id, mark) => {
                let key = Key { id, sender: self.hub.me().clone() };
                self.mark(&key, mark, mark.settled).await
            }
            Notice::Joined(node) => self.came(node).await,
            Notice::Left(node) => self.went(node).await,
            Notice::Link { connected, reason, away, waiting } => {
                self.link(connected, &reason, away, waiting).await
            }
            Notice::Warning(text) => self.say(&paint::harmless_line(&text)).await,
            Notice::Typing(..) | Notice::Waiting(_) | Notice::Read { .. } => {}
        }
    }

    async fn came(&mut self, node: NodeId) {
        let text = format!("{} is here", self.colours.name(&node));
        if self.here.insert(node) {
            self.say(&text).await;
        }
    }

    async fn went(&mut self, node: NodeId) {
        let text = format!("{} has gone", self.colours.name(&node));
        if self.here.remove(&node) {
            self.say(&text).await;
        }
    }

    async fn link(&mut self, connected: bool, reason: &str, away: Duration, waiting: usize) {
        let now = (connected, reason.to_owned());
        if self.link.as_ref() == Some(&now) {
            return;
        }
        let was_away = self.link.replace(now).is_some_and(|(connected, _)| !connected);
        let waiting = match waiting {
            0 => "nothing waits".to_owned(),
            1 => "1 message waits".to_owned(),
            waiting => format!("{waiting} messages wait"),
        };
        let after = paint::span(away);
        self.say(&match connected {
            true if away.as_secs() == 0 || !was_away => format!("NATS is here: {waiting}"),
            true => format!("NATS is here, after {after}: {waiting}"),
            false => format!("NATS is away ({}): {waiting}", paint::harmless_line(reason)),
        })
        .await;
    }

    async fn post(&mut self, post: &Post) {
        let now_ms = now_ms();
        let day = paint::day(post.time_ms);
        if day != self.day && !paint::is_ahead(post.time_ms, now_ms) {
            self.print(Piece::Lines(self.colours.dim(&format!("-- {day} --")))).await;
            self.day = day;
        }
        let number = self.number(&post.key);
        let own = (post.key.sender == *self.hub.me())
            .then(|| self.hub.mark(post.key.id).unwrap_or_default());
        let text = paint::post(post, own, self.colours, now_ms);
        self.print(match own {
            Some(_) => Piece::Own(number, text),
            None => Piece::Lines(text),
        })
        .await;
    }

    fn number(&mut self, key: &Key) -> usize {
        if let Some(number) = self.numbers.get(key) {
            return *number;
        }
        let number = self.first + self.shown.len();
        self.shown.push_back(key.clone());
        self.numbers.insert(key.clone(), number);
        if self.shown.len() > NUMBERED
            && let Some(oldest) = self.shown.pop_front()
        {
            self.numbers.remove(&oldest);
            self.marked.remove(&oldest);
            self.first += 1;
        }
        number
    }

    /// An edit, a deletion or a reaction.
    async fn changed(&mut self, post: &Post) {
        if !self.numbers.contains_key(&post.key) {
            return;
        }
        let name = self.colours.name(&post.key.sender);
        let what = match &post.content {
            Content::Deleted => {
                format!("#{} was deleted by {name}", paint::called(post.key.id))
            }
            _ => {
                let own = (post.key.sender == *self.hub.me())
                    .then(|| self.hub.mark(post.key.id).unwrap_or_default());
                format!("now {}", paint::post(post, own, self.colours, now_ms()))
            }
        };
        self.say(&what).await;
    }

    /// Once: whoever reads on has read all before that, of which most is known.
    async fn mark(&mut self, key: &Key, mark: Mark, in_words: bool) {
        let Some(number) = self.numbers.get(key).copied() else { return };
        if self.marked.insert(key.clone(), mark) == Some(mark) {
            return;
        }
        let words = in_words.then(|| {
            let (star, called) = (self.colours.dim("*"), paint::called(key.id));
            format!("{star} #{called} {}", paint::in_words(mark))
        });
        self.print(Piece::Mark(number, paint::mark(Some(mark)), words)).await;
    }

    /// Tells the senders that what was shown is read.
    pub(crate) async fn tell_read(&mut self) {
        let keys = std::mem::take(&mut self.unread);
        if let Err(error) = self.hub.mark_read(keys).await {
            tracing::debug!("read marks: {error:#}");
        }
    }

    /// Does what the keyboard asks for. True: leave.
    pub(crate) async fn take(&mut self, input: Input) -> bool {
        match input {
            Input::Line(line) => return self.enter(&line).await,
            Input::Typing => {
                let hub = self.hub.clone();
                tokio::spawn(async move { hub.tell_typing(true).await });
            }
            Input::TooLong(bytes) => {
                self.not_done += 1;
                let text = format!(
                    "not done: the line has {bytes} bytes, and a text may have {MAX_TEXT_BYTES}"
                );
                self.say(&text).await;
            }
            Input::NoText => self.say("what is no UTF-8 text was left out of the line").await,
            Input::Interrupted => {
                self.say("press Ctrl-C once more, or enter /quit, to leave").await;
            }
            Input::Ended => return true,
        }
        false
    }

    /// Does what a line asks for. True: leave.
    async fn enter(&mut self, line: &str) -> bool {
        let mut waits = false;
        loop {
            let command = match Command::parse(line) {
                Ok(Command::Quit) => return true,
                Ok(command) => command,
                Err(usage) => {
                    self.not_done += 1;
                    self.say(&usage).await;
                    return false;
                }
            };
            match self.perform(command).await {
                Ok(None) => {}
                Ok(Some(answer)) => self.say(&answer).await,
                // A program that writes to us has no other place for it.
                Err(error) if !self.interactive && waits_for_room(&error) => {
                    if !std::mem::replace(&mut waits, true) {
                        self.say(&format!("waits for room: {error:#}")).await;
                    }
                    tokio::time::sleep(RETRY).await;
                    continue;
                }
                Err(error) => {
                    self.not_done += 1;
                    self.say(&format!("not done: {error:#}")).await;
                }
            }
            return false;
        }
    }

    async fn perform(&mut self, command: Command) -> anyhow::Result<Option<String>> {
        let hub = self.hub.clone();
        let (key, change) = match command {
            Command::Nothing | Command::Quit => return Ok(None),
            Command::Help => return Ok(Some(HELP.to_owned())),
            Command::Stats => return reports::stats(&hub, self.colours).await.map(Some),
            Command::Nodes => return reports::nodes(&hub, self.colours).await.map(Some),
            Command::Topology => return reports::topology(&hub, self.colours).await.map(Some),
            Command::Master => return Ok(Some(reports::master(&hub, self.colours))),
            Command::History(count) => return self.history(count).await.map(|()| None),
            Command::Say(text) => return self.send(Change::Text(text), None).await,
            Command::To(node, text) => return self.send_to(node, Change::Text(text)).await,
            Command::File(path) => {
                return self.send(Change::File(outgoing::describe(&path).await?), None).await;
            }
            Command::Edit(name, text) => {
                let key = self.own(name)?;
                let target = key.id;
                (key, Change::Edit { target, text })
            }
            Command::Delete(name) => {
                let key = self.own(name)?;
                let target = key.id;
                (key, Change::Delete { target })
            }
            Command::React(name, emoji) => {
                let key = self.other(name)?;
                let me = hub.me();
                let post = hub.post(&key);
                let on = !post.is_some_and(|post| {
                    post.reactions.get(&emoji).is_some_and(|by| by.contains(me))
                });
                (key.clone(), Change::React { target: key, emoji, on })
            }
        };
        outgoing::check(&change)?;
        hub.change(&key, change, None).await?;
        Ok(None)
    }

    async fn send_to(&mut self, node: NodeId, change: Change) -> anyhow::Result<Option<String>> {
        let known = outgoing::is_known(&self.hub, &node).await?;
        self.send(change, Some(node.clone())).await?;
        let name = self.colours.name(&node);
        Ok((!known).then(|| format!("no node {name} is known yet: the message waits for it")))
    }

    async fn send(&mut self, change: Change, to: Option<NodeId>) -> anyhow::Result<Option<String>> {
        outgoing::check(&change)?;
        let id = self.hub.say(change, to).await?;
        // At once, so that the next command can mean it; its notice is left out.
        let key = Key { id, sender: self.hub.me().clone() };
        if let Some(post) = self.hub.post(&key) {
            self.show(Notice::Said(Arc::new(post))).await;
        }
        Ok(None)
    }

    async fn history(&mut self, count: usize) -> anyhow::Result<()> {
        let mut posts = self.hub.last(count);
        if posts.len() < count
            && let Some(first) = posts.iter().map(|post| post.seq).min()
        {
            let older = self.hub.before(first, count - posts.len()).await?;
            posts.extend(older.into_iter().map(|(post, _)| post));
            posts.sort_by(|a, b| a.key.cmp(&b.key));
        }
        self.day.clear();
        for post in &posts {
            self.post(post).await;
        }
        Ok(())
    }

    /// The message that is called so, of those that are meant; of several the one shown last.
    fn named(&self, name: &str, is_meant: impl Fn(&Key) -> bool) -> Option<Key> {
        let is_named = |key: &&Key| paint::called(key.id) == name;
        self.shown.iter().rev().filter(is_named).find(|key| is_meant(key)).cloned()
    }

    /// This node's message that is called so, or its last one.
    fn own(&self, name: Option<String>) -> anyhow::Result<Key> {
        let me = self.hub.me();
        if let Some(name) = name {
            let own = self.named(&name, |key| key.sender == *me);
            // What is wrong with one of another is said where it is refused.
            let found = own.or_else(|| self.named(&name, |_| true));
            return found.with_context(|| format!("no message was shown as #{name}"));
        }
        let is_there =
            |key: &&Key| self.hub.post(key).is_some_and(|post| post.content != Content::Deleted);
        let own = self.shown.iter().filter(|key| key.sender == *me).filter(is_there);
        own.max().cloned().context("there is no message of yours here")
    }

    /// The message that is called so, or the last one of another.
    fn other(&self, name: Option<String>) -> anyhow::Result<Key> {
        if let Some(name) = name {
            let found = self.named(&name, |_| true);
            return found.with_context(|| format!("no message was shown as #{name}"));
        }
        let me = self.hub.me();
        self.shown
            .iter()
            .rfind(|key| key.sender != *me)
            .cloned()
            .context("there is no message of another here")
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
