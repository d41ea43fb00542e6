//! The chat as its users run it: in terminals, on pipes and behind its web page. One program: `cargo test -p waypost-chat --test it web::`
//! runs a part of it. What a browser makes of the page is in `../browser`.

mod program;
#[path = "../../../../tests/support/mod.rs"]
mod support;

mod conversation;
mod running;
mod session;
mod sizes;
mod terminal;
mod web;
