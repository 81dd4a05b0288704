//! What a running relay tells of itself.

use std::{
    net::SocketAddr,
    num::NonZeroU32,
    path::PathBuf,
    process,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

use crate::{
    auth::{Health, HealthState},
    clock, logging,
    relay::{Handle, Phase, Quotas, ReloadFailure, Sessions},
    tls::Identity,
};

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
    /// Those of them that can fail, and whether they answer.
    #[serde(default)]
    pub backend_health: Vec<BackendHealth>,
    /// The default one first; empty with plain TCP.
    pub certificates: Vec<Certificate>,
    /// Open connections, those that the relay has dialled too.
    pub connections: usize,
    /// Those of them that have neither got nor joined a session.
    #[serde(default)]
    pub unauthenticated: usize,
    /// Connections accepted since the start.
    pub connections_accepted: u64,
    /// Connections closed at once since the start, because there were too many.
    #[serde(default)]
    pub connections_refused: u64,
    /// How many there may be.
    #[serde(default)]
    pub limits: Limits,
    /// Sessions alive.
    pub sessions: Sessions,
    /// Sessions made since the start.
    pub sessions_started: u64,
    /// Faults of the relay since the start, each of which ended one connection or session.
    #[serde(default)]
    pub faults: u64,
    /// Bytes on their way through the relay that wait for a peer to take them.
    pub queued_bytes: usize,
    /// Lines of the log that were dropped since the start, because the log did not take them in time.
    pub log_lines_dropped: u64,
    /// The last reload that failed.
    pub last_failed_reload: Option<FailedReload>,
    /// The last time that certificates which had changed on disk could not be used.
    pub last_failed_renewal: Option<FailedReload>,
}

/// How many connections and sessions there may be at once. None of a kind: any number.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Limits {
    /// Connections, those that the relay has dialled too.
    pub max_connections: Option<NonZeroU32>,
    /// Accepted connections from one address, or one /64 of IPv6.
    pub max_connections_per_ip: Option<NonZeroU32>,
    /// Connections that have neither got nor joined a session.
    pub max_unauthenticated: Option<NonZeroU32>,
    /// Sessions of one user.
    pub max_sessions_per_user: Option<NonZeroU32>,
}

/// A backend that can fail, as the last look-ups found it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BackendHealth {
    /// As in the option `backend`.
    pub name: String,
    /// Where it is, without credentials.
    pub place: String,
    /// Whether it answers.
    #[serde(flatten)]
    pub state: BackendState,
}

/// Whether a backend answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum BackendState {
    /// It was not asked yet, or has not answered the first question yet.
    Unasked,
    /// It does, or did when it was asked last.
    Answers {
        /// When it was asked last.
        last_asked: u64,
    },
    /// It does not, so that its users get 500.
    Fails {
        /// Why, in its own words, without credentials.
        fault: String,
        /// Since when.
        since: u64,
    },
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
    /// That of the relay behind this handle, now.
    pub fn of(relay: &Handle) -> Self {
        let (generation, since) = relay.in_force();
        let counts = relay.counts();
        let (connections, unauthenticated) = relay.connections();
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: process::id(),
            uptime: clock::now().saturating_duration_since(relay.started()).as_secs(),
            phase: *relay.phase().borrow(),
            generation: generation.number(),
            generation_since: unix(since),
            configuration: generation.config().source().clone(),
            host_name: generation.host_name().to_owned(),
            port: generation.port(),
            addresses: relay.addresses(),
            left_addresses: relay.left_addresses(),
            backends: generation.backends().collect(),
            backend_health: relay.health().into_iter().map(BackendHealth::of).collect(),
            certificates: generation.identities().iter().map(Certificate::of).collect(),
            connections,
            unauthenticated,
            connections_accepted: counts.accepted,
            connections_refused: counts.refused,
            limits: Limits::of(generation.quotas()),
            sessions: relay.sessions(),
            sessions_started: counts.started,
            faults: counts.faults,
            queued_bytes: counts.queued,
            log_lines_dropped: logging::lines_dropped(),
            last_failed_reload: relay.failed_reload().map(FailedReload::of),
            last_failed_renewal: relay.failed_renewal().map(FailedReload::of),
        }
    }
}

impl Limits {
    fn of(quotas: Quotas) -> Self {
        Self {
            max_connections: quotas.connections,
            max_connections_per_ip: quotas.per_address,
            max_unauthenticated: quotas.strangers,
            max_sessions_per_user: quotas.per_user,
        }
    }
}

impl BackendHealth {
    fn of(Health { name, place, state, .. }: Health) -> Self {
        let state = match state {
            HealthState::Unasked => BackendState::Unasked,
            HealthState::Answers { last } => BackendState::Answers { last_asked: unix_of(last) },
            HealthState::Fails { fault, since } => {
                BackendState::Fails { fault: fault.to_string(), since: unix_of(since) }
            }
        };
        Self { name: name.to_owned(), place, state }
    }

    /// Whether its users get 500.
    pub fn fails(&self) -> bool {
        matches!(self.state, BackendState::Fails { .. })
    }
}

impl FailedReload {
    fn of(ReloadFailure { at, kept, reason, mended }: ReloadFailure) -> Self {
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

/// A moment of the monotonic clock, by the time of day as it is now.
fn unix_of(moment: Instant) -> u64 {
    let age = clock::now().saturating_duration_since(moment);
    clock::wall().checked_sub(age).map(unix).unwrap_or_default()
}

fn unix(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
