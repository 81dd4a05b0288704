//! Where accounts are kept: one battery for all backends, on real servers that are started for the
//! run. What is particular to tables is in `tables`.

use std::{process::Output, sync::Arc, thread, time::Duration};

use md5::{Digest as _, Md5};
use sha2::Sha256;

use crate::ephemeral;
use crate::harness::{
    Algorithm, Credentials, Database, Kind, Message, PATIENCE, Relay, Scene, hex, now, sleep,
};

const DATABASES: [Kind; 3] = [Kind::Sqlite, Kind::MariaDb, Kind::Postgres];

/// Names of the kind that S22 of `docs/threats.md` is about, and others that are no names.
pub(crate) const HOSTILE: [&str; 17] = [
    "a%s%n",
    "%s%s%s%s%n",
    "' OR 1=1--",
    "' OR '1'='1",
    "\" OR \"\"=\"",
    "alice'--",
    "alice\\",
    "alice\"",
    "`alice`",
    "alice; DROP TABLE subscriber",
    "*)(uid=*",
    "*",
    "%",
    "_____",
    "\u{430}lice",
    "al\u{456}ce",
    "\u{1f600}",
];

/// Accounts whose names are odd and right: user, domain, password.
pub(crate) const ACCOUNTS: [(&str, &str, &str); 7] = [
    ("alice", "example.com", "secret-alice"),
    ("alice", "example.net", "another secret"),
    ("o'brien", "example.com", "it's"),
    ("a%s", "example.com", "100%"),
    ("ann-marie.b_c+d", "example.com", "pass:word"),
    ("žofie", "example.com", "heslo-ř"),
    ("\"quoted\\", "example.com", "\"\\"),
];

/// A backend with [`ACCOUNTS`], and a relay on it.
pub(crate) struct Store {
    pub(crate) scene: Scene,
    /// None: it is no database.
    pub(crate) database: Option<Database>,
    /// What a user with a password is called there, and what the password is.
    pub(crate) called: fn([&str; 3]) -> [String; 2],
}

impl Store {
    pub(crate) fn memory(options: &str) -> Self {
        let users = ACCOUNTS.iter().filter(|(user, domain, _)| (*user, *domain) != ALICE);
        // In the file only a password that begins or ends with a blank cannot be written.
        let users: Vec<String> = users
            .map(|(user, domain, password)| format!("{user}@{domain} = {password}\n"))
            .collect();
        let relay = Relay::configured(options, false, &users.concat());
        Self { scene: Scene::on(Arc::new(relay)), database: None, called: as_they_are }
    }

    /// With the table as [`create`] makes it; `relay` and `database` are further options.
    pub(crate) fn on(kind: Kind, relay: &str, database: &str) -> Option<Self> {
        let store = Self::over(create(kind)?, relay, database);
        store.fill("subscriber");
        Some(store)
    }

    pub(crate) fn over(database: Database, relay: &str, options: &str) -> Self {
        let relay = format!("backend = database\n{relay}");
        // A machine that is busy with other things is not what is tested here.
        let patience = if options.contains("timeout") { "" } else { "timeout = 20\n" };
        let section = format!("\n[Database]\n{}{patience}{options}", database.options());
        let relay = Relay::configured(&relay, false, &section);
        Self { scene: Scene::on(Arc::new(relay)), database: Some(database), called: as_they_are }
    }

    /// [`ACCOUNTS`] with passwords and both hashes.
    pub(crate) fn fill(&self, table: &str) {
        let database = self.database.as_ref().expect("a database");
        for (user, domain, password) in ACCOUNTS {
            let [md5, sha256] = hashes(user, domain, password);
            let [user, domain, password] = [user, domain, password].map(|text| {
                let text = text.replace('\'', "''");
                if database.kind() == Kind::MariaDb { text.replace('\\', r"\\") } else { text }
            });
            database.run(&format!(
                "INSERT INTO {table} (username, domain, password, ha1, ha1_sha256) \
                 VALUES ('{user}', '{domain}', '{password}', '{md5}', '{sha256}')"
            ));
        }
    }

    /// What a user with this password is told.
    #[track_caller]
    pub(crate) fn tries(&self, user: &str, domain: &str, password: &str) -> Message {
        self.tries_by(Algorithm::Md5, user, domain, password)
    }

    #[track_caller]
    pub(crate) fn tries_by(
        &self,
        algorithm: Algorithm,
        user: &str,
        domain: &str,
        password: &str,
    ) -> Message {
        let uri = format!("msrp://{domain}:2855;tcp");
        self.scene.names.bind("relay", uri.clone());
        let mut peer = self.scene.stranger("alice");
        let [user, password] = (self.called)([user, domain, password]);
        let credentials =
            Credentials { user, password, uri, algorithm, ..peer.challenged("a0000001") };
        peer.says_auth("a0000002", &credentials.header(), "");
        peer.hears_answer("a0000002")
    }

    /// All of them are refused like anybody unknown, at the same time.
    #[track_caller]
    pub(crate) fn refuses_all(&self, users: &[&str], domain: &str, password: &str) {
        let uri = format!("msrp://{domain}:2855;tcp");
        self.scene.names.bind("relay", uri.clone());
        let attempts = users.iter().map(|user| {
            let mut peer = self.scene.stranger("alice");
            let [called, password] = (self.called)([user, domain, password]);
            let credentials = Credentials {
                user: called,
                password,
                uri: uri.clone(),
                ..peer.challenged("a0000001")
            };
            peer.says_auth("a0000002", &credentials.header(), "");
            (peer, user)
        });
        for (mut peer, user) in attempts.collect::<Vec<_>>() {
            let answer = peer.hears_answer("a0000002");
            assert!(answer.what.starts_with("401"), "{user}@{domain}: {answer:?}");
        }
    }

    #[track_caller]
    pub(crate) fn answers(&self, code: &str, user: &str, domain: &str, password: &str) {
        let answer = self.tries(user, domain, password);
        assert!(answer.what.starts_with(code), "{user}@{domain}: {answer:?}");
    }
}

fn as_they_are([user, _domain, password]: [&str; 3]) -> [String; 2] {
    [user, password].map(str::to_owned)
}

pub(crate) const ALICE: (&str, &str) = ("alice", "example.com");

/// The table of all tests, keys apart.
pub(crate) fn create(kind: Kind) -> Option<Database> {
    let database = Database::new(kind)?;
    database.run(
        "CREATE TABLE subscriber (username VARCHAR(64) NOT NULL, domain VARCHAR(64) NOT NULL, \
         password VARCHAR(64), ha1 VARCHAR(64), ha1_sha256 VARCHAR(64))",
    );
    Some(database)
}

pub(crate) fn hashes(user: &str, domain: &str, password: &str) -> [String; 2] {
    let text = format!("{user}:{domain}:{password}");
    [hex(&Md5::digest(text.as_bytes())), hex(&Sha256::digest(text.as_bytes()))]
}

/// Every backend, those of tables with and without passwords, each in a thread of its own: most of
/// a refusal is waiting.
pub(crate) fn each_store(test: impl Fn(&Store) + Sync) {
    thread::scope(|scope| {
        scope.spawn(|| test(&Store::memory("")));
        scope.spawn(|| test(&ephemeral::store()));
        for kind in DATABASES {
            for options in ["", "cleartext_passwords = No"] {
                let test = &test;
                scope.spawn(move || {
                    if let Some(store) = Store::on(kind, "", options) {
                        test(&store);
                    }
                });
            }
        }
    });
}

pub(crate) fn each_database(test: impl Fn(Kind) + Sync) {
    thread::scope(|scope| {
        for kind in DATABASES {
            let test = &test;
            scope.spawn(move || test(kind));
        }
    });
}

#[test]
fn whoever_is_right_is_let_in_and_nobody_else() {
    each_store(|store| {
        for (user, domain, password) in ACCOUNTS {
            store.answers("200", user, domain, password);
            store.answers("401", user, domain, "guess");
            store.answers("401", user, domain, "");
        }
        store.answers("401", "alice", "example.com", "another secret");
        store.answers("401", "alice", "example.org", "secret-alice");
        store.answers("401", "nobody", "example.com", "password");
    });
}

#[test]
fn s22_hostile_names_are_unknown_users_to_every_backend() {
    each_store(|store| {
        for password in ["secret-alice", ""] {
            store.refuses_all(&HOSTILE, "example.com", password);
        }
        // And nothing is broken.
        store.answers("200", "alice", "example.com", "secret-alice");
        assert!(!store.scene.relay.log().contains("ERROR"), "{}", store.scene.relay.log());
    });
}

#[test]
fn s28_unknown_user_and_wrong_password_are_answered_alike() {
    each_store(|store| {
        let shape = |user| {
            let mut answer = store.tries(user, "example.com", "guess");
            for (name, value) in &mut answer.headers {
                if name == "WWW-Authenticate" {
                    let parts: Vec<&str> = value.split('"').collect();
                    assert_eq!(parts.len(), 9, "{value}");
                    // What differs each time: nonce and opaque.
                    *value = [parts[0], parts[1], parts[2], parts[3], parts[4], parts[6]].join("|");
                }
            }
            format!("{answer:?}")
        };
        let known = shape("alice");
        for user in ["nobody", "o'brien", "' OR 1=1--", "žofie"] {
            assert_eq!(shape(user), known, "{user}");
        }
    });
}

/// 500, the connection kept, no attempt counted; back without a restart.
#[test]
fn a_table_that_is_missing_is_an_outage_until_it_is_there() {
    each_database(|kind| {
        let Some(database) = Database::new(kind) else { return };
        // SQLite has no file otherwise.
        database.run("CREATE TABLE other (id INTEGER)");
        let store = Store::over(database, "max_auth_attempts = 1", "");
        let mut peer = store.scene.stranger("alice");
        let credentials = peer.challenged("a0000001");
        for tid in ["a0000002", "a0000003", "a0000004"] {
            peer.says_auth(tid, &credentials.header(), "");
            peer.hears_response(tid, "500 Backend unavailable", "{relay}");
        }
        store.scene.relay.logs("subscriber");
        let database = store.database.as_ref().expect("a database");
        database.run(
            "CREATE TABLE subscriber (username VARCHAR(64) NOT NULL, domain VARCHAR(64) NOT NULL, \
             password VARCHAR(64), ha1 VARCHAR(64), ha1_sha256 VARCHAR(64))",
        );
        store.fill("subscriber");
        let deadline = now() + PATIENCE;
        loop {
            assert!(now() < deadline, "{kind:?}: {}", store.scene.relay.log());
            peer.says_auth("a0000005", &credentials.header(), "");
            if peer.hears_answer("a0000005").what.starts_with("200") {
                break;
            }
            sleep(100);
        }
        store.scene.relay.logs("is back");
        // One line for the whole outage, as it stood at the start and not for each who asked.
        let log = store.scene.relay.log();
        assert_eq!(log.matches("ERROR").count(), 1, "{log}");
        assert!(!log.contains("p@ss"), "{log}");
    });
}

#[test]
fn the_start_says_that_the_database_is_away_and_goes_on() {
    let section = "\n[Database]\nuri = mysql://user:s3cr3t@127.0.0.1:1/opensips\n";
    let relay = Relay::configured("backend = database, memory", false, section);
    let line = relay.logs("ERROR");
    assert!(line.contains("opensips at 127.0.0.1:1") && line.contains("refused"), "{line}");
    assert!(!relay.log().contains("s3cr3t"));
}

/// TLS where the server has it, whoever it is; verified where a file says by whom.
#[test]
fn the_way_to_the_database_can_be_verified() {
    let other = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("another");
    let directory = tempfile::tempdir().expect("a temporary directory");
    let stranger = directory.path().join("other.crt");
    std::fs::write(&stranger, other.cert.pem()).expect("a PEM file");
    for (kind, mode, ca) in
        [(Kind::MariaDb, "ssl_mode", "ssl_ca"), (Kind::Postgres, "sslmode", "sslrootcert")]
    {
        let Some(database) = create(kind) else { continue };
        database.run(
            "INSERT INTO subscriber (username, domain, password) VALUES ('a', 'example.com', 'b')",
        );
        let identity = if kind == Kind::MariaDb { "VERIFY_IDENTITY" } else { "verify-full" };
        let options = database.options();
        let (uri, authority) = (options.trim_end(), database.authority());
        let named = uri.replace("127.0.0.1", "localhost");
        for (uri, code) in [
            (uri.to_owned(), "200"),
            (format!("{uri}?{ca}={}", authority.display()), "200"),
            (format!("{uri}?{ca}={}", stranger.display()), "500"),
            (format!("{named}?{ca}={}&{mode}={identity}", authority.display()), "200"),
            (format!("{uri}?{ca}={}&{mode}={identity}", authority.display()), "500"),
        ] {
            let section = format!("\n[Database]\n{uri}\n");
            let relay = Relay::configured("backend = database", false, &section);
            let store =
                Store { scene: Scene::on(Arc::new(relay)), database: None, called: as_they_are };
            let answer = store.tries("a", "example.com", "b");
            let log = store.scene.relay.log();
            assert!(answer.what.starts_with(code), "{uri}: {answer:?}\n{log}");
            if code == "500" {
                store.scene.relay.logs("certificate: ");
            }
        }
    }
}

/// The driver's own words, but for the password: in the log and wherever an operator looks.
#[test]
fn a_wrong_password_for_the_database_is_told_without_it() {
    for (kind, words) in [(Kind::MariaDb, "Access denied"), (Kind::Postgres, "password")] {
        let Some(database) = Database::new(kind) else { continue };
        let options = database.options().replace("p@ss", "s3cr3t");
        let section = format!("\n[Database]\n{options}");
        let relay = Relay::configured("backend = database", false, &section);
        let line = relay.logs("ERROR");
        assert!(line.contains(words), "{line}");
        let told = |output: Output| {
            assert!(output.status.success(), "{output:?}");
            let text = String::from_utf8([output.stdout, output.stderr].concat()).expect("text");
            assert!(text.contains(words), "{text}");
            text
        };
        let texts = [
            told(relay.check()),
            told(relay.ctl(&["status"])),
            told(relay.ctl(&["--json", "status"])),
            told(relay.ctl(&["reload"])),
            told(relay.ctl(&["--json", "reload"])),
            relay.log(),
        ];
        for text in texts {
            assert!(!text.contains("s3cr3t") && !text.contains("w#rd"), "{text}");
        }
        let place = format!("{}: [Database] uri: ", relay.line_of("uri"));
        let warnings = relay.asked("{\"command\":\"reload\"}")["warnings"].to_string();
        assert!(warnings.contains(&place), "{warnings}");
    }
}

/// Not only that there was no answer.
#[test]
fn a_file_that_somebody_writes_for_long_is_told_to_be_locked() {
    let store = Store::on(Kind::Sqlite, "", "timeout = 2").expect("SQLite is always there");
    let database = store.database.as_ref().expect("a database");
    store.answers("200", "alice", "example.com", "secret-alice");
    database.locked(|| store.answers("500", "alice", "example.com", "secret-alice"));
    let line = store.scene.relay.logs("ERROR");
    assert!(line.contains("database is locked"), "{line}");
    store.answers("200", "alice", "example.com", "secret-alice");
}

/// A database in WAL mode writes beside itself to be read. Which access is missing is told, with who
/// needs it.
#[test]
fn a_file_that_cannot_be_used_is_told_with_the_remedy() {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    let mode = |path: &std::path::Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("its mode");
    };
    let root = nix::unistd::geteuid().is_root();
    let relay = if root { "user = nobody" } else { "" };
    for (wal, file_mode, parts) in [
        (true, 0o644, &["WAL", "can write", "PRAGMA journal_mode = DELETE"][..]),
        (false, 0o200, &["cannot read it", "may read the file"]),
        (false, 0o644, &[]),
    ] {
        let database = create(Kind::Sqlite).expect("SQLite is always there");
        database
            .run("INSERT INTO subscriber (username, domain, password) VALUES ('a', 'b.c', 'd')");
        if wal {
            database.run("PRAGMA journal_mode = WAL");
        }
        let file = database.file().to_owned();
        let directory = file.parent().expect("a directory").to_owned();
        mode(&file, file_mode);
        mode(&directory, 0o555);
        let store = Store::over(database, relay, "");
        store.answers(if parts.is_empty() { "200" } else { "500" }, "a", "b.c", "d");
        if !parts.is_empty() {
            let line = store.scene.relay.logs("ERROR");
            assert!(line.contains(file.to_str().expect("UTF-8")), "{line}");
            assert!(!root || line.contains("nobody"), "{line}");
            for part in parts {
                assert!(line.contains(part), "{part}: {line}");
            }
        }
        // The remedy helps, without a restart.
        mode(&file, 0o644);
        mode(&directory, 0o777);
        let deadline = now() + PATIENCE;
        while !store.tries("a", "b.c", "d").what.starts_with("200") {
            assert!(now() < deadline, "{}", store.scene.relay.log());
            sleep(100);
        }
    }
}

/// One challenge line each, MD5 last (RFC 7616 §3.7); each hash lets in who has it.
#[test]
fn r7616_3_7_01_each_algorithm_has_a_challenge_and_md5_is_last() {
    each_database(|kind| {
        for options in ["", "cleartext_passwords = No"] {
            let relay = "digest_algorithms = MD5, SHA-256";
            let Some(store) = Store::on(kind, relay, options) else { return };
            let database = store.database.as_ref().expect("a database");
            database.run("UPDATE subscriber SET ha1_sha256 = NULL WHERE username = 'o''brien'");
            let mut alice = store.scene.stranger("alice");
            alice
                .says("MSRP a0000001 AUTH\nTo-Path: {relay}\nFrom-Path: {alice}\n-------a0000001$");
            alice.hears(
                r#"
                MSRP a0000001 401 Unauthenticated
                To-Path: {alice}
                From-Path: {relay}
                WWW-Authenticate: Digest realm="example.com", qop="auth", nonce="{nonce}", opaque="{o}", algorithm=SHA-256
                WWW-Authenticate: Digest realm="example.com", qop="auth", nonce="{nonce}", opaque="{o}"
                -------a0000001$
                "#,
            );
            for algorithm in [Algorithm::Sha256, Algorithm::Md5] {
                let code = |user, password| {
                    let answer = store.tries_by(algorithm, user, "example.com", password);
                    answer.what[..3].to_owned()
                };
                assert_eq!(code("alice", "secret-alice"), "200");
                assert_eq!(code("alice", "guess"), "401");
                assert_eq!(code("nobody", "password"), "401");
                let hashless = algorithm == Algorithm::Sha256 && !options.is_empty();
                assert_eq!(code("o'brien", "it's"), if hashless { "401" } else { "200" });
            }
        }
    });
}

#[test]
fn of_several_backends_only_an_unknown_user_asks_the_next() {
    each_database(|kind| {
        let Some(store) = Store::on(kind, "backend = memory, database", "") else { return };
        // The harness has alice and bob in memory; the table has another secret for alice's twin.
        store.answers("200", "bob", "example.com", "secret-bob");
        store.answers("200", "o'brien", "example.com", "it's");
        store.answers("401", "nobody", "example.com", "x");
        let database = store.database.as_ref().expect("a database");
        database.run("UPDATE subscriber SET password = 'changed' WHERE username = 'alice'");
        store.answers("401", "alice", "example.com", "changed");
        store.answers("200", "alice", "example.com", "secret-alice");
        database.run("DROP TABLE subscriber");
        store.answers("200", "bob", "example.com", "secret-bob");
        store.answers("500", "o'brien", "example.com", "it's");
    });
}

/// Known users get in while the database is away, but no longer than `cache_time`; what is not
/// found is not remembered.
#[test]
fn the_cache_serves_known_users_and_ends_in_time() {
    const CACHE_TIME: Duration = Duration::from_secs(3);

    each_database(|kind| {
        let relay = "max_auth_attempts = 0";
        let Some(store) = Store::on(kind, relay, "cache_time = 3") else { return };
        let database = store.database.as_ref().expect("a database");
        store.answers("401", "late", "example.com", "x");
        database.run(
            "INSERT INTO subscriber (username, domain, password) \
             VALUES ('late', 'example.com', 'x')",
        );
        store.answers("200", "late", "example.com", "x");

        let before = now();
        store.answers("200", "alice", "example.com", "secret-alice");
        let after = now();
        database.run("UPDATE subscriber SET password = 'changed' WHERE username = 'alice'");
        loop {
            let sent = after.elapsed();
            if store.tries("alice", "example.com", "changed").what.starts_with("200") {
                break;
            }
            assert!(sent < CACHE_TIME, "{kind:?}: the old password lives on");
        }
        assert!(before.elapsed() >= CACHE_TIME, "{kind:?}: nothing was remembered");

        database.run("DROP TABLE subscriber");
        store.answers("200", "alice", "example.com", "changed");
        store.answers("401", "alice", "example.com", "guess");
        store.answers("500", "o'brien", "example.com", "it's");
        thread::sleep(CACHE_TIME);
        store.answers("500", "alice", "example.com", "changed");
    });
}

/// RFC 4976 §9.1 forbids it, so it is off; over TLS, where it is asked for.
#[test]
fn basic_is_accepted_over_tls_where_it_is_allowed() {
    const RIGHT: &str = "Basic YWxpY2U6c2VjcmV0LWFsaWNl";

    let relay = Relay::configured("allow_basic_auth = yes\nmax_auth_attempts = 3", true, "");
    let scene = Scene::on(Arc::new(relay));
    scene.relay.logs("allow_basic_auth");
    let mut alice = scene.stranger("alice");
    for (tid, wrong) in [("a0000001", "Basic YWxpY2U6Z3Vlc3M="), ("a0000002", "Basic bm86eA==")] {
        alice.says_auth(tid, wrong, "");
        let refused = alice.hears_code(tid, "401");
        assert!(refused.the("WWW-Authenticate").starts_with("Digest "), "{refused:?}");
    }
    alice.says_auth("a0000003", RIGHT, "");
    let granted = alice.hears_code("a0000003", "200");
    assert!(granted.header("Use-Path").is_some());
    assert!(granted.header("Authentication-Info").is_none());
    assert!(!scene.relay.log().contains("YWxpY2U6") && !scene.relay.log().contains("secret-"));
    let mut alice = scene.stranger("alice");
    alice.says_auth("a0000001", "Basic *", "");
    alice.hears_code("a0000001", "400");
    scene.client("alice");

    let plain = Scene::with("allow_basic_auth = yes");
    plain.relay.logs("no effect");
    let mut alice = plain.stranger("alice");
    alice.says_auth("a0000001", RIGHT, "");
    alice.hears_code("a0000001", "400");
}

#[test]
fn a_uri_that_cannot_be_read_stops_the_start_and_shows_nothing() {
    for (uri, words) in [
        ("mysql://user:s3cr3t@db", "no database"),
        ("mysql://db:s3cr3t/opensips", "no user"),
        ("postgres://u:s3cr3t@db:99999/opensips", "port"),
        ("sqlite:s3cr3t.db", "absolute path"),
    ] {
        let section = format!("\n[Database]\nuri = {uri}\n");
        let said = Relay::refuses("backend = database", &section);
        assert!(said.contains("[Database] uri: ") && said.contains(words), "{uri}: {said}");
        assert!(!said.contains("s3cr3t"), "{said}");
    }
    let section = "\n[Database]\nuri = mysql://u:p@127.0.0.1:1/d?debug=s3cr3t\n";
    let relay = Relay::configured("backend = database", false, section);
    let line = relay.logs("parameter debug");
    assert!(!line.contains("s3cr3t"), "{line}");
}
