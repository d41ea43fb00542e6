//! Three NATS servers, each connected to each by one wire that can be broken.

use std::fs::File;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use waypost_chaos::conduct::link::{Link, Wire};
use waypost_chaos::conduct::server::{find_server, free_port};

use crate::log::{Deed, Log};

const SERVERS: usize = 3;

/// Killed when dropped.
#[derive(Debug)]
pub(crate) struct Cluster {
    _servers: Vec<Child>,
    ports: Vec<u16>,
    /// Between which two servers, and the wire.
    routes: Vec<([usize; 2], Link)>,
    /// What the program says of itself.
    pub(crate) version: String,
}

impl Cluster {
    /// Starts it; the servers answer.
    pub(crate) async fn start(folder: &Path, deeds: &Log) -> anyhow::Result<Self> {
        let program = find_server()?;
        let version = Command::new(&program).arg("--version").output().await;
        let version = version.with_context(|| format!("running {}", program.display()))?;
        let version = String::from_utf8_lossy(&version.stdout).trim().to_owned();
        let mut ports = Vec::new();
        let mut route_ports = Vec::new();
        for _ in 0..SERVERS {
            ports.push(free_port()?);
            route_ports.push(free_port()?);
        }
        let mut routes = Vec::new();
        for from in 0..SERVERS {
            for (to, port) in route_ports.iter().enumerate().skip(from + 1) {
                routes.push(([from, to], Link::to(*port).await?));
            }
        }
        let mut servers = Vec::new();
        for at in 0..SERVERS {
            let solicited = routes.iter().filter(|([from, _], _)| *from == at);
            let urls: Vec<String> = solicited
                .map(|(_, link)| format!("\"nats://127.0.0.1:{}\"", link.port()))
                .collect();
            let config = folder.join(format!("server-{at}.conf"));
            std::fs::write(&config, config_of(at, ports[at], route_ports[at], &urls))?;
            let log = File::create(folder.join(format!("log/server-{at}")))?;
            let server = Command::new(&program)
                .arg("-c")
                .arg(&config)
                .stdin(Stdio::null())
                .stdout(log.try_clone()?)
                .stderr(log)
                .process_group(0)
                .kill_on_drop(true)
                .spawn();
            let server = server.context("starting a NATS server")?;
            let pid = server.id().context("it has just been started")?;
            deeds.say(Deed::Start { node: format!("server-{at}"), run: 1, pid });
            servers.push(server);
        }
        let cluster = Self { _servers: servers, ports, routes, version };
        cluster.wait().await?;
        Ok(cluster)
    }

    async fn wait(&self) -> anyhow::Result<()> {
        for port in &self.ports {
            let mut tries = 0;
            while TcpStream::connect(("127.0.0.1", *port)).await.is_err() {
                tries += 1;
                if tries > 400 {
                    bail!("a NATS server does not answer; its log tells more");
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        Ok(())
    }

    /// A wire to this server.
    pub(crate) async fn link(&self, server: usize) -> anyhow::Result<Link> {
        Ok(Link::to(self.ports[server]).await?)
    }

    /// What connects this server with the others is like this from now on. How often anybody has felt what it was like before.
    pub(crate) fn set(&self, server: usize, wire: Wire) -> u64 {
        let own = self.routes.iter().filter(|(ends, _)| ends.contains(&server));
        own.map(|(_, link)| {
            let felt = link.felt();
            link.set(wire);
            felt
        })
        .sum()
    }
}

/// Each of two servers would tell the others where it is found; what it tells leads nowhere, so that the wires are the only routes.
fn config_of(at: usize, port: u16, route_port: u16, urls: &[String]) -> String {
    format!(
        "server_name: \"server-{at}\"\nlisten: \"127.0.0.1:{port}\"\ncluster {{\n  name: \"elections\"\n  \
         listen: \"127.0.0.1:{route_port}\"\n  cluster_advertise: \"127.0.0.1:1\"\n  no_advertise: true\n  routes: [{}]\n}}\n",
        urls.join(", ")
    )
}
