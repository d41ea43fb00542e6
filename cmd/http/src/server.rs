//! Listening, within limits: whoever reaches the port can hold some connections for some seconds, and no more.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use waypost::Node;

use crate::{Address, ReadyWhen, router};

/// What a server gives to those who reach it.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// Connections at a time; more wait in the system's queue.
    connections: usize,
    /// How long a request's header may take, silence before it included.
    header: Duration,
    /// How long a connection may last, its one answer included.
    connection: Duration,
    /// Whether a connection can be for more than one answer, and become a WebSocket.
    keep_alive: bool,
}

/// Silent connections are to keep a probe waiting for seconds at most, not until it has the node restarted.
const LIMITS: Limits = Limits {
    connections: 256,
    header: Duration::from_secs(5),
    connection: Duration::from_secs(30),
    // Prometheus and probes connect anew; one that stays would hold a place between its looks.
    keep_alive: false,
};
/// For browsers, which ask for several files at a time.
const PAGE_LIMITS: Limits = Limits { keep_alive: true, ..LIMITS };
/// Largest header of a request, in bytes.
const MAX_HEADER_BYTES: usize = 16 * 1024;
/// How long running answers get at the end.
const LAST_ANSWERS: Duration = Duration::from_millis(250);
/// After an error of the system's, like too many open files.
const PAUSE: Duration = Duration::from_millis(100);

/// It is not possible to listen there.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: is the port taken, or the address not this machine's?")]
pub struct BindError {
    /// Where.
    pub address: Address,
    /// What the system says.
    #[source]
    pub source: io::Error,
}

impl Address {
    /// Listens there; requests wait until [`Listener::serve`]. Must be called in a tokio runtime. Cancelling is safe.
    ///
    /// # Errors
    /// The port is taken, is not allowed, or the host is unknown or not this machine's.
    pub async fn bind(&self) -> Result<Listener, BindError> {
        let failed = |source| BindError { address: self.clone(), source };
        let listener = TcpListener::bind(self.as_str()).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Listener { listener, address })
    }
}

/// A port that is ours, and does not answer yet.
#[derive(Debug)]
pub struct Listener {
    listener: TcpListener,
    address: SocketAddr,
}

impl Listener {
    /// Of a socket that listens already.
    ///
    /// # Errors
    /// It has no address.
    pub fn new(listener: TcpListener) -> io::Result<Self> {
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// Where it listens; with the port that the system chose where 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers for this node from now on. The node runs at least until the server is stopped or dropped.
    pub fn serve(self, node: Node, ready_when: ReadyWhen) -> Server {
        self.answer(router(node, ready_when), LIMITS)
    }

    /// Answers with this router from now on, within the same limits; a connection can be for more than one answer here. A WebSocket is no connection any
    /// more: its handler sets its limits.
    pub fn serve_router(self, router: Router) -> Server {
        self.answer(router, PAGE_LIMITS)
    }

    fn answer(self, router: Router, limits: Limits) -> Server {
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(self.listener, router, limits, stop.clone()));
        Server { address: self.address, stop, tasks }
    }
}

/// A server that runs until it is stopped or dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Server {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more requests, and gives running answers a quarter of a second. When it returns, no task is left. Dropping the server instead
    /// cuts them short.
    pub async fn stop(mut self) {
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "the HTTP server ended early");
            }
        }
    }
}

async fn accept(listener: TcpListener, router: Router, limits: Limits, stop: CancellationToken) {
    let room = Arc::new(Semaphore::new(limits.connections));
    let mut connections = JoinSet::new();
    loop {
        let next = async {
            // Nobody closes it.
            let place = Arc::clone(&room).acquire_owned().await;
            (listener.accept().await, place)
        };
        let (accepted, place) = tokio::select! {
            next = next => next,
            () = stop.cancelled() => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let (router, stop) = (router.clone(), stop.clone());
                connections.spawn(async move {
                    answer(stream, router, limits, stop).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::debug!(%error, "no connection");
                tokio::time::sleep(PAUSE).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    let all = async { while connections.join_next().await.is_some() {} };
    // What is not answered by now is cut short.
    let _ = timeout(LAST_ANSWERS, all).await;
}

async fn answer(stream: TcpStream, router: Router, limits: Limits, stop: CancellationToken) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header)
        .keep_alive(limits.keep_alive)
        .max_buf_size(MAX_HEADER_BYTES)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let whole = async {
        tokio::select! {
            served = connection.as_mut() => return served,
            () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
        }
        connection.await
    };
    match timeout(limits.connection, whole).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a connection ended early"),
        Err(_) => tracing::debug!("a connection lasted too long"),
    }
}

#[cfg(test)]
mod tests;
