//! Backlogs read from the file in pages. Receivers of one channel that are at the same place share them: whoever asks for what is
//! being read, or was read just now, gets that.

use std::collections::{HashMap, VecDeque};

use super::outbound::{Body, head};
use super::{Completion, Driver};
use crate::message::{NodeId, Priority, TopicId};
use crate::protocol::delivery::{self, Head};
use crate::store::{Loaded, Page, PageRequest};
use crate::transport::Transport;

/// Bytes of backlog that all queues together may keep in memory, shared by the receivers that there are.
const BUFFER_BYTES: usize = 32 * 1024 * 1024;
pub(super) const BUFFER_BYTES_EACH: std::ops::RangeInclusive<usize> = 16 * 1024..=1024 * 1024;
/// Bytes of pages that are kept for others that may ask for them.
const RECENT_BYTES: usize = 4 * 1024 * 1024;
const RECENT_PAGES: usize = 16;

/// Who waits for a page.
struct Waiting {
    receiver: NodeId,
    token: u64,
}

#[derive(Default)]
pub(super) struct Pages {
    /// Grows when the file may hold something else than before: what is still being read then is for those alone who asked before.
    age: u64,
    under_way: HashMap<(u64, PageRequest), Vec<Waiting>>,
    recent: VecDeque<(PageRequest, Page)>,
    recent_bytes: usize,
}

impl Pages {
    fn recent(&self, request: &PageRequest) -> Option<&Page> {
        self.recent.iter().find(|(of, _)| of == request).map(|(_, page)| page)
    }

    /// Only whole pages: the last one of the log grows.
    fn keep(&mut self, request: PageRequest, page: Page) {
        if page.end {
            return;
        }
        self.recent_bytes += bytes(&page);
        self.recent.push_back((request, page));
        while self.recent.len() > RECENT_PAGES || self.recent_bytes > RECENT_BYTES {
            let Some((_, oldest)) = self.recent.pop_front() else { return };
            self.recent_bytes -= bytes(&oldest);
        }
    }

    /// What was read, or is being read, may not be what the file holds any more.
    pub(super) fn outdate(&mut self) {
        self.age += 1;
        self.recent.clear();
        self.recent_bytes = 0;
    }
}

fn bytes(page: &Page) -> usize {
    let of_entry = |loaded: &Loaded| match loaded {
        Loaded::Good(entry) => head(entry.clone()).bytes,
        Loaded::Damaged { .. } => 0,
    };
    page.entries.iter().map(of_entry).sum()
}

/// What the receiver is told of a page.
fn loaded(token: u64, topics: Vec<(TopicId, u64)>, page: &Page) -> delivery::Event<Body> {
    let heads = page.entries.iter().map(|loaded| match loaded {
        Loaded::Good(entry) => head(entry.clone()),
        Loaded::Damaged { seq, topic, id } => Head {
            seq: *seq,
            id: *id,
            topic: *topic,
            expires_ms: None,
            bytes: 0,
            header_bytes: 0,
            body: None,
        },
    });
    let heads = heads.collect();
    delivery::Event::Loaded { token, topics, heads, scanned_to: page.scanned_to, end: page.end }
}

impl<T: Transport> Driver<T> {
    /// Has a page read; the answer, where it is there already.
    pub(super) fn load(
        &mut self,
        receiver: NodeId,
        token: u64,
        (lane, topics): (Priority, Vec<(TopicId, u64)>),
        max_messages: usize,
    ) -> Option<delivery::Event<Body>> {
        let share = BUFFER_BYTES / self.receivers.len().max(1);
        let max_bytes = share.clamp(*BUFFER_BYTES_EACH.start(), *BUFFER_BYTES_EACH.end());
        let request = PageRequest { lane, topics, max_messages, max_bytes };
        if let Some(page) = self.pages.recent(&request) {
            return Some(loaded(token, request.topics.clone(), page));
        }
        let waiting = Waiting { receiver, token };
        let age = self.pages.age;
        let others = self.pages.under_way.entry((age, request.clone())).or_default();
        others.push(waiting);
        if others.len() > 1 {
            return None;
        }
        let (store, reader) = (self.store.clone(), self.store.clone());
        self.jobs.push(Box::pin(async move {
            let asked = request.clone();
            let page = tokio::task::spawn_blocking(move || reader.page(&asked)).await;
            let page = page
                .map_err(|error| error.to_string())
                .and_then(|page| page.map_err(|error| error.to_string()));
            let page = match page {
                Ok(page) if !page.strays.is_empty() => match store.put_back(page.strays).await {
                    Ok(()) => Err("messages in it were out of place".to_owned()),
                    Err(error) => Err(error.to_string()),
                },
                page => page,
            };
            Completion::Page { age, request, page }
        }));
        None
    }

    pub(super) async fn page_read(
        &mut self,
        age: u64,
        request: PageRequest,
        page: Result<Page, String>,
    ) {
        let key = (age, request);
        let waiting = self.pages.under_way.remove(&key).unwrap_or_default();
        let request = key.1;
        if let Err(error) = &page {
            let receivers = waiting.len();
            tracing::warn!(node = %self.me, receivers, error, "a backlog could not be read");
        }
        for Waiting { receiver, token } in waiting {
            let event = match &page {
                Ok(page) => loaded(token, request.topics.clone(), page),
                Err(_) => delivery::Event::LoadFailed { token },
            };
            self.deliver(&receiver, event).await;
        }
        match page {
            Ok(page) if self.receivers.len() > 1 && age == self.pages.age => {
                self.pages.keep(request, page)
            }
            _ => {}
        }
    }
}
