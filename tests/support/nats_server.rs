//! A real `nats-server`, started for one test, that can be stopped, killed, frozen and started again.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::eventually;

/// A server that does not answer by then is broken, or the machine is.
const START_TIME: Duration = Duration::from_secs(20);

/// Killed when dropped.
pub struct NatsServer {
    folder: TempDir,
    child: Option<Child>,
    port: u16,
    config: Option<String>,
    /// What the configuration takes from the environment.
    variables: Vec<(String, String)>,
}

impl NatsServer {
    /// On a free port, without credentials.
    pub fn start() -> Self {
        Self::launch(None, None, Vec::new())
    }

    /// On this port.
    pub fn start_on(port: u16) -> Self {
        Self::launch(Some(port), None, Vec::new())
    }

    /// With this configuration, on a free port of the loopback whatever the text says.
    pub fn with_config(text: impl Into<String>) -> Self {
        Self::launch(None, Some(text.into()), Vec::new())
    }

    /// The same, with these variables in its environment.
    pub fn with_config_and_variables(
        text: impl Into<String>,
        variables: Vec<(String, String)>,
    ) -> Self {
        Self::launch(None, Some(text.into()), variables)
    }

    /// The address that clients connect to.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// The port that clients connect to; it stays.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What the server has written.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Politely (SIGTERM), and waits for the end.
    pub fn stop(&mut self) {
        self.end(Signal::TERM);
    }

    /// As a crash does (SIGKILL), and waits for the end.
    pub fn kill(&mut self) {
        self.end(Signal::KILL);
    }

    /// Starts again on the same port, after stopping what still runs.
    pub fn restart(&mut self) {
        self.stop();
        self.run(Some(self.port));
    }

    /// Starts again on the same port with another configuration.
    pub fn restart_with(&mut self, config: impl Into<String>) {
        self.stop();
        self.config = Some(config.into());
        self.run(Some(self.port));
    }

    /// Freezes the server: its sockets stay open, and nothing answers (SIGSTOP).
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Ends a [`NatsServer::pause`].
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Asks the server to send its clients away before it stops (lame duck mode).
    pub fn lame_duck(&self) {
        self.signal(Signal::USR2);
    }

    fn launch(port: Option<u16>, config: Option<String>, variables: Vec<(String, String)>) -> Self {
        let folder = tempfile::tempdir().expect("a folder for the server");
        let mut server = Self { folder, child: None, port: 0, config, variables };
        server.run(port);
        server
    }

    fn run(&mut self, port: Option<u16>) {
        let log = File::create(self.folder.path().join("log")).expect("a log file");
        let mut command = Command::new(binary());
        command.args(["-a", "127.0.0.1", "-p"]);
        command.arg(port.map_or("-1".to_owned(), |port| port.to_string()));
        command.arg("--ports_file_dir").arg(self.folder.path());
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        if let Some(text) = &self.config {
            let path = self.folder.path().join("server.conf");
            std::fs::write(&path, text).expect("a configuration file");
            command.arg("-c").arg(path);
        }
        let errors = log.try_clone().expect("a second handle");
        let child = command.stdin(Stdio::null()).stdout(log).stderr(errors).spawn();
        let child = self.child.insert(child.expect("the server that was just found"));
        let ports = self.folder.path().join(format!("nats-server_{}.ports", child.id()));

        let deadline = Instant::now() + START_TIME;
        self.port = loop {
            let ended = self.child.as_mut().map(Child::try_wait).transpose().expect("our child");
            if let Some(status) = ended.flatten() {
                panic!("nats-server ended with {status}:\n{}", self.log());
            }
            match port.or_else(|| read_port(&ports)) {
                Some(port) if greets(port) => break port,
                _ => assert!(Instant::now() < deadline, "nats-server is silent:\n{}", self.log()),
            }
            std::thread::sleep(Duration::from_millis(5));
        };
    }

    fn end(&mut self, signal: Signal) {
        if self.child.is_none() {
            return;
        }
        self.signal(signal);
        // A frozen process hears no polite word.
        self.signal(Signal::CONT);
        let mut child = self.child.take().expect("just looked at");
        eventually(START_TIME, "the server has ended", || {
            child.try_wait().expect("our own child").is_some()
        });
    }

    fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("the server runs");
        kill_process(Pid::from_child(child), signal).expect("a child that was not waited for");
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // It may have ended already, and a failing test is not to fail twice.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A server of our own answers a connection with a line of its own accord.
fn greets(port: u16) -> bool {
    let Ok(stream) = TcpStream::connect(("127.0.0.1", port)) else { return false };
    stream.set_read_timeout(Some(Duration::from_secs(1))).expect("a timeout above zero");
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).is_ok() && line.starts_with("INFO ")
}

/// The file holds `{"nats":["nats://127.0.0.1:43210"]}`, or `tls://` instead.
fn read_port(file: &Path) -> Option<u16> {
    let text = std::fs::read_to_string(file).ok()?;
    let (_, rest) = text.split_once("://127.0.0.1:")?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("WAYPOST_NATS_SERVER") {
        return path.into();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/usr/local/sbin".into()])
        .map(|folder| folder.join("nats-server"))
        .find(|file| file.is_file())
        .unwrap_or_else(|| {
            panic!(
                "no nats-server on PATH or in /usr/sbin: install it with `apt-get install nats-server`, \
                 `brew install nats-server` or from https://nats.io/download, or name it in WAYPOST_NATS_SERVER"
            )
        })
}
