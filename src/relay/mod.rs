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
//!
//! What holds for it comes from the [`Generation`] that was in force when it was accepted.
//!
//! | what | where |
//! |---|---|
//! | a connection's way, as above | `lobby`, `login`, `bridge`, with `party` and `wire` as what moves |
//! | what is in force: reading, swapping, listening | `configuration` |
//! | who may join whom | `registry` |
//! | watching and steering | `handle`, `status`, `stats` |

mod bridge;
mod configuration;
mod error;
mod handle;
mod lobby;
mod login;
pub mod options;
mod party;
mod registry;
mod stats;
mod status;
mod wire;

use std::{
    fmt, io,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rand::{TryRng, rngs::SysRng};
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{Instrument, info, warn};

use self::{
    bridge::Bridge,
    configuration::{Configuration, Plan},
    party::Party,
    registry::Registry,
    stats::Stats,
};
pub use self::{
    configuration::{Bound, Generation, ReloadError, Reloaded, Source, bind, distinct, resolve},
    error::{Located, RelayError},
    handle::{Handle, Phase},
    options::{Config, TlsOptions},
    status::{Certificate, FailedReload, Sessions, Status},
};
use crate::{auth::Challenger, clock};

/// How long sessions have, once the relay stops, to say their last words.
pub const STOP_TIME: Duration = Duration::from_secs(5);
/// Port of a next hop that names none.
const DEFAULT_PORT: u32 = 2855;

/// The relay, listening.
#[derive(Debug)]
pub struct Relay {
    shared: Arc<Shared>,
}

/// What belongs to the process, not to a configuration.
struct Shared {
    registry: Arc<Registry>,
    challenger: Challenger,
    configuration: Configuration,
    stats: Arc<Stats>,
    started: Instant,
    tasks: TaskTracker,
    phase: watch::Sender<Phase>,
    /// The sessions are being ended.
    stopping: CancellationToken,
    /// Nobody is waited for any more.
    at_once: CancellationToken,
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
    /// A relay that accepts connections on listeners which are bound; must be called inside of a
    /// runtime.
    pub fn new(source: Source, generation: Generation, listeners: Vec<Bound>) -> io::Result<Self> {
        let shared = Arc::new(Shared::new(Configuration::new(source, generation)));
        let generation = shared.configuration.generation();
        shared.registry.add_minter(&generation);
        shared.probe(&generation);
        let opened = Plan::of(listeners).open(generation.number)?;
        shared.configuration.listeners().put_in_force(opened, &shared);
        let watching = configuration::watch(Arc::clone(&shared));
        shared.tasks.spawn(shared.stopping.clone().run_until_cancelled_owned(watching));
        Ok(Self { shared })
    }

    /// What steers it.
    pub fn handle(&self) -> Handle {
        Handle::new(Arc::clone(&self.shared))
    }

    /// Serves until it is told to stop, or has drained; then ends all sessions in order, for
    /// [`STOP_TIME`] at most.
    pub async fn run(self) {
        let Self { shared } = self;
        shared.end_asked_for().await;
        shared.advance(Phase::Stopping);
        info!("stopping: {} sessions", shared.registry.len());
        shared.stopping.cancel();
        shared.registry.stop_all();
        shared.tasks.close();
        tokio::select! {
            () = shared.tasks.wait() => info!("stopped"),
            () = tokio::time::sleep(STOP_TIME) => warn!("stopped; some peers did not take their last bytes"),
            () = shared.at_once.cancelled() => warn!("stopped at once"),
        }
    }
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
    fn new(configuration: Configuration) -> Self {
        Self {
            registry: Arc::default(),
            challenger: Challenger::new(clock::now()),
            configuration,
            stats: Arc::default(),
            started: clock::now(),
            tasks: TaskTracker::new(),
            phase: watch::Sender::new(Phase::Running),
            stopping: CancellationToken::new(),
            at_once: CancellationToken::new(),
        }
    }

    /// Resolves when the sessions that are left are to be ended.
    async fn end_asked_for(&self) {
        let mut phase = self.phase.subscribe();
        let mut patience = None;
        loop {
            let now = *phase.borrow_and_update();
            if now == Phase::Draining {
                info!("draining: {} sessions", self.registry.len());
            }
            if now == Phase::Stopping && patience.is_none() {
                let patience_time = self.configuration.generation().config.process.drain_timeout;
                patience = Some(clock::now() + patience_time);
            }
            let out_of_patience = async {
                match patience {
                    Some(until) => tokio::time::sleep_until(until.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = self.at_once.cancelled() => return,
                () = self.registry.emptied(), if now >= Phase::Draining => return,
                () = out_of_patience => return,
                // The sender is ours.
                _ = phase.changed() => {}
            }
        }
    }

    /// Says in the log whether the new backends of a generation answer; nobody waits for that.
    fn probe(self: &Arc<Self>, generation: &Arc<Generation>) {
        let (shared, generation) = (Arc::clone(self), Arc::clone(generation));
        self.tasks.spawn(async move {
            shared.stopping.run_until_cancelled(generation.stores().probe()).await;
        });
    }

    /// Whether new sessions are refused.
    fn is_leaving(&self) -> bool {
        *self.phase.borrow() >= Phase::Draining
    }

    /// Enters a later phase; false where that is none.
    fn advance(&self, to: Phase) -> bool {
        self.phase.send_if_modified(|phase| {
            let later = to > *phase;
            if later {
                *phase = to;
            }
            later
        })
    }

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
