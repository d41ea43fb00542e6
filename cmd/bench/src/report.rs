//! The page and its plots.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::error::{BenchError, unusable};
use crate::results::Results;

mod page;
mod plots;

/// A folder for the page and the plots, made before anything is measured.
pub(crate) struct Folder {
    path: PathBuf,
    /// Written first, so that the folder is never half old and half new.
    draft: TempDir,
    /// Whether it was there before.
    was_there: bool,
    /// Whether it is to stay.
    written: bool,
}

impl Folder {
    /// This one, whether it is there or not; what is in it under other names stays.
    ///
    /// # Errors
    /// It cannot be made or written.
    pub(crate) fn make(path: &Path) -> Result<Self, BenchError> {
        let failed = |error| unusable(path, &error);
        let was_there = path.is_dir();
        std::fs::create_dir_all(path).map_err(failed)?;
        let draft = tempfile::Builder::new().prefix(".draft-").tempdir_in(path).map_err(failed)?;
        Ok(Self { path: path.to_owned(), draft, was_there, written: false })
    }

    /// Writes the page and the plots.
    ///
    /// # Errors
    /// What the disk says.
    pub(crate) fn write(mut self, results: &Results) -> Result<(), BenchError> {
        let failed = |error| unusable(&self.path, &error);
        let plots = plots::draw(results).map_err(|error| failed(std::io::Error::other(error)))?;
        let mut files: Vec<(String, String)> = plots;
        let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
        let page = page::write(results, &names);
        files.push(("report.md".to_owned(), page));
        for (name, text) in &files {
            std::fs::write(self.draft.path().join(name), text).map_err(failed)?;
        }
        for (name, _) in &files {
            let draft = self.draft.path().join(name);
            std::fs::rename(draft, self.path.join(name)).map_err(failed)?;
        }
        self.written = true;
        Ok(())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.written && !self.was_there {
            // Empty but for the draft, which goes by itself otherwise.
            let _ = std::fs::remove_dir_all(self.draft.path());
            let _ = std::fs::remove_dir(&self.path);
        }
    }
}
