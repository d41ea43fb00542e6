//! The conductor when it is interrupted: nothing that it started is left, and nothing on the disk.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use waypost_chaos::journal::{self, Event};

/// For a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);
const SOON: Duration = Duration::from_millis(50);

/// Waits until there is an answer.
fn await_some<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(SOON);
    }
}

/// Every process that the journal tells of, once there are at least so many. A line that is being written is no line yet.
fn started(part: &Path, at_least: usize) -> Option<Vec<Pid>> {
    let records = journal::read(part).ok()?;
    let pids = records.into_iter().filter_map(|record| match record.event {
        Event::Start { pid, .. } => Pid::from_raw(pid.try_into().expect("a process id")),
        _ => None,
    });
    Some(pids.collect::<Vec<_>>()).filter(|pids| pids.len() >= at_least)
}

/// Whether there is no such process, or it only waits for whoever inherited it to notice its end.
fn has_ended(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    test_kill_process(pid).is_err() || stat.contains(") Z ")
}

/// Ends the conductor of a test that failed.
struct Conductor(Child);

impl Drop for Conductor {
    fn drop(&mut self) {
        let _ = (self.0.kill(), self.0.wait());
    }
}

#[test]
fn an_interrupted_run_leaves_nothing_behind() {
    for signal in [Signal::INT, Signal::TERM] {
        let place = tempfile::tempdir().expect("a folder");
        let child = Command::new(env!("CARGO_BIN_EXE_chaos"))
            .args(["--exactly-once", "--minutes", "30", "--seed", "1"])
            .env("TMPDIR", place.path())
            .stderr(Stdio::null())
            .spawn();
        let mut conductor = Conductor(child.expect("it starts"));
        let folder: PathBuf = place.path().join(format!("waypost-chaos-{}", conductor.0.id()));
        // The server, two sellers and three buyers, and one of them a second time.
        let pids = await_some("a kill", || started(&folder.join("exactly-once"), 7));
        let pid = Pid::from_raw(conductor.0.id().try_into().expect("a process id"));
        kill_process(pid.expect("a process id"), signal).expect("it is signalled");

        let status = await_some("the end", || conductor.0.try_wait().expect("a child of ours"));
        assert_eq!(status.code(), Some(130), "{signal:?}");
        for pid in pids {
            await_some("the end of a node", || has_ended(pid).then_some(()));
        }
        assert_eq!(fs::read_dir(place.path()).expect("a folder").count(), 0, "{signal:?}");
    }
}
