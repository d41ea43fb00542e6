//! What is wrong with a crate by the table, and where it has circles.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::source::{Arrow, Crate, Module, Read, To};
use crate::table::{PAGE, ROOT, Room, room_of};

/// In the column of crates: whatever touches the machine, of the standard library and of what is in the row besides.
pub(crate) const WORLD: &str = "std";
/// What touches the machine, its clocks or chance, in crates that otherwise only hold data.
pub(crate) const WORLDLY: [&str; 14] = [
    "std::env",
    "std::fs",
    "std::io",
    "std::net",
    "std::os",
    "std::process",
    "std::sync::Condvar",
    "std::sync::Mutex",
    "std::sync::RwLock",
    "std::sync::mpsc",
    "std::thread",
    "std::time::Instant::now",
    "std::time::SystemTime::now",
    "ulid::Ulid::generate",
];

/// What is wrong with these sources by this table.
pub(crate) fn wrong(read: &Crate, rooms: &[Room], files: Read<'_>) -> Vec<String> {
    let mut wrong = BTreeSet::new();
    for module in &read.modules {
        if room_of(rooms, module).is_none() {
            let (file, path) = (module.file.display(), module.path.join("::"));
            wrong.insert(format!(
                "{file} is in no room: give `{path}` a row in the table of {PAGE}, or move it into a room that is there"
            ));
        }
    }
    let lived_in: BTreeSet<&String> =
        read.modules.iter().filter_map(|m| Some(&room_of(rooms, m)?.name)).collect();
    for room in rooms {
        let is_known = |name: &&String| **name != WORLD && !read.others.contains(*name);
        for name in room.crates.iter().filter(is_known) {
            wrong.insert(format!(
                "{PAGE}: `{}` may use `{name}`, which is no crate that the library depends on",
                room.name
            ));
        }
        let unknown =
            room.imports.iter().filter(|name| !rooms.iter().any(|room| room.name == **name));
        for name in unknown {
            wrong.insert(format!("{PAGE}: `{}` may import `{name}`, which is no room", room.name));
        }
        if !lived_in.contains(&room.name) {
            wrong.insert(format!(
                "{PAGE}: no file is in the room `{}`: take its row out",
                room.name
            ));
        }
    }
    let allowed: BTreeSet<(&str, &str)> = rooms
        .iter()
        .flat_map(|room| room.imports.iter().map(|to| (room.name.as_str(), to.as_str())))
        .collect();
    if let Some(circle) = circle(&allowed) {
        wrong.insert(format!("{PAGE}: the table allows a circle: {}", circle.join(" -> ")));
    }
    let mut used = BTreeSet::new();
    for arrow in read.arrows() {
        let module = &read.modules[arrow.from];
        let Some(from) = room_of(rooms, module) else { continue };
        let place = || place(module, arrow.line, files);
        match arrow.to {
            To::Module(to) => {
                let Some(to) = room_of(rooms, &read.modules[to]) else { continue };
                used.insert((&from.name, to.name.clone()));
                if to.name != from.name && !from.imports.contains(&to.name) {
                    let (from, to) = (&from.name, &to.name);
                    wrong.insert(format!(
                        "{}\n  `{from}` may not import `{to}`: move what both need into a room that both may import, import it from where \
                         it is defined, or hand it over as an argument; or, where the arrow is meant, add `{to}` to the row of `{from}` in {PAGE}",
                        place()
                    ));
                }
            }
            To::Other(path) => {
                let name = path.split("::").next().unwrap_or_default();
                let room = &from.name;
                used.insert((room, name.to_owned()));
                let is_std = ["std", "core", "alloc"].contains(&name);
                if !is_std && !from.crates.contains(name) {
                    wrong.insert(format!(
                        "{}\n  `{room}` may not use the crate `{name}`: do it in a room that may, or add the crate to the row of `{room}` in {PAGE}",
                        place()
                    ));
                }
                let is_world = WORLDLY.iter().any(|world| {
                    path.strip_prefix(world).is_some_and(|r| r.is_empty() || r.starts_with("::"))
                });
                if is_world && !from.crates.contains(WORLD) {
                    wrong.insert(format!(
                        "{}\n  `{room}` is pure and may not use {path}: take what it gives as an argument, or do it in a room that may",
                        place()
                    ));
                }
            }
        }
    }
    for room in rooms.iter().filter(|room| room.name != ROOT) {
        let is_stale =
            |name: &&String| *name != WORLD && !used.contains(&(&room.name, (*name).clone()));
        for name in room.imports.iter().chain(&room.crates).filter(is_stale) {
            let room = &room.name;
            wrong.insert(format!(
                "{PAGE}: nothing in `{room}` needs `{name}` any more: take it out of its row"
            ));
        }
    }
    wrong.into_iter().chain(circles(read, files)).collect()
}

/// File and line, and the line itself.
pub(crate) fn place(module: &Module, line: usize, files: Read<'_>) -> String {
    let text = files(&module.file).unwrap_or_default();
    let text = text.lines().nth(line.saturating_sub(1)).unwrap_or_default().trim().to_owned();
    format!("{}:{line}: {text}", module.file.display())
}

/// The circles: among the modules of one parent, each with all that is below it. What the parent's own text defines is no part of it.
pub(crate) fn circles(read: &Crate, files: Read<'_>) -> Vec<String> {
    // By parent: who imports whom, and where first.
    let mut levels: BTreeMap<usize, BTreeMap<(usize, usize), Arrow>> = BTreeMap::new();
    for arrow in read.arrows() {
        let To::Module(to) = arrow.to else { continue };
        let (ours, theirs) = (lineage(read, arrow.from), lineage(read, to));
        let shared = ours.iter().zip(&theirs).take_while(|(a, b)| a == b).count();
        if let (Some(us), Some(them)) = (ours.get(shared), theirs.get(shared)) {
            let level = levels.entry(ours[shared - 1]).or_default();
            level.entry((*us, *them)).or_insert(arrow);
        }
    }
    let mut told = Vec::new();
    for level in levels.values_mut() {
        // One after the other, each without the arrow that closed the one before.
        while let Some(circle) = circle(&level.keys().copied().collect()) {
            let steps: Vec<String> = circle
                .windows(2)
                .map(|pair| {
                    let arrow = &level[&(pair[0], pair[1])];
                    let place = place(&read.modules[arrow.from], arrow.line, files);
                    let name = |module: usize| read.modules[module].path.join("::");
                    format!("\n    {} -> {}   {place}", name(pair[0]), name(pair[1]))
                })
                .collect();
            level.remove(&(circle[circle.len() - 2], circle[circle.len() - 1]));
            told.push(format!(
                "a circle: move what both ends need into a module below them, or one of them into the other{}",
                steps.concat()
            ));
        }
    }
    told
}

/// The module with all that it is in, the root first.
pub(crate) fn lineage(read: &Crate, module: usize) -> Vec<usize> {
    let mut lineage = vec![module];
    while let Some(parent) = lineage.last().and_then(|last| read.modules[*last].parent) {
        lineage.push(parent);
    }
    lineage.reverse();
    lineage
}

/// A shortest way from something back to itself, if there is one.
pub(crate) fn circle<T: Copy + Ord>(arrows: &BTreeSet<(T, T)>) -> Option<Vec<T>> {
    let starts: BTreeSet<T> = arrows.iter().map(|(from, _)| *from).collect();
    let back = |start: T| -> Option<Vec<T>> {
        let mut came: BTreeMap<T, T> = BTreeMap::new();
        let mut next = VecDeque::from([start]);
        while let Some(at) = next.pop_front() {
            for (_, to) in arrows.iter().filter(|(from, _)| *from == at) {
                if *to == start {
                    let mut way = vec![start, at];
                    while way[way.len() - 1] != start {
                        way.push(came[&way[way.len() - 1]]);
                    }
                    way.reverse();
                    return Some(way);
                }
                if *to != at && !came.contains_key(to) {
                    came.insert(*to, at);
                    next.push_back(*to);
                }
            }
        }
        None
    };
    starts.into_iter().filter_map(back).min_by_key(Vec::len)
}
