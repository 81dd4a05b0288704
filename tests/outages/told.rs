//! What the operator is told of a database that is away: by `msrprelayctl`, and by a check of the
//! configuration.

use std::{
    process::Output,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde_json::Value;

use crate::{
    CLAIMS, Stage,
    crowd::crowd,
    gate::Mode,
    harness::{Kind, now, sleep, until, until_within},
};

/// The relay asks a database that fails every 10 s, and waits for the answer.
const RETURN: Duration = Duration::from_secs(16);

/// Where the file names the database, and what the relay calls it.
struct Words {
    place: String,
    database: String,
}

impl Stage {
    /// The health of the only backend that can fail.
    #[track_caller]
    fn health(&self) -> Value {
        let health = self.relay.status()["backend_health"].take();
        let list = health.as_array().expect("a list");
        assert_eq!(list.len(), 1, "{list:?}");
        list[0].clone()
    }

    fn words(&self, kind: Kind) -> Words {
        let kind = if kind == Kind::MariaDb { "MySQL" } else { "PostgreSQL" };
        Words {
            place: format!("{}: [Database] uri: ", self.relay.line_of("uri")),
            database: format!("{kind} database sip at {}", self.gate.address()),
        }
    }

    /// What `msrprelayctl status` prints.
    #[track_caller]
    fn status(&self) -> String {
        successful(self.relay.ctl(&["status"])).0
    }

    /// What `msrprelayctl reload` warns of.
    #[track_caller]
    fn reload(&self) -> String {
        successful(self.relay.ctl(&["reload"])).1
    }

    /// The warnings of a check, and its verdict.
    #[track_caller]
    fn check(&self) -> (String, String) {
        let (said, warnings) = successful(self.relay.check());
        (warnings, said.lines().last().unwrap_or_default().to_owned())
    }

    /// One login of zoe, who is in the database.
    fn code(&self) -> String {
        let (logins, _) = crowd(self.relay.address(), &CLAIMS[1..], 20, Duration::from_millis(40));
        logins[0].code.clone()
    }
}

/// What a command prints that succeeds, on stdout and on stderr. No part of the password is in it.
#[track_caller]
fn successful(output: Output) -> (String, String) {
    assert!(output.status.success(), "{output:?}");
    let [said, warned] =
        [output.stdout, output.stderr].map(|text| String::from_utf8(text).expect("text"));
    for text in [&said, &warned] {
        assert!(!text.contains("p@ss") && !text.contains("w#rd"), "{text}");
    }
    (said, warned)
}

#[test]
fn an_outage_is_told_from_its_beginning_to_its_end() {
    for kind in [Kind::MariaDb, Kind::Postgres] {
        let Some(stage) = Stage::set(kind) else { continue };
        let Words { place, database } = stage.words(kind);

        until("an answer", || stage.health()["state"] == "answers");
        let health = stage.health();
        assert_eq!(
            (&health["name"], &health["place"]),
            (&"database".into(), &database.as_str().into())
        );
        let text = stage.status();
        let below = format!("  backends       memory, database\n{:17}{database}: answers, ", "");
        assert!(text.contains(&below) && !text.contains("AWAY"), "{text}");
        assert!(!stage.reload().contains("[Database]"), "{}", stage.reload());
        assert!(!stage.check().0.contains("[Database]"), "{:?}", stage.check());

        // What MariaDB has not written for a second is lost with it, and zoe is new.
        sleep(2000);
        stage.server.kill();
        let killed = seconds();
        match kind {
            // Who reloads is told although nobody has logged in since.
            Kind::MariaDb => {
                let warned = stage.reload();
                assert!(warned.contains(&format!("warning: {place}{database}: ")), "{warned}");
                assert!(warned.contains("; until it answers, its users get 500\n"), "{warned}");
            }
            _ => assert_eq!(stage.code(), "500"),
        }
        let health = stage.health();
        assert_eq!(health["state"], "fails", "{health}");
        let since = health["since"].as_u64().expect("a moment");
        assert!((killed.saturating_sub(1)..=seconds()).contains(&since), "{since}");
        let fault = health["fault"].as_str().expect("a reason").to_owned();
        let text = stage.status();
        let [away, at, why] = ["  DATABASE AWAY  since ", &database, &fault];
        let lines: Vec<&str> = text.lines().skip_while(|line| !line.starts_with(away)).collect();
        assert!(lines.len() > 3, "{text}");
        assert!(lines[0].ends_with(" ago), its users get 500"), "{text}");
        assert_eq!([lines[1].trim_start(), lines[2].trim_start()], [at, why]);
        let (warnings, verdict) = stage.check();
        assert!(warnings.contains(&format!("warning: {place}{database}: ")), "{warnings}");
        assert!(verdict.starts_with("the relay can start with this configuration; see the "));
        let (json, _) = successful(stage.relay.ctl(&["--json", "status"]));
        assert!(json.contains("\"state\":\"fails\""), "{json}");

        // Nobody logs in, and it is told all the same.
        stage.server.boot();
        until_within(RETURN, "an answer", || stage.health()["state"] == "answers");
        assert!(!stage.status().contains("AWAY"), "{}", stage.status());
        assert!(!stage.reload().contains("[Database]"), "{}", stage.reload());
        assert!(!stage.check().0.contains("[Database]"), "{:?}", stage.check());
        assert_eq!(stage.code(), "200");
        let log = stage.relay.log();
        assert!(!log.contains("p@ss") && !log.contains("w#rd"), "{log}");
    }
}

/// A reload is in force before the database is asked, so it does not wait for one that hangs; what
/// comes of the question is told by the next status.
#[test]
fn a_reload_does_not_wait_for_a_database_that_hangs() {
    const TIMEOUT: u64 = 6;

    let Some(mut stage) = Stage::with_timeout(Kind::MariaDb, TIMEOUT) else { return };
    let Words { place, database } = stage.words(Kind::MariaDb);
    until("an answer", || stage.health()["state"] == "answers");
    stage.gate.set(Mode::Silent);
    let began = now();
    let warned = stage.reload();
    let took = began.elapsed();
    assert!(took < Duration::from_secs(4), "{took:?}");
    let warning = format!("{place}{database} has not answered yet; until it answers, ");
    assert!(warned.contains(&warning), "{warned}");
    until_within(Duration::from_secs(TIMEOUT + 2), "the outcome", || {
        stage.health()["state"] == "fails"
    });
    assert_eq!(stage.health()["fault"], format!("no answer within {TIMEOUT} s"));
    stage.gate.set(Mode::Open);
    until_within(RETURN, "an answer", || stage.health()["state"] == "answers");
}

/// The time of day in whole seconds since 1970.
#[expect(clippy::disallowed_methods, reason = "a status dates by it")]
fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}
