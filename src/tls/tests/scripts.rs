//! The scripts of `tls/` make what the relay can use.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
    process::{Command, Output},
    time::{Duration, SystemTime},
};

use tempfile::TempDir;
use x509_parser::{extensions::GeneralName, parse_x509_certificate};

use super::{
    super::{Anchors, Identity, Verification, client_config, server_config},
    assert_success, openssl, shake_hands, write,
};

/// Runs a script of `tls/` with `tool`.
fn script(name: &str, tool: &str, dir: &Path, arguments: &[&str]) -> Output {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tls").join(name);
    let mut command = Command::new(path);
    command.args(["-t", tool, "-o"]).arg(dir).args(arguments).current_dir(dir);
    command.output().unwrap()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o777
}

#[expect(clippy::disallowed_methods, reason = "the scripts count from today")]
fn now() -> SystemTime {
    SystemTime::now()
}

const NAMES: [&str; 4] = ["relay.example.com", "*.example.org", "192.0.2.1", "2001:db8::1"];

/// Loads what a script made and checks names, dates and modes.
fn check_script_pair(dir: &Path, days: u64) -> Identity {
    let (certificate, key) = (dir.join("relay.crt"), dir.join("relay.key"));
    let identity = Identity::load(&certificate, &key).unwrap();
    assert_eq!(identity.dns_names(), ["relay.example.com", "*.example.org"]);
    assert_eq!(identity.file_findings, []);
    let lifetime = identity.not_after().duration_since(now()).unwrap();
    let day = Duration::from_hours(24);
    let days = u32::try_from(days).unwrap();
    assert!(lifetime <= day * days && lifetime > day * (days - 1), "{lifetime:?}");
    assert_eq!((mode(&key), mode(&certificate)), (0o600, 0o644));
    let (_, parsed) = parse_x509_certificate(&identity.chain()[0]).unwrap();
    let sans = parsed.subject_alternative_name().unwrap().unwrap();
    let addresses: Vec<&[u8]> = sans
        .value
        .general_names
        .iter()
        .filter_map(|name| match name {
            GeneralName::IPAddress(octets) => Some(*octets),
            _ => None,
        })
        .collect();
    let v6 = "2001:db8::1".parse::<std::net::Ipv6Addr>().unwrap().octets();
    assert_eq!(addresses, [&[192, 0, 2, 1][..], &v6[..]]);
    assert!(!parsed.is_ca());
    let usage = parsed.key_usage().unwrap().unwrap().value;
    assert!(usage.digital_signature() && !usage.key_cert_sign());
    let extended = parsed.extended_key_usage().unwrap().unwrap().value;
    assert!(extended.server_auth && extended.client_auth);
    identity
}

/// A handshake in memory with `verify_next_hop = enforce`.
fn trusted_by_our_verifier(identity: &Identity, ca: &Path) {
    let mut anchors = Anchors::empty();
    anchors.add_bundle(ca).unwrap();
    let config = client_config(Verification::Enforce { anchors }, None).unwrap();
    let server = server_config(std::slice::from_ref(identity)).unwrap();
    shake_hands("relay.example.com", config, server).unwrap();
}

fn the_scripts_work_with(tool: &str) {
    let installed = Command::new(tool).arg("--version").output();
    assert!(installed.is_ok(), "the tests need {tool} (packages openssl and gnutls-bin)");
    let dir = TempDir::new().unwrap();
    let own = dir.path().join("own");
    let signed = dir.path().join("signed");
    fs::create_dir(&own).unwrap();
    fs::create_dir(&signed).unwrap();
    // A file that the asterisk would match if it were taken for a pattern.
    write(&own, "x.example.org", "");
    let arguments = [&["-d", "30"][..], &NAMES].concat();
    assert_success(&script("make-selfsigned.sh", tool, &own, &arguments));
    assert_success(&script("make-ca-signed.sh", tool, &signed, &arguments));
    assert_eq!(mode(&signed.join("ca.key")), 0o600);
    openssl(&["verify", "-x509_strict", "-CAfile", "ca.crt", "relay.crt"], &signed);
    openssl(&["verify", "-CAfile", "relay.crt", "relay.crt"], &own);
    let (own_pair, signed_pair) = (check_script_pair(&own, 30), check_script_pair(&signed, 30));
    trusted_by_our_verifier(&own_pair, &own.join("relay.crt"));
    trusted_by_our_verifier(&signed_pair, &signed.join("ca.crt"));

    // Nothing is overwritten; with -f the mode stays and the authority too.
    let before = fs::read(signed.join("relay.key")).unwrap();
    let authority = fs::read(signed.join("ca.crt")).unwrap();
    let kept = script("make-ca-signed.sh", tool, &signed, &arguments);
    assert_eq!(kept.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&kept.stderr).contains("relay.crt exists and is kept"));
    assert_eq!(fs::read(signed.join("relay.key")).unwrap(), before);
    let key = signed.join("relay.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let force = [&["-f"][..], &arguments].concat();
    assert_success(&script("make-ca-signed.sh", tool, &signed, &force));
    assert_ne!(fs::read(&key).unwrap(), before);
    assert_eq!(mode(&key), 0o640, "mode kept, but nothing for others");
    assert_eq!(fs::read(signed.join("ca.crt")).unwrap(), authority);
    openssl(&["verify", "-CAfile", "ca.crt", "relay.crt"], &signed);

    // Half an authority is no reason to make another.
    fs::remove_file(signed.join("ca.key")).unwrap();
    let half = script("make-ca-signed.sh", tool, &signed, &force);
    assert!(String::from_utf8_lossy(&half.stderr).contains("only one of ca.crt and ca.key"));
    let left: Vec<_> = fs::read_dir(&signed).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left.len(), 3, "temporary files are left: {left:?}");
}

#[test]
fn the_scripts_work_with_openssl() {
    the_scripts_work_with("openssl");
}

#[test]
fn the_scripts_work_with_certtool() {
    the_scripts_work_with("certtool");
}

#[test]
fn the_scripts_refuse_what_they_cannot_do() {
    let dir = TempDir::new().unwrap();
    let run = |arguments: &[&str]| {
        let output = script("make-selfsigned.sh", "openssl", dir.path(), arguments);
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let long = format!("{}.example.com", "a".repeat(250));
    let cases = [
        (&[][..], "name the relay"),
        (&["-d", "0", "r.example.com"], "-d wants a number of days"),
        (&["-d", "1x", "r.example.com"], "-d wants a number of days"),
        (&["-d", "99999", "r.example.com"], "-d wants a number of days"),
        (&["-d"], "option -d needs a value"),
        (&["-x", "r.example.com"], "unknown option -x"),
        (&["192.0.2.1"], "must be a host name"),
        (&["r example.com"], "neither a host name nor an address"),
        (&["r.example.com", "a\nDNS.9 = evil.example.com"], "neither a host name"),
        (&["r..example.com"], "is not a host name"),
        (&["a.*.example.com"], "an asterisk stands for the first label only"),
        (&[&long], "is longer than the 253 characters"),
    ];
    for (arguments, reason) in cases {
        let (code, stderr) = run(arguments);
        assert_eq!(code, Some(2), "{arguments:?}: {stderr}");
        assert!(stderr.contains(reason), "{arguments:?}: {stderr}");
    }
    assert_eq!(run(&["--help"]), (Some(0), String::new()));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    let (code, stderr) = run(&["-o", "nowhere", "r.example.com"]);
    assert_eq!((code, stderr.contains("no directory nowhere")), (Some(1), true), "{stderr}");
}
