//! What the figures were measured on.

use std::path::Path;

use serde::Serialize;
use waypost::inspect::filesystem;

/// What the figures were measured on. What the system does not tell is `unknown`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Machine {
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) memory_bytes: u64,
    pub(crate) kernel: String,
    /// Of the nodes' files.
    pub(crate) filesystem: String,
    pub(crate) rustc: &'static str,
    pub(crate) commit: &'static str,
}

impl Machine {
    /// This one, the nodes' files in this folder.
    pub(crate) fn look(folder: &Path) -> Self {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        let system = rustix::system::uname();
        let text = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
        Self {
            cpu: cpu(&read("/proc/cpuinfo")).unwrap_or_else(unknown),
            cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            memory_bytes: memory(&read("/proc/meminfo")).unwrap_or_default(),
            kernel: format!("{} {}", text(system.sysname()), text(system.release())),
            filesystem: filesystem(folder).map_or_else(unknown, |found| found.name),
            rustc: env!("WAYPOST_BENCH_RUSTC"),
            commit: env!("WAYPOST_BENCH_COMMIT"),
        }
    }

    /// Whether an fsync costs nothing there, so that figures with one mean nothing.
    pub(crate) fn is_in_memory(&self) -> bool {
        ["tmpfs", "ramfs"].contains(&self.filesystem.as_str())
    }
}

fn unknown() -> String {
    "unknown".to_owned()
}

fn cpu(cpuinfo: &str) -> Option<String> {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"))?;
    line.split_once(':').map(|(_, name)| name.trim().to_owned())
}

fn memory(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_is_read_as_it_tells() {
        assert_eq!(cpu("processor\t: 0\nmodel name\t: A: B\n").as_deref(), Some("A: B"));
        assert_eq!(cpu("processor\t: 0\n"), None);
        assert_eq!(memory("MemTotal:       2048 kB\n"), Some(2048 * 1024));
        assert_eq!(memory("MemFree: 1 kB\n"), None);
        let here = Machine::look(Path::new("."));
        assert!(here.cores >= 1 && here.rustc.starts_with("rustc "), "{here:?}");
    }
}
