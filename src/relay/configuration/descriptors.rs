//! Whether the process has file descriptors left. Errors do not always tell: a look-up of a name says
//! "temporary failure", and a fault in the middle has freed what was missing.

use std::{fs::File, io};

use nix::{
    errno::Errno,
    sys::resource::{RLIM_INFINITY, Resource, getrlimit},
};

/// More than a reload opens at once beside its listeners.
const NEEDED: usize = 16;

/// The limit on file descriptors, if hardly any is left.
pub(super) fn exhausted() -> Option<u64> {
    let opened: io::Result<Vec<File>> = (0..NEEDED).map(|_| File::open("/dev/null")).collect();
    let refused = opened.is_err_and(|error| error.raw_os_error() == Some(Errno::EMFILE as i32));
    if !refused {
        return None;
    }
    limit()
}

/// The limit on file descriptors. `None` if there is none.
pub(super) fn limit() -> Option<u64> {
    let (limit, _) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    (limit != RLIM_INFINITY).then_some(limit)
}
