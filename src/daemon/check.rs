//! `--check-config`: reports everything that would be wrong at a start, all at once, and binds no
//! socket.

use std::{
    fmt::Display,
    io::{self, Write},
    net::SocketAddr,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use tokio::runtime;

use super::{
    failure::Failure,
    notify::Manager,
    owner::Owner,
    reading::{examine, load, unreadable},
};
use crate::{
    cli::msrprelay::Args,
    clock,
    relay::{self, Config, Generation, RelayError},
};

/// Longest wait for the backends: more than the default `timeout` of a database, so that the warning
/// has the reason.
const BACKEND_PATIENCE: Duration = Duration::from_secs(6);

/// Prints the findings on standard error and the verdict on standard output.
pub(super) fn run(arguments: &Args) -> ExitCode {
    let mut findings = Findings::default();
    match examine(arguments) {
        Ok((config, faults)) => {
            findings.refuse_lines(faults.iter());
            // Before a start by the service manager only errors count, so it need not wait.
            findings.look_at(&Arc::new(config), !arguments.systemd);
        }
        Err(failure) => findings.refuse_lines([failure]),
    }
    if arguments.systemd {
        findings.tell_journal();
    } else {
        findings.tell();
    }
    if findings.errors.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// `--list-files`: the files that the relay's user must be able to read.
pub(super) fn list_files(arguments: &Args) -> ExitCode {
    match load(arguments) {
        Ok(Config { tls, .. }) => {
            for file in tls.certificate.iter().chain(&tls.key) {
                println!("{}", file.display());
            }
            ExitCode::SUCCESS
        }
        Err(failure) => {
            let _ = writeln!(io::stderr(), "msrprelay: {failure}");
            ExitCode::FAILURE
        }
    }
}

#[derive(Default)]
struct Findings {
    errors: Vec<String>,
    warnings: Vec<String>,
    /// What is as it should be, and may surprise.
    notes: Vec<String>,
    /// The configuration that would be in force, in one line.
    in_force: Option<String>,
}

impl Findings {
    /// Each line is an error.
    fn refuse_lines(&mut self, errors: impl IntoIterator<Item = impl Display>) {
        for error in errors {
            self.errors.extend(error.to_string().lines().map(str::to_owned));
        }
    }

    /// Checks what depends on this machine: users, names, files; and with `ask`, whether the
    /// backends answer.
    fn look_at(&mut self, config: &Arc<Config>, ask: bool) {
        self.warnings.extend(config.remarks());
        self.notes.extend(config.notes());
        // With a fault in the file nothing can be built.
        let whole = self.errors.is_empty();
        let owner = Owner::of(config, &mut self.warnings);
        let mut addresses = Vec::new();
        for address in &config.listening.address {
            match relay::resolve(address) {
                Ok(resolved) => addresses.extend(resolved),
                Err(error) => self.refuse(error, config),
            }
        }
        let addresses = relay::distinct(addresses).unwrap_or_else(|error| {
            self.refuse(error, config);
            Vec::new()
        });
        let faults = Generation::faults(config, addresses.first().copied());
        if whole && faults.is_empty() {
            self.build(config, &addresses);
        }
        for error in faults {
            self.refuse(error, config);
        }
        match owner.and_then(|owner| self.look_as(owner.as_ref(), config)) {
            Ok(()) if whole && ask => self.ask_backends(config),
            Ok(()) => {}
            Err(failure) => self.errors.push(failure.to_string()),
        }
    }

    /// As the relay's user, because a database may know its clients by that, and a file has a mode.
    fn ask_backends(&mut self, config: &Config) {
        match runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => {
                let warnings = runtime.block_on(relay::unanswered(config, BACKEND_PATIENCE));
                self.warnings.extend(warnings);
                // Do not wait for a look-up of a name that is still under way.
                runtime.shutdown_background();
            }
            Err(error) => self.warnings.push(format!("the backends were not asked: {error}")),
        }
    }

    /// Becomes the relay's user, and checks which files it cannot read.
    fn look_as(&mut self, owner: Option<&Owner>, config: &Config) -> Result<(), Failure> {
        if let Some(owner) = owner {
            owner.take_over()?;
            self.warnings.extend(unreadable(config, owner));
        }
        Ok(())
    }

    fn build(&mut self, config: &Arc<Config>, addresses: &[SocketAddr]) {
        match Generation::build(Arc::clone(config), addresses.first().copied(), clock::wall()) {
            Ok(generation) => {
                self.warnings.extend_from_slice(&generation.warnings);
                self.in_force = Some(generation.describe(addresses));
            }
            Err(error) => self.refuse(error, config),
        }
    }

    fn refuse(&mut self, error: RelayError, config: &Config) {
        self.errors.push(error.located(config).to_string());
    }

    fn tell(&self) {
        let mut findings = io::stderr().lock();
        for warning in &self.warnings {
            let _ = writeln!(findings, "warning: {warning}");
        }
        for error in &self.errors {
            let _ = writeln!(findings, "error: {error}");
        }
        let (Some(in_force), []) = (&self.in_force, &self.errors[..]) else { return };
        for note in &self.notes {
            let _ = writeln!(findings, "note: {note}");
        }
        let verdict = match self.warnings.len() {
            0 => "the configuration is good".to_owned(),
            1 => "the relay can start with this configuration; see the warning".to_owned(),
            many => format!("the relay can start with this configuration; see the {many} warnings"),
        };
        let _ = writeln!(io::stdout(), "{in_force}\n{verdict}");
    }

    /// For a start by the service manager, which reads priorities in angle brackets
    /// (`sd-daemon(3)`). Where nothing is wrong, the start itself tells the warnings.
    fn tell_journal(&self) {
        if self.errors.is_empty() {
            return;
        }
        let mut findings = io::stderr().lock();
        for warning in &self.warnings {
            let _ = writeln!(findings, "<4>{warning}");
        }
        for error in &self.errors {
            let _ = writeln!(findings, "<3>{error}");
        }
        Manager::new(true).failed(&self.errors.join("\n"));
    }
}
