//! A folder that is watched.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::fault::{Fault, Operation};
use crate::log::{Log, Name, Op};
use crate::vfs;

static WATCHED: Mutex<Vec<Weak<Watched>>> = Mutex::new(Vec::new());

/// A folder whose files are recorded, and fail if they are told to. Recording ends when it is dropped and all its files are closed.
#[derive(Clone)]
pub struct Disk {
    watched: Arc<Watched>,
}

impl Disk {
    /// Watches this folder from now on. The first call makes the recording VFS SQLite's default in this process: connections that
    /// were opened before are not seen.
    ///
    /// # Panics
    /// The folder does not exist, or SQLite refuses.
    pub fn watch(folder: impl AsRef<Path>) -> Self {
        vfs::install();
        let folder = folder.as_ref().canonicalize().expect("a folder that exists");
        let watched = Arc::new(Watched { folder, state: Mutex::default() });
        let mut all = WATCHED.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|other| other.strong_count() > 0);
        all.push(Arc::downgrade(&watched));
        Self { watched }
    }

    /// Remembers this between the operations before and after it.
    pub fn mark(&self, text: impl AsRef<str>) {
        let text = Arc::from(text.as_ref());
        self.watched.lock().log.ops.push(Op::Mark(text));
    }

    /// What happened so far.
    pub fn log(&self) -> Log {
        self.watched.lock().log.clone()
    }

    /// The place in the log where the next operation will stand.
    pub fn place(&self) -> usize {
        self.watched.lock().log.ops.len()
    }

    /// Whether something like this has happened at this place of the log or later.
    pub fn has_happened(&self, since: usize, what: impl FnMut(&Op) -> bool) -> bool {
        self.watched.lock().log.ops.iter().skip(since).any(what)
    }

    /// Sets a failure that is to come; it takes the place of the last one.
    pub fn fail(&self, fault: Fault) {
        self.watched.lock().fault = Some(fault);
    }

    /// Flips these bits of a file from now on, until that place is written again: as a disk does that has gone bad.
    pub fn rot(&self, file: &str, offset: u64, mask: u8) {
        let mut state = self.watched.lock();
        *state.rot.entry(Name::from(file)).or_default().0.entry(offset).or_default() ^= mask;
    }

    /// Takes the failure away. How often it struck.
    pub fn heal(&self) -> u64 {
        self.watched.lock().fault.take().map_or(0, |fault| fault.hits)
    }

    /// How often the failure that is set has struck.
    pub fn struck(&self) -> u64 {
        self.watched.lock().fault.as_ref().map_or(0, |fault| fault.hits)
    }
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disk").field("folder", &self.watched.folder).finish_non_exhaustive()
    }
}

pub(crate) struct Watched {
    folder: PathBuf,
    state: Mutex<State>,
}

/// Bits of a file that are read otherwise than they were written.
#[derive(Default)]
pub(crate) struct Rot(BTreeMap<u64, u8>);

impl Rot {
    /// Flips them in what was read from this place.
    pub(crate) fn harm(&self, offset: u64, bytes: &mut [u8]) {
        for (at, mask) in self.0.range(offset..offset + bytes.len() as u64) {
            bytes[usize::try_from(at - offset).expect("within the buffer")] ^= mask;
        }
    }
}

/// Locked while an operation is done, so that the log's order is the disk's.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) log: Log,
    /// Files of which the log knows.
    known: BTreeSet<Name>,
    fault: Option<Fault>,
    rot: BTreeMap<Name, Rot>,
}

impl Watched {
    /// Who watches this file, and its name in the folder.
    pub(crate) fn of(path: &Path) -> Option<(Arc<Self>, Name)> {
        let (folder, name) = (path.parent()?, path.file_name().and_then(OsStr::to_str)?);
        let all = WATCHED.lock().unwrap_or_else(PoisonError::into_inner);
        let watched = all.iter().filter_map(Weak::upgrade).find(|it| it.folder == folder)?;
        Some((watched, Name::from(name)))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    pub(crate) fn note(&mut self, op: Op) {
        self.log.ops.push(op);
    }

    /// A file was opened. `found`: what was in it, asked only for a file that is not known yet.
    pub(crate) fn opened(&mut self, file: &Name, found: impl FnOnce() -> Vec<u8>) {
        if self.known.insert(file.clone()) {
            let bytes = found();
            let file = file.clone();
            self.note(if bytes.is_empty() {
                Op::Create { file }
            } else {
                Op::Found { file, bytes: bytes.into() }
            });
        }
        self.note(Op::Open { file: file.clone() });
    }

    pub(crate) fn rot_of(&self, file: &Name) -> Option<&Rot> {
        self.rot.get(file)
    }

    /// So many bytes were written there: they are sound again.
    pub(crate) fn written(&mut self, file: &Name, offset: u64, bytes: usize) {
        if let Some(Rot(places)) = self.rot.get_mut(file) {
            places.retain(|at, _| !(offset..offset + bytes as u64).contains(at));
        }
    }

    pub(crate) fn deleted(&mut self, file: &Name, folder: bool) {
        self.rot.remove(file);
        if self.known.remove(file) {
            self.note(Op::Delete { file: file.clone(), folder });
        }
    }

    /// Whether this is to fail: the code, and whether half of it is done.
    pub(crate) fn strikes(&mut self, operation: Operation, file: &Name) -> Option<(i32, bool)> {
        let struck = self.fault.as_mut()?.strikes(operation, file)?;
        self.note(Op::Failed { file: file.clone(), operation });
        Some(struck)
    }
}
