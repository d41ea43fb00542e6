//! What an fsync of a small append takes: one page at the end of a file, as a commit of one message is.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::error::{BenchError, unusable};
use crate::pace;

/// What is appended before each.
pub(crate) const APPEND_BYTES: usize = 4_096;

/// The times of single fsyncs, one after the other, for so long.
///
/// # Errors
/// The file cannot be written.
pub(crate) async fn times(folder: &Path, length: Duration) -> Result<Vec<Duration>, BenchError> {
    let folder = folder.to_owned();
    tokio::task::spawn_blocking(move || {
        let path = folder.join("fsync");
        let times = append(&path, length).map_err(|error| unusable(&path, &error));
        // It is in the run's folder, which goes in any case.
        let _ = std::fs::remove_file(&path);
        times
    })
    .await?
}

/// The times of so many single fsyncs, each at its time.
///
/// # Errors
/// The file cannot be written.
pub(crate) async fn at_pace(
    folder: &Path,
    interval: Duration,
    count: u32,
) -> Result<Vec<Duration>, BenchError> {
    let path = folder.join("fsync-at-pace");
    tokio::task::spawn_blocking(move || {
        let mut file = File::create(&path).map_err(|error| unusable(&path, &error))?;
        let mut times = Vec::with_capacity(count as usize);
        let mut failed = None;
        pace::keep(interval, count, |_| {
            let before = Instant::now();
            match file.write_all(&[7; APPEND_BYTES]).and_then(|()| file.sync_data()) {
                Ok(()) => times.push(before.elapsed()),
                Err(error) => failed = Some(error),
            }
        });
        // As above.
        let _ = std::fs::remove_file(&path);
        failed.map_or(Ok(times), |error| Err(unusable(&path, &error)))
    })
    .await?
}

fn append(path: &Path, length: Duration) -> std::io::Result<Vec<Duration>> {
    let mut file = File::create(path)?;
    let bytes = [7; APPEND_BYTES];
    let mut times = Vec::new();
    let begin = Instant::now();
    while begin.elapsed() < length {
        let before = Instant::now();
        file.write_all(&bytes)?;
        file.sync_data()?;
        times.push(before.elapsed());
    }
    Ok(times)
}
