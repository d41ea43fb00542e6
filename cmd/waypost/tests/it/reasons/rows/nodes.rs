//! Of the node itself.

use super::*;

rows! {
    ended => async {
        let server = NatsServer::start();
        let scene = Scene::new(&server.url(), "ended").await;
        scene.node.shutdown().await;
        assert_eq!(scene.node.status().reasons, [Reason::Ended {}]);
        scene.stands_in_its_readiness("ended").await;
        scene.node.reasons().await.expect_err("nobody answers any more");
    };

    name_taken => async {
        let server = NatsServer::start();
        let scene = Scene::new(&server.url(), "taken").await;
        let elsewhere = Program::new(server.url());
        let second = elsewhere.run("recv c --id taken").expect_code(1);
        assert!(says(&second.err, "name_taken"), "{}", second.err);
        scene.node.shutdown().await;
    };

    not_running => async {
        let server = NatsServer::start();
        let scene = Scene::new(&server.url(), "gone").await;
        let id = send(&scene.writes("c").await, NewMessage::text("x").to("b")).await;
        scene.node.shutdown().await;
        scene.why_says(id, "not_running");
        scene.doctor_says("not_running");
    };

    silent => async {
        let server = NatsServer::start();
        let scene = Scene::new(&server.url(), "silent").await;
        let id = send(&scene.writes("c").await, NewMessage::text("x").to("b")).await;
        scene.command_says(&format!("why {id} --prefix other"), "silent");
        scene.command_says("doctor --prefix other", "silent");
        scene.node.shutdown().await;
    };

    kicked => async {
        let server = NatsServer::start();
        let scene = Scene::new(&server.url(), "kicked").await;
        let other = scene.other(&server.url(), "kicker").await;
        let id = send(&scene.writes("c").await, NewMessage::text("x").to("b")).await;
        let kick = async || other.kick("kicked").await.is_ok();
        eventually_async(PATIENCE, "it is kicked", kick).await;
        scene.is_told_everywhere("kicked", Some(id)).await;
        other.readmit_node("kicked").await.expect("obeyed");
        scene.is_over("kicked").await;
        other.shutdown().await;
        scene.node.shutdown().await;
    };

    kicked_from => async {
        let server = NatsServer::start();
        let scene = Scene::new(&server.url(), "barred").await;
        let other = scene.other(&server.url(), "warden").await;
        let channel = scene.writes("c").await;
        let kick = async || {
            let whom = Whom::Node(NodeId::new("barred").expect("a valid name"));
            other.kick_channel("c", whom).await.is_ok_and(|all| all.iter().all(|it| it.result.is_ok()))
        };
        eventually_async(PATIENCE, "it is kicked", kick).await;
        scene.is_told_everywhere("kicked_from", None).await;
        let refused = channel.send("x").await.expect_err("it is kicked");
        assert!(says(&refused.to_string(), "kicked_from"), "{refused}");
        other.readmit_node("barred").await.expect("obeyed");
        scene.is_over("kicked_from").await;
        other.shutdown().await;
        scene.node.shutdown().await;
    };

    draining => async {
        let server = NatsServer::start();
        let scene = Scene::new(&server.url(), "drained").await;
        let other = scene.other(&server.url(), "drainer").await;
        let channel = scene.writes("c").await;
        let drain = async || other.drain("drained").await.is_ok();
        eventually_async(PATIENCE, "it is drained", drain).await;
        scene.is_told_everywhere("draining", None).await;
        let refused = channel.send("x").await.expect_err("it is drained");
        assert!(says(&refused.to_string(), "draining"), "{refused}");
        other.readmit_node("drained").await.expect("obeyed");
        scene.is_over("draining").await;
        other.shutdown().await;
        scene.node.shutdown().await;
    };

    no_quorum => async {
        let server = NatsServer::start();
        let election = Election::quorum(["voter", "b", "c"]).expect("valid names");
        let voter = |builder: Builder| builder.election(election);
        let scene = Scene::with(&server.url(), "voter", voter).await;
        scene.is_told_everywhere("no_quorum", None).await;
        scene.node.shutdown().await;
    };
}
