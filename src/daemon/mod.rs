//! The process around the relay: start-up, privileges, signals, the service manager.
//!
//! ```text
//!   configuration -> log -> pid file -> sockets -> generation     most mistakes show here
//!        -> fork (in background) -> thread of the log             no other thread up to here
//!        -> write pid -> change user
//!        -> runtime -> the relay listens -> "ready"               the launching process exits
//!        -> signals, until the relay has stopped
//! ```

mod background;
mod check;
mod failure;
mod listeners;
mod notify;
mod owner;
mod pid_file;
mod reading;
mod resources;
mod serve;

use std::{
    env, fs,
    io::{self, Write},
    net::SocketAddr,
    os::unix::net::UnixListener,
    path::{self, Path},
    process::ExitCode,
    sync::Arc,
};

use nix::sys::signal::SigSet;
use tracing::{error, info, level_filters::LevelFilter, warn};

use self::{
    background::Launcher,
    failure::Failure,
    listeners::Inherited,
    notify::Manager,
    owner::Owner,
    pid_file::PidFile,
    reading::{load, unreadable},
    serve::Serving,
};
use crate::{
    cli::msrprelay::Args,
    clock, control,
    logging::{self, Log, LogLevel, Target},
    relay::{Config, Generation, Relay, RelayError, Source},
};

/// Runs the relay, or checks its configuration, as the command line says.
pub fn run(arguments: &Args) -> ExitCode {
    if arguments.check_config {
        return check::run(arguments);
    }
    if arguments.list_files {
        return check::list_files(arguments);
    }
    let mode = Mode::of(arguments);
    let mut remarks = Vec::new();
    let inherited = Inherited::take(&mut remarks);
    if mode == Mode::Background {
        background::leave_behind(&inherited.descriptors());
    }
    // A signal that the parent process has blocked would never be delivered.
    let _ = SigSet::empty().thread_set_mask();

    let loaded = load(arguments);
    if let Err(Failure::Config(error)) = &loaded {
        remarks.extend_from_slice(&error.warnings);
    }
    let level = loaded.as_ref().map_or(LogLevel::Info, |config| config.logging.log_level);
    let at_least = if arguments.debug { LevelFilter::DEBUG } else { LevelFilter::OFF };
    // Outlives the log, whose last lines the launching process waits for.
    let mut launcher = None;
    let log = match start_log(mode, level, at_least, &mut remarks) {
        Ok(started) => started,
        Err(cause) => {
            let failure = cannot_log(cause);
            let _ = writeln!(io::stderr(), "msrprelay: {failure}");
            return ExitCode::FAILURE;
        }
    };
    let mut startup = Startup { arguments, mode, log, remarks };
    match loaded.and_then(|config| startup.run(config, inherited, &mut launcher)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // A warning may explain the failure, so log the warnings first.
            startup.warn();
            if mode == Mode::Service {
                Manager::new(true).failed(&failure.to_string());
            }
            report(&failure, &mut startup.log)
        }
    }
}

/// How the relay was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// From a terminal (`--no-fork`).
    Foreground,
    /// By a service manager (`--systemd`).
    Service,
    /// As a daemon, in the background (without either option).
    Background,
}

impl Mode {
    fn of(arguments: &Args) -> Self {
        match arguments {
            Args { systemd: true, .. } => Self::Service,
            Args { no_fork: true, .. } => Self::Foreground,
            _ => Self::Background,
        }
    }
}

/// A start of the relay, once the configuration has been read.
struct Startup<'a> {
    arguments: &'a Args,
    mode: Mode,
    log: Log,
    /// Warnings that have not been logged yet.
    remarks: Vec<String>,
}

impl Startup<'_> {
    fn run(
        &mut self,
        config: Config,
        inherited: Inherited,
        launcher: &mut Option<Launcher>,
    ) -> Result<(), Failure> {
        if self.mode != Mode::Background {
            // There is no fork to come.
            self.log.start_writing().map_err(cannot_log)?;
        }
        info!("starting msrprelay {}", env!("CARGO_PKG_VERSION"));
        let config = Arc::new(config);
        resources::raise_descriptor_limit();
        self.remarks.extend(config.remarks());
        let owner = Owner::of(&config, &mut self.remarks)?;
        let given = &self.arguments.runtime_dir;
        // Absolute, because the daemon changes its working directory.
        let directory = path::absolute(given).unwrap_or_else(|_| given.clone());
        let made = make_runtime_dir(&directory, owner.as_ref());
        let mut pid_file = match self.mode {
            Mode::Background => {
                made?;
                Some(PidFile::claim(&directory)?)
            }
            // A bad runtime directory shows when the control socket is bound.
            Mode::Foreground | Mode::Service => None,
        };

        let located = |error: RelayError| error.located(&config);
        let listeners =
            inherited.bind(&config.listening.address, &mut self.remarks).map_err(located)?;
        let bound: Vec<SocketAddr> = listeners
            .iter()
            .map(|listener| listener.socket.local_addr())
            .collect::<io::Result<_>>()
            .map_err(|cause| Failure::System { what: "cannot listen", cause })?;
        let first = bound.first().copied();
        let generation =
            Generation::build(Arc::clone(&config), first, clock::wall()).map_err(located)?;
        self.remarks.extend_from_slice(&generation.warnings);
        let control = self.control_socket(&config, &directory, owner.as_ref());
        self.warn();

        if let Some(pid_file) = &mut pid_file {
            let failed = |cause| Failure::System { what: "cannot go into the background", cause };
            *launcher = Some(background::detach().map_err(failed)?);
            pid_file.write()?;
        }
        // Before a user with a limit on his threads takes over: the log can tell of that limit.
        self.log.start_writing().map_err(cannot_log)?;
        if let Some(owner) = &owner {
            owner.take_over()?;
            info!("running as {owner}");
            self.remarks = unreadable(&config, owner);
            self.warn();
        }
        let level = self.log.level();
        let source = Source::new(config.source().clone(), move |to| level.set(to));
        let serving = Serving {
            manager: Manager::new(self.mode == Mode::Service),
            debug_memory: self.arguments.debug_memory,
            control,
        };
        serving.run(launcher, || {
            info!("{}", generation.describe(&bound));
            Relay::new(source, generation, listeners)
        })
    }

    /// Opens the control socket. A failure is a warning, because the relay can serve without it.
    fn control_socket(
        &mut self,
        config: &Config,
        directory: &Path,
        owner: Option<&Owner>,
    ) -> Option<UnixListener> {
        let configured = config.process.control_socket.clone();
        let path = configured.unwrap_or_else(|| directory.join(control::SOCKET_NAME));
        let bound = control::bind(&path).map_err(|error| error.to_string()).and_then(|socket| {
            let given = owner.map_or(Ok(()), |owner| owner.give(&path));
            given.map(|()| socket).map_err(|error| format!("{}: {error}", path.display()))
        });
        let failed = |error| {
            self.remarks.push(format!(
                "no {error}; msrprelayctl cannot reach this relay. Set another place with \
                 --runtime-dir or [Relay] control_socket"
            ));
        };
        bound.map_err(failed).ok()
    }

    /// Logs the warnings, and prints them if the relay was started as a daemon, whose log is
    /// elsewhere.
    fn warn(&mut self) {
        for remark in self.remarks.drain(..) {
            warn!("{remark}");
            if self.mode == Mode::Background {
                let _ = writeln!(io::stderr(), "msrprelay: warning: {remark}");
            }
        }
    }
}

fn start_log(
    mode: Mode,
    level: LogLevel,
    at_least: LevelFilter,
    remarks: &mut Vec<String>,
) -> io::Result<Log> {
    let (wanted, instead) = match mode {
        Mode::Foreground => (Target::Terminal, Target::Terminal),
        Mode::Service => (Target::Journal, Target::Terminal),
        Mode::Background => {
            let found = Target::of_the_system();
            if found.is_none() {
                remarks.push(
                    "there is no system log at /dev/log: log lines are lost until there is one"
                        .to_owned(),
                );
            }
            (found.unwrap_or(Target::Syslog), Target::Syslog)
        }
    };
    match logging::start(wanted, level, at_least) {
        Err(error) if wanted != instead => {
            remarks.push(format!("the journal cannot be reached: {error}"));
            logging::start(instead, level, at_least)
        }
        started => started,
    }
}

fn cannot_log(cause: io::Error) -> Failure {
    Failure::System { what: "cannot write a log", cause }
}

/// Reports why the relay ends: in the log and on standard error, but only once if these are the
/// same.
fn report(failure: &Failure, log: &mut Log) -> ExitCode {
    let target = log.target;
    if target == Target::Terminal && !log.flush() {
        // Nobody reads it, and it would keep this process for ever.
        return ExitCode::FAILURE;
    }
    for line in failure.to_string().lines() {
        if target != Target::Terminal {
            error!("{line}");
        }
        if !(target == Target::Journal && target.has_stderr()) {
            let _ = writeln!(io::stderr(), "msrprelay: {line}");
        }
    }
    ExitCode::FAILURE
}

/// Creates the runtime directory if it is missing, and gives it to the relay's user. An existing
/// directory keeps its owner, because other programs may use it.
fn make_runtime_dir(path: &Path, owner: Option<&Owner>) -> Result<(), Failure> {
    if path.is_dir() {
        return Ok(());
    }
    let made = fs::create_dir_all(path);
    let given = made.and_then(|()| owner.map_or(Ok(()), |owner| owner.give(path)));
    given.map_err(|cause| Failure::RuntimeDir { path: path.to_owned(), cause })
}
