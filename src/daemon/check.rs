//! `--check-config`: reports everything that would be wrong at a start, all at once, and binds no
//! socket.

use std::{
    io::{self, Write},
    net::SocketAddr,
    process::ExitCode,
    sync::Arc,
};

use super::{
    failure::Failure,
    owner::Owner,
    reading::{load, unreadable},
};
use crate::{
    cli::msrprelay::Args,
    clock,
    relay::{self, Config, Generation, RelayError},
};

/// Prints the findings on standard error and the verdict on standard output.
pub(super) fn run(arguments: &Args) -> ExitCode {
    let mut findings = Findings::default();
    match load(arguments) {
        Ok(config) => findings.look_at(&Arc::new(config)),
        Err(failure) => {
            if let Failure::Config(error) = &failure {
                findings.warnings.extend_from_slice(&error.warnings);
            }
            findings.errors.extend(failure.to_string().lines().map(str::to_owned));
        }
    }
    findings.tell();
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
    /// The configuration that would be in force, in one line.
    in_force: Option<String>,
}

impl Findings {
    /// Checks what depends on this machine: users, names, files.
    fn look_at(&mut self, config: &Arc<Config>) {
        self.warnings.extend(config.remarks());
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
        if faults.is_empty() {
            self.build(config, &addresses);
        }
        for error in faults {
            self.refuse(error, config);
        }
        if let Err(failure) = owner.and_then(|owner| self.look_as(owner.as_ref(), config)) {
            self.errors.push(failure.to_string());
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
        if let (Some(in_force), []) = (&self.in_force, &self.errors[..]) {
            let _ = writeln!(io::stdout(), "{in_force}\nthe configuration is good");
        }
    }
}
