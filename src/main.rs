//! The daemon.

use std::process::ExitCode;

use clap::Parser;
use msrprelay::{cli::msrprelay::Args, daemon};

fn main() -> ExitCode {
    daemon::run(&Args::parse())
}
