//! `elections` with two kills, and what is left when it is interrupted.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

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

/// Ends the conductor of a test that failed.
struct Conductor(Child);

impl Drop for Conductor {
    fn drop(&mut self) {
        let _ = (self.0.kill(), self.0.wait());
    }
}

#[test]
fn masters_that_are_killed_are_followed_by_others_with_their_state() {
    let place = tempfile::tempdir().expect("a folder");
    let output = Command::new(env!("CARGO_BIN_EXE_elections"))
        .args(["run", "--kills", "2", "--seed", "1", "--json"])
        .env("TMPDIR", place.path())
        .output()
        .expect("it runs");
    let told = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}{errors}");
    let verdict: serde_json::Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!(verdict["kills"], 2);
    assert_eq!(verdict["findings"], serde_json::json!([]));
    assert_eq!(fs::read_dir(place.path()).expect("a folder").count(), 0, "nothing is left");
}

#[test]
fn two_masters_at_one_moment_are_seen_where_there_are_two() {
    let place = tempfile::tempdir().expect("a folder");
    let output = Command::new(env!("CARGO_BIN_EXE_elections"))
        .args(["run", "--kills", "1", "--seed", "1", "--elect", "visible", "--json"])
        .env("TMPDIR", place.path())
        .output()
        .expect("it runs");
    let told = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{told}{}", String::from_utf8_lossy(&output.stderr));
    let verdict: serde_json::Value = serde_json::from_str(&told).expect("JSON");
    let findings = verdict["findings"].as_array().expect("findings");
    assert!(findings.iter().any(|finding| finding["wrong"] == "two_at_once"), "{told}");
}

#[test]
fn an_interrupted_run_of_elections_leaves_nothing_behind() {
    let place = tempfile::tempdir().expect("a folder");
    let child = Command::new(env!("CARGO_BIN_EXE_elections"))
        .args(["run", "--kills", "1000", "--seed", "1"])
        .env("TMPDIR", place.path())
        .stderr(Stdio::null())
        .spawn();
    let mut conductor = Conductor(child.expect("it starts"));
    let deeds = place
        .path()
        .join(format!("waypost-elections-{}", conductor.0.id()))
        .join("conductor.jsonl");
    // Three servers, three voters and the one who looks on.
    let pids = await_some("seven processes", || {
        let text = fs::read_to_string(&deeds).ok()?;
        let lines = text.lines().filter_map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).ok()?;
            Pid::from_raw(line["pid"].as_i64()?.try_into().ok()?)
        });
        Some(lines.collect::<Vec<_>>()).filter(|pids| pids.len() >= 7)
    });
    let pid = Pid::from_raw(conductor.0.id().try_into().expect("a process id"));
    kill_process(pid.expect("a process id"), Signal::INT).expect("it is signalled");
    let status = await_some("the end", || conductor.0.try_wait().expect("a child of ours"));
    assert_eq!(status.code(), Some(130));
    for pid in pids {
        await_some("the end of a process", || {
            let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
            // It may only wait for whoever inherited it to notice its end.
            let is_over = stat.unwrap_or_default().contains(") Z ");
            (is_over || test_kill_process(pid).is_err()).then_some(())
        });
    }
    assert_eq!(fs::read_dir(place.path()).expect("a folder").count(), 0);
}
