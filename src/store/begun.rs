//! What was handed to handlers and is not known to have ended: noted in a file beside the database, with which no commit and no fsync has to do.
//!
//! What a process wrote outlives it, whatever ends it. A power cut may take it: so the file names the boot it belongs to, and what another boot
//! left is no message's fault. An orderly end removes it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::disk::beside;
use crate::message::{ChannelName, MessageId, NodeId, Priority, StoreId};
use crate::protocol::frame::Stream;
use crate::protocol::inbox::Source;
use crate::protocol::inbox::begun::{MAX_NOTES, Note, Slot, Standing};

/// What stands first in the file: whose it is.
const MAGIC: &[u8; 16] = b"waypost begun 1\n";
/// The room of a note, and of the head. The longest note takes 383 bytes.
const ROOM: usize = 512;
const MAX_BYTES: u64 = ((MAX_NOTES + 1) * ROOM) as u64;
/// Different at every start of the machine.
const BOOT: &str = "/proc/sys/kernel/random/boot_id";

#[derive(Debug)]
pub(crate) struct Notes {
    path: PathBuf,
    head: Vec<u8>,
    /// Made for the first note.
    file: Option<File>,
    told: bool,
}

impl Notes {
    /// What the last process that had this database noted in this boot. `store`: the database's own.
    pub(super) fn read(database: &Path, store: StoreId) -> (Self, Vec<Note>) {
        Self::of_boot(&fs::read_to_string(BOOT).unwrap_or_default(), database, store)
    }

    /// Where nobody knows which boot it is, nothing is believed that was noted before: the power may have failed since.
    fn of_boot(boot: &str, database: &Path, store: StoreId) -> (Self, Vec<Note>) {
        let boot = boot.trim();
        let head = head(store, boot);
        let path = beside(database, "-begun");
        let read = || -> io::Result<Vec<u8>> {
            let mut bytes = Vec::new();
            File::open(&path)?.take(MAX_BYTES).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        let notes = match read() {
            Ok(bytes) if !boot.is_empty() && bytes.starts_with(&head) => {
                bytes.chunks(ROOM).skip(1).filter_map(decode).collect()
            }
            Ok(_) => Vec::new(),
            Err(error) => {
                if error.kind() != ErrorKind::NotFound {
                    tracing::warn!(path = %path.display(), %error, "what the last process was at is not known");
                }
                Vec::new()
            }
        };
        (Self { path, head, file: None, told: false }, notes)
    }

    /// Puts these in the place of what was there.
    pub(crate) fn begin_anew(&mut self, notes: &[(Slot, Note)]) {
        if notes.is_empty() {
            return self.remove();
        }
        // To open it empties it.
        let anew = self.open().map(drop);
        self.check(anew);
        for (slot, note) in notes {
            let Note { source, first, last, ends, standing } = note;
            self.put(*slot, source, (*first, *last), *ends, *standing);
        }
    }

    /// Notes that these are handed out.
    pub(crate) fn note(
        &mut self,
        slot: Slot,
        source: &Source,
        span: (MessageId, MessageId),
        ends: u32,
    ) {
        self.put(slot, source, span, ends, Standing::Begun);
    }

    /// Takes away what was noted there.
    pub(crate) fn clear(&mut self, slot: Slot) {
        self.write(slot, &[0; 6]);
    }

    /// Nothing is in work any more.
    pub(crate) fn remove(&mut self) {
        self.file = None;
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != ErrorKind::NotFound => self.check(Err(error)),
            _ => {}
        }
    }

    fn put(
        &mut self,
        slot: Slot,
        source: &Source,
        span: (MessageId, MessageId),
        ends: u32,
        standing: Standing,
    ) {
        let mut room = [0; ROOM];
        let length = encode(&mut room, source, span, ends, standing);
        self.write(slot, &room[..length]);
    }

    fn write(&mut self, slot: Slot, bytes: &[u8]) {
        let at = ((slot + 1) * ROOM) as u64;
        let written = match &self.file {
            Some(file) => file.write_all_at(bytes, at),
            None => self.open().and_then(|file| file.write_all_at(bytes, at)),
        };
        self.check(written);
    }

    fn open(&mut self) -> io::Result<&File> {
        if self.file.is_none() {
            let mut options = OpenOptions::new();
            let options = options.write(true).create(true).truncate(true).mode(0o600);
            let file = options.open(&self.path)?;
            file.write_all_at(&self.head, 0)?;
            self.file = Some(file);
        }
        Ok(self.file.as_ref().expect("it was opened a line above"))
    }

    /// Nothing depends on a note but how a message is judged that ends the process.
    fn check(&mut self, written: io::Result<()>) {
        if let Err(error) = written
            && !std::mem::replace(&mut self.told, true)
        {
            tracing::warn!(path = %self.path.display(), %error, "a message that ends this process will not be known");
        }
    }
}

fn head(store: StoreId, boot: &str) -> Vec<u8> {
    let mut head = [&MAGIC[..], &store.to_bytes(), boot.as_bytes()].concat();
    head.resize(ROOM, 0);
    head
}

/// CRC, length, and the fields one after the other, the texts last.
fn encode(
    room: &mut [u8; ROOM],
    source: &Source,
    (first, last): (MessageId, MessageId),
    ends: u32,
    standing: Standing,
) -> usize {
    let Source { sender, store, stream } = source;
    let mut end = 6;
    let mut put = |bytes: &[u8]| {
        room[end..end + bytes.len()].copy_from_slice(bytes);
        end += bytes.len();
    };
    let standing = match standing {
        Standing::Begun => 0,
        Standing::Suspect => 1,
        Standing::Blamed => 2,
    };
    put(&ends.to_be_bytes());
    put(&[standing, u8::from(stream.direct), stream.lane.index() as u8]);
    put(&store.to_bytes());
    put(&first.to_bytes());
    put(&last.to_bytes());
    put(&[sender.as_str().len() as u8]);
    put(sender.as_str().as_bytes());
    put(stream.channel.as_str().as_bytes());
    room[4..6].copy_from_slice(&(end as u16).to_be_bytes());
    let crc = crc32fast::hash(&room[4..end]);
    room[..4].copy_from_slice(&crc.to_be_bytes());
    end
}

fn decode(room: &[u8]) -> Option<Note> {
    let length = usize::from(u16::from_be_bytes(room.get(4..6)?.try_into().ok()?));
    let crc = u32::from_be_bytes(room.get(..4)?.try_into().ok()?);
    if crc32fast::hash(room.get(4..length)?) != crc {
        return None;
    }
    let mut rest = room.get(6..length)?;
    let mut take = |count: usize| {
        let (taken, left) = rest.split_at_checked(count)?;
        rest = left;
        Some(taken)
    };
    let ends = u32::from_be_bytes(take(4)?.try_into().ok()?);
    let &[standing, direct, lane] = take(3)? else { return None };
    let standing = match standing {
        0 => Standing::Begun,
        1 => Standing::Suspect,
        2 => Standing::Blamed,
        _ => return None,
    };
    let mut sixteen = || -> Option<[u8; 16]> { take(16)?.try_into().ok() };
    let (store, first, last) = (sixteen()?, sixteen()?, sixteen()?);
    let sender = usize::from(take(1)?[0]);
    let sender = NodeId::new(std::str::from_utf8(take(sender)?).ok()?).ok()?;
    let channel = ChannelName::new(std::str::from_utf8(rest).ok()?).ok()?;
    let lane = Priority::from_index(lane.into())?;
    Some(Note {
        source: Source {
            sender,
            store: StoreId::from_bytes(store),
            stream: Stream { channel, direct: direct != 0, lane },
        },
        first: MessageId::from_bytes(first),
        last: MessageId::from_bytes(last),
        ends,
        standing,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORE: StoreId = StoreId::from_u128(7);

    fn note(channel: &str, ends: u32, standing: Standing) -> Note {
        Note {
            source: Source {
                sender: NodeId::new("a".repeat(64)).expect("a valid name"),
                store: StoreId::from_u128(1),
                stream: Stream {
                    channel: ChannelName::new(channel).expect("a valid name"),
                    direct: true,
                    lane: Priority::High,
                },
            },
            first: MessageId::from_u128(3),
            last: MessageId::from_u128(u128::MAX),
            ends,
            standing,
        }
    }

    fn begin(notes: &mut Notes, slot: Slot, note: &Note) {
        notes.note(slot, &note.source, (note.first, note.last), note.ends);
    }

    #[test]
    fn what_is_noted_is_there_for_the_next_process_until_an_orderly_end() {
        let folder = tempfile::tempdir().expect("a folder");
        let database = folder.path().join("a.db");
        let (mut notes, none) = Notes::read(&database, STORE);
        assert_eq!(none, []);
        notes.begin_anew(&[]);
        assert_eq!(
            fs::read_dir(&folder).expect("a folder").count(),
            0,
            "nothing is made for nothing"
        );
        let longest = note(&"é".repeat(127), 2, Standing::Begun);
        begin(&mut notes, 2, &longest);
        begin(&mut notes, 0, &note("c", 0, Standing::Begun));
        notes.clear(0);
        let (mut next, found) = Notes::read(&database, STORE);
        assert_eq!(found, std::slice::from_ref(&longest));
        let kept = [(0, note("d", 9, Standing::Suspect)), (1, note("e", 1, Standing::Blamed))];
        next.begin_anew(&kept);
        let (mut last, found) = Notes::read(&database, STORE);
        assert_eq!(found, kept.map(|(_, note)| note));
        last.remove();
        assert_eq!(Notes::read(&database, STORE).1, []);
    }

    #[test]
    fn what_another_file_or_another_boot_left_is_not_believed() {
        let folder = tempfile::tempdir().expect("a folder");
        let database = folder.path().join("a.db");
        let (mut notes, _) = Notes::read(&database, STORE);
        begin(&mut notes, 0, &note("c", 0, Standing::Begun));
        assert_eq!(Notes::read(&database, StoreId::from_u128(8)).1, []);
        assert_eq!(Notes::read(&database, STORE).1.len(), 1);
        let path = beside(&database, "-begun");
        let whole = fs::read(&path).expect("it is there");
        fs::write(&path, [&head(STORE, "another"), &whole[ROOM..]].concat()).expect("written");
        assert_eq!(Notes::read(&database, STORE).1, []);
        // Nor is what is torn or damaged, at any byte.
        for at in ROOM..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x10;
            fs::write(&path, &damaged).expect("written");
            assert_eq!(Notes::read(&database, STORE).1, [], "{at}");
            fs::write(&path, &whole[..at]).expect("written");
            assert_eq!(Notes::read(&database, STORE).1, [], "{at}");
        }
    }

    #[test]
    fn without_a_name_of_the_boot_nothing_is_believed() {
        let folder = tempfile::tempdir().expect("a folder");
        let database = folder.path().join("a.db");
        let of_boot = |boot| Notes::of_boot(boot, &database, STORE);
        for (boot, believed) in [("1\n", 1), ("", 0), ("\n", 0)] {
            begin(&mut of_boot(boot).0, 0, &note("c", 0, Standing::Begun));
            assert_eq!(of_boot(boot).1.len(), believed, "{boot:?}");
        }
    }

    #[test]
    fn a_folder_that_takes_no_file_costs_no_more_than_the_notes() {
        let (mut notes, _) = Notes::read(Path::new("/proc/a.db"), STORE);
        begin(&mut notes, 0, &note("c", 0, Standing::Begun));
        notes.clear(0);
        notes.remove();
    }
}
