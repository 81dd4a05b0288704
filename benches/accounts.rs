//! What an AUTH costs, end to end, by where accounts are kept: logins a second over connections
//! that hold a session, and CPU time of the relay for each.
//!
//! Run by `cargo bench --bench accounts`; `-- --quick` only proves that it works.

#[expect(dead_code, reason = "the tests of outages use the rest of it")]
#[path = "../tests/outages/crowd.rs"]
mod crowd;
#[path = "../tests/wire/harness/mod.rs"]
#[expect(dead_code, unused_imports, reason = "the tests need all of it, this a part")]
mod harness;

use std::time::Duration;

use crowd::{Claim, refreshes};
use harness::{Database, Kind, Relay};
use nix::{time::clock_getcpuclockid, unistd::Pid};

const CLAIM: Claim = Claim { user: "alice", password: "secret-alice" };
const CONNECTIONS: usize = 32;
/// Rows beside the user's own.
const ROWS: usize = 10_000;

fn main() {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let time = if quick { Duration::from_millis(500) } else { Duration::from_secs(5) };
    println!("{:<28}{:>10}{:>16}", "accounts in", "AUTH/s", "CPU per AUTH");
    measure("memory", "backend = memory", "", time);
    for kind in [Kind::Sqlite, Kind::MariaDb, Kind::Postgres] {
        let Some(database) = Database::new(kind) else { continue };
        fill(&database);
        for (name, more) in [("", ""), (", cache_time = 60", "cache_time = 60\n")] {
            let section = format!("\n[Database]\n{}{more}", database.options());
            measure(&format!("{kind:?}{name}"), "backend = database", &section, time);
        }
    }
}

fn fill(database: &Database) {
    database.run(
        "CREATE TABLE subscriber (username VARCHAR(64), domain VARCHAR(64), \
         password VARCHAR(64), PRIMARY KEY (username, domain))",
    );
    let rows: Vec<String> =
        (0..ROWS).map(|row| format!("('user{row}', 'example.com', 'secret-{row}')")).collect();
    database.run(&format!("INSERT INTO subscriber VALUES {}", rows.join(", ")));
    database.run("INSERT INTO subscriber VALUES ('alice', 'example.com', 'secret-alice')");
}

fn measure(name: &str, backend: &str, section: &str, time: Duration) {
    let relay = Relay::configured(&format!("{backend}\nlog_level = INFO"), false, section);
    let id = i32::try_from(relay.pid()).expect("a process id");
    let clock = clock_getcpuclockid(Pid::from_raw(id)).expect("a process clock");
    let cpu = || Duration::from(clock.now().expect("the time of a process"));
    refreshes(relay.address(), CLAIM, CONNECTIONS, time / 5);
    let before = cpu();
    let (granted, took) = refreshes(relay.address(), CLAIM, CONNECTIONS, time);
    let spent = cpu().saturating_sub(before);
    let rate = f64::from(granted) / took.as_secs_f64();
    let each = spent / granted.max(1);
    println!("{name:<28}{rate:>10.0}{:>16}", format!("{each:.1?}"));
}
