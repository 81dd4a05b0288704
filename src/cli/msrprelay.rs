//! The command line of `msrprelay`, the daemon.

use std::path::PathBuf;

use clap::Parser;

/// MSRP relay (RFC 4975, RFC 4976): lets people behind NAT chat and exchange files.
#[derive(Debug, Parser)]
#[command(name = "msrprelay", version)]
pub struct Args {
    /// Stay in the foreground and log to the terminal
    #[arg(long)]
    pub no_fork: bool,
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
    /// Read the configuration, build all that a start would, say what is wrong, and exit
    #[arg(long)]
    pub check_config: bool,
}
