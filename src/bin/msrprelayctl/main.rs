//! `msrprelayctl` watches and steers a running relay.

mod show;

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use clap::Parser as _;
use msrprelay::{
    cli::msrprelayctl::{Args, Command},
    control::{Request, Response, client},
};

fn main() -> ExitCode {
    let arguments = Args::parse();
    let request = match arguments.command {
        Command::Status => Request::Status,
        Command::Reload => Request::Reload,
        Command::Drain => Request::Drain,
    };
    let response = client::ask(&arguments.socket, request)
        .unwrap_or_else(|error| Response::Failed { error: error.to_string() });
    match print(&response, arguments.json) {
        Ok(()) if matches!(response, Response::Failed { .. }) => ExitCode::FAILURE,
        Ok(()) => ExitCode::SUCCESS,
        // The reader of stdout has gone, so no message can reach it.
        Err(_) => ExitCode::FAILURE,
    }
}

/// Prints a success on stdout and a failure on stderr. JSON always goes to stdout.
fn print(response: &Response, json: bool) -> io::Result<()> {
    if json {
        let mut line = serde_json::to_vec(response)?;
        line.push(b'\n');
        return io::stdout().write_all(&line);
    }
    match response {
        Response::Failed { error } => {
            for line in error.lines() {
                writeln!(io::stderr(), "msrprelayctl: {line}")?;
            }
            Ok(())
        }
        Response::Status(status) => {
            io::stdout().write_all(show::status(status, show::now()).as_bytes())
        }
        Response::Reloaded { generation, in_force, warnings } => {
            for warning in warnings {
                writeln!(io::stderr(), "msrprelayctl: warning: {warning}")?;
            }
            writeln!(io::stdout(), "reloaded, generation {generation} in force: {in_force}")
        }
        Response::Draining { sessions: 0 } => {
            writeln!(io::stdout(), "draining: no sessions, the relay stops now")
        }
        Response::Draining { sessions } => writeln!(
            io::stdout(),
            "draining: no new sessions; the relay stops when the last of {sessions} has ended"
        ),
    }
}
