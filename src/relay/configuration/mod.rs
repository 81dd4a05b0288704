//! What is in force, from one reload to the next.
//!
//! ```text
//!   Handle::reload --> reload: reads the file, off the async threads
//!   certificates ---->   |  stores: backends, policy: rules, TLS: carried over if unchanged
//!    (files changed)     v
//!                      generation, complete --> swapped at once --> listeners: new connections
//!                                                                   get it, old addresses are left
//! ```
//!
//! A connection takes the [`Generation`] in force when it is accepted, and keeps it.

mod certificates;
mod generation;
mod listeners;
mod policy;
mod reload;
mod stores;

pub(super) use self::{
    certificates::watch,
    generation::Visit,
    listeners::Plan,
    policy::Policy,
    reload::{Configuration, Failure},
};
pub use self::{
    generation::Generation,
    listeners::{Bound, bind, distinct, resolve},
    reload::{ReloadError, Reloaded, Source},
};
