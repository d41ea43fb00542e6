//! What the system says about another process of ours: its memory and its processor time. Only Linux says it so; elsewhere these figures
//! are missing.

use std::time::Duration;

/// A process that runs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Process {
    pub(crate) id: u32,
}

impl Process {
    /// Bytes of it that are in memory.
    ///
    /// # Errors
    /// The system does not say.
    pub(crate) fn resident_bytes(self) -> Result<f64, String> {
        self.status("VmRSS:")
    }

    /// The most that it ever had in memory.
    ///
    /// # Errors
    /// The system does not say.
    pub(crate) fn peak_bytes(self) -> Result<f64, String> {
        self.status("VmHWM:")
    }

    /// Processor time that all its threads have used.
    ///
    /// # Errors
    /// The system does not say.
    pub(crate) fn processor_time(self) -> Result<Duration, String> {
        let ticks = processor_ticks(&self.read("stat")?).ok_or("/proc tells no processor time")?;
        let a_second = rustix::param::clock_ticks_per_second();
        Ok(Duration::from_secs_f64(ticks as f64 / a_second as f64))
    }

    /// Bytes that it had written to the disk, in whole blocks: what is only in the system's memory counts from when it is marked to be written.
    ///
    /// # Errors
    /// The system does not say.
    pub(crate) fn written_bytes(self) -> Result<u64, String> {
        let io = self.read("io")?;
        let field = |name| number_of(&io, name).ok_or_else(|| format!("/proc tells no {name}"));
        Ok(field("write_bytes:")?.saturating_sub(field("cancelled_write_bytes:")?))
    }

    fn status(self, field: &str) -> Result<f64, String> {
        let kib = kib_of(&self.read("status")?, field);
        kib.map(|kib| kib * 1024.0).ok_or_else(|| format!("/proc tells no {field}"))
    }

    fn read(self, file: &str) -> Result<String, String> {
        let path = format!("/proc/{}/{file}", self.id);
        std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))
    }
}

/// User and system time: the 14th and 15th field, counted behind the program's name, which may hold anything.
fn processor_ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

fn number_of(text: &str, field: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(field))?.trim().parse().ok()
}

fn kib_of(status: &str, field: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_may_be_called_anything() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194304 100 0 0 0 25 17 0 0 20 0 8 0 9 10 11";
        assert_eq!(processor_ticks(stat), Some(42));
        assert_eq!(processor_ticks("7 (a) S"), None);
    }

    #[test]
    fn written_bytes_are_read_and_not_mistaken_for_those_that_were_taken_back() {
        let io = "wchar: 9\nread_bytes: 1\nwrite_bytes: 8192\ncancelled_write_bytes: 4096\n";
        assert_eq!(number_of(io, "write_bytes:"), Some(8_192));
        assert_eq!(number_of(io, "cancelled_write_bytes:"), Some(4_096));
        assert_eq!(number_of(io, "lost_bytes:"), None);
    }

    #[test]
    fn memory_is_read_in_bytes() {
        let status = "Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n";
        assert_eq!(
            (kib_of(status, "VmRSS:"), kib_of(status, "VmHWM:")),
            (Some(1024.0), Some(2048.0))
        );
        assert_eq!(kib_of(status, "VmSwap:"), None);
    }

    #[test]
    fn our_own_process_is_read() {
        let own = Process { id: std::process::id() };
        let (now, peak) = (own.resident_bytes().expect("Linux"), own.peak_bytes().expect("Linux"));
        assert!(now > 0.0 && peak >= now, "{now} {peak}");
        own.processor_time().expect("Linux");
    }
}
