//! What other users of the machine may do with a file that is nobody else's business.
//!
//! The group is left alone: to share a settings file with the service's group is a good custom.

use std::fmt;
use std::fs::{self, Metadata};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

const OTHERS_READ: u32 = 0o004;
const OTHERS_WRITE: u32 = 0o002;
const OTHERS_ENTER: u32 = 0o001;
/// In such a folder only a file's owner can remove or replace it.
const STICKY: u32 = 0o1000;

/// What every user of the machine may do with a file or folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Exposure {
    /// Read it.
    Readable,
    /// Change it, or what is in it.
    Writable,
}

impl fmt::Display for Exposure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Readable => "every user of this machine can read it",
            Self::Writable => "every user of this machine can change it",
        })
    }
}

/// What every user of the machine may do with this file, or with the files in this folder. None where it is nothing, where a folder on the
/// way there keeps others out, and where there is nothing at this path.
pub fn exposure(path: impl AsRef<Path>) -> Option<Exposure> {
    let path = fs::canonicalize(path).ok()?;
    let closed =
        |folder: &Path| fs::metadata(folder).is_ok_and(|found| !allows(&found, OTHERS_ENTER));
    if path.ancestors().skip(1).any(closed) {
        return None;
    }
    let found = fs::metadata(&path).ok()?;
    if found.is_dir() {
        let replaces = allows(&found, OTHERS_WRITE | OTHERS_ENTER) && found.mode() & STICKY == 0;
        return replaces.then_some(Exposure::Writable);
    }
    match (allows(&found, OTHERS_WRITE), allows(&found, OTHERS_READ)) {
        (true, _) => Some(Exposure::Writable),
        (_, true) => Some(Exposure::Readable),
        (false, false) => None,
    }
}

fn allows(found: &Metadata, bits: u32) -> bool {
    found.permissions().mode() & bits == bits
}

/// Tells the log about a file that is exposed. `what` it is, in the words of the settings.
pub(crate) fn warn_of(what: &str, path: &Path) {
    if let Some(exposure) = exposure(path) {
        tracing::warn!(path = %path.display(), "{what}: {exposure}; take that away with chmod o-rwx");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("ours");
    }

    #[test]
    fn a_file_is_exposed_by_its_own_mode_where_no_folder_keeps_others_out() {
        let folder = tempfile::tempdir().expect("a folder");
        let (inner, file) = (folder.path().join("inner"), folder.path().join("inner/file"));
        fs::create_dir(&inner).expect("a folder");
        fs::write(&file, "secret").expect("a file");
        for (outer, inside, mode, wanted) in [
            (0o755, 0o755, 0o600, None),
            (0o755, 0o755, 0o660, None),
            (0o755, 0o755, 0o640, None),
            (0o755, 0o755, 0o644, Some(Exposure::Readable)),
            (0o755, 0o755, 0o666, Some(Exposure::Writable)),
            (0o711, 0o711, 0o604, Some(Exposure::Readable)),
            (0o700, 0o755, 0o666, None),
            (0o755, 0o750, 0o644, None),
        ] {
            set(folder.path(), outer);
            set(&inner, inside);
            set(&file, mode);
            assert_eq!(exposure(&file), wanted, "{outer:o} {inside:o} {mode:o}");
        }
        assert_eq!(exposure(folder.path().join("missing")), None);
    }

    #[test]
    fn a_folder_is_exposed_where_others_can_replace_what_is_in_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let modes = [0o700, 0o755, 0o770, 0o1777, 0o777];
        let found = modes.map(|mode| {
            set(folder.path(), mode);
            exposure(folder.path())
        });
        assert_eq!(found, [None, None, None, None, Some(Exposure::Writable)]);
    }
}
