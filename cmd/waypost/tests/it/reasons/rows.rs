//! One test a row of docs/troubleshooting.md.

use super::*;

/// Defines a test for each reason, and the list of them.
macro_rules! rows {
    ($($name:ident => $body:expr;)+) => {
        /// What is brought about here.
        pub(super) const HERE: &[&str] = &[$(stringify!($name)),+];

        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                $body.await;
            }
        )+
    };
}

mod clocks;
mod files;
mod nodes;
mod readers;
mod servers;

/// All that are brought about here.
fn here() -> impl Iterator<Item = &'static str> {
    let all = [nodes::HERE, files::HERE, servers::HERE, readers::HERE, clocks::HERE];
    all.into_iter().flatten().copied()
}

/// Their sources.
const SOURCES: &[&str] = &[
    include_str!("rows/nodes.rs"),
    include_str!("rows/files.rs"),
    include_str!("rows/servers.rs"),
    include_str!("rows/readers.rs"),
    include_str!("rows/clocks.rs"),
];

/// What other tests bring about, since it takes a disk that fails or is full, a process of its own or a frozen node: the reason, the file, the test.
const ELSEWHERE: &[(&str, &str, &str)] = &[
    ("broken", "src/store/tests/failures.rs", "a_writer_that_panicked_is_the_reason"),
    (
        "file_failed",
        "src/store/tests/failures.rs",
        "a_failed_file_is_tried_again_without_anybody_asking",
    ),
    (
        "file_failed",
        "tests/disk/faults.rs",
        "p1_p5_p6_each_operation_of_a_running_sender_or_receiver_may_fail",
    ),
    (
        "disk_full",
        "tests/it/store/full_disk.rs",
        "p6_a_full_disk_refuses_messages_and_takes_them_again_when_there_is_space",
    ),
    (
        "disk_full",
        "cmd/waypost/tests/it/full_disk.rs",
        "p6_a_wait_outlasts_a_full_disk_and_deliveries_go_on_meanwhile",
    ),
    (
        "disk_full",
        "cmd/waypost/tests/it/full_disk.rs",
        "a_full_disk_can_be_looked_at_and_every_command_says_that_it_is_full",
    ),
];

/// Reasons that are not looked for in every place (status, readiness, report, `why`, `doctor`, event, log): in which not, and why.
const NOT_EVERYWHERE: &[(&str, &str)] = &[
    (
        "ended",
        "whoever has ended tells nothing over the network or into its log; commands find `not_running`",
    ),
    ("broken", "a bug: only a store that is made to panic has it, in memory"),
    (
        "name_taken",
        "the second node never starts, so that its error is all there is; the first has no such reason",
    ),
    ("not_running", "of a node that is not there: only commands can tell"),
    ("silent", "of a node that does not answer: only commands can tell"),
    ("file_in_use", "of a node that never starts: only commands can tell"),
    (
        "file_failed",
        "no process can make its own disk fail; the disk that does is a library's, beside which no command runs",
    ),
    (
        "disk_full",
        "a disk of its own takes a process of its own: its status, event and readiness are looked at in tests/it, the rest here",
    ),
    ("stray_log", "of a node that never starts: only commands can tell"),
    ("foreign_log", "of a node that never starts: only commands can tell"),
    ("unauthorized", "a node that is not connected answers no question"),
    ("no_trust", "a node that is not connected answers no question"),
    (
        "no_files",
        "a node that is not connected answers no question, nor can it take a probe's connection; a command with so low a limit does not begin, and says so",
    ),
    ("no_server", "a node that is not connected answers no question"),
    (
        "clock_wrong",
        "only a process of its own has a clock of its own; it keeps no message from moving, so that `why` has nothing to tell",
    ),
    ("clock_apart", "as clock_wrong"),
];

#[test]
fn every_row_of_the_table_is_brought_about_and_looked_for_everywhere() {
    for template in Reason::ALL {
        let is_here = here().any(|name| name == template.name);
        let is_elsewhere = ELSEWHERE.iter().any(|(name, ..)| *name == template.name);
        assert!(is_here != is_elsewhere, "{}", template.name);
        let everywhere = format!("is_told_everywhere(\"{}\"", template.name);
        let is_everywhere = SOURCES.iter().any(|source| source.contains(&everywhere));
        let is_excused = NOT_EVERYWHERE.iter().any(|(name, _)| *name == template.name);
        assert!(is_everywhere != is_excused, "{}: places", template.name);
    }
    let is_known = |name: &str| Reason::ALL.iter().any(|template| template.name == name);
    for name in here().chain(NOT_EVERYWHERE.iter().map(|(name, _)| *name)) {
        assert!(is_known(name), "{name}");
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for (name, file, test) in ELSEWHERE {
        assert!(is_known(name), "{name}");
        let source = std::fs::read_to_string(root.join(file)).expect("a source file");
        let is_there =
            source.split("#[test]").chain(source.split("#[tokio::test")).skip(1).any(|part| {
                let mut lines = part.lines().map(str::trim_start).skip(1);
                let name = lines.next().map(|line| line.trim_start_matches("async "));
                name.is_some_and(|line| line.starts_with(&format!("fn {test}(")))
            });
        assert!(is_there, "{name}: no test {test} in {file}");
    }
}

#[test]
fn a_servers_words_are_sorted_into_denials_limits_and_the_rest() {
    for (said, name) in [
        ("Permissions Violation for Publish to \"waypost.msg.a.b\"", "denied"),
        ("maximum subscriptions exceeded: a node needs 7", "server_limit"),
        ("Maximum Payload Violation", "server_limit"),
        ("a word of the year 2030", "server_said"),
        ("the maximum of permissions violation", "server_said"),
    ] {
        assert_eq!(Reason::refused(said.to_owned()).name(), name, "{said}");
    }
}
