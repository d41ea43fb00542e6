//! What is read of Rust: as much as it takes to find imports, definitions and paths.

use proc_macro2::{Delimiter, Spacing, TokenTree};

use crate::source::Import;

pub(crate) fn is(token: &TokenTree, sign: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == sign)
}

/// Whether `::` stands here.
pub(crate) fn is_path(tokens: &[TokenTree], at: usize) -> bool {
    let joint =
        |token: &TokenTree| matches!(token, TokenTree::Punct(p) if p.spacing() == Spacing::Joint);
    tokens.get(at).is_some_and(|token| is(token, ':') && joint(token))
        && tokens.get(at + 1).is_some_and(|token| is(token, ':'))
}

pub(crate) fn plain(word: &proc_macro2::Ident) -> String {
    word.to_string().trim_start_matches("r#").to_owned()
}

pub(crate) fn defines(word: &proc_macro2::Ident) -> bool {
    ["struct", "enum", "fn", "trait", "type", "const", "static", "union"].iter().any(|w| word == w)
}

/// Whether an attribute begins here: `#[..]` or `#![..]`.
pub(crate) fn is_attribute(tokens: &[TokenTree], at: usize) -> bool {
    let bracket = |token: Option<&TokenTree>| matches!(token, Some(TokenTree::Group(g)) if g.delimiter() == Delimiter::Bracket);
    let inner = tokens.get(at + 1).is_some_and(|token| is(token, '!'));
    tokens.get(at).is_some_and(|token| is(token, '#'))
        && bracket(tokens.get(at + if inner { 2 } else { 1 }))
}

/// Where the thing ends that begins here, if it is `#[cfg(test)]`.
pub(crate) fn for_tests_only(tokens: &[TokenTree], at: usize) -> Option<usize> {
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
pub(crate) fn names(tokens: &[TokenTree], before: &[String], imports: &mut Vec<Import>) {
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
