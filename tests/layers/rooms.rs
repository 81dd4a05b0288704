//! Which room imports which, which code knows tokio, and which rooms start tasks.

use std::collections::BTreeSet;

use crate::source::{Source, sources};

/// The rooms by level; a room imports only from levels below its own, but for the last, whose
/// members may know each other. A room that stands in no row is on top.
const LEVELS: [&[&str]; 4] = [
    &["msrp", "tls", "config", "clock", "fair"],
    &["session", "auth", "transport", "logging"],
    &["relay"],
    &["control", "client", "cli"],
];

/// Pure code: bytes in, bytes out, the time passed in.
const WITHOUT_TOKIO: [&str; 4] =
    ["src/msrp", "src/session", "src/auth/challenger.rs", "src/transport/peers.rs"];

/// The rooms that live: only they start tasks.
const SPAWNING: [&str; 3] = ["relay", "control", "client"];

/// Starts one thread, which is no task: it writes the log, and may wait as long as it likes.
const WITH_A_THREAD: &str = "src/logging/mod.rs";

/// A program that serves nobody may use tokio's threads for what blocks.
const WITH_BLOCKING: [&str; 1] = ["src/bin/msrpclient"];

#[test]
fn rooms_import_from_the_levels_below_and_never_sideways() {
    let sources = sources("src");
    let rooms: BTreeSet<String> = sources.iter().filter_map(Source::room).collect();
    let offences: Vec<String> =
        sources.iter().flat_map(|source| import_offences(source, &rooms)).collect();
    assert!(offences.is_empty(), "\n{}", offences.join("\n"));
}

#[test]
fn the_pure_rooms_do_not_know_tokio() {
    let offences: Vec<String> = sources("src").iter().flat_map(tokio_offences).collect();
    assert!(offences.is_empty(), "\n{}", offences.join("\n"));
}

#[test]
fn tasks_are_spawned_in_relay_control_and_client_only() {
    let offences: Vec<String> = sources("src").iter().flat_map(spawn_offences).collect();
    assert!(offences.is_empty(), "\n{}", offences.join("\n"));
}

/// A connection to a database looks up its host on the blocking threads of tokio, so clients can
/// fill them. The relay itself waits for none of them.
#[test]
fn nothing_waits_for_a_blocking_thread_of_tokio() {
    let offences: Vec<String> = sources("src").iter().flat_map(blocking_offences).collect();
    assert!(offences.is_empty(), "\n{}", offences.join("\n"));
}

fn import_offences(source: &Source, rooms: &BTreeSet<String>) -> Vec<String> {
    let Some(room) = source.room() else {
        return Vec::new();
    };
    source
        .names_at_root()
        .into_iter()
        .filter_map(|(index, name)| {
            let is_constant =
                name.chars().all(|letter| letter.is_ascii_uppercase() || letter == '_');
            let what = if rooms.contains(&name) {
                if may_import(&room, &name) {
                    return None;
                }
                format!("{room} (level {}) imports {name}", level(&room))
            } else if is_constant {
                return None;
            } else {
                format!("`{name}` is not a room: import it from where it lives")
            };
            Some(source.offence(index, &what))
        })
        .collect()
}

fn tokio_offences(source: &Source) -> Vec<String> {
    if !WITHOUT_TOKIO.iter().any(|pure| source.path.starts_with(pure)) {
        return Vec::new();
    }
    (0..source.tokens.len())
        .filter(|&index| source.text(index).starts_with("tokio"))
        .map(|index| source.offence(index, "tokio in a pure room"))
        .collect()
}

fn spawn_offences(source: &Source) -> Vec<String> {
    if source.is_test() || source.room().is_some_and(|room| SPAWNING.contains(&room.as_str())) {
        return Vec::new();
    }
    (0..source.tests_begin())
        .filter(|&index| source.text(index).starts_with("spawn") || source.text(index) == "JoinSet")
        .skip(usize::from(source.path == WITH_A_THREAD))
        .map(|index| source.offence(index, "a task is spawned outside relay, control and client"))
        .collect()
}

fn blocking_offences(source: &Source) -> Vec<String> {
    if source.is_test() || WITH_BLOCKING.iter().any(|path| source.path.starts_with(path)) {
        return Vec::new();
    }
    let is_tokio = |index: usize| {
        index >= 2 && source.text(index - 1) == "::" && source.text(index - 2) == "tokio"
    };
    (0..source.tests_begin())
        .filter(|&index| match source.text(index) {
            "spawn_blocking" | "block_in_place" | "lookup_host" => true,
            "fs" => is_tokio(index),
            _ => false,
        })
        .map(|index| source.offence(index, "it waits for a blocking thread of tokio"))
        .collect()
}

/// From 1; what stands in no row is on top.
fn level(room: &str) -> usize {
    LEVELS
        .iter()
        .position(|level| level.contains(&room))
        .map_or(LEVELS.len() + 1, |index| index + 1)
}

fn may_import(from: &str, to: &str) -> bool {
    let top = LEVELS.len() + 1;
    from == to || level(to) < level(from) || level(from) == top
}

mod tests {
    use super::*;

    fn offences(path: &str, text: &str) -> Vec<String> {
        let rooms = ["msrp", "config", "session", "auth", "relay", "control", "daemon"];
        let rooms = rooms.iter().map(ToString::to_string).collect();
        import_offences(&Source::new(path, text), &rooms)
    }

    #[test]
    fn imports_downwards_and_within_a_room_pass() {
        for (path, text) in [
            ("src/session/mod.rs", "use crate::msrp::{uri::Uri, Head};"),
            ("src/session/outbox.rs", "use super::Leg; use crate::{config::Limits, msrp::*};"),
            ("src/relay/bridge.rs", "use crate::{auth, session::{self, Leg}, config};"),
            ("src/daemon.rs", "use crate::relay::run; use crate::control;"),
            (
                "src/msrp/uri.rs",
                "pub(crate) fn x() {} // crate::relay\nconst S: &str = \"crate::relay\";",
            ),
            (
                "src/msrp/uri.rs",
                "fn f<'a>(x: &'a str) -> char { '\"' }\nmod tests { use super::*; }",
            ),
            ("src/lib.rs", "pub use crate::relay::run;"),
            ("src/msrp/mod.rs", "const V: &str = crate::VERSION;"),
        ] {
            assert_eq!(offences(path, text), Vec::<String>::new(), "{text}");
        }
    }

    #[test]
    fn imports_upwards_and_sideways_are_found_with_their_line() {
        for (path, text, expected) in [
            (
                "src/msrp/uri.rs",
                "\nuse crate::session::Leg;",
                "src/msrp/uri.rs:2: msrp (level 1) imports session",
            ),
            (
                "src/msrp/mod.rs",
                "use super::config;",
                "src/msrp/mod.rs:1: msrp (level 1) imports config",
            ),
            (
                "src/session/mod.rs",
                "use crate::{\n    msrp,\n    auth::Backend,\n};",
                "src/session/mod.rs:3: session (level 2) imports auth",
            ),
            (
                "src/auth/memory.rs",
                "fn f() { super::super::session::go() }",
                "src/auth/memory.rs:1: auth (level 2) imports session",
            ),
            (
                "src/auth.rs",
                "mod tests { use super::super::relay; }",
                "src/auth.rs:1: auth (level 2) imports relay",
            ),
            (
                "src/relay/mod.rs",
                "use crate::control::x;",
                "src/relay/mod.rs:1: relay (level 3) imports control",
            ),
            (
                "src/control.rs",
                "use crate::daemon::x;",
                "src/control.rs:1: control (level 4) imports daemon",
            ),
            (
                "src/msrp/mod.rs",
                "use crate::Leg;",
                "src/msrp/mod.rs:1: `Leg` is not a room: import it from where it lives",
            ),
        ] {
            assert_eq!(offences(path, text), [expected], "{text}");
        }
    }

    #[test]
    fn tokio_and_spawning_are_found_where_they_do_not_belong() {
        let pure = Source::new("src/session/mod.rs", "use std;\nuse tokio::time;");
        assert_eq!(tokio_offences(&pure), ["src/session/mod.rs:2: tokio in a pure room"]);
        assert!(tokio_offences(&Source::new("src/auth/mod.rs", "use tokio::time;")).is_empty());
        let text = "fn f() { tokio::spawn(x) }\n#[cfg(test)]\nmod tests { fn g() { spawn(y) } }";
        assert_eq!(spawn_offences(&Source::new("src/auth/mod.rs", text)).len(), 1);
        let two = text.replacen('x', "spawn", 1);
        assert_eq!(spawn_offences(&Source::new(WITH_A_THREAD, &two)).len(), 1);
        for path in ["src/relay/mod.rs", "src/auth/memory/tests.rs", "src/auth/tests/races.rs"] {
            assert!(spawn_offences(&Source::new(path, text)).is_empty(), "{path}");
        }
        let text = "use std::fs; fn f() { spawn_blocking(x); tokio::fs::read(y) }";
        assert_eq!(blocking_offences(&Source::new("src/relay/mod.rs", text)).len(), 2);
    }
}
