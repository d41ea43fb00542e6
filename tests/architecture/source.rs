//! The modules of a crate, what each defines and imports, and the arrows between them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};

use crate::tokens::*;

/// What is said in code: a path, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mention {
    pub(crate) path: Vec<String>,
    pub(crate) line: usize,
}

/// A `use`, one for each name that it brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Import {
    pub(crate) path: Vec<String>,
    /// None for a `*`.
    pub(crate) name: Option<String>,
    pub(crate) line: usize,
}

/// A file, or a `mod x { .. }` in one.
#[derive(Debug, Default)]
pub(crate) struct Module {
    /// From the crate's root.
    pub(crate) path: Vec<String>,
    pub(crate) file: PathBuf,
    pub(crate) parent: Option<usize>,
    pub(crate) children: BTreeMap<String, usize>,
    /// What its own text defines, apart from modules.
    pub(crate) defined: BTreeSet<String>,
    pub(crate) imports: Vec<Import>,
    pub(crate) mentions: Vec<Mention>,
    /// The lines in which something asks a clock how long ago an instant was.
    pub(crate) clocks: Vec<usize>,
}

/// Reads a file, by its path from the repository's root; none where there is no such file.
pub(crate) type Read<'a> = &'a dyn Fn(&Path) -> Option<String>;

/// The modules of one crate, the root first.
pub(crate) struct Crate {
    pub(crate) modules: Vec<Module>,
    /// What its own name is, besides `crate`.
    pub(crate) name: String,
    /// Other crates that it may name.
    pub(crate) others: BTreeSet<String>,
}

impl Crate {
    /// # Panics
    /// A module's file is missing, or is no Rust.
    pub(crate) fn read(root: &Path, name: &str, others: &[String], files: Read<'_>) -> Self {
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
    pub(crate) fn arrows(&self) -> Vec<Arrow> {
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
pub(crate) struct Found {
    pub(crate) modules: Vec<usize>,
    pub(crate) other: Option<String>,
}

/// One import.
#[derive(Debug, Clone)]
pub(crate) struct Arrow {
    pub(crate) from: usize,
    pub(crate) to: To,
    pub(crate) line: usize,
}

#[derive(Debug, Clone)]
pub(crate) enum To {
    Module(usize),
    /// A path of another crate.
    Other(String),
}
