//! What a running relay tells of itself.

use std::{
    net::SocketAddr,
    path::PathBuf,
    process,
    sync::atomic::Ordering,
    time::{SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

use super::{Phase, Shared, configuration::Failure};
use crate::{clock, logging, tls::Identity};

/// The state of a relay at one moment. Moments are in seconds since 1970 (UTC).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Status {
    /// Of the program.
    pub version: String,
    /// Of the process.
    pub pid: u32,
    /// Seconds since the start.
    pub uptime: u64,
    /// What it is about.
    pub phase: Phase,
    /// Number of the generation in force, counted from 1, the start.
    pub generation: u64,
    /// When it was put in force.
    pub generation_since: u64,
    /// The configuration file.
    pub configuration: PathBuf,
    /// Host in the URIs that clients are given.
    pub host_name: String,
    /// Port in them.
    pub port: u16,
    /// Where it listens.
    pub addresses: Vec<SocketAddr>,
    /// Where it still listens for sessions that were reserved before a reload.
    pub left_addresses: Vec<SocketAddr>,
    /// In the order in which they are asked.
    pub backends: Vec<String>,
    /// The default one first; empty with plain TCP.
    pub certificates: Vec<Certificate>,
    /// Open connections.
    pub connections: usize,
    /// Connections accepted since the start.
    pub connections_accepted: u64,
    /// Sessions alive.
    pub sessions: Sessions,
    /// Sessions made since the start.
    pub sessions_started: u64,
    /// Bytes on their way through the relay that wait for a peer to take them.
    pub queued_bytes: usize,
    /// Lines of the log that were dropped since the start, because the log did not take them in time.
    pub log_lines_dropped: u64,
    /// The last reload that failed.
    pub last_failed_reload: Option<FailedReload>,
    /// The last time that certificates which had changed on disk could not be used.
    pub last_failed_renewal: Option<FailedReload>,
}

/// A certificate in use.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Certificate {
    /// Distinguished name, possibly empty.
    pub subject: String,
    /// In colon-separated hexadecimal.
    pub serial: String,
    /// The last moment of its validity.
    pub expires: u64,
    /// Where it was read.
    pub file: PathBuf,
}

/// The sessions that are alive.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Sessions {
    /// Nobody has joined them.
    pub waiting: usize,
    /// Somebody has, or is being dialled.
    pub bound: usize,
}

/// A reload that changed nothing.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FailedReload {
    /// When.
    pub at: u64,
    /// Number of the generation that stayed in force.
    pub kept: u64,
    /// What is to be mended; a line for each fault.
    pub reason: String,
    /// A later one succeeded.
    pub mended: bool,
}

impl Status {
    pub(super) fn of(shared: &Shared) -> Self {
        let in_force = shared.configuration.in_force();
        let generation = &in_force.generation;
        let (addresses, left_addresses) = {
            let listeners = shared.configuration.listeners();
            (listeners.addresses(), listeners.left())
        };
        let stats = &shared.stats;
        let failures = shared.configuration.failures().clone();
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: process::id(),
            uptime: clock::now().saturating_duration_since(shared.started).as_secs(),
            phase: *shared.phase.borrow(),
            generation: generation.number,
            generation_since: unix(in_force.since),
            configuration: generation.config.source().clone(),
            host_name: generation.policy.host.clone(),
            port: generation.policy.port,
            addresses,
            left_addresses,
            backends: generation.stores().names().collect(),
            certificates: generation.identities.iter().map(Certificate::of).collect(),
            connections: stats.connections.load(Ordering::Relaxed),
            connections_accepted: stats.accepted.load(Ordering::Relaxed),
            sessions: shared.registry.sessions(),
            sessions_started: stats.started.load(Ordering::Relaxed),
            queued_bytes: stats.queued.load(Ordering::Relaxed),
            log_lines_dropped: logging::lines_dropped(),
            last_failed_reload: failures.reload.map(FailedReload::of),
            last_failed_renewal: failures.renewal.map(FailedReload::of),
        }
    }
}

impl FailedReload {
    fn of(Failure { at, kept, reason, mended }: Failure) -> Self {
        Self { at: unix(at), kept, reason, mended }
    }
}

impl Certificate {
    fn of(identity: &Identity) -> Self {
        Self {
            subject: identity.subject().to_owned(),
            serial: identity.serial().to_owned(),
            expires: unix(identity.not_after()),
            file: identity.path().to_owned(),
        }
    }
}

fn unix(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
