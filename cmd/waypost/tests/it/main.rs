//! The command as its users run it, against real servers. One program: `cargo test -p waypost-cli --test it top::` runs a part of it.

#[path = "../../../../tests/support/exposition.rs"]
mod exposition;
#[path = "../../../../tests/support/logins.rs"]
mod logins;
mod program;
#[path = "../../../../tests/support/security_page.rs"]
mod security_page;
#[path = "../../../../tests/support/mod.rs"]
mod support;

mod bench;
mod full_disk;
mod http;
mod killed;
mod looking;
mod master;
mod orders;
mod reasons;
mod renewal;
mod secrets;
mod security;
mod send_and_recv;
mod settings;
mod terminal;
mod top;
