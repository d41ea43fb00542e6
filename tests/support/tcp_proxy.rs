//! A wire that can be cut: a proxy between a client and its server.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wire {
    Whole,
    /// Connections are closed, new ones as soon as they are accepted.
    Cut,
    /// Connections stay, new ones are accepted, and nothing passes.
    HalfOpen,
    /// As half open, but only from the client to the server: what the server says still comes.
    OneWay,
    /// The proxy ends.
    Gone,
}

/// Runs in a thread of its own, so that it works beside blocked and paused runtimes. Ends when dropped.
pub struct TcpProxy {
    address: SocketAddr,
    wire: watch::Sender<Wire>,
    accepted: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl TcpProxy {
    /// From a free port to this one, both on the loopback.
    pub fn start(target: u16) -> Self {
        let (wire, state) = watch::channel(Wire::Whole);
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&accepted);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound socket");
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(accept(listener, target, state, count));
        });
        Self { address, wire, accepted, thread: Some(thread) }
    }

    /// For a NATS client.
    pub fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    /// Connections accepted so far, whatever became of them.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    /// Closes all connections, and new ones as soon as they are accepted.
    pub fn cut(&self) {
        self.wire.send_replace(Wire::Cut);
    }

    /// Stops forwarding. All sockets stay open, so that neither side is told.
    pub fn half_open(&self) {
        self.wire.send_replace(Wire::HalfOpen);
    }

    /// Stops taking bytes from clients. What the server says goes on, and all sockets stay open.
    pub fn one_way(&self) {
        self.wire.send_replace(Wire::OneWay);
    }

    /// All is well again. What a half-open wire held back passes.
    pub fn heal(&self) {
        self.wire.send_replace(Wire::Whole);
    }
}

impl Drop for TcpProxy {
    fn drop(&mut self) {
        self.wire.send_replace(Wire::Gone);
        if let Some(thread) = self.thread.take() {
            let result = thread.join();
            assert!(result.is_ok() || std::thread::panicking(), "the proxy panicked");
        }
    }
}

async fn accept(
    listener: std::net::TcpListener,
    target: u16,
    state: watch::Receiver<Wire>,
    count: Arc<AtomicUsize>,
) {
    let mut end = state.clone();
    listener.set_nonblocking(true).expect("a socket");
    let listener = TcpListener::from_std(listener).expect("a listening socket");
    loop {
        tokio::select! {
            connection = listener.accept() => {
                let Ok((client, _)) = connection else { continue };
                count.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(join(client, target, state.clone()));
            }
            _ = end.wait_for(|wire| *wire == Wire::Gone) => return,
        }
    }
}

async fn join(client: TcpStream, target: u16, mut state: watch::Receiver<Wire>) {
    let broken = |wire: &Wire| matches!(wire, Wire::Cut | Wire::Gone);
    if broken(&state.borrow()) {
        return;
    }
    let Ok(server) = TcpStream::connect(("127.0.0.1", target)).await else { return };
    let ((from_client, to_client), (from_server, to_server)) =
        (client.into_split(), server.into_split());
    tokio::select! {
        () = forward(from_client, to_server, state.clone(), &[Wire::Whole]) => {}
        () = forward(from_server, to_client, state.clone(), &[Wire::Whole, Wire::OneWay]) => {}
        _ = state.wait_for(broken) => {}
    }
}

async fn forward(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut state: watch::Receiver<Wire>,
    passes: &[Wire],
) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let passes = state.wait_for(|wire| passes.contains(wire)).await.is_ok();
        if !passes || to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
