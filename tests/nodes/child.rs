//! Nodes in processes of their own, to be killed with -9. A test program is its own child: it starts itself again with the one
//! test [`NAME`], which calls [`run`].

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child as Process, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use waypost::{Mode, StartAt};

use super::{SOON, builder_at};
use crate::support::eventually;

/// Every test program with children has an ignored test of this name.
const NAME: &str = "child_process";
/// The environment variable that makes a process a child.
const ROLE: &str = "WAYPOST_TEST_ROLE";
/// The role of a process that runs one test alone.
const ALONE: &str = "alone";
/// Before each line of ours, to tell it from the test harness's.
const MARK: &str = "> ";

/// A process that is killed when dropped.
pub struct Child {
    process: Process,
    lines: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
}

impl Child {
    /// Starts a child in this role: `send FIRST COUNT`, `recv`, `recv-abort`, `recv-in`, `backlog`, `leave-nothing`, `vote` or `hold`, as this node on the channel `work`.
    pub fn start(role: &str, url: &str, folder: impl AsRef<Path>, id: &str) -> Self {
        let program = std::env::current_exe().expect("a running program has a path");
        Self::run(Command::new(program), role, url, folder.as_ref(), id)
    }

    /// The same, by way of a shell's words: `"$0" "$@"` in them starts the child.
    pub fn start_by(
        shell: &[&str],
        role: &str,
        url: &str,
        folder: impl AsRef<Path>,
        id: &str,
    ) -> Self {
        let mut command = Command::new(shell[0]);
        command.args(&shell[1..]);
        command.arg(std::env::current_exe().expect("a running program has a path"));
        Self::run(command, role, url, folder.as_ref(), id)
    }

    fn run(mut command: Command, role: &str, url: &str, folder: &Path, id: &str) -> Self {
        let mut process = command
            .args(["--exact", NAME, "--ignored", "--nocapture", "--test-threads=1"])
            .env(ROLE, role)
            .env("WAYPOST_TEST_URL", url)
            .env("WAYPOST_TEST_FOLDER", folder)
            .env("WAYPOST_TEST_ID", id)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program can be started again");
        let lines = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&lines);
        let output = process.stdout.take().expect("piped");
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                // The harness leaves its first line open.
                if let Some((_, line)) = line.split_once(MARK) {
                    seen.lock().expect("not poisoned").push(line.to_owned());
                }
            }
        });
        Self { process, lines, reader: Some(reader) }
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.process.try_wait().expect("our own child").is_some()
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// The lines so far.
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().expect("not poisoned").clone()
    }

    /// Waits until there are so many lines.
    pub async fn wrote(&self, count: usize) {
        let what = format!("a child writes {count} lines");
        crate::support::eventually_async(SOON, &what, async || {
            self.lines.lock().expect("not poisoned").len() >= count
        })
        .await;
    }

    /// Gives it a line to read.
    pub fn tell(&mut self, line: &str) {
        let input = self.process.stdin.as_mut().expect("piped");
        writeln!(input, "{line}").expect("it listens");
    }

    /// Sends it this signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process(pid, signal).expect("it is there");
    }

    /// Kills it with -9 at once, and gives all that it wrote.
    pub fn kill(mut self) -> Vec<String> {
        self.end();
        self.lines()
    }

    fn end(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        eventually(SOON, "a killed child is gone", || {
            self.process.try_wait().expect("our own child").is_some()
        });
        if let Some(reader) = self.reader.take() {
            reader.join().expect("reading does not panic");
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.end();
    }
}

/// What this process was started for; none in one that was not started by [`Child::start`].
pub fn role() -> Option<String> {
    std::env::var(ROLE).ok()
}

/// Does what a process in one of the roles that [`Child::start`] names is for.
pub fn run(role: &str) {
    block_on(act(role));
    // Until the parent kills us, or is gone.
    let _ = std::io::stdin().read(&mut [0]);
}

/// Runs this on a runtime of its own, to its end.
pub fn block_on(future: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.expect("a runtime").block_on(future);
}

/// Runs a test in a process of its own, for what a process has once, like its subscriber to `tracing`. `true` in that process,
/// where the test goes on; `false` in the one that started it, once it has passed there.
pub fn is_alone(module: &str, test: &str) -> bool {
    if role().is_some_and(|role| role == ALONE) {
        return true;
    }
    let (_, module) = module.split_once("::").expect("a module of the program");
    let output = Command::new(std::env::current_exe().expect("a running program has a path"))
        .args(["--exact", &format!("{module}::{test}"), "--nocapture", "--test-threads=1"])
        .env(ROLE, ALONE)
        .stdin(Stdio::null())
        .output()
        .expect("this program can be started again");
    let [out, errors] =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    let has_passed = output.status.success() && out.contains("test result: ok. 1 passed");
    assert!(has_passed, "{}:\n{out}\n{errors}", output.status);
    false
}

/// What the parent said: `URL`, `FOLDER`, `ID`.
pub fn setting(name: &str) -> String {
    std::env::var(format!("WAYPOST_TEST_{name}")).expect("set by start")
}

/// A line for the parent.
pub fn write(line: &str) {
    println!("{MARK}{line}");
}

/// Waits for a line of the parent's.
pub fn read() {
    std::io::stdin().read_line(&mut String::new()).expect("a line");
}

async fn act(role: &str) {
    let builder = builder_at(&setting("URL"), setting("FOLDER"), &setting("ID"));
    if role == "leave-nothing" {
        return leave_nothing(builder).await;
    }
    if role == "vote" {
        return vote(builder).await;
    }
    let most = std::num::NonZeroUsize::new(BACKLOG_MESSAGES).expect("above zero");
    let node = super::begin(builder.queue_limit(most)).await;
    let mut words = role.split(' ');
    match words.next().expect("a role") {
        "send" => {
            let mut number = || words.next().and_then(|word| word.parse().ok()).expect("a number");
            let (first, count): (usize, usize) = (number(), number());
            let channel = node.join("work", Mode::Writer).await.expect("joined");
            for n in first..first + count {
                let id = channel.send(n.to_string()).await.expect("sent");
                println!("{MARK}{n} {id}");
            }
        }
        "recv" => {
            let channel = node.join_from("work", Mode::Reader, StartAt::All).await.expect("joined");
            let handler = async |message: waypost::Message| {
                println!("{MARK}{}", message.text()?);
                Ok(())
            };
            channel.on_message(handler).await.expect("attached");
        }
        "recv-abort" => receive_and_abort(&node).await,
        "recv-in" => receive_in(&node).await,
        "backlog" => send_backlog(&node).await,
        "hold" => println!("{MARK}started"),
        other => panic!("no role: {other}"),
    }
    // Its tasks run until the process is killed.
    std::mem::forget(node);
    tokio::time::sleep(Duration::from_secs(600)).await;
}

/// Two messages are fatal: at one this process ends by itself, at the other it stands still.
async fn receive_and_abort(node: &waypost::Node) {
    let channel = node.join_from("work", Mode::Reader, StartAt::All).await.expect("joined");
    let handler = async |message: waypost::Message| {
        println!("{MARK}{}", message.text()?);
        match message.text()? {
            "abort" => std::process::abort(),
            "stuck" => std::future::pending().await,
            _ => Ok(()),
        }
    };
    channel.on_message(handler).await.expect("attached");
}

/// Each message's effect is a row, written in the message's own transaction.
async fn receive_in(node: &waypost::Node) {
    let table = "CREATE TABLE IF NOT EXISTS effects (at INTEGER PRIMARY KEY, text TEXT NOT NULL)";
    node.transaction(move |tx| tx.execute(table, [])).await.expect("a table");
    let channel = node.join_from("work", Mode::Reader, StartAt::All).await.expect("joined");
    channel
        .on_message(|mut message| async move {
            let text = message.text()?.to_owned();
            println!("{MARK}{text}");
            message
                .ack_in(move |tx| tx.execute("INSERT INTO effects (text) VALUES (?1)", [text]))
                .await?;
            Ok(())
        })
        .await
        .expect("attached");
}

/// Takes part in an election, and tells when it becomes master and when it is no longer, and why.
async fn vote(builder: waypost::Builder) {
    let node = super::begin(super::voter(builder)).await;
    let of = node.clone();
    let became = move |state: waypost::election::HandedState, reason| {
        let token = of.fencing_token();
        async move {
            let token = token.map(|token| token.to_string()).unwrap_or_default();
            write(&format!("master {token} {reason} {}", state.value()));
        }
    };
    node.on_became_master(became).await.expect("it runs");
    let no_longer = |info: waypost::election::Stepped| async move {
        write(&format!("follower {} {}", info.term, info.reason));
    };
    node.on_became_follower(no_longer).await.expect("it runs");
    write("started");
    tokio::time::sleep(Duration::from_secs(600)).await;
}

/// What a sender in the role `backlog` has waiting.
pub const BACKLOG_MESSAGES: usize = 20_000;
pub const BACKLOG_PAYLOAD_BYTES: usize = 4_000;
/// How many of them it sees delivered before it tells its memory for the last time.
pub const BACKLOG_DELIVERED: usize = 4_000;

/// Sends a backlog, tells when it stands and when a part of it is delivered, and the most memory that it ever took in kilobytes.
async fn send_backlog(node: &waypost::Node) {
    let channel = node.join("work", Mode::Writer).await.expect("joined");
    let mut n = 0_u64;
    while n < BACKLOG_MESSAGES as u64 {
        let payload = |n: u64| {
            let mut random = n;
            let noise = std::iter::repeat_with(|| {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (random >> 56) as u8
            });
            // The number, and then what does not compress.
            let payload = n.to_be_bytes().into_iter().chain(noise);
            waypost::NewMessage::bytes(payload.take(BACKLOG_PAYLOAD_BYTES).collect::<Vec<u8>>())
        };
        channel.send_all((n..n + 100).map(payload).collect()).await.expect("sent");
        n += 100;
    }
    println!("{MARK}waits {}", peak_kb());
    let delivered = async || node.statistics().await.expect("it runs").counters.delivered;
    let goal = BACKLOG_DELIVERED as u64;
    crate::support::eventually_async(Duration::from_secs(300), "some are delivered", async || {
        delivered().await >= goal
    })
    .await;
    println!("{MARK}delivered {}", peak_kb());
}

/// Starts and stops nodes, and tells what they have left behind: threads and tasks. A process of its own, where nobody else's are.
async fn leave_nothing(builder: waypost::Builder) {
    let runtime = tokio::runtime::Handle::current().metrics();
    let tasks_before = runtime.num_alive_tasks();
    for _ in 0..3 {
        let node = super::begin(builder.clone()).await;
        let work = node.join("work", Mode::ReadWrite).await.expect("joined");
        work.on_message(async |_| Ok(())).await.expect("attached");
        let mut messages = work.messages().await.expect("a stream");
        work.send("x").await.expect("sent");
        assert_ne!(threads(), 0);
        node.shutdown().await;
        assert!(messages.next().await.is_none(), "a stream ends with its node");
        let tasks = runtime.num_alive_tasks() - tasks_before;
        println!("{MARK}{} threads, {tasks} tasks", threads());
    }
}

/// Threads of waypost's in this process. One that was joined is listed for a moment longer: the kernel wakes who waits for it before it takes it off the list.
fn threads() -> usize {
    /// The thread is exiting: `PF_EXITING` in Linux' include/linux/sched.h.
    const EXITING: u64 = 0x4;
    let tasks = std::fs::read_dir("/proc/self/task").expect("Linux");
    let runs = |task: std::io::Result<std::fs::DirEntry>| {
        // One that has just ended is there no more.
        let stat = std::fs::read_to_string(task.ok()?.path().join("stat")).ok()?;
        let (name, rest) = stat.split_once('(')?.1.rsplit_once(')')?;
        // The ninth field of proc_pid_stat(5); the state, after the name, is the third.
        let flags: u64 = rest.split_whitespace().nth(6)?.parse().expect("flags");
        Some(name.starts_with("waypost") && flags & EXITING == 0)
    };
    tasks.filter_map(runs).filter(|runs| *runs).count()
}

/// The most memory that this process ever had in use.
pub fn peak_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("a line");
    line.split_whitespace().nth(1).and_then(|kb| kb.parse().ok()).expect("a number")
}
