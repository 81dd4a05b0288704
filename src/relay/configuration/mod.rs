//! What is in force, from one reload to the next.
//!
//! ```text
//!   Handle::reload --> reload: reads the file, off the async threads
//!   renewal --------->   |  stores: backends, policy: rules, TLS: carried over if unchanged
//!    (files changed)     v
//!                      generation, complete --> swapped at once --> new connections get it;
//!                                               listeners: old addresses are left
//! ```
//!
//! A connection is accepted under the [`Generation`] in force. It keeps only the [`Policy`] of that
//! generation and the [`Doors`] through which its session may be looked for.

mod binding;
mod descriptors;
mod files;
mod generation;
mod listeners;
mod policy;
mod reload;
mod renewal;
mod stores;

pub use self::{
    binding::{Bound, bind, distinct, resolve},
    generation::Generation,
    reload::{Failure, ReloadError, Reloaded, Source},
};
pub(super) use self::{
    listeners::Doors,
    policy::{Authorities, Policy},
    reload::Configuration,
    renewal::watch,
};
