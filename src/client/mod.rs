//! An MSRP endpoint (RFC 4975), with or without a relay of its own (RFC 4976 §5).
//!
//! ```text
//!   send_file   receive_file            what a program calls
//!        |            |
//!        +-- Endpoint +                 paths, AUTH and its refresh; filters the requests meant for us
//!               |
//!          Connection                   frames over a Link; never blocks, never drops an octet
//! ```
//!
//! The network side runs in the task of the caller. Files are read, written and hashed in threads
//! of their own, connected by bounded channels. So a slow disk does not hold up the network, nor a
//! slow peer the disk. The relay uses nothing of this room.

mod connection;
pub mod disposition;
mod endpoint;
mod error;
pub mod files;
mod incoming;
mod login;
mod meaning;
mod outgoing;
mod ranges;

use std::time::Duration;

pub use self::{
    connection::{Connection, Lost},
    endpoint::{Endpoint, Report, Step, mint, own_uri},
    error::{ClientError, advice},
    incoming::{Watcher, receive_file},
    login::{LoginCredentials, LoginError},
    meaning::meaning,
    outgoing::{Message, Progress, send_file},
    ranges::RangeSet,
};

/// Longest wait for the response to a request, from its last octet sent (RFC 4975 §7.3).
pub const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest time without news that a sender waits for success REPORTs after its last octet. The RFC
/// sets no limit: relays on the way may hold octets and pass them on much later.
pub const REPORT_TIMEOUT: Duration = Duration::from_mins(5);
