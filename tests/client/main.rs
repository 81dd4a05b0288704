//! `msrpclient` as a process: against itself, against a peer that speaks bytes written by hand,
//! and through the relay.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod direct;
mod harness;
mod peer;
mod relayed;
