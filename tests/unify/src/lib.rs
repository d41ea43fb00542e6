//! No code. The package's Cargo.toml tells what it is for.
