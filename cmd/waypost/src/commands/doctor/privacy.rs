//! Files that are nobody else's business: what other users of this machine may do with them.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use waypost::Config;
use waypost::inspect::exposure;

use super::Check;
use crate::settings;

/// The node's folder and file, the settings file, credentials and key.
pub(super) fn check(config: &Config, database: &Path, settings_file: Option<&Path>) -> Check {
    let folder = database.parent().filter(|folder| !folder.as_os_str().is_empty());
    let beside = ["", "-wal", "-shm", "-begun"].map(|suffix| {
        let mut path = OsString::from(database);
        path.push(suffix);
        PathBuf::from(path)
    });
    let secrets = [config.auth.creds_file.as_deref(), config.tls.client_key.as_deref()];
    let files = std::iter::once(folder.unwrap_or(Path::new(".")))
        .chain(secrets.into_iter().flatten())
        .chain(beside.iter().map(PathBuf::as_path))
        .filter_map(|path| Some((path, exposure(path)?)));
    let settings = settings_file.and_then(|path| Some((path, settings::file_exposure(path)?)));
    let exposed: Vec<_> = settings.into_iter().chain(files).collect();
    if exposed.is_empty() {
        return Check::ok("private", "other users can neither read nor change this node's files");
    }
    let found = exposed.iter().map(|(path, how)| format!("{}: {how}", path.display()));
    let paths = exposed.iter().map(|(path, _)| path.display().to_string());
    let remedy = format!("chmod o-rwx {}", paths.collect::<Vec<_>>().join(" "));
    Check::warn("private", found.collect::<Vec<_>>().join("; "), remedy)
}
