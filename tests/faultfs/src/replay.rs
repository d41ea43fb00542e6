//! What the disk could hold after a power cut.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use crate::fault::Operation;
use crate::log::{Log, Name, Op};

/// The least that a disk writes as a whole.
const SECTOR_BYTES: usize = 512;

/// What survives of that which no completed sync covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Survival {
    /// Nothing.
    Nothing,
    /// Everything.
    All,
    /// Whole operations, chosen at random.
    Some(u64),
    /// Sectors of writes, chosen at random, and whole truncations.
    Torn(u64),
}

/// Goes through a log and knows at each place what is on the disk for certain, and what may be.
#[derive(Debug)]
pub struct Replay<'a> {
    log: &'a Log,
    at: usize,
    files: Vec<File>,
    /// What the folder says now, and what a power cut leaves of it for certain.
    names: BTreeMap<Name, usize>,
    durable_names: BTreeMap<Name, usize>,
    /// The way from one to the other.
    unsynced_names: Vec<Naming>,
}

#[derive(Debug, Clone)]
enum Naming {
    Create(Name, usize),
    Delete(Name),
}

#[derive(Debug, Default)]
struct File {
    /// What is there for certain.
    base: Vec<u8>,
    /// What came after that, in order.
    changes: Vec<(Change, Fate)>,
}

#[derive(Debug, Clone)]
enum Change {
    Write { offset: u64, bytes: Arc<[u8]> },
    Truncate { size: u64 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Unsynced,
    /// A sync that should have covered it failed.
    InDoubt,
    /// Synced, behind something in doubt.
    Durable,
}

impl<'a> Replay<'a> {
    /// At the beginning of this log.
    pub fn new(log: &'a Log) -> Self {
        let (names, durable_names) = (BTreeMap::new(), BTreeMap::new());
        Self { log, at: 0, files: Vec::new(), names, durable_names, unsynced_names: Vec::new() }
    }

    /// Goes on until just before this place of the log.
    ///
    /// # Panics
    /// It is behind that place already, or there is no such place.
    pub fn advance_to(&mut self, place: usize) {
        assert!((self.at..=self.log.ops.len()).contains(&place), "from {} to {place}", self.at);
        for at in self.at..place {
            self.perform(&self.log.ops[at]);
        }
        self.at = place;
    }

    /// What the disk could hold after a power cut here.
    pub fn image(&self, survival: Survival) -> Image {
        let mut dice = match survival {
            Survival::Some(seed) | Survival::Torn(seed) => fastrand::Rng::with_seed(seed),
            Survival::Nothing | Survival::All => fastrand::Rng::with_seed(0),
        };
        let kept = match survival {
            Survival::Nothing => 0,
            Survival::All => self.unsynced_names.len(),
            Survival::Some(_) | Survival::Torn(_) => dice.usize(..=self.unsynced_names.len()),
        };
        let mut names = self.durable_names.clone();
        for naming in &self.unsynced_names[..kept] {
            naming.apply(&mut names);
        }
        // From a disk that kept almost nothing to one that lost almost nothing.
        let odds = [0.1, 0.5, 0.9][dice.usize(..3)];
        let mut files = BTreeMap::new();
        for (name, file) in names {
            files.insert(name, self.files[file].after_cut(survival, odds, &mut dice));
        }
        Image { files }
    }

    fn perform(&mut self, op: &Op) {
        match op {
            Op::Found { file, bytes } => {
                let number = self.add(File { base: bytes.to_vec(), changes: Vec::new() });
                self.names.insert(file.clone(), number);
                self.durable_names.insert(file.clone(), number);
            }
            Op::Create { file } => {
                let number = self.add(File::default());
                self.rename(Naming::Create(file.clone(), number));
            }
            Op::Delete { file, folder } => {
                self.rename(Naming::Delete(file.clone()));
                if *folder {
                    self.sync_folder();
                }
            }
            Op::Write { file, offset, bytes } => {
                self.change(file, Change::Write { offset: *offset, bytes: bytes.clone() });
            }
            Op::Truncate { file, size } => self.change(file, Change::Truncate { size: *size }),
            Op::Sync { file, folder } => {
                if let Some(file) = self.file(file) {
                    file.synced();
                }
                if *folder {
                    self.sync_folder();
                }
            }
            Op::Failed { file, operation: Operation::Sync } => {
                if let Some(file) = self.file(file) {
                    file.sync_failed();
                }
            }
            Op::Failed { .. } | Op::Open { .. } | Op::Mark(_) => {}
        }
    }

    fn add(&mut self, file: File) -> usize {
        self.files.push(file);
        self.files.len() - 1
    }

    fn rename(&mut self, naming: Naming) {
        naming.apply(&mut self.names);
        self.unsynced_names.push(naming);
    }

    fn sync_folder(&mut self) {
        self.durable_names = self.names.clone();
        self.unsynced_names.clear();
    }

    /// None where it was deleted while it was open: whatever is done to it then is lost.
    fn file(&mut self, name: &Name) -> Option<&mut File> {
        self.names.get(name).map(|number| &mut self.files[*number])
    }

    fn change(&mut self, name: &Name, change: Change) {
        if let Some(file) = self.file(name) {
            file.changes.push((change, Fate::Unsynced));
        }
    }
}

impl Naming {
    fn apply(&self, names: &mut BTreeMap<Name, usize>) {
        match self {
            Self::Create(name, file) => names.insert(name.clone(), *file),
            Self::Delete(name) => names.remove(name),
        };
    }
}

impl File {
    fn synced(&mut self) {
        for (_, fate) in &mut self.changes {
            if *fate == Fate::Unsynced {
                *fate = Fate::Durable;
            }
        }
        let certain = self.changes.iter().take_while(|(_, fate)| *fate == Fate::Durable).count();
        for (change, _) in self.changes.drain(..certain) {
            change.apply(&mut self.base, |_| true);
        }
    }

    fn sync_failed(&mut self) {
        for (_, fate) in &mut self.changes {
            if *fate == Fate::Unsynced {
                *fate = Fate::InDoubt;
            }
        }
    }

    fn after_cut(&self, survival: Survival, odds: f64, dice: &mut fastrand::Rng) -> Vec<u8> {
        let mut bytes = self.base.clone();
        for (change, fate) in &self.changes {
            if *fate == Fate::Durable {
                change.apply(&mut bytes, |_| true);
                continue;
            }
            match survival {
                Survival::Nothing => {}
                Survival::All => change.apply(&mut bytes, |_| true),
                Survival::Some(_) if dice.f64() < odds => change.apply(&mut bytes, |_| true),
                Survival::Some(_) => {}
                Survival::Torn(_) => change.apply(&mut bytes, |_| dice.f64() < odds),
            }
        }
        bytes
    }
}

impl Change {
    /// Does that part of it which is kept, sector by sector.
    fn apply(&self, file: &mut Vec<u8>, mut keep: impl FnMut(Range<usize>) -> bool) {
        let place = |at: u64| usize::try_from(at).expect("a test's file fits into memory");
        match self {
            Self::Truncate { size } => {
                if keep(0..0) {
                    file.resize(place(*size), 0);
                }
            }
            Self::Write { offset, bytes } => {
                let (begin, end) = (place(*offset), place(*offset) + bytes.len());
                let mut from = begin;
                while from < end {
                    let to = (from / SECTOR_BYTES + 1).saturating_mul(SECTOR_BYTES).min(end);
                    if keep(from..to) {
                        if file.len() < to {
                            file.resize(to, 0);
                        }
                        file[from..to].copy_from_slice(&bytes[from - begin..to - begin]);
                    }
                    from = to;
                }
            }
        }
    }
}

/// The files of a folder after a power cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    files: BTreeMap<Name, Vec<u8>>,
}

impl Image {
    /// Writes those files whose names begin so into a folder.
    ///
    /// # Errors
    /// What the system says.
    pub fn write(&self, prefix: &str, folder: &Path) -> io::Result<()> {
        for (name, bytes) in self.of(prefix) {
            std::fs::write(folder.join(&**name), bytes)?;
        }
        Ok(())
    }

    /// A number for those files whose names begin so: the same content has the same number.
    pub fn fingerprint(&self, prefix: &str) -> u64 {
        let mut hasher = DefaultHasher::new();
        for file in self.of(prefix) {
            file.hash(&mut hasher);
        }
        hasher.finish()
    }

    /// The content of a file, if it is there.
    pub fn file(&self, name: &str) -> Option<&[u8]> {
        self.files.get(name).map(Vec::as_slice)
    }

    fn of(&self, prefix: &str) -> impl Iterator<Item = (&Name, &Vec<u8>)> {
        self.files.iter().filter(move |(name, _)| name.starts_with(prefix))
    }
}

#[cfg(test)]
mod tests;
