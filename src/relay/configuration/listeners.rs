//! Where connections come in: accepting them, and leaving an address behind.
//!
//! A [`Door`] is an address that sessions were given out with. Whoever may still lead somebody there
//! keeps it: the generation in force, a connection that has no session yet, a session that nobody
//! has joined. When the last of them lets go of it, its task stops accepting.

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

/// Pause after a failed accept: most often there are no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long a door that nobody keeps stays open, for clients that have just been told the address.
const LEAVE: Duration = Duration::from_secs(1);

/// Takes each connection that was accepted, and its other end.
pub(in crate::relay) type Admit = Arc<dyn Fn(TcpStream, SocketAddr) + Send + Sync>;

/// An address that is listened on while somebody keeps this.
#[derive(Debug)]
pub(in crate::relay) struct Door {
    /// As the configuration has it; its port may be 0.
    requested: SocketAddr,
    local: SocketAddr,
    /// Tells the task that accepts there.
    _close: DropGuard,
}

/// All addresses of one generation, in the order of the option.
pub(in crate::relay) type Doors = Arc<[Arc<Door>]>;

/// The listeners that have not been closed, in use or not.
#[derive(Debug, Default)]
pub(in crate::relay) struct Listeners(Vec<Listener>);

#[derive(Debug)]
struct Listener {
    requested: SocketAddr,
    local: SocketAddr,
    door: Weak<Door>,
    socket: Weak<TcpListener>,
}

/// A door at which nobody accepts yet.
#[derive(Debug)]
pub(super) struct Entrance {
    local: SocketAddr,
    socket: Arc<TcpListener>,
    closed: CancellationToken,
}

/// Which listeners a configuration wants, each of them bound.
#[derive(Debug)]
pub(in crate::relay) struct Plan(Vec<Planned>);

#[derive(Debug)]
enum Planned {
    /// Connections are accepted there already.
    Kept(Arc<Door>),
    /// Nobody keeps its door any more, but the socket is still open.
    Reopened {
        requested: SocketAddr,
        socket: Arc<TcpListener>,
    },
    New(Bound),
}

/// A plan of which nothing can fail any more.
pub(in crate::relay) struct Opened(Vec<Opening>);

enum Opening {
    Kept(Arc<Door>),
    New { requested: SocketAddr, local: SocketAddr, socket: Arc<TcpListener> },
}

impl Planned {
    fn open(self) -> io::Result<Opening> {
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
    /// Of listeners that are bound already.
    pub(in crate::relay) fn of(bound: Vec<Bound>) -> Self {
        Self(bound.into_iter().map(Planned::New).collect())
    }

    /// Makes it ready. Must be called inside of a runtime.
    pub(in crate::relay) fn open(self) -> io::Result<Opened> {
        self.0.into_iter().map(Planned::open).collect::<io::Result<_>>().map(Opened)
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
    /// Finds or binds what the option `address` says, which is resolved; nothing changes yet.
    /// `current` are the doors of the generation in force.
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

    /// Our own listeners on overlapping addresses must not stand in the way.
    fn bind(&self, requested: SocketAddr) -> Result<Bound, RelayError> {
        let overlapping = self.0.iter().filter(|one| overlap(one.local, requested));
        let own: Vec<_> = overlapping.filter_map(|one| one.socket.upgrade()).collect();
        if own.is_empty() {
            return bind_one(requested);
        }
        let socket = transport::listen_beside(requested, &own).map_err(RelayError::Bind)?;
        Ok(Bound { requested, socket })
    }

    /// The listener for an address that was bound already, and is not planned with.
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

    /// The doors of a plan, and the new ones among them. Nobody accepts at those yet: whoever comes
    /// in first must find the doors in force.
    pub(super) fn enter(&mut self, opened: Opened) -> (Doors, Vec<Entrance>) {
        self.0.retain(|listener| listener.socket.strong_count() > 0);
        let mut entrances = Vec::new();
        let doors = opened.0.into_iter().map(|opening| match opening {
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

    /// The addresses that are still open for sessions given out earlier.
    pub(in crate::relay) fn left(&self, current: &Doors) -> Vec<SocketAddr> {
        let open = self.0.iter().filter(|one| one.door.strong_count() > 0);
        let locals = open.map(|one| one.local);
        locals.filter(|local| current.iter().all(|door| door.local != *local)).collect()
    }
}

impl Entrance {
    /// Accepts connections from now on until the door is closed or the relay stops, and hands them
    /// to `admit`. Must be called inside of a runtime.
    pub(super) fn open(self, admit: &Admit, lifecycle: &Lifecycle) {
        let Self { local, socket, closed } = self;
        info!("listening on {local}");
        let accepting = accept(socket, local, closed, Arc::clone(admit));
        lifecycle.spawn(lifecycle.stopping.clone().run_until_cancelled_owned(accepting));
    }
}

/// The addresses of these doors.
pub(in crate::relay) fn addresses(doors: &Doors) -> Vec<SocketAddr> {
    doors.iter().map(|door| door.local).collect()
}

/// Accepts connections until the door is closed.
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
                // One line for a series of failures; the pause keeps it from spinning.
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

/// The next connection that the kernel has completed. It asks the kernel: the runtime may not have
/// heard of the connection yet.
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
        let (doors, entrances) = listeners.enter(plan.open().unwrap());
        for entrance in entrances {
            entrance.open(&admit, lifecycle);
        }
        doors
    }

    /// Somebody keeps both doors all the while, as a session does that nobody has joined.
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

    /// The last who kept a door lets go of it, and a reload returns before its task has run.
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
