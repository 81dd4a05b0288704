//! The control socket and `msrprelayctl`.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::{
        fs::PermissionsExt as _,
        net::{UnixListener, UnixStream},
        process::CommandExt as _,
    },
    process::Command,
    thread,
};

use nix::unistd::geteuid;
use serde_json::Value;

use crate::harness::{Relay, Scene, empty_send, until};

#[test]
fn status_tells_what_goes_on() {
    let scene = Scene::with("");
    let relay = &scene.relay;
    let _joined = scene.joined();
    let _carol = scene.client("carol");
    let _dave = scene.stranger("dave");
    until("four connections", || relay.status()["connections"] == 4);
    let status = relay.status();
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(status["pid"], relay.pid());
    assert_eq!(status["phase"], "running");
    assert_eq!(status["generation"], 1);
    assert_eq!(status["host_name"], "relay.example.com");
    assert_eq!(status["addresses"][0], relay.address().to_string());
    assert_eq!(status["backends"][0], "memory");
    assert_eq!(status["sessions"]["bound"], 1);
    assert_eq!(status["sessions"]["waiting"], 1);
    assert_eq!(status["sessions_started"], 2);
    assert_eq!(status["queued_bytes"], 0);
    assert_eq!(status["log_lines_dropped"], 0);

    let output = relay.ctl(&["status"]);
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(text.starts_with(&format!("msrprelay {} is running", env!("CARGO_PKG_VERSION"))));
    for line in [
        format!("  configuration  {}", relay.configuration_file().display()),
        format!("  listening on   {}", relay.address()),
        "  certificate    none: plain TCP".to_owned(),
        "  connections    4, 4 since the start".to_owned(),
        "  sessions       2 (1 bound, 1 waiting to be joined), 2 since the start".to_owned(),
    ] {
        assert!(text.lines().any(|other| other == line), "{line:?} is not in\n{text}");
    }
}

/// A receiver that does not read: what waits for it is counted, and no more once it is gone.
#[test]
fn status_counts_what_waits_for_a_slow_receiver() {
    let scene = Scene::with("");
    let relay = &scene.relay;
    let (mut alice, bob) = scene.joined();
    let sending = thread::spawn(move || {
        let head = alice.octets(
            "MSRP big00001 SEND\nTo-Path: {A} {bob}\nFrom-Path: {alice}\nMessage-ID: 1\n\
             Byte-Range: 1-*/*\nContent-Type: text/plain\n\n",
        );
        let _ = alice.tries(&head);
        // As much as the kernels and the relay take, and then as long as it lasts.
        while alice.tries(&vec![b'x'; 1 << 20]).is_ok() {}
    });
    until("bytes are queued", || relay.status()["queued_bytes"] != 0);
    drop(bob);
    until("no byte is queued", || relay.status()["queued_bytes"] == 0);
    until("no connection", || relay.status()["connections"] == 0);
    sending.join().expect("alice");
}

#[test]
fn a_dialled_connection_counts_and_a_bridged_session_is_two() {
    let scene = Scene::with("");
    let relay = &scene.relay;
    {
        let _dialled = scene.dialled();
        assert_eq!(relay.status()["connections"], 2);
        assert_eq!(relay.status()["sessions"]["bound"], 1);
    }
    until("no session", || relay.status()["sessions"]["bound"] == 0);
    let mut carol = scene.client("carol");
    let mut dave = scene.client("dave");
    carol.says(&empty_send("join0001", "{C} {D} {dave}", "{carol}"));
    carol.hears_response("join0001", "200 OK", "{C}");
    let request = dave.message();
    dave.answers(&request, "200 OK");
    assert_eq!(relay.status()["sessions"]["bound"], 2);
}

#[test]
fn what_is_no_request_is_answered_so() {
    let scene = Scene::with("");
    let relay = &scene.relay;
    for line in ["\n", "status", "status\n", "{}\n", "{\"command\":\"format\"}\n", "\u{0}\u{ff}\n"]
    {
        let response = relay.asked(line);
        assert_eq!(response["result"], "failed", "{line:?}");
        assert!(response["error"].as_str().is_some_and(|e| e.contains("not understood")));
    }
    let connect = || UnixStream::connect(relay.control_socket()).expect("the control socket");
    drop(connect());
    let mut stream = connect();
    let _ = stream.write_all("x".repeat(100_000).as_bytes());
    let mut response = String::new();
    // The relay need not read all of it, so its words may be lost with the connection.
    let read = BufReader::new(stream).read_line(&mut response);
    assert!(read.is_err() || response.contains("not understood"), "{response}");
    assert_eq!(relay.status()["result"], "status");
}

#[test]
fn somebody_who_says_nothing_holds_up_nobody() {
    let scene = Scene::with("");
    let connect = || UnixStream::connect(scene.relay.control_socket()).expect("a connection");
    let _silent: Vec<_> = (0..8).map(|_| connect()).collect();
    assert_eq!(scene.relay.status()["generation"], 1);
}

#[test]
fn reload_and_drain_say_what_was_done() {
    let scene = Scene::with("");
    let relay = &scene.relay;
    let _alice = scene.client("alice");
    let output = relay.ctl(&["reload"]);
    let said = String::from_utf8(output.stdout).expect("text");
    assert!(output.status.success(), "{said}");
    assert!(said.starts_with("reloaded, generation 2 in force: msrprelay "), "{said}");
    let output = relay.ctl(&["--json", "reload"]);
    let said: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&said["result"], &said["generation"]), (&"reloaded".into(), &3.into()));
    relay.append("nonsense\n");
    let output = relay.ctl(&["--json", "reload"]);
    assert_eq!(output.status.code(), Some(1));
    let said: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(said["result"], "failed");
    let output = relay.ctl(&["drain"]);
    let said = String::from_utf8(output.stdout).expect("text");
    assert!(output.status.success() && said.contains("the last of 1 has ended"), "{said}");
}

#[test]
fn reloads_at_the_same_time_come_one_after_the_other() {
    let scene = Scene::with("");
    let relay = &scene.relay;
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| relay.reloads());
        }
    });
    assert_eq!(relay.generation(), 9);
    scene.client("alice");
}

#[test]
fn the_socket_is_for_owner_and_group() {
    let scene = Scene::with("");
    let relay = &scene.relay;
    let mode = |path| fs::metadata(path).expect("the socket").permissions().mode() & 0o777;
    assert_eq!(mode(relay.control_socket()), 0o660);
    if !geteuid().is_root() {
        eprintln!("not root: that others are refused is not tested");
        return;
    }
    let program = relay.directory().join("ctl");
    // By another process: one that this one forks meanwhile would hold the file open for writing.
    let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_msrprelayctl")).arg(&program).status();
    assert!(copied.expect("cp").success());
    let as_group = |group: u32| {
        let mut command = Command::new(&program);
        command.arg("--socket").arg(relay.control_socket()).arg("status");
        let output = command.uid(65534).gid(group).output().expect("msrprelayctl");
        (output.status.code(), String::from_utf8(output.stderr).expect("text"))
    };
    let open = |path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("another mode");
    };
    open(relay.directory().to_owned(), 0o755);
    let (code, said) = as_group(65534);
    assert!(code == Some(1) && said.contains("permission denied"), "{said}");
    // The group of the socket, which is root's here.
    assert_eq!(as_group(0), (Some(0), String::new()));
    // Should somebody open it to all, their credentials still count.
    open(relay.control_socket(), 0o666);
    let (code, said) = as_group(65534);
    let refusal = "only root, the relay's user and the members of its group";
    assert!(code == Some(1) && said.contains(refusal), "{said}");
    relay.logs("control socket: user 65534 may not use it");
}

/// Two relays on one runtime directory: the first one keeps its socket.
#[test]
fn a_socket_in_use_is_left_alone_and_a_stale_one_replaced() {
    let scene = Scene::with("");
    let relay = &scene.relay;
    let socket = relay.control_socket();
    let second = Relay::start(&format!("control_socket = {}", socket.display()), false);
    second.logs("another relay is listening there");
    drop(second);
    assert_eq!(relay.status()["generation"], 1);

    let other = Scene::with(&format!("control_socket = {}/left", relay.directory().display()));
    let left = relay.directory().join("left");
    assert!(left.exists());
    // Killed, so it cannot tidy up.
    drop(other);
    assert!(left.exists());
    let third = Relay::start(&format!("control_socket = {}", left.display()), false);
    assert!(UnixStream::connect(&left).is_ok(), "{}", third.log());

    let file = relay.directory().join("config.ini");
    let fourth = Relay::start(&format!("control_socket = {}", file.display()), false);
    fourth.logs("a file of that name that is no socket");
    assert!(file.exists());
}

#[test]
fn without_a_relay_it_says_so() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let socket = directory.path().join("none.sock");
    let ctl = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_msrprelayctl"));
        let output = command.arg("--socket").arg(&socket).arg("status").output();
        let output = output.expect("msrprelayctl");
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).expect("text")
    };
    assert!(ctl().contains("no relay is running at"));
    drop(UnixListener::bind(&socket).expect("a socket that dies"));
    assert!(ctl().contains("no relay is running at"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_msrprelayctl"));
    let output = command.arg("explode").output().expect("msrprelayctl");
    assert_eq!(output.status.code(), Some(2));
}
