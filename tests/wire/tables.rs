//! Tables of users in all shapes and states: whose row counts, and which databases take what.

use crate::{
    backends::{HOSTILE, Store, create, each_database, hashes},
    harness::{Database, Kind},
};

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
                let Store { scene, database, .. } = store;
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
