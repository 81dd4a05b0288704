//! Where accounts are kept: one battery for memory, SQLite, MariaDB and PostgreSQL, then what is
//! particular to tables. The servers are real ones, started for the run.

use std::{sync::Arc, thread, time::Duration};

use md5::{Digest as _, Md5};
use sha2::Sha256;

use crate::harness::{
    Algorithm, Credentials, Database, Kind, Message, PATIENCE, Relay, Scene, hex, now, sleep,
};

const DATABASES: [Kind; 3] = [Kind::Sqlite, Kind::MariaDb, Kind::Postgres];

/// Names of users-and-threats S22, and others that are no names.
const HOSTILE: [&str; 17] = [
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
const ACCOUNTS: [(&str, &str, &str); 7] = [
    ("alice", "example.com", "secret-alice"),
    ("alice", "example.net", "another secret"),
    ("o'brien", "example.com", "it's"),
    ("a%s", "example.com", "100%"),
    ("ann-marie.b_c+d", "example.com", "pass:word"),
    ("žofie", "example.com", "heslo-ř"),
    ("\"quoted\\", "example.com", "\"\\"),
];

/// A backend with [`ACCOUNTS`], and a relay on it.
struct Store {
    scene: Scene,
    /// None: memory.
    database: Option<Database>,
}

impl Store {
    fn memory(options: &str) -> Self {
        let users = ACCOUNTS.iter().filter(|(user, domain, _)| (*user, *domain) != ALICE);
        // In the file only a password that begins or ends with a blank cannot be written.
        let users: Vec<String> = users
            .map(|(user, domain, password)| format!("{user}@{domain} = {password}\n"))
            .collect();
        let relay = Relay::configured(options, false, &users.concat());
        Self { scene: Scene::on(Arc::new(relay)), database: None }
    }

    /// With the table as [`create`] makes it; `relay` and `database` are further options.
    fn on(kind: Kind, relay: &str, database: &str) -> Option<Self> {
        let store = Self::over(create(kind)?, relay, database);
        store.fill("subscriber");
        Some(store)
    }

    fn over(database: Database, relay: &str, options: &str) -> Self {
        let relay = format!("backend = database\n{relay}");
        // A machine that is busy with other things is not what is tested here.
        let patience = if options.contains("timeout") { "" } else { "timeout = 20\n" };
        let section = format!("\n[Database]\n{}{patience}{options}", database.options());
        let relay = Relay::configured(&relay, false, &section);
        Self { scene: Scene::on(Arc::new(relay)), database: Some(database) }
    }

    /// [`ACCOUNTS`] with passwords and both hashes.
    fn fill(&self, table: &str) {
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
    fn tries(&self, user: &str, domain: &str, password: &str) -> Message {
        self.tries_by(Algorithm::Md5, user, domain, password)
    }

    #[track_caller]
    fn tries_by(&self, algorithm: Algorithm, user: &str, domain: &str, password: &str) -> Message {
        let uri = format!("msrp://{domain}:2855;tcp");
        self.scene.names.bind("relay", uri.clone());
        let mut peer = self.scene.stranger("alice");
        let credentials = Credentials {
            user: user.to_owned(),
            password: password.to_owned(),
            algorithm,
            uri,
            ..peer.challenged("a0000001")
        };
        peer.says_auth("a0000002", &credentials.header(), "");
        peer.hears_answer("a0000002")
    }

    /// All of them are refused like anybody unknown, at the same time.
    #[track_caller]
    fn refuses_all(&self, users: &[&str], domain: &str, password: &str) {
        let uri = format!("msrp://{domain}:2855;tcp");
        self.scene.names.bind("relay", uri.clone());
        let attempts = users.iter().map(|user| {
            let mut peer = self.scene.stranger("alice");
            let credentials = Credentials {
                user: (*user).to_owned(),
                password: password.to_owned(),
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
    fn answers(&self, code: &str, user: &str, domain: &str, password: &str) {
        let answer = self.tries(user, domain, password);
        assert!(answer.what.starts_with(code), "{user}@{domain}: {answer:?}");
    }
}

const ALICE: (&str, &str) = ("alice", "example.com");

/// The table of all tests, keys apart.
fn create(kind: Kind) -> Option<Database> {
    let database = Database::new(kind)?;
    database.run(
        "CREATE TABLE subscriber (username VARCHAR(64) NOT NULL, domain VARCHAR(64) NOT NULL, \
         password VARCHAR(64), ha1 VARCHAR(64), ha1_sha256 VARCHAR(64))",
    );
    Some(database)
}

fn hashes(user: &str, domain: &str, password: &str) -> [String; 2] {
    let text = format!("{user}:{domain}:{password}");
    [hex(&Md5::digest(text.as_bytes())), hex(&Sha256::digest(text.as_bytes()))]
}

/// Every backend, those of tables with and without passwords, each in a thread of its own: most of
/// a refusal is waiting.
fn each_store(test: impl Fn(&Store) + Sync) {
    thread::scope(|scope| {
        scope.spawn(|| test(&Store::memory("")));
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

fn each_database(test: impl Fn(Kind) + Sync) {
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
            let store = Store { scene: Scene::on(Arc::new(relay)), database: None };
            let answer = store.tries("a", "example.com", "b");
            let log = store.scene.relay.log();
            assert!(answer.what.starts_with(code), "{uri}: {answer:?}\n{log}");
            if code == "500" {
                store.scene.relay.logs("certificate: ");
            }
        }
    }
}

/// The driver's own words, but for the password.
#[test]
fn a_wrong_password_for_the_database_is_told_without_it() {
    for (kind, words) in [(Kind::MariaDb, "Access denied"), (Kind::Postgres, "password")] {
        let Some(database) = Database::new(kind) else { continue };
        let options = database.options().replace("p@ss", "s3cr3t");
        let section = format!("\n[Database]\n{options}");
        let relay = Relay::configured("backend = database", false, &section);
        let line = relay.logs("ERROR");
        assert!(line.contains(words), "{line}");
        assert!(!relay.log().contains("s3cr3t") && !relay.log().contains("w#rd"));
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

/// OpenSIPS 3.x and Kamailio 5.x, as their schemas are; nothing but `uri`, and hashes.
#[test]
fn tables_as_the_proxies_create_them() {
    let columns = |kind| match kind {
        Kind::Sqlite => "id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL",
        Kind::MariaDb => "id INT(10) UNSIGNED AUTO_INCREMENT PRIMARY KEY NOT NULL",
        Kind::Postgres => "id SERIAL PRIMARY KEY NOT NULL",
    };
    let opensips = "username CHAR(64) DEFAULT '' NOT NULL, domain CHAR(64) DEFAULT '' NOT NULL, \
                    password CHAR(25) DEFAULT '' NOT NULL, \
                    email_address CHAR(64) DEFAULT '' NOT NULL, \
                    ha1 CHAR(64) DEFAULT '' NOT NULL, ha1_sha256 CHAR(64) DEFAULT '' NOT NULL, \
                    ha1_sha512t256 CHAR(64) DEFAULT '' NOT NULL, \
                    rpid CHAR(64) DEFAULT NULL, UNIQUE (username, domain)";
    let kamailio = "username VARCHAR(64) DEFAULT '' NOT NULL, \
                    domain VARCHAR(64) DEFAULT '' NOT NULL, \
                    password VARCHAR(64) DEFAULT '' NOT NULL, \
                    ha1 VARCHAR(128) DEFAULT '' NOT NULL, ha1b VARCHAR(128) DEFAULT '' NOT NULL, \
                    UNIQUE (username, domain)";
    each_database(|kind| {
        for (name, rest) in [("OpenSIPS", opensips), ("Kamailio", kamailio)] {
            for latin in [false, true] {
                let Some(database) = Database::new(kind) else { return };
                let engine = match kind {
                    Kind::MariaDb if latin => " ENGINE=InnoDB DEFAULT CHARSET=latin1",
                    Kind::MariaDb => " ENGINE=InnoDB",
                    _ if latin => continue,
                    _ => "",
                };
                let id = columns(kind);
                database.run(&format!("CREATE TABLE subscriber ({id}, {rest}){engine}"));
                let [ha1, _] = hashes("alice", "example.com", "secret-alice");
                database.run(&format!(
                    "INSERT INTO subscriber (username, domain, password, ha1) \
                     VALUES ('alice', 'example.com', 'secret-alice', '{ha1}')"
                ));
                // As `opensipsctl` leaves it where there are no passwords.
                let [ha1, _] = hashes("bob", "example.com", "secret-bob");
                database.run(&format!(
                    "INSERT INTO subscriber (username, domain, ha1) \
                     VALUES ('bob', 'example.com', '{ha1}')"
                ));
                let store = Store::over(database, "", "");
                store.answers("200", "alice", "example.com", "secret-alice");
                store.answers("401", "bob", "example.com", "");
                store.answers("401", "bob", "example.com", "secret-bob");
                store.refuses_all(&HOSTILE, "example.com", "secret-alice");
                let Store { scene, database } = store;
                drop(scene);
                let database = database.expect("a database");
                let hashed = Store::over(database, "", "cleartext_passwords = No");
                for (user, password) in [("alice", "secret-alice"), ("bob", "secret-bob")] {
                    hashed.answers("200", user, "example.com", password);
                    hashed.answers("401", user, "example.com", "guess");
                }
                hashed.refuses_all(&HOSTILE, "example.com", "secret-alice");
                let log = hashed.scene.relay.log();
                assert!(!log.contains("ERROR"), "{name} on {kind:?}: {log}");
            }
        }
    });
}

/// Views, other names, columns that are not needed and not there, NULLs.
#[test]
fn tables_of_other_shapes() {
    each_database(|kind| {
        let Some(database) = Database::new(kind) else { return };
        let [ha1, _] = hashes("alice", "example.com", "secret-alice");
        database.run(
            "CREATE TABLE people (login VARCHAR(64), realm VARCHAR(64), hash VARCHAR(64), \
             active INTEGER)",
        );
        database.run(&format!(
            "INSERT INTO people VALUES ('alice', 'example.com', '{ha1}', 1), \
             ('bob', 'example.com', NULL, 1), ('carol', NULL, '{ha1}', 1), \
             (NULL, 'example.com', '{ha1}', 1), ('dave', 'example.com', '{ha1}', 0)"
        ));
        database.run(
            "CREATE VIEW relay_users AS SELECT login AS username, realm AS domain, hash AS ha1 \
             FROM people WHERE active = 1",
        );
        let options = "subscriber_table = relay_users\ncleartext_passwords = No\n";
        let store = Store::over(database, "", options);
        store.answers("200", "alice", "example.com", "secret-alice");
        for user in ["bob", "carol", "dave", ""] {
            store.answers("401", user, "example.com", "secret-alice");
        }
        let database = store.database.expect("a database");
        let options = "subscriber_table = people\nusername_col = login\ndomain_col = realm\n\
                       ha1_col = hash\ncleartext_passwords = No\n";
        let store = Store::over(database, "", options);
        store.answers("200", "alice", "example.com", "secret-alice");
        store.answers("401", "bob", "example.com", "");
    });
}

/// To SQLite a name in double quotes that is no column is a string.
#[test]
fn a_missing_column_is_nobodys_password() {
    each_database(|kind| {
        let Some(database) = Database::new(kind) else { return };
        database.run("CREATE TABLE subscriber (username VARCHAR(64), domain VARCHAR(64))");
        database.run("INSERT INTO subscriber VALUES ('alice', 'example.com')");
        let store = Store::over(database, "", "");
        store.answers("500", "alice", "example.com", "password");
        store.answers("500", "alice", "example.com", "ha1");
    });
}

/// Letter case and trailing blanks as each database compares them; accents and rows of others
/// never.
#[test]
fn the_answer_is_never_somebody_elses_account() {
    each_database(|kind| {
        let Some(database) = create(kind) else { return };
        database.run(
            "INSERT INTO subscriber (username, domain, password) VALUES \
             ('rene', 'example.com', 'r'), ('Bob', 'example.com', 'b'), \
             ('twin', 'example.com', '1'), ('TWIN', 'example.com', '2'), \
             ('double', 'example.com', '1'), ('double', 'example.com', '2'), \
             ('same', 'example.com', '1'), ('same', 'example.com', '1'), \
             ('0', 'example.com', 'zero')",
        );
        let store = Store::over(database, "max_auth_attempts = 0", "");
        let as_the_database_does = if kind == Kind::MariaDb { "200" } else { "401" };
        for (code, user, password) in [
            ("200", "rene", "r"),
            ("401", "rené", "r"),
            ("200", "Bob", "b"),
            (as_the_database_does, "bob", "b"),
            (as_the_database_does, "Bob ", "b"),
            ("401", " Bob", "b"),
            ("200", "twin", "1"),
            ("401", "twin", "2"),
            ("200", "TWIN", "2"),
            ("401", "Twin", "1"),
            ("401", "Twin", "2"),
            ("401", "double", "1"),
            ("401", "double", "2"),
            ("200", "same", "1"),
            ("200", "0", "zero"),
            ("401", "0x", "zero"),
            ("401", "x", "zero"),
        ] {
            store.answers(code, user, "example.com", password);
        }
    });
}

/// Nor is it when there are more rows than are looked at, and the user's own is the last.
#[test]
fn of_very_many_rows_alike_only_the_users_own_counts() {
    let Some(database) = create(Kind::MariaDb) else { return };
    let others = ["rené", "renè", "renê", "renë", "Rene", "rené", "renè", "renê"];
    for user in others.iter().chain(&["rene"]) {
        database.run(&format!(
            "INSERT INTO subscriber (username, domain, password) \
             VALUES ('{user}', 'example.com', 'of {user}')"
        ));
    }
    let store = Store::over(database, "", "");
    store.answers("401", "rene", "example.com", "of Rene");
    store.answers("200", "Rene", "example.com", "of Rene");
}

/// OpenSIPS has CHAR columns, which PostgreSQL compares with a TEXT without looking at its index.
#[test]
fn names_are_found_by_the_index() {
    let Some(database) = Database::new(Kind::Postgres) else { return };
    database.run(
        "CREATE TABLE subscriber (username CHAR(64), domain CHAR(64), password CHAR(25), \
         UNIQUE (username, domain))",
    );
    database.run(
        "INSERT INTO subscriber SELECT 'user' || n, 'example.com', 'secret' \
         FROM generate_series(1, 20000) AS n",
    );
    database.run("ANALYZE subscriber");
    let store = Store::over(database, "", "");
    store.answers("200", "user7", "example.com", "secret");
    store.answers("401", "user0", "example.com", "secret");
    drop(store.scene);
    // The end of the connections to the database brings its counters up to date.
    let database = store.database.expect("a database");
    database.run(
        "DO $$ BEGIN FOR attempt IN 1..100 LOOP \
         PERFORM pg_stat_clear_snapshot(); PERFORM pg_sleep(0.1); \
         EXIT WHEN (SELECT idx_scan FROM pg_stat_user_tables) >= 2; END LOOP; \
         ASSERT (SELECT idx_scan FROM pg_stat_user_tables) >= 2, 'the index is not used'; \
         END $$",
    );
}

/// MySQL takes a text for a number where the column is one: `1x` is 1.
#[test]
fn numbers_are_compared_as_they_are_written() {
    let Some(database) = Database::new(Kind::MariaDb) else { return };
    database.run("CREATE TABLE subscriber (username INT, domain VARCHAR(64), password INT)");
    database.run("INSERT INTO subscriber VALUES (1001, 'example.com', 42)");
    let store = Store::over(database, "", "");
    store.answers("200", "1001", "example.com", "42");
    for user in ["1001x", "01001", "1001.0", "1e3"] {
        store.answers("401", user, "example.com", "42");
    }
}

/// PostgreSQL refuses a name that a column cannot hold: that is nobody's, and no outage.
#[test]
fn columns_that_do_not_take_any_text_know_no_others() {
    for username in ["NAME", "CITEXT", "person"] {
        let Some(database) = Database::new(Kind::Postgres) else { return };
        database.run("CREATE EXTENSION citext");
        database.run("CREATE DOMAIN person AS VARCHAR(20) CHECK (VALUE ~ '^[a-z]+$')");
        database.run("CREATE TYPE domains AS ENUM ('example.com', 'example.net')");
        database.run(&format!(
            "CREATE TABLE subscriber (username {username}, domain domains, password TEXT)"
        ));
        database.run("INSERT INTO subscriber VALUES ('alice', 'example.com', 'secret-alice')");
        let store = Store::over(database, "", "");
        store.answers("401", "alice", "example.org", "secret-alice");
        store.answers("401", &"x".repeat(200), "example.com", "secret-alice");
        store.answers("401", "1001", "example.com", "secret-alice");
        store.answers("200", "alice", "example.com", "secret-alice");
        let log = store.scene.relay.log();
        assert!(!log.contains("ERROR"), "{log}");
    }
}

/// PostgreSQL would take `1001` for other numbers, by its octets; and a view does for all.
#[test]
fn names_that_are_numbers_to_postgresql_need_a_view() {
    for number in ["INTEGER", "BIGINT"] {
        let Some(database) = Database::new(Kind::Postgres) else { return };
        database.run(&format!(
            "CREATE TABLE subscriber (username {number}, domain VARCHAR(64), password TEXT)"
        ));
        database.run("INSERT INTO subscriber VALUES (1001, 'example.com', 'secret')");
        database.run(
            "CREATE VIEW users AS SELECT username::text AS username, domain, password \
             FROM subscriber",
        );
        let store = Store::over(database, "", "");
        for user in ["1001", "abcd", "abcdefgh"] {
            store.answers("500", user, "example.com", "secret");
        }
        let line = store.scene.relay.logs("ERROR");
        assert!(line.contains("is of type INT") && line.contains("view"), "{line}");
        assert_eq!(store.scene.relay.log().matches("ERROR").count(), 1);
        let database = store.database.expect("a database");
        let store = Store::over(database, "", "subscriber_table = users");
        store.answers("200", "1001", "example.com", "secret");
        store.answers("401", "1001x", "example.com", "secret");
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
