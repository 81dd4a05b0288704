//! Challenges, answers and verdicts; the client side is that of `msrp::digest`.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::{
    nonce::{LOOKUP_GRACE, RANDOM_LEN},
    *,
};
use crate::auth::{Answer, Credential};

#[test]
fn challenge_has_the_form_clients_know() {
    let issuer = Issuer::new();
    let [value] = &issuer.challenger.challenge(&MD5, REALM, CLIENT, false, issuer.start)[..] else {
        panic!("one algorithm, one challenge");
    };
    let challenge = Challenge::parse(value.as_bytes()).unwrap();
    let (nonce, opaque) = (challenge.nonce(), challenge.opaque().unwrap());
    assert_eq!(
        *value,
        format!(r#"Digest realm="{REALM}", qop="auth", nonce="{nonce}", opaque="{opaque}""#)
    );
    assert_eq!((nonce.len(), opaque.len()), (54, 22));
    for text in [nonce, opaque] {
        let safe = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
        assert!(text.chars().all(safe), "{text}");
    }
    let stale = issuer.challenger.challenge(&MD5, REALM, CLIENT, true, issuer.start);
    assert!(stale[0].ends_with("\", stale=true"), "{stale:?}");
}

#[test]
fn nonces_never_repeat_and_show_nothing_of_the_address() {
    let issuer = Issuer::new();
    let client = IpAddr::from([0xaa; 16]);
    let mut seen = BTreeSet::new();
    for _ in 0..1000 {
        let value = issuer.challenger.challenge(&MD5, REALM, client, false, issuer.start);
        let nonce = Challenge::parse(value[0].as_bytes()).unwrap().nonce().to_owned();
        let bytes = URL_SAFE_NO_PAD.decode(&nonce).unwrap();
        assert!(!bytes.windows(8).any(|window| window == [0xaa; 8]));
        assert!(seen.insert(nonce));
    }
}

#[test]
fn right_password_is_let_in_with_proof() {
    let issuer = Issuer::new();
    let sent = issuer.answer("secret");
    let grant = issuer.login(&sent, issuer.start).unwrap();
    assert_eq!((grant.user.as_str(), grant.realm.as_str()), ("alice", REALM));

    let proof = grant.authentication_info.unwrap();
    let info = AuthenticationInfo::parse(proof.as_bytes()).unwrap();
    assert!(info.proves(&ha1("secret"), &sent, URI));
    let expected =
        format!("qop=auth, cnonce=\"{}\", nc=00000001, rspauth=\"", sent.cnonce().unwrap());
    assert!(proof.starts_with(&expected), "{proof}");
}

#[test]
fn stored_ha1_of_either_case_does_as_well_as_the_password() {
    let stored = "b1726872c344b6dc8365b774f8fd6412"; // alice:example.com:secret
    for stored in [stored.to_owned(), stored.to_uppercase()] {
        let issuer = Issuer::new();
        let login = issuer.examine(&issuer.answer("secret"), issuer.start).unwrap();
        let found = Ok(Credential::Ha1 { md5: Some(SecretString::from(stored)), sha256: None });
        issuer.challenger.settle(login, found, issuer.start).unwrap();
    }
}

/// Either line of a challenge can be answered, with the password or with the hash for its
/// algorithm. Both lines have the same nonce.
#[test]
fn each_algorithm_that_is_offered_lets_in() {
    // HA1 of alice:example.com:secret, computed by another program.
    let stored = |algorithm| {
        SecretString::from(match algorithm {
            Algorithm::Md5 => "b1726872c344b6dc8365b774f8fd6412",
            Algorithm::Sha256 => "ed8925b20f9a77b8f8f8d5f8e4467fe32b866f7208ab9e4b20595e9821a0fdee",
        })
    };
    let request = AuthRequest { algorithms: &BOTH, ..REQUEST };
    let issuer = Issuer::new();
    for index in 0..2 {
        let other = 1 - index;
        let only = |algorithm| Credential::Ha1 {
            md5: (algorithm == Algorithm::Md5).then(|| stored(Algorithm::Md5)),
            sha256: (algorithm == Algorithm::Sha256).then(|| stored(Algorithm::Sha256)),
        };
        for (found, error) in [
            (password("secret"), None),
            (only(BOTH[index]), None),
            (only(BOTH[other]), Some(AuthError::UnusableCredential)),
        ] {
            let values = issuer.challenger.challenge(&BOTH, REALM, CLIENT, false, issuer.start);
            let lines =
                [&values[0], &values[1]].map(|value| Challenge::parse(value.as_bytes()).unwrap());
            assert_eq!(lines[0].nonce(), lines[1].nonce());
            let answer = |line: &Challenge| {
                let ha1 = line.ha1("alice", &SecretString::from("secret"));
                line.authorize("alice", &ha1, URI, "c".to_owned())
            };
            let sent = answer(&lines[index]);
            let login = issuer.challenger.examine(&sent, &request, issuer.start).unwrap();
            let verdict = issuer.challenger.settle(login, Ok(found), issuer.start);
            assert_eq!(verdict.err(), error, "{:?}", BOTH[index]);
            if error.is_none() {
                let again = answer(&lines[other]);
                let login = issuer.challenger.examine(&again, &request, issuer.start).unwrap();
                let found = Ok(password("secret"));
                let verdict = issuer.challenger.settle(login, found, issuer.start);
                assert_eq!(verdict.err(), Some(AuthError::SpentNonce));
            }
        }
    }
}

#[test]
fn wrong_password_does_not_spend_the_nonce() {
    let issuer = Issuer::new();
    let challenge = issuer.challenge();
    let wrong = answer(&challenge, "guess");
    assert_eq!(issuer.login(&wrong, issuer.start), Err(AuthError::WrongPassword));
    assert_eq!(issuer.login(&wrong, issuer.start), Err(AuthError::WrongPassword));
    issuer.login(&answer(&challenge, "secret"), issuer.start).unwrap();
}

/// A nonce serves once, even with another cnonce and nonce count.
#[test]
fn replay_is_stale() {
    let issuer = Issuer::new();
    let sent = issuer.answer("secret");
    issuer.login(&sent, issuer.start).unwrap();
    assert_eq!(issuer.login(&sent, issuer.start), Err(AuthError::SpentNonce));

    let challenge = issuer.challenge();
    issuer.login(&answer(&challenge, "secret"), issuer.start).unwrap();
    let again = challenge.authorize("alice", &ha1("secret"), URI, "another".to_owned());
    assert_eq!(issuer.login(&again, issuer.start), Err(AuthError::SpentNonce));
    let wrong = answer(&challenge, "guess");
    assert_eq!(issuer.login(&wrong, issuer.start), Err(AuthError::WrongPassword));
}

#[test]
fn expired_nonce_is_stale_only_with_the_right_digest() {
    let issuer = Issuer::new();
    let last = issuer.start + LIFETIME;
    let late = last + Duration::from_micros(1);
    issuer.login(&issuer.answer("secret"), last).unwrap();
    for (password, error) in
        [("secret", AuthError::ExpiredNonce), ("guess", AuthError::WrongPassword)]
    {
        assert_eq!(issuer.login(&issuer.answer(password), late), Err(error));
    }
}

/// The age of a nonce does not include the time of the look-up.
#[test]
fn time_is_judged_at_arrival() {
    let issuer = Issuer::new();
    let login = issuer.examine(&issuer.answer("secret"), issuer.start + LIFETIME).unwrap();
    let later = issuer.start + LIFETIME + Duration::from_secs(5);
    issuer.challenger.settle(login, Ok(password("secret")), later).unwrap();
}

/// A replay that arrived in time is refused, however long its look-up takes.
#[test]
fn a_slow_twin_never_wins() {
    for delay in [0, 1, 44, 45, 46, 3600].map(Duration::from_secs) {
        let issuer = Issuer::new();
        let sent = issuer.answer("secret");
        let twin = issuer.examine(&sent, issuer.start).unwrap();
        issuer.login(&sent, issuer.start).unwrap();
        // Other logins make time pass for the set.
        let now = issuer.start + delay;
        let other = answer(&issuer.challenge_at(now), "secret");
        issuer.login(&other, now).unwrap();
        let error = issuer.challenger.settle(twin, Ok(password("secret")), now).unwrap_err();
        assert_eq!(error.answer(), Answer::Challenge { stale: true }, "{delay:?}: {error}");
    }
}

#[test]
fn nonce_serves_only_its_address_and_its_relay() {
    let issuer = Issuer::new();
    let sent = issuer.answer("secret");
    for client in ["192.0.2.8", "::1", "::192.0.2.7", "2001:db8::c000:207"] {
        let request = AuthRequest { client: client.parse().unwrap(), ..REQUEST };
        let error = issuer.challenger.examine(&sent, &request, issuer.start).unwrap_err();
        assert_eq!(error, AuthError::ForeignNonce, "{client}");
    }
    let mapped = AuthRequest { client: "::ffff:192.0.2.7".parse().unwrap(), ..REQUEST };
    assert!(issuer.challenger.examine(&sent, &mapped, issuer.start).is_ok());

    let error = Issuer::new().examine(&sent, issuer.start).unwrap_err();
    assert_eq!(error, AuthError::ForeignNonce);
}

/// Every bit of nonce and opaque is covered, and they cannot stand in for one another.
#[test]
fn altered_nonce_or_opaque_is_foreign() {
    let issuer = Issuer::new();
    let sent = issuer.answer("secret").to_value();
    let examine = |value: &str| {
        let sent = Authorization::parse(value.as_bytes()).unwrap();
        issuer.examine(&sent, issuer.start).map(|_| ())
    };
    assert_eq!(examine(&sent), Ok(()));
    for (name, error) in [("nonce", AuthError::ForeignNonce), ("opaque", AuthError::ForeignOpaque)]
    {
        let at = sent.find(&format!(", {name}=\"")).unwrap() + name.len() + 4;
        let len = sent[at..].find('"').unwrap();
        let text = &sent[at..at + len];
        let replaced = |new: &str| [&sent[..at], new, &sent[at + len..]].concat();
        for index in 0..len {
            let old = text.as_bytes()[index];
            let new = if old == b'A' { "B" } else { "A" };
            let altered = replaced(&[&text[..index], new, &text[index + 1..]].concat());
            assert_eq!(examine(&altered), Err(error.clone()), "{altered}");
        }
        for new in [
            "x",
            "AAAA",
            &text[..len - 1],
            &text[..len - 2],
            &format!("{text}A"),
            &"A".repeat(1000),
        ] {
            assert_eq!(examine(&replaced(new)), Err(error.clone()), "{new}");
        }
    }
}

/// A client can read the MAC in a nonce. It must not be accepted as opaque.
#[test]
fn mac_of_the_nonce_is_no_opaque() {
    let issuer = Issuer::new();
    let sent = issuer.answer("secret");
    let nonce = URL_SAFE_NO_PAD.decode(sent.nonce().unwrap()).unwrap();
    let mac = URL_SAFE_NO_PAD.encode(&nonce[SEED_LEN..]);
    let value = sent.to_value().replace(sent.opaque().unwrap(), &mac);
    let error = issuer.examine(&parsed(&value), issuer.start).unwrap_err();
    assert_eq!(error, AuthError::ForeignOpaque);
}

#[test]
fn each_parameter_missing_or_empty_is_a_plain_failure() {
    let issuer = Issuer::new();
    let sent = issuer.answer("secret").to_value();
    for name in ["username", "realm", "nonce", "qop", "nc", "cnonce", "response", "opaque"] {
        for without in [
            sent.replacen(&format!("{name}="), "x=", 1),
            format!("{}, {name}=\"\"", sent.replacen(&format!("{name}="), "x=", 1)),
        ] {
            let error = issuer.examine(&parsed(&without), issuer.start).unwrap_err();
            assert_eq!(error, AuthError::Missing(name), "{without}");
            assert_eq!(error.answer(), Answer::Challenge { stale: false });
        }
    }
}

#[test]
fn wrong_parameters_are_plain_failures() {
    let issuer = Issuer::new();
    let sent = issuer.answer("secret").to_value();
    let user = "u".repeat(USER_MAX);
    for (old, new, error) in [
        (r#"realm="example.com""#, r#"realm="EXAMPLE.com""#, AuthError::WrongRealm),
        (r#"realm="example.com""#, r#"realm="example.org""#, AuthError::WrongRealm),
        ("qop=auth", "qop=auth-int", AuthError::WrongQop),
        ("qop=auth", r#"qop="auth,auth-int""#, AuthError::WrongQop),
        ("qop=auth", "qop=auth, algorithm=MD5-sess", AuthError::WrongAlgorithm),
        ("qop=auth", "qop=auth, algorithm=SHA-256", AuthError::WrongAlgorithm),
        ("nc=00000001", "nc=1", AuthError::WrongNonceCount),
        ("nc=00000001", "nc=0000000g", AuthError::WrongNonceCount),
        ("nc=00000001", "nc=000000001", AuthError::WrongNonceCount),
        ("response=\"", "response=\"0", AuthError::MalformedResponse),
        ("alice", &format!("{user}u"), AuthError::UserTooLong),
    ] {
        let value = sent.replacen(old, new, 1);
        assert_ne!(value, sent, "{old}");
        let refused = issuer.examine(&parsed(&value), issuer.start).unwrap_err();
        assert_eq!(refused, error, "{value}");
        assert_eq!(refused.answer(), Answer::Challenge { stale: false });
    }
    let longest = parsed(&sent.replacen("alice", &user, 1));
    assert_eq!(issuer.examine(&longest, issuer.start).unwrap().user(), user);
}

/// As msrplib (all quoted) and crocodile (`uri`, `algorithm`) write it.
#[test]
fn spellings_of_clients_in_use_are_let_in() {
    for (old, new) in [
        ("qop=auth, nc=00000001", r#"qop="auth", nc="00000001""#),
        ("qop=auth", "qop=auth, algorithm=MD5"),
        ("qop=auth", r#"qop=auth, algorithm="md5""#),
        ("qop=auth", r#"qop=auth, uri="msrps://example.com:2855;tcp""#),
    ] {
        let issuer = Issuer::new();
        let value = issuer.answer("secret").to_value().replacen(old, new, 1);
        issuer.login(&parsed(&value), issuer.start).unwrap();
    }
    // Hexadecimal digits in upper case.
    let issuer = Issuer::new();
    let sent = issuer.answer("secret");
    let response = sent.response().unwrap();
    let value = sent.to_value().replace(response, &response.to_uppercase());
    issuer.login(&parsed(&value), issuer.start).unwrap();
}

/// The client may have hashed its own spelling in `uri`, if the caller found it equal.
#[test]
fn uri_counts_as_the_request_or_the_client_spells_it() {
    let own = b"msrps://EXAMPLE.com:2855;TCP";
    for (hashed, uri_matches, verdict) in [
        (URI, true, Ok(())),
        (own, true, Ok(())),
        (b"msrps://example.org:2855;tcp", true, Err(AuthError::WrongPassword)),
        (URI, false, Err(AuthError::WrongUri)),
        (own, false, Err(AuthError::WrongUri)),
    ] {
        let issuer = Issuer::new();
        let sent = issuer.challenge().authorize("alice", &ha1("secret"), hashed, "c".to_owned());
        let value = format!("{}, uri=\"{}\"", sent.to_value(), str::from_utf8(own).unwrap());
        let request = AuthRequest { uri_matches, ..REQUEST };
        let got = issuer
            .challenger
            .examine(&parsed(&value), &request, issuer.start)
            .and_then(|a| issuer.challenger.settle(a, Ok(password("secret")), issuer.start));
        if let Ok(grant) = &got {
            let proof = grant.authentication_info.as_deref().unwrap();
            let info = AuthenticationInfo::parse(proof.as_bytes()).unwrap();
            assert!(info.proves(&ha1("secret"), &sent, hashed));
        }
        assert_eq!(got.map(|_| ()), verdict);
    }
}

#[test]
fn what_the_backend_says_decides() {
    let empty = || Credential::Password(SecretString::from(""));
    let broken = || Credential::Ha1 { md5: Some(SecretString::from("NULL")), sha256: None };
    let none = || Credential::Ha1 { md5: None, sha256: None };
    let down = || AuthError::BackendUnavailable("timeout".to_owned());
    let issuer = Issuer::new();
    // So are the digest of an empty password and that of the dummy password.
    for guess in ["", "password", "secret"] {
        for (found, error) in [
            (Err(AuthError::UnknownUser), AuthError::UnknownUser),
            (Err(AuthError::NotAllowed), AuthError::NotAllowed),
            (Err(down()), down()),
            (Ok(empty()), AuthError::UnusableCredential),
            (Ok(broken()), AuthError::UnusableCredential),
            (Ok(none()), AuthError::UnusableCredential),
            (Err(AuthError::AmbiguousUser), AuthError::AmbiguousUser),
        ] {
            let login = issuer.examine(&issuer.answer(guess), issuer.start).unwrap();
            let verdict = issuer.challenger.settle(login, found, issuer.start);
            assert_eq!(verdict, Err(error));
        }
    }
    assert!(issuer.challenger.spent.lock().unwrap().nonces.is_empty());
}

/// An account with two valid passwords, another name and an end.
#[test]
fn any_credential_of_an_account_will_do() {
    let issuer = Issuer::new();
    let until = Some(SystemTime::UNIX_EPOCH);
    for (credentials, verdict) in [
        (vec![password("secret"), password("old")], Ok(())),
        (vec![password("new"), password("secret")], Ok(())),
        (vec![password("new"), password("old")], Err(AuthError::WrongPassword)),
        (vec![password("")], Err(AuthError::UnusableCredential)),
        (vec![], Err(AuthError::UnusableCredential)),
    ] {
        let account = Account { user: Some("Alice".to_owned()), credentials, until };
        let sent = issuer.answer("secret");
        let login = issuer.examine(&sent, issuer.start).unwrap();
        let grant = issuer.challenger.settle(login, Ok(account), issuer.start);
        if let Ok(grant) = &grant {
            assert_eq!((grant.user.as_str(), grant.until), ("Alice", until));
            let proof = grant.authentication_info.as_deref().unwrap();
            let info = AuthenticationInfo::parse(proof.as_bytes()).unwrap();
            assert!(info.proves(&ha1("secret"), &sent, URI));
        }
        assert_eq!(grant.map(|_| ()), verdict);
    }
}

#[test]
fn spent_nonces_are_forgotten_in_time_and_stay_refused() {
    let mut spent = Spent::new(SPENT_MAX);
    let keep = micros(LIFETIME + LOOKUP_GRACE);
    assert_eq!(spent.spend(nonce(0), LIFETIME, 0), Ok(()));
    assert_eq!(spent.spend(nonce(keep), LIFETIME, keep), Ok(()));
    assert_eq!(spent.nonces.len(), 2);
    assert_eq!(spent.spend(nonce(keep + 1), LIFETIME, keep + 1), Ok(()));
    assert_eq!(spent.nonces.len(), 2, "the first is out");

    // A reload that prolongs the lifetime makes no spent nonce valid again.
    let day = Duration::from_hours(24);
    assert_eq!(spent.spend(nonce(0), day, keep + 2), Err(AuthError::ForgottenNonce));
    assert_eq!(spent.spend(nonce(keep), day, keep + 2), Err(AuthError::SpentNonce));
    assert_eq!(spent.spend(nonce(1), day, keep + 2), Ok(()));
}

#[test]
fn full_set_forgets_the_oldest_and_lets_no_replay_in() {
    const MAX: usize = 4;
    let mut spent = Spent::new(MAX);
    for issued in [30, 10, 20, 40] {
        assert_eq!(spent.spend(nonce(issued), LIFETIME, 50), Ok(()));
    }
    assert_eq!(spent.spend(nonce(50), LIFETIME, 50), Ok(()));
    assert_eq!(spent.nonces.len(), MAX);
    for (issued, error) in [
        (10, AuthError::ForgottenNonce), // dropped
        (5, AuthError::ForgottenNonce),  // unused, but who knows
        (20, AuthError::SpentNonce),
        (50, AuthError::SpentNonce),
    ] {
        assert_eq!(spent.spend(nonce(issued), LIFETIME, 50), Err(error), "{issued}");
    }
    // A nonce older than all remembered ones and newer than the forgotten ones serves once.
    assert_eq!(spent.spend(nonce(15), LIFETIME, 50), Ok(()));
    assert_eq!(spent.spend(nonce(15), LIFETIME, 50), Err(AuthError::ForgottenNonce));
    assert_eq!(spent.nonces.len(), MAX);
}

#[test]
fn debug_shows_no_secret() {
    let issuer = Issuer::new();
    let sent = issuer.answer("secret");
    let login = issuer.examine(&sent, issuer.start).unwrap();
    let shown = format!("{:?} {login:?}", issuer.challenger);
    let grant = issuer.challenger.settle(login, Ok(password("secret")), issuer.start).unwrap();
    let shown = format!("{shown} {grant:?}");
    assert!(shown.contains("alice"));
    let secrets = [sent.nonce(), sent.response(), sent.cnonce(), sent.opaque()];
    for secret in secrets.into_iter().flatten().chain(grant.authentication_info.as_deref()) {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
}

proptest! {
    /// In any order of logins and replays, each nonce serves once.
    #[test]
    fn no_nonce_is_spent_twice(
        max in 1..6_usize,
        steps in proptest::collection::vec((0..20_u64, 0..40_u64, 0..60_u64), 1..200),
    ) {
        let mut spent = Spent::new(max);
        let mut granted = BTreeSet::new();
        let mut now = 0;
        for (issued, wait, lifetime) in steps {
            now += wait * 1_000_000;
            let lifetime = Duration::from_secs(lifetime);
            if spent.spend(nonce(issued * 1_000_000), lifetime, now).is_ok() {
                prop_assert!(granted.insert(issued));
            }
            prop_assert!(spent.nonces.len() <= max);
        }
    }

    #[test]
    fn any_credentials_are_judged(text in "[ -~]{0,200}", nonce in ".{0,60}") {
        let issuer = Issuer::new();
        let other = issuer.answer("secret").to_value().replace(" nonce=", " x=");
        let values = [format!("Digest {text}"), format!("{other}, nonce=\"{nonce}\"")];
        for value in values {
            if let Ok(sent) = Authorization::parse(value.as_bytes()) {
                prop_assert!(issuer.examine(&sent, issuer.start).is_err());
            }
        }
    }
}

const REALM: &str = "example.com";
const URI: &[u8] = b"msrps://example.com:2855;tcp";
const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));
const LIFETIME: Duration = Duration::from_secs(15);
const MD5: [Algorithm; 1] = [Algorithm::Md5];
const BOTH: [Algorithm; 2] = [Algorithm::Sha256, Algorithm::Md5];
const REQUEST: AuthRequest<'static> = AuthRequest {
    algorithms: &MD5,
    realm: REALM,
    uri: URI,
    uri_matches: true,
    client: CLIENT,
    nonce_lifetime: LIFETIME,
};

/// A challenger and the moment it began; the only user is alice, her password is "secret".
pub(super) struct Issuer {
    pub(super) challenger: Challenger,
    pub(super) start: Instant,
}

impl Issuer {
    #[expect(clippy::disallowed_methods, reason = "any fixed moment will do")]
    pub(super) fn new() -> Self {
        let start = Instant::now();
        let challenger = Challenger::new(start);
        Self { challenger, start }
    }

    fn challenge(&self) -> Challenge {
        self.challenge_at(self.start)
    }

    fn challenge_at(&self, now: Instant) -> Challenge {
        let value = self.challenger.challenge(&MD5, REALM, CLIENT, false, now);
        Challenge::parse(value[0].as_bytes()).unwrap()
    }

    /// What a client sends in answer to a fresh challenge.
    pub(super) fn answer(&self, password: &str) -> Authorization {
        answer(&self.challenge(), password)
    }

    pub(super) fn examine(
        &self,
        sent: &Authorization,
        now: Instant,
    ) -> Result<DigestLogin, AuthError> {
        self.challenger.examine(sent, &REQUEST, now)
    }

    fn login(&self, sent: &Authorization, now: Instant) -> Result<Grant, AuthError> {
        let login = self.examine(sent, now)?;
        self.challenger.settle(login, Ok(password("secret")), now)
    }
}

fn answer(challenge: &Challenge, password: &str) -> Authorization {
    challenge.authorize("alice", &ha1(password), URI, "0a4f113b77c1".to_owned())
}

fn ha1(password: &str) -> Ha1 {
    Ha1::new(Algorithm::Md5, "alice", REALM, &SecretString::from(password))
}

pub(super) fn password(password: &str) -> Credential {
    Credential::Password(SecretString::from(password))
}

fn parsed(value: &str) -> Authorization {
    Authorization::parse(value.as_bytes()).unwrap()
}

fn nonce(issued: u64) -> Nonce {
    Nonce { issued, random: [7; RANDOM_LEN] }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap()
}
