//! What is checked with bytes of somebody else's choosing. The fuzz targets give these checks what a fuzzer invents; the test
//! `tests/it/security/hostile_bytes.rs` gives them what chance invents, without a fuzzer and on any compiler.

pub mod checks;
