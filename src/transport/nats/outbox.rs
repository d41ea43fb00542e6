//! What the client may be given now, and what waits for that.
//!
//! The client takes commands without end while its socket takes no bytes, and it hears nothing more, not even its own end, once
//! 64 KiB are unwritten. So little is given to it at a time: as much as is written together on a fast link, and on a slow one so little
//! that a keepalive does not wait for long behind messages. Messages that find no room are not queued at all: whoever has them sends
//! them later, and starts to wait for an answer only then. Other frames wait here, for they are small, and go first.

use std::collections::VecDeque;

use bytes::Bytes;

/// Most bytes that the client may have unwritten. Below its own limit of 65,535, from which on it is deaf.
const WINDOW: i64 = 60_000;
/// The same for messages, so that other frames find room beside them.
const MESSAGE_WINDOW: i64 = 48_000;
/// Most frames that the client may have in its queue, which is a little longer, and most while they are messages.
const QUEUE: u64 = 480;
const MESSAGE_QUEUE: u64 = 400;
/// Most bytes of frames that wait.
const MAX_WAITING: usize = 1024 * 1024;

/// The client's own counters.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    /// Frames that it has taken out of its queue.
    pub(super) messages: u64,
    /// Bytes of those frames and their subjects, and once more all that it has written.
    pub(super) bytes: u64,
}

/// What a frame takes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    /// In the socket: `PUB <subject> <length>\r\n<frame>\r\n`.
    wire: i64,
    /// In the client's count, when it takes the frame out of its queue.
    counted: i64,
}

/// What the client has unwritten, and what waits for it.
#[derive(Default)]
pub(super) struct Outbox {
    /// Frames given to the client, and their bytes in the socket.
    handed: u64,
    wire: i64,
    /// What the client's count will be when all of them are written, if it counted nothing else.
    given: i64,
    /// What `given` is ahead of the client's count when all is written: that counts pings and the like as well.
    ahead: i64,
    waiting: VecDeque<(String, Bytes)>,
    waiting_bytes: usize,
    /// Messages were refused. There is room for them once no more than this is unwritten.
    refused: Option<i64>,
}

impl Size {
    pub(super) fn of(subject: &str, frame: &Bytes) -> Self {
        let digits = frame.len().checked_ilog10().unwrap_or(0) as usize + 1;
        let counted = subject.len() + frame.len();
        let length = |bytes| i64::try_from(bytes).unwrap_or(i64::MAX / 4);
        Self { wire: length("PUB  \r\n\r\n".len() + digits + counted), counted: length(counted) }
    }
}

impl Outbox {
    /// Another connection: what waits is of no use any more, and nothing is unwritten.
    pub(super) fn restart(&mut self, counts: Counts) {
        self.waiting.clear();
        self.waiting_bytes = 0;
        self.refused = None;
        self.all_is_written(counts);
    }

    /// All that was given is proven to be written.
    pub(super) fn all_is_written(&mut self, counts: Counts) {
        self.ahead = self.given - signed(counts.bytes);
    }

    /// Frames given to the client so far.
    pub(super) fn handed(&self) -> u64 {
        self.handed
    }

    /// So many bytes that were given to the client are not in the socket yet.
    pub(super) fn unwritten(&mut self, counts: Counts) -> i64 {
        let ahead = self.given - signed(counts.bytes);
        self.ahead = self.ahead.min(ahead);
        ahead - self.ahead
    }

    /// So many bytes that were given to the client have been written.
    pub(super) fn written(&mut self, counts: Counts) -> i64 {
        self.wire - self.unwritten(counts)
    }

    /// Whether the client may be given this, which is no message.
    pub(super) fn fits(&mut self, counts: Counts, size: Size) -> bool {
        let unwritten = self.unwritten(counts);
        self.queued(counts) < QUEUE && (unwritten == 0 || unwritten + size.wire <= WINDOW)
    }

    /// Whether the client may be given this message. A large one goes alone, and none overtakes what waits.
    pub(super) fn fits_message(&mut self, counts: Counts, size: Size) -> bool {
        self.has_room_for(counts, (WINDOW - size.wire).clamp(0, MESSAGE_WINDOW))
    }

    /// Whether some message may be given to the client.
    pub(super) fn has_room(&mut self, counts: Counts) -> bool {
        self.has_room_for(counts, MESSAGE_WINDOW)
    }

    fn has_room_for(&mut self, counts: Counts, limit: i64) -> bool {
        let fits = self.waiting.is_empty()
            && self.queued(counts) < MESSAGE_QUEUE
            && self.unwritten(counts) <= limit;
        if !fits {
            self.refuse(limit);
        }
        fits
    }

    /// A message was refused: there is room for it when no more than this is unwritten.
    pub(super) fn refuse(&mut self, limit: i64) {
        let limit = limit.min(MESSAGE_WINDOW / 2);
        self.refused = Some(self.refused.map_or(limit, |before| before.min(limit)));
    }

    /// Whether there is room again for messages that were refused. Said once.
    pub(super) fn take_room(&mut self, counts: Counts) -> bool {
        let free = self.waiting.is_empty() && self.queued(counts) < MESSAGE_QUEUE / 2;
        let unwritten = self.unwritten(counts);
        self.refused.take_if(|limit| free && unwritten <= *limit).is_some()
    }

    /// The client was given this.
    pub(super) fn gave(&mut self, size: Size) {
        self.handed += 1;
        self.wire += size.wire;
        self.given += size.wire + size.counted;
    }

    /// Puts a frame that is no message at the end of those that wait; `false` where too much waits.
    pub(super) fn wait(&mut self, subject: String, frame: Bytes) -> bool {
        let room = self.waiting.is_empty() || self.waiting_bytes + frame.len() <= MAX_WAITING;
        if room {
            self.waiting_bytes += frame.len();
            self.waiting.push_back((subject, frame));
        }
        room
    }

    /// The frame whose turn it is, if it fits.
    pub(super) fn next_waiting(&mut self, counts: Counts) -> Option<(String, Bytes)> {
        let (subject, frame) = self.waiting.front()?;
        let size = Size::of(subject, frame);
        if !self.fits(counts, size) {
            return None;
        }
        let next = self.waiting.pop_front()?;
        self.waiting_bytes -= next.1.len();
        Some(next)
    }

    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether anything is to be done as soon as the client has written something.
    pub(super) fn wants_room(&self) -> bool {
        self.is_waiting() || self.refused.is_some()
    }

    fn queued(&self, counts: Counts) -> u64 {
        self.handed.saturating_sub(counts.messages)
    }
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUBJECT: &str = "p.msg.b.a";

    fn frame(size: usize) -> Bytes {
        vec![0; size].into()
    }

    fn size(bytes: usize) -> Size {
        Size::of(SUBJECT, &frame(bytes))
    }

    /// A client that counts as the real one does.
    #[derive(Default)]
    struct Client {
        counts: Counts,
        queued: i64,
    }

    impl Client {
        fn take(&mut self, outbox: &mut Outbox, bytes: usize) {
            outbox.gave(size(bytes));
            self.counts.messages += 1;
            self.counts.bytes += (bytes + SUBJECT.len()) as u64;
            self.queued += size(bytes).wire;
        }

        fn write(&mut self, bytes: i64) {
            self.counts.bytes += bytes as u64;
            self.queued -= bytes;
        }
    }

    #[test]
    fn what_is_unwritten_is_known_to_the_byte_whatever_else_the_client_writes() {
        let (mut outbox, mut client) = (Outbox::default(), Client::default());
        client.counts.bytes = 1_234;
        outbox.restart(client.counts);
        for bytes in [0, 1, 9, 10, 99, 100, 5_000] {
            client.take(&mut outbox, bytes);
        }
        assert_eq!(outbox.unwritten(client.counts), client.queued);
        client.write(4_000);
        assert_eq!(outbox.unwritten(client.counts), client.queued);
        assert_eq!(outbox.written(client.counts), 4_000);
        client.write(client.queued);
        // Pings are counted as well.
        client.counts.bytes += 6;
        assert_eq!(outbox.unwritten(client.counts), 0);
        client.take(&mut outbox, 50);
        assert_eq!(outbox.unwritten(client.counts), client.queued);
    }

    #[test]
    fn messages_leave_room_for_other_frames_and_a_large_one_goes_alone() {
        let (mut outbox, mut client) = (Outbox::default(), Client::default());
        while outbox.fits_message(client.counts, size(1_000)) {
            client.take(&mut outbox, 1_000);
        }
        assert!(client.queued <= WINDOW, "{}", client.queued);
        assert!(outbox.fits(client.counts, size(1_000)));
        assert!(!outbox.take_room(client.counts));
        client.write(client.queued / 2 + 2_000);
        assert!(outbox.take_room(client.counts) && !outbox.take_room(client.counts));
        assert!(!outbox.fits_message(client.counts, size(1_000_000)));
        client.write(client.queued - 1);
        assert!(!outbox.take_room(client.counts), "a large one waits until all is written");
        client.write(1);
        assert!(outbox.take_room(client.counts));
        assert!(outbox.fits_message(client.counts, size(1_000_000)));
        client.take(&mut outbox, 1_000_000);
        assert!(!outbox.fits(client.counts, size(10)) && !outbox.has_room(client.counts));
    }

    #[test]
    fn no_more_is_given_to_the_client_than_its_queue_holds() {
        let mut outbox = Outbox::default();
        let mut given = 0;
        while outbox.fits_message(Counts::default(), size(1)) {
            outbox.gave(size(1));
            given += 1;
        }
        while outbox.fits(Counts::default(), size(1)) {
            outbox.gave(size(1));
            given += 1;
        }
        assert_eq!(given, QUEUE);
        assert!(!outbox.take_room(Counts::default()));
        let bytes = given * (SUBJECT.len() as u64 + 1 + size(1).wire as u64);
        assert!(outbox.take_room(Counts { messages: given, bytes }));
    }

    #[test]
    fn what_waits_is_bounded_and_gone_with_the_connection() {
        let (mut outbox, counts) = (Outbox::default(), Counts::default());
        while outbox.wait(SUBJECT.to_owned(), frame(100_000)) {}
        assert!(outbox.waiting_bytes <= MAX_WAITING && outbox.wants_room());
        assert!(!outbox.has_room(counts), "messages do not overtake what waits");
        assert!(outbox.next_waiting(counts).is_some());
        assert!(outbox.wait(SUBJECT.to_owned(), frame(100_000)));
        outbox.restart(counts);
        assert!(!outbox.wants_room() && outbox.next_waiting(counts).is_none());
        // Whatever its size, if nothing else does.
        assert!(outbox.wait(SUBJECT.to_owned(), frame(2 * MAX_WAITING)));
    }
}
