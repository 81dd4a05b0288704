//! What is in force, from one reload to the next.
//!
//! ```text
//!   Handle::reload --> reload: reads the file, off the async threads
//!   renewal --------->   |  stores: backends, policy: rules, TLS: carried over if unchanged
//!    (files changed)     v
//!                      generation, complete --> swapped at once --> listeners: new connections
//!                                                                   get it, old addresses are left
//! ```
//!
//! A connection takes the [`Generation`] in force when it is accepted, and keeps it.

mod files;
mod generation;
mod listeners;
mod policy;
mod reload;
mod renewal;
mod stores;

pub use self::{
    generation::Generation,
    listeners::{Bound, bind, distinct, resolve},
    reload::{ReloadError, Reloaded, Source},
};
pub(super) use self::{
    generation::Visit,
    listeners::Plan,
    policy::Policy,
    reload::{Configuration, Failure},
    renewal::watch,
};
