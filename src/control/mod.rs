//! Watching and steering a relay through its control socket.
//!
//! The control socket is a Unix socket. A client writes one [`Request`] as a line of JSON and reads
//! one [`Response`] as another. The mode of the socket (0660) limits who may connect, and the relay
//! also checks the credentials of the peer.

pub mod client;
mod server;
mod status;

use serde::{Deserialize, Serialize};

pub use self::{
    server::{BindError, bind, serve},
    status::{BackendHealth, BackendState, Certificate, FailedReload, Limits, Status},
};

/// File name of the socket in the runtime directory.
pub const SOCKET_NAME: &str = "msrprelay.sock";

/// What a client asks the relay to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case")]
pub enum Request {
    /// Report the state of the relay: configuration, connections, sessions.
    Status,
    /// Reload the configuration. The response comes when the reload has succeeded or failed.
    Reload,
    /// Accept no new sessions, and stop when the last one has ended.
    Drain,
}

/// The response of the relay.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "kebab-case")]
pub enum Response {
    /// Answers [`Request::Status`].
    Status(Box<Status>),
    /// Answers [`Request::Reload`].
    Reloaded {
        /// Number of the generation that is in force now.
        generation: u64,
        /// The new configuration in one line.
        in_force: String,
        /// Findings that the operator should look at.
        warnings: Vec<String>,
    },
    /// Answers [`Request::Drain`].
    Draining {
        /// Number of sessions that the relay waits for.
        sessions: usize,
    },
    /// The request was refused, or has failed.
    Failed {
        /// Why. One line for each fault.
        error: String,
    },
}
