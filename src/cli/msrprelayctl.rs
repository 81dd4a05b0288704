//! The command line of `msrprelayctl`.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// Watches and steers a running msrprelay through its control socket.
#[derive(Debug, Parser)]
#[command(name = "msrprelayctl", version, after_help = EXIT_STATUS)]
pub struct Args {
    /// The relay's control socket
    #[arg(long, value_name = "PATH", default_value = "/run/msrprelay/msrprelay.sock")]
    pub socket: PathBuf,
    /// Print one JSON object instead of text
    #[arg(long)]
    pub json: bool,
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_STATUS: &str = "Exit status:
  0  it was done
  1  the relay refused, failed, or is not running
  2  wrong usage";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Show the state of the relay: configuration, certificates, whether the database answers,
    /// connections, sessions
    Status,
    /// Reload the configuration and the certificates; wait for the outcome, print why if it fails,
    /// and warn if the database does not answer
    Reload,
    /// Accept no new sessions, and stop when the last one has ended
    Drain,
}
