//! The table of rooms in the page.

use std::collections::BTreeSet;

use crate::source::Module;

/// Where the table is.
pub(crate) const PAGE: &str = "docs/architecture.md";
/// How its first line begins.
pub(crate) const HEAD: &str = "| room |";
/// The room of the root module.
pub(crate) const ROOT: &str = "lib";
/// In the column of imports: all rooms.
pub(crate) const ALL: &str = "everything";

/// A row of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Room {
    pub(crate) name: String,
    pub(crate) imports: BTreeSet<String>,
    pub(crate) crates: BTreeSet<String>,
}

/// The table of rooms.
///
/// # Errors
/// It is not there, or a row is not as the others.
pub(crate) fn table(page: &str) -> Result<Vec<Room>, String> {
    let rows = page.lines().skip_while(|line| !line.starts_with(HEAD)).skip(2);
    let rows = rows.take_while(|line| line.starts_with('|'));
    let mut rooms: Vec<Room> = Vec::new();
    let mut of_all = Vec::new();
    for row in rows {
        let cells: Vec<&str> = row.trim().trim_matches('|').split('|').collect();
        let [name, _, imports, crates] = cells[..] else {
            return Err(format!("{PAGE}: a room has four columns, unlike\n    {row}"));
        };
        let names = words(name);
        if names.is_empty() {
            return Err(format!("{PAGE}: a room has a name in `..`, unlike\n    {row}"));
        }
        if imports.trim() == ALL {
            of_all.extend(names.iter().cloned());
        }
        let (imports, crates) = (words(imports), words(crates));
        rooms.extend(names.into_iter().map(|name| Room {
            name,
            imports: imports.clone(),
            crates: crates.clone(),
        }));
    }
    if rooms.is_empty() {
        return Err(format!("{PAGE} has no table that begins with {HEAD:?}"));
    }
    let all: BTreeSet<String> = rooms.iter().map(|room| room.name.clone()).collect();
    for room in rooms.iter_mut().filter(|room| of_all.contains(&room.name)) {
        room.imports = all.iter().filter(|name| **name != room.name).cloned().collect();
    }
    Ok(rooms)
}

/// What stands in `..`.
pub(crate) fn words(cell: &str) -> BTreeSet<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The room of a module: the longest name in the table that it begins with.
pub(crate) fn room_of<'a>(rooms: &'a [Room], module: &Module) -> Option<&'a Room> {
    let path = if module.path.is_empty() { ROOT.to_owned() } else { module.path.join("::") };
    let holds = |room: &&Room| {
        let rest = path.strip_prefix(&room.name);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    };
    rooms.iter().filter(holds).max_by_key(|room| room.name.len())
}
