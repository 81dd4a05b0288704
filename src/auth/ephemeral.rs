//! `backend = ephemeral`: credentials for a limited time, which a web service makes without the
//! relay, as for TURN servers (draft-uberti-behave-turn-rest). Service and relay share a secret:
//!
//! ```text
//!   user name  EXPIRY:USER                                  EXPIRY in Unix seconds
//!   password   base64( HMAC-SHA1( secret, user name ) )
//! ```
//!
//! The service decides who a user is; the relay keeps no users. The credentials are good in every
//! realm that is served.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures_util::future::BoxFuture;
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha1::Sha1;

use super::{Account, AuthError, Backend, BackendOptions, Credential, Kind, OpenError, Opened};
use crate::{
    clock,
    config::{Contents, Refused, Section, options, values::list},
    msrp::digest::Algorithm,
};

pub(super) const KIND: Kind = Kind {
    name: "ephemeral",
    section: Section {
        name: "Ephemeral",
        doc: "Credentials for a limited time for backend = ephemeral, made by a web service that \
              shares a secret with the relay: user name EXPIRY:USER with EXPIRY in Unix seconds, \
              password base64(HMAC-SHA1(secret, user name)).",
        contents: Contents::Options(&[EphemeralOptions::TABLE]),
    },
    read: |section, _used| Arc::new(EphemeralOptions::read(section)),
};

options! {
    /// `[Ephemeral]`.
    pub struct EphemeralOptions {
        secrets: Vec<SecretString>, secrets,
            "accepted is a list of secrets separated by commas",
            "Secrets that are shared with the web service, separated by commas, the newest first. \
             Credentials made with any of them are accepted, so that a secret can be replaced \
             without refusing anybody." .secret();
    }
}

fn secrets(text: &str) -> Result<Vec<SecretString>, Refused> {
    list(text, |item| (!item.contains(char::is_control)).then(|| SecretString::from(item)))
}

impl BackendOptions for EphemeralOptions {
    fn open(&self, _algorithms: &[Algorithm]) -> Result<Opened, OpenError> {
        let backend = Ephemeral { secrets: self.secrets.clone() };
        Ok(Opened { backend: Arc::new(backend), warnings: Vec::new() })
    }

    fn lack(&self) -> Option<&'static str> {
        self.secrets.is_empty().then_some("[Ephemeral] has no secrets")
    }
}

/// A backend that computes the password from the user name.
#[derive(Debug)]
struct Ephemeral {
    secrets: Vec<SecretString>,
}

impl Ephemeral {
    fn find(&self, name: &str, now: SystemTime) -> Result<Account, AuthError> {
        let (until, user) = parts(name).ok_or(AuthError::UnknownUser)?;
        if self.secrets.is_empty() {
            return Err(AuthError::UnknownUser);
        }
        if until <= now {
            return Err(AuthError::ExpiredAccount);
        }
        let password = |secret| Credential::Password(password(secret, name));
        Ok(Account {
            user: Some(user.to_owned()),
            credentials: self.secrets.iter().map(password).collect(),
            until: Some(until),
        })
    }
}

impl Backend for Ephemeral {
    fn account<'a>(
        &'a self,
        user: &'a str,
        _realm: &'a str,
        _client: IpAddr,
    ) -> BoxFuture<'a, Result<Account, AuthError>> {
        Box::pin(std::future::ready(self.find(user, clock::wall())))
    }
}

/// The two parts of a user name: when the credentials end, and the user.
fn parts(name: &str) -> Option<(SystemTime, &str)> {
    let (expiry, user) = name.split_once(':')?;
    let digits = expiry.bytes().all(|byte| byte.is_ascii_digit());
    let seconds = expiry.parse().ok().filter(|_| digits && !user.is_empty())?;
    Some((UNIX_EPOCH.checked_add(Duration::from_secs(seconds))?, user))
}

fn password(secret: &SecretString, name: &str) -> SecretString {
    let key = secret.expose_secret().as_bytes();
    let mac = Hmac::<Sha1>::new_from_slice(key).expect("HMAC takes keys of any length");
    STANDARD.encode(mac.chain_update(name).finalize().into_bytes()).into()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{Reader, Sections};

    /// Computed with `openssl dgst -sha1 -hmac SECRET -binary | base64`.
    #[test]
    fn each_secret_makes_a_password() {
        let backend = Ephemeral { secrets: vec!["north".into(), "south".into()] };
        let account = backend.find("1893456000:alice", UNIX_EPOCH).unwrap();
        let passwords: Vec<&str> = account
            .credentials
            .iter()
            .map(|credential| match credential {
                Credential::Password(password) => password.expose_secret(),
                Credential::Ha1 { .. } => panic!("passwords only"),
            })
            .collect();
        assert_eq!(passwords, ["MME/7rvfb/gOjpkB59+7AxlCLvk=", "NlNM948zMdXSSSIfBJeYFy8StRw="]);
        assert_eq!(account.user.as_deref(), Some("alice"));
        assert_eq!(account.until, Some(at(1_893_456_000)));
    }

    #[test]
    fn names_say_when_and_who() {
        let backend = Ephemeral { secrets: vec!["north".into()] };
        let now = at(1000);
        for (name, expected) in [
            ("1001:alice", Ok("alice")),
            ("1001:sip:alice", Ok("sip:alice")),
            ("01001:žofie", Ok("žofie")),
            ("1000:alice", Err(AuthError::ExpiredAccount)),
            ("0:alice", Err(AuthError::ExpiredAccount)),
            ("alice", Err(AuthError::UnknownUser)),
            ("1001:", Err(AuthError::UnknownUser)),
            (":alice", Err(AuthError::UnknownUser)),
            ("alice:1001", Err(AuthError::UnknownUser)),
            ("+1001:alice", Err(AuthError::UnknownUser)),
            ("-1:alice", Err(AuthError::UnknownUser)),
            ("18446744073709551615:alice", Err(AuthError::UnknownUser)),
            ("18446744073709551616:alice", Err(AuthError::UnknownUser)),
        ] {
            let found = backend.find(name, now).map(|account| account.user);
            assert_eq!(found, expected.map(|user| Some(user.to_owned())), "{name}");
        }
        let nobody = Ephemeral { secrets: Vec::new() };
        assert_eq!(nobody.find("1001:alice", now).unwrap_err(), AuthError::UnknownUser);
    }

    #[test]
    fn secrets_are_a_list_and_never_shown() {
        let read = |text: &str| {
            let sections = [KIND.section];
            let mut reader = Reader::new(text, Path::new("/config.ini"), Sections(&sections));
            let options = EphemeralOptions::read(&mut reader.section("Ephemeral"));
            let (_, faults) = reader.finish();
            faults.map_or(Ok(options), |faults| Err(faults.to_string()))
        };
        let options = read("[Ephemeral]\nsecrets = hunter2, hunter 1\n").unwrap();
        assert_eq!(options.secrets.len(), 2);
        assert!(options.lack().is_none() && read("").unwrap().lack().is_some());
        assert!(!format!("{options:?}").contains("hunter"));
        let error = read("[Ephemeral]\nsecrets = hunter2\u{7}\n").unwrap_err();
        assert!(error.contains("[Ephemeral] secrets = (not shown): accepted is "), "{error}");
    }

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }
}
