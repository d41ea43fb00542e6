//! The arrows between rooms run one way: `docs/architecture.md` has a table of what each room may import, and this holds the
//! sources to it, down to the line.
//!
//! What counts is what the compiler reads: `use` in each form, and paths in code, attributes and macros. Comments, documentation, and
//! what is compiled for tests only, do not. A path is followed through re-exports to where the thing is defined, and each room on
//! the way counts as imported.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, Spacing, TokenStream, TokenTree};

/// Where the table is.
const PAGE: &str = "docs/architecture.md";
/// How its first line begins.
const HEAD: &str = "| room |";
/// The room of the root module.
const ROOT: &str = "lib";
/// In the column of crates: whatever touches the machine, of the standard library and of what is in the row besides.
const WORLD: &str = "std";
/// In the column of imports: all rooms.
const ALL: &str = "everything";
/// Rooms that are not looked into, because they wait to be rebuilt. One that has no circle any more has to go from here.
const ONE_PIECE: [&str; 1] = ["driver"];
/// What touches the machine, its clocks or chance, in crates that otherwise only hold data.
const WORLDLY: [&str; 14] = [
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

/// What is said in code: a path, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mention {
    path: Vec<String>,
    line: usize,
}

/// A `use`, one for each name that it brings.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Import {
    path: Vec<String>,
    /// None for a `*`.
    name: Option<String>,
    line: usize,
}

/// A file, or a `mod x { .. }` in one.
#[derive(Debug, Default)]
struct Module {
    /// From the crate's root.
    path: Vec<String>,
    file: PathBuf,
    parent: Option<usize>,
    children: BTreeMap<String, usize>,
    /// What its own text defines, apart from modules.
    defined: BTreeSet<String>,
    imports: Vec<Import>,
    mentions: Vec<Mention>,
    /// The lines in which something asks a clock how long ago an instant was.
    clocks: Vec<usize>,
}

/// Reads a file, by its path from the repository's root; none where there is no such file.
type Read<'a> = &'a dyn Fn(&Path) -> Option<String>;

/// The modules of one crate, the root first.
struct Crate {
    modules: Vec<Module>,
    /// What its own name is, besides `crate`.
    name: String,
    /// Other crates that it may name.
    others: BTreeSet<String>,
}

impl Crate {
    /// # Panics
    /// A module's file is missing, or is no Rust.
    fn read(root: &Path, name: &str, others: &[String], files: Read<'_>) -> Self {
        let known = ["std", "core", "alloc"].map(str::to_owned);
        let others = others.iter().cloned().chain(known).collect();
        let mut read = Self { modules: Vec::new(), name: name.to_owned(), others };
        read.file(root, Vec::new(), None, files);
        read
    }

    fn file(&mut self, file: &Path, path: Vec<String>, parent: Option<usize>, files: Read<'_>) {
        let text = files(file).unwrap_or_else(|| panic!("{} is missing", file.display()));
        let tokens: TokenStream =
            text.parse().unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let stem = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let folder = file.parent().unwrap_or_else(|| Path::new(""));
        let folder = match stem {
            "lib" | "main" | "mod" => folder.to_owned(),
            _ => folder.join(stem),
        };
        let module = self.add(Module { path, file: file.to_owned(), parent, ..Module::default() });
        self.items(module, tokens, &folder, files);
    }

    fn add(&mut self, module: Module) -> usize {
        let at = self.modules.len();
        if let (Some(parent), Some(name)) = (module.parent, module.path.last()) {
            self.modules[parent].children.insert(name.clone(), at);
        }
        self.modules.push(module);
        at
    }

    /// Reads the items of a module.
    fn items(&mut self, module: usize, tokens: TokenStream, folder: &Path, files: Read<'_>) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut at = 0;
        while at < tokens.len() {
            if let Some(end) = for_tests_only(&tokens, at) {
                at = end;
                continue;
            }
            let here = &self.modules[module];
            match (&tokens[at], tokens.get(at + 1), tokens.get(at + 2)) {
                (TokenTree::Ident(word), Some(TokenTree::Ident(name)), Some(next))
                    if word == "mod" =>
                {
                    let name = name.to_string();
                    let (mut path, parent) = (here.path.clone(), Some(module));
                    path.push(name.clone());
                    match next {
                        TokenTree::Group(body) => {
                            let file = here.file.clone();
                            let inner = Module { path, file, parent, ..Module::default() };
                            let inner = self.add(inner);
                            self.items(inner, body.stream(), &folder.join(&name), files);
                        }
                        _ => {
                            let flat = folder.join(format!("{name}.rs"));
                            let nested = folder.join(&name).join("mod.rs");
                            let file = if files(&flat).is_some() { flat } else { nested };
                            self.file(&file, path, parent, files);
                        }
                    }
                    at += 3;
                }
                (TokenTree::Ident(word), Some(TokenTree::Ident(name)), _) if defines(word) => {
                    let name = name.to_string();
                    self.modules[module].defined.insert(name);
                    at += 2;
                }
                _ => at = self.code(module, &tokens, at),
            }
        }
    }

    /// Reads what begins here, and where the next thing does.
    fn code(&mut self, module: usize, tokens: &[TokenTree], at: usize) -> usize {
        let after = |n: usize| tokens.get(at + n);
        match &tokens[at] {
            TokenTree::Ident(word) if word == "use" && !after(1).is_some_and(|t| is(t, '<')) => {
                let end = (at..tokens.len()).find(|at| is(&tokens[*at], ';'));
                let end = end.unwrap_or(tokens.len());
                names(&tokens[at + 1..end], &[], &mut self.modules[module].imports);
                end + 1
            }
            TokenTree::Ident(word) => {
                let before = |n: usize| at.checked_sub(n).and_then(|at| tokens.get(at));
                let is_of_a_value = before(1).is_some_and(|token| is(token, '.'))
                    && !before(2).is_some_and(|token| is(token, '.'));
                let is_part =
                    is_of_a_value || at.checked_sub(2).is_some_and(|at| is_path(tokens, at));
                let (line, mut path) = (word.span().start().line, vec![plain(word)]);
                let mut end = at + 1;
                while is_path(tokens, end) {
                    let Some(TokenTree::Ident(next)) = tokens.get(end + 2) else { break };
                    path.push(plain(next));
                    end += 3;
                }
                if word == "elapsed" && is_of_a_value {
                    self.modules[module].clocks.push(line);
                }
                if path.len() > 1 && !is_part {
                    self.modules[module].mentions.push(Mention { path, line });
                }
                end
            }
            TokenTree::Punct(_) if is_attribute(tokens, at) => {
                let at = if after(1).is_some_and(|token| is(token, '!')) { at + 2 } else { at + 1 };
                if let TokenTree::Group(attribute) = &tokens[at] {
                    self.attribute(module, attribute.stream());
                }
                at + 1
            }
            TokenTree::Group(group) => {
                self.inner(module, group.stream());
                at + 1
            }
            TokenTree::Punct(_) | TokenTree::Literal(_) => at + 1,
        }
    }

    fn inner(&mut self, module: usize, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut at = 0;
        while at < tokens.len() {
            at = match for_tests_only(&tokens, at) {
                Some(end) => end,
                None => self.code(module, &tokens, at),
            };
        }
    }

    /// An attribute, with paths in quotes as serde has them.
    fn attribute(&mut self, module: usize, tokens: TokenStream) {
        let is_text = |token: &TokenTree| matches!(token, TokenTree::Ident(word) if word == "doc");
        if tokens.clone().into_iter().next().is_some_and(|token| is_text(&token)) {
            return;
        }
        for token in tokens.clone() {
            match token {
                TokenTree::Group(group) => self.attribute(module, group.stream()),
                TokenTree::Literal(literal) => {
                    let (text, line) = (literal.to_string(), literal.span().start().line);
                    let text = text.trim_matches('"');
                    let is_path = text.contains("::")
                        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':');
                    if is_path {
                        let path = text.split("::").map(str::to_owned).collect();
                        self.modules[module].mentions.push(Mention { path, line });
                    }
                }
                TokenTree::Ident(_) | TokenTree::Punct(_) => {}
            }
        }
        self.inner(module, tokens);
    }

    /// Where this path leads, said in this module: the modules that it names, the last of which defines it, or a path of another crate's.
    fn follow(&self, from: usize, path: &[String], depth: usize) -> Found {
        let Some(first) = path.first().filter(|_| depth < 16) else { return Found::default() };
        let module = &self.modules[from];
        let root = match first.as_str() {
            "self" => Some(from),
            "super" => Some(module.parent.unwrap_or(0)),
            "crate" => Some(0),
            name => module.children.get(name).copied(),
        };
        if let Some(root) = root {
            return self.descend(root, &path[1..], depth);
        }
        let is_this = |import: &&Import| {
            import.name.as_ref() == Some(first)
                && (import.path.len() > 1 || import.path[0] != *first)
        };
        if let Some(import) = module.imports.iter().find(is_this) {
            if import.path != path {
                let whole: Vec<String> = import.path.iter().chain(&path[1..]).cloned().collect();
                return self.follow(from, &whole, depth + 1);
            }
        } else if !module.defined.contains(first)
            && let Some(through) = self.through_glob(from, path, depth)
        {
            return through;
        }
        if *first == self.name {
            return self.descend(0, &path[1..], depth);
        }
        let is_other = self.others.contains(first);
        Found { other: is_other.then(|| path.join("::")), ..Found::default() }
    }

    /// Follows the rest of a path from a module.
    fn descend(&self, module: usize, rest: &[String], depth: usize) -> Found {
        let here = || Found { modules: vec![module], ..Found::default() };
        let Some(first) = rest.first() else { return here() };
        let this = &self.modules[module];
        if first == "super" {
            return self.descend(this.parent.unwrap_or(0), &rest[1..], depth);
        }
        if let Some(child) = this.children.get(first) {
            return self.descend(*child, &rest[1..], depth);
        }
        if this.defined.contains(first) {
            return here();
        }
        let import = this.imports.iter().find(|import| import.name.as_ref() == Some(first));
        let through = match import {
            Some(import) => {
                let whole: Vec<String> = import.path.iter().chain(&rest[1..]).cloned().collect();
                Some(self.follow(module, &whole, depth + 1))
            }
            None => self.through_glob(module, rest, depth),
        };
        let mut found = here();
        if let Some(through) = through {
            // Whoever re-exports another crate's thing is where it comes from.
            found.modules.extend(through.modules);
        }
        found
    }

    /// Where a path leads by a `use x::*` of this module.
    fn through_glob(&self, module: usize, path: &[String], depth: usize) -> Option<Found> {
        if depth >= 16 {
            return None;
        }
        let globs = self.modules[module].imports.iter().filter(|import| import.name.is_none());
        for glob in globs {
            let Some(target) = self.follow(module, &glob.path, depth + 1).modules.pop() else {
                continue;
            };
            let has = &self.modules[target];
            let named = |import: &Import| import.name.as_ref() == Some(&path[0]);
            if has.children.contains_key(&path[0])
                || has.defined.contains(&path[0])
                || has.imports.iter().any(named)
            {
                return Some(self.descend(target, path, depth + 1));
            }
        }
        None
    }

    /// All that is imported: by whom, what, and in which line.
    fn arrows(&self) -> Vec<Arrow> {
        let mut arrows = Vec::new();
        for (from, module) in self.modules.iter().enumerate() {
            let imports = module.imports.iter().map(|import| (&import.path, import.line));
            let mentions = module.mentions.iter().map(|mention| (&mention.path, mention.line));
            for (path, line) in imports.chain(mentions) {
                let Found { modules, other } = self.follow(from, path, 0);
                let to = modules.into_iter().filter(|to| *to != from).map(To::Module);
                let to = to.chain(other.map(To::Other));
                arrows.extend(to.map(|to| Arrow { from, to, line }));
            }
            let asks = |line: &usize| Arrow {
                from,
                to: To::Other("std::time::Instant::now".to_owned()),
                line: *line,
            };
            arrows.extend(module.clocks.iter().map(asks));
        }
        arrows
    }
}

/// Where a path leads.
#[derive(Debug, Default)]
struct Found {
    modules: Vec<usize>,
    other: Option<String>,
}

/// One import.
#[derive(Debug, Clone)]
struct Arrow {
    from: usize,
    to: To,
    line: usize,
}

#[derive(Debug, Clone)]
enum To {
    Module(usize),
    /// A path of another crate.
    Other(String),
}

fn is(token: &TokenTree, sign: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == sign)
}

/// Whether `::` stands here.
fn is_path(tokens: &[TokenTree], at: usize) -> bool {
    let joint =
        |token: &TokenTree| matches!(token, TokenTree::Punct(p) if p.spacing() == Spacing::Joint);
    tokens.get(at).is_some_and(|token| is(token, ':') && joint(token))
        && tokens.get(at + 1).is_some_and(|token| is(token, ':'))
}

fn plain(word: &proc_macro2::Ident) -> String {
    word.to_string().trim_start_matches("r#").to_owned()
}

fn defines(word: &proc_macro2::Ident) -> bool {
    ["struct", "enum", "fn", "trait", "type", "const", "static", "union"].iter().any(|w| word == w)
}

/// Whether an attribute begins here: `#[..]` or `#![..]`.
fn is_attribute(tokens: &[TokenTree], at: usize) -> bool {
    let bracket = |token: Option<&TokenTree>| matches!(token, Some(TokenTree::Group(g)) if g.delimiter() == Delimiter::Bracket);
    let inner = tokens.get(at + 1).is_some_and(|token| is(token, '!'));
    tokens.get(at).is_some_and(|token| is(token, '#'))
        && bracket(tokens.get(at + if inner { 2 } else { 1 }))
}

/// Where the thing ends that begins here, if it is `#[cfg(test)]`.
fn for_tests_only(tokens: &[TokenTree], at: usize) -> Option<usize> {
    let TokenTree::Group(attribute) = tokens.get(at + 1)? else { return None };
    let text: String = attribute.stream().to_string().split_whitespace().collect();
    if !is_attribute(tokens, at) || text != "cfg(test)" {
        return None;
    }
    let mut at = at + 2;
    // A field, an argument or an arm ends with a comma too, an item does not.
    let mut is_item = false;
    while let Some(token) = tokens.get(at) {
        at += 1;
        match token {
            TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => break,
            TokenTree::Ident(word) => {
                let item = ["use", "mod", "impl"].iter().any(|item| word == item);
                is_item |= item || defines(word);
            }
            token if is(token, ';') || (is(token, ',') && !is_item) => break,
            _ => {}
        }
    }
    Some(at)
}

/// The names that a `use` brings.
fn names(tokens: &[TokenTree], before: &[String], imports: &mut Vec<Import>) {
    let mut path = before.to_vec();
    let mut line = None;
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        match token {
            TokenTree::Ident(word) if word == "as" => {
                let name = tokens.get(at + 1).map(ToString::to_string);
                let line = line.unwrap_or_default();
                imports.push(Import { path, name, line });
                return;
            }
            TokenTree::Ident(word) => {
                line = Some(word.span().start().line);
                // `a::{self}` is `a`.
                if word != "self" || path.is_empty() {
                    path.push(plain(word));
                }
            }
            TokenTree::Group(group) => {
                let inside: Vec<TokenTree> = group.stream().into_iter().collect();
                for part in inside.split(|token| is(token, ',')) {
                    names(part, &path, imports);
                }
                return;
            }
            token if is(token, '*') => {
                let line = token.span().start().line;
                imports.push(Import { path, name: None, line });
                return;
            }
            TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
        at += 1;
    }
    if let Some(line) = line {
        let name = path.last().cloned();
        imports.push(Import { path, name, line });
    }
}

/// A row of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Room {
    name: String,
    imports: BTreeSet<String>,
    crates: BTreeSet<String>,
}

/// The table of rooms.
///
/// # Errors
/// It is not there, or a row is not as the others.
fn table(page: &str) -> Result<Vec<Room>, String> {
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
fn words(cell: &str) -> BTreeSet<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The room of a module: the longest name in the table that it begins with.
fn room_of<'a>(rooms: &'a [Room], module: &Module) -> Option<&'a Room> {
    let path = if module.path.is_empty() { ROOT.to_owned() } else { module.path.join("::") };
    let holds = |room: &&Room| {
        let rest = path.strip_prefix(&room.name);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    };
    rooms.iter().filter(holds).max_by_key(|room| room.name.len())
}

/// What is wrong with these sources by this table.
fn wrong(read: &Crate, rooms: &[Room], files: Read<'_>) -> Vec<String> {
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
    wrong.into_iter().chain(circles(read, &ONE_PIECE, files)).collect()
}

/// File and line, and the line itself.
fn place(module: &Module, line: usize, files: Read<'_>) -> String {
    let text = files(&module.file).unwrap_or_default();
    let text = text.lines().nth(line.saturating_sub(1)).unwrap_or_default().trim().to_owned();
    format!("{}:{line}: {text}", module.file.display())
}

/// The circles: among the modules of one parent, each with all that is below it. What the parent's own text defines is no part of it.
fn circles(read: &Crate, one_piece: &[&str], files: Read<'_>) -> Vec<String> {
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
    for (parent, level) in &mut levels {
        let parent = read.modules[*parent].path.join("::");
        if one_piece.contains(&parent.as_str()) {
            if circle(&level.keys().copied().collect()).is_none() {
                told.push(format!("{parent} has no circle any more: take it out of ONE_PIECE"));
            }
            continue;
        }
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
fn lineage(read: &Crate, module: usize) -> Vec<usize> {
    let mut lineage = vec![module];
    while let Some(parent) = lineage.last().and_then(|last| read.modules[*last].parent) {
        lineage.push(parent);
    }
    lineage.reverse();
    lineage
}

/// A shortest way from something back to itself, if there is one.
fn circle<T: Copy + Ord>(arrows: &BTreeSet<(T, T)>) -> Option<Vec<T>> {
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
                wrong.extend(circles(&read, &[], &on_disk));
                roots += 1;
            }
        }
    }
    assert!(roots >= 5, "only {roots} crates were found");
    assert!(wrong.is_empty(), "{} wrong:\n{}\n", wrong.len(), wrong.join("\n"));
}

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
    let is_meant = |wrong: &String| !wrong.contains("needs `") && !wrong.contains("ONE_PIECE");
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
