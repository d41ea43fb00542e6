//! What is checked with bytes of somebody else's choosing. The fuzz targets give these checks what a fuzzer invents; the test
//! `hostile_bytes` gives them what chance invents, without a fuzzer and on any compiler.

pub mod checks;
