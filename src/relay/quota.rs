//! How many connections and sessions there are, and how many there may be.
//!
//! All are counted in one table, the [`Census`]. Whatever is counted has a [`Ticket`], which moves
//! with it from task to task and counts it off when it is dropped, however the task ends.
//!
//! | what | counts for |
//! |---|---|
//! | a connection that was accepted | `max_connections`, `max_connections_per_ip` |
//! | the same, until it gets a session or joins one | `max_unauthenticated` |
//! | a connection that the relay dials | `max_connections` |
//! | a session | `max_sessions_per_user` |
//!
//! A limit is asked when a ticket is issued. So a limit that was lowered ends nothing.

use std::{
    collections::{HashMap, hash_map::Entry},
    fmt,
    hash::Hash,
    net::IpAddr,
    num::NonZeroU32,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::options::{ConnectionLimit, LimitOptions};
use crate::{auth::domain, fair::Origin};

/// File descriptors that are no connections: at least, and at most where the limit is high.
/// Listeners, the control socket with its clients, look-ups of names, databases and a reload need
/// them.
const RESERVE: (u64, u64) = (32, 128);

/// How many there may be at once, by one configuration. `None`: any number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Quotas {
    /// Connections, those that the relay dials too.
    pub connections: Option<NonZeroU32>,
    /// Accepted connections of one address, or of one IPv6 network of 64 bits.
    pub per_address: Option<NonZeroU32>,
    /// Accepted connections that have neither got nor joined a session.
    pub strangers: Option<NonZeroU32>,
    /// Sessions of one user.
    pub per_user: Option<NonZeroU32>,
}

impl Quotas {
    /// The limits of a configuration, for a process that may open `descriptors` files; `None`: any
    /// number.
    pub(super) fn new(options: &LimitOptions, descriptors: Option<u64>) -> Self {
        let asked = match options.max_connections {
            ConnectionLimit::Descriptors => descriptors.map(|limit| limit / 5 * 4),
            ConnectionLimit::Unlimited => None,
            ConnectionLimit::AtMost(most) => Some(most.get().into()),
        };
        // More could not be accepted, and would leave no descriptors for msrprelayctl and a reload.
        let possible =
            descriptors.map(|limit| limit.saturating_sub((limit / 5).clamp(RESERVE.0, RESERVE.1)));
        let connections = [asked, possible].into_iter().flatten().min();
        let connections = connections.map(|most| u32::try_from(most).unwrap_or(u32::MAX));
        Self {
            connections: connections.map(|most| NonZeroU32::new(most).unwrap_or(NonZeroU32::MIN)),
            per_address: options.max_connections_per_ip,
            strangers: options.max_unauthenticated,
            per_user: options.max_sessions_per_user,
        }
    }
}

/// One of the limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Limit {
    Connections,
    PerAddress,
    Strangers,
    PerUser,
}

/// Why no ticket is issued: there are as many as there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Excess {
    pub(super) limit: Limit,
    most: NonZeroU32,
}

impl fmt::Display for Excess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, option) = match self.limit {
            Limit::Connections => ("connections", "max_connections"),
            Limit::PerAddress => ("connections from this address", "max_connections_per_ip"),
            Limit::Strangers => ("connections without a session", "max_unauthenticated"),
            Limit::PerUser => ("sessions of this user", "max_sessions_per_user"),
        };
        write!(f, "there are {} {what} already ({option})", self.most)
    }
}

/// A user, however the client spells the name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct User(Arc<str>);

impl User {
    /// Databases find a user in any letter case and with blanks behind the name, and a name may come
    /// with its domain: all of these are one.
    fn new(user: &str, realm: &str) -> Self {
        let realm = domain::folded(realm.trim_end_matches(' '));
        let user = user.trim_end_matches(' ').to_lowercase();
        let user = domain::bare_name(&user, &realm).unwrap_or(&user);
        Self(format!("{}@{realm}", user.trim_end_matches(' ')).into())
    }
}

/// What a ticket counts.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Share {
    /// A connection that was accepted and has not had a session yet.
    Stranger(Origin),
    /// A connection that was accepted and has got or joined a session.
    Known(Origin),
    /// A connection that the relay dials.
    Dialled,
    Session(User),
}

/// What there is.
#[derive(Debug, Default, PartialEq, Eq)]
struct Table {
    connections: usize,
    strangers: usize,
    /// Accepted connections. An address without any is not kept.
    addresses: HashMap<Origin, usize>,
    /// Sessions. A user without any is not kept.
    users: HashMap<User, usize>,
}

impl Table {
    /// Counts one more, or nothing at all.
    fn enter(&mut self, share: &Share, quotas: &Quotas) -> Result<(), Excess> {
        let check = |limit, most: Option<NonZeroU32>, now: usize| match most {
            Some(most) if u32::try_from(now).is_ok_and(|now| now < most.get()) => Ok(()),
            Some(most) => Err(Excess { limit, most }),
            None => Ok(()),
        };
        match share {
            Share::Stranger(origin) | Share::Known(origin) => {
                // The limit that says most of the peer comes first.
                let here = self.addresses.get(origin).copied().unwrap_or_default();
                check(Limit::PerAddress, quotas.per_address, here)?;
                let is_stranger = matches!(share, Share::Stranger(_));
                if is_stranger {
                    check(Limit::Strangers, quotas.strangers, self.strangers)?;
                }
                check(Limit::Connections, quotas.connections, self.connections)?;
                *self.addresses.entry(*origin).or_default() += 1;
                self.strangers += usize::from(is_stranger);
                self.connections += 1;
            }
            Share::Dialled => {
                check(Limit::Connections, quotas.connections, self.connections)?;
                self.connections += 1;
            }
            Share::Session(user) => {
                let held = self.users.get(user).copied().unwrap_or_default();
                check(Limit::PerUser, quotas.per_user, held)?;
                *self.users.entry(user.clone()).or_default() += 1;
            }
        }
        Ok(())
    }

    /// A stranger has got or joined a session. Anything else stays as it is.
    fn know(&mut self, share: &mut Share) {
        if let Share::Stranger(origin) = *share {
            self.strangers = self.strangers.saturating_sub(1);
            *share = Share::Known(origin);
        }
    }

    /// Counts one less. It was entered once.
    fn leave(&mut self, share: &Share) {
        match share {
            Share::Stranger(origin) | Share::Known(origin) => {
                take_one(&mut self.addresses, origin.to_owned());
                let was_stranger = matches!(share, Share::Stranger(_));
                self.strangers = self.strangers.saturating_sub(usize::from(was_stranger));
                self.connections = self.connections.saturating_sub(1);
            }
            Share::Dialled => self.connections = self.connections.saturating_sub(1),
            Share::Session(user) => take_one(&mut self.users, user.clone()),
        }
    }
}

/// Takes one from a count, which is forgotten at 0.
fn take_one<K: Eq + Hash>(counts: &mut HashMap<K, usize>, key: K) {
    if let Entry::Occupied(mut count) = counts.entry(key) {
        *count.get_mut() -= 1;
        if *count.get() == 0 {
            count.remove();
        }
    }
    if counts.is_empty() {
        // A flood that is over holds no memory.
        *counts = HashMap::new();
    }
}

/// The connections and sessions of the process.
#[derive(Debug, Default)]
pub(super) struct Census(Mutex<Table>);

impl Census {
    /// The ticket of a connection that was accepted from this address.
    pub(super) fn accept(
        self: &Arc<Self>,
        from: IpAddr,
        quotas: &Quotas,
    ) -> Result<Ticket, Excess> {
        self.issue(Share::Stranger(from.into()), quotas)
    }

    /// The ticket of a connection that the relay is to dial.
    pub(super) fn dial(self: &Arc<Self>, quotas: &Quotas) -> Result<Ticket, Excess> {
        self.issue(Share::Dialled, quotas)
    }

    /// The ticket of a session of this user.
    pub(super) fn grant(
        self: &Arc<Self>,
        (user, realm): (&str, &str),
        quotas: &Quotas,
    ) -> Result<Ticket, Excess> {
        self.issue(Share::Session(User::new(user, realm)), quotas)
    }

    /// Open connections, and how many of them have neither got nor joined a session.
    pub(super) fn connections(&self) -> (usize, usize) {
        let table = self.lock();
        (table.connections, table.strangers)
    }

    fn issue(self: &Arc<Self>, share: Share, quotas: &Quotas) -> Result<Ticket, Excess> {
        self.lock().enter(&share, quotas)?;
        Ok(Ticket { census: Arc::clone(self), share })
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // A poisoned lock can be used: no code under it can panic in the middle of a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts one connection or one session while it lives. It cannot be copied.
pub(super) struct Ticket {
    census: Arc<Census>,
    share: Share,
}

impl Ticket {
    /// The connection has got a session or joined one: it is no stranger's any more.
    pub(super) fn know(&mut self) {
        if matches!(self.share, Share::Stranger(_)) {
            self.census.lock().know(&mut self.share);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.census.lock().leave(&self.share);
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Ticket").field(&self.share).finish()
    }
}

#[cfg(test)]
mod tests;
