//! Where a NATS server is found, and where it listens.

use std::net::TcpListener;
use std::path::PathBuf;

use anyhow::Context;

/// A free port of the loopback. Kept by nobody until the server takes it, as it has to be the same after every restart.
///
/// # Errors
/// There is none.
pub fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// The program: the one that is named in `WAYPOST_NATS_SERVER`, or one in the usual places.
///
/// # Errors
/// There is none; the message tells how to install it.
pub fn find_server() -> anyhow::Result<PathBuf> {
    if let Some(path) = std::env::var_os("WAYPOST_NATS_SERVER") {
        return Ok(path.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders =
        std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    folders.find_map(|folder| Some(folder.join("nats-server")).filter(|file| file.is_file())).context(
        "no nats-server on PATH, in /usr/sbin or /usr/local/sbin: install it with `apt-get install nats-server`, \
         `brew install nats-server` or from https://nats.io/download, or name it in WAYPOST_NATS_SERVER",
    )
}
