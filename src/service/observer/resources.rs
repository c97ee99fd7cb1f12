//! What the process takes of the machine. Linux tells in `/proc`; elsewhere nothing is known, and all is 0.

/// What it took until now.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Taken {
    /// CPU time, in seconds.
    pub cpu_seconds: f64,
    /// Memory held, in bytes.
    pub resident_bytes: u64,
}

impl Taken {
    /// Reads two small files of the kernel, which wait for no disk.
    #[cfg(target_os = "linux")]
    pub fn now() -> Self {
        let read = |file| std::fs::read_to_string(file).unwrap_or_default();
        Self {
            cpu_seconds: cpu_ticks(&read("/proc/self/stat")).unwrap_or_default() as f64
                / rustix::param::clock_ticks_per_second() as f64,
            resident_bytes: resident_pages(&read("/proc/self/statm")).unwrap_or_default()
                * rustix::param::page_size() as u64,
        }
    }

    #[cfg(not(target_os = "linux"))]
    pub fn now() -> Self {
        Self::default()
    }
}

/// Time in the program and in the kernel for it: the 14th and the 15th field. The second is the program's name in brackets, and
/// may hold anything.
#[cfg(target_os = "linux")]
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_ascii_whitespace().skip(11);
    let mut next = || times.next()?.parse::<u64>().ok();
    Some(next()? + next()?)
}

/// The second field.
#[cfg(target_os = "linux")]
fn resident_pages(statm: &str) -> Option<u64> {
    statm.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_fields_are_read_whatever_the_program_is_called() {
        let stat = "42 (an (odd) 1 2) S 1 42 42 0 -1 4194560 1 2 3 4 250 50 7 8 20 0 1 0 99 1000 200";
        assert_eq!(cpu_ticks(stat), Some(300));
        assert_eq!(resident_pages("900 250 100 1 0 2 0"), Some(250));
        assert_eq!((cpu_ticks(""), resident_pages("900")), (None, None));
    }

    #[test]
    fn this_process_holds_memory() {
        assert!(Taken::now().resident_bytes > 1 << 20);
    }
}
