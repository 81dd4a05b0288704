//! `--systemd`: what a service manager is told, its watchdog, and sockets that it hands over.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    os::{
        fd::AsRawFd as _,
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixDatagram},
    },
    path::Path,
    process::{self, Command, Stdio},
    thread,
    time::Duration,
};

use nix::{
    fcntl::{FcntlArg, FdFlag, fcntl},
    sys::signal::Signal,
};

use crate::harness::{Foreground, PATIENCE, Site, finish, now};

/// The service manager, and the socket to which a service reports.
struct Manager {
    socket: UnixDatagram,
    /// What it would show: the last status that came, whatever it was waiting for then.
    status: String,
}

impl Manager {
    fn at(path: &Path) -> Self {
        Self::with(UnixDatagram::bind(path).expect("a socket"))
    }

    /// Where no file is: in the abstract namespace.
    fn abstract_at(name: &str) -> Self {
        let address = SocketAddr::from_abstract_name(name).expect("a name");
        Self::with(UnixDatagram::bind_addr(&address).expect("a socket"))
    }

    fn with(socket: UnixDatagram) -> Self {
        socket.set_read_timeout(Some(PATIENCE)).expect("a time limit");
        Self { socket, status: String::new() }
    }

    /// The lines of the next message that is none of the watchdog's, and no mere status.
    #[track_caller]
    fn hears(&mut self) -> Vec<String> {
        loop {
            let lines = self.next();
            let small =
                |line: &String| line.starts_with("WATCHDOG=") || line.starts_with("STATUS=");
            if !lines.iter().all(small) {
                return lines;
            }
        }
    }

    #[track_caller]
    fn next(&mut self) -> Vec<String> {
        let mut buffer = [0; 4096];
        let length = self.socket.recv(&mut buffer).expect("a message of the relay");
        let message = String::from_utf8_lossy(&buffer[..length]);
        let lines: Vec<String> = message.lines().map(str::to_owned).collect();
        let mut told = lines.iter().filter_map(|line| line.strip_prefix("STATUS="));
        if let Some(status) = told.next_back() {
            status.clone_into(&mut self.status);
        }
        lines
    }

    /// Waits until the service has this status.
    #[track_caller]
    fn shows(&mut self, status: &str) {
        let deadline = now() + PATIENCE;
        while self.status != status {
            assert!(now() < deadline, "{:?} rather than {status:?}", self.status);
            self.next();
        }
    }

    /// Waits for a message that begins so.
    #[track_caller]
    fn waits_for(&mut self, text: &str) {
        let deadline = now() + PATIENCE;
        while !self.next().iter().any(|line| line.starts_with(text)) {
            assert!(now() < deadline, "{text} never came");
        }
    }
}

fn service(site: &Site) -> Command {
    let mut command = site.command(&["--systemd"]);
    command.env("NOTIFY_SOCKET", site.path("notify"));
    command
}

#[test]
fn the_manager_hears_of_start_reload_and_stop() {
    let site = Site::at(0, "");
    let mut manager = Manager::at(&site.path("notify"));
    let mut relay = Foreground::start(service(&site));
    assert_eq!(manager.hears(), ["READY=1"]);
    let status = "relaying: 0 sessions, 0 of them joined, 0 connections";
    manager.shows(status);
    assert!(!site.path("run/msrprelay.pid").exists(), "the manager knows the pid");

    // One that succeeds, and one that fails: it is ready again after either.
    let good = site.read("config.ini");
    for text in [&good, "nonsense"] {
        site.write("config.ini", text);
        let before = monotonic_usec();
        relay.signal(Signal::SIGHUP);
        let reloading = manager.hears();
        assert_eq!(reloading[0], "RELOADING=1");
        let time = reloading[1].strip_prefix("MONOTONIC_USEC=").expect("the time");
        let time: i128 = time.parse().expect("a number");
        assert!(time >= before && time <= monotonic_usec(), "{before} {time}");
        assert_eq!(manager.hears(), ["READY=1"]);
    }
    manager.shows(&format!("{status}; the last reload failed"));
    site.write("config.ini", &good);
    relay.signal(Signal::SIGHUP);
    manager.shows(status);

    // The status may have been told before the end of the reload that changed it.
    relay.signal(Signal::SIGTERM);
    manager.waits_for("STOPPING=1");
    assert!(relay.ends().success());
}

/// `systemctl status` shows it as long as it lasts; nobody needs to log in for that.
#[test]
fn the_manager_hears_of_a_database_that_goes_and_comes_back() {
    let site = Site::at(0, "");
    let users = site.path("users.db");
    site.edit("backend = memory", "backend = memory, database");
    site.edit("[Memory]", &format!("[Database]\nuri = sqlite://{}\n[Memory]", users.display()));
    let mut manager = Manager::at(&site.path("notify"));
    let began = now();
    let relay = Foreground::start(service(&site));
    let good = "relaying: 0 sessions, 0 of them joined, 0 connections";
    let away = format!("{good}; database away");
    // There is no such file yet.
    manager.shows(&away);
    // At once, and not with the numbers that are told every ten seconds.
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    site.make_table("users.db");
    manager.shows(good);
    // Both: a reload opens the file anew.
    fs::rename(&users, site.path("moved")).expect("a file to move");
    site.edit("[Memory]", "nonsense\n[Memory]");
    relay.signal(Signal::SIGHUP);
    manager.shows(&format!("{good}; the last reload failed"));
    site.edit("nonsense\n[Memory]", "[Memory]");
    relay.signal(Signal::SIGHUP);
    manager.shows(&away);
    site.edit("[Memory]", "nonsense\n[Memory]");
    relay.signal(Signal::SIGHUP);
    manager.shows(&format!("{good}; the last reload failed; database away"));
    fs::rename(site.path("moved"), &users).expect("a file to move");
    manager.shows(&format!("{good}; the last reload failed"));
}

#[test]
fn the_watchdog_hears_of_it_while_it_turns() {
    let site = Site::at(0, "");
    let mut manager = Manager::at(&site.path("notify"));
    let mut command = service(&site);
    command.env("WATCHDOG_USEC", "400000");
    let relay = Foreground::start(command);
    manager.waits_for("READY=1");
    for _ in 0..5 {
        manager.waits_for("WATCHDOG=1");
    }
    // A process that does not run has nothing to say.
    relay.signal(Signal::SIGSTOP);
    thread::sleep(Duration::from_millis(100));
    manager.socket.set_read_timeout(Some(Duration::from_millis(800))).unwrap();
    let mut buffer = [0; 4096];
    while let Ok(length) = manager.socket.recv(&mut buffer) {
        // What was sent before it stopped.
        assert!(length > 0);
    }
    manager.socket.set_read_timeout(Some(PATIENCE)).unwrap();
    relay.signal(Signal::SIGCONT);
    manager.waits_for("WATCHDOG=1");
}

/// As in containers, where the manager is in another mount namespace: `@` stands for the NUL with
/// which such a name begins (`sd_notify(3)`).
#[test]
fn a_manager_without_a_file_is_told_too() {
    let name = format!("msrprelay-test-{}/notify", process::id());
    let mut manager = Manager::abstract_at(&name);
    let site = Site::at(0, "");
    let mut command = site.command(&["--systemd"]);
    command.env("NOTIFY_SOCKET", format!("@{name}")).env("WATCHDOG_USEC", "400000");
    let mut relay = Foreground::start(command);
    assert_eq!(manager.hears(), ["READY=1"]);
    for _ in 0..3 {
        manager.waits_for("WATCHDOG=1");
    }
    relay.signal(Signal::SIGTERM);
    manager.waits_for("STOPPING=1");
    assert!(relay.ends().success());
    assert!(!relay.log.contains("cannot report"), "{}", relay.log);
}

/// A name that is neither is told once, and the relay serves all the same.
#[test]
fn a_manager_that_cannot_be_reached_is_told_of() {
    let site = Site::at(0, "");
    let mut command = site.command(&["--systemd"]);
    command.env("NOTIFY_SOCKET", "vsock:2:1234").env("WATCHDOG_USEC", "200000");
    let mut relay = Foreground::start(command);
    relay.logs("NOTIFY_SOCKET = vsock:2:1234: accepted is");
    relay.logs("listening on");
    thread::sleep(Duration::from_millis(500));
    relay.signal(Signal::SIGTERM);
    assert!(relay.ends().success());
    assert_eq!(relay.log.matches("NOTIFY_SOCKET").count(), 1, "{}", relay.log);
}

/// `systemctl status` shows it, also while the manager waits to try again.
#[test]
fn the_manager_hears_why_a_start_failed() {
    let site = Site::at(0, "log_level = loud\nnonsense\n");
    let mut manager = Manager::at(&site.path("notify"));
    for arguments in [&["--systemd"][..], &["--check-config", "--systemd"]] {
        let mut command = site.command(arguments);
        command.env("NOTIFY_SOCKET", site.path("notify"));
        assert_eq!(finish(command).status.code(), Some(1));
        manager.next();
        for reason in ["config.ini:6: [Relay] log_level = \"loud\"", "; ", "not understood"] {
            assert!(manager.status.contains(reason), "{}", manager.status);
        }
        manager.status.clear();
    }
    // A message that is too long would be dropped as a whole.
    site.configure(&"ü\n".repeat(4000));
    let mut command = site.command(&["--check-config", "--systemd"]);
    command.env("NOTIFY_SOCKET", site.path("notify"));
    assert_eq!(finish(command).status.code(), Some(1));
    manager.next();
    assert!((2900..=3000).contains(&manager.status.len()), "{}", manager.status.len());
}

/// A reload that fails for want of descriptors is no fault of the file.
#[test]
fn a_reload_without_descriptors_says_so() {
    let site = Site::at(0, "");
    let mut relay = Foreground::start(site.command(&["--no-fork"]));
    relay.logs("listening on 127");
    let pid = relay.pid().to_string();
    let limit = |limit: &str| {
        let set =
            Command::new("prlimit").args(["--pid", &pid, &format!("--nofile={limit}:")]).status();
        assert!(set.expect("prlimit of util-linux").success());
    };
    limit("5");
    relay.signal(Signal::SIGHUP);
    let line = relay.logs("not reloaded: the limit on open files is reached, 5 file descriptors: ");
    assert!(line.contains("LimitNOFILE=") && line.contains("ulimit -n"), "{line}");
    relay.logs("not reloaded: ");
    limit("1000");
    relay.signal(Signal::SIGHUP);
    relay.logs("reloaded: generation 2 in force");
    // A fault of another kind has another reason.
    site.write("config.ini", "nonsense");
    relay.signal(Signal::SIGHUP);
    let line = relay.logs("not reloaded: ");
    assert!(!line.contains("open files"), "{line}");
}

#[test]
fn without_the_flag_nobody_is_told() {
    let site = Site::at(0, "");
    let manager = Manager::at(&site.path("notify"));
    let mut command = site.command(&["--no-fork"]);
    command.env("NOTIFY_SOCKET", site.path("notify"));
    let mut relay = Foreground::start(command);
    relay.logs("listening on");
    relay.signal(Signal::SIGTERM);
    assert!(relay.ends().success());
    manager.socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    assert!(manager.socket.recv(&mut [0; 16]).is_err());
}

/// As a service manager does it: the socket outlives the relay, and nobody is refused meanwhile.
#[test]
fn a_socket_that_is_handed_over_is_used() {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    let site = Site::new();
    site.configure(&format!("address = 127.0.0.1:{port}\ndebug_notls = yes\n"));

    let mut waiting = TcpStream::connect(("127.0.0.1", port)).unwrap();
    for _ in 0..2 {
        let mut relay = handed_over(&socket, &site.command(&["--systemd"]));
        relay.logs("listening on");
        assert_eq!(authenticate(&mut waiting), "MSRP t0000001 401 Unauthenticated");
        relay.signal(Signal::SIGTERM);
        assert!(relay.ends().success());
        assert!(!relay.log.contains("not used"), "{}", relay.log);
        waiting = TcpStream::connect(("127.0.0.1", port)).unwrap();
    }
}

#[test]
fn a_socket_that_does_not_fit_is_told() {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let local = socket.local_addr().unwrap();
    let site = Site::at(0, "");
    let mut relay = handed_over(&socket, &site.command(&["--no-fork"]));
    let line = relay.logs("that was handed over is not used");
    assert!(line.contains(&local.to_string()), "{line}");
    relay.logs("listening on");
}

#[test]
fn the_memory_is_told_at_the_end() {
    let site = Site::at(0, "");
    let mut relay = Foreground::start(site.command(&["--no-fork", "--debug-memory"]));
    relay.logs("listening on");
    relay.signal(Signal::SIGTERM);
    let line = relay.logs("memory: ");
    let (_, figures) = line.split_once("memory: ").unwrap();
    let resident: u64 = figures.split_once(' ').unwrap().0.parse().unwrap();
    assert!(resident > 1000, "{line}");
    assert!(line.ends_with("still alive: 0 connections, 0 sessions, 0 queued bytes"), "{line}");
    assert!(relay.ends().success());
}

/// Starts a relay with the socket as descriptor 3 (`sd_listen_fds(3)`).
fn handed_over(socket: &TcpListener, command: &Command) -> Foreground {
    let inherited = socket.try_clone().expect("a copy");
    fcntl(&inherited, FcntlArg::F_SETFD(FdFlag::empty())).expect("a descriptor");
    let script =
        format!("exec 3<&{}; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$@\"", inherited.as_raw_fd());
    let mut shell = Command::new("bash");
    shell.args(["-c", &script, "sh"]).arg(command.get_program()).args(command.get_args());
    shell.stdin(Stdio::null());
    Foreground::start(shell)
}

/// The start line of the answer to an AUTH.
fn authenticate(stream: &mut TcpStream) -> String {
    let request = "MSRP t0000001 AUTH\r\nTo-Path: msrp://127.0.0.1:2855;tcp\r\n\
                   From-Path: msrp://127.0.0.1:9/x;tcp\r\n-------t0000001$\r\n";
    stream.set_read_timeout(Some(PATIENCE)).expect("a time limit");
    stream.write_all(request.as_bytes()).expect("a connection");
    let mut answer = Vec::new();
    let mut buffer = [0; 1024];
    while !answer.windows(2).any(|end| end == b"\r\n") {
        let length = stream.read(&mut buffer).expect("an answer");
        assert!(length > 0, "closed");
        answer.extend_from_slice(&buffer[..length]);
    }
    let answer = String::from_utf8_lossy(&answer).into_owned();
    answer.lines().next().unwrap_or_default().to_owned()
}

fn monotonic_usec() -> i128 {
    let uptime = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).expect("a clock");
    i128::from(uptime.tv_sec()) * 1_000_000 + i128::from(uptime.tv_nsec()) / 1000
}
