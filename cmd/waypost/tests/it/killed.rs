//! What is left when the command is killed with -9, and what it asks of the disk.

use std::collections::HashSet;
use std::fs::File;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::program::{NOWHERE, PATIENCE, Program, Running, field, finish, numbered, texts};
use crate::support::nats_server::NatsServer;
use crate::support::{eventually, not_run};
use rustix::process::{Resource, Signal};

/// P1, P2, P3, P5: what was printed arrives, once and in order, whatever happened to the sender.
#[test]
fn p1_every_id_that_was_printed_before_a_kill_arrives() {
    let server = NatsServer::start();
    let here = Program::new(server.url());
    let mut sender = here.spawn("send chat --lines --id alice");
    sender.write(numbered(2_000).as_bytes());
    let mut printed: Vec<String> = (0..100).map(|_| sender.line()).collect();
    sender.signal(Signal::KILL);
    let killed = sender.ended();
    assert_eq!(killed.code, None, "killed");
    // What was still in the pipe counts too; the last line may be cut off.
    printed.extend(killed.lines().into_iter().filter(|id| id.len() == 26).map(str::to_owned));

    let reader = here.spawn("recv chat --id bob --from all --json --idle 2s");
    let mut sender = here.spawn("send chat --lines --id alice --wait 30s");
    sender.input = None;
    // Read before the sender is waited for: it prints more than a pipe holds.
    let got = reader.ended().expect_code(0);
    sender.ended().expect_code(0);
    let ids: Vec<String> = got.lines().iter().map(|line| field(line, "id")).collect();
    assert_eq!(ids[..printed.len()], printed, "all that was printed, in order");
    assert!(ids.is_sorted_by(|a, b| a < b), "each once");
    let expected = numbered(2_000);
    let expected: Vec<&str> = expected.lines().take(ids.len()).collect();
    assert_eq!(texts(&got.lines()), expected, "and what else was committed, without a gap");
}

/// P2, P3, P5: a reader that is killed misses nothing, and prints at most the one message again that it had not acknowledged yet.
#[test]
fn p5_a_reader_killed_in_the_middle_repeats_at_most_one_message() {
    const COUNT: usize = 300;
    let server = NatsServer::start();
    let here = Program::new(server.url());
    let path = here.path("out");
    let start = || {
        let out = File::options().create(true).append(true).open(&path).expect("a file");
        let mut command = here.command("recv chat --id bob --from all");
        command.stdin(Stdio::null()).stdout(out).stderr(Stdio::null());
        command.spawn().expect("the command starts")
    };
    let lines = || -> Vec<String> {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    };
    let mut sender = here.spawn("send chat --lines --id alice --wait 40s");
    sender.write(numbered(COUNT).as_bytes());
    let mut kills = 0;
    for at_least in [20, 100, 200] {
        let mut reader = start();
        eventually(PATIENCE, "some were received", || lines().len() >= at_least);
        reader.kill().expect("it runs");
        reader.wait().expect("our own child");
        kills += 1;
    }
    let mut reader = start();
    let last = format!("m{}", COUNT - 1);
    eventually(PATIENCE, "the last one was received", || lines().contains(&last));
    sender.ended().expect_code(0);
    reader.kill().expect("it runs");
    reader.wait().expect("our own child");

    let mut got = lines();
    let printed = got.len();
    got.dedup();
    assert!(printed - got.len() <= kills, "{} repeated in {kills} kills", printed - got.len());
    assert_eq!(got.join("\n") + "\n", numbered(COUNT));
}

/// P5, P6: a message that was printed and could not be noted is noted later, not printed again, and no attempt of its sender's.
#[test]
fn p6_a_reader_whose_disk_fails_goes_on_once_it_works_again() {
    let server = NatsServer::start();
    let here = Program::new(server.url()).with("WAYPOST_MAX_ATTEMPTS", "2");
    let mut shell = Command::new("sh");
    // Where this signal is ignored, a write beyond the limit is an error.
    shell.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_waypost")]);
    let mut reader = Running::new(here.wrap(shell, "recv chat --id bob --from all"));
    here.run("send chat m0 --id alice --wait=30s").expect_code(0);
    assert_eq!(reader.line(), "m0");
    reader.limit_files(Some(1));
    here.feed("send chat --lines --id alice --wait=4s", b"m1\nm2\n").expect_code(3);
    // What was printed while it failed, and what was not, comes once each.
    reader.limit_files(None);
    here.run("send chat m3 --id alice --wait=30s").expect_code(0);
    assert_eq!([reader.line(), reader.line(), reader.line()], ["m1", "m2", "m3"]);
    reader.signal(Signal::TERM);
    let ended = reader.ended().expect_code(0);
    assert!(ended.out.is_empty(), "{}", ended.text());
}

/// A shell that ignores these signals, and then is the command.
fn ignoring(here: &Program, signals: &str, arguments: &str) -> Running {
    let mut shell = Command::new("sh");
    let script = format!("trap '' {signals}; exec \"$0\" \"$@\"");
    shell.args(["-c", &script, env!("CARGO_BIN_EXE_waypost")]);
    Running::new(here.wrap(shell, arguments))
}

/// As `nohup` and a shell's `&` have it.
#[test]
fn a_signal_that_is_ignored_at_the_start_stays_ignored() {
    let server = NatsServer::start();
    let here = Program::new(server.url());
    let mut reader = ignoring(&here, "HUP INT QUIT", "recv chat --id bob");
    let mut sender = ignoring(&here, "HUP INT", "send chat --lines --id alice --to bob --wait 30s");
    for line in ["one", "two"] {
        sender.write(format!("{line}\n").as_bytes());
        sender.line();
        assert_eq!(reader.line(), line);
        for signal in [Signal::HUP, Signal::INT, Signal::HUP, Signal::INT] {
            reader.signal(signal);
            sender.signal(signal);
        }
        reader.signal(Signal::QUIT);
    }
    sender.ended().expect_code(0);
    reader.signal(Signal::TERM);
    reader.ended().expect_code(0);
    // Those that are not ignored are heard as ever.
    for signal in [Signal::HUP, Signal::INT] {
        let mut reader = ignoring(&here, "USR1", "recv chat --id bob");
        here.run("send chat three --id alice --to bob --wait 30s").expect_code(0);
        assert_eq!(reader.line(), "three");
        reader.signal(signal);
        reader.ended().expect_code(0);
    }
}

#[test]
fn a_limit_of_the_process_is_named_and_nothing_panics() {
    let here = Program::new(NOWHERE);
    let limited = |limit: &str, arguments: &str| {
        let mut shell = Command::new("sh");
        let script = format!("ulimit {limit}; exec \"$0\" \"$@\"");
        shell.args(["-c", &script, env!("CARGO_BIN_EXE_waypost")]);
        let ended = Running::new(here.wrap(shell, arguments)).ended();
        assert!(!ended.err.contains("panicked"), "{}", ended.err);
        ended
    };
    let mut refused = 0;
    for files in [4, 5, 6, 8, 12, 16, 20, 24, 28, 32, 40] {
        let ended = limited(&format!("-n {files}"), "send chat hi --id alice --flush 0");
        // Below four not even the program's own libraries can be opened.
        match ended.code {
            Some(0) => break,
            _ => {
                drop(ended.says(1, "more files can be opened, and 24 are needed: raise the limit"))
            }
        }
        refused += 1;
    }
    assert!((5..=10).contains(&refused), "{refused} refused");
    let rows = here.run("queue --id alice --json").expect_code(0).json();
    assert_eq!(rows[0]["pending"], 1, "the first that was not refused");
    // A signal would end it here if it was not taken.
    let ended = limited("-f 1", "db backup copy.db --id alice").expect_code(1);
    assert!(ended.err.contains("too large") || ended.err.contains("full"), "{}", ended.err);
    let ended = limited("-f 1", "send chat hi --id carol --flush 0").expect_code(1);
    assert!(ended.err.contains("too large") || ended.err.contains("full"), "{}", ended.err);
    here.run("send chat hi --id alice --flush 0").expect_code(0);
    here.run("db check --id alice").expect_code(0);
    // One far above what the file takes is in nobody's way, in blocks of half a KiB or one.
    std::fs::write(here.path("lines"), "a line\n".repeat(50)).expect("written");
    for blocks in [20_000, 200_000] {
        let mut shell = Command::new("sh");
        let script = format!("ulimit -f {blocks}; exec \"$0\" \"$@\" < lines");
        shell.args(["-c", &script, env!("CARGO_BIN_EXE_waypost")]);
        let send = format!("send chat --lines --id dan-{blocks} --flush 0");
        let sent = Running::new(here.wrap(shell, &send)).ended().expect_code(0);
        assert_eq!(sent.text().lines().count(), 50, "{}", sent.err);
    }
}

/// Before it runs, by the allocator, by SQLite at the start, and while it runs.
fn names_memory(err: &str) -> bool {
    let named = [
        "more threads can be started",
        "memory allocation of",
        "not enough memory",
        "out of memory",
    ];
    named.iter().any(|words| err.contains(words))
}

/// B7: it endures it, or ends and says why; then the next run goes on where it was.
#[test]
fn a_limit_of_memory_that_is_met_while_it_runs_costs_no_message() {
    const LARGE: usize = 8;
    let server = NatsServer::start();
    let here = Program::new(server.url());
    let line = |n: usize| format!("{n}{}\n", "x".repeat(900_000));
    let lines: String = (0..LARGE).map(line).collect();
    let first = here.run("send chat first --id alice --to bob --flush 0");
    first.expect_code(0);
    for spare_kib in [0, 500, 2_000, 8_000] {
        let mut reader =
            here.spawn(&format!("recv chat --id bob --from all --count {}", LARGE + 1));
        if spare_kib > 0 {
            here.run("send chat first --id alice --to bob --flush 0").expect_code(0);
        }
        let mut sender = here.spawn("send chat --lines --id alice --to bob --wait 35s");
        assert_eq!(reader.line(), "first");
        let status = std::fs::read_to_string(format!("/proc/{}/status", reader.id()));
        let status = status.expect("it runs");
        let size = status.lines().find_map(|line| line.strip_prefix("VmSize:")).expect("a size");
        let kib: u64 = size.trim().trim_end_matches(" kB").parse().expect("a number");
        reader.limit(Resource::As, Some((kib + spare_kib) * 1024));
        let reader = std::thread::spawn(move || reader.ended());
        sender.write(lines.as_bytes());
        sender.input = None;
        let sent = std::thread::spawn(move || sender.ended());
        let ended = reader.join().expect("a reading thread");
        assert!(!ended.err.contains("panicked"), "{spare_kib}: {}", ended.err);
        let mut got = ended.lines().len();
        if ended.code != Some(0) {
            assert!(names_memory(&ended.err), "{spare_kib}: {:?} {}", ended.code, ended.err);
            let rest = here.run("recv chat --id bob --from all --idle 4s").expect_code(0);
            got += rest.lines().len();
        }
        sent.join().expect("a reading thread").expect_code(0);
        // The last one may come again, where it ended before it was acknowledged.
        assert!((LARGE..=LARGE + 1).contains(&got), "{spare_kib}: {got}");
    }
}

#[test]
fn too_little_memory_is_named_and_nothing_panics() {
    let here = Program::new(NOWHERE);
    let limited = |kib: u64, arguments: &str| {
        let mut shell = Command::new("sh");
        let script = format!("ulimit -v {kib}; exec \"$0\" \"$@\"");
        shell.args(["-c", &script, env!("CARGO_BIN_EXE_waypost")]);
        Running::new(here.wrap(shell, arguments)).ended()
    };
    // Below this the system cannot even load the program.
    let loads = (1..).map(|n| n * 10_000).find(|kib| limited(*kib, "--version").code == Some(0));
    let least = loads.expect("the machine has as much");
    let mut sent = 0;
    for more in [0, 5_000, 10_000, 20_000, 40_000, 80_000, 120_000, 200_000, 1_000_000] {
        let ended = limited(least + more, "send chat hi --id alice --flush 0");
        assert!(!ended.err.contains("panicked"), "{more}: {}", ended.err);
        assert!(
            ended.code == Some(0) || names_memory(&ended.err),
            "{more} above {least}: {ended:?}"
        );
        sent += u64::from(ended.code == Some(0));
    }
    assert!(sent > 0, "a gigabyte is enough");
    let rows = here.run("queue --id alice --json").expect_code(0).json();
    assert_eq!(rows[0]["pending"], sent);
}

#[test]
fn a_limit_of_files_that_is_met_while_it_runs_is_named_and_it_goes_on_by_itself() {
    let mut server = NatsServer::start();
    let here = Program::new(server.url());
    let mut reader = here.spawn("recv chat --id bob");
    here.run("send chat one --id alice --to bob --wait 30s").expect_code(0);
    assert_eq!(reader.line(), "one");
    reader.limit(Resource::Nofile, Some(3));
    server.restart();
    let named = || reader.said().contains("this process can open no more files");
    eventually(PATIENCE, "the limit is named", named);
    reader.limit(Resource::Nofile, None);
    here.run("send chat two --id alice --to bob --wait 30s").expect_code(0);
    assert_eq!(reader.line(), "two");
    reader.signal(Signal::TERM);
    reader.ended().expect_code(0);
}

/// A limit of threads counts those of all processes of a user and binds no root, so that the node runs as somebody who has no other.
const SOMEBODY: [&str; 5] = ["--reuid", "54321", "--regid", "54321", "--clear-groups"];

fn as_somebody(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(SOMEBODY).arg(program);
    command
}

/// B7: what blocks is done by the threads that are there, and a node that needs new ones waits.
#[test]
fn a_limit_of_threads_that_is_met_while_it_runs_ends_nothing() {
    use std::os::unix::fs::PermissionsExt as _;
    let mut server = NatsServer::start();
    // A name, which a thread has to look up.
    let here = Program::new(format!("nats://localhost:{}", server.port()));
    let everybody = std::fs::Permissions::from_mode(0o777);
    std::fs::set_permissions(here.path(""), everybody).expect("our own folder");
    let mut reader =
        Running::new(here.wrap(as_somebody(env!("CARGO_BIN_EXE_waypost")), "recv chat --id bob"));
    let may_run = as_somebody(env!("CARGO_BIN_EXE_waypost")).arg("--version").output();
    if !may_run.is_ok_and(|tried| tried.status.success()) {
        return not_run("this machine lets nobody run a program as another user");
    }
    here.run("send chat one --id alice --to bob --wait 30s").expect_code(0);
    assert_eq!(reader.line(), "one");
    let pid = reader.id().to_string();
    let limit = |threads: &str| {
        let limited = as_somebody("prlimit").args(["--pid", &pid, threads]).status();
        assert!(limited.is_ok_and(|status| status.success()), "prlimit of util-linux");
    };
    limit("--nproc=1:");
    // Longer than idle threads of a runtime last that nobody has told otherwise.
    std::thread::sleep(Duration::from_secs(12));
    server.stop();
    let away = || reader.said().contains("not connected to NATS");
    eventually(PATIENCE, "the server is missed", away);
    server.restart();
    here.run("send chat two --id alice --to bob --wait 30s").expect_code(0);
    assert_eq!(reader.line(), "two");
    reader.signal(Signal::TERM);
    let ended = reader.ended().expect_code(0);
    assert!(!ended.err.contains("panicked"), "{}", ended.err);
}

/// P1: before each batch of ids that is printed, the file was synced.
#[test]
fn p1_each_batch_of_printed_ids_comes_after_a_sync() {
    let here = Program::new(NOWHERE);
    let trace = here.path("trace");
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-s", "8", "-e", "trace=fdatasync,fsync,write", "-e", "signal=none"]);
    strace.arg("-o").arg(&trace).arg(env!("CARGO_BIN_EXE_waypost"));
    let probe = Command::new("strace").arg("-V").output();
    assert!(
        probe.is_ok_and(|probe| probe.status.success()),
        "no strace, with which this test counts syncs: install it with `apt-get install strace` (or dnf, pacman)"
    );
    let mut sender = Running::new(here.wrap(strace, "send chat --lines --flush 0"));
    for n in 0..5 {
        sender.write(format!("m{n}\n").as_bytes());
        sender.line();
    }
    // Many at once: they share commits, and their ids share writes.
    sender.write(numbered(1_000).as_bytes());
    let ended = sender.ended().expect_code(0);
    assert_eq!(ended.lines().len(), 1_000);

    let trace = std::fs::read_to_string(&trace).expect("strace has written");
    let (mut batches, mut syncs, mut since) = (0, 0, 0);
    for line in trace.lines() {
        let is_sync = line.contains("fdatasync") || line.contains("fsync");
        if is_sync && line.ends_with("= 0") {
            syncs += 1;
            since += 1;
        } else if line.contains("write(") && line.contains("\"01") {
            assert!(since > 0, "batch {batches} of ids was printed without a sync before it");
            batches += 1;
            since = 0;
        }
    }
    assert!((6..=1_005).contains(&batches), "{batches} batches");
    assert!(syncs >= batches, "{syncs} syncs for {batches} batches");
    let distinct: HashSet<&str> = ended.lines().into_iter().collect();
    assert_eq!(distinct.len(), 1_000);
}

/// P1, P2: 100 ids were printed, exit 0, and none arrived.
#[test]
fn a_restored_backup_beside_the_old_log_is_refused_and_db_restore_does_it_right() {
    let server = NatsServer::start();
    let here = Program::new(server.url());
    let db = here.path("waypost-alice.db");
    let mut sender = here.spawn("send chat --lines --id alice --flush 0");
    let send = |sender: &mut Running, lines: usize| {
        sender.write(numbered(lines).as_bytes());
        (0..lines).for_each(|_| drop(sender.line()));
    };
    send(&mut sender, 50);
    here.run("db backup old.db --id alice").expect_code(0);
    send(&mut sender, 50);
    here.run("db restore old.db --id alice --yes").says(1, "is in use by node alice");
    sender.signal(Signal::KILL);
    sender.ended();
    std::fs::copy(here.path("old.db"), &db).expect("copied over it");
    let files = || {
        let read = |suffix| std::fs::read(here.path(&format!("waypost-alice.db{suffix}"))).ok();
        (read(""), read("-wal"))
    };
    let before = files();
    for command in ["send chat x --id alice", "recv chat --id alice", "queue --id alice"] {
        here.run(command).says(1, "does not belong to");
    }
    here.run("db vacuum --id alice").says(1, "waypost db restore");
    assert!(before == files(), "something changed");

    here.run("db restore old.db --id alice").says(1, "give --yes");
    assert!(before == files(), "something changed");
    let restored = here.run("db restore old.db --id alice --yes").expect_code(0);
    assert!(restored.text().contains("waypost-alice.db-replaced-1"), "{restored:?}");
    let reader = here.spawn("recv chat --id bob --from all --json --count 60");
    let sent = here.feed("send chat --lines --id alice --wait=30s", numbered(10).as_bytes());
    let ids = sent.expect_code(0);
    let got = reader.ended().expect_code(0);
    let arrived: Vec<String> = got.lines().iter().map(|line| field(line, "id")).collect();
    assert_eq!(arrived[50..], ids.lines());
    here.run("db check --id alice").expect_code(0);
}

/// A card or a disk image that is looked at, and must not be written.
#[test]
fn what_a_killed_node_left_is_read_on_a_read_only_filesystem() {
    let server = NatsServer::start();
    let here = Program::new(server.url());
    std::fs::create_dir(here.path("card")).expect("a folder");
    let mut sender = here.spawn("send chat --lines --id alice --db card/a.db --flush 0");
    sender.write(numbered(20).as_bytes());
    (0..20).for_each(|_| drop(sender.line()));
    sender.signal(Signal::KILL);
    sender.ended();
    for with_index in [true, false] {
        if !with_index {
            std::fs::remove_file(here.path("card/a.db-shm")).expect("removed");
        }
        let script = "mount --bind card card && mount -o remount,ro,bind card || exit 77
            touch card/x 2> /dev/null && exit 77
            \"$0\" --db card/a.db queue --json && \"$0\" --db card/a.db db check &&
            \"$0\" --db card/a.db db backup copy.db && \"$0\" --db copy.db db check
            code=$?; rm -f copy.db; \"$0\" --db card/a.db send chat x --flush 0 2>&1; exit $code";
        let mut command = Command::new("unshare");
        command.args(["-rm", "sh", "-c", script, env!("CARGO_BIN_EXE_waypost")]);
        let ended = finish(here.wrap(command, ""), b"");
        if ended.code == Some(77) || ended.err.contains("unshare") {
            return not_run(&format!("this machine lets nobody mount anything: {}", ended.err));
        }
        let ended = ended.expect_code(0);
        let text = ended.text();
        assert!(text.contains("\"pending\":20") || text.contains("\"pending\": 20"), "{text}");
        assert_eq!(text.matches("sound: 20 messages checked").count(), 2, "{text}");
        assert!(text.contains("make it writable"), "{text}");
    }
}

/// P5: two nodes of one id, where the first stood still while the second started. Each message is printed by one of them.
#[test]
fn p5_a_frozen_node_that_comes_back_handles_nothing_that_another_of_its_name_handled() {
    let server = NatsServer::start();
    let here = Program::new(server.url());
    let mut first = here.spawn("recv chat --id bob --db first.db");
    let send = |text: &str| {
        here.run(&format!("send chat {text} --id alice --to bob --wait=60s")).expect_code(0);
    };
    send("m0");
    assert_eq!(first.line(), "m0");
    first.signal(Signal::STOP);
    let stopped = Instant::now();
    let mut second = here.spawn("recv chat --id bob --db second.db");
    send("m1");
    assert_eq!(second.line(), "m1");
    // Long enough to be noticed.
    std::thread::sleep(Duration::from_millis(2_600).saturating_sub(stopped.elapsed()));
    first.signal(Signal::CONT);
    // The second one is young, and stands back.
    for text in ["m2", "m3", "m4"] {
        send(text);
    }
    second.signal(Signal::TERM);
    let printed_second = second.ended().text().to_owned();
    first.signal(Signal::TERM);
    let printed_first = first.ended().text().to_owned();
    let mut all: Vec<&str> = printed_first.lines().chain(printed_second.lines()).collect();
    all.sort_unstable();
    assert_eq!(all, ["m2", "m3", "m4"], "{printed_first:?} {printed_second:?}");
    assert!(printed_first.contains("m4"), "the first one goes on: {printed_second:?}");
}

#[test]
fn a_file_that_is_gone_or_empty_is_told_where_something_is_left_of_it() {
    let here = Program::new(NOWHERE);
    let send = "send chat hi --id alice --to bob --flush 0";
    let says = "a node's file was here";
    assert!(!here.run(send).expect_code(0).err.contains(says));
    assert!(!here.run(send).expect_code(0).err.contains(says));
    let file = here.path("waypost-alice.db");
    std::fs::write(&file, "").expect("emptied");
    here.run(send).says(0, says);
    assert!(!here.run(send).expect_code(0).err.contains(says));
    std::fs::remove_file(&file).expect("it is there");
    here.run(send).says(0, says);
    here.run("db check --id alice").expect_code(0);
}
