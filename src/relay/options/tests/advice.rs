//! What is told to whoever expects another syntax, section or backend.

use super::{PLAIN, TLS, errors, parse, warnings};

/// All users in a section of another name: the relay would know nobody.
#[test]
fn users_in_the_wrong_section_are_found() {
    let belongs = "Lines user@domain = password belong there";
    for section in ["memory", "Users", "Accounts"] {
        let text = format!("[Relay]\ndebug_notls = 1\nbackend = memory\n[{section}]\na@b = s3cr3t");
        let expected = [
            ":3: [Relay] backend is memory, but [Memory] has no user".to_owned(),
            format!(":4: unknown section [{section}] is ignored; did you mean [Memory]? {belongs}"),
        ];
        assert_eq!(warnings(&text), expected);
    }
    let expected = ":4: [Relay] unknown option a@b is ignored; a line user@domain = password belongs to [Memory]";
    let told = warnings(&format!("{PLAIN}a@b = s3cr3t"));
    assert!(told.iter().any(|line| line.ends_with(&expected[4..])), "{told:?}");
    // An option of a section that is not ours stays what it is.
    let told = warnings(&format!("{PLAIN}[Other]\nmail = a@b"));
    assert!(told.contains(&":3: unknown section [Other] is ignored".to_owned()), "{told:?}");
}

/// What other files of this kind have, and this one has not.
#[test]
fn comments_behind_values_and_quotes_are_told() {
    let comment = "a comment stands on a line of its own, behind a value it is part of it";
    let quotes = "a value is written without quotes";
    for (line, hint) in [
        ("address = 1.2.3.4 ; office", comment),
        ("address = 1.2.3.4:2855\t# office", comment),
        ("debug_notls = yes ;", comment),
        ("hostname = \"relay.example.com\"", quotes),
        ("log_level = 'INFO'", quotes),
        ("allowed_peers = 10.0.0.0/8, \"192.0.2.1\"", quotes),
    ] {
        let told = errors(&format!("{TLS}{line}"));
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].ends_with(&format!("; {hint}")), "{told:?}");
    }
    // Where anything may stand it is taken, as 1.4 did.
    for (line, hint) in [
        ("default_domain = a.example ; office", comment),
        ("ca = \"a.pem\"", quotes),
        ("ca = ; none", comment),
    ] {
        let name = line.split_once(' ').unwrap().0;
        let told = warnings(&format!("{TLS}{line}\n[Memory]\na@b = c"));
        assert_eq!(told, [format!(":5: [Relay] {name} is taken as it stands: {hint}")]);
    }
    for line in ["ca = a#b", "ca = a;b", "ca = it's", "default_domain = x", "ca = '"] {
        let told = warnings(&format!("{TLS}{line}\n[Memory]\na@b = \"c\" ; d"));
        assert!(told.is_empty(), "{told:?}");
    }
}

#[test]
fn a_backend_that_is_refused_is_told_once() {
    let error = parse(&format!("{PLAIN}backend = telepathy")).unwrap_err();
    assert!(error.warnings.is_empty(), "{:?}", error.warnings);
    let told = errors(&format!("{PLAIN}backend = memory, SIPthor"));
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("; sipthor, which 1.x had, is gone: take database"), "{told:?}");
    assert_eq!(parse("[Relay]\ndebug_notls = maybe").unwrap_err().mistakes.len(), 1);
}
