//! The listeners: they accept connections, and are closed when no session needs their address.
//!
//! A [`Door`] is an address that the relay listens on. It is kept by all through which a peer may
//! come to look for a session there: the generation in force, a connection in the lobby, and a
//! session that no peer has joined. When the last of them drops it, its task stops accepting.

use std::{
    io, iter,
    net::SocketAddr,
    pin::pin,
    sync::{Arc, Weak},
    time::Duration,
};

use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{error, info};

use super::{
    super::{RelayError, lifecycle::Lifecycle},
    binding::{Bound, bind_one, overlap},
};
use crate::transport;

/// Pause after a failed accept. Most often the process has no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long the relay still accepts at a door after it is closed, for clients that have just learnt
/// the address.
const LEAVE: Duration = Duration::from_secs(1);

/// Takes each connection that is accepted, with the address of its client.
pub(in crate::relay) type Admit = Arc<dyn Fn(TcpStream, SocketAddr) + Send + Sync>;

/// An address that the relay listens on. It is closed when the last `Arc` of it is dropped.
#[derive(Debug)]
pub(in crate::relay) struct Door {
    /// The port is 0 if the configuration asks for any free port.
    requested: SocketAddr,
    local: SocketAddr,
    /// Tells the accepting task that the door is closed.
    _close: DropGuard,
}

/// The doors of one generation, in the order of the option `address`.
pub(in crate::relay) type Doors = Arc<[Arc<Door>]>;

/// All listeners whose socket is open, of this generation and of earlier ones.
#[derive(Debug, Default)]
pub(in crate::relay) struct Listeners(Vec<Listener>);

#[derive(Debug)]
struct Listener {
    requested: SocketAddr,
    local: SocketAddr,
    door: Weak<Door>,
    socket: Weak<TcpListener>,
}

/// A new door whose accepting task has not started.
#[derive(Debug)]
pub(super) struct Entrance {
    local: SocketAddr,
    socket: Arc<TcpListener>,
    closed: CancellationToken,
}

/// The listeners of the next generation. Each has a bound socket.
#[derive(Debug)]
pub(in crate::relay) struct Plan(Vec<Planned>);

#[derive(Debug)]
enum Planned {
    /// A door that is open.
    Kept(Arc<Door>),
    /// A door that is closed, but whose socket is still open.
    Reopened {
        requested: SocketAddr,
        socket: Arc<TcpListener>,
    },
    New(Bound),
}

/// A plan that can be carried out without errors.
pub(in crate::relay) struct Prepared(Vec<Opening>);

enum Opening {
    Kept(Arc<Door>),
    New { requested: SocketAddr, local: SocketAddr, socket: Arc<TcpListener> },
}

impl Planned {
    fn prepare(self) -> io::Result<Opening> {
        let (requested, socket) = match self {
            Self::Kept(door) => return Ok(Opening::Kept(door)),
            Self::Reopened { requested, socket } => (requested, socket),
            Self::New(Bound { requested, socket }) => {
                (requested, Arc::new(TcpListener::from_std(socket)?))
            }
        };
        Ok(Opening::New { requested, local: socket.local_addr()?, socket })
    }

    fn is(&self, door: &Arc<Door>) -> bool {
        matches!(self, Self::Kept(kept) if Arc::ptr_eq(kept, door))
    }
}

impl Plan {
    /// The plan of the first generation.
    pub(in crate::relay) fn of(bound: Vec<Bound>) -> Self {
        Self(bound.into_iter().map(Planned::New).collect())
    }

    /// Does all that can fail. Must be called inside of a runtime.
    pub(in crate::relay) fn prepare(self) -> io::Result<Prepared> {
        self.0.into_iter().map(Planned::prepare).collect::<io::Result<_>>().map(Prepared)
    }

    /// The address of the first listener.
    pub(super) fn first(&self) -> Option<SocketAddr> {
        match self.0.first()? {
            Planned::Kept(door) => Some(door.local),
            Planned::Reopened { socket, .. } => socket.local_addr().ok(),
            Planned::New(bound) => bound.socket.local_addr().ok(),
        }
    }
}

impl Listeners {
    /// Finds or binds a socket for each of these addresses. `current` are the doors of the
    /// generation in force; they do not change yet.
    pub(super) fn plan(
        &self,
        addresses: &[SocketAddr],
        current: &Doors,
    ) -> Result<Plan, RelayError> {
        let mut planned = Vec::new();
        for &requested in addresses {
            planned.push(match self.find(requested, current, &planned) {
                Some(found) => found,
                None => Planned::New(self.bind(requested)?),
            });
        }
        Ok(Plan(planned))
    }

    /// Binds a new socket, even if listeners of this relay have overlapping addresses.
    fn bind(&self, requested: SocketAddr) -> Result<Bound, RelayError> {
        let overlapping = self.0.iter().filter(|one| overlap(one.local, requested));
        let own: Vec<_> = overlapping.filter_map(|one| one.socket.upgrade()).collect();
        if own.is_empty() {
            return bind_one(requested);
        }
        let socket = transport::listen_beside(requested, &own).map_err(RelayError::Bind)?;
        Ok(Bound { requested, socket })
    }

    /// A listener that was bound for this address and is not in the plan yet.
    fn find(&self, requested: SocketAddr, current: &Doors, planned: &[Planned]) -> Option<Planned> {
        let left = self.0.iter().filter_map(|one| one.door.upgrade());
        let mut doors = current.iter().cloned().chain(left);
        let kept = doors.find(|door| {
            door.requested == requested && !planned.iter().any(|planned| planned.is(door))
        });
        if let Some(door) = kept {
            return Some(Planned::Kept(door));
        }
        let closing = |one: &&Listener| one.requested == requested && one.door.strong_count() == 0;
        let socket = self.0.iter().filter(closing).find_map(|one| one.socket.upgrade())?;
        let taken = |planned: &Planned| matches!(planned, Planned::Reopened { socket: other, .. } if Arc::ptr_eq(other, &socket));
        (!planned.iter().any(taken)).then_some(Planned::Reopened { requested, socket })
    }

    /// The doors of a plan, and the entrances of the new ones. Open an entrance only when the doors
    /// are in force, because each connection takes the doors in force.
    pub(super) fn enter(&mut self, prepared: Prepared) -> (Doors, Vec<Entrance>) {
        self.0.retain(|listener| listener.socket.strong_count() > 0);
        let mut entrances = Vec::new();
        let doors = prepared.0.into_iter().map(|opening| match opening {
            Opening::Kept(door) => door,
            Opening::New { requested, local, socket } => {
                let closed = CancellationToken::new();
                let door = Door { requested, local, _close: closed.clone().drop_guard() };
                let door = Arc::new(door);
                let weak = Arc::downgrade(&socket);
                // The same socket, if its door had been left.
                self.0.retain(|listener| !listener.socket.ptr_eq(&weak));
                self.0.push(Listener {
                    requested,
                    local,
                    door: Arc::downgrade(&door),
                    socket: weak,
                });
                entrances.push(Entrance { local, socket, closed });
                door
            }
        });
        (doors.collect(), entrances)
    }

    /// The addresses of all sockets that are open.
    pub(super) fn open(&self) -> impl Iterator<Item = SocketAddr> {
        let open = self.0.iter().filter(|one| one.socket.strong_count() > 0);
        open.map(|one| one.local)
    }

    /// The addresses of earlier generations that are still open.
    pub(in crate::relay) fn left(&self, current: &Doors) -> Vec<SocketAddr> {
        let open = self.0.iter().filter(|one| one.door.strong_count() > 0);
        let locals = open.map(|one| one.local);
        locals.filter(|local| current.iter().all(|door| door.local != *local)).collect()
    }
}

impl Entrance {
    /// Starts the task that accepts connections and passes them to `admit`. The task ends when the
    /// door is closed or the relay stops. Must be called inside of a runtime.
    pub(super) fn open(self, admit: &Admit, lifecycle: &Lifecycle) {
        let Self { local, socket, closed } = self;
        info!("listening on {local}");
        let accepting = accept(socket, local, closed, Arc::clone(admit));
        lifecycle.spawn_until_stopping(accepting);
    }
}

pub(in crate::relay) fn addresses(doors: &Doors) -> Vec<SocketAddr> {
    doors.iter().map(|door| door.local).collect()
}

/// Accepts connections until [`LEAVE`] after the door is closed.
async fn accept(
    listener: Arc<TcpListener>,
    local: SocketAddr,
    closed: CancellationToken,
    admit: Admit,
) {
    let mut failing = false;
    let mut closing = pin!(async {
        closed.cancelled().await;
        tokio::time::sleep(LEAVE).await;
    });
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut closing => break,
        };
        match accepted {
            Ok((tcp, peer)) => {
                failing = false;
                admit(tcp, peer);
            }
            Err(error) => {
                // Failures in a row are logged once. The pause keeps the loop from spinning.
                if !std::mem::replace(&mut failing, true) {
                    error!("cannot accept connections: {error}");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    // The kernel has completed these connections already: closing the listener would reset them.
    let late: Vec<_> = iter::from_fn(|| accept_now(&listener)).collect();
    // A reload may have returned to the address; then another task accepts there.
    if Arc::into_inner(listener).is_some() {
        info!("no longer listening on {local}");
    }
    for (tcp, peer) in late {
        admit(tcp, peer);
    }
}

/// The next connection that the kernel has completed. Asks the kernel directly, because the runtime
/// may not know of the connection yet.
fn accept_now(listener: &TcpListener) -> Option<(TcpStream, SocketAddr)> {
    let (socket, peer) = SockRef::from(listener).accept().ok()?;
    socket.set_nonblocking(true).ok()?;
    Some((TcpStream::from_std(socket.into()).ok()?, peer.as_socket()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(listeners: &mut Listeners, plan: Plan, lifecycle: &Lifecycle) -> Doors {
        let admit: Admit = Arc::new(|_, _| {});
        let (doors, entrances) = listeners.enter(plan.prepare().unwrap());
        for entrance in entrances {
            entrance.open(&admit, lifecycle);
        }
        doors
    }

    /// Both doors are kept all the time, as by a session that no peer has joined.
    #[tokio::test]
    async fn a_listener_has_one_task_however_often_it_is_returned_to() {
        let lifecycle = Lifecycle::new();
        let mut listeners = Listeners::default();
        let free = || bind_one(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let addresses = [free(), free()].map(|bound| bound.socket.local_addr().unwrap());
        let mut current: Doors = Arc::new([]);
        let mut kept = Vec::new();
        for number in 1..=20 {
            let plan = listeners.plan(&addresses[number % 2..][..1], &current).unwrap();
            current = open(&mut listeners, plan, &lifecycle);
            kept.push(Arc::clone(&current));
        }
        assert_eq!(lifecycle.tasks(), 2);
        assert_eq!(listeners.left(&current), [addresses[1]]);
        drop(kept);
        while lifecycle.tasks() > 1 {
            tokio::time::sleep(ACCEPT_PAUSE).await;
        }
        assert_eq!(listeners.left(&current), []);
        assert!(TcpStream::connect(addresses[1]).await.is_err());
        assert!(TcpStream::connect(addresses[0]).await.is_ok());
    }

    /// A door is closed, and a reload reopens its address before the accepting task has noticed.
    #[tokio::test]
    async fn an_address_can_be_returned_to_while_it_is_being_closed() {
        let lifecycle = Lifecycle::new();
        let mut listeners = Listeners::default();
        let bound = bind_one(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = bound.socket.local_addr().unwrap();
        let bound = Bound { requested: address, ..bound };
        let doors = open(&mut listeners, Plan::of(vec![bound]), &lifecycle);
        drop(doors);
        let plan = listeners.plan(&[address], &Doors::from([])).unwrap();
        let doors = open(&mut listeners, plan, &lifecycle);
        while lifecycle.tasks() > 1 {
            tokio::time::sleep(ACCEPT_PAUSE).await;
        }
        assert_eq!(self::addresses(&doors), [address]);
        assert!(TcpStream::connect(address).await.is_ok());
    }
}
