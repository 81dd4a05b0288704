//! What an operator gets wrong at the start, and the line that he is told: on the terminal, by the
//! process that launches a daemon, and by `--check-config`.
//!
//! `cargo test --test daemon mistakes:: -- --nocapture` prints the table.

use std::{fs, net::TcpListener, os::unix::process::CommandExt as _, process::Command};

use nix::unistd::{Pid, geteuid};

use crate::harness::{Foreground, Outcome, Site, TLS, can_isolate, certificate, finish};

/// Where the line is told.
#[derive(Clone, Copy, PartialEq)]
enum Told {
    /// Wherever a start is tried, and by `--check-config`; the relay does not start.
    Everywhere,
    /// The same, but only a start can know.
    AtStart,
    /// By a start as a daemon only.
    ByDaemon,
    /// As a warning: the relay starts.
    AsWarning,
}

/// A configuration, or a machine, that does not serve.
///
/// In the texts, `{dir}` is the directory of the configuration and `{port}` a port that is taken.
struct Mistake {
    name: &'static str,
    told: Told,
    /// Lines of `[Relay]`; they begin on line 3.
    options: &'static str,
    spoil: fn(&Site),
    line: &'static str,
}

const PLAIN: &str = "debug_notls = yes\naddress = 127.0.0.1:0\n";

const MISTAKES: &[Mistake] = &[
    Mistake {
        name: "port taken",
        told: Told::AtStart,
        options: "debug_notls = yes\naddress = 127.0.0.1:{port}",
        spoil: |_| {},
        line: "{dir}/config.ini:4: [Relay] address: cannot listen on 127.0.0.1:{port}: Address \
               already in use (os error 98): another program listens there, `ss -ltnp sport = \
               :{port}` names it; stop it or set another address",
    },
    Mistake {
        name: "address of another machine",
        told: Told::AtStart,
        options: "debug_notls = yes\naddress = 192.0.2.1:2855",
        spoil: |_| {},
        line: "{dir}/config.ini:4: [Relay] address: cannot listen on 192.0.2.1:2855: Cannot assign \
               requested address (os error 99): this machine has no such address, `ip address` \
               lists those it has",
    },
    Mistake {
        name: "address in another",
        told: Told::Everywhere,
        options: "debug_notls = yes\naddress = 0.0.0.0:{port}, 127.0.0.1:{port}",
        spoil: |_| {},
        line: "{dir}/config.ini:4: [Relay] address: 0.0.0.0:{port} includes 127.0.0.1:{port}: name \
               only one of them",
    },
    Mistake {
        name: "address unknown",
        told: Told::Everywhere,
        options: "debug_notls = yes\naddress = nowhere.invalid:2855",
        spoil: |_| {},
        line: "{dir}/config.ini:4: [Relay] address: nowhere.invalid cannot be resolved: ",
    },
    Mistake {
        name: "certificate missing",
        told: Told::Everywhere,
        options: "certificate = other.crt\nkey = relay.key",
        spoil: |_| {},
        line: "{dir}/config.ini:3: [Relay] certificate: certificate file {dir}/other.crt does not \
               exist: make a pair with make-selfsigned.sh, or set `certificate` and `key` to yours",
    },
    Mistake {
        name: "certificate not set",
        told: Told::Everywhere,
        options: "key = relay.key",
        spoil: |_| {},
        line: "{dir}/config.ini: [Relay] certificate is not set: TLS needs a certificate and its \
               key, both PEM files; debug_notls = yes does without, for debugging",
    },
    Mistake {
        name: "certificate expired",
        told: Told::AsWarning,
        options: TLS,
        spoil: |site| {
            let (certificate, key) = certificate(&["relay.example.com"], 2024);
            site.write("relay.crt", &certificate);
            site.write("relay.key", &key);
        },
        line: "{dir}/config.ini:3: [Relay] certificate: certificate {dir}/relay.crt expired at \
               2024-12-31 00:00:00 UTC: clients that verify it will refuse this relay; renew it \
               and reload",
    },
    Mistake {
        name: "certificate without SAN",
        told: Told::Everywhere,
        options: TLS,
        spoil: |site| {
            let (certificate, key) = certificate(&[], 2090);
            site.write("relay.crt", &certificate);
            site.write("relay.key", &key);
        },
        line: "{dir}/config.ini:3: [Relay] certificate: certificate file {dir}/relay.crt holds a \
               certificate that has no DNS name in its subjectAltName: the common name does not \
               count (RFC 4976 section 9.2), get one with a DNS name, for example with \
               make-selfsigned.sh",
    },
    Mistake {
        name: "chain whose certificates share a line",
        told: Told::Everywhere,
        options: TLS,
        spoil: |site| {
            let issuer = certificate(&["issuer.example.com"], 2090).0;
            let own = site.read("relay.crt");
            let body: String = own.lines().filter(|line| !line.starts_with('-')).collect();
            let own = format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----");
            site.write("relay.crt", &format!("{own}{issuer}"));
        },
        line: "{dir}/config.ini:3: [Relay] certificate: certificate file {dir}/relay.crt is damaged \
               in line 3 (a boundary that shares its line): put each BEGIN and each END on a line \
               of its own",
    },
    Mistake {
        name: "chain with a misspelt label",
        told: Told::Everywhere,
        options: TLS,
        spoil: |site| {
            let issuer = certificate(&["issuer.example.com"], 2090).0;
            let issuer = issuer.replace("CERTIFICATE", "CERTIFICAT");
            site.write("relay.crt", &format!("{issuer}{}", site.read("relay.crt")));
        },
        line: "{dir}/config.ini:3: [Relay] certificate: certificate file {dir}/relay.crt has in line \
               1 a section \"CERTIFICAT\", which is not read: a certificate is a section \
               CERTIFICATE; correct the label, or remove the section",
    },
    Mistake {
        name: "key of another certificate",
        told: Told::Everywhere,
        options: TLS,
        spoil: |site| site.write("relay.key", &certificate(&["relay.example.com"], 2090).1),
        line: "{dir}/config.ini:4: [Relay] key: the private key in {dir}/relay.key does not belong \
               to the certificate in {dir}/relay.crt: name the two that were made together",
    },
    Mistake {
        name: "key encrypted",
        told: Told::Everywhere,
        options: TLS,
        spoil: |site| {
            let key = site.read("relay.key");
            site.write("relay.key", &key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY"));
        },
        line: "{dir}/config.ini:4: [Relay] key: key file {dir}/relay.key is encrypted, and nobody \
               is there to type the passphrase: decrypt it with `(umask 077; openssl pkey -in \
               {dir}/relay.key -out FILE)` and set `key` to FILE",
    },
    Mistake {
        name: "host name not in the certificate",
        told: Told::Everywhere,
        options: "certificate = relay.crt\nkey = relay.key\nhostname = other.example.com",
        spoil: |_| {},
        line: "{dir}/config.ini:5: [Relay] hostname: the hostname \"other.example.com\" is not \
               among the DNS subject alternative names of the TLS certificate (relay.example.com): \
               set `hostname` to one of them or get a certificate for it",
    },
    Mistake {
        name: "unknown backend",
        told: Told::Everywhere,
        options: PLAIN,
        spoil: |site| site.edit("backend = memory", "backend = telepathy"),
        line: "{dir}/config.ini:2: [Relay] backend = \"telepathy\": accepted is database, ephemeral \
               or memory, or several separated by commas",
    },
    Mistake {
        name: "backend of 1.x",
        told: Told::Everywhere,
        options: PLAIN,
        spoil: |site| site.edit("backend = memory", "backend = sipthor"),
        line: "{dir}/config.ini:2: [Relay] backend = \"sipthor\": accepted is database, ephemeral \
               or memory, or several separated by commas; sipthor, which 1.x had, is gone: take \
               database, with the table in which the SIP proxy keeps its users, or memory",
    },
    Mistake {
        name: "comment behind a value",
        told: Told::Everywhere,
        options: "debug_notls = yes\naddress = 127.0.0.1:0 ; office",
        spoil: |_| {},
        line: "{dir}/config.ini:4: [Relay] address = \"127.0.0.1:0 ; office\": accepted is \
               host:port, host, :port, any:port, [IPv6]:port or default, or several separated by \
               commas; a comment stands on a line of its own, behind a value it is part of it",
    },
    Mistake {
        name: "quotes",
        told: Told::Everywhere,
        options: "debug_notls = yes\nhostname = \"relay.example.com\"",
        spoil: |_| {},
        line: "{dir}/config.ini:4: [Relay] hostname = \"\"relay.example.com\"\": accepted is a host \
               name, or with debug_notls an address; a value is written without quotes",
    },
    Mistake {
        name: "plain TCP",
        told: Told::AsWarning,
        options: PLAIN,
        spoil: |_| {},
        line: "{dir}/config.ini:3: [Relay] debug_notls is on: there is no TLS, and everybody on the \
               way can read messages and files, and digests from which passwords can be guessed; \
               set certificate and key, and turn it off, unless this is a test",
    },
    Mistake {
        name: "users in another section",
        told: Told::AsWarning,
        options: TLS,
        spoil: |site| site.edit("[Memory]", "[Users]"),
        line: "{dir}/config.ini:8: unknown section [Users] is ignored; did you mean [Memory]? Lines \
               user@domain = password belong there",
    },
    Mistake {
        name: "bad address",
        told: Told::Everywhere,
        options: "debug_notls = yes\naddress = 127.0.0.1:99999",
        spoil: |_| {},
        line: "{dir}/config.ini:4: [Relay] address = \"127.0.0.1:99999\": accepted is host:port, \
               host, :port, any:port, [IPv6]:port or default, or several separated by commas",
    },
    Mistake {
        name: "bad number",
        told: Told::Everywhere,
        options: "debug_notls = yes\nsession_expiration_time_default = ten",
        spoil: |_| {},
        line: "{dir}/config.ini:4: [Relay] session_expiration_time_default = \"ten\": accepted is \
               a whole number of seconds from 1 to 4294967295",
    },
    Mistake {
        name: "no assignment",
        told: Told::Everywhere,
        options: "debug_notls yes",
        spoil: |_| {},
        line: "{dir}/config.ini:3: [Relay] the line is not understood; accepted is name = value",
    },
    Mistake {
        name: "duplicate",
        told: Told::Everywhere,
        options: "debug_notls = yes\nbackend = memory",
        spoil: |_| {},
        line: "{dir}/config.ini:4: [Relay] backend stands twice, first on line 2: remove one",
    },
    Mistake {
        name: "unknown option",
        told: Told::AsWarning,
        options: "debug_notls = yes\nadress = 127.0.0.1:0\naddress = 127.0.0.1:0",
        spoil: |_| {},
        line: "{dir}/config.ini:4: [Relay] unknown option adress is ignored; did you mean address?",
    },
    Mistake {
        name: "unknown user",
        told: Told::Everywhere,
        options: "debug_notls = yes\nuser = no-such-user",
        spoil: |_| {},
        line: "{dir}/config.ini:4: [Relay] user = \"no-such-user\": there is no such user; make it \
               with `adduser --system --group no-such-user`",
    },
    Mistake {
        name: "no configuration file",
        told: Told::Everywhere,
        options: "",
        spoil: |site| fs::remove_file(site.path("config.ini")).expect("a file"),
        line: "{dir}/config.ini: cannot be read: No such file or directory (os error 2); \
               --config-file and --config-dir name another one",
    },
    Mistake {
        name: "pid file that another relay holds",
        told: Told::ByDaemon,
        options: PLAIN,
        spoil: |site| {
            fs::create_dir(site.path("run")).expect("a directory");
            site.write("run/msrprelay.pid", &format!("{}\n", Pid::this()));
            let file = fs::File::open(site.path("run/msrprelay.pid")).expect("a file");
            file.lock().expect("a lock");
            // Held as long as the test runs.
            std::mem::forget(file);
        },
        line: "already running with pid {pid}: stop it first, or give this one a --runtime-dir of \
               its own; {dir}/run/msrprelay.pid is locked",
    },
    Mistake {
        name: "runtime directory that cannot be made",
        told: Told::ByDaemon,
        options: PLAIN,
        spoil: |site| site.write("run", "a file"),
        line: "cannot make the runtime directory {dir}/run: File exists (os error 17); start the \
               relay as root, or let --runtime-dir name a directory that it may write to",
    },
];

#[test]
fn each_is_told_with_what_to_do() {
    for mistake in MISTAKES {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port().to_string();
        let site = || {
            let site = Site::new();
            let mut options = mistake.options.replace("{port}", &port);
            if !options.contains("address") {
                // The usual port may be taken, which would be told first.
                options.push_str("\naddress = 127.0.0.1:0");
            }
            site.configure(&options);
            (mistake.spoil)(&site);
            site
        };
        let line = |site: &Site| {
            let line = mistake
                .line
                .replace("{dir}", site.path("").to_str().unwrap().trim_end_matches('/'));
            line.replace("{port}", &port).replace("{pid}", &Pid::this().to_string())
        };
        println!("{}\n    {}", mistake.name, mistake.line);

        if mistake.told != Told::ByDaemon {
            let site = site();
            if mistake.told == Told::AsWarning {
                let mut relay = Foreground::start(site.command(&["--no-fork"]));
                let told = relay.logs(&line(&site));
                assert!(told.ends_with(&line(&site)) && told.contains(" WARN "), "{told}");
                relay.logs("listening on");
            } else {
                let ended = site.run(&["--no-fork"]);
                assert!(has(&ended, 1, "msrprelay: ", &line(&site)), "{ended:#?}");
            }
        }

        let launching = site();
        let launched = launching.run(&[]);
        if mistake.told == Told::AsWarning {
            let _daemon = launching.daemon();
            assert!(has(&launched, 0, "msrprelay: warning: ", &line(&launching)), "{launched:#?}");
        } else {
            assert!(has(&launched, 1, "msrprelay: ", &line(&launching)), "{launched:#?}");
        }

        let site = site();
        let checked = site.run(&["--check-config"]);
        match mistake.told {
            Told::Everywhere => {
                assert!(has(&checked, 1, "error: ", &line(&site)), "{checked:#?}");
            }
            Told::AsWarning => {
                assert!(has(&checked, 0, "warning: ", &line(&site)), "{checked:#?}");
            }
            Told::AtStart | Told::ByDaemon => assert!(checked.status.success(), "{checked:#?}"),
        }
    }
}

/// Root reads everything, so somebody else tries.
#[test]
fn what_may_not_be_read_or_written_is_named_with_its_mode() {
    let mut site = Site::at(0, "");
    if geteuid().is_root() {
        site.share_program();
    }
    let key = site.path("relay.key");
    let mut permissions = fs::metadata(&key).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o000);
    fs::set_permissions(&key, permissions).unwrap();

    let owner = format!("{}:{}", nix::unistd::getuid(), nix::unistd::getgid());
    let line = format!(
        "{dir}/config.ini:5: [Relay] key: key file {key} cannot be read (permission denied): it \
         belongs to {owner} with mode 0000, let the relay's group in with `chgrp {group} {key} && \
         chmod 0640 {key}`",
        dir = key.parent().unwrap().display(),
        key = key.display(),
        group = group_of_nobody(),
    );
    println!("key unreadable\n    {line}");
    for arguments in [&["--no-fork"][..], &["--check-config"]] {
        let ended = finish(as_nobody(site.command(arguments)));
        assert_eq!(ended.status.code(), Some(1));
        assert!(ended.stderr.lines().any(|told| told.ends_with(&line)), "{line}\n{ended:#?}");
    }

    // Whoever is not root here could write all of that.
    if geteuid().is_root() {
        site.configure(PLAIN);
        let launched = finish(as_nobody(site.command(&[])));
        let line = format!(
            "msrprelay: cannot make the runtime directory {}: Permission denied (os error 13); \
             start the relay as root, or let --runtime-dir name a directory that it may write to",
            site.path("run").display()
        );
        println!("no permission for the runtime directory\n    {line}");
        assert_eq!(launched.status.code(), Some(1));
        assert!(launched.stderr.lines().any(|told| told == line), "{launched:#?}");

        // One that is there and is another's.
        fs::create_dir(site.path("run")).unwrap();
        let launched = finish(as_nobody(site.command(&[])));
        let line = format!(
            "msrprelay: cannot write the pid file {}: Permission denied (os error 13); start the \
             relay as root, or let --runtime-dir name a directory that it may write to",
            site.path("run/msrprelay.pid").display()
        );
        assert_eq!(launched.status.code(), Some(1));
        assert!(launched.stderr.lines().any(|told| told == line), "{launched:#?}");
    }
}

#[test]
fn a_port_below_1024_is_not_for_everybody() {
    if !can_isolate("a low port") {
        return;
    }
    let mut site = Site::new();
    site.share_program();
    site.configure("debug_notls = yes\naddress = 127.0.0.1:443\n");
    let mut command = Command::new("unshare");
    let relay = site.command(&["--no-fork"]);
    // Containers may give low ports to everybody; a network of its own has the usual rule.
    let script = "echo 1024 > /proc/sys/net/ipv4/ip_unprivileged_port_start; ip link set lo up; \
                  exec setpriv --reuid 65534 --regid 65534 --clear-groups \"$@\"";
    command
        .args(["--net", "sh", "-c", script, "sh"])
        .arg(relay.get_program())
        .args(relay.get_args());
    let ended = finish(command);
    let line = "[Relay] address: cannot listen on 127.0.0.1:443: Permission denied (os error 13): \
                ports below 1024 are for root and for whoever has CAP_NET_BIND_SERVICE";
    assert!(ended.stderr.lines().any(|told| told.ends_with(line)), "{ended:#?}");
}

/// One of them may be why it failed.
#[test]
fn warnings_are_told_with_the_failure() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let site = Site::new();
    let address = format!("address = {}\n", taken.local_addr().unwrap());
    for (options, failure) in [
        (format!("debug_notls = yes\nadress = x\n{address}"), "Address already in use"),
        ("debug_notls = yes\nadress = x\nlog_level = loud".to_owned(), "log_level = \"loud\""),
    ] {
        site.configure(&options);
        for arguments in [&["--no-fork"][..], &[]] {
            let ended = site.run(arguments);
            assert_eq!(ended.status.code(), Some(1));
            let lines: Vec<&str> = ended.stderr.lines().collect();
            assert!(lines.iter().any(|line| line.contains("unknown option adress")), "{ended:#?}");
            assert!(lines.last().is_some_and(|line| line.contains(failure)), "{ended:#?}");
        }
    }
}

#[test]
fn wrong_usage_is_two() {
    let site = Site::new();
    let ended = site.run(&["--no-frok"]);
    assert_eq!(ended.status.code(), Some(2));
    assert!(ended.stderr.contains("--no-fork"), "{ended:#?}");
}

/// Whether it ended so, and told the line; one that ends with a blank goes on as the system says.
fn has(ended: &Outcome, status: i32, prefix: &str, line: &str) -> bool {
    let expected = format!("{prefix}{line}");
    let matches = |told: &str| {
        if line.ends_with(' ') { told.starts_with(&expected) } else { told == expected }
    };
    ended.status.code() == Some(status) && ended.stderr.lines().any(matches)
}

fn as_nobody(mut command: Command) -> Command {
    if geteuid().is_root() {
        command.uid(65534).gid(65534);
    }
    command
}

fn group_of_nobody() -> String {
    let group =
        if geteuid().is_root() { nix::unistd::Gid::from_raw(65534) } else { nix::unistd::getgid() };
    let named = nix::unistd::Group::from_gid(group).expect("the groups");
    named.map_or_else(|| group.to_string(), |group| group.name)
}
