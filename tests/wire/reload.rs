//! Reload: what changes, what stays, and what happens when it fails.

use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use nix::sys::signal::Signal;

use crate::harness::{
    Credentials, Database, Identity, Kind, Peer, Relay, Scene, Transfer, empty_send, free_port,
    noise, send, sleep, until,
};

const TABLE: &str = "CREATE TABLE subscriber (username VARCHAR(64), domain VARCHAR(64), \
                     password VARCHAR(64), PRIMARY KEY (username, domain))";

const CHUNK: usize = 256 * 1024;

/// Nobody listens there any more.
#[track_caller]
fn is_left(address: SocketAddr) {
    until(&format!("{address} is left"), || TcpStream::connect(address).is_err());
}

/// The realm of the challenge that a newcomer gets.
#[track_caller]
fn realm(peer: &mut Peer) -> String {
    peer.challenged("realm001").realm
}

/// Sends `file` from alice to bob in chunks, one every few milliseconds until `hurry`.
fn sends_slowly(alice: &mut Peer, file: &[u8], hurry: &AtomicBool) {
    let total = file.len();
    for (number, chunk) in file.chunks(CHUNK).enumerate() {
        let (first, last) = (number * CHUNK + 1, number * CHUNK + chunk.len());
        let head = alice.octets(&format!(
            "MSRP file{number:04} SEND\nTo-Path: {{A}} {{bob}}\nFrom-Path: {{alice}}\n\
             Message-ID: the-file\nByte-Range: {first}-{last}/{total}\nFailure-Report: no\n\
             Content-Type: application/octet-stream\n\n"
        ));
        let flag = if last == total { '$' } else { '+' };
        let end = format!("\r\n-------file{number:04}{flag}\r\n");
        alice.says_octets(&[&head, chunk, end.as_bytes()].concat());
        if !hurry.load(Ordering::Relaxed) {
            sleep(20);
        }
    }
}

/// Nothing of a reload touches a session: a file passes while everything around it is exchanged.
#[test]
fn a_transfer_runs_through_every_reload() {
    const MIB: usize = 1 << 20;
    let length = 200 * MIB;
    let database = Database::new(Kind::Sqlite).expect("a file");
    database.run(TABLE);
    database.run("INSERT INTO subscriber VALUES ('erin', 'example.net', 'secret-erin')");
    let scene = Scene::secure_with("default_domain = example.com");
    let relay = &scene.relay;
    let (mut alice, mut bob) = scene.joined();
    // Reserved before the port changes, joined after that.
    let mut carol = scene.client("carol");
    let first_address = relay.address();
    let file = noise(1, length);
    let hurry = AtomicBool::new(false);
    let mut received = Transfer::default();
    thread::scope(|scope| {
        let (file, hurry) = (&file, &hurry);
        let sending = scope.spawn(move || {
            sends_slowly(&mut alice, file, hurry);
            alice
        });
        let received = &mut received;
        let receiving = scope.spawn(move || {
            *received = bob.receives();
        });

        // A new certificate, port, realm and backend.
        let second = Identity::new();
        relay.install(&second);
        let port = free_port();
        relay.configure(&format!(
            "address = 127.0.0.1:{port}\ndefault_domain = example.net\nbackend = database"
        ));
        relay.append(&format!("[Database]\n{}", database.options()));
        relay.hup();
        let second_address = relay.addresses()[0];
        assert_eq!(second_address.port(), port);
        let mut erin = scene.stranger_at("erin", second_address, &second);
        erin.logs_in("");
        assert!(erin.session_uri().contains(&format!(":{port}/")), "{}", erin.session_uri());

        // Where carol's session was reserved it can be joined, under the new certificate.
        let mut dave = scene.stranger_at("dave", first_address, &second);
        dave.says(&empty_send("join0001", "{C} {carol}", "{dave}"));
        dave.hears_response("join0001", "200 OK", "{C}");
        let request = carol.message();
        carol.answers(&request, "200 OK");
        is_left(first_address);
        dave.says(&send("talk0001", "{C} {carol}", "{dave}", "still here"));
        dave.hears_response("talk0001", "200 OK", "{C}");

        // A file that makes no sense.
        relay.append("this is no assignment\n");
        relay.signal(Signal::SIGHUP);
        relay.logs("not reloaded: ");
        assert_eq!(realm(&mut scene.stranger_at("alice", second_address, &second)), "example.net");

        // Certificates replaced on disk, without a word to the relay.
        let generation = relay.generation();
        let third = Identity::new();
        relay.install(&third);
        relay.reaches(generation + 1);
        assert_eq!(realm(&mut scene.stranger_at("alice", second_address, &third)), "example.net");

        assert!(!sending.is_finished() && !receiving.is_finished(), "the file was too small");
        hurry.store(true, Ordering::Relaxed);
        sending.join().expect("alice");
        receiving.join().expect("bob");
    });
    assert_eq!(received.body.len(), length);
    assert!(received.body == file, "the file is not what it was");
}

/// A challenge belongs to the process, not to a configuration.
#[test]
fn a_nonce_outlives_a_reload() {
    let scene = Scene::with("");
    let mut alice = scene.stranger("alice");
    let credentials = alice.challenged("auth0001");
    scene.relay.configure("max_auth_attempts = 1");
    scene.relay.hup();
    let mut alice = scene.stranger("alice");
    alice.says_auth("auth0002", &credentials.header(), "");
    alice.hears_code("auth0002", "200");
}

/// What a session was admitted under holds for it to the end; newcomers get what is in force.
#[test]
fn sessions_keep_their_rules() {
    let scene = Scene::with("allow_other_methods = yes");
    let (mut alice, mut bob) = scene.joined();
    scene.relay.configure("allow_other_methods = no");
    scene.relay.reloads();
    let info = |session: &str, to: &str, from: &str| {
        format!("MSRP info0001 INFO\nTo-Path: {session} {to}\nFrom-Path: {from}\n-------info0001$")
    };
    alice.says(&info("{A}", "{bob}", "{alice}"));
    assert_eq!(bob.message().what, "INFO");
    let mut carol = scene.client("carol");
    let mut dave = scene.stranger("dave");
    dave.says(&empty_send("join0001", "{C} {carol}", "{dave}"));
    dave.hears_response("join0001", "200 OK", "{C}");
    let request = carol.message();
    carol.answers(&request, "200 OK");
    carol.says(&info("{C}", "{dave}", "{carol}"));
    carol.hears_code("info0001", "501");
}

/// A session that nobody joins keeps its listener; a reload that wants the address back gets it.
#[test]
fn a_port_that_was_left_can_be_returned_to() {
    let [first, second] = [free_port(), free_port()];
    let scene = Scene::with(&format!("address = 127.0.0.1:{first}"));
    let relay = &scene.relay;
    let alice = scene.client("alice");
    let move_to = |port: u16| {
        relay.configure(&format!("address = 127.0.0.1:{port}"));
        relay.reloads();
        assert_eq!(relay.addresses()[0].port(), port);
    };
    move_to(second);
    assert_eq!(relay.status()["left_addresses"][0], format!("127.0.0.1:{first}"));
    // Longer than it takes to find that nobody waits.
    sleep(1500);
    let mut bob = scene.stranger("bob");
    bob.says(&empty_send("join0001", "{A} {bob}", "{bob}"));
    bob.hears_code("join0001", "481");
    // Where he is he might be given a session at the second port.
    drop(bob);
    move_to(first);
    is_left(([127, 0, 0, 1], second).into());
    drop(alice);
    sleep(1500);
    drop(scene.client("carol"));
    assert!(relay.status()["left_addresses"].as_array().is_some_and(Vec::is_empty));
    // And away again, for good.
    move_to(second);
    is_left(relay.address());
}

/// Whoever was given a URI can be reached by it, however often the port changes meanwhile.
#[test]
fn sessions_are_joined_while_the_port_moves() {
    const MOVES: usize = 60;
    let ports = [free_port(), free_port(), free_port()];
    let scene = Scene::with(&format!("address = 127.0.0.1:{}", ports[0]));
    let moved = AtomicBool::new(false);
    let joined = thread::scope(|scope| {
        let joining: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut joined = 0;
                    while !moved.load(Ordering::Relaxed) {
                        joined += usize::from(joins_by_uri(&scene.relay, &ports));
                    }
                    joined
                })
            })
            .collect();
        for number in 1..=MOVES {
            scene.relay.configure(&format!("address = 127.0.0.1:{}", ports[number % 3]));
            scene.relay.hup();
        }
        moved.store(true, Ordering::Relaxed);
        joining.into_iter().map(|joining| joining.join().expect("a pair")).sum::<usize>()
    });
    assert!(joined > MOVES / 4, "{joined}");
}

/// Alice logs in where the relay listens just now, bob joins her where her URI says; false if she
/// came when the relay was leaving that port.
#[track_caller]
fn joins_by_uri(relay: &Arc<Relay>, ports: &[u16]) -> bool {
    let scene = Scene::on(Arc::clone(relay));
    let listening = |port: &&u16| TcpStream::connect(("127.0.0.1", **port)).is_ok();
    let Some(port) = ports.iter().find(listening) else { return false };
    let Some(mut alice) = scene.stranger_if_open("alice", ([127, 0, 0, 1], *port).into()) else {
        return false;
    };
    alice.logs_in("");
    let uri = alice.session_uri();
    let port = uri.rsplit_once(':').and_then(|(_, rest)| rest.split('/').next());
    let port: u16 = port.and_then(|port| port.parse().ok()).expect("a port");
    sleep(u64::from(port % 7) * 20);
    let mut bob = scene
        .stranger_if_open("bob", ([127, 0, 0, 1], port).into())
        .unwrap_or_else(|| panic!("nobody listens for {uri}"));
    bob.says(&empty_send("join0001", "{A} {alice}", "{bob}"));
    bob.hears_response("join0001", "200 OK", "{A}");
    let request = alice.message();
    alice.answers(&request, "200 OK");
    true
}

/// From all addresses of the machine to one of them and back, on the same port.
#[test]
fn an_address_may_overlap_the_one_before() {
    let port = free_port();
    let scene = Scene::with(&format!("address = 0.0.0.0:{port}"));
    let relay = &scene.relay;
    let [one, other]: [SocketAddr; 2] = [1, 2].map(|last| ([127, 0, 0, last], port).into());
    let reaches = |address| TcpStream::connect(address).is_ok();
    assert!(reaches(one) && reaches(other));
    let alice = scene.client("alice");
    for _ in 0..2 {
        relay.configure(&format!("address = 127.0.0.1:{port}, 127.0.0.2:{port}"));
        relay.reloads();
        relay.configure(&format!("address = 127.0.0.1:{port}"));
        relay.reloads();
        assert_eq!(relay.addresses(), [one]);
        // For alice's sake.
        sleep(1500);
        assert!(reaches(one) && reaches(other));
        relay.configure(&format!("address = 0.0.0.0:{port}"));
        relay.reloads();
        assert!(reaches(one) && reaches(other));
    }
    drop(alice);
    relay.configure(&format!("address = 127.0.0.1:{port}"));
    relay.reloads();
    is_left(other);
    assert!(reaches(one));
    assert!(TcpListener::bind(one).is_err(), "the port is shared with anybody");
}

/// Nothing of a configuration that cannot be had is put in force; the operator hears what to mend.
#[test]
fn a_failed_reload_changes_nothing_and_says_why() {
    let scene = Scene::secure_with("");
    let relay = &scene.relay;
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = taken.local_addr().expect("an address");
    relay.write("other.key", &Identity::new().key_pem);
    for (options, expected) in [
        ("max_auth_attempts = many", vec!["config.ini:", "[Relay] max_auth_attempts = \"many\""]),
        ("certificate = nowhere.crt", vec!["nowhere.crt does not exist"]),
        ("key = other.key", vec!["other.key does not belong to the certificate", "relay.crt"]),
        ("hostname = other.example.com", vec!["other.example.com", "(localhost)"]),
        (&format!("address = {taken}"), vec!["[Relay] address", "in use"]),
        (
            &format!("address = 127.0.0.1:0, {taken}\nlog_level = loud"),
            vec!["[Relay] log_level = \"loud\""],
        ),
    ] {
        relay.configure(options);
        let said = relay.fails_to_reload();
        let file = relay.configuration_file();
        assert!(said.contains(&file.display().to_string()), "{said}");
        for part in expected {
            assert!(said.contains(part), "{part:?} is not in {said:?}");
        }
        let status = relay.status();
        assert_eq!(status["generation"], 1);
        let reason = status["last_failed_reload"]["reason"].as_str().expect("a reason");
        assert!(said.contains(reason.lines().next().expect("a line")), "{said}\n{reason}");
        scene.client("alice");
    }
    fs::remove_file(relay.configuration_file()).expect("a file to remove");
    assert!(relay.fails_to_reload().contains("config.ini: cannot be read"));
    scene.client("alice");
    relay.configure("");
    relay.reloads();
    assert_eq!(relay.generation(), 2);
    relay.logs("not reloaded: ");
}

/// More of the file than certificates and addresses: log level, options that need a restart.
#[test]
fn the_rest_of_the_file_counts_too() {
    let scene = Scene::with("log_level = INFO");
    let relay = &scene.relay;
    drop(scene.client("alice"));
    assert!(!relay.log().contains(" DEBUG "));
    relay.configure("log_level = DEBUG\ncontrol_socket = elsewhere.sock");
    let output = relay.ctl(&["reload"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("control_socket has changed"), "{output:?}");
    drop(scene.stranger("alice"));
    relay.logs(" DEBUG ");
    // As long as it is not in effect.
    let output = relay.ctl(&["reload"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("has changed"), "{output:?}");
    relay.configure("log_level = DEBUG");
    let output = relay.ctl(&["reload"]);
    assert!(!String::from_utf8_lossy(&output.stderr).contains("has changed"), "{output:?}");
}

/// What a reload takes it gives back, whoever is connected meanwhile.
#[test]
fn five_hundred_reloads_leave_nothing_behind() {
    const SESSIONS: u64 = 200;
    const RELOADS: u64 = 500;
    /// Reloads in which sessions come, and after which all is there that is made once.
    const SETTLED: u64 = 200;
    /// A generation that is not given up costs more than 100 KiB.
    const GROWTH: u64 = 6 * 1024;
    let database = Database::new(Kind::MariaDb).or_else(|| Database::new(Kind::Sqlite));
    let database = database.expect("a database");
    database.run(TABLE);
    database.run("INSERT INTO subscriber VALUES ('alice', 'example.com', 'secret-alice')");
    let scene = Scene::secure_with("");
    let relay = &scene.relay;
    let identities = [(); 2].map(|()| Identity::new());
    let users: Vec<String> = (0..1000).map(|n| format!("user{n}@example.com = secret")).collect();
    let mut clients = Vec::new();
    let mut settled = None;
    for number in 1..=RELOADS {
        let identity = &identities[usize::from(number % 2 == 0)];
        relay.install(identity);
        relay.configure(&format!(
            "log_level = ERROR\nbackend = memory, database\nmax_auth_attempts = {number}"
        ));
        let memory = format!("{}\nanother{number}@example.com = secret\n", users.join("\n"));
        // Every other time the connections to the database stay, else they are made anew; those of
        // the sessions that settle are the same ones.
        let timeout = 10 + number.saturating_sub(SETTLED) / 2;
        let options = database.options();
        relay.forget("alice@example.com");
        relay.append(&format!("{memory}[Database]\n{options}timeout = {timeout}\n"));
        relay.hup();
        let mut client = scene.stranger_at("alice", relay.address(), identity);
        client.logs_in("");
        if number <= SETTLED {
            clients.push(client);
        }
        if number == SETTLED {
            settled = Some(Footprint::of(relay));
        }
    }
    let before = settled.expect("more reloads than it takes to settle");
    until("newcomers are gone", || relay.status()["sessions"]["waiting"] == SESSIONS);
    let after = Footprint::of(relay);
    println!("{:?}: {before:?} after {SETTLED}, {after:?} after {RELOADS}", database.kind());
    assert_eq!(relay.status()["generation"], RELOADS + 1);
    // A connection to the control socket, one to the database that is in force, a thread that waits
    // for files: they come and go.
    assert!(after.descriptors <= before.descriptors + 4, "{before:?}, {after:?}");
    assert!(after.threads <= before.threads + 2, "{before:?}, {after:?}");
    assert!(after.resident_kib < before.resident_kib + GROWTH, "{before:?}, {after:?}");
    for client in &mut clients {
        let credentials = client.challenged("more0001");
        client.says_auth("more0002", &credentials.header(), "");
        client.hears_code("more0002", "200");
    }
}

#[derive(Debug)]
struct Footprint {
    resident_kib: u64,
    descriptors: usize,
    threads: u64,
}

impl Footprint {
    fn of(relay: &Relay) -> Self {
        Self {
            resident_kib: relay.resident_kib(),
            descriptors: relay.descriptors(),
            threads: relay.process_status("Threads:"),
        }
    }
}

/// Who may relay is asked of the users in force now, whatever was in force when the session began.
#[test]
fn a_session_is_refreshed_with_the_credentials_in_force() {
    let scene = Scene::with("");
    let relay = &scene.relay;
    let mut alice = scene.client("alice");
    let tries = |alice: &mut Peer, password: &str| {
        let credentials =
            Credentials { password: password.to_owned(), ..alice.challenged("more0001") };
        alice.says_auth("more0002", &credentials.header(), "");
        alice.hears_answer("more0002").what[..3].to_owned()
    };
    assert_eq!(tries(&mut alice, "secret-alice"), "200");
    relay.forget("alice@example.com");
    relay.append("alice@example.com = changed\n");
    relay.reloads();
    assert_eq!(tries(&mut alice, "secret-alice"), "401");
    assert_eq!(tries(&mut alice, "changed"), "200");
    relay.forget("alice@example.com");
    relay.reloads();
    assert_eq!(tries(&mut alice, "changed"), "401");
}

/// After a reload the SQLite file at that path counts, whatever was kept of the one before; also that
/// there is none.
#[test]
fn a_replaced_sqlite_file_counts_from_the_reload_on() {
    let database = |password: &str| {
        let database = Database::new(Kind::Sqlite).expect("a file");
        database.run(TABLE);
        database
            .run(&format!("INSERT INTO subscriber VALUES ('alice', 'example.com', '{password}')"));
        database
    };
    for cache_time in ["", "cache_time = 300\n"] {
        let [old, new] = ["old", "new"].map(database);
        let section = format!("\n[Database]\n{}{cache_time}", old.options());
        let options = "backend = database\nmax_auth_attempts = 0";
        let scene = Scene::on(Arc::new(Relay::configured(options, false, &section)));
        let relay = &scene.relay;
        let code = |password: &str| {
            let mut alice = scene.stranger("alice");
            let credentials =
                Credentials { password: password.to_owned(), ..alice.challenged("auth0001") };
            alice.says_auth("auth0002", &credentials.header(), "");
            alice.hears_answer("auth0002").what[..3].to_owned()
        };
        assert_eq!(code("old"), "200");
        let [old, new] = [old.file(), new.file()];
        fs::rename(new, old).expect("a file in its place");
        relay.reloads();
        assert_eq!([code("old"), code("new")], ["401", "200"]);

        fs::remove_file(old).expect("a file to remove");
        relay.reloads();
        assert_eq!(code("new"), "500");
        let line = relay.logs("ERROR");
        assert!(line.contains("does not exist"), "{line}");
        assert_eq!(relay.log().matches("ERROR").count(), 1, "{}", relay.log());
    }
}
