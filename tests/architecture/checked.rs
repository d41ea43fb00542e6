//! The checker itself, on small crates that it is given.

use std::collections::BTreeMap;
use std::path::Path;

use crate::rules::wrong;
use crate::source::Crate;
use crate::table::{HEAD, table};

/// A crate of these files, and a table for it in which `low` may import nothing, and `high` all the others.
const ROOMS: &str = "
| room | holds | may import | crates |
|---|---|---|---|
| `lib` | | everything | |
| `low` | plain things | - | `serde` `ulid` |
| `middle`, `other` | | `low` | |
| `high` | | `low` `middle` `other` | `tokio` `std` |

| `not` | a | row | |
";

/// What is wrong where these files are all that there are, with what a crate needs to have all the rooms.
fn found(given: &[(&str, &str)]) -> Vec<String> {
    let mut files = BTreeMap::from([
        ("src/lib.rs", "pub mod low; mod middle; mod other; mod high; pub use high::Thing;"),
        ("src/low.rs", ""),
        ("src/middle.rs", ""),
        ("src/other.rs", ""),
        ("src/high.rs", "pub struct Thing; pub fn thing() {} pub enum Event { Woke }"),
    ]);
    files.extend(given.iter().copied());
    let files = |path: &Path| Some((*files.get(path.to_str()?)?).to_owned());
    let rooms = table(ROOMS).expect("a table");
    let others = ["serde", "tokio", "ulid"].map(str::to_owned);
    let read = Crate::read(Path::new("src/lib.rs"), "house", &others, &files);
    // Few of the table's arrows are drawn.
    let is_meant = |wrong: &String| !wrong.contains("needs `");
    wrong(&read, &rooms, &files).into_iter().filter(is_meant).collect()
}

/// What is wrong with `low` alone.
fn found_in_low(text: &str) -> Vec<String> {
    found(&[("src/low.rs", text)])
}

#[test]
fn an_import_is_found_in_each_form() {
    for (line, text) in [
        (1, "use crate::high::Thing;"),
        (1, "use crate::high;"),
        (1, "use crate::high::*;"),
        (1, "use super::high::Thing;"),
        (1, "use house::high::Thing;"),
        (1, "pub use crate::high::Thing as Other;"),
        (1, "pub(crate) use crate::high::{self};"),
        (1, "use crate::{high};"),
        (1, "use {crate::high::Thing, std::fmt};"),
        (3, "use crate::{\n    low,\n    high::{Event, thing},\n};"),
        (3, "use crate::high::{\n// one\nThing,\n};"),
        (3, "use crate::\n    high\n    ::Thing;"),
        (2, "fn f() {\n    use crate::high::Thing;\n}"),
        (1, "mod inner { use super::super::high::Thing; }"),
        (1, "mod inner { mod most { use super::super::super::high::Thing; } }"),
        (1, "fn f() { crate::high::thing(); }"),
        (1, "fn f() { super::high::thing::<u8>(); }"),
        (1, "fn f() { house::high::thing(); }"),
        (1, "fn f(x: crate::high::Thing) {}"),
        (1, "fn f() -> Option<crate::high::Thing> { None }"),
        (1, "struct A { x: Vec<crate::high::Thing> }"),
        (1, "impl From<crate::high::Thing> for A {}"),
        (1, "impl crate::high::Trait for A {}"),
        (3, "fn f(x: X) {\n match x {\n crate::high::Event::Woke => {}\n }\n}"),
        (1, "const A: usize = 0..crate::high::MAX;"),
        (1, "fn f() { x.map(crate::high::thing).x() }"),
        (1, "fn f() { assert!(matches!(x, crate::high::Event::Woke)); }"),
        (1, "macro_rules! m { () => { $crate::high::thing() } }"),
        (1, "#[serde(with = \"crate::high::text\")] struct A;"),
        (2, "#[error(\"a text\",\n x = crate::high::MAX)] struct A;"),
        (1, "#[cfg(feature = \"x\")] use crate::high::Thing;"),
        (1, "#[cfg(test)] use crate::middle::A; use crate::high::Thing;"),
        (1, "#[cfg(test)] mod tests { fn f() {} } use crate::high::Thing;"),
        (1, "struct A { #[cfg(test)] x: u8, y: crate::high::Thing }"),
    ] {
        let found = found_in_low(text);
        let [one] = &found[..] else { panic!("{text}: {found:#?}") };
        let (place, rest) = one.split_once('\n').expect("two lines");
        let said = text.lines().nth(line - 1).expect("the line").trim();
        assert_eq!(place, format!("src/low.rs:{line}: {said}"));
        assert!(rest.contains("`low` may not import `high`: move"), "{rest}");
    }
}

#[test]
fn what_is_said_or_for_tests_only_does_not_count() {
    for text in [
        "",
        "// use crate::high::Thing;",
        "/* use crate::high::Thing; */",
        "//! [`Thing`](crate::high::Thing)",
        "/// [`Thing`](crate::high::Thing)\nstruct A;",
        "#[doc = \"crate::high::Thing\"] struct A;",
        "const A: &str = \"crate::high::Thing\";",
        "#[cfg(test)] use crate::high::Thing;",
        "#[cfg(test)] mod tests { use crate::high::Thing; }",
        "#[cfg(test)]\n#[path = \"elsewhere.rs\"]\nmod tests;",
        "#[cfg(test)] pub(crate) mod double;",
        "#[cfg(test)] impl A { fn f() -> crate::high::Thing { Thing } }",
        "struct A { x: u8, #[cfg(test)] y: crate::high::Thing, z: u8 }",
        "fn f() { g(A { x, #[cfg(test)] y: crate::high::thing(), z }) }",
        "impl A { #[cfg(test)] fn f(x: u8, y: u8) -> crate::high::Thing { Thing } }",
        "mod high { pub struct Thing; } use self::high::Thing; fn f() { high::f() }",
        "fn f() { high::thing(); x.high::<u8>(); }",
        "pub(in crate::low) struct A; mod inner { use super::A; fn f() { crate::low::g() } }",
        "use std::fmt::{self, Display}; use std::time::{Duration, Instant, SystemTime};",
    ] {
        assert_eq!(found_in_low(text), [""; 0], "{text}");
    }
}

#[test]
fn a_path_is_followed_to_where_the_thing_is_defined() {
    // By its second name, of which the root is no room that anybody may import.
    let found = |text| found_in_low(text).join("\n");
    let by_root = found("use crate::Thing;");
    assert!(by_root.contains("may not import `lib`") && by_root.contains("may not import `high`"));
    for text in [
        "use crate as house; fn f() { house::high::thing() }",
        "use super::high as h; fn f() { h::thing() }",
        "mod inner { use crate::high::Thing; } fn f() { inner::Thing }",
    ] {
        assert!(found(text).contains("`low` may not import `high`"), "{text}");
    }
    // Through rooms that may import it themselves.
    let middle = "pub use crate::high::Thing;";
    let other =
        self::found(&[("src/middle.rs", middle), ("src/low.rs", "use crate::middle::Thing;")]);
    let low: Vec<_> = other.iter().filter(|wrong| wrong.starts_with("src/low.rs:1")).collect();
    assert_eq!(low.len(), 2, "{other:#?}");
}

#[test]
fn circles_are_found_among_the_files_of_a_room() {
    let found = |files: &[(&str, &str)]| {
        let mut all =
            vec![("src/high.rs", "pub struct Thing; mod a; mod b; pub mod c; pub use b::B;")];
        all.extend([("src/high/a.rs", ""), ("src/high/b.rs", ""), ("src/high/c.rs", "mod d;")]);
        all.extend([("src/high/c/d.rs", "")]);
        all.extend(files);
        self::found(&all)
    };
    assert_eq!(found(&[]), [""; 0]);
    // What the parent defines is no circle, a neighbour by way of the parent is one.
    let (a, d) = ("use super::{B, Thing};", "use crate::high::{Thing, a::A};");
    assert_eq!(found(&[("src/high/a.rs", a), ("src/high/c/d.rs", d)]), [""; 0]);
    let closed = found(&[
        ("src/high/a.rs", a),
        ("src/high/b.rs", "pub struct B;\nuse super::c;"),
        ("src/high/c/d.rs", d),
    ]);
    let [told] = &closed[..] else { panic!("{closed:#?}") };
    for step in [
        "high::a -> high::b   src/high/a.rs:1: use super::{B, Thing};",
        "high::b -> high::c   src/high/b.rs:2: use super::c;",
        "high::c -> high::a   src/high/c/d.rs:1: use crate::high::{Thing, a::A};",
    ] {
        assert!(told.contains(step), "{told}");
    }
}

#[test]
fn crates_and_the_machine_are_held_to_the_table_too() {
    for (text, what) in [
        ("use tokio::sync::mpsc;", "may not use the crate `tokio`"),
        ("fn f() { tokio::spawn(g()) }", "may not use the crate `tokio`"),
        ("use std::fs;", "is pure and may not use std::fs"),
        ("fn f() { std::thread::sleep(x) }", "std::thread::sleep"),
        ("use std::{fmt, net::TcpStream};", "std::net::TcpStream"),
        ("use std::time::Instant; fn f() { Instant::now() }", "std::time::Instant::now"),
        ("use std::time as t; fn f() { t::SystemTime::now() }", "std::time::SystemTime::now"),
        ("fn f(x: Instant) { x.elapsed() }", "std::time::Instant::now"),
        ("use ulid::Ulid; fn f() { Ulid::generate() }", "ulid::Ulid::generate"),
    ] {
        let found = found_in_low(text);
        let [one] = &found[..] else { panic!("{text}: {found:#?}") };
        assert!(one.starts_with(&format!("src/low.rs:1: {text}\n")) && one.contains(what), "{one}");
    }
    let allowed =
        "use tokio::sync::mpsc; use std::fs; fn f() { std::time::Instant::now().elapsed() }";
    assert_eq!(found(&[("src/high.rs", allowed)]), [""; 0]);
    assert_eq!(found_in_low("use serde::Serialize; use std::collections::BTreeMap;"), [""; 0]);
}

#[test]
fn the_table_itself_is_checked() {
    let files = |path: &Path| {
        (path == Path::new("src/lib.rs"))
            .then(|| "mod a { use self::b::B; mod b { pub struct B; } }".to_owned())
    };
    let read = Crate::read(Path::new("src/lib.rs"), "house", &[], &files);
    let wrong = |rows: &[&str]| {
        let page =
            format!("{HEAD} holds | may import | crates |\n|---|---|---|---|\n{}", rows.join("\n"));
        table(&page).map(|rooms| wrong(&read, &rooms, &files).join("\n"))
    };
    let lib = "| `lib` | | everything | |";
    assert_eq!(wrong(&[lib, "| `a` | | - | |"]), Ok(String::new()));
    // A room in a room is one of its own.
    assert_eq!(wrong(&[lib, "| `a` | | `a::b` | |", "| `a::b` | | | |"]), Ok(String::new()));
    let told = |rows: &[&str]| wrong(rows).expect("a table");
    assert!(told(&[lib]).contains("src/lib.rs is in no room: give `a` a row"));
    assert!(told(&[lib, "| `a`, `c` | | | |"]).contains("no file is in the room `c`"));
    assert!(told(&[lib, "| `a` | | `d` | |"]).contains("`a` may import `d`, which is no room"));
    assert!(told(&[lib, "| `a` | | | `rand` |"]).contains("`rand`, which is no crate"));
    let circle = told(&[lib, "| `a` | | `a::b` | |", "| `a::b` | | `a` | |"]);
    assert!(circle.contains("the table allows a circle: a -> a::b -> a"), "{circle}");
    assert!(wrong(&[lib, "| `a` | |"]).is_err());
    assert!(table("no table").is_err());
}
