use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::routing::get;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Barrier;

use super::*;

/// None of these ends while a test runs.
const ROOMY: Limits = Limits {
    connections: 3,
    header: Duration::from_secs(3_600),
    connection: Duration::from_secs(3_600),
    keep_alive: false,
};
const SOON: Duration = Duration::from_millis(20);
const WHOLE: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";

/// Serves this under these limits. It ends with what is returned.
async fn serve(limits: Limits, router: Router) -> (JoinSet<()>, SocketAddr, CancellationToken) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (mut tasks, stop) = (JoinSet::new(), CancellationToken::new());
    tasks.spawn(accept(listener, router, limits, stop.clone()));
    (tasks, address, stop)
}

async fn connect(address: SocketAddr, request: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.expect("connected");
    stream.write_all(request).await.expect("written");
    stream
}

/// All that comes until the other side ends the connection.
async fn answered(mut stream: TcpStream) -> String {
    let mut text = String::new();
    // Cut short, it may also be reset.
    let _ = stream.read_to_string(&mut text).await;
    text
}

/// Asks until a whole answer comes: under short limits a slow machine may miss one.
async fn eventually_answers(address: SocketAddr) {
    let asking =
        async { while !answered(connect(address, WHOLE).await).await.ends_with("here") {} };
    timeout(Duration::from_secs(40), asking).await.expect("an answer");
}

#[tokio::test]
async fn a_connection_ends_with_its_answer() {
    let (_tasks, address, _stop) = serve(ROOMY, Router::new().route("/", get("here"))).await;
    let text = answered(connect(address, &WHOLE.repeat(2)).await).await;
    assert!(text.starts_with("HTTP/1.1 200") && text.ends_with("here"), "{text}");
    assert_eq!(text.matches("HTTP/1.1").count(), 1, "{text}");
    assert!(text.to_lowercase().contains("connection: close"), "{text}");
}

#[tokio::test]
async fn more_connections_than_there_are_places_wait_for_one() {
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    // Passed only by as many as there are places, all at once.
    let (all, peak) = (Arc::new(Barrier::new(ROOMY.connections)), most.clone());
    let handle = async move || {
        most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        all.wait().await;
        running.fetch_sub(1, Ordering::SeqCst);
        "here"
    };
    let (_tasks, address, _stop) = serve(ROOMY, Router::new().route("/", get(handle))).await;
    let mut clients = JoinSet::new();
    for _ in 0..ROOMY.connections * 5 {
        clients.spawn(async move { answered(connect(address, WHOLE).await).await });
    }
    for text in clients.join_all().await {
        assert!(text.ends_with("here"), "{text}");
    }
    assert_eq!(peak.load(Ordering::SeqCst), ROOMY.connections);
}

#[tokio::test]
async fn whoever_sends_no_whole_header_in_time_gives_its_place_to_another() {
    let limits = Limits { header: SOON, ..ROOMY };
    let (_tasks, address, _stop) = serve(limits, Router::new().route("/", get("here"))).await;
    let mut idle = Vec::new();
    for _ in 0..limits.connections {
        idle.push(connect(address, b"").await);
        idle.push(connect(address, b"GET / HTT").await);
    }
    eventually_answers(address).await;
    for stream in idle {
        let text = answered(stream).await;
        assert!(!text.starts_with("HTTP/1.1 200"), "{text}");
    }
}

#[tokio::test]
async fn a_connection_that_lasts_too_long_is_cut() {
    let limits = Limits { connections: 1, connection: SOON, ..ROOMY };
    let never = get(async || std::future::pending::<()>().await);
    let router = Router::new().route("/never", never).route("/", get("here"));
    let (_tasks, address, _stop) = serve(limits, router).await;
    let stuck = connect(address, b"GET /never HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(answered(stuck).await, "");
    eventually_answers(address).await;
}

#[tokio::test]
async fn silent_connections_hold_up_no_end() {
    let (mut tasks, address, stop) = serve(ROOMY, Router::new().route("/", get("here"))).await;
    let mut idle = Vec::new();
    for _ in 0..ROOMY.connections {
        idle.push(connect(address, b"GET / HTT").await);
    }
    stop.cancel();
    while let Some(ended) = tasks.join_next().await {
        ended.expect("no panic");
    }
    for stream in idle {
        assert_eq!(answered(stream).await, "");
    }
}
