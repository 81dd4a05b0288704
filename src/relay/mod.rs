//! The living process: what accepts connections and owns the tasks.
//!
//! ```text
//!   listener ---> lobby ------------- AUTH: 200 -------------> bridge (the session's task)
//!                   |                                            ^  |  dials the next hop,
//!                   |  SEND to a session of ours: the party      |  |  or hands its party to
//!                   +---- moves to that session's task ----------+  |  the task of another session
//!                   |     and this one ends                         |
//!                   v                                               v
//!                 closed <---------------- drained, closed ----- session over
//! ```
//!
//! A connection is served by one task at a time, which owns it; it is handed on by value.
//!
//! What holds for it comes from the [`Generation`] that was in force when it was accepted: its
//! rules, and the addresses that its URI leads to. Users, and the certificates that the relay dials
//! with, are those of the newest generation.
//!
//! | what | where |
//! |---|---|
//! | a connection's way, as above | `serve`; its stages are `lobby`, `bridge` and `ending`; `login` answers an AUTH |
//! | one connection, and what moves with it | `party`; `wire` is the pump between two of them |
//! | what is in force: reading, swapping, listening | `configuration` |
//! | who may join whom | `registry` |
//! | why a session ended, and what the log says of it | `end` |
//! | what all tasks share | `process`: `lifecycle` is its phase and its end, `stats` its counters |
//! | watching and steering | `handle` |
//! | what blocks | `own_thread` |

mod bridge;
mod configuration;
mod end;
mod ending;
mod error;
mod handle;
mod lifecycle;
mod lobby;
mod login;
pub mod options;
mod own_thread;
mod party;
mod process;
mod registry;
mod serve;
mod stats;
mod wire;

pub use self::{
    configuration::{
        Bound, Failure, Generation, Reading, ReloadError, Reloaded, Source, bind, distinct, resolve,
    },
    error::{Located, RelayError},
    handle::Handle,
    lifecycle::{Phase, STOP_TIME},
    options::{Config, TlsOptions},
    own_thread::on_own_thread,
    registry::Sessions,
    serve::Relay,
    stats::Counts,
};
