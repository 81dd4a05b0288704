//! What an operator does to a running relay: edits files, sends signals, asks it how it is.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::{Shutdown, SocketAddr},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Output},
    sync::PoisonError,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use super::{Identity, Relay, now, relay::configuration, sleep, until};

impl Relay {
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn configuration_file(&self) -> PathBuf {
        self.directory().join("config.ini")
    }

    /// Writes the configuration anew, as [`Relay::start`] does with these options.
    pub(crate) fn configure(&self, options: &str) {
        self.write("config.ini", &configuration(options, self.secure));
    }

    /// Adds lines to the configuration.
    pub(crate) fn append(&self, lines: &str) {
        let text = fs::read_to_string(self.configuration_file()).expect("the configuration");
        self.write("config.ini", &(text + lines));
    }

    /// Takes the line that begins so out of the configuration.
    pub(crate) fn forget(&self, start: &str) {
        let text = fs::read_to_string(self.configuration_file()).expect("the configuration");
        let left: Vec<&str> = text.lines().filter(|line| !line.starts_with(start)).collect();
        self.write("config.ini", &(left.join("\n") + "\n"));
    }

    /// Puts a file into the relay's directory in one step, as editors and renewal tools do.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.directory().join(name);
        let new = path.with_extension("new");
        fs::write(&new, text).expect("a file");
        fs::rename(new, path).expect("a file in its place");
    }

    /// The relay's own files are those of another identity from now on.
    pub(crate) fn install(&self, identity: &Identity) {
        self.write("relay.key", &identity.key_pem);
        self.write("relay.crt", &identity.certificate_pem);
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.lock().unwrap_or_else(PoisonError::into_inner).id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).expect("a process id");
        kill(Pid::from_raw(pid), signal).expect("a process to signal");
    }

    /// TERM; the line with which it begins to stop.
    #[track_caller]
    pub(crate) fn stops(&self) -> String {
        self.signal(Signal::SIGTERM);
        self.logs("stopping: ")
    }

    /// How the process ends, if it does in that time.
    pub(crate) fn ends_within(&self, patience: Duration) -> Option<ExitStatus> {
        let deadline = now() + patience;
        loop {
            let ended = self.child.lock().unwrap_or_else(PoisonError::into_inner).try_wait();
            match ended.expect("a child of ours") {
                None if now() < deadline => sleep(20),
                ended => return ended,
            }
        }
    }

    pub(crate) fn control_socket(&self) -> PathBuf {
        self.directory().join("msrprelay.sock")
    }

    /// Runs `msrprelayctl` on this relay.
    pub(crate) fn ctl(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_msrprelayctl"))
            .arg("--socket")
            .arg(self.control_socket())
            .args(arguments)
            .output()
            .expect("msrprelayctl")
    }

    /// `msrprelay --check-config` on its configuration.
    pub(crate) fn check(&self) -> Output {
        Command::new(env!("CARGO_BIN_EXE_msrprelay"))
            .arg("--check-config")
            .arg("--config-file")
            .arg(self.configuration_file())
            .output()
            .expect("the relay's program")
    }

    /// How the configuration and messages about it name the place of the line that begins so.
    pub(crate) fn line_of(&self, start: &str) -> String {
        let text = fs::read_to_string(self.configuration_file()).expect("the configuration");
        let line = text.lines().zip(1..).find(|(line, _)| line.starts_with(start));
        format!("{}:{}", self.configuration_file().display(), line.expect("that line").1)
    }

    /// What it says to a line on its control socket.
    #[track_caller]
    pub(crate) fn asked(&self, line: &str) -> Value {
        let mut stream = UnixStream::connect(self.control_socket()).expect("the control socket");
        stream.write_all(line.as_bytes()).expect("a request that is taken");
        stream.shutdown(Shutdown::Write).expect("an end of the request");
        let mut response = String::new();
        BufReader::new(stream).read_line(&mut response).expect("a response");
        serde_json::from_str(&response).expect("JSON")
    }

    /// How it is.
    #[track_caller]
    pub(crate) fn status(&self) -> Value {
        self.asked("{\"command\":\"status\"}")
    }

    #[track_caller]
    pub(crate) fn generation(&self) -> u64 {
        self.status()["generation"].as_u64().expect("a number")
    }

    /// The addresses it listens on now.
    #[track_caller]
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        let status = self.status();
        let addresses = status["addresses"].as_array().expect("a list");
        let parse = |value: &Value| value.as_str().and_then(|text| text.parse().ok());
        addresses.iter().map(|value| parse(value).expect("an address")).collect()
    }

    /// HUP, waited for; it must succeed.
    #[track_caller]
    pub(crate) fn hup(&self) {
        let before = self.generation();
        self.signal(Signal::SIGHUP);
        self.reaches(before + 1);
    }

    /// Waits until this generation is in force.
    #[track_caller]
    pub(crate) fn reaches(&self, generation: u64) {
        until(&format!("generation {generation}"), || self.generation() >= generation);
    }

    /// `msrprelayctl reload` that fails; what it prints for the operator.
    #[track_caller]
    pub(crate) fn fails_to_reload(&self) -> String {
        let output = self.ctl(&["reload"]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(output.stdout.is_empty(), "{output:?}");
        String::from_utf8(output.stderr).expect("text")
    }

    /// `msrprelayctl reload` that succeeds.
    #[track_caller]
    pub(crate) fn reloads(&self) {
        let output = self.ctl(&["reload"]);
        assert!(output.status.success(), "{output:?}\n{}", self.log());
    }

    /// A number out of `/proc/PID/status`.
    pub(crate) fn process_status(&self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()))
            .expect("the process's status");
        status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok())
            .expect("a number")
    }

    /// How many file descriptors it holds.
    pub(crate) fn descriptors(&self) -> usize {
        let descriptors = fs::read_dir(format!("/proc/{}/fd", self.pid()));
        descriptors.expect("the process's descriptors").count()
    }
}
