//! The web page's files and its socket, spoken to as a browser does.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::program::{Chat, NO_WEB, PATIENCE};
use crate::support::nats_server::NatsServer;
use futures_util::{SinkExt, StreamExt};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

/// A port that nobody listens on. Somebody else could take it before the program does, and the test would say so.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

fn serve(folder: &Path, nats: &str, node: &str, more: &str) -> (Chat, u16) {
    let port = free_port();
    let chat = Chat::piped(folder, nats, node, &format!("--channel c --web {port} {more}"));
    chat.expect("web page: http://");
    (chat, port)
}

/// The answer to a request without a body.
fn get(port: u16, path: &str, more: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    let host =
        if more.contains("Host:") { String::new() } else { format!("Host: localhost:{port}\r\n") };
    write!(stream, "GET {path} HTTP/1.1\r\n{host}Connection: close\r\n{more}\r\n")
        .expect("it reads");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    String::from_utf8(answer).expect("text")
}

struct Tab(WebSocketStream<MaybeTlsStream<tokio::net::TcpStream>>);

async fn open(port: u16, origin: &str, cookie: &str) -> Result<Tab, Error> {
    let mut request = format!("ws://127.0.0.1:{port}/socket").into_client_request()?;
    request.headers_mut().insert("origin", origin.parse().expect("a value"));
    if !cookie.is_empty() {
        request.headers_mut().insert("cookie", cookie.parse().expect("a value"));
    }
    connect_async(request).await.map(|(socket, _)| Tab(socket))
}

async fn tab(port: u16) -> (Tab, Value) {
    let origin = format!("http://127.0.0.1:{port}");
    let mut tab = open(port, &origin, "").await.expect("a socket");
    let hello = tab.expect("hello").await;
    (tab, hello)
}

impl Tab {
    async fn order(&mut self, order: Value) {
        self.0.send(Message::text(order.to_string())).await.expect("it is open");
    }

    /// The next of this type; others before it are left out.
    async fn expect(&mut self, of: &str) -> Value {
        self.expect_that(of, |_| true).await
    }

    async fn expect_that(&mut self, of: &str, condition: impl Fn(&Value) -> bool) -> Value {
        let found = async {
            while let Some(frame) = self.0.next().await {
                let Ok(Message::Text(text)) = frame else { continue };
                let told: Value = serde_json::from_str(&text).expect("JSON");
                if told["type"] == of && condition(&told) {
                    return Some(told);
                }
            }
            None
        };
        let found = tokio::time::timeout(PATIENCE, found).await;
        found.ok().flatten().unwrap_or_else(|| panic!("no {of}"))
    }

    /// Waits until the program closes the socket.
    async fn expect_close(mut self) {
        let closed = async {
            while !matches!(self.0.next().await, None | Some(Ok(Message::Close(_)) | Err(_))) {}
        };
        tokio::time::timeout(PATIENCE, closed).await.expect("it closes");
    }
}

#[tokio::test]
async fn what_is_said_on_a_page_arrives_and_all_its_tabs_show_it() {
    let (server, folder) = (NatsServer::start(), tempfile::tempdir().expect("a folder"));
    let mut bob = Chat::piped(folder.path(), &server.url(), "bob", NO_WEB);
    let (_alice, port) = serve(folder.path(), &server.url(), "alice", "");
    bob.expect_to_see("alice");
    let ((mut one, hello), (mut two, _)) = (tab(port).await, tab(port).await);
    assert_eq!((&hello["me"], &hello["channel"]), (&json!("alice"), &json!("c")));
    one.order(json!({ "do": "say", "text": "<b>hello</b>", "nonce": "1" })).await;
    bob.expect("alice: <b>hello</b>");
    let post = two.expect("post").await["post"].clone();
    assert_eq!(post["content"]["text"], "<b>hello</b>");
    two.expect_that("mark", |told| told["mark"]["delivered"] == 1).await;
    let key = json!({ "id": post["id"], "sender": "alice" });
    bob.write("/react 👍\n");
    one.expect_that("changed", |told| told["post"]["reactions"]["👍"] == json!(["bob"])).await;
    two.order(json!({ "do": "edit", "key": key, "text": "hi", "nonce": "2" })).await;
    bob.expect("alice: hi (edited)");
    one.expect_that("changed", |told| told["post"]["edited"] == true).await;
    one.order(json!({ "do": "delete", "key": key, "nonce": "3" })).await;
    bob.expect("was deleted by alice");
    // A tab that is opened later sees the same.
    let (_, hello) = tab(port).await;
    assert_eq!(hello["posts"][0]["content"], "deleted");
}

#[tokio::test]
async fn an_order_that_is_repeated_is_carried_out_once() {
    let (server, folder) = (NatsServer::start(), tempfile::tempdir().expect("a folder"));
    let (alice, port) = serve(folder.path(), &server.url(), "alice", "");
    let (mut one, _) = tab(port).await;
    for _ in 0..3 {
        one.order(json!({ "do": "say", "text": "once", "nonce": "n" })).await;
        one.expect("done").await;
    }
    drop(one);
    let (mut again, hello) = tab(port).await;
    assert_eq!(hello["posts"].as_array().expect("a list").len(), 1);
    again.order(json!({ "do": "say", "text": "once", "nonce": "n" })).await;
    assert_eq!(again.expect("done").await["error"], Value::Null);
    again.order(json!({ "do": "say", "text": "x".repeat(20_000), "nonce": "long" })).await;
    assert_ne!(again.expect("done").await["error"], Value::Null);
    assert_eq!(alice.shown().matches("alice: once").count(), 1);
    alice.kill();
    // Not by its next run either.
    let (alice, port) = serve(folder.path(), &server.url(), "alice", "");
    let (mut again, _) = tab(port).await;
    for (text, nonce) in [("once", "n"), ("after it", "m")] {
        again.order(json!({ "do": "say", "text": text, "nonce": nonce })).await;
    }
    alice.expect("alice: after it");
    assert_eq!(alice.shown().matches("alice: once").count(), 1, "{}", alice.shown());
    // What was changed again since is not changed back.
    let key = json!({ "id": hello["posts"][0]["id"], "sender": "alice" });
    let edit = |text, nonce| json!({ "do": "edit", "key": key, "text": text, "nonce": nonce });
    for (text, nonce) in [("x", "e1"), ("y", "e2")] {
        again.order(edit(text, nonce)).await;
        again.expect_that("done", |told| told["nonce"] == nonce).await;
    }
    alice.kill();
    let (_alice, port) = serve(folder.path(), &server.url(), "alice", "");
    let (mut again, _) = tab(port).await;
    again.order(edit("x", "e1")).await;
    assert_eq!(again.expect("done").await["error"], Value::Null);
    let (_, hello) = tab(port).await;
    assert_eq!(hello["posts"][0]["content"]["text"], "y");
}

#[test]
fn connections_that_say_nothing_are_ended() {
    let folder = tempfile::tempdir().expect("a folder");
    let (_alice, port) = serve(folder.path(), "127.0.0.1:1", "alice", "");
    let silent: Vec<_> =
        (0..300).map(|_| TcpStream::connect(("127.0.0.1", port)).expect("connected")).collect();
    // More than there are places: this waits until those before it are ended.
    assert!(get(port, "/", "").starts_with("HTTP/1.1 200"));
    for mut stream in silent {
        stream.set_read_timeout(Some(PATIENCE)).expect("a time");
        let mut rest = Vec::new();
        // It may say why.
        stream.read_to_end(&mut rest).expect("it ends");
    }
}

#[tokio::test]
async fn very_long_messages_come_in_smaller_pages() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut alice, port) = serve(folder.path(), "127.0.0.1:1", "alice", "");
    alice.write(&format!("{}\n", "x".repeat(16_000)).repeat(40));
    alice.write("the last\n");
    alice.expect("alice: the last");
    let (mut tab, hello) = tab(port).await;
    let (mut got, mut more, mut posts) = (0, hello["more"].clone(), hello["posts"].clone());
    loop {
        let page = posts.as_array().expect("a list").clone();
        assert!((1..=17).contains(&page.len()), "{}", page.len());
        got += page.len();
        if more == json!(false) {
            break;
        }
        let seq = page.iter().map(|post| post["seq"].as_u64().expect("a number")).min();
        tab.order(json!({ "do": "before", "seq": seq })).await;
        let told = tab.expect("page").await;
        assert_eq!(told["before"], json!(seq));
        (more, posts) = (told["more"].clone(), told["posts"].clone());
    }
    assert_eq!(got, 41);
}

#[tokio::test]
async fn a_program_that_ends_closes_its_pages_and_answers_nothing_more() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut alice, port) = serve(folder.path(), "127.0.0.1:1", "alice", "");
    let (mut tab, _) = tab(port).await;
    alice.signal(Signal::TERM);
    let mut told = Vec::new();
    while let Ok(Some(Ok(frame))) = tokio::time::timeout(PATIENCE, tab.0.next()).await {
        let is_close = matches!(frame, Message::Close(_));
        told.push(frame);
        if is_close {
            break;
        }
    }
    let Some(Message::Close(Some(reason))) = told.pop() else { panic!("{told:?}") };
    assert_eq!(u16::from(reason.code), 1001);
    assert!(alice.ended().success(), "{}", alice.errors());
}

#[tokio::test]
async fn a_change_of_a_message_that_is_long_out_of_memory_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut alice, port) = serve(folder.path(), "127.0.0.1:1", "alice", "");
    // More than the 2,000 that are kept in memory.
    let lines: String = (0..2050).map(|number| format!("number {number}\n")).collect();
    alice.write(&lines);
    alice.expect("alice: number 2049");
    let (mut tab, _) = tab(port).await;
    tab.order(json!({ "do": "before", "seq": 2 })).await;
    let first = tab.expect("page").await["posts"][0].clone();
    assert_eq!(first["content"]["text"], "number 0");
    let key = json!({ "id": first["id"], "sender": "alice" });
    tab.order(json!({ "do": "edit", "key": key, "text": "zero", "nonce": "1" })).await;
    let changed = tab.expect("changed").await;
    assert_eq!(changed["post"]["content"]["text"], "zero");
    tab.order(json!({ "do": "delete", "key": key, "nonce": "2" })).await;
    tab.expect_that("changed", |told| told["post"]["content"] == "deleted").await;
    tab.order(json!({ "do": "edit", "key": key, "text": "again", "nonce": "3" })).await;
    let refused = tab.expect_that("done", |told| told["nonce"] == "3").await;
    assert_eq!(refused["error"], "it was deleted");
}

#[tokio::test]
async fn read_marks_and_typing_go_from_page_to_page() {
    let (server, folder) = (NatsServer::start(), tempfile::tempdir().expect("a folder"));
    let (_alice, a) = serve(folder.path(), &server.url(), "alice", "");
    let (bob, b) = serve(folder.path(), &server.url(), "bob", "");
    bob.expect_to_see("alice");
    let ((mut alice, _), (mut bob, hello)) = (tab(a).await, tab(b).await);
    if hello["online"] == json!([]) {
        bob.expect("joined").await;
    }
    bob.order(json!({ "do": "typing", "on": true })).await;
    assert_eq!(
        alice.expect("typing").await,
        json!({ "type": "typing", "node": "bob", "on": true })
    );
    alice.order(json!({ "do": "say", "text": "seen?", "nonce": "1" })).await;
    let post = bob.expect("post").await["post"].clone();
    let key = json!({ "id": post["id"], "sender": "alice" });
    bob.order(json!({ "do": "read", "keys": [key] })).await;
    alice.expect_that("mark", |told| told["id"] == post["id"] && told["mark"]["read"] == 1).await;
    let read = bob.expect("read").await;
    assert_eq!((&read["reader"], &read["direct"]), (&json!("bob"), &json!(false)));
    let (_, hello) = tab(b).await;
    assert_eq!(hello["read"], json!({ "all": { "alice": post["id"] }, "direct": {} }));
    alice.order(json!({ "do": "network" })).await;
    let network = alice.expect("network").await;
    assert_eq!(network["nodes"][1]["name"], "bob");
    assert_eq!(network["nodes"][1]["channels"], json!([{ "name": "c", "mode": "readwrite" }]));
}

#[tokio::test]
async fn a_page_sees_what_waits_between_two_others() {
    let (server, folder) = (NatsServer::start(), tempfile::tempdir().expect("a folder"));
    let mut alice = Chat::piped(folder.path(), &server.url(), "alice", NO_WEB);
    let bob = Chat::piped(folder.path(), &server.url(), "bob", NO_WEB);
    let (carol, port) = serve(folder.path(), &server.url(), "carol", "");
    alice.expect_to_see("bob");
    alice.expect_to_see("carol");
    carol.expect_to_see("alice");
    carol.expect_to_see("bob");
    bob.kill();
    alice.write("one\ntwo\n");
    carol.expect("alice: two");
    let (mut tab, _) = tab(port).await;
    let expected = json!({ "from": "alice", "to": "bob", "messages": 2 });
    let deadline = Instant::now() + PATIENCE;
    loop {
        tab.order(json!({ "do": "network" })).await;
        let told = tab.expect("network").await;
        if told["backlog"].as_array().expect("a list").contains(&expected) {
            break;
        }
        assert!(Instant::now() < deadline, "{told}");
        // Orders have a pace.
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test]
async fn an_outage_is_told_with_the_number_that_waits_and_ends_by_itself() {
    let (mut server, folder) = (NatsServer::start(), tempfile::tempdir().expect("a folder"));
    let bob = Chat::piped(folder.path(), &server.url(), "bob", NO_WEB);
    let (_alice, port) = serve(folder.path(), &server.url(), "alice", "");
    bob.expect_to_see("alice");
    let (mut tab, hello) = tab(port).await;
    if hello["connected"] == false {
        tab.expect_that("link", |told| told["connected"] == true).await;
    }
    server.stop();
    tab.expect_that("link", |told| told["connected"] == false).await;
    for number in 0..3 {
        tab.order(json!({ "do": "say", "text": number.to_string(), "nonce": number.to_string() }))
            .await;
    }
    tab.expect_that("waiting", |told| told["waiting"] == 3).await;
    server.restart();
    tab.expect_that("link", |told| told["connected"] == true).await;
    tab.expect_that("waiting", |told| told["waiting"] == 0).await;
    bob.expect("alice: 2");
}

#[tokio::test]
async fn why_messages_do_not_move_is_told_on_the_page_and_so_is_its_end() {
    let (server, folder) = (NatsServer::start(), tempfile::tempdir().expect("a folder"));
    let (_alice, port) = serve(folder.path(), &server.url(), "alice", "");
    let (mut tab, _) = tab(port).await;
    tab.order(json!({ "do": "say", "text": "welcome", "to": "zoe", "nonce": "1" })).await;
    let never_heard = waypost::Reason::NeverHeard {
        receiver: waypost::NodeId::new("zoe").expect("a valid name"),
        waiting: 1,
    };
    tab.expect_that("warning", |told| told["text"] == never_heard.to_string()).await;
    let zoe = Chat::piped(folder.path(), &server.url(), "zoe", NO_WEB);
    zoe.expect("alice to zoe: welcome");
    tab.expect_that("warning", |told| told["text"] == never_heard.over()).await;
}

/// D4: where it was written, on the terminal and on the page; in one line for all that expire together.
#[tokio::test]
async fn what_expires_is_told_to_who_wrote_it() {
    let (server, folder) = (NatsServer::start(), tempfile::tempdir().expect("a folder"));
    // The chat itself has no setting for that: a week.
    let node = waypost::Node::builder()
        .id("alice")
        .nats([server.url()])
        .storage(folder.path().join("chat-alice.db"))
        .start()
        .await
        .expect("started");
    let channel = node.join("c", waypost::Mode::Writer).await.expect("joined");
    let brief = |text: &str| waypost::NewMessage::text(text).ttl(Duration::from_secs(8));
    for message in [brief("one").to("zoe"), brief("two").to("zoe"), brief("for whoever reads")] {
        channel.send(message).await.expect("accepted");
    }
    node.shutdown().await;
    let (alice, port) = serve(folder.path(), &server.url(), "alice", "");
    let (mut tab, _) = tab(port).await;
    let of_zoe = "2 messages for zoe expired undelivered";
    let unclaimed = "1 message expired undelivered: nobody reads the channel";
    let mut left = vec![of_zoe, unclaimed];
    while !left.is_empty() {
        let told =
            tab.expect_that("warning", |told| left.iter().any(|it| told["text"] == *it)).await;
        left.retain(|it| told["text"] != *it);
    }
    alice.expect(of_zoe);
    alice.expect(unclaimed);
}

#[tokio::test]
async fn older_messages_are_read_from_the_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut alice, port) = serve(folder.path(), "127.0.0.1:1", "alice", "");
    (0..150).for_each(|number| alice.write(&format!("number {number}\n")));
    alice.expect("alice: number 149");
    let (mut tab, hello) = tab(port).await;
    let posts = hello["posts"].as_array().expect("a list");
    assert_eq!((posts.len(), &hello["more"]), (100, &json!(true)));
    tab.order(json!({ "do": "before", "seq": posts[0]["seq"] })).await;
    let page = tab.expect("page").await;
    assert_eq!(page["posts"].as_array().expect("a list").len(), 50);
    assert_eq!(page["posts"][0]["content"]["text"], "number 0");
}

#[tokio::test]
async fn other_sites_and_floods_are_kept_out() {
    let folder = tempfile::tempdir().expect("a folder");
    let (alice, port) = serve(folder.path(), "127.0.0.1:1", "alice", "");
    for origin in
        ["http://evil.example", "null", &format!("https://127.0.0.1:{port}"), "http://127.0.0.1:1"]
    {
        match open(port, origin, "").await {
            Err(Error::Http(answer)) => assert_eq!(answer.status(), 403, "{origin}"),
            _ => panic!("{origin} was let in"),
        }
    }
    let rebound = get(port, "/", "Host: evil.example\r\n");
    assert!(rebound.starts_with("HTTP/1.1 421"), "{rebound}");
    let (mut flood, _) = tab(port).await;
    for number in 0..200 {
        let order = json!({ "do": "say", "text": "flood", "nonce": number.to_string() });
        if flood.0.send(Message::text(order.to_string())).await.is_err() {
            break;
        }
    }
    flood.expect_close().await;
    assert!(alice.shown().matches("alice: flood").count() < 100);
    for bad in
        [Message::text("{"), Message::text("x".repeat(1_000_000)), Message::binary(vec![1, 2])]
    {
        let (mut tab, _) = tab(port).await;
        // It may be refused before it is all sent.
        let _ = tab.0.send(bad).await;
        tab.expect_close().await;
    }
    let (_, hello) = tab(port).await;
    assert_eq!(hello["me"], "alice", "and goes on");
}

#[tokio::test]
async fn the_page_allows_itself_nothing_and_a_token_keeps_strangers_out() {
    let folder = tempfile::tempdir().expect("a folder");
    let (_alice, port) = serve(folder.path(), "127.0.0.1:1", "alice", "--web-token secret-token");
    let refused = get(port, "/", "");
    assert!(refused.starts_with("HTTP/1.1 401"), "{refused}");
    assert!(refused.contains("default-src 'none'") && refused.contains("nosniff"), "{refused}");
    assert!(get(port, "/?token=wrong-token", "").starts_with("HTTP/1.1 401"));
    let welcome = get(port, "/?token=secret-token", "");
    assert!(welcome.starts_with("HTTP/1.1 303"), "{welcome}");
    let cookie =
        welcome.lines().find_map(|line| line.strip_prefix("set-cookie: ")).expect("a cookie");
    assert!(cookie.contains("HttpOnly; SameSite=Strict"));
    let cookie = cookie.split(';').next().expect("a value");
    let page = get(port, "/", &format!("Cookie: {cookie}\r\n"));
    assert!(page.starts_with("HTTP/1.1 200") && page.contains("<!doctype html>"), "{page}");
    let origin = format!("http://127.0.0.1:{port}");
    assert!(
        matches!(open(port, &origin, "").await, Err(Error::Http(answer)) if answer.status() == 401)
    );
    let mut tab = open(port, &origin, cookie).await.expect("a socket");
    tab.expect("hello").await;
}

#[test]
fn a_page_for_others_needs_a_token_and_a_port_that_is_taken_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let run = |code, more: &str| {
        let mut chat = Chat::piped(folder.path(), "127.0.0.1:1", "alice", more);
        assert_eq!(chat.ended().code(), Some(code));
        chat.errors()
    };
    assert!(run(2, "--web-listen 0.0.0.0").contains("give a --web-token too"));
    assert!(run(2, "--web-token short").contains("8 to 128"));
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port();
    assert!(run(1, &format!("--web {port}")).contains("another --web PORT, or 0 for none"));
    assert!(!folder.path().join("chat-alice.db").exists(), "nothing was begun");
}

#[test]
fn the_node_goes_on_with_its_page_when_its_input_has_ended() {
    let (server, folder) = (NatsServer::start(), tempfile::tempdir().expect("a folder"));
    let (mut alice, port) = serve(folder.path(), &server.url(), "alice", "");
    alice.close_input();
    let mut bob = Chat::piped(folder.path(), &server.url(), "bob", NO_WEB);
    alice.expect_to_see("bob");
    bob.write("still there?\n");
    alice.expect("bob: still there?");
    assert!(get(port, "/", "").starts_with("HTTP/1.1 200"));
}

#[test]
fn metrics_and_health_are_served_where_http_says() {
    let (server, folder) = (NatsServer::start(), tempfile::tempdir().expect("a folder"));
    let alice =
        Chat::piped(folder.path(), &server.url(), "alice", &format!("{NO_WEB} --http 127.0.0.1:0"));
    let says = "metrics and health on http://127.0.0.1:";
    let deadline = Instant::now() + PATIENCE;
    let port = loop {
        let errors = alice.errors();
        if let Some((_, rest)) = errors.split_once(says) {
            break rest.lines().next().expect("a line").parse().expect("a port");
        }
        assert!(Instant::now() < deadline, "{errors}");
        std::thread::sleep(Duration::from_millis(5));
    };
    let metrics = get(port, "/metrics", "");
    assert!(metrics.contains("\nwaypost_node_info{node=\"alice\""), "{metrics}");
    let ready = get(port, "/readyz", "");
    assert!(ready.starts_with("HTTP/1.1 200") && ready.contains("\"ready\":true"), "{ready}");
}
