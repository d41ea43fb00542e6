//! The arrows between rooms run one way: `docs/architecture.md` has a table of what each room may import, and this holds the
//! sources to it, down to the line.
//!
//! What counts is what the compiler reads: `use` in each form, and paths in code, attributes and macros. Comments, documentation, and
//! what is compiled for tests only, do not. A path is followed through re-exports to where the thing is defined, and each room on
//! the way counts as imported.

use std::collections::BTreeSet;
use std::path::Path;

mod checked;
mod rules;
mod source;
mod table;
mod tokens;

use rules::{WORLD, circles, wrong};
use source::Crate;
use table::{PAGE, ROOT, Room, table};

/// The names under which a crate's code knows the crates that it depends on.
fn dependencies(manifest: &str) -> Vec<String> {
    let manifest: toml::Table = manifest.parse().expect("a manifest");
    let listed = manifest.get("dependencies").and_then(toml::Value::as_table);
    listed.into_iter().flat_map(|table| table.keys()).map(|name| name.replace('-', "_")).collect()
}

fn on_disk(path: &Path) -> Option<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(root.join(path)).ok()
}

fn manifest(folder: &str) -> String {
    on_disk(&Path::new(folder).join("Cargo.toml")).expect("a manifest")
}

#[test]
fn the_library_imports_what_the_table_allows_and_in_no_circle() {
    let page = on_disk(Path::new(PAGE)).expect("the page");
    let rooms = table(&page).unwrap_or_else(|error| panic!("{error}"));
    let others = dependencies(&manifest(""));
    let read = Crate::read(Path::new("src/lib.rs"), "waypost", &others, &on_disk);
    assert!(read.modules.len() > 100, "only {} modules were found", read.modules.len());
    let wrong = wrong(&read, &rooms, &on_disk);
    assert!(wrong.is_empty(), "{} wrong:\n{}\n", wrong.len(), wrong.join("\n"));
}

/// Standard streams have one place, `cmd/process`: each other program, also one that is yet to come, refuses them.
#[test]
fn every_program_denies_itself_the_standard_streams() {
    let cmd = Path::new(env!("CARGO_MANIFEST_DIR")).join("cmd");
    let mut looked_at = 0;
    for program in std::fs::read_dir(cmd).expect("a folder") {
        let source = program.expect("a folder").path().join("src");
        let roots = ["lib.rs", "main.rs"].map(|name| std::fs::read_to_string(source.join(name)));
        let roots: Vec<String> = roots.into_iter().flatten().collect();
        assert!(!roots.is_empty(), "{}: no root", source.display());
        let deny =
            "#![deny(clippy::print_stdout, clippy::print_stderr, clippy::disallowed_methods)]";
        assert!(roots.iter().all(|root| root.contains(deny)), "{}: {deny}", source.display());
        looked_at += 1;
    }
    assert!(looked_at >= 5, "{looked_at}");
}

/// What no row may allow, whoever changes the table.
#[test]
fn the_rules_need_no_machine_and_sql_and_nats_have_a_room_each() {
    let rooms = table(&on_disk(Path::new(PAGE)).expect("the page")).expect("a table");
    let room = |name: &str| rooms.iter().find(|room| room.name == name).expect("a row");
    // `protocol` and all that is below it.
    let (mut below, mut next) = (BTreeSet::new(), vec![room("protocol")]);
    while let Some(room) = next.pop() {
        for not in [WORLD, "tokio", "tracing", "rusqlite", "async_nats", "fastrand"] {
            let Room { name, crates, .. } = room;
            assert!(!crates.contains(not), "{PAGE}: `{name}` is below the rules: no `{not}`");
        }
        below.insert(&room.name);
        next.extend(rooms.iter().filter(|to| room.imports.contains(&to.name)));
    }
    assert!(below.len() > 3, "{below:?}");
    let users = |name: &str| -> Vec<&str> {
        let uses = rooms.iter().filter(|room| room.crates.contains(name));
        uses.map(|room| room.name.as_str()).collect()
    };
    assert_eq!(users("rusqlite"), ["store", "store::inspect", ROOT]);
    assert_eq!(users("async_nats"), ["transport"]);
    for (one, other) in [("store", "transport"), ("transport", "store")] {
        assert!(!room(one).imports.contains(other), "{PAGE}: `{one}` knows no `{other}`");
    }
}

#[test]
fn no_program_has_a_circle() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("cmd");
    let mut wrong = Vec::new();
    let mut roots = 0;
    for entry in std::fs::read_dir(root).expect("the programs") {
        let name = entry.expect("an entry").file_name().into_string().expect("a plain name");
        let folder = format!("cmd/{name}");
        for file in ["src/lib.rs", "src/main.rs"] {
            let file = Path::new(&folder).join(file);
            if on_disk(&file).is_some() {
                let others = dependencies(&manifest(&folder));
                let read = Crate::read(&file, "", &others, &on_disk);
                wrong.extend(circles(&read, &on_disk));
                roots += 1;
            }
        }
    }
    assert!(roots >= 5, "only {roots} crates were found");
    assert!(wrong.is_empty(), "{} wrong:\n{}\n", wrong.len(), wrong.join("\n"));
}
