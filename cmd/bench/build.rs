//! Notes what the program was built with and from, for the page that a bench writes.

use std::process::Command;

fn main() {
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let version = said(&rustc, &["--version"]).unwrap_or_else(|| "unknown".to_owned());
    // Absent where the sources are no checkout.
    let commit = said("git", &["describe", "--always", "--dirty", "--abbrev=10", "--exclude=*"]);
    println!("cargo:rustc-env=WAYPOST_BENCH_RUSTC={version}");
    println!("cargo:rustc-env=WAYPOST_BENCH_COMMIT={}", commit.as_deref().unwrap_or("unknown"));
    for file in ["HEAD", "logs/HEAD", "index"] {
        if let Some(path) = said("git", &["rev-parse", "--git-path", file]) {
            println!("cargo:rerun-if-changed={path}");
        }
    }
    println!("cargo:rerun-if-changed=build.rs");
}

/// The first line that this program prints.
fn said(program: &str, words: &[&str]) -> Option<String> {
    let output = Command::new(program).args(words).output().ok()?;
    let text = String::from_utf8(output.stdout).ok().filter(|_| output.status.success())?;
    text.lines().next().map(str::to_owned)
}
