//! The life of a configuration: one generation is in force, and a reload builds the next one whole
//! or changes nothing.

use std::{
    fmt,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use thiserror::Error;
use tokio::sync::watch;
use tracing::{error, info, warn};

use super::{
    super::{Config, Located, Phase, RelayError, Shared},
    Generation,
    generation::Visit,
    listeners::{self, Listeners, Plan},
};
use crate::{auth::Backend, clock, config::ConfigError, logging::LogLevel};

/// How the relay gets at its configuration again, and what of it concerns the whole process.
pub struct Source {
    file: PathBuf,
    log_level: Box<dyn Fn(LogLevel) + Send + Sync>,
}

impl Source {
    /// `file` is read at each reload; `log_level` is told the level that the option asks for.
    pub fn new(file: PathBuf, log_level: impl Fn(LogLevel) + Send + Sync + 'static) -> Self {
        Self { file, log_level: Box::new(log_level) }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("file", &self.file).finish_non_exhaustive()
    }
}

/// The generation that new connections are given.
#[derive(Debug)]
pub(in crate::relay) struct InForce {
    pub(in crate::relay) generation: Arc<Generation>,
    pub(in crate::relay) since: SystemTime,
}

/// The last failed reload and the last failed renewal of certificates. A successful reload mends
/// both, because it reads all files; a successful renewal mends only a failed renewal.
#[derive(Debug, Clone, Default)]
pub(in crate::relay) struct Failures {
    pub(in crate::relay) reload: Option<Failure>,
    pub(in crate::relay) renewal: Option<Failure>,
}

/// A reload, or a renewal of certificates, that changed nothing.
#[derive(Debug, Clone)]
pub(in crate::relay) struct Failure {
    pub(in crate::relay) at: SystemTime,
    /// The generation that stayed in force.
    pub(in crate::relay) kept: u64,
    pub(in crate::relay) reason: String,
    /// A later reload or renewal succeeded.
    pub(in crate::relay) mended: bool,
}

/// The configuration in force and the way to the next one.
#[derive(Debug)]
pub(in crate::relay) struct Configuration {
    source: Source,
    /// The values with which the process was started.
    fixed: FixedOptions,
    in_force: watch::Sender<Arc<InForce>>,
    listeners: Mutex<Listeners>,
    /// Held while the next generation is built, so that two are never built at once.
    turn: tokio::sync::Mutex<()>,
    failures: Mutex<Failures>,
}

/// The outcome of a successful reload.
#[derive(Debug, Clone)]
pub struct Reloaded {
    /// Its number.
    pub generation: u64,
    /// One line on what holds now.
    pub in_force: String,
    /// What an operator should look at.
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
    /// The relay is stopping.
    #[error("the relay is stopping")]
    Stopping,
    /// The task that built the generation panicked.
    #[error("the reload broke off; see the log")]
    Interrupted,
}

/// The next generation, built but not yet in force.
struct Next {
    generation: Generation,
    /// None: the listeners stay as they are.
    listeners: Option<Plan>,
}

impl Configuration {
    pub(in crate::relay) fn new(source: Source, generation: Generation) -> Self {
        let fixed = FixedOptions::of(&generation.config);
        let in_force = InForce { generation: Arc::new(generation), since: clock::wall() };
        Self {
            source,
            fixed,
            in_force: watch::Sender::new(Arc::new(in_force)),
            listeners: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
            failures: Mutex::default(),
        }
    }

    pub(in crate::relay) fn in_force(&self) -> Arc<InForce> {
        Arc::clone(&self.in_force.borrow())
    }

    /// Gives a new connection the generation in force. After a reload every visit under an earlier
    /// one has been counted.
    pub(super) fn visit(&self) -> Visit {
        Visit::new(Arc::clone(&self.in_force.borrow().generation))
    }

    pub(in crate::relay) fn listeners(&self) -> MutexGuard<'_, Listeners> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(in crate::relay) fn failures(&self) -> MutexGuard<'_, Failures> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who knows the users, in the generation in force.
    pub(in crate::relay) fn backend(&self) -> Arc<dyn Backend> {
        Arc::clone(&self.in_force.borrow().generation.backend)
    }

    pub(in crate::relay) fn generation(&self) -> Arc<Generation> {
        Arc::clone(&self.in_force.borrow().generation)
    }

    /// Reads the file and all that it names.
    pub(in crate::relay) async fn reload(
        &self,
        shared: &Arc<Shared>,
    ) -> Result<Reloaded, ReloadError> {
        let _turn = self.turn.lock().await;
        let phase = Reloading::begin(shared)?;
        info!("reloading {}", self.source.file.display());
        let built = build(shared, Self::read).await;
        let outcome = built.and_then(|next| self.put_in_force(next, shared));
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
        // Only now is the outcome there to be asked for.
        drop(phase);
        outcome
    }

    /// Reads the certificates of the configuration in force again, whose files have changed. None:
    /// they hold the same as before.
    pub(super) async fn renew(
        &self,
        shared: &Arc<Shared>,
    ) -> Result<Option<Reloaded>, ReloadError> {
        let _turn = self.turn.lock().await;
        let outcome = match build(shared, Self::read_certificates).await {
            Ok(Some(next)) => self.put_in_force(next, shared).map(Some),
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

    /// What was wrong with the certificates on disk is mended.
    pub(super) fn mend_renewal(&self) {
        mend(&mut self.failures().renewal);
    }

    /// Logs it, too.
    fn failed(&self, error: &ReloadError, what: &str) -> Failure {
        let reason = error.to_string();
        // A file may have several faults; each gets a line of its own.
        for line in reason.lines() {
            error!("{what}: {line}");
        }
        Failure { at: clock::wall(), kept: self.generation().number, reason, mended: false }
    }

    /// Reads the file and builds what it says; blocks.
    fn read(&self) -> Result<Next, ReloadError> {
        let config = Arc::new(Config::load(&self.source.file)?);
        let failed = |cause: RelayError| cause.located(&config);
        // Names may take long to resolve: others need the listeners meanwhile.
        let addresses = listeners::resolve_all(&config.listening.address).map_err(failed)?;
        let (plan, bound) = {
            let listeners = self.listeners();
            let plan = listeners.plan(&addresses).map_err(failed)?;
            let bound = listeners.first(&plan);
            (plan, bound)
        };
        let generation = self.succeed(Arc::clone(&config), bound).map_err(failed)?;
        Ok(Next { generation, listeners: Some(plan) })
    }

    /// Builds what the configuration in force says, if its certificates are others now; blocks.
    fn read_certificates(&self) -> Result<Option<Next>, ReloadError> {
        let before = self.generation();
        let config = &before.config;
        let bound = self.listeners().addresses().first().copied();
        let failed = |cause: RelayError| cause.located(config);
        let generation = self.succeed(Arc::clone(config), bound).map_err(failed)?;
        if generation.has_certificates_of(&before) {
            return Ok(None);
        }
        Ok(Some(Next { generation, listeners: None }))
    }

    /// Builds the next generation, with what can be carried over from the one in force.
    fn succeed(
        &self,
        config: Arc<Config>,
        bound: Option<SocketAddr>,
    ) -> Result<Generation, RelayError> {
        Generation::succeed(Some(&self.generation()), config, bound, clock::wall())
    }

    fn put_in_force(&self, next: Next, shared: &Arc<Shared>) -> Result<Reloaded, ReloadError> {
        let Next { generation, listeners: plan } = next;
        let generation = Arc::new(generation);
        let config = &generation.config;
        let level = config.logging.log_level;
        let mut warnings = generation.warnings.clone();
        let renewed_whole = plan.is_some();
        if renewed_whole {
            warnings.extend(config.remarks());
            warnings.extend(self.fixed.changed_in(config));
        }
        // All that may fail comes first.
        let opened = plan.map(|plan| plan.open(generation.number)).transpose();
        let opened = opened.map_err(|cause| RelayError::Listen(cause).located(config))?;
        shared.registry.add_minter(&generation);
        let next = InForce { generation: Arc::clone(&generation), since: clock::wall() };
        self.in_force.send_replace(Arc::new(next));
        if let Some(opened) = opened {
            self.listeners().put_in_force(opened, shared);
        }
        if renewed_whole {
            (self.source.log_level)(level);
        }
        shared.probe(&generation);
        let in_force = self.describe();
        Ok(Reloaded { generation: generation.number, in_force, warnings })
    }

    /// One line on what is in force.
    fn describe(&self) -> String {
        let in_force = self.in_force();
        in_force.generation.describe(&self.listeners().addresses())
    }
}

fn mend(failure: &mut Option<Failure>) {
    if let Some(failure) = failure {
        failure.mended = true;
    }
}

/// Runs what blocks on a thread where it may.
async fn build<T: Send + 'static>(
    shared: &Arc<Shared>,
    read: impl FnOnce(&Configuration) -> Result<T, ReloadError> + Send + 'static,
) -> Result<T, ReloadError> {
    let shared = Arc::clone(shared);
    let built = tokio::task::spawn_blocking(move || read(&shared.configuration)).await;
    built.unwrap_or(Err(ReloadError::Interrupted))
}

impl Reloaded {
    fn log(&self, what: &str) {
        for warning in &self.warnings {
            warn!("{warning}");
        }
        info!("{what}: {self}");
    }
}

/// The options that only a start can act on, by name.
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

/// The phase meanwhile; a relay that drains goes on draining.
struct Reloading<'a>(&'a Shared);

impl<'a> Reloading<'a> {
    fn begin(shared: &'a Shared) -> Result<Self, ReloadError> {
        if *shared.phase.borrow() == Phase::Stopping {
            return Err(ReloadError::Stopping);
        }
        shared.advance(Phase::Reloading);
        Ok(Self(shared))
    }
}

impl Drop for Reloading<'_> {
    fn drop(&mut self) {
        self.0.phase.send_if_modified(|phase| {
            let reloading = *phase == Phase::Reloading;
            if reloading {
                *phase = Phase::Running;
            }
            reloading
        });
    }
}
