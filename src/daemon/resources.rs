//! Limits and memory of the process.

use std::fs;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tracing::{debug, warn};

/// Raises the limit on open files as far as root or the service manager allows. Each connection
/// needs a file descriptor.
pub(super) fn raise_descriptor_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        if soft < hard {
            setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
        }
        Ok(hard)
    });
    match raised {
        Ok(limit) => debug!("{limit} file descriptors"),
        Err(error) => warn!("the limit on file descriptors cannot be raised: {error}"),
    }
}

/// Resident memory in KiB: now, and at its peak. `None` if the kernel does not tell.
pub(super) fn resident_memory() -> Option<(u64, u64)> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let value = |name: &str| {
        let rest = status.lines().find_map(|line| line.strip_prefix(name))?;
        rest.trim().trim_end_matches(" kB").parse().ok()
    };
    Some((value("VmRSS:")?, value("VmHWM:")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_told() {
        let (now, peak) = resident_memory().unwrap();
        assert!(now > 500 && peak >= now, "{now} {peak}");
    }
}
