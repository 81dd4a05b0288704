//! Watching and steering a relay through its control socket.
//!
//! A unix socket; a client writes one [`Request`] as a line of JSON and reads one [`Response`] as
//! another. Who may connect is said by the socket's mode (0660) and checked again by the peer's
//! credentials.

pub mod client;
mod server;
mod status;

use serde::{Deserialize, Serialize};

pub use self::{
    server::{BindError, bind, serve},
    status::{Certificate, FailedReload, Status},
};

/// Name of the socket in the runtime directory.
pub const SOCKET_NAME: &str = "msrprelay.sock";

/// What a client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case")]
pub enum Request {
    /// What is in force and what goes on.
    Status,
    /// Read the configuration again; the response comes when that is done, or has failed.
    Reload,
    /// No new sessions, and an end when the last one has ended.
    Drain,
}

/// What it is told.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "kebab-case")]
pub enum Response {
    /// To [`Request::Status`].
    Status(Box<Status>),
    /// To [`Request::Reload`].
    Reloaded {
        /// Number of the generation in force now.
        generation: u64,
        /// One line on what that is.
        in_force: String,
        /// What an operator should look at.
        warnings: Vec<String>,
    },
    /// To [`Request::Drain`].
    Draining {
        /// Sessions that the relay waits for.
        sessions: usize,
    },
    /// It was not done.
    Failed {
        /// Why, a line for each fault.
        error: String,
    },
}
