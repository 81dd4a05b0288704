//! The digest headers: known answers, spellings of clients in use, limits.

use proptest::prelude::*;
use secrecy::ExposeSecret;

use super::*;

/// The example of RFC 2617 §3.5.
#[test]
fn known_answer_of_rfc_2617() {
    let ha1 = ha1("Mufasa", "testrealm@host.com", "Circle Of Life");
    let digest = ha1.digest(
        "GET",
        b"/dir/index.html",
        "dcd98b7102dd2f0e8b11d0f600bfb0c093",
        "00000001",
        "0a4f113b",
    );
    assert_eq!(digest.to_hex(), "6629fae49393a05397450978507c4ef1");
}

/// Both examples of RFC 7616 §3.9.1, from header to proof.
#[test]
fn known_answers_of_rfc_7616() {
    for (algorithm, name, response) in [
        (Algorithm::Md5, "MD5", "8ca523f5e9506fed4657c9700eebdbec"),
        (
            Algorithm::Sha256,
            "SHA-256",
            "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1",
        ),
    ] {
        let sent = parsed(&format!(
            "Digest username=\"Mufasa\", realm=\"http-auth@example.org\", \
             uri=\"/dir/index.html\", algorithm={name}, \
             nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", nc=00000001, \
             cnonce=\"f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ\", qop=auth, \
             response=\"{response}\", \
             opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\""
        ));
        assert_eq!(Algorithm::from_parameter(sent.algorithm()), Some(algorithm));
        let password = SecretString::from("Circle of Life");
        let ha1 = Ha1::new(algorithm, "Mufasa", "http-auth@example.org", &password);
        let digest = ha1.digest(
            "GET",
            sent.uri().unwrap().as_bytes(),
            sent.nonce().unwrap(),
            sent.nc().unwrap(),
            sent.cnonce().unwrap(),
        );
        assert_eq!(Some(digest.to_hex().as_str()), sent.response());
        let given = RequestDigest::from_hex(algorithm, response).unwrap();
        assert!(given.matches(&digest));
    }
}

/// Values computed by hand (with another MD5) for AUTH and the URI of Blink.
#[test]
fn known_answer_for_auth() {
    let ha1 = ha1("alice", "example.com", "secret");
    assert_eq!(ha1.hex.expose_secret(), "b1726872c344b6dc8365b774f8fd6412");

    let challenge =
        Challenge::new(Algorithm::Md5, "example.com", NONCE.to_owned(), "o".to_owned(), false);
    let sent = challenge.authorize("alice", &ha1, URI, "0a4f113b".to_owned());
    assert_eq!(sent.response(), Some("3c5a42ee6b230df10bd900cfc0cd578c"));
    assert_eq!(
        sent.to_value(),
        "Digest username=\"alice\", realm=\"example.com\", \
         nonce=\"dcd98b7102dd2f0e8b11d0f600bfb0c093\", qop=auth, nc=00000001, \
         cnonce=\"0a4f113b\", response=\"3c5a42ee6b230df10bd900cfc0cd578c\", opaque=\"o\""
    );

    let info = AuthenticationInfo::new(&ha1, URI, NONCE, "00000001", "0a4f113b");
    assert_eq!(
        info.to_value(),
        "qop=auth, cnonce=\"0a4f113b\", nc=00000001, \
         rspauth=\"1aa1a4d4d7dfc3a322cd7ca5576a4081\""
    );
    assert!(info.proves(&ha1, &sent, URI));
    assert!(!info.proves(&ha1, &sent, b"msrps://example.org:2855;tcp"));
    assert!(!info.proves(&self::ha1("alice", "example.com", "x"), &sent, URI));
    for (cnonce, nc) in [("0a4f113b", "00000002"), ("0a4f113c", "00000001")] {
        let other =
            AuthenticationInfo { cnonce: cnonce.to_owned(), nc: nc.to_owned(), ..info.clone() };
        assert!(!other.proves(&ha1, &sent, URI), "{cnonce} {nc}");
    }
}

/// Authorization headers as clients in use write them.
#[test]
fn authorization_of_clients_in_use() {
    let same = [
        // msrplib: everything quoted
        r#"Digest username="a", realm="r", nonce="n", qop="auth", nc="00000001", cnonce="c", response="d", opaque="o""#,
        // crocodile: qop and nc bare, another order
        r#"Digest username="a", realm="r", nonce="n", response="d", qop=auth, cnonce="c", nc=00000001, opaque="o""#,
        // no blanks after commas; scheme and names in another case
        r#"digest USERNAME="a",Realm="r",nonce="n",qop=auth,nc=00000001,cnonce="c",response="d",opaque="o""#,
        // blanks and commas wherever they may be; unknown parameters
        r#"  DIGEST  ,, username = "a" ,realm= "r",nonce ="n", , qop=auth ,nc=00000001,cnonce="c", auth-param=x, response="d",opaque="o" ,"#,
        // quotes left off
        "Digest username=a, realm=r, nonce=n, qop=auth, nc=00000001, cnonce=c, response=d, opaque=o",
    ];
    let expected = parsed(same[0]);
    assert_eq!(expected.username(), Some("a"));
    assert_eq!(expected.realm(), Some("r"));
    assert_eq!(expected.nonce(), Some("n"));
    assert_eq!(expected.qop(), Some("auth"));
    assert_eq!(expected.nc(), Some("00000001"));
    assert_eq!(expected.cnonce(), Some("c"));
    assert_eq!(expected.response(), Some("d"));
    assert_eq!(expected.opaque(), Some("o"));
    assert_eq!((expected.uri(), expected.algorithm()), (None, None));
    for value in same {
        assert!(parsed(value) == expected, "{value}");
    }
}

#[test]
fn quoted_strings_hold_anything_but_control_characters() {
    for (value, username) in [
        (r#"Digest username="a, b=c""#, "a, b=c"),
        (r#"Digest username="a\"b\\c""#, r#"a"b\c"#),
        (r#"Digest username="\a\,""#, "a,"),
        (r#"Digest username="""#, ""),
        (r#"Digest username="nonce=\"x\"""#, r#"nonce="x""#),
        (r#"Digest username="Žofie %s%n' OR 1=1--""#, "Žofie %s%n' OR 1=1--"),
        (r"Digest username=ab/c+d==", "ab/c+d=="),
    ] {
        assert_eq!(parsed(value).username(), Some(username), "{value}");
    }
}

#[test]
fn nothing_but_the_scheme_is_an_answer_with_everything_missing() {
    for value in ["Digest", "Digest ", "Digest , ,,"] {
        assert_eq!(parsed(value).username(), None, "{value}");
    }
}

#[test]
fn what_cannot_be_read_is_refused() {
    use ParseError::*;
    for (value, error) in [
        ("", OtherScheme),
        ("Basic YWxpY2U6c2VjcmV0", OtherScheme),
        ("Digestusername=\"a\"", OtherScheme),
        ("username=\"a\"", OtherScheme),
        ("Digest username", NoValue),
        ("Digest username=", NoValue),
        ("Digest username=,realm=r", NoValue),
        ("Digest username:a", NoValue),
        ("Digest =\"a\"", NoName),
        ("Digest \"a\"=b", NoName),
        ("Digest username=\"a\" realm=\"b\"", NoComma),
        ("Digest username=\"a\"realm=\"b\"", NoComma),
        ("Digest username=a b", NoComma),
        ("Digest username=a\"b\"", NoComma),
        ("Digest username=\"a", UnterminatedQuote),
        ("Digest username=\"", UnterminatedQuote),
        ("Digest username=\"a\\", UnterminatedQuote),
        ("Digest username=\"a\\\"", UnterminatedQuote),
        ("Digest nc=1, nc=2", Repeated),
        ("Digest nonce=\"a\", NONCE=\"a\"", Repeated),
        ("Digest unknown=1, unknown=1", Repeated),
        ("Digest username=\"a\0b\"", ControlCharacter),
        ("Digest username=\"a\\\0b\"", ControlCharacter),
        ("Digest username=\"a\r\nX: y\"", ControlCharacter),
        ("Digest username=\"\u{1b}[2J\"", ControlCharacter),
        ("Digest username=\"\u{85}\"", ControlCharacter),
        ("Digest\tusername=a", ControlCharacter),
    ] {
        assert_eq!(refused(value.as_bytes()), error, "{value:?}");
    }
    assert_eq!(refused(b"Digest username=\"\xe9\""), NotUtf8);
}

#[test]
fn limits_hold_on_both_sides() {
    let value = |len| format!("Digest username=\"{}\"", "a".repeat(len));
    assert!(Authorization::parse(value(PARAMETER_MAX).as_bytes()).is_ok());
    assert_eq!(refused(value(PARAMETER_MAX + 1).as_bytes()), ParseError::TooLong);
    assert_eq!(refused(value(65_536).as_bytes()), ParseError::TooLong);

    let blanks = |len: usize| format!("Digest{}", " ".repeat(len - "Digest".len()));
    assert!(Authorization::parse(blanks(VALUE_MAX).as_bytes()).is_ok());
    assert_eq!(refused(blanks(VALUE_MAX + 1).as_bytes()), ParseError::TooLong);

    let many = |n| (0..n).fold("Digest ".to_owned(), |s, i| s + &format!("x{i}=1,"));
    assert!(Authorization::parse(many(PARAMETERS_MAX).as_bytes()).is_ok());
    assert_eq!(refused(many(PARAMETERS_MAX + 1).as_bytes()), ParseError::TooLong);
}

#[test]
fn challenge_is_written_in_the_order_clients_know() {
    let challenge = |algorithm, stale| {
        Challenge::new(algorithm, "r", "n".to_owned(), "o".to_owned(), stale).to_value()
    };
    let expected = r#"Digest realm="r", qop="auth", nonce="n", opaque="o""#;
    assert_eq!(challenge(Algorithm::Md5, false), expected);
    assert_eq!(challenge(Algorithm::Md5, true), format!("{expected}, stale=true"));
    let expected = format!("{expected}, algorithm=SHA-256");
    assert_eq!(challenge(Algorithm::Sha256, false), expected);
    assert_eq!(challenge(Algorithm::Sha256, true), format!("{expected}, stale=true"));
}

#[test]
fn written_values_cannot_break_out() {
    let realm = "a\"\\\r\nX: b";
    let value = Challenge::new(Algorithm::Md5, realm, "n".to_owned(), "o".to_owned(), false);
    assert_eq!(value.to_value(), r#"Digest realm="a\"\\X: b", qop="auth", nonce="n", opaque="o""#);
}

#[test]
fn client_chooses_the_challenge_it_can_answer() {
    let sha = br#"Digest realm="r", qop="auth", algorithm=SHA-256, nonce="1", opaque="o""#;
    let md5 = br#"Digest realm="r",qop="auth-int, auth",algorithm=md5,nonce="2",stale=TRUE"#;
    let other = br#"Digest realm="r", qop="auth", algorithm=SHA-512-256, nonce="0""#;
    let chosen = Challenge::choose([&other[..], &sha[..], &md5[..]]).unwrap();
    assert_eq!((chosen.algorithm(), chosen.nonce()), (Algorithm::Sha256, "1"));
    let chosen = Challenge::choose([&other[..], &md5[..], &sha[..]]).unwrap();
    assert_eq!((chosen.realm(), chosen.nonce()), ("r", "2"));
    assert_eq!(chosen.algorithm(), Algorithm::Md5);
    assert_eq!(chosen.opaque(), None);
    assert!(chosen.is_stale());

    let choose = |values: &[&str]| Challenge::choose(values.iter().map(|v| v.as_bytes()));
    for (values, error) in [
        (&[][..], ParseError::NoChallenge),
        (&[r#"Digest realm="r", nonce="n""#], ParseError::Qop),
        (&[r#"Digest realm="r", nonce="n", qop="auth-int""#], ParseError::Qop),
        (&[r#"Digest realm="r", qop="auth""#], ParseError::Missing("nonce")),
        (&[r#"Digest nonce="n", qop="auth""#], ParseError::Missing("realm")),
        (&[r#"Digest algorithm=MD5-sess, realm="r""#], ParseError::Algorithm),
        (&[r#"Basic realm="r""#], ParseError::OtherScheme),
    ] {
        assert_eq!(choose(values).unwrap_err(), error, "{values:?}");
    }
}

#[test]
fn debug_shows_no_secret() {
    let ha1 = ha1("alice", "example.com", "Rumpelstiltskin");
    let challenge =
        Challenge::new(Algorithm::Md5, "example.com", NONCE.to_owned(), "opaqueX".to_owned(), true);
    let sent = challenge.authorize("alice", &ha1, URI, "cnonceX".to_owned());
    let info = AuthenticationInfo::new(&ha1, URI, NONCE, "00000001", "cnonceX");
    let digest = RequestDigest::from_hex(Algorithm::Md5, sent.response().unwrap()).unwrap();
    let shown = format!("{ha1:?} {challenge:?} {sent:?} {info:?} {digest:?}");
    assert!(shown.contains("alice"));
    for secret in [
        "Rumpelstiltskin",
        ha1.hex.expose_secret(),
        sent.response().unwrap(),
        &info.rspauth,
        NONCE,
        "opaqueX",
        "cnonceX",
    ] {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_an_answer_or_an_error(bytes: Vec<u8>, text in "Digest [ -~]{0,200}") {
        for value in [&bytes[..], text.as_bytes()] {
            _ = Authorization::parse(value);
            _ = Challenge::parse(value);
            _ = AuthenticationInfo::parse(value);
        }
    }

    #[test]
    fn authorization_survives_writing(sent in authorization()) {
        let value = sent.to_value();
        prop_assert!(Authorization::parse(value.as_bytes()) == Ok(sent), "{value}");
    }

    #[test]
    fn challenge_survives_writing(
        realm in TEXT, nonce in TEXT, opaque in proptest::option::of(TEXT), stale: bool,
        sha256: bool,
    ) {
        let algorithm = if sha256 { Algorithm::Sha256 } else { Algorithm::Md5 };
        let challenge = Challenge { algorithm, realm, nonce, opaque, stale };
        let value = challenge.to_value();
        prop_assert!(Challenge::parse(value.as_bytes()) == Ok(challenge), "{value}");
    }

    #[test]
    fn authentication_info_survives_writing(cnonce in TEXT, nc in TEXT, rspauth in TEXT) {
        let info = AuthenticationInfo { cnonce, nc, rspauth };
        let value = info.to_value();
        prop_assert!(AuthenticationInfo::parse(value.as_bytes()) == Ok(info), "{value}");
    }
}

const NONCE: &str = "dcd98b7102dd2f0e8b11d0f600bfb0c093";
const URI: &[u8] = b"msrps://example.com:2855;tcp";

/// Any text that a header can carry.
const TEXT: &str = r"\PC{0,40}";

fn authorization() -> impl Strategy<Value = Authorization> {
    proptest::array::uniform10(proptest::option::of(TEXT)).prop_map(|values| {
        let [username, realm, nonce, uri, qop, nc, cnonce, response, opaque, algorithm] = values;
        Authorization { username, realm, nonce, uri, qop, nc, cnonce, response, opaque, algorithm }
    })
}

fn ha1(user: &str, realm: &str, password: &str) -> Ha1 {
    Ha1::new(Algorithm::Md5, user, realm, &SecretString::from(password))
}

fn parsed(value: &str) -> Authorization {
    Authorization::parse(value.as_bytes()).unwrap()
}

fn refused(value: &[u8]) -> ParseError {
    Authorization::parse(value).unwrap_err()
}
