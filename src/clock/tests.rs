use super::*;

const SINCE_BOOT: &str = "since boot: ";

#[test]
#[ignore = "run by another test as a process of its own"]
fn tells_the_time_since_boot() {
    println!("{SINCE_BOOT}{}", since_boot().as_secs());
}

/// Nobody can suspend the machine for a test. But the clock that counts suspended time can be moved for a process, and no other with it.
#[test]
#[cfg(target_os = "linux")]
fn suspended_time_counts() {
    const SUSPENDED: u64 = 1_000_000;
    let unshare = |arguments: &[&str]| {
        let mut command = std::process::Command::new("unshare");
        command.args(["-rT", "--boottime", &SUSPENDED.to_string()]).args(arguments);
        command.output().ok().filter(|output| output.status.success())
    };
    if unshare(&["true"]).is_none() {
        // As the other tests have it, whose tools the benchmarks, which have this module, too, don't.
        let is_strict = std::env::var_os("WAYPOST_TEST_STRICT").is_some_and(|value| value == "1");
        assert!(
            !is_strict,
            "not run, and WAYPOST_TEST_STRICT=1 asks for it: no clocks of their own"
        );
        return eprintln!("not run: this machine lets nobody have clocks of their own");
    }
    let program = std::env::current_exe().expect("this program");
    let program = program.to_str().expect("text");
    let test = "clock::tests::tells_the_time_since_boot";
    let told = unshare(&[program, test, "--exact", "--ignored", "--nocapture"]);
    let told = String::from_utf8(told.expect("it ends well").stdout).expect("text");
    let seconds = told.split_once(SINCE_BOOT).and_then(|(_, rest)| rest.lines().next());
    let seconds: u64 = seconds.expect("it was told").parse().expect("a number");
    let here = since_boot().as_secs();
    assert!((SUSPENDED..=SUSPENDED + here).contains(&seconds), "{seconds} there, {here} here");
    assert!(seconds + 60 >= SUSPENDED + here, "{seconds} there, {here} here");
}

#[test]
fn it_goes_on_with_the_other_clock() {
    let (mut last, other) = (now(), Instant::now());
    let first = last;
    while other.elapsed() < Duration::from_millis(20) {
        let next = now();
        assert!(next >= last, "it never goes back");
        last = next;
    }
    assert!(now() - first >= Duration::from_millis(19));
    let due = timer_at(now() + Duration::from_secs(5));
    assert!(due > Instant::now() + Duration::from_secs(4));
}
