//! Of its clock.

use std::process::Command;

use super::*;
use crate::program::{Running, finish};

rows! {
    clock_wrong => async {
        let server = NatsServer::start();
        let here = Program::new(server.url());
        let young = |arguments: &str| {
            let mut faketime = Command::new("faketime");
            faketime.args(["-f", "@1980-01-01 00:00:00", env!("CARGO_BIN_EXE_waypost")]);
            let mut command = here.wrap(faketime, arguments);
            command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
            command
        };
        let mut node = Running::new(young("send c --lines --id young --wait 1ms"));
        let mut config = Config::default();
        config.nats = vec![server.url()];
        until_it_tells(&mut node, &config, ("young", "clock_wrong"), true).await;
        let doctor = finish(young("doctor --id young"), b"");
        let of_the_machine = format!("warn  clock        {}", template("clock_wrong").sentence);
        assert!(holds(doctor.text(), &of_the_machine), "{}", doctor.text());
        // By the node's own word, where the one who asks has the right time.
        let doctor = here.run("doctor --id young");
        assert!(says(doctor.text(), "clock_wrong"), "{}", doctor.text());
        let ended = node.ended();
        assert!(says(&ended.err, "clock_wrong"), "{}", ended.err);
    };

    clock_apart => async {
        let server = NatsServer::start();
        let here = Program::new(server.url());
        let off = here.path("off");
        std::fs::write(&off, "+0").expect("written");
        let mut faketime = Command::new("faketime");
        // Its file is only read where the command line says nothing.
        faketime.args(["-f", "+0", "env", "-u", "FAKETIME", env!("CARGO_BIN_EXE_waypost")]);
        let mut command = here.wrap(faketime, "send c --lines --id jumpy --wait 1ms");
        command.env("FAKETIME_TIMESTAMP_FILE", &off).env("FAKETIME_NO_CACHE", "1");
        command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        let mut node = Running::new(command);
        let mut config = Config::default();
        config.nats = vec![server.url()];
        until_it_tells(&mut node, &config, ("jumpy", "clock_apart"), false).await;
        std::fs::write(&off, "+2d").expect("written");
        until_it_tells(&mut node, &config, ("jumpy", "clock_apart"), true).await;
        let doctor = here.run("doctor --id jumpy");
        assert!(says(doctor.text(), "clock_apart"), "{}", doctor.text());
        std::fs::write(&off, "+0").expect("written");
        until_it_tells(&mut node, &config, ("jumpy", "clock_apart"), false).await;
        let ended = node.ended();
        assert!(says(&ended.err, "clock_apart"), "{}", ended.err);
        assert!(ended.err.contains("the wall clock is 2days ahead of"), "{}", ended.err);
        assert!(holds(&ended.err, template("clock_apart").over), "{}", ended.err);
    };
}

/// Lets it send until it tells this about its wall clock, or no longer: each commit looks at the clock.
async fn until_it_tells(
    process: &mut Running,
    config: &Config,
    (node, reason): (&str, &str),
    tells: bool,
) {
    let end = Instant::now() + PATIENCE;
    loop {
        process.write(b"x\n");
        process.line();
        if let Some(report) = asked(config, node).await {
            let told = report.reasons.iter().find(|told| told.reason == reason);
            assert!(told.is_none_or(|told| says(&told.to_string(), reason)), "{told:?}");
            if told.is_some() == tells {
                return;
            }
        }
        assert!(Instant::now() < end, "its clock was set: {tells}");
    }
}
