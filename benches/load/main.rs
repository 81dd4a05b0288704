//! Load generator: what the relay costs, end to end, against a baseline.
//!
//! It starts the relay, and itself once more as a relay that only copies octets, drives the same
//! octets through both in turns, and compares the CPU time of the two processes. Sender and
//! receiver run in this process, with the codec of the library.
//!
//! Run by `cargo bench --bench load`; `-- --help` lists the options. Exit status: 0 everything
//! arrived and no limit is exceeded, 1 otherwise.

mod content;
mod copier;
mod duplex;
mod failure;
mod net;
mod process;
mod receiver;
mod report;
mod rig;
mod scenario;
mod sender;
mod wire;

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use clap::Parser as _;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::Value;

use crate::{
    failure::Failure,
    net::Over,
    report::{Contest, Finding},
    rig::Rig,
    scenario::{Scale, Scenario},
    sender::Contestant,
};

/// Measures the relay against one that only copies octets
#[derive(clap::Parser, Debug)]
struct Options {
    /// Only these (repeatable); all by default
    #[arg(long, value_enum)]
    scenario: Vec<Scenario>,
    /// Only over this (repeatable); both by default
    #[arg(long, value_enum)]
    over: Vec<Over>,
    /// Measurements of relay and copier each, not counting one to warm up
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: Option<u32>,
    /// Octets of one bulk measurement, with K, M or G
    #[arg(long, value_parser = octets)]
    size: Option<u64>,
    /// A few seconds in all: proves that every scenario works, judges no figures
    #[arg(long)]
    quick: bool,
    /// One JSON object on stdout instead of the table
    #[arg(long)]
    json: bool,
    /// The relay to measure instead of the one built with this benchmark
    #[arg(long, value_name = "PROGRAM")]
    relay: Option<PathBuf>,
    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
    /// Be the baseline
    #[arg(long, hide = true, value_name = "SINK")]
    copier: Option<SocketAddr>,
    /// Directory of certificate and key of the baseline
    #[arg(long, hide = true, requires = "copier")]
    tls: Option<PathBuf>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    match run(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("load: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<bool, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    raise_descriptor_limit()?;
    if let Some(sink) = options.copier {
        runtime.block_on(copier::run(sink, options.tls.as_deref()))?;
        return Ok(true);
    }
    let findings = runtime.block_on(measure(options))?;
    if options.json {
        let findings: Vec<Value> = findings.iter().map(Finding::to_json).collect();
        println!("{}", serde_json::json!({ "findings": findings }));
    }
    Ok(findings.iter().all(Finding::is_good))
}

async fn measure(options: &Options) -> Result<Vec<Finding>, Failure> {
    let relay = options.relay.clone().unwrap_or_else(rig::built_relay);
    let scale = options.scale();
    let mut findings = Vec::new();
    let mut headed = false;
    for scenario in options.scenarios() {
        for &over in options.transports() {
            let rig = Rig::start(&relay, over).await?;
            let found = scenario::run(*scenario, &rig, &scale).await.map_err(|cause| {
                let log = rig.process(Contestant::Relay).log();
                let scenario = format!("{scenario:?} over {}", over.name());
                Failure::Scenario { scenario, cause: Box::new(cause), log }
            })?;
            if !options.json {
                print(&found, &mut headed);
            }
            findings.extend(found);
        }
    }
    Ok(findings)
}

/// Shows findings as they come; the first line of the table has a heading above it.
fn print(findings: &[Finding], headed: &mut bool) {
    for finding in findings {
        if matches!(finding, Finding::Contest(_)) && !*headed {
            println!("{}", Contest::HEADING);
            *headed = true;
        }
        println!("{finding}");
    }
}

impl Options {
    /// Figures of an unoptimised build mean nothing: as with other benchmarks, `cargo test` only
    /// proves that it runs.
    fn scale(&self) -> Scale {
        let quick = self.quick || (cfg!(debug_assertions) && !self.bench);
        let scale = if quick { Scale::QUICK } else { Scale::FULL };
        Scale {
            rounds: self.rounds.unwrap_or(scale.rounds),
            bulk: self.size.unwrap_or(scale.bulk),
            ..scale
        }
    }

    fn scenarios(&self) -> &[Scenario] {
        if self.scenario.is_empty() { &Scenario::ALL } else { &self.scenario }
    }

    fn transports(&self) -> &[Over] {
        if self.over.is_empty() { &[Over::Tls, Over::Tcp] } else { &self.over }
    }
}

/// Thousands of sessions are twice as many descriptors; children inherit the limit.
fn raise_descriptor_limit() -> Result<(), Failure> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, most, most)?)
}

/// Parses `64K`, `512M`, `2G` or plain octets.
fn octets(text: &str) -> Result<u64, String> {
    let (digits, shift) = match text.as_bytes().last() {
        Some(b'K' | b'k') => (&text[..text.len() - 1], 10),
        Some(b'M' | b'm') => (&text[..text.len() - 1], 20),
        Some(b'G' | b'g') => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    let number: u64 = digits.parse().map_err(|_| "not a number of octets".to_owned())?;
    number
        .checked_mul(1 << shift)
        .filter(|octets| *octets >= 1024)
        .ok_or_else(|| "at least 1K, and less than 16 exbibytes".to_owned())
}
