//! Rules that the compiler does not check: which room imports which, that no files need each other,
//! where tasks are spawned, which code knows tokio, how long a file may be; that each row of
//! `docs/requirements.md` has a test or a reason, and that rows and documents that are cited exist.
//!
//! Each rule reads the sources as text, names the offending line, and is itself tested on samples.

mod circles;
mod documents;
mod rooms;
mod rows;
mod sizes;
mod source;
