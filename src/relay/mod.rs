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

mod bridge;
mod lobby;
mod login;
mod party;
mod policy;
mod registry;
mod wire;

use std::{
    fmt, io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rand::{TryRng, rngs::SysRng};
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{Instrument, debug_span, info, warn};

pub use self::policy::Generation;
use self::{bridge::Bridge, party::Party, registry::Registry};
use crate::{
    auth::{Challenger, UriError},
    transport::tls::{HostNameError, TlsError},
};

/// How long sessions have, once the relay stops, to say their last words.
pub const STOP_TIME: Duration = Duration::from_secs(5);
/// Port of a next hop that names none.
const DEFAULT_PORT: u32 = 2855;
/// Pause after a failed accept: most often there are no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why the relay cannot start, or go on.
#[derive(Debug, Error)]
pub enum RelayError {
    /// A certificate, a key, or what TLS needs of them.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The host name is not in the certificate, or there is none to take.
    #[error(transparent)]
    HostName(#[from] HostNameError),
    /// The host name cannot stand in a URI.
    #[error("hostname {host:?} cannot be part of an MSRP URI")]
    UriHost {
        /// The name.
        host: String,
    },
    /// `[Memory]` names a user twice.
    #[error("[Memory] {0}")]
    DuplicateUser(String),
    /// The database cannot be named so.
    #[error("[Database] uri: {0}")]
    DatabaseUri(#[from] UriError),
    /// The address to give out cannot be found.
    #[error("cannot tell the address of this machine, set hostname in [Relay]: {0}")]
    NoAddress(#[source] io::Error),
}

/// The relay, listening.
#[derive(Debug)]
pub struct Relay {
    generation: Arc<Generation>,
    listeners: Vec<TcpListener>,
    shared: Arc<Shared>,
}

/// What belongs to the process, not to a configuration.
struct Shared {
    registry: Arc<Registry>,
    challenger: Challenger,
    tasks: TaskTracker,
    /// The relay is stopping.
    stopping: CancellationToken,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("sessions", &self.registry.len()).finish_non_exhaustive()
    }
}

/// What a connection's task does next. A task is a sequence of stages.
enum Stage {
    Lobby(Box<Party>),
    Bridge(Box<Bridge>),
    Done,
}

impl Relay {
    /// A relay on listeners that are bound; must be called inside of a runtime.
    pub fn new(generation: Generation, listeners: Vec<std::net::TcpListener>) -> io::Result<Self> {
        let registry = Arc::new(Registry::default());
        if let Ok(authority) = generation.policy.mint("authority") {
            registry.add_authority(authority);
        }
        let shared = Shared {
            registry,
            challenger: Challenger::new(clock()),
            tasks: TaskTracker::new(),
            stopping: CancellationToken::new(),
        };
        Ok(Self {
            generation: Arc::new(generation),
            listeners: listeners
                .into_iter()
                .map(TcpListener::from_std)
                .collect::<Result<_, _>>()?,
            shared: Arc::new(shared),
        })
    }

    /// Serves until `stop` resolves; then ends all sessions in order, for [`STOP_TIME`] at most or
    /// until `now` resolves.
    pub async fn run(
        self,
        stop: impl Future<Output = ()>,
        now: impl Future<Output = ()>,
    ) -> io::Result<()> {
        let Self { generation, listeners, shared } = self;
        // Nobody waits for a database that is down; the log tells.
        let backend = Arc::clone(&generation.policy.backend);
        let stopping = shared.stopping.clone();
        shared.tasks.spawn(async move {
            stopping.run_until_cancelled(backend.probe()).await;
        });
        for listener in listeners {
            let accepting = accept(listener, Arc::clone(&generation), Arc::clone(&shared));
            shared.tasks.spawn(accepting);
        }
        stop.await;
        info!("stopping: {} sessions", shared.registry.len());
        shared.stopping.cancel();
        shared.registry.stop_all();
        shared.tasks.close();
        tokio::select! {
            () = shared.tasks.wait() => info!("stopped"),
            () = tokio::time::sleep(STOP_TIME) => warn!("stopped; some peers did not take their last bytes"),
            () = now => warn!("stopped at once"),
        }
        Ok(())
    }
}

async fn accept(listener: TcpListener, generation: Arc<Generation>, shared: Arc<Shared>) {
    let mut failing = false;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shared.stopping.cancelled() => return,
        };
        match accepted {
            Ok((tcp, peer)) => {
                failing = false;
                admit(tcp, peer, Arc::clone(&generation), Arc::clone(&shared));
            }
            Err(error) => {
                // One line for a series of failures; the pause keeps it from spinning.
                if !std::mem::replace(&mut failing, true) {
                    tracing::error!("cannot accept connections: {error}");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn admit(tcp: TcpStream, peer: SocketAddr, generation: Arc<Generation>, shared: Arc<Shared>) {
    let span = debug_span!("connection", %peer);
    let tasks = shared.tasks.clone();
    let task = async move {
        let stage = lobby::enter(Arc::clone(&shared), generation, tcp, peer).await;
        serve(shared, stage).await;
    };
    tasks.spawn(task.instrument(span));
}

/// Goes from stage to stage until the connection is closed or another task's.
async fn serve(shared: Arc<Shared>, mut stage: Stage) {
    loop {
        stage = match stage {
            Stage::Lobby(party) => lobby::return_to(Arc::clone(&shared), *party).await,
            Stage::Bridge(bridge) => {
                let span = bridge.span();
                bridge.run(Arc::clone(&shared)).instrument(span).await
            }
            Stage::Done => return,
        };
    }
}

impl Shared {
    /// Gives a connection a task of its own again.
    fn rehome(self: &Arc<Self>, stage: Stage) {
        let task: Pin<Box<dyn Future<Output = ()> + Send>> =
            Box::pin(serve(Arc::clone(self), stage));
        self.tasks.spawn(task);
    }
}

/// A secret that nobody can guess: 128 random bits, safe in a URI (RFC 4975 §14.1).
fn session_id() -> String {
    let mut bytes = [0; 16];
    // The system's generator does not fail once the system runs; ours is seeded from it.
    if SysRng.try_fill_bytes(&mut bytes).is_err() {
        rand::Rng::fill_bytes(&mut rand::rng(), &mut bytes);
    }
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Where the process meets the clock; everything below is told the time.
#[expect(clippy::disallowed_methods, reason = "this is the room that meets the clock")]
fn clock() -> Instant {
    Instant::now()
}
