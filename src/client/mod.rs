//! A model MSRP endpoint (RFC 4975), with or without a relay of its own (RFC 4976 §5).
//!
//! ```text
//!   send_file   receive_file            what a program wants
//!        |            |
//!        +-- Session -+                 paths, AUTH and its refresh, requests that are for us
//!               |
//!          Connection                   frames over a Link; never blocks, never drops a byte
//! ```
//!
//! Everything runs in the task of the caller. Files are read, written and hashed elsewhere and
//! reach this room as channels, so that neither a slow disk nor a slow peer holds up the other.
//! The relay itself uses nothing of this room.

mod connection;
pub mod disposition;
mod error;
pub mod files;
mod incoming;
mod login;
mod outgoing;
mod ranges;
mod session;

use std::time::Duration;

pub use self::{
    connection::{Connection, Lost},
    error::{ClientError, advice, meaning},
    incoming::{Watcher, receive_file},
    login::{Account, LoginError},
    outgoing::{Message, Progress, send_file},
    ranges::RangeSet,
    session::{Report, Session, Step, mint, own_uri},
};

/// How long a request may wait for its response (RFC 4975 §7.3).
pub const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a sender waits, after its last byte, for the next success REPORT. Not a rule of the
/// RFC: the relays on the way may still be passing on what they hold.
pub const REPORT_TIMEOUT: Duration = Duration::from_mins(5);
