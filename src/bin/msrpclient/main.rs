//! `msrpclient` sends and receives files over MSRP, for people who test a relay or write scripts.

mod exit;
mod password;
mod progress;
mod reach;
mod receive;
mod send;

use std::process::ExitCode;

use clap::Parser;
use futures_util::StreamExt;
use msrprelay::cli::msrpclient::{Args, Command};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook_tokio::Signals;

use self::exit::{Failure, report};

fn main() -> ExitCode {
    let args = Args::parse();
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => report(&failure),
    }
}

/// Runs the command in one task. Files are read and written in threads of their own.
fn run(args: Args) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|cause| Failure::Failed(format!("cannot start: {cause}")))?;
    runtime.block_on(async {
        let mut signals = Signals::new([SIGINT, SIGTERM])
            .map_err(|cause| Failure::Failed(format!("cannot watch for signals: {cause}")))?;
        tokio::select! {
            outcome = command(args.command) => outcome,
            // Dropping the command removes an unfinished file.
            _ = signals.next() => Err(Failure::Failed("interrupted".to_owned())),
        }
    })
}

async fn command(command: Command) -> Result<(), Failure> {
    match command {
        Command::Send(args) => send::run(args).await,
        Command::Receive(args) => receive::run(args).await,
    }
}
