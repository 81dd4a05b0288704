//! The command line of `msrprelay`, the daemon.

use std::path::PathBuf;

use clap::Parser;

/// MSRP relay (RFC 4975, RFC 4976): lets people behind NAT chat and exchange files.
///
/// Without --no-fork and --systemd it goes into the background as soon as it listens, and logs to
/// syslog.
#[derive(Debug, Parser)]
#[command(name = "msrprelay", version, after_help = AFTER_HELP)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub struct Args {
    /// Stay in the foreground and log to the terminal
    #[arg(long)]
    pub no_fork: bool,
    /// Stay in the foreground, log to the journal, and report the state to the service manager
    #[arg(long)]
    pub systemd: bool,
    /// Directory that holds config.ini
    #[arg(long, value_name = "PATH", conflicts_with = "config_file")]
    pub config_dir: Option<PathBuf>,
    /// The configuration file itself
    #[arg(long, value_name = "FILE")]
    pub config_file: Option<PathBuf>,
    /// Directory of the pid file and the control socket
    #[arg(long, value_name = "PATH", default_value = "/run/msrprelay")]
    pub runtime_dir: PathBuf,
    /// Log at level DEBUG, whatever the configuration says
    #[arg(long)]
    pub debug: bool,
    /// Log how much memory is in use and what is still open when the relay stops
    #[arg(long)]
    pub debug_memory: bool,
    /// Check the configuration and everything it names as a start would, ask the database, print
    /// what is wrong, and exit
    #[arg(long)]
    pub check_config: bool,
    /// Print the names of the certificates and keys that the configuration uses, for the package
    #[arg(long, hide = true)]
    pub list_files: bool,
}

const AFTER_HELP: &str = "Signals:
  HUP        read the configuration and the certificates again
  USR1       take no new sessions, and stop once the last one has ended
  TERM, INT  stop; a second one: at once

Exit status:
  0  stopped as asked
  1  could not start, or failed
  2  wrong usage";
