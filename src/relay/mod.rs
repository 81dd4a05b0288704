//! The living process: it accepts connections and owns the tasks.
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
//! One task at a time owns a connection and serves it. It passes the connection on by value.
//!
//! The [`Generation`] in force when a connection is accepted gives it its rules, and the addresses
//! that the URI of its session leads to. User accounts, and the certificate that the relay dials
//! with, are those of the newest generation.
//!
//! | what | where |
//! |---|---|
//! | the stages of a connection, as above | `serve` runs `lobby`, `bridge` and `ending`; `login` answers an AUTH |
//! | one connection, and what moves with it | `party`; `wire` moves octets between two connections |
//! | the dial of a session, and what its failure means | `next_hop` |
//! | the configuration in force: reading, swapping, listening, whether its backends answer | `configuration` |
//! | who may join whom | `registry` |
//! | how many connections and sessions there are, and may be | `quota` |
//! | why a session ended, and the log line about it | `end` |
//! | what goes wrong with strangers, told once a minute | `notices` |
//! | how many refusals an address gets | `backoff` |
//! | what all tasks share | `process`; `lifecycle` has its phase and its end, `stats` its counters |
//! | watching and steering | `handle` |
//! | what blocks | `own_thread` |

mod backoff;
mod bridge;
mod configuration;
mod end;
mod ending;
mod error;
mod handle;
mod lifecycle;
mod lobby;
mod login;
mod next_hop;
mod notices;
pub mod options;
mod own_thread;
mod party;
mod process;
mod quota;
mod registry;
mod serve;
mod stats;
mod wire;

pub use self::{
    configuration::{
        Bound, Generation, Reading, ReloadError, ReloadFailure, Reloaded, Source, bind, distinct,
        resolve, unanswered,
    },
    error::{Located, RelayError},
    handle::Handle,
    lifecycle::{Phase, STOP_TIME},
    options::{Config, TlsOptions},
    own_thread::on_own_thread,
    quota::Quotas,
    registry::Sessions,
    serve::Relay,
    stats::Counts,
};
