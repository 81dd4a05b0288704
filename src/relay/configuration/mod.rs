//! The configuration in force, and how a reload or a renewal of certificates replaces it.
//!
//! ```text
//!   Handle::reload --> reload: reads the file on a thread of its own
//!   renewal --------->   |  opens the backends (stores), makes the rules (policy) and TLS;
//!    (files changed)     |  unchanged backends and certificates are carried over
//!                        v
//!                      a complete generation --> put in force in one step: new connections get it,
//!                                                old addresses are left (listeners)
//! ```
//!
//! `health` asks the backends whether they answer, and tells which do not.
//!
//! A connection is accepted under the [`Generation`] in force. Of that generation it keeps only the
//! [`Policy`], and the [`Doors`] through which a peer may join its session.

mod binding;
mod descriptors;
mod files;
mod generation;
mod health;
mod listeners;
mod naming;
mod policy;
mod reading;
mod reload;
mod renewal;
mod stores;

pub use self::{
    binding::{Bound, bind, distinct, resolve},
    generation::Generation,
    health::unanswered,
    reading::Reading,
    reload::{ReloadError, ReloadFailure, Reloaded, Source},
};
pub(super) use self::{
    health::{await_return, complaints},
    listeners::Doors,
    naming::follow_names,
    policy::{Authorities, Policy},
    reload::Configuration,
    renewal::watch,
};
