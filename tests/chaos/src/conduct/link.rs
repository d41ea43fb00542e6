//! A wire between one node and its server, or between two servers, that can be broken in the ways in which wires break.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Bytes carried at once.
const PIECE: usize = 64 * 1024;

/// How a wire is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Wire {
    /// As it should be.
    Whole,
    /// Connections are closed, new ones as soon as they are made.
    Cut,
    /// Connections stay and nothing passes; it passes later.
    Held,
    /// What is sent in these directions is gone, and nobody is told until the wire works again: then the connection is reset.
    Swallowing {
        /// To the server.
        up: bool,
        /// From it.
        down: bool,
    },
    /// Every piece is late, and no more than so much passes.
    Slow {
        /// By how much.
        late: Duration,
        /// And how much passes.
        bytes_per_s: u32,
    },
    /// Connections are reset after so many more bytes of a direction, wherever in a frame that is.
    Resetting {
        /// Bytes.
        after: usize,
    },
}

/// A wire. Ends when dropped.
#[derive(Debug)]
pub struct Link {
    port: u16,
    wire: watch::Sender<Wire>,
    felt: Felt,
    _tasks: JoinSet<()>,
}

/// How often a connection was closed, or a piece late or swallowed, because of how the wire was.
type Felt = Arc<AtomicU64>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Up,
    Down,
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Broken {
    Closed,
    Reset,
}

impl Link {
    /// From a free port of the loopback to this one.
    ///
    /// # Errors
    /// There is no free port.
    pub async fn to(target: u16) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let (wire, state) = watch::channel(Wire::Whole);
        let felt = Felt::default();
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, target, state, Arc::clone(&felt)));
        Ok(Self { port, wire, felt, _tasks: tasks })
    }

    /// The port to connect to.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// For a NATS client.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// From now on it is like this.
    pub fn set(&self, wire: Wire) {
        self.wire.send_replace(wire);
    }

    /// How often anybody felt it that the wire was not whole, since this was asked last.
    pub fn felt(&self) -> u64 {
        self.felt.swap(0, Ordering::Relaxed)
    }
}

async fn accept(listener: TcpListener, target: u16, wire: watch::Receiver<Wire>, felt: Felt) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((client, _)) => {
                    connections.spawn(carry(client, target, wire.clone(), Arc::clone(&felt)));
                }
                // Out of descriptors, perhaps: it passes.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn carry(client: TcpStream, target: u16, wire: watch::Receiver<Wire>, felt: Felt) {
    if *wire.borrow() == Wire::Cut {
        felt.fetch_add(1, Ordering::Relaxed);
        return;
    }
    let Ok(server) = TcpStream::connect(("127.0.0.1", target)).await else { return };
    // Frames are small and each is waited for.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let sockets = [Arc::new(to_client), Arc::new(to_server)];
    let mut broken = wire.clone();
    let [to_client, to_server] = &sockets;
    let end = tokio::select! {
        end = pump(from_client, to_server, Direction::Up, wire.clone(), &felt) => end,
        end = pump(from_server, to_client, Direction::Down, wire, &felt) => end,
        _ = broken.wait_for(|wire| *wire == Wire::Cut) => {
            felt.fetch_add(1, Ordering::Relaxed);
            Broken::Closed
        }
    };
    if end == Broken::Reset {
        // Closed with this set, a socket says so to the other side by a reset.
        for socket in &sockets {
            let _ = socket.as_ref().as_ref().set_zero_linger();
        }
    }
}

async fn pump(
    mut from: OwnedReadHalf,
    to: &OwnedWriteHalf,
    direction: Direction,
    mut wire: watch::Receiver<Wire>,
    felt: &Felt,
) -> Broken {
    let mut buffer = vec![0; PIECE];
    let mut swallowed = false;
    // How many bytes may still pass before the reset.
    let mut left = None;
    loop {
        let count = tokio::select! {
            read = from.read(&mut buffer) => match read {
                Ok(0) | Err(_) => return Broken::Closed,
                Ok(count) => count,
            },
            // The other side waits for an answer to what is gone: it is to learn of it when the wire works again.
            changed = wire.changed() => match changed {
                Ok(()) if swallowed && !swallows(*wire.borrow(), direction) => return Broken::Reset,
                Ok(()) => continue,
                Err(_) => return Broken::Closed,
            },
        };
        if matches!(*wire.borrow(), Wire::Held | Wire::Slow { .. }) {
            felt.fetch_add(1, Ordering::Relaxed);
        }
        let Ok(state) = wire.wait_for(|wire| *wire != Wire::Held).await.map(|wire| *wire) else {
            return Broken::Closed;
        };
        let piece = &buffer[..count];
        if swallows(state, direction) {
            swallowed = true;
            felt.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        if swallowed {
            return Broken::Reset;
        }
        let passes = match state {
            Wire::Resetting { after } => {
                let passes = count.min(*left.get_or_insert(after));
                left = left.map(|left| left - passes);
                passes
            }
            Wire::Slow { late, bytes_per_s } => {
                let needs = Duration::from_secs_f64(count as f64 / f64::from(bytes_per_s));
                // Heals at once.
                let heals = wire.wait_for(|wire| !matches!(wire, Wire::Slow { .. }));
                let _ = tokio::time::timeout(late + needs, heals).await;
                count
            }
            _ => {
                left = None;
                count
            }
        };
        if write(to, &piece[..passes]).await.is_err() {
            return Broken::Closed;
        }
        if left == Some(0) {
            felt.fetch_add(1, Ordering::Relaxed);
            return Broken::Reset;
        }
    }
}

/// A half that two tasks know is written through its socket.
async fn write(to: &OwnedWriteHalf, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        to.writable().await?;
        match to.try_write(bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn swallows(wire: Wire, direction: Direction) -> bool {
    match wire {
        Wire::Swallowing { up, down } => {
            (direction == Direction::Up && up) || (direction == Direction::Down && down)
        }
        _ => false,
    }
}
