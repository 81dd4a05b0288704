//! The generation in force, and reloads. A reload builds the next generation whole, or changes
//! nothing.

use std::{
    fmt, io,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use thiserror::Error;
use tokio::{sync::watch, time::timeout};
use tracing::{error, info, warn};

use super::{
    super::{Config, Located, RelayError, lifecycle::Lifecycle, quota::Quotas},
    Bound, Generation, binding, descriptors,
    listeners::{Admit, Doors, Listeners, Plan, Prepared, addresses},
    policy::Authorities,
    reading::{NotRead, Progress, READING_TIME, Reading, Readings},
};
use crate::{
    auth::Backend,
    clock,
    config::ConfigError,
    logging::LogLevel,
    transport::{
        Dialler, Pace, Permission, Resolver,
        resolve::{HOSTS, RESOLV_CONF},
    },
};

/// Longest time that a reload waits for another one before it says so.
const TURN_TIME: Duration = Duration::from_secs(5);

/// Where a reload reads the configuration, and how it sets the log level of the process.
pub struct Source {
    file: PathBuf,
    log_level: Box<dyn Fn(LogLevel) + Send + Sync>,
}

impl Source {
    /// `file` is read at each reload. `log_level` is called with the level that it asks for.
    pub fn new(file: PathBuf, log_level: impl Fn(LogLevel) + Send + Sync + 'static) -> Self {
        Self { file, log_level: Box::new(log_level) }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("file", &self.file).finish_non_exhaustive()
    }
}

/// The generation under which connections are accepted.
#[derive(Debug)]
pub(in crate::relay) struct InForce {
    pub(in crate::relay) generation: Arc<Generation>,
    /// Where the relay listens for it.
    pub(in crate::relay) doors: Doors,
    pub(in crate::relay) since: SystemTime,
}

/// The last failed reload and the last failed renewal of certificates. A successful reload mends
/// both, because it reads all files. A successful renewal mends only a failed renewal.
#[derive(Debug, Clone, Default)]
pub(in crate::relay) struct ReloadFailures {
    pub(in crate::relay) reload: Option<ReloadFailure>,
    pub(in crate::relay) renewal: Option<ReloadFailure>,
}

/// A reload that failed and changed nothing. A renewal of certificates is a reload of these alone.
#[derive(Debug, Clone)]
pub struct ReloadFailure {
    /// When it failed.
    pub at: SystemTime,
    /// Number of the generation that stayed in force.
    pub kept: u64,
    /// What the operator must correct, a line for each fault.
    pub reason: String,
    /// The fault is gone: a later reload or renewal succeeded, or the old files are back.
    pub mended: bool,
}

/// The generation in force, and all that is needed to build the next one.
pub(in crate::relay) struct Configuration {
    source: Source,
    lifecycle: Arc<Lifecycle>,
    authorities: Arc<Authorities>,
    /// Takes each connection that is accepted.
    admit: Admit,
    /// The options of the start that a reload cannot change.
    fixed: FixedOptions,
    in_force: watch::Sender<Arc<InForce>>,
    listeners: Mutex<Listeners>,
    /// Held while the next generation is built, so that two are never built at once.
    turn: tokio::sync::Mutex<()>,
    readings: Readings,
    /// What the relay knows of the names of next hops.
    resolver: Arc<Resolver>,
    /// The dials of each user.
    pace: Arc<Pace>,
    failures: Mutex<ReloadFailures>,
}

/// The outcome of a successful reload.
#[derive(Debug, Clone)]
pub struct Reloaded {
    /// The number of the new generation.
    pub generation: u64,
    /// One line that describes it.
    pub in_force: String,
    /// Problems that the operator should look at.
    pub warnings: Vec<String>,
}

impl fmt::Display for Reloaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "generation {} in force: {}", self.generation, self.in_force)
    }
}

/// Why a reload changed nothing.
#[derive(Debug, Error)]
pub enum ReloadError {
    /// The file has errors.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A certificate, an address or a backend that the file names cannot be used.
    #[error(transparent)]
    Relay(#[from] Located),
    /// A file is read for ever, for example on a network mount whose server is dead.
    #[error("{0}; the configuration in force stays")]
    StillReading(Reading),
    /// The limit on file descriptors is why, or may be.
    #[error(
        "the limit on open files is reached, {limit} file descriptors: raise it and restart the \
         relay, under systemd with LimitNOFILE= by `systemctl edit msrprelay`, for init.d with \
         OPEN_FILES in /etc/default/msrprelay, elsewhere with `ulimit -n`\n{cause}"
    )]
    OpenFiles {
        /// The limit.
        limit: u64,
        /// What failed.
        cause: Box<ReloadError>,
    },
    /// The relay is stopping.
    #[error("the relay is stopping")]
    Stopping,
    /// The reload panicked.
    #[error("a fault of the relay broke off the reload; see the log")]
    Interrupted,
}

/// The next generation, built but not yet in force.
struct Successor {
    generation: Generation,
    /// `None` if the listeners stay as they are.
    listeners: Option<Plan>,
}

impl fmt::Debug for Configuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Configuration").field("in_force", &self.in_force()).finish_non_exhaustive()
    }
}

impl Configuration {
    /// Puts the first generation in force. The relay does not listen yet. `admit` takes each
    /// connection that is accepted later.
    pub(in crate::relay) fn new(
        source: Source,
        generation: Generation,
        lifecycle: Arc<Lifecycle>,
        admit: Admit,
    ) -> Self {
        let fixed = FixedOptions::of(&generation.config);
        let authorities = Arc::<Authorities>::default();
        authorities.add(&generation.policy);
        let generation = Arc::new(generation);
        let in_force = InForce { generation, doors: Doors::from([]), since: clock::wall() };
        Self {
            source,
            lifecycle,
            authorities,
            admit,
            fixed,
            in_force: watch::Sender::new(Arc::new(in_force)),
            listeners: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
            readings: Readings::new(READING_TIME),
            resolver: Arc::new(Resolver::of_system()),
            pace: Arc::default(),
            failures: Mutex::default(),
        }
    }

    /// Listens for the first generation. Must be called inside of a runtime.
    pub(in crate::relay) fn listen(&self, listeners: Vec<Bound>) -> io::Result<()> {
        let prepared = Plan::of(listeners).prepare()?;
        let InForce { generation, since, .. } = &*self.in_force();
        self.swap(Arc::clone(generation), Some(prepared), *since);
        Ok(())
    }

    /// Puts a generation in force. `opened`: where it listens, if not where the one before does.
    fn swap(&self, generation: Arc<Generation>, opened: Option<Prepared>, since: SystemTime) {
        let (doors, entrances) = match opened {
            Some(opened) => self.listeners().enter(opened),
            None => (Arc::clone(&self.in_force().doors), Vec::new()),
        };
        probe(&generation, &self.lifecycle);
        self.in_force.send_replace(Arc::new(InForce { generation, doors, since }));
        for entrance in entrances {
            entrance.open(&self.admit, &self.lifecycle);
        }
    }

    pub(in crate::relay) fn in_force(&self) -> Arc<InForce> {
        Arc::clone(&self.in_force.borrow())
    }

    /// How many connections and sessions there may be now.
    pub(in crate::relay) fn quotas(&self) -> Quotas {
        self.in_force.borrow().generation.quotas
    }

    /// The idle timeout of sessions that are granted now.
    pub(in crate::relay) fn idle_timeout(&self) -> Option<Duration> {
        self.in_force.borrow().generation.config.limits.idle_timeout
    }

    /// The backends in force, as one.
    pub(in crate::relay) fn backend(&self) -> Arc<dyn Backend> {
        Arc::clone(&self.in_force.borrow().generation.backend)
    }

    /// What the relay dials with, by the generation in force.
    pub(in crate::relay) fn dialler(&self) -> Dialler {
        let Generation { client, peers, services, .. } = &*self.in_force().generation;
        let permission = Permission {
            peers: Arc::clone(peers),
            listeners: self.listeners().open().collect(),
            services: Arc::clone(services),
            pace: Arc::clone(&self.pace),
        };
        Dialler {
            tls: Arc::clone(client),
            resolver: Arc::clone(&self.resolver),
            permission: Some(permission),
        }
    }

    /// How the relay finds the hosts that it dials.
    pub(in crate::relay) fn resolver(&self) -> &Arc<Resolver> {
        &self.resolver
    }

    pub(in crate::relay) fn authorities(&self) -> &Arc<Authorities> {
        &self.authorities
    }

    /// The addresses that the generation in force listens on.
    pub(in crate::relay) fn addresses(&self) -> Vec<SocketAddr> {
        addresses(&self.in_force().doors)
    }

    /// The addresses of earlier generations that are still open.
    pub(in crate::relay) fn left_addresses(&self) -> Vec<SocketAddr> {
        let in_force = self.in_force();
        self.listeners().left(&in_force.doors)
    }

    fn listeners(&self) -> MutexGuard<'_, Listeners> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(in crate::relay) fn failures(&self) -> MutexGuard<'_, ReloadFailures> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads `config.ini` and the files that it names, and puts the result in force.
    pub(in crate::relay) async fn reload(self: &Arc<Self>) -> Result<Reloaded, ReloadError> {
        let Ok(_turn) = timeout(TURN_TIME, self.turn.lock()).await else {
            // None: it is past reading, or has broken off.
            let under_way = self.readings.last();
            let error = under_way.map_or(ReloadError::Interrupted, ReloadError::StillReading);
            self.failures().reload = Some(self.failed(&error, "not reloaded"));
            return Err(error);
        };
        let phase = self.lifecycle.begin_reload().ok_or(ReloadError::Stopping)?;
        info!("reloading {}", self.source.file.display());
        let built = self.build("reload", Self::read).await;
        let outcome = built.and_then(|next| self.put_in_force(next));
        let outcome = outcome.map_err(|cause| match descriptors::exhausted() {
            Some(limit) => ReloadError::OpenFiles { limit, cause: Box::new(cause) },
            None => cause,
        });
        match &outcome {
            Ok(reloaded) => {
                reloaded.log("reloaded");
                let mut failures = self.failures();
                mend(&mut failures.reload);
                mend(&mut failures.renewal);
            }
            Err(error) => {
                self.failures().reload = Some(self.failed(error, "not reloaded"));
            }
        }
        // Whoever watches the phase may now ask for the outcome.
        drop(phase);
        outcome
    }

    /// Reads the certificates of the configuration in force again, after their files have changed.
    /// `None` if the certificates are the same as before.
    pub(super) async fn renew(self: &Arc<Self>) -> Result<Option<Reloaded>, ReloadError> {
        let _turn = self.turn.lock().await;
        let outcome = match self.build("renewal of certificates", Self::read_certificates).await {
            Ok(Some(next)) => self.put_in_force(next).map(Some),
            Ok(None) => Ok(None),
            Err(error) => Err(error),
        };
        match &outcome {
            Ok(Some(reloaded)) => {
                reloaded.log("certificate files have changed");
                self.mend_renewal();
            }
            Ok(None) => self.mend_renewal(),
            Err(error) => {
                let what = "certificate files have changed, the old ones stay in use";
                self.failures().renewal = Some(self.failed(error, what));
            }
        }
        outcome
    }

    /// Marks the last failed renewal as mended.
    pub(super) fn mend_renewal(&self) {
        mend(&mut self.failures().renewal);
    }

    /// Logs an error, and makes the record of it.
    fn failed(&self, error: &ReloadError, what: &str) -> ReloadFailure {
        let reason = error.to_string();
        // A file may have several faults. Each gets a line of its own.
        for line in reason.lines() {
            error!("{what}: {line}");
        }
        ReloadFailure {
            at: clock::wall(),
            kept: self.in_force().generation.number,
            reason,
            mended: false,
        }
    }

    /// Reads `config.ini` and builds a generation from it. Blocks.
    fn read(&self, progress: &Progress) -> Result<Successor, ReloadError> {
        progress.reads(&format_args!("{RESOLV_CONF} and {HOSTS}"));
        self.resolver.reread();
        progress.reads(&self.source.file.display());
        let config = Arc::new(Config::load(&self.source.file)?);
        let failed = |cause: RelayError| cause.located(&config);
        // DNS may be slow, so names are resolved before the listeners are locked.
        progress.reads(&"the names in address");
        let addresses = binding::resolve_all(&config.listening.address).map_err(failed)?;
        let current = &self.in_force().doors;
        let plan = self.listeners().plan(&addresses, current).map_err(failed)?;
        let generation =
            self.succeed(Arc::clone(&config), plan.first(), progress).map_err(failed)?;
        Ok(Successor { generation, listeners: Some(plan) })
    }

    /// Builds a generation from the configuration in force. `None` if its certificates have not
    /// changed. Blocks.
    fn read_certificates(&self, progress: &Progress) -> Result<Option<Successor>, ReloadError> {
        let before = &self.in_force().generation;
        let config = &before.config;
        let bound = self.addresses().first().copied();
        let failed = |cause: RelayError| cause.located(config);
        let generation = self.succeed(Arc::clone(config), bound, progress).map_err(failed)?;
        if generation.has_certificates_of(before) {
            return Ok(None);
        }
        Ok(Some(Successor { generation, listeners: None }))
    }

    /// Builds the next generation. It keeps what has not changed since the one in force.
    fn succeed(
        &self,
        config: Arc<Config>,
        bound: Option<SocketAddr>,
        progress: &Progress,
    ) -> Result<Generation, RelayError> {
        let before = &self.in_force().generation;
        let reads = |what: &dyn fmt::Display| progress.reads(what);
        Generation::succeed(Some(before), config, bound, clock::wall(), &reads)
    }

    fn put_in_force(&self, next: Successor) -> Result<Reloaded, ReloadError> {
        let Successor { generation, listeners: plan } = next;
        let generation = Arc::new(generation);
        let config = &generation.config;
        let level = config.logging.log_level;
        let mut warnings = generation.warnings.clone();
        let renewed_whole = plan.is_some();
        if renewed_whole {
            warnings.extend(config.remarks());
            warnings.extend(self.fixed.changed_in(config));
        }
        // All that can fail comes first.
        let prepared = plan.map(Plan::prepare).transpose();
        let prepared = prepared.map_err(|cause| RelayError::Listen(cause).located(config))?;
        self.authorities.add(&generation.policy);
        self.swap(Arc::clone(&generation), prepared, clock::wall());
        if renewed_whole {
            (self.source.log_level)(level);
        }
        let in_force = self.describe();
        Ok(Reloaded { generation: generation.number, in_force, warnings })
    }

    /// Runs `read` on a thread of its own. What it has built too late is dropped.
    async fn build<T: Send + 'static>(
        self: &Arc<Self>,
        kind: &'static str,
        read: impl FnOnce(&Self, &Progress) -> Result<T, ReloadError> + Send + 'static,
    ) -> Result<T, ReloadError> {
        let configuration = Arc::clone(self);
        let built = self.readings.run(kind, move |progress| read(&configuration, progress)).await;
        match built {
            Ok(built) => built,
            Err(NotRead::Still(reading)) => Err(ReloadError::StillReading(reading)),
            Err(NotRead::Broken) => Err(ReloadError::Interrupted),
        }
    }

    fn describe(&self) -> String {
        let in_force = self.in_force();
        in_force.generation.describe(&addresses(&in_force.doors))
    }
}

fn mend(failure: &mut Option<ReloadFailure>) {
    if let Some(failure) = failure {
        failure.mended = true;
    }
}

/// Starts a task that probes the new backends of a generation. They log whether they answer.
fn probe(generation: &Arc<Generation>, lifecycle: &Lifecycle) {
    let generation = Arc::clone(generation);
    let probing = async move { generation.stores().probe().await };
    lifecycle.spawn_until_stopping(probing);
}

impl Reloaded {
    fn log(&self, what: &str) {
        for warning in &self.warnings {
            warn!("{warning}");
        }
        info!("{what}: {self}");
    }
}

/// The options that take effect only at the start, with their names.
#[derive(Debug)]
struct FixedOptions([(&'static str, Option<PathBuf>); 3]);

impl FixedOptions {
    fn of(config: &Config) -> Self {
        let process = &config.process;
        Self([
            ("user", process.user.as_ref().map(PathBuf::from)),
            ("group", process.group.as_ref().map(PathBuf::from)),
            ("control_socket", process.control_socket.clone()),
        ])
    }

    fn changed_in(&self, config: &Config) -> impl Iterator<Item = String> {
        let now = Self::of(config);
        let both = self.0.iter().zip(now.0);
        both.filter(|((_, before), (_, now))| before != now).map(|(_, (name, _))| {
            let place = config.place("Relay", name);
            format!("{place} has changed: that takes effect at the next start")
        })
    }
}
