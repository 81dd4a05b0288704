//! The daemon: command line, start-up, signals, exit status.

use std::{
    env,
    io::{self, Write},
    net::{SocketAddr, TcpListener, ToSocketAddrs},
    path::Path,
    process::ExitCode,
    time::SystemTime,
};

use clap::Parser;
use futures_util::StreamExt;
use msrprelay::{
    cli::msrprelay::Args,
    config::{self, Config, ListenAddress},
    logging,
    relay::{Generation, Relay, RelayError},
    transport,
};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook_tokio::Signals;
use thiserror::Error;
use tokio::sync::Notify;
use tracing::{error, info, level_filters::LevelFilter, warn};

/// Why the daemon ends with status 1.
#[derive(Debug, Error)]
enum Failure {
    #[error(transparent)]
    NoConfig(#[from] config::NotFound),
    #[error(transparent)]
    Config(#[from] config::ConfigError),
    #[error(transparent)]
    Relay(#[from] RelayError),
    #[error("[Relay] address = {address}: {cause}")]
    Bind { address: ListenAddress, cause: io::Error },
    #[error("{0}")]
    System(#[from] io::Error),
    #[error("running in the background is not available in this release: use --no-fork")]
    Background,
}

fn main() -> ExitCode {
    let arguments = Args::parse();
    let outcome = if arguments.check_config { check(&arguments) } else { start(&arguments) };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Not through the log: it may not be set up, or be set to say less.
            let _ = writeln!(io::stderr(), "msrprelay: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn check(arguments: &Args) -> Result<(), Failure> {
    let config = load(arguments).inspect_err(|failure| {
        if let Failure::Config(error) = failure {
            println!("{}", error.warnings.join("\n"));
        }
    })?;
    let generation = Generation::build(&config, None, wall_clock())?;
    for address in &config.relay.address {
        resolve(address)?;
    }
    for warning in config.warnings.iter().chain(&generation.warnings) {
        println!("warning: {warning}");
    }
    if let Some(line) = not_in_force(&config) {
        println!("warning: {line}");
    }
    println!("{}", generation.describe(&config));
    println!("the configuration is good");
    Ok(())
}

fn start(arguments: &Args) -> Result<(), Failure> {
    if !arguments.no_fork {
        return Err(Failure::Background);
    }
    let config = load(arguments)?;
    let level = logging::filter(config.relay.log_level);
    logging::to_terminal(if arguments.debug { level.max(LevelFilter::DEBUG) } else { level });
    info!("starting msrprelay {}", env!("CARGO_PKG_VERSION"));
    for warning in config.warnings.iter().chain(&not_in_force(&config)) {
        warn!("{warning}");
    }

    let listeners = bind(&config.relay.address)?;
    let bound: Vec<SocketAddr> =
        listeners.iter().map(TcpListener::local_addr).collect::<Result<_, _>>()?;
    let generation = Generation::build(&config, bound.first().copied(), wall_clock())?;
    for warning in &generation.warnings {
        warn!("{warning}");
    }
    info!("{}", generation.describe(&config));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let relay = Relay::new(generation, listeners)?;
        for address in bound {
            info!("listening on {address}");
        }
        serve(relay).await
    })?;
    // Whoever is still looked up or dialled is not waited for.
    runtime.shutdown_background();
    Ok(())
}

async fn serve(relay: Relay) -> io::Result<()> {
    let (stop, at_once) = (Notify::new(), Notify::new());
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    let handle = signals.handle();
    let watch = async {
        let mut stops = 0;
        while let Some(signal) = signals.next().await {
            match signal {
                SIGHUP => {
                    warn!("SIGHUP: reloading is not available in this release, restart instead");
                }
                _ if stops == 0 => {
                    stops += 1;
                    stop.notify_one();
                }
                _ => at_once.notify_one(),
            }
        }
    };
    tokio::select! {
        served = relay.run(stop.notified(), at_once.notified()) => served?,
        () = watch => error!("signals are not delivered any more"),
    }
    handle.close();
    Ok(())
}

fn load(arguments: &Args) -> Result<Config, Failure> {
    let program = env::args_os().next().unwrap_or_default();
    let directory = arguments.config_dir.as_deref();
    let file = config::find(Path::new(&program), directory, arguments.config_file.as_deref())?;
    Ok(Config::load(&file)?)
}

/// The one line on options that later releases will act on.
fn not_in_force(config: &Config) -> Option<String> {
    let names = &config.not_in_force;
    (!names.is_empty()).then(|| format!("not in force in this release: {}", names.join(", ")))
}

fn bind(addresses: &[ListenAddress]) -> Result<Vec<TcpListener>, Failure> {
    let mut listeners = Vec::new();
    for address in addresses {
        for resolved in resolve(address)? {
            let listener = transport::listen(resolved)
                .map_err(|cause| Failure::Bind { address: address.clone(), cause })?;
            listeners.push(listener);
        }
    }
    Ok(listeners)
}

/// All addresses of a host name; a number is its own.
fn resolve(address: &ListenAddress) -> Result<Vec<SocketAddr>, Failure> {
    let failed = |cause| Failure::Bind { address: address.clone(), cause };
    let found = (address.host.as_str(), address.port).to_socket_addrs().map_err(failed)?;
    Ok(found.collect())
}

#[expect(clippy::disallowed_methods, reason = "certificates are valid by the wall clock")]
fn wall_clock() -> SystemTime {
    SystemTime::now()
}
