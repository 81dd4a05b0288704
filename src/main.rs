//! The daemon: command line, start-up, signals, exit status.

use std::{
    env,
    io::{self, Write},
    net::SocketAddr,
    os::unix::net::UnixListener,
    path::Path,
    process::ExitCode,
    time::SystemTime,
};

use clap::Parser;
use futures_util::StreamExt;
use msrprelay::{
    cli::msrprelay::Args,
    config::{self, Config},
    control, logging,
    relay::{self, Generation, Relay, RelayError, Source},
};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook_tokio::Signals;
use thiserror::Error;
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
    let mut addresses = Vec::new();
    for address in &config.relay.address {
        addresses.extend(relay::resolve(address)?);
    }
    for warning in config.remarks().chain(generation.warnings.iter().cloned()) {
        println!("warning: {warning}");
    }
    println!("{}", generation.describe(&config, &addresses));
    println!("the configuration is good");
    Ok(())
}

fn start(arguments: &Args) -> Result<(), Failure> {
    if !arguments.no_fork {
        return Err(Failure::Background);
    }
    let config = load(arguments)?;
    let debug = arguments.debug;
    let level = move |level| {
        let level = logging::filter(level);
        if debug { level.max(LevelFilter::DEBUG) } else { level }
    };
    let set_level = logging::to_terminal(level(config.relay.log_level));
    let source = Source::new(config.source.clone(), move |asked| set_level(level(asked)));
    info!("starting msrprelay {}", env!("CARGO_PKG_VERSION"));
    for warning in config.remarks() {
        warn!("{warning}");
    }

    let listeners = relay::bind(&config.relay.address, |_| None)?;
    let bound: Vec<SocketAddr> =
        listeners.iter().map(|listener| listener.socket.local_addr()).collect::<Result<_, _>>()?;
    let generation = Generation::build(&config, bound.first().copied(), wall_clock())?;
    for warning in &generation.warnings {
        warn!("{warning}");
    }
    let control = config.relay.control_socket.clone();
    let control = control.unwrap_or_else(|| arguments.runtime_dir.join(control::SOCKET_NAME));
    let control = control::bind(&control)
        .inspect_err(|error| warn!("msrprelayctl cannot be used: {error}"))
        .ok();
    info!("{}", generation.describe(&config, &bound));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let relay = Relay::new(source, config, generation, listeners)?;
        serve(relay, control).await
    })?;
    // Whoever is still looked up or dialled is not waited for.
    runtime.shutdown_background();
    Ok(())
}

async fn serve(relay: Relay, control: Option<UnixListener>) -> io::Result<()> {
    let steering = relay.handle();
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP, SIGUSR1])?;
    let handle = signals.handle();
    let watch = async {
        let mut stops = 0;
        while let Some(signal) = signals.next().await {
            match signal {
                // The relay logs the outcome.
                SIGHUP => drop(steering.reload().await),
                SIGUSR1 => steering.drain(),
                _ if stops == 0 => {
                    stops += 1;
                    steering.stop();
                }
                _ => steering.stop_now(),
            }
        }
    };
    let controlled = async {
        if let Some(listener) = control {
            control::serve(listener, steering.clone()).await;
        }
    };
    let served = relay.run();
    tokio::select! {
        _ = async { tokio::join!(served, controlled) } => {}
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

#[expect(clippy::disallowed_methods, reason = "certificates are valid by the wall clock")]
fn wall_clock() -> SystemTime {
    SystemTime::now()
}
