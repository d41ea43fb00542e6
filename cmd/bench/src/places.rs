//! Where results are written.

use std::io::Write;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::error::{BenchError, unusable};
use crate::options::Options;
use crate::report::Folder;
use crate::results::Results;

/// Where results are to be written, tried before anything is measured.
pub(crate) struct Places {
    json: Option<(NamedTempFile, PathBuf)>,
    report: Option<Folder>,
}

impl Places {
    /// Makes what is to hold them under another name; it goes if there are none.
    ///
    /// # Errors
    /// One cannot be written.
    pub(crate) fn check(options: &Options) -> Result<Self, BenchError> {
        let json = match &options.json {
            Some(path) => Some((beside(path)?, path.clone())),
            None => None,
        };
        let report = options.report.as_deref().map(Folder::make).transpose()?;
        Ok(Self { json, report })
    }

    /// Writes them.
    ///
    /// # Errors
    /// What the disk says.
    pub(crate) fn write(self, results: &Results) -> Result<(), BenchError> {
        if let Some((mut file, path)) = self.json {
            let mut text = serde_json::to_vec_pretty(results).expect("numbers and texts");
            text.push(b'\n');
            file.write_all(&text).map_err(|error| unusable(&path, &error))?;
            file.persist(&path).map_err(|error| unusable(&path, &error.error))?;
        }
        self.report.map_or(Ok(()), |report| report.write(results))
    }
}

fn beside(path: &Path) -> Result<NamedTempFile, BenchError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    if path.is_dir() {
        let error = std::io::Error::from(std::io::ErrorKind::IsADirectory);
        return Err(unusable(path, &error));
    }
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    let file = tempfile::Builder::new()
        .permissions(mode)
        .tempfile_in(folder.unwrap_or_else(|| Path::new(".")));
    file.map_err(|error| unusable(path, &error))
}
