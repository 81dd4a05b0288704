//! Rules that the compiler does not check: which room imports which, where tasks are spawned, which
//! code knows tokio; that each row of `docs/requirements.md` has a test or a reason, and that rows
//! and documents that are cited exist.
//!
//! Each rule reads the sources as text, names the offending line, and is itself tested on samples.

mod documents;
mod rooms;
mod rows;
mod source;
