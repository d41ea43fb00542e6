//! Backlogs read from the file in pages.

use super::outbound::{Body, head};
use super::{Completion, Driver};
use crate::protocol::delivery::Head;
use crate::protocol::outbound::{PageRequest, Read};
use crate::store::{Loaded, Page};
use crate::transport::Transport;

impl From<Page> for Read<Body> {
    fn from(page: Page) -> Self {
        let heads = page.entries.into_iter().map(|loaded| match loaded {
            Loaded::Good(entry) => head(entry),
            Loaded::Damaged { seq, topic, id } => {
                let (expires_ms, bytes, header_bytes, body) = (None, 0, 0, None);
                Head { seq, id, topic, expires_ms, bytes, header_bytes, body }
            }
        });
        Self { heads: heads.collect(), scanned_to: page.scanned_to, end: page.end }
    }
}

impl<T: Transport> Driver<T> {
    pub(super) fn load(&mut self, age: u64, request: PageRequest) {
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
    }

    pub(super) fn page_read(&mut self, age: u64, request: PageRequest, page: Result<Page, String>) {
        if let Err(error) = &page {
            tracing::warn!(node = %self.me, error, "a backlog could not be read");
        }
        let read = page.ok().map(Read::from);
        self.with_outbound(|it, around| it.page_read(around, (age, request), read));
    }
}
