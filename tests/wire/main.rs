//! Black-box tests of the relay: a real process, real sockets, MSRP written by hand.
//!
//! A module per theme; `harness` is the language they are written in. A test whose name begins with
//! `r4975_`, `r4976_` and so on is the witness of that row of the requirements; see `tests/README.md`.

mod attempts;
mod auth;
mod backends;
mod backoff;
mod bodies;
mod certificates;
mod chains;
mod chunking;
mod clients;
mod connections;
mod control;
mod ephemeral;
mod expiry;
mod forwarding;
mod framing;
mod harness;
mod joining;
mod limits;
mod next_hops;
mod notices;
mod original_bugs;
mod peers;
mod quotas;
mod races;
mod realms;
mod reload;
mod reports;
mod responses;
mod rewritten;
mod sipsimple;
mod slow_names;
mod slow_paths;
mod stopping;
mod tables;
mod transfers;
mod uri;
mod use_path;
