//! The wire.

pub mod digest;
