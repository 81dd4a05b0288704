//! Realms: which one an AUTH is for, and which are served (RFC 4976 §5.1, §6.3).

use std::{sync::Arc, time::Duration};

use crate::{
    backends::{Store, create, each_database, hashes},
    ephemeral,
    harness::{Credentials, Database, Kind, Message, Peer, Relay, Scene, bare_auth},
};

#[test]
fn r4976_6_3_01_a_realm_that_is_not_served_gets_403() {
    let scene = Scene::with("domains = example.com, example.net");
    let mut alice = scene.stranger("alice");
    alice.says(
        "
        MSRP a0000001 AUTH
        To-Path: msrp://example.org:2855;tcp
        From-Path: {alice}
        -------a0000001$
        ",
    );
    let refused = alice.hears_code("a0000001", "403");
    assert!(refused.header("WWW-Authenticate").is_none());
    alice.logs_in("");
}

#[test]
fn r4976_5_1_02_the_realm_is_the_host_or_the_default_domain_and_stays() {
    let scene = Scene::plain();
    let mut alice = scene.stranger("alice");
    for _ in 0..3 {
        assert_eq!(alice.challenged("a0000001").realm, "example.com");
    }
    scene.names.bind("relay", "msrp://Other.Example:2855;tcp");
    assert_eq!(alice.challenged("a0000002").realm, "Other.Example");

    let scene = Scene::with("default_domain = example.com");
    scene.names.bind("relay", "msrp://whatever.example:2855;tcp");
    let mut alice = scene.stranger("alice");
    assert_eq!(alice.challenged("a0000001").realm, "example.com");
    alice.logs_in("");
}

#[test]
fn a_wrong_realm_qop_or_foreign_nonce_gets_401_with_a_fresh_challenge() {
    let scene = Scene::plain();
    let changes: [fn(&mut Credentials); 4] = [
        |credentials| credentials.realm = "example.net".to_owned(),
        |credentials| credentials.nonce = "bm90IGFuIGlzc3VlZCBub25jZQ==".to_owned(),
        |credentials| credentials.opaque = "0".repeat(32),
        |credentials| credentials.nonce.insert(0, 'A'),
    ];
    for (index, change) in changes.iter().enumerate() {
        let mut alice = scene.stranger("alice");
        let issued = alice.challenged("a0000001");
        let mut credentials = issued.clone();
        change(&mut credentials);
        alice.says_auth("a0000002", &credentials.header(), "");
        let answer = alice.message();
        if index == 2 && answer.what.starts_with("200") {
            continue; // opaque need not be checked where the nonce is
        }
        assert!(answer.what.starts_with("401"), "change {index}: {answer:?}");
        assert_ne!(alice.credentials(&answer).nonce, issued.nonce);
    }
}

#[test]
fn the_session_keeps_its_realm_and_an_auth_for_another_session_gets_481() {
    let scene = Scene::plain();
    let mut alice = scene.client("alice");
    let mut bob = scene.client("bob");
    scene.names.bind("relay", "msrp://other.example:2855;tcp");
    assert_eq!(alice.challenged("a0000001").realm, "example.com");
    scene.names.bind("relay", scene.names.text("A"));
    bob.says(&bare_auth("a0000002", "{A}", "{bob}"));
    bob.hears_code("a0000002", "481");
    alice.logs_in("");
    bob.hears_nothing(Duration::from_millis(20));
}

/// A domain of other letters than those of ASCII: the way it is written does not count.
#[test]
fn a_realm_is_served_however_its_letters_are_written() {
    let users = "alice@bücher.example = secret-alice\n";
    let options = "default_domain = BÜCHER.example\ndomains = bücher.example";
    let scene = Scene::on(Arc::new(Relay::configured(options, false, users)));
    let mut alice = scene.stranger("alice");
    assert_eq!(alice.challenged("a0000001").realm, "BÜCHER.example");
    alice.logs_in("");

    // A URI has its ASCII form.
    let relay = Relay::configured("domains = bücher.example", false, users);
    let scene = Scene::on(Arc::new(relay));
    for domain in ["xn--bcher-kva.example", "XN--BCHER-KVA.Example"] {
        scene.names.bind("relay", format!("msrp://{domain}:2855;tcp"));
        let mut alice = scene.stranger("alice");
        assert_eq!(alice.challenged("a0000001").realm, "bücher.example");
        alice.logs_in("");
    }
    scene.names.bind("relay", "msrp://bucher.example:2855;tcp");
    let mut alice = scene.stranger("alice");
    alice.says(&bare_auth("a0000001", "{relay}", "{alice}"));
    alice.hears_code("a0000001", "403");
}

/// Rows with user, domain, password, and the hashes that they have.
fn table(kind: Kind, rows: &[[&str; 3]]) -> Option<Database> {
    let database = create(kind)?;
    database.run("ALTER TABLE subscriber ADD COLUMN ha1b VARCHAR(64)");
    for [user, domain, password] in rows {
        let [md5, sha256] = hashes(user, domain, password);
        let [with_domain, _] = hashes(&format!("{user}@{domain}"), domain, password);
        database.run(&format!(
            "INSERT INTO subscriber (username, domain, password, ha1, ha1_sha256, ha1b) \
             VALUES ('{user}', '{domain}', '{password}', '{md5}', '{sha256}', '{with_domain}')"
        ));
    }
    Some(database)
}

/// Whatever letters a table and a client use for it.
#[test]
fn the_case_of_a_domain_does_not_count_in_any_backend() {
    let rows = [
        ["anna", "example.com", "a"],
        ["bob", "Other.ORG", "b"],
        ["bücher", "BÜCHER.example", "c"],
        ["dave", "xn--bcher-kva.example", "d"],
        ["twin", "Twin.example", "1"],
        ["twin", "TWIN.example", "2"],
    ];
    let check = |store: &Store| {
        for (code, user, domain, password) in [
            ("200", "anna", "example.com", "a"),
            ("200", "anna", "EXAMPLE.com", "a"),
            ("200", "bob", "other.org", "b"),
            ("200", "bob", "OTHER.org", "b"),
            ("401", "bob", "other.org", "a"),
            ("401", "bob", "other.net", "b"),
            ("401", "anna", "other.org", "b"),
            ("200", "bücher", "xn--bcher-kva.example", "c"),
            ("200", "bücher", "XN--Bcher-KVA.example", "c"),
            ("200", "dave", "XN--BCHER-KVA.EXAMPLE", "d"),
        ] {
            store.answers(code, user, domain, password);
        }
    };
    let users: Vec<String> = rows[..5].iter().map(|[u, d, p]| format!("{u}@{d} = {p}\n")).collect();
    let relay = Relay::configured("max_auth_attempts = 0", false, &users.concat());
    check(&Store {
        scene: Scene::on(Arc::new(relay)),
        database: None,
        called: |[user, _, password]| [user, password].map(str::to_owned),
    });
    each_database(|kind| {
        let Some(database) = table(kind, &rows) else { return };
        let store = Store::over(database, "", "");
        check(&store);
        // The row that is spelled so counts; without one, nobody can tell which.
        if kind != Kind::MariaDb {
            store.answers("200", "twin", "TWIN.example", "2");
            store.answers("401", "twin", "TWIN.example", "1");
        }
        store.answers("401", "twin", "twin.example", "1");
        store.answers("401", "twin", "twin.example", "2");
        let log = store.scene.relay.log();
        assert!(!log.contains("ERROR"), "{kind:?}: {log}");
    });
}

/// To databases that tell letters apart `Other.ORG` is not found by `other.org`; and where there are
/// many users of that name, theirs is not read for ever.
#[test]
fn a_name_in_very_many_domains_is_found_in_each() {
    for kind in [Kind::Sqlite, Kind::Postgres] {
        let Some(database) = create(kind) else { continue };
        let domains: Vec<String> =
            (0..1000).map(|n| format!("('1001', 'd{n}.example', 'p{n}')")).collect();
        database.run(&format!(
            "INSERT INTO subscriber (username, domain, password) VALUES {}",
            domains.join(", ")
        ));
        let store = Store::over(database, "max_auth_attempts = 0", "");
        for (code, domain, password) in [
            ("200", "d0.example", "p0"),
            ("200", "d999.example", "p999"),
            ("200", "D999.Example", "p999"),
            ("401", "d1000.example", "p999"),
        ] {
            store.answers(code, "1001", domain, password);
        }
    }
}

/// A hash is good for one spelling of its realm (RFC 7616 §3.4.2), so the challenge has the one that
/// the operator wrote, whatever the client wrote.
#[test]
fn the_challenge_has_the_spelling_of_the_configuration() {
    let rows = [
        ["alice", "Example.com", "a"],
        ["bob", "Other.ORG", "b"],
        ["carol", "bücher.example", "c"],
    ];
    each_database(|kind| {
        let Some(database) = table(kind, &rows) else { return };
        let relay = "domains = Example.com, Other.ORG, bücher.example";
        let store = Store::over(database, relay, "cleartext_passwords = No");
        for (user, domain, password) in [
            ("alice", "example.COM", "a"),
            ("alice", "Example.com", "a"),
            ("bob", "other.org", "b"),
            ("carol", "xn--bcher-kva.example", "c"),
        ] {
            store.answers("200", user, domain, password);
            store.answers("401", user, domain, "guess");
        }
        let mut peer = store.scene.stranger("alice");
        store.scene.names.bind("relay", "msrp://OTHER.org:2855;tcp");
        assert_eq!(peer.challenged("a0000001").realm, "Other.ORG");

        // One of them for all.
        let Store { scene, database, .. } = store;
        drop(scene);
        let database = database.expect("a database");
        let relay = "default_domain = Example.com\ndomains = example.com, Other.ORG";
        let store = Store::over(database, relay, "cleartext_passwords = No");
        store.answers("200", "alice", "whatever.example", "a");

        // Neither: what the client wrote, and a word for the operator where it does not fit.
        let Store { scene, database, .. } = store;
        drop(scene);
        let database = database.expect("a database");
        let store = Store::over(database, "", "cleartext_passwords = No");
        store.answers("200", "alice", "Example.com", "a");
        let told = "good for one spelling only";
        assert!(!store.scene.relay.log().contains(told), "{}", store.scene.relay.log());
        for _ in 0..2 {
            store.answers("401", "alice", "EXAMPLE.com", "a");
        }
        let line = store.scene.relay.logs(told);
        for part in ["\"Example.com\"", "\"EXAMPLE.com\"", "domains", "default_domain"] {
            assert!(line.contains(part), "{part}: {line}");
        }
        assert_eq!(store.scene.relay.log().matches(told).count(), 1);
    });
}

fn tries(peer: &mut Peer, user: &str, password: &str) -> Message {
    let challenged = peer.challenged("a0000001");
    let [user, password] = [user, password].map(str::to_owned);
    let credentials = Credentials { user, password, ..challenged };
    peer.says_auth("a0000002", &credentials.header(), "");
    peer.hears_answer("a0000002")
}

/// In tables with passwords and in those with hashes, whose `ha1b` is made for such names.
#[test]
fn a_user_name_may_come_with_its_domain() {
    let rows = [["alice", "example.com", "a"], ["bob@example.com", "example.com", "b"]];
    each_database(|kind| {
        for options in ["", "cleartext_passwords = No\nha1b_col = ha1b"] {
            let Some(database) = table(kind, &rows) else { return };
            let relay = "max_auth_attempts = 0\nlog_failed_auth = yes";
            let store = Store::over(database, relay, options);
            for (code, user, password) in [
                ("200", "alice", "a"),
                ("200", "alice@example.com", "a"),
                ("401", "alice@example.com", "b"),
                ("401", "alice@example.org", "a"),
                ("401", "alice@", "a"),
                ("401", "@example.com", "a"),
                ("401", "nobody@example.com", "a"),
                // 1.x found him by the whole name, as it stands in the table.
                ("200", "bob@example.com", "b"),
                ("401", "bob", "b"),
            ] {
                store.answers(code, user, "example.com", password);
            }
            let log = store.scene.relay.log();
            assert!(log.contains(" for alice@example.com: wrong password"), "{log}");
            assert!(!log.contains("alice@example.com@"), "{log}");
            assert!(!log.contains("ERROR"), "{log}");
        }
        // Nobody gets in by the hash of the bare name, and the log says what is missing.
        let Some(database) = table(kind, &rows) else { return };
        let relay = "log_failed_auth = yes";
        let store = Store::over(database, relay, "cleartext_passwords = No");
        store.answers("401", "alice@example.com", "example.com", "a");
        store.answers("200", "alice", "example.com", "a");
        let line = store.scene.relay.logs("AUTH failed");
        assert!(line.contains("ha1b_col"), "{line}");
    });
}

/// Who refreshes is the user, however the name is written; the log knows one name.
#[test]
fn a_user_is_the_same_with_and_without_the_domain() {
    let scene = Scene::with("max_auth_attempts = 0\nlog_failed_auth = yes");
    let mut alice = scene.stranger("alice");
    for (user, code) in [
        ("alice@example.com", "200"),
        ("alice", "200"),
        ("alice@EXAMPLE.com", "200"),
        ("bob@example.com", "403"),
        ("alice@example.org", "401"),
    ] {
        let name = user.split('@').next().expect("a name");
        let answer = tries(&mut alice, user, &format!("secret-{name}"));
        assert!(answer.what.starts_with(code), "{user}: {answer:?}");
    }
    scene.relay.logs(" for bob@example.com: ");
    drop(alice);
    scene.relay.logs("session ended: user=alice@example.com ");
    assert!(!scene.relay.log().contains("@example.com@"), "{}", scene.relay.log());

    // A service that makes credentials may call users so too.
    let store = ephemeral::store();
    store.answers("200", "alice", "example.com", "secret-alice");
    let [name, password] = ephemeral::credentials("alice@example.com");
    let mut alice = store.scene.stranger("alice");
    assert!(tries(&mut alice, &name, &password).what.starts_with("200"));
    drop(alice);
    store.scene.relay.logs("session ended: user=alice@example.com ");
    assert!(!store.scene.relay.log().contains("@example.com@"), "{}", store.scene.relay.log());
}

/// As SIP proxies with one domain leave the column (`use_domain=0`).
#[test]
fn users_may_be_looked_up_by_name_alone() {
    for relay in ["default_domain = example.com", "domains = Example.com"] {
        each_database(|kind| {
            for options in ["", "cleartext_passwords = No\nha1b_col = ha1b"] {
                let Some(database) = Database::new(kind) else { return };
                let realm = relay.split(' ').next_back().expect("a realm");
                let [ha1, _] = hashes("alice", realm, "a");
                let [ha1b, _] = hashes("alice@example.com", realm, "a");
                database.run(
                    "CREATE TABLE subscriber (username VARCHAR(64), password VARCHAR(64), \
                     ha1 VARCHAR(64), ha1b VARCHAR(64))",
                );
                database.run(&format!(
                    "INSERT INTO subscriber VALUES ('alice', 'a', '{ha1}', '{ha1b}'), \
                     ('twin', 'a', 'x', 'x'), ('twin', 'b', 'y', 'y')"
                ));
                let store = Store::over(database, relay, &format!("domain_col =\n{options}"));
                for (code, user, password) in [
                    ("200", "alice", "a"),
                    ("200", "alice@example.com", "a"),
                    ("401", "alice", "b"),
                    ("401", "bob", "a"),
                    ("401", "twin", "a"),
                ] {
                    store.answers(code, user, "EXAMPLE.com", password);
                }
            }
        });
    }
    for relay in ["", "domains = example.com, example.net"] {
        let relay = format!("backend = database\n{relay}");
        let section = "\n[Database]\nuri = sqlite:///nowhere.db\ndomain_col =\n";
        let said = Relay::refuses(&relay, section);
        for part in ["[Database] domain_col", "default_domain", "domains"] {
            assert!(said.contains(part), "{part}: {said}");
        }
    }
    // Where it is not in use it hinders nobody.
    Relay::configured("", false, "\n[Database]\ndomain_col =\n");
}
