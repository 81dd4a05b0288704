//! Where connections come in: binding, accepting, and leaving an address behind.
//!
//! A listener that a reload replaced stays open while somebody may still look for a session at the
//! address that it gave out.

use std::{
    io,
    net::{SocketAddr, ToSocketAddrs},
    sync::{Arc, Weak},
    time::Duration,
};

use futures_util::FutureExt as _;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    time::{MissedTickBehavior, interval},
};
use tracing::{Instrument, error, info, info_span};

use super::super::{RelayError, Shared, lobby, serve};
use crate::{config::ListenAddress, transport};

/// Pause after a failed accept: most often there are no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often a replaced listener asks whether it is still needed.
const LEAVE_PERIOD: Duration = Duration::from_secs(1);

/// A listener that is bound, and the address that was asked for: its port may have been 0.
#[derive(Debug)]
pub struct Bound {
    /// As the configuration has it.
    pub requested: SocketAddr,
    /// Not blocking.
    pub socket: std::net::TcpListener,
}

/// Binds all addresses of the option `address`, unless `inherited` has a socket that listens there.
pub fn bind(
    addresses: &[ListenAddress],
    mut inherited: impl FnMut(SocketAddr) -> Option<std::net::TcpListener>,
) -> Result<Vec<Bound>, RelayError> {
    let mut bound = Vec::new();
    for requested in resolve_all(addresses)? {
        bound.push(match inherited(requested) {
            Some(socket) => Bound { requested, socket },
            None => bind_one(requested)?,
        });
    }
    Ok(bound)
}

fn bind_one(requested: SocketAddr) -> Result<Bound, RelayError> {
    let socket = transport::listen(requested).map_err(RelayError::Bind)?;
    Ok(Bound { requested, socket })
}

/// Whether one address stands for the other, too.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    one != other
        && one.port() == other.port()
        && one.is_ipv4() == other.is_ipv4()
        && (one.ip().is_unspecified() || other.ip().is_unspecified())
}

/// All addresses of a host name; a number is its own.
pub fn resolve(address: &ListenAddress) -> Result<Vec<SocketAddr>, RelayError> {
    let found = (address.host.as_str(), address.port).to_socket_addrs();
    let found = found.map_err(|cause| {
        let host = &address.host;
        let text = format!("{host} cannot be resolved: {cause}: mend the name or write an address");
        RelayError::Bind(io::Error::new(cause.kind(), text))
    })?;
    Ok(found.collect())
}

/// Everything that the option stands for, in its order; blocks.
pub(super) fn resolve_all(addresses: &[ListenAddress]) -> Result<Vec<SocketAddr>, RelayError> {
    let mut all = Vec::new();
    for address in addresses {
        all.extend(resolve(address)?);
    }
    distinct(all)
}

/// Each address once: a name may stand for one that is listed as well. One that another covers
/// cannot be bound beside it. Port 0 is another port each time.
pub fn distinct(addresses: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, RelayError> {
    let mut distinct: Vec<SocketAddr> = Vec::new();
    for address in addresses {
        let fixed = address.port() != 0;
        if let Some(other) = distinct.iter().find(|other| fixed && overlap(**other, address)) {
            let (all, one) =
                if other.ip().is_unspecified() { (other, &address) } else { (&address, other) };
            let text = format!("{all} includes {one}: name only one of them");
            return Err(RelayError::Bind(io::Error::new(io::ErrorKind::InvalidInput, text)));
        }
        if !(fixed && distinct.contains(&address)) {
            distinct.push(address);
        }
    }
    Ok(distinct)
}

/// The listeners in use, and those that are being left.
#[derive(Debug, Default)]
pub(in crate::relay) struct Listeners {
    current: Vec<Listener>,
    left: Vec<Listener>,
}

/// One of them; when this is dropped, its task accepts no more.
#[derive(Debug)]
struct Listener {
    door: Door,
    /// Tells its task the number of the generation that does without it.
    replaced: watch::Sender<Option<u64>>,
}

/// A listening socket, as long as some task accepts on it.
#[derive(Debug, Clone)]
struct Door {
    /// Number of the first generation that gave out this address.
    since: u64,
    requested: SocketAddr,
    local: SocketAddr,
    socket: Weak<TcpListener>,
}

impl Door {
    fn is_open(&self) -> bool {
        self.socket.strong_count() > 0
    }
}

/// Which listeners a configuration wants, each of them bound.
#[derive(Debug)]
pub(in crate::relay) struct Plan(Vec<Planned>);

#[derive(Debug)]
enum Planned {
    /// The current one at this place.
    Kept(usize),
    /// One that was being left.
    Returned(Door, Arc<TcpListener>),
    New(Bound),
}

/// A plan of which nothing can fail any more.
pub(in crate::relay) struct Opened {
    listeners: Vec<Opening>,
    /// The generation that wants it.
    number: u64,
}

enum Opening {
    Kept(usize),
    New(Door, Arc<TcpListener>),
}

impl Planned {
    fn open(self, number: u64) -> io::Result<Opening> {
        match self {
            Self::Kept(at) => Ok(Opening::Kept(at)),
            Self::Returned(door, socket) => Ok(Opening::New(door, socket)),
            Self::New(Bound { requested, socket }) => {
                let local = socket.local_addr()?;
                let socket = Arc::new(TcpListener::from_std(socket)?);
                let weak = Arc::downgrade(&socket);
                Ok(Opening::New(Door { since: number, requested, local, socket: weak }, socket))
            }
        }
    }
}

impl Plan {
    /// Of listeners that are bound already.
    pub(in crate::relay) fn of(bound: Vec<Bound>) -> Self {
        Self(bound.into_iter().map(Planned::New).collect())
    }

    /// Makes it ready for generation `number`. Must be called inside of a runtime.
    pub(in crate::relay) fn open(self, number: u64) -> io::Result<Opened> {
        let listeners = self.0.into_iter().map(|planned| planned.open(number));
        Ok(Opened { listeners: listeners.collect::<io::Result<_>>()?, number })
    }
}

impl Listeners {
    /// Finds or binds what the option `address` says, which is resolved; nothing changes yet.
    pub(super) fn plan(&self, addresses: &[SocketAddr]) -> Result<Plan, RelayError> {
        let mut planned = Vec::new();
        for &requested in addresses {
            let found = self.find(requested, &planned);
            planned.push(match found {
                Some(found) => found,
                None => Planned::New(self.bind(requested)?),
            });
        }
        Ok(Plan(planned))
    }

    /// Our own listeners on overlapping addresses must not stand in the way.
    fn bind(&self, requested: SocketAddr) -> Result<Bound, RelayError> {
        let doors = self.current.iter().chain(&self.left).map(|listener| &listener.door);
        let overlapping = doors.filter(|door| overlap(door.local, requested));
        let own: Vec<_> = overlapping.filter_map(|door| door.socket.upgrade()).collect();
        if own.is_empty() {
            return bind_one(requested);
        }
        let socket = transport::listen_beside(requested, &own).map_err(RelayError::Bind)?;
        Ok(Bound { requested, socket })
    }

    /// The listener for an address that was bound already, and is not planned with.
    fn find(&self, requested: SocketAddr, planned: &[Planned]) -> Option<Planned> {
        let free = |at: &usize| !planned.iter().any(|p| matches!(p, Planned::Kept(k) if k == at));
        let mut current = self.current.iter().enumerate();
        let kept = current.find(|(at, one)| one.door.requested == requested && free(at));
        if let Some((at, _)) = kept {
            return Some(Planned::Kept(at));
        }
        let left = self.left.iter().map(|listener| &listener.door);
        left.filter(|door| door.requested == requested).find_map(|door| {
            let taken = |p: &Planned| matches!(p, Planned::Returned(d, _) if d.local == door.local);
            let socket = door.socket.upgrade()?;
            (!planned.iter().any(taken)).then(|| Planned::Returned(door.clone(), socket))
        })
    }

    /// The address of the first listener of a plan.
    pub(super) fn first(&self, plan: &Plan) -> Option<SocketAddr> {
        match plan.0.first()? {
            Planned::Kept(at) => self.current.get(*at).map(|listener| listener.door.local),
            Planned::Returned(door, _) => Some(door.local),
            Planned::New(bound) => bound.socket.local_addr().ok(),
        }
    }

    /// Accepts on the listeners of a plan from now on; the others stay for the sessions of earlier
    /// generations. Must be called inside of a runtime.
    pub(in crate::relay) fn put_in_force(&mut self, opened: Opened, shared: &Arc<Shared>) {
        let Opened { listeners, number } = opened;
        self.left.retain(|left| left.door.is_open());
        let mut before: Vec<Option<Listener>> =
            std::mem::take(&mut self.current).into_iter().map(Some).collect();
        for opening in listeners {
            let listener = match opening {
                Opening::Kept(at) => before.get_mut(at).and_then(Option::take),
                Opening::New(door, socket) => {
                    self.left.retain(|left| left.door.local != door.local);
                    let (replaced, told) = watch::channel(None);
                    info!("listening on {}", door.local);
                    let accepting = accept(socket, door.clone(), told, Arc::clone(shared));
                    shared.tasks.spawn(accepting);
                    Some(Listener { door, replaced })
                }
            };
            self.current.extend(listener);
        }
        for listener in before.into_iter().flatten() {
            listener.replaced.send_replace(Some(number));
            self.left.push(listener);
        }
    }

    /// The addresses of those in use.
    pub(in crate::relay) fn addresses(&self) -> Vec<SocketAddr> {
        self.current.iter().map(|listener| listener.door.local).collect()
    }

    /// The addresses of those that are still open for sessions reserved earlier.
    pub(in crate::relay) fn left(&self) -> Vec<SocketAddr> {
        let doors = self.left.iter().map(|listener| &listener.door);
        doors.filter(|door| door.is_open()).map(|door| door.local).collect()
    }
}

/// Accepts connections until the relay stops, until another task does, or until the listener is
/// replaced and nobody can look for a session there any more.
async fn accept(
    listener: Arc<TcpListener>,
    door: Door,
    mut replaced: watch::Receiver<Option<u64>>,
    shared: Arc<Shared>,
) {
    let mut failing = false;
    // The generations that gave out the address, once it is replaced.
    let mut users = None;
    let mut period = interval(LEAVE_PERIOD);
    period.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shared.stopping.cancelled() => return,
            told = replaced.changed() => {
                if told.is_err() {
                    // A reload has returned to the listener, with a task of its own.
                    return;
                }
                users = replaced.borrow_and_update().map(|number| door.since..number);
                period.reset_immediately();
                continue;
            }
            _ = period.tick(), if users.is_some() => {
                if users.as_ref().is_some_and(|users| !shared.registry.is_awaited(users)) {
                    // Who is connected already is let in: a close would reset them.
                    while let Some(Ok((tcp, peer))) = listener.accept().now_or_never() {
                        admit(tcp, peer, Arc::clone(&shared));
                    }
                    // Unless a later reload has returned to it.
                    if Arc::strong_count(&listener) == 1 {
                        info!("no longer listening on {}", door.local);
                    }
                    return;
                }
                continue;
            }
        };
        match accepted {
            Ok((tcp, peer)) => {
                failing = false;
                admit(tcp, peer, Arc::clone(&shared));
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
}

fn admit(tcp: TcpStream, peer: SocketAddr, shared: Arc<Shared>) {
    let span = info_span!("connection", %peer);
    let visit = shared.configuration.visit();
    let tasks = shared.tasks.clone();
    let task = async move {
        let stage = lobby::enter(Arc::clone(&shared), visit, tcp, peer).await;
        serve(shared, stage).await;
    };
    tasks.spawn(task.instrument(span));
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{
        super::{super::Config, Configuration, Generation, Source},
        *,
    };
    use crate::clock;

    fn shared() -> Arc<Shared> {
        let text = "[Relay]\naddress = 127.0.0.1\ndebug_notls = yes\nbackend = memory\nhostname = relay.example\n";
        let config = Config::parse(text, Path::new("config.ini")).unwrap();
        let generation = Generation::build(Arc::new(config), None, clock::wall()).unwrap();
        let source = Source::new("config.ini".into(), |_| {});
        let shared = Arc::new(Shared::new(Configuration::new(source, generation)));
        shared.registry.add_minter(&shared.configuration.generation());
        shared
    }

    /// Somebody from the first generation waits all the while, for whom both ports stay open.
    #[tokio::test]
    async fn a_listener_has_one_task_however_often_it_is_returned_to() {
        let shared = shared();
        let _visit = shared.configuration.visit();
        let free = || bind_one(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let addresses = [free(), free()].map(|bound| bound.socket.local_addr().unwrap());
        for number in 1..=20 {
            let mut listeners = shared.configuration.listeners();
            let plan = listeners.plan(&addresses[number % 2..][..1]).unwrap();
            // The first generation gave out both.
            let opened = plan.open(1 + u64::from(number > 2)).unwrap();
            listeners.put_in_force(opened, &shared);
        }
        tokio::time::sleep(LEAVE_PERIOD * 2).await;
        assert_eq!(shared.tasks.len(), 2);
        assert_eq!(shared.configuration.listeners().left(), [addresses[1]]);
    }

    #[test]
    fn addresses_are_bound_once() {
        let of = |list: &[&str]| -> Result<Vec<String>, String> {
            let addresses = list.iter().map(|address| address.parse().unwrap()).collect();
            let found = distinct(addresses).map_err(|error| error.to_string())?;
            Ok(found.iter().map(ToString::to_string).collect())
        };
        let once = Ok(vec!["127.0.0.1:1".to_owned()]);
        assert_eq!(of(&["127.0.0.1:1", "127.0.0.1:1"]), once);
        for apart in [
            ["127.0.0.1:0", "127.0.0.1:0"],
            ["0.0.0.0:0", "127.0.0.1:0"],
            ["0.0.0.0:1", "[::]:1"],
            ["0.0.0.0:1", "127.0.0.1:2"],
            ["127.0.0.1:1", "127.0.0.2:1"],
        ] {
            assert_eq!(of(&apart), Ok(apart.map(str::to_owned).to_vec()));
        }
        let covered = Err("0.0.0.0:1 includes 127.0.0.1:1: name only one of them".to_owned());
        assert_eq!(of(&["127.0.0.1:1", "0.0.0.0:1"]), covered);
        assert_eq!(of(&["0.0.0.0:1", "127.0.0.1:1"]), covered);
    }
}
