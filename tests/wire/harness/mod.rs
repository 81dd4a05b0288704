//! What the tests are written in: a relay process, peers that speak MSRP by hand, and transcripts.
//!
//! Nothing here uses the library under test: a codec must not be its own witness.

mod credentials;
mod message;
mod name_server;
mod operator;
mod peer;
mod relay;
mod scene;
mod script;
mod servers;
mod terminator;
mod tls;

use std::{
    net::{Ipv4Addr, TcpListener},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

pub(crate) use credentials::{Algorithm, Credentials, hex};
pub(crate) use message::{Message, Transfer};
pub(crate) use name_server::{NameServer, can_isolate};
pub(crate) use peer::{Listener, Peer, file, file_head};
pub(crate) use relay::Relay;
pub(crate) use scene::{Scene, Session, TOPOLOGIES, Topology, empty_send, first, quiet_send};
pub(crate) use script::{TAKEN, UNKNOWN, bare_auth, report, send, send_of, send_with};
#[allow(unused_imports, reason = "only tests/outages has servers of its own")]
pub(crate) use servers::Server;
pub(crate) use servers::{Database, Kind};
pub(crate) use terminator::Terminator;
pub(crate) use tls::Identity;

use script::Names;

/// How long a peer waits for something that should come at once.
///
/// Generous, because a machine that compiles at the same time is slow; only failing tests wait it out.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// How long a peer listens before a test calls it silence.
pub(crate) const SILENCE: Duration = Duration::from_millis(300);

/// The clock of the tests: they watch a live process, so they live in real time.
#[expect(clippy::disallowed_methods, reason = "a black-box test has no other clock")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// A port that is free on all addresses. It lies below those that the kernel gives out, so that no
/// other test gets it by chance before it is used.
pub(crate) fn free_port() -> u16 {
    const FIRST: u32 = 20_000;
    const COUNT: u32 = 10_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let next = std::process::id() * 97 + NEXT.fetch_add(1, Ordering::Relaxed);
        let port = u16::try_from(FIRST + next % COUNT).expect("a port");
        if TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok() {
            return port;
        }
    }
}

/// Waits, where a test is about time.
pub(crate) fn sleep(milliseconds: u64) {
    std::thread::sleep(Duration::from_millis(milliseconds));
}

/// Waits for what must come about soon.
#[track_caller]
pub(crate) fn until(what: &str, is_so: impl FnMut() -> bool) {
    until_within(PATIENCE, what, is_so);
}

#[track_caller]
pub(crate) fn until_within(patience: Duration, what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = now() + patience;
    while !is_so() {
        assert!(now() < deadline, "never: {what}");
        sleep(20);
    }
}

/// `length` octets that nothing compresses or repeats, the same in each run (xorshift64*).
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut octets = Vec::with_capacity(length + 8);
    while octets.len() < length {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        octets.extend_from_slice(&state.wrapping_mul(0x2545_F491_4F6C_DD1D).to_le_bytes());
    }
    octets.truncate(length);
    octets
}

/// Hex SHA-256, so that a failed comparison of megabytes prints one line.
pub(crate) fn fingerprint(octets: &[u8]) -> String {
    use sha2::Digest as _;

    credentials::hex(&sha2::Sha256::digest(octets))
}
