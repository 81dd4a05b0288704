//! What a backend is, and what the configuration knows of it.

use std::{
    fmt,
    net::IpAddr,
    sync::Arc,
    time::{Instant, SystemTime},
};

use futures_util::future::BoxFuture;
use secrecy::{ExposeSecret, SecretString};
use thiserror::Error;

use super::{domain, error::AuthError};
use crate::{
    config::{ListenAddress, Section, SectionReader},
    msrp::digest::{Algorithm, Ha1},
};

/// A kind of backend, as the configuration knows it.
pub struct Kind {
    /// Its name in the option `backend`.
    pub name: &'static str,
    /// Its section in the file, with its options.
    pub section: Section,
    /// Reads that section. The second argument says whether the option `backend` names this kind.
    pub read: fn(&mut SectionReader<'_>, bool) -> Arc<dyn BackendOptions>,
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// The options of one backend.
pub trait BackendOptions: fmt::Debug + Send + Sync {
    /// Opens the backend, which does not connect yet. `algorithms` are those that challenges offer.
    fn open(&self, algorithms: &[Algorithm]) -> Result<Opened, OpenError>;

    /// The option by which users are looked up by name alone, so that only one realm can be served.
    fn one_realm_by(&self) -> Option<&'static str> {
        None
    }

    /// What is missing, if the backend can know no user. It becomes a warning if the backend is in
    /// use.
    fn lack(&self) -> Option<&'static str> {
        None
    }
}

/// A backend that was opened.
pub struct Opened {
    /// The backend, which has not connected yet.
    pub backend: Arc<dyn Backend>,
    /// Warnings about its options, each with the name of the option.
    pub warnings: Vec<(&'static str, String)>,
}

/// Why a backend cannot be opened. The text holds no password.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{text}")]
pub struct OpenError {
    /// The option that must be corrected, if it is one.
    pub option: Option<&'static str>,
    /// What is wrong.
    pub text: String,
}

/// A store of users.
pub trait Backend: Send + Sync {
    /// The account of `user` in `realm`.
    ///
    /// [`AuthError::UnknownUser`] if there is no such user. [`AuthError::BackendUnavailable`] if
    /// the backend cannot tell. `user` is any text without control characters, from a stranger.
    /// `client` is the address that asks: a backend may limit the look-ups of each client.
    /// NAME@REALM in the realm REALM is NAME ([`domain::bare_name`]).
    fn account<'a>(
        &'a self,
        user: &'a str,
        realm: &'a str,
        client: IpAddr,
    ) -> BoxFuture<'a, Result<Account, AuthError>>;

    /// Finds out whether the backend answers, for [`Backend::health`], and logs it if that has
    /// changed. Called after the backend was opened, before the first look-up, and again while it
    /// fails and when an operator wants to know.
    fn probe(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    /// Where its server listens. The relay never dials that for a user.
    fn server(&self) -> Option<ListenAddress> {
        None
    }

    /// How the stores behind it are, as the look-ups so far have shown; asks nothing. A store that
    /// cannot fail is not listed. [`Backend::probe`] makes the word a fresh one.
    fn health(&self) -> Vec<Health> {
        Vec::new()
    }

    /// Whether a reload may keep this backend when its section did not change. If not, the reload
    /// opens a new one, without the connections and remembered users of this one.
    fn outlives_reload(&self) -> bool {
        true
    }
}

/// How a store of users is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Its kind, as the option `backend` names it.
    pub name: &'static str,
    /// Where it is, without credentials.
    pub place: String,
    /// The option of its section that says so.
    pub option: &'static str,
    /// Whether it answers.
    pub state: HealthState,
}

impl Health {
    /// Whether users of this store get 500.
    pub fn fails(&self) -> bool {
        matches!(self.state, HealthState::Fails { .. })
    }
}

/// Whether a store of users answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HealthState {
    /// It was not asked yet.
    Unasked,
    /// It does, or did when it was asked last.
    Answers {
        /// When the newest look-up began that it answered.
        last: Instant,
    },
    /// It does not, so that users get 500.
    Fails {
        /// Why, in the store's own words, without credentials.
        fault: Arc<str>,
        /// When the first look-up failed since the last one that was answered.
        since: Instant,
    },
}

/// What a backend knows of a user.
#[derive(Clone, Debug)]
pub struct Account {
    /// The name of the user, if it differs from the name that was looked up.
    pub user: Option<String>,
    /// The valid secrets of the user. Any of them is enough.
    pub credentials: Vec<Credential>,
    /// When the account ends, in wall-clock time. A session must not last longer.
    pub until: Option<SystemTime>,
}

impl From<Credential> for Account {
    fn from(only: Credential) -> Self {
        Self { user: None, credentials: vec![only], until: None }
    }
}

impl Account {
    /// Who it is that proved to know a credential under the name `asked`: for the log, sessions and
    /// refreshes.
    pub(super) fn identity(&self, asked: &str, realm: &str) -> String {
        let user = self.user.as_deref().unwrap_or(asked);
        domain::bare_name(user, realm).unwrap_or(user).to_owned()
    }

    /// H(A1) of each credential, for an algorithm. Unusable credentials are left out.
    pub(super) fn ha1s(&self, algorithm: Algorithm, user: &str, realm: &str) -> Vec<Ha1> {
        let of = |credential: &Credential| credential.ha1(algorithm, user, realm);
        self.credentials.iter().filter_map(of).collect()
    }
}

/// A secret of a user.
#[derive(Clone, Debug)]
pub enum Credential {
    /// The password in clear, which serves for each algorithm.
    Password(SecretString),
    /// Hashes of `user:realm:password` (RFC 7616 §3.4.2) in hexadecimal, for the algorithms that
    /// have one.
    Ha1 {
        /// With MD5.
        md5: Option<SecretString>,
        /// With SHA-256.
        sha256: Option<SecretString>,
    },
}

impl Credential {
    /// H(A1) for an algorithm. `None` if the password is empty, or there is no complete hash.
    fn ha1(&self, algorithm: Algorithm, user: &str, realm: &str) -> Option<Ha1> {
        let stored = match self {
            Self::Password(password) if password.expose_secret().is_empty() => return None,
            Self::Password(password) => return Some(Ha1::new(algorithm, user, realm, password)),
            Self::Ha1 { md5, sha256 } => match algorithm {
                Algorithm::Md5 => md5,
                Algorithm::Sha256 => sha256,
            },
        };
        Ha1::from_hex(algorithm, stored.as_ref()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_of_a_credential_shows_no_secret() {
        let secret = || SecretString::from("hunter2");
        for credential in [
            Credential::Password(secret()),
            Credential::Ha1 { md5: Some(secret()), sha256: Some(secret()) },
        ] {
            let shown = format!("{credential:?}");
            assert!(!shown.contains("hunter2"), "{shown}");
        }
    }
}
