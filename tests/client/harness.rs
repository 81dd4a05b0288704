//! The programs under test and the directories they work in.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use sha2::{Digest, Sha256};
use tempfile::TempDir;

pub(crate) const DEADLINE: Duration = Duration::from_mins(1);
const PASSWORD: &str = "correct horse";

/// A directory of its own for each test.
pub(crate) struct Room {
    pub(crate) dir: TempDir,
}

impl Room {
    pub(crate) fn new() -> Self {
        let room = Self { dir: tempfile::tempdir().unwrap() };
        for name in ["in", "out"] {
            fs::create_dir(room.dir.path().join(name)).unwrap();
        }
        fs::write(room.password_file(), format!("{PASSWORD}\n")).unwrap();
        room
    }

    pub(crate) fn inbox(&self) -> PathBuf {
        self.dir.path().join("in")
    }

    pub(crate) fn path_file(&self) -> PathBuf {
        self.dir.path().join("path")
    }

    pub(crate) fn password_file(&self) -> PathBuf {
        self.dir.path().join("password")
    }

    pub(crate) fn leftovers(&self) -> usize {
        let names = fs::read_dir(self.inbox()).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_string_lossy().ends_with(".part")).count()
    }

    pub(crate) fn random(&self, name: &str, size: usize) -> PathBuf {
        let path = self.dir.path().join("out").join(name);
        let block: Vec<u8> = (0..size.min(4 << 20)).map(|_| rand::random()).collect();
        let mut file = fs::File::create(&path).unwrap();
        let mut left = size;
        while left > 0 {
            let octets = left.min(block.len());
            file.write_all(&block[..octets]).unwrap();
            left -= octets;
        }
        path
    }

    /// A self-signed pair for `localhost`.
    pub(crate) fn certificate(&self) -> (PathBuf, PathBuf) {
        let (certificate, key) = (self.dir.path().join("c.pem"), self.dir.path().join("k.pem"));
        if !certificate.exists() {
            let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
            fs::write(&certificate, made.cert.pem()).unwrap();
            fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        }
        (certificate, key)
    }

    pub(crate) fn listen_args(&self, tls: bool) -> Vec<String> {
        let mut args = owned(&["--listen", "127.0.0.1"]);
        if tls {
            let (certificate, key) = self.certificate();
            args.extend(owned(&["--certificate", text(&certificate), "--key", text(&key)]));
        } else {
            args.push("--no-tls".to_owned());
        }
        args
    }

    pub(crate) fn direct_args(&self, tls: bool) -> Vec<String> {
        let mut args = owned(&["--direct"]);
        if tls {
            args.extend(owned(&["--ca", text(&self.certificate().0)]));
        }
        args
    }

    pub(crate) fn client(&self, args: &[&str]) -> Running {
        let child = Command::new(env!("CARGO_BIN_EXE_msrpclient"))
            .args(args)
            .current_dir(self.dir.path())
            .env_remove("MSRP_PASSWORD")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Running { child: Some(child) }
    }

    /// Starts a receiver and waits until its path is there.
    pub(crate) fn receive(&self, args: &[&str]) -> Running {
        // A file that was there before is an old path.
        let _: std::io::Result<()> = fs::remove_file(self.path_file());
        let (inbox, path_file) = (self.inbox(), self.path_file());
        let mut all = vec!["receive", "--path-file", text(&path_file)];
        if !args.contains(&"--output") {
            all.extend(["--output", text(&inbox)]);
        }
        all.extend(args);
        let running = self.client(&all);
        wait_for("the path", || self.path_file().exists());
        running
    }

    pub(crate) fn path(&self) -> String {
        fs::read_to_string(self.path_file()).unwrap().trim().to_owned()
    }

    pub(crate) fn send(&self, file: &Path, args: &[&str]) -> Outcome {
        self.send_to(&format!("@{}", self.path_file().display()), file, args)
    }

    pub(crate) fn send_to(&self, to: &str, file: &Path, args: &[&str]) -> Outcome {
        let mut all = vec!["send", text(file), "--to", to];
        all.extend(args);
        self.client(&all).finish()
    }
}

/// A relay with the accounts alice and bob.
pub(crate) struct Relay {
    child: Child,
    port: u16,
    password_file: PathBuf,
    ca: Option<PathBuf>,
}

impl Relay {
    pub(crate) fn start(room: &Room, tls: bool) -> Self {
        let (certificate, key) = room.certificate();
        let security = if tls {
            format!("certificate = {}\nkey = {}\n", certificate.display(), key.display())
        } else {
            "debug_notls = yes\n".to_owned()
        };
        let config = format!(
            "[Relay]\naddress = 127.0.0.1:0\nhostname = localhost\nbackend = memory\n\
             default_domain = example.com\ndenied_peers = none\n\
             session_expiration_time_minimum = 1\n{security}\
             [Memory]\nalice@example.com = {PASSWORD}\nbob@example.com = {PASSWORD}\n"
        );
        let file = room.dir.path().join("config.ini");
        fs::write(&file, config).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_msrprelay"))
            .args(["--no-fork", "--config-file", text(&file)])
            .arg("--runtime-dir")
            .arg(room.dir.path())
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let port = lines
            .find_map(|line| {
                let line = line.unwrap();
                let (_, address) = line.split_once("listening on ")?;
                let port = address.split_once(':')?.1;
                port.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok()
            })
            .expect("the relay says where it listens");
        // A full pipe would stop the relay.
        thread::spawn(move || lines.for_each(drop));
        let ca = tls.then_some(certificate);
        Self { child, port, password_file: room.password_file(), ca }
    }

    pub(crate) fn args(&self, user: &str) -> Vec<String> {
        let (account, relay) = (format!("{user}@example.com"), format!("localhost:{}", self.port));
        let mut args = owned(&[&account, "--relay", &relay]);
        args.extend(owned(&["--password-file", text(&self.password_file)]));
        match &self.ca {
            Some(ca) => args.extend(owned(&["--ca", text(ca)])),
            None => args.push("--no-tls".to_owned()),
        }
        args
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// A running client; dropping it kills it.
pub(crate) struct Running {
    child: Option<Child>,
}

pub(crate) struct Outcome {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Running {
    pub(crate) fn finish(mut self) -> Outcome {
        let mut child = self.child.take().unwrap();
        // Read while it runs, so that it never waits for us.
        let (mut out, mut err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let stdout = thread::spawn(move || whole(&mut out));
        let stderr = thread::spawn(move || whole(&mut err));
        let started = now();
        while child.try_wait().unwrap().is_none() {
            if now() - started > DEADLINE {
                child.kill().unwrap();
                child.wait().unwrap();
                panic!("msrpclient hangs, having said: {}", stderr.join().unwrap());
            }
            thread::sleep(Duration::from_millis(5));
        }
        let status = child.wait_with_output().map(|Output { status, .. }| status).unwrap();
        let (stdout, stderr) = (stdout.join().unwrap(), stderr.join().unwrap());
        Outcome { code: status.code().unwrap_or(-1), stdout, stderr }
    }

    pub(crate) fn kill(mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // It may have ended by itself.
            let _: std::io::Result<()> = child.kill();
            let _: std::io::Result<_> = child.wait();
        }
    }
}

pub(crate) fn wait_for(what: &str, mut there: impl FnMut() -> bool) {
    let started = now();
    while !there() {
        assert!(now() - started < DEADLINE, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

#[expect(clippy::disallowed_methods, reason = "a test's own deadline")]
fn now() -> Instant {
    Instant::now()
}

fn whole(from: &mut impl Read) -> String {
    let mut octets = Vec::new();
    from.read_to_end(&mut octets).unwrap();
    String::from_utf8_lossy(&octets).into_owned()
}

pub(crate) fn numbered(name: &str) -> String {
    match name.rsplit_once('.') {
        Some((stem, extension)) => format!("{stem} (1).{extension}"),
        None => format!("{name} (1)"),
    }
}

pub(crate) fn number_after(text: &str, words: &str) -> u64 {
    let (_, rest) = text.split_once(words).unwrap_or_else(|| panic!("no {words:?} in {text:?}"));
    rest.split(' ').next().unwrap().parse().unwrap()
}

pub(crate) fn sha256(file: &Path) -> String {
    data_encoding::HEXLOWER.encode(&Sha256::digest(fs::read(file).unwrap()))
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn owned(args: &[&str]) -> Vec<String> {
    args.iter().map(|&arg| arg.to_owned()).collect()
}

pub(crate) fn borrowed(args: &[String]) -> Vec<&str> {
    args.iter().map(String::as_str).collect()
}
