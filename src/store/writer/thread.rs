//! The one writing thread: takes whatever waits, has it committed, waits again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::{LOOK_EVERY, Message, Writer};
use crate::condition::Health;
use crate::reason::Reason;
use crate::store::job::Job;
use crate::store::shared::Shared;

/// Most jobs that one transaction takes.
const GROUP_JOBS: usize = 1_024;

pub(in crate::store) struct Thread {
    jobs: mpsc::UnboundedReceiver<Message>,
    writer: Arc<Mutex<Writer>>,
    group_bytes: usize,
    /// Keeps the time while the file is down or the disk full; has no thread of its own.
    timer: Option<Runtime>,
}

/// Marks the store as failed if the thread ends otherwise than by closing it.
struct Ended(Arc<Shared>);

impl Drop for Ended {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.set_health(Health::Failed(Reason::Broken { what: "the writer".to_owned() }));
        }
        self.0.readers.write().unwrap_or_else(PoisonError::into_inner).take();
        self.0.done.send_replace(true);
    }
}

impl Thread {
    pub(in crate::store) fn new(
        jobs: mpsc::UnboundedReceiver<Message>,
        writer: Arc<Mutex<Writer>>,
    ) -> Self {
        let group_bytes = writer.lock().unwrap_or_else(PoisonError::into_inner).group_bytes();
        Self { jobs, writer, group_bytes, timer: None }
    }

    /// Works until the store is closed or dropped.
    pub(in crate::store) fn run(mut self) {
        let ended = Ended(Arc::clone(&self.writer().shared));
        self.writer().begin();
        while let Some(first) = self.next() {
            let (group, after) = self.gather(first);
            let mut writer = self.writer();
            if !group.is_empty() {
                writer.commit_group(group);
            }
            match after {
                Some(Message::Maintain(reply)) => {
                    let _ = reply.send(writer.maintain());
                }
                Some(Message::Look) => {
                    writer.take_over();
                    writer.shorten_log();
                }
                // What is in the queue is still done.
                Some(Message::Close) => {
                    drop(writer);
                    self.jobs.close();
                }
                Some(Message::Job(_)) | None => {}
            }
        }
        self.writer().close();
        drop(ended);
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the next message, and as long as the file is down or the disk full looks again; `None` once the store is closed or
    /// dropped.
    fn next(&mut self) -> Option<Message> {
        while self.writer().has_to_look() {
            let timer = match self.timer.take() {
                Some(timer) => timer,
                None => match Builder::new_current_thread().enable_time().build() {
                    Ok(timer) => timer,
                    Err(error) => {
                        tracing::warn!(%error, "no timer: the file is tried again with the next job");
                        break;
                    }
                },
            };
            let jobs = &mut self.jobs;
            let next = timer.block_on(async { timeout(LOOK_EVERY, jobs.recv()).await });
            self.timer = Some(timer);
            match next {
                Ok(message) => return message,
                Err(_) => {
                    // Why it is still down is told where it is noted.
                    let _ = self.writer().ready();
                }
            }
        }
        self.timer = None;
        self.jobs.blocking_recv()
    }
    /// The jobs that wait, up to the first message that is no job.
    fn gather(&mut self, first: Message) -> (Vec<Box<dyn Job>>, Option<Message>) {
        let (mut group, mut bytes) = (Vec::new(), 0);
        let mut next = Some(first);
        while let Some(message) = next {
            let Message::Job(job) = message else { return (group, Some(message)) };
            bytes += job.bytes();
            group.push(job);
            if group.len() == GROUP_JOBS || bytes >= self.group_bytes {
                break;
            }
            next = self.jobs.try_recv().ok();
        }
        (group, None)
    }
}
