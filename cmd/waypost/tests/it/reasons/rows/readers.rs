//! Of those that it sends to, and of what it reads.

use super::*;

rows! {
    limit_near => async {
        let server = NatsServer::start();
        let four = 4.try_into().expect("more than none");
        let limited = |builder: Builder| builder.queue_limit(four);
        let scene = Scene::with(&server.url(), "nearly", limited).await;
        let channel = scene.writes("c").await;
        send(&channel, NewMessage::text("x").to("b")).await;
        send(&channel, NewMessage::text("x").to("b")).await;
        let id = send(&channel, NewMessage::text("x").to("b")).await;
        scene.is_told_everywhere("limit_near", Some(id)).await;
        scene.node.shutdown().await;
    };

    queue_full => async {
        let server = NatsServer::start();
        let two = 2.try_into().expect("more than none");
        let limited = |builder: Builder| builder.queue_limit(two);
        let scene = Scene::with(&server.url(), "full", limited).await;
        let channel = scene.writes("c").await;
        send(&channel, NewMessage::text("x").to("b")).await;
        let id = send(&channel, NewMessage::text("x").to("b")).await;
        let third = channel.send(NewMessage::text("x").to("b")).await;
        let refused = third.expect_err("two wait");
        assert!(says(&refused.to_string(), "queue_full"), "{refused}");
        scene.is_told_everywhere("queue_full", Some(id)).await;
        scene.node.purge("b", None).await.expect("purged");
        scene.is_over("queue_full").await;
        scene.node.shutdown().await;
    };

    paused_here => async {
        let server = NatsServer::start();
        let scene = Scene::new(&server.url(), "deaf").await;
        let channel = scene.node.join("c", Mode::Reader).await.expect("joined");
        scene.is_told_everywhere("paused_here", None).await;
        channel.on_message(|_| async { Ok(()) }).await.expect("attached");
        scene.is_over("paused_here").await;
        scene.node.shutdown().await;
    };

    nobody_yet => async {
        let server = NatsServer::start();
        let scene = Scene::new(&server.url(), "early").await;
        let id = send(&scene.writes("c").await, "x").await;
        scene.is_told_everywhere("nobody_yet", Some(id)).await;
        let reader = scene.other(&server.url(), "late").await;
        let inbox = reader.join("c", Mode::Reader).await.expect("joined");
        inbox.on_message(|_| async { Ok(()) }).await.expect("attached");
        scene.is_over("nobody_yet").await;
        reader.shutdown().await;
        scene.node.shutdown().await;
    };

    never_heard => async {
        let server = NatsServer::start();
        let scene = Scene::new(&server.url(), "hopeful").await;
        let channel = scene.writes("c").await;
        let first = send(&channel, NewMessage::text("x").to("misspelt")).await;
        // Counted when it is asked, not at the node's next look.
        let at_once = scene.here.run(&format!("why {first} --id hopeful")).expect_code(0);
        assert!(says(at_once.text(), "never_heard"), "{}", at_once.text());
        scene.is_told_everywhere("never_heard", Some(first)).await;
        // One of many: a report holds a hundred reasons.
        let mut ids = Vec::new();
        for n in 0..150 {
            ids.push(send(&channel, NewMessage::text("x").to(format!("r{n:03}"))).await);
        }
        for (n, id) in [(0, ids[0]), (149, ids[149])] {
            let why = scene.here.run(&format!("why {id} --id hopeful")).expect_code(0);
            let its = format!("for r{n:03}, which was never heard");
            assert!(why.text().contains(&its) && why.text().matches("because").count() == 1, "{}", why.text());
        }
        let doctor = scene.here.run("doctor --id hopeful");
        assert!(doctor.text().contains("and 51 more reasons"), "{}", doctor.text());
        scene.node.shutdown().await;
    };

    offline => async {
        let server = NatsServer::start();
        let scene = Scene::new(&server.url(), "ashore").await;
        let channel = scene.writes("c").await;
        let reader = scene.other(&server.url(), "at-sea").await;
        let inbox = reader.join("c", Mode::Reader).await.expect("joined");
        inbox.on_message(|_| async { Ok(()) }).await.expect("attached");
        is_read(&scene.node).await;
        reader.shutdown().await;
        let id = send(&channel, "x").await;
        scene.is_told_everywhere("offline", Some(id)).await;
        let reader = scene.other(&server.url(), "at-sea").await;
        scene.is_over("offline").await;
        reader.shutdown().await;
        scene.node.shutdown().await;
    };

    not_joined => async {
        let server = NatsServer::start();
        let scene = Scene::new(&server.url(), "talker").await;
        let channel = scene.writes("c").await;
        let reader = scene.other(&server.url(), "bystander").await;
        eventually_async(PATIENCE, "it is met", async || scene.node.status().peers_online == 1)
            .await;
        let id = send(&channel, NewMessage::text("x").to("bystander")).await;
        scene.is_told_everywhere("not_joined", Some(id)).await;
        let inbox = reader.join("c", Mode::Reader).await.expect("joined");
        inbox.on_message(|_| async { Ok(()) }).await.expect("attached");
        scene.is_over("not_joined").await;
        reader.shutdown().await;
        scene.node.shutdown().await;
    };

    paused => async {
        let server = NatsServer::start();
        let scene = Scene::new(&server.url(), "eager").await;
        let channel = scene.writes("c").await;
        let reader = scene.other(&server.url(), "resting").await;
        let inbox = reader.join("c", Mode::Reader).await.expect("joined");
        inbox.on_message(|_| async { Ok(()) }).await.expect("attached");
        is_read(&scene.node).await;
        inbox.pause().await.expect("paused");
        let id = send(&channel, "x").await;
        scene.is_told_everywhere("paused", Some(id)).await;
        inbox.resume().await.expect("resumed");
        scene.is_over("paused").await;
        reader.shutdown().await;
        scene.node.shutdown().await;
    };

    refusing => async {
        let server = NatsServer::start();
        let patient = |builder: Builder| {
            builder
                .max_attempts(1_000.try_into().expect("more than none"))
                .max_retry_delay(Duration::from_secs(1))
        };
        let scene = Scene::with(&server.url(), "insistent", patient).await;
        let channel = scene.writes("c").await;
        let reader = scene.other(&server.url(), "unwilling").await;
        let inbox = reader.join("c", Mode::Reader).await.expect("joined");
        let refuse = |_| async { Err(HandlerError::from("not today")) };
        inbox.on_message(refuse).await.expect("attached");
        is_read(&scene.node).await;
        let id = send(&channel, "x").await;
        scene.is_told_everywhere("refusing", Some(id)).await;
        reader.shutdown().await;
        scene.node.shutdown().await;
    };

    no_answer => async {
        let server = NatsServer::with_config(
            r#"authorization { users: [
                { user: x, password: x },
                { user: mute, password: x, permissions: {
                    publish: { deny: "waypost.ack.>" }, subscribe: ">" } } ] }"#,
        );
        let url = server.url().replace("nats://", "nats://x:x@");
        let patient = |builder: Builder| {
            builder.max_attempts(1_000.try_into().expect("more than none"))
        };
        let scene = Scene::with(&url, "asking", patient).await;
        let channel = scene.writes("c").await;
        let reader = scene.other(&server.url().replace("nats://", "nats://mute:x@"), "mute").await;
        let inbox = reader.join("c", Mode::Reader).await.expect("joined");
        inbox.on_message(|_| async { Ok(()) }).await.expect("attached");
        is_read(&scene.node).await;
        let id = send(&channel, "x").await;
        scene.is_told_everywhere("no_answer", Some(id)).await;
        reader.shutdown().await;
        scene.node.shutdown().await;
    };

    working => async {
        let server = NatsServer::start();
        let scene = Scene::new(&server.url(), "waiting").await;
        let channel = scene.writes("c").await;
        let reader = scene.other(&server.url(), "hanging").await;
        let inbox = reader.join("c", Mode::Reader).await.expect("joined");
        inbox.on_message(|_| std::future::pending()).await.expect("attached");
        is_read(&scene.node).await;
        let id = send(&channel, "x").await;
        scene.is_told_everywhere("working", Some(id)).await;
        drop(inbox);
        reader.shutdown().await;
        scene.node.shutdown().await;
    };
}

/// Until somebody reads the channel.
async fn is_read(node: &Node) {
    let is_read = async || !node.subscribers("c").await.expect("it runs").is_empty();
    eventually_async(PATIENCE, "somebody reads the channel", is_read).await;
}
