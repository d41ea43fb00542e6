//! A disk that is full and then has room again, as somebody sees it who uses the command.

use std::process::Command;

use crate::program::*;
use crate::reasons::says;
use crate::support::nats_server::NatsServer;
use crate::support::{eventually, not_run};

/// A small disk of its own needs a mount, which not every container allows. `$0` is the program, run in a folder with `small` in it.
fn on_a_small_disk(script: &str) -> Option<Command> {
    const MOUNT: &str = "mount -t tmpfs -o size=8m tmpfs";
    let tried =
        Command::new("unshare").args(["-rm", "sh", "-c", &format!("{MOUNT} /mnt")]).output();
    if !tried.is_ok_and(|output| output.status.success()) {
        not_run("this machine lets nobody mount a small disk");
        return None;
    }
    let mut command = Command::new("unshare");
    command.args(["-rm", "sh", "-c", &format!("{MOUNT} small && {{ {script}\n}}")]);
    command.arg(env!("CARGO_BIN_EXE_waypost"));
    Some(command)
}

#[test]
fn p6_lines_wait_while_the_disk_is_full_and_all_arrive_when_there_is_room() {
    const LINES: usize = 4_000;
    let script = "head -c 7500000 /dev/zero > small/ballast
        \"$0\" --db small/alice.db --id alice send chat --lines --wait 60s < lines > ids 2> err &
        until grep -q 'has to wait' err; do kill -0 $! || exit 98; sleep 0.05; done
        rm small/ballast; wait $!; code=$?; cat err >&2
        \"$0\" --db small/alice.db db check || exit 97
        exit $code";
    let Some(command) = on_a_small_disk(script) else { return };
    let server = NatsServer::start();
    let here = Program::new(server.url());
    std::fs::create_dir(here.path("small")).expect("a folder");
    let lines: String = (0..LINES).map(|n| format!("{n:060}\n")).collect();
    std::fs::write(here.path("lines"), &lines).expect("written");
    let reader = here.spawn(&format!("recv chat --id bob --from all --count {LINES}"));
    // What it prints has to be read meanwhile: it takes nothing more while its pipe is full.
    let reader = std::thread::spawn(|| reader.ended());
    let sent = finish(here.wrap(command, ""), b"").says(0, "has to wait: no space left");
    assert_eq!(sent.err.matches("has to wait").count(), 1, "{}", sent.err);
    let ids = std::fs::read_to_string(here.path("ids")).expect("printed");
    assert_eq!(ids.lines().count(), LINES);
    let read = reader.join().expect("a reading thread");
    assert_eq!(read.expect_code(0).text(), lines);
}

#[test]
fn half_a_line_on_a_full_disk_is_taken_back_and_comes_whole_in_the_next_run() {
    let script = "\"$0\" --id bob recv chat --from all >> small/out; code=$?
        [ $code = 1 ] || exit 98
        tail -c 1 small/out | od -c | grep -q '[\\]n' || exit 97
        cp small/out whole; : > small/out; touch again
        \"$0\" --id bob recv chat --idle 5s >> small/out || exit 96
        cat whole small/out > all";
    let Some(command) = on_a_small_disk(script) else { return };
    let server = NatsServer::start();
    let here = Program::new(server.url());
    std::fs::create_dir(here.path("small")).expect("a folder");
    let lines: String = (0..12_u8)
        .map(|n| format!("{}\n", char::from(b'a' + n).to_string().repeat(900_000)))
        .collect();
    let reader = Running::new(here.wrap(command, ""));
    here.feed("send chat --lines --id alice --wait 60s", lines.as_bytes()).expect_code(0);
    reader.ended().says(0, "could not be printed: No space left on device");
    assert!(here.path("again").exists());
    let all = std::fs::read_to_string(here.path("all")).expect("text");
    assert!(all == lines, "{} of {} bytes", all.len(), lines.len());
}

#[test]
fn p6_a_wait_outlasts_a_full_disk_and_deliveries_go_on_meanwhile() {
    let script = "alice='--db small/alice.db --id alice'; mkfifo feed
        \"$0\" $alice send later waits --to carol --flush 0 > later || exit 94
        \"$0\" $alice send chat --lines --wait 10m < feed > ids 2> err &
        exec 7> feed; echo one >&7
        until [ -e known ]; do kill -0 $! || exit 96; sleep 0.05; done
        echo two >&7; echo three >&7
        until [ $(wc -l < ids) = 3 ]; do kill -0 $! || exit 98; sleep 0.05; done
        head -c 9000000 /dev/zero > small/ballast; exec 7>&-; touch full
        until [ -e delivered ]; do kill -0 $! || exit 97; sleep 0.05; done
        \"$0\" $alice why $(cat later) > why; \"$0\" $alice doctor > doctor; touch looked
        until [ -e read ]; do kill -0 $! || exit 93; sleep 0.05; done
        rm small/ballast; wait $!; code=$?; cat err >&2
        \"$0\" --db small/alice.db db check || exit 95
        exit $code";
    let Some(command) = on_a_small_disk(script) else { return };
    let server = NatsServer::start();
    let here = Program::new(server.url());
    std::fs::create_dir(here.path("small")).expect("a folder");
    let sender = Running::new(here.wrap(command, ""));
    // A reader that the file does not know yet would have to be noted there first.
    let first = here.run("recv chat --id bob --from all --count 1").expect_code(0);
    assert_eq!(first.lines(), ["one"]);
    std::fs::write(here.path("known"), "").expect("written");
    eventually(PATIENCE, "the disk is full", || here.path("full").exists());
    let second = here.run("recv chat --id bob --from all --count 2").expect_code(0);
    assert_eq!(second.lines(), ["two", "three"]);
    eventually(PATIENCE, "the sender says so", || {
        std::fs::read_to_string(here.path("err")).is_ok_and(|err| err.contains("the disk is full"))
    });
    std::fs::write(here.path("delivered"), "").expect("written");
    // Its report is told by both commands.
    eventually(PATIENCE, "it is looked at", || here.path("looked").exists());
    for place in ["why", "doctor"] {
        let told = std::fs::read_to_string(here.path(place)).expect("printed");
        assert!(says(&told, "disk_full"), "{place}: {told}");
    }
    let last = here.run("recv later --id carol --from all --count 1").expect_code(0);
    assert_eq!(last.lines(), ["waits"]);
    std::fs::write(here.path("read"), "").expect("written");
    sender.ended().says(0, "the disk is full");
}

/// What only looks needs no room: beside a node that runs, one that was killed, with and without its log's index, and one that has stopped.
#[test]
fn a_full_disk_can_be_looked_at_and_every_command_says_that_it_is_full() {
    let script = "mkfifo feed; db=small/alice.db
        looks() {
            ballast=small/ballast-$1; head -c 9000000 /dev/zero > $ballast 2> /dev/null
            for round in one two; do
                for what in queue 'db check' \"why $id\" doctor; do
                    \"$0\" --db $db --id alice $what >> $1 2>&1; echo \"ended $what: $?\" >> $1
                done
            done
        }
        \"$0\" --db $db --id alice send chat --lines --flush 0 < feed > ids 2> err & sender=$!
        exec 7> feed; echo one >&7
        until [ -s ids ]; do kill -0 $sender || exit 98; sleep 0.05; done
        id=$(cat ids)
        looks running
        kill -9 $sender; wait $sender
        looks killed
        rm $db-shm
        looks killed-without-index
        \"$0\" --db $db --id alice send chat two --flush 0 > again || exit 97
        rm small/ballast-*
        \"$0\" --db $db --id alice send chat three --flush 0 > stopped || exit 96
        [ ! -e $db-wal ] || exit 95
        looks stopped
        \"$0\" --db $db --id alice send chat four --flush 0 > last || exit 94
        rm small/ballast-*
        \"$0\" --db $db db check";
    let Some(command) = on_a_small_disk(script) else { return };
    let here = Program::new(NOWHERE);
    std::fs::create_dir(here.path("small")).expect("a folder");
    Running::new(here.wrap(command, "")).ended_within(4 * PATIENCE).expect_code(0);
    for state in ["running", "killed", "killed-without-index", "stopped"] {
        let told = std::fs::read_to_string(here.path(state)).expect("printed");
        for what in ["queue", "db check", "why "] {
            let ended: Vec<&str> =
                told.lines().filter(|line| line.starts_with(&format!("ended {what}"))).collect();
            assert_eq!(ended.len(), 2, "{state}: {told}");
            assert!(ended.iter().all(|line| line.ends_with(": 0")), "{state}: {told}");
        }
        assert_eq!(told.matches("FAIL  space        no space left for ").count(), 2, "{told}");
        assert!(told.contains("the disk is full (or a quota, or a limit)"), "{state}: {told}");
        for wrong in ["writable for this user", "write-ahead log on this filesystem", "FAIL  file"]
        {
            assert!(!told.contains(wrong), "{state}: {told}");
        }
    }
}

/// A disk can be full of files, with bytes to spare.
#[test]
fn a_folder_without_room_for_a_file_is_full_and_not_forbidden() {
    let script = "mount -o remount,nr_inodes=3 small; touch small/one small/two
        ! touch small/three 2> /dev/null || exit 98
        \"$0\" --db small/alice.db --id alice send chat x --flush 0 2> sent
        [ $? = 1 ] || exit 97
        \"$0\" --db small/alice.db --id alice doctor";
    let Some(command) = on_a_small_disk(script) else { return };
    let here = Program::new(NOWHERE);
    std::fs::create_dir(here.path("small")).expect("a folder");
    let doctor = finish(here.wrap(command, ""), b"").expect_code(1);
    let folder = "FAIL  folder       no space left for small/alice.db, the disk is full";
    assert!(doctor.text().contains(folder), "{}", doctor.text());
    let sent = std::fs::read_to_string(here.path("sent")).expect("printed");
    assert!(sent.contains("the disk is full") && !sent.contains("for this user"), "{sent}");
}

#[test]
fn p6_lines_wait_while_another_program_holds_the_file() {
    let here = Program::new("nats://127.0.0.1:1");
    let mut command = Command::new("sh");
    command.args(["-c", "exec \"$0\" --db alice.db --id alice send chat --lines --flush 0 2> err"]);
    command.arg(env!("CARGO_BIN_EXE_waypost"));
    let mut sender = Running::new(here.wrap(command, ""));
    sender.write(b"one\n");
    sender.line();
    let other = waypost::rusqlite::Connection::open(here.path("alice.db")).expect("opened");
    other.busy_timeout(PATIENCE).expect("set");
    other.execute_batch("BEGIN IMMEDIATE").expect("begun");
    sender.write(b"two\n");
    eventually(PATIENCE, "the sender says that it waits", || {
        std::fs::read_to_string(here.path("err")).is_ok_and(|err| err.contains("has to wait"))
    });
    other.execute_batch("ROLLBACK").expect("ended");
    sender.line();
    sender.input = None;
    sender.ended().expect_code(0);
}
