//! `--check-config`: all faults in one round, and a description of what is good.

use std::{net::TcpListener, time::Duration};

use crate::harness::{Site, certificate, now};

/// `--check-config` goes on after the first.
#[test]
fn a_check_finds_all_at_once() {
    let site = Site::new();
    let (_, other_key) = certificate(&["relay.example.com"], 2090);
    site.write("other.key", &other_key);
    site.configure(
        "certificate = missing.crt, relay.crt, relay.crt\nkey = relay.key, other.key, relay.key\n\
         address = nowhere.invalid:1\nuser = no-such-user\nadress = x\n[Database]\n\n\n\
         uri = mysql://db/x",
    );
    site.edit("backend = memory", "backend = memory, database");
    site.edit("[Memory]\n", "[Memory]\nalice@Example.com = x\n");
    let checked = site.run(&["--check-config"]);
    assert_eq!(checked.status.code(), Some(1));
    for found in [
        "warning: {dir}/config.ini:7: [Relay] unknown option adress",
        "error: {dir}/config.ini:6: [Relay] user = \"no-such-user\"",
        "error: {dir}/config.ini:5: [Relay] address: nowhere.invalid cannot be resolved",
        "error: {dir}/config.ini:3: [Relay] certificate: certificate file {dir}/missing.crt",
        "error: {dir}/config.ini:4: [Relay] key: the private key in {dir}/other.key",
        "error: {dir}/config.ini: [Memory] user alice@example.com is listed twice",
        "error: {dir}/config.ini:11: [Database] uri: no user: accepted is scheme://user:",
    ] {
        let dir = site.path("").display().to_string();
        let found = found.replace("{dir}", dir.trim_end_matches('/'));
        assert!(
            checked.stderr.lines().any(|line| line.starts_with(&found)),
            "{found}\n{checked:#?}"
        );
    }
}

/// Faults of the file keep none of the others back, and lead to none that are not there.
#[test]
fn a_check_goes_on_after_faults_of_the_file() {
    let site = Site::new();
    site.configure(
        "certificate = missing.crt\nkey = relay.key\nlog_level = loud\nuser = no-such-user\n\
         address = nowhere.invalid:1\nidle_timeout = never\nnonsense",
    );
    site.edit("backend = memory", "backend = memory, telepathy");
    site.edit("[Memory]\n", "[Memory]\nalice@Example.com = x\n");
    let checked = site.run(&["--check-config"]);
    assert_eq!(checked.status.code(), Some(1));
    let dir = site.path("").display().to_string();
    let dir = dir.trim_end_matches('/');
    let expected = [
        ":2: [Relay] backend = ... \"telepathy\"",
        ":5: [Relay] log_level = \"loud\"",
        ":8: [Relay] idle_timeout = \"never\"",
        ":9: [Relay] the line is not understood",
        ":7: [Relay] address: nowhere.invalid cannot be resolved",
        ":3: [Relay] certificate: certificate file",
        ": [Memory] user alice@example.com is listed twice",
        ":6: [Relay] user = \"no-such-user\"",
    ];
    let told: Vec<&str> =
        checked.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(told.len(), expected.len(), "{checked:#?}");
    for expected in expected {
        let line = format!("error: {dir}/config.ini{expected}");
        assert!(told.iter().any(|told| told.starts_with(&line)), "{line}\n{checked:#?}");
    }
    // The service manager starts it so before each start, and sorts by priority.
    let checked = site.run(&["--check-config", "--systemd"]);
    assert_eq!(checked.status.code(), Some(1));
    assert_eq!(checked.stderr.matches("<3>").count(), expected.len(), "{checked:#?}");

    // Which key belongs to which certificate is not known here, but nothing else is wrong.
    site.configure("certificate = relay.crt, other.crt\nkey = relay.key");
    let checked = site.run(&["--check-config"]);
    let errors = checked.stderr.lines().filter(|line| line.starts_with("error: "));
    assert_eq!(errors.count(), 1, "{checked:#?}");
}

#[test]
fn a_configuration_with_warnings_is_not_called_good() {
    let site = Site::at(2855, "adress = x\n");
    let checked = site.run(&["--check-config"]);
    assert!(checked.status.success(), "{checked:#?}");
    let verdict = checked.stdout.lines().last();
    assert_eq!(verdict, Some("the relay can start with this configuration; see the warning"));
    // The start that follows tells them.
    let checked = site.run(&["--check-config", "--systemd"]);
    assert!(checked.status.success() && checked.stdout.is_empty(), "{checked:#?}");
    assert_eq!(checked.stderr, "");
}

#[test]
fn a_good_configuration_is_described() {
    let site = Site::at(2855, "");
    let taken = TcpListener::bind("127.0.0.1:2855");
    let checked = site.run(&["--check-config"]);
    drop(taken);
    assert!(checked.status.success(), "{checked:#?}");
    let (described, verdict) = checked.stdout.trim_end().rsplit_once('\n').unwrap();
    assert_eq!(verdict, "the configuration is good");
    for text in [
        env!("CARGO_PKG_VERSION"),
        site.path("config.ini").to_str().unwrap(),
        "127.0.0.1:2855",
        "host name relay.example.com",
        "backend memory",
        "CN=relay.example.com, serial ",
        "valid until 2090-12-31",
    ] {
        assert!(described.contains(text), "{text}: {described}");
    }
    assert!(!site.path("run").exists(), "nothing is made");
}

/// Away, and in the words of what is wrong: a warning, because the relay starts all the same.
#[test]
fn a_check_asks_the_database() {
    let site = Site::at(2855, "denied_peers = special");
    let users = site.path("users.db");
    site.edit("backend = memory", "backend = memory, database");
    site.edit("[Memory]", &format!("[Database]\nuri = sqlite://{}\n[Memory]", users.display()));
    let uri = site.line_of("uri");
    let checked = site.run(&["--check-config"]);
    assert!(checked.status.success(), "{checked:#?}");
    let warning = format!(
        "warning: {uri}: [Database] uri: SQLite file {}: the file does not exist",
        users.display()
    );
    assert!(checked.stderr.starts_with(&warning), "{warning}\n{checked:#?}");
    assert!(checked.stderr.trim_end().ends_with("; until it answers, its users get 500"));
    let verdict = checked.stdout.lines().last();
    assert_eq!(verdict, Some("the relay can start with this configuration; see the warning"));
    assert!(!users.exists(), "nothing is made");

    // A certificate that is missing does not keep the database from being asked.
    site.edit("certificate = relay.crt", "certificate = missing.crt");
    let checked = site.run(&["--check-config"]);
    assert_eq!(checked.status.code(), Some(1));
    assert!(checked.stderr.contains(&warning), "{checked:#?}");
    site.edit("certificate = missing.crt", "certificate = relay.crt");

    site.make_table("users.db");
    let checked = site.run(&["--check-config"]);
    assert!(checked.status.success() && checked.stderr.is_empty(), "{checked:#?}");
    assert_eq!(checked.stdout.lines().last(), Some("the configuration is good"));
}

/// A server that accepts and says nothing, with a `timeout` that is longer than anyone waits.
#[test]
fn a_check_waits_for_no_database_for_long() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let site = Site::at(2855, "denied_peers = special");
    site.edit("backend = memory", "backend = memory, database");
    let section = format!("[Database]\nuri = mysql://u:s3cr3t@127.0.0.1:{port}/d\ntimeout = 25\n");
    site.edit("[Memory]", &format!("{section}[Memory]"));
    // A start by the service manager does not wait for it at all.
    silent.set_nonblocking(true).unwrap();
    let checked = site.run(&["--check-config", "--systemd"]);
    assert!(checked.status.success() && checked.stderr.is_empty(), "{checked:#?}");
    assert!(silent.accept().is_err(), "it was asked");

    let began = now();
    let checked = site.run(&["--check-config"]);
    let took = began.elapsed();
    assert!(took < Duration::from_secs(12), "{took:?}");
    assert!(checked.status.success(), "{checked:#?}");
    assert!(silent.accept().is_ok(), "it was not asked");
    let warning = format!("MySQL database d at 127.0.0.1:{port} has not answered yet; until it");
    assert!(checked.stderr.contains(&warning), "{checked:#?}");
    assert!(!checked.stderr.contains("s3cr3t"), "{checked:#?}");
}

/// A file of msrprelay 1.x says nothing of peers, and is good.
#[test]
fn a_file_of_1_x_is_told_where_the_relay_connects_to() {
    let site = Site::at(2855, "");
    let checked = site.run(&["--check-config"]);
    let file = site.path("config.ini").display().to_string();
    let note = format!(
        "note: {file}: [Relay] denied_peers is not set: the relay connects to public addresses \
         only, msrprelay 1.x did to any; list networks in allowed_peers where clients or relays are \
         reached in private ones\n"
    );
    assert_eq!(checked.stderr, note);
    assert!(checked.stdout.ends_with("the configuration is good\n"), "{checked:#?}");
    for options in ["denied_peers = special", "allowed_peers = 10.0.0.0/8"] {
        let site = Site::at(2855, options);
        assert_eq!(site.run(&["--check-config"]).stderr, "", "{options}");
    }
}
