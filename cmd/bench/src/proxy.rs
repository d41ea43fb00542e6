//! A wire between a node and its server that can be cut.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Forwards connections to a server. Ends when dropped.
pub(crate) struct Proxy {
    address: SocketAddr,
    whole: watch::Sender<bool>,
    _task: JoinSet<()>,
}

impl Proxy {
    /// From a free port of the loopback to this address.
    ///
    /// # Errors
    /// No port.
    pub(crate) async fn start(server: String) -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (whole, state) = watch::channel(true);
        let mut task = JoinSet::new();
        task.spawn(accept(listener, server, state));
        Ok(Self { address, whole, _task: task })
    }

    /// For a NATS client.
    pub(crate) fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    /// Closes all connections, and refuses new ones.
    pub(crate) fn cut(&self) {
        self.whole.send_replace(false);
    }

    /// Ends a [`Proxy::cut`].
    pub(crate) fn heal(&self) {
        self.whole.send_replace(true);
    }
}

/// While the wire is cut nobody listens, as where a server is gone: a client that is let in and sent away would call that a fault.
async fn accept(listener: TcpListener, server: String, mut state: watch::Receiver<bool>) {
    let Ok(address) = listener.local_addr() else { return };
    let mut listener = Some(listener);
    loop {
        let Some(open) = listener.take() else { return };
        tokio::select! {
            () = carry(open, &server) => {}
            _ = state.wait_for(|whole| !whole) => {}
        }
        if state.wait_for(|whole| *whole).await.is_err() {
            return;
        }
        while listener.is_none() {
            match TcpListener::bind(address).await {
                Ok(bound) => listener = Some(bound),
                // The last connections are still being closed.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    }
}

/// Forwards what comes; its connections end with it.
async fn carry(listener: TcpListener, server: &str) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((client, _)) = listener.accept().await else { continue };
        connections.spawn(forward(client, server.to_owned()));
        while connections.try_join_next().is_some() {}
    }
}

async fn forward(mut client: TcpStream, server: String) {
    let Ok(mut server) = TcpStream::connect(server).await else { return };
    // Small packets are what is measured here.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    // Its end, whatever it is, ends both.
    let _ = copy_bidirectional(&mut client, &mut server).await;
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn a_wire_carries_until_it_is_cut_and_again_once_it_is_whole() {
        let server = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let proxy = Proxy::start(server.local_addr().expect("bound").to_string()).await;
        let proxy = proxy.expect("a port");
        let mut client = TcpStream::connect(proxy.address).await.expect("connected");
        let (mut far, _) = server.accept().await.expect("forwarded");
        client.write_all(b"x").await.expect("written");
        assert_eq!(far.read_u8().await.expect("carried"), b'x');
        proxy.cut();
        assert_eq!(client.read(&mut [0; 1]).await.unwrap_or(0), 0, "closed");
        TcpStream::connect(proxy.address).await.expect_err("refused");
        proxy.heal();
        let mut client = loop {
            match TcpStream::connect(proxy.address).await {
                Ok(client) => break client,
                Err(_) => tokio::task::yield_now().await,
            }
        };
        let (mut far, _) = server.accept().await.expect("forwarded");
        client.write_all(b"y").await.expect("written");
        assert_eq!(far.read_u8().await.expect("carried"), b'y');
    }
}
