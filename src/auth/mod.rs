//! Who may relay: the authentication of AUTH (RFC 4976 §5.1, §6.3, §9.1).
//!
//! [`Challenger`] issues challenges and judges the answers; a [`Backend`] knows the users. The
//! caller joins the two, because only it can wait:
//!
//! ```text
//!   AUTH without Authorization ── Challenger::challenge ──────────────────────────► 401
//!   AUTH with Authorization ───── Authorization::parse ──► Challenger::examine
//!                                                              │ Attempt
//!                                                     Backend::account (async)
//!                                                              │ Result<Account, AuthError>
//!                                                       Challenger::settle ──► Grant ──► 200
//! ```
//!
//! Basic, where it is allowed, has no challenge: [`basic::settle`] judges it by the same look-up.
//!
//! Every step may end in an [`AuthError`]; what the wire says to it follows from
//! [`AuthError::answer`] alone.

use std::{fmt, net::IpAddr, sync::Arc, time::SystemTime};

use futures_util::future::BoxFuture;
use secrecy::{ExposeSecret, SecretString};
use thiserror::Error;

use crate::{
    config::{Refused, Section, SectionReader, values},
    msrp::digest::{Algorithm, Ha1, ParseError},
};

pub mod basic;
mod challenger;
mod database;
pub mod domain;
mod ephemeral;
mod memory;

pub use challenger::{Attempt, AuthRequest, Challenger, Grant};

/// Every kind of backend, in the order of the sections in the sample. A backend is a file of its
/// own and a row here.
pub static KINDS: &[Kind] = &[memory::KIND, database::KIND, ephemeral::KIND];

/// A kind of backend, as the configuration knows it.
pub struct Kind {
    /// As the option `backend` names it.
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

impl Kind {
    /// The kinds that a value of the option `backend` names, each once.
    pub fn list(text: &str) -> Result<Vec<&'static Self>, Refused> {
        let named = |item: &str| KINDS.iter().find(|kind| kind.name.eq_ignore_ascii_case(item));
        let mut kinds: Vec<&Self> = Vec::new();
        for kind in values::list(text, named)? {
            if !kinds.iter().any(|known| known.name == kind.name) {
                kinds.push(kind);
            }
        }
        Ok(kinds)
    }

    /// All names in words, for messages.
    pub fn names() -> String {
        let mut names: Vec<&str> = KINDS.iter().map(|kind| kind.name).collect();
        names.sort_unstable();
        match names.split_last() {
            Some((last, others)) if !others.is_empty() => {
                format!("{} or {last}", others.join(", "))
            }
            _ => names.join(""),
        }
    }
}

/// The options of one backend.
pub trait BackendOptions: fmt::Debug + Send + Sync {
    /// Opens the backend, and connects nowhere yet. `algorithms` are those that challenges offer.
    fn open(&self, algorithms: &[Algorithm]) -> Result<Opened, OpenError>;

    /// What is missing, so that the backend knows nobody; told as a warning where it is used.
    fn lack(&self) -> Option<&'static str> {
        None
    }
}

/// A backend that was opened.
pub struct Opened {
    /// The backend.
    pub backend: Arc<dyn Backend>,
    /// What is odd about its options: name of the option, and what to say of it.
    pub warnings: Vec<(&'static str, String)>,
}

/// Why a backend cannot be opened. The text holds no password.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{text}")]
pub struct OpenError {
    /// The option that must be mended, where it is one.
    pub option: Option<&'static str>,
    /// What is wrong.
    pub text: String,
}

/// A store of users.
pub trait Backend: Send + Sync {
    /// The account of `user` in `realm`.
    ///
    /// A user who does not exist is [`AuthError::UnknownUser`]; a store that cannot tell is
    /// [`AuthError::BackendUnavailable`]. `user` is text from a stranger: no control characters,
    /// anything else. `client` is the address that it came from: where look-ups are scarce, each
    /// gets its share.
    fn account<'a>(
        &'a self,
        user: &'a str,
        realm: &'a str,
        client: IpAddr,
    ) -> BoxFuture<'a, Result<Account, AuthError>>;

    /// Finds out whether the store answers, and logs it when it does not: for the start, where
    /// nobody has asked yet.
    fn probe(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}

/// What a backend knows of a user.
#[derive(Clone, Debug)]
pub struct Account {
    /// Who the user is, where that is not the name that was asked for.
    pub user: Option<String>,
    /// What the user may prove to know: any of them will do.
    pub credentials: Vec<Credential>,
    /// When the account ends, by the clock on the wall: what is granted lasts no longer.
    pub until: Option<SystemTime>,
}

impl From<Credential> for Account {
    fn from(only: Credential) -> Self {
        Self { user: None, credentials: vec![only], until: None }
    }
}

impl Account {
    /// H(A1) of each credential, for an algorithm; those that let nobody in are left out.
    fn ha1s(&self, algorithm: Algorithm, user: &str, realm: &str) -> Vec<Ha1> {
        let of = |credential: &Credential| credential.ha1(algorithm, user, realm);
        self.credentials.iter().filter_map(of).collect()
    }
}

/// A secret of a user.
#[derive(Clone, Debug)]
pub enum Credential {
    /// The password in clear: as good for each algorithm.
    Password(SecretString),
    /// Hashes of `user:realm:password` (RFC 7616 §3.4.2) in hexadecimal, as far as there are any.
    Ha1 {
        /// With MD5.
        md5: Option<SecretString>,
        /// With SHA-256.
        sha256: Option<SecretString>,
    },
}

impl Credential {
    /// H(A1) for an algorithm. `None`: an empty password, which lets nobody in, or no whole hash.
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

/// Why somebody was not let in.
///
/// The text is for the operator's log; it holds nothing that the peer wrote. The wire hears
/// [`AuthError::answer`] and no more.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AuthError {
    /// The Authorization header cannot be read.
    #[error("Authorization header unreadable: {0}")]
    Malformed(#[from] ParseError),
    /// A parameter that every Authorization must have is absent or empty.
    #[error("Authorization header without {0}")]
    Missing(&'static str),
    /// The answer to somebody else's challenge.
    #[error("realm does not match")]
    WrongRealm,
    /// Only `auth` is offered.
    #[error("qop is not auth")]
    WrongQop,
    /// Another one than the challenge offers.
    #[error("algorithm is not one of those offered")]
    WrongAlgorithm,
    /// The nonce count is 8 hexadecimal digits (RFC 7616 §3.4).
    #[error("nonce count is not 8 hexadecimal digits")]
    WrongNonceCount,
    /// MD5 makes 32 hexadecimal digits, SHA-256 64.
    #[error("response is not as many hexadecimal digits as the algorithm makes")]
    MalformedResponse,
    /// The digest is for another target (RFC 7616 §3.4.6).
    #[error("uri parameter does not name the request's target")]
    WrongUri,
    /// Longer than any user name.
    #[error("user name too long")]
    UserTooLong,
    /// Made up, altered, of an earlier run of the relay, or issued to another address.
    #[error("nonce was not issued by this relay to this address")]
    ForeignNonce,
    /// Not the opaque text that went with the nonce.
    #[error("opaque does not belong to the nonce")]
    ForeignOpaque,
    /// No backend has this user in this realm.
    #[error("unknown user")]
    UnknownUser,
    /// Several rows of a table fit, with different secrets, or too many: whose, nobody can tell.
    #[error("the table has several rows for this user, and which one counts cannot be told")]
    AmbiguousUser,
    /// The account was for a time that is over.
    #[error("the account has expired")]
    ExpiredAccount,
    /// The digest is wrong.
    #[error("wrong password")]
    WrongPassword,
    /// An empty password lets nobody in: tables with HA1 leave the password column empty.
    #[error("the backend holds no usable secret for this user: no password, or no whole HA1")]
    UnusableCredential,
    /// Right digest, nonce too old.
    #[error("nonce has expired")]
    ExpiredNonce,
    /// Right digest, nonce used before: a replay, or a client that spares a round trip.
    #[error("nonce has been used before")]
    SpentNonce,
    /// Right digest, but too many nonces were used since this one was issued to tell whether it
    /// was one of them.
    #[error("nonce is older than the used ones that are remembered")]
    ForgottenNonce,
    /// The relay does not serve this realm.
    #[error("realm is not served")]
    RealmNotServed,
    /// Authenticated, but barred from relaying (RFC 4976 §6.3).
    #[error("user may not relay")]
    NotAllowed,
    /// The backend cannot tell; the text says why, without credentials.
    #[error("backend unavailable: {0}")]
    BackendUnavailable(String),
}

impl AuthError {
    /// What the client is told. Unknown user and wrong password must not differ.
    pub fn answer(&self) -> Answer {
        match self {
            Self::Malformed(_) => Answer::BadRequest,
            Self::Missing(_)
            | Self::WrongRealm
            | Self::WrongQop
            | Self::WrongAlgorithm
            | Self::WrongNonceCount
            | Self::MalformedResponse
            | Self::WrongUri
            | Self::UserTooLong
            | Self::ForeignNonce
            | Self::ForeignOpaque
            | Self::UnknownUser
            | Self::AmbiguousUser
            | Self::ExpiredAccount
            | Self::WrongPassword
            | Self::UnusableCredential => Answer::Challenge { stale: false },
            Self::ExpiredNonce | Self::SpentNonce | Self::ForgottenNonce => {
                Answer::Challenge { stale: true }
            }
            Self::RealmNotServed | Self::NotAllowed => Answer::Forbidden,
            Self::BackendUnavailable(_) => Answer::Unavailable,
        }
    }
}

/// The answer to an AUTH that is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// 400: the header cannot be read.
    BadRequest,
    /// 401 with a fresh challenge.
    Challenge {
        /// The digest was right, only its nonce was not (RFC 2617 §3.2.1).
        stale: bool,
    },
    /// 403: known, and not wanted.
    Forbidden,
    /// 500: no fault of the client.
    Unavailable,
}

impl Answer {
    /// Whether this was one of the failed attempts that a connection has few of.
    ///
    /// A stale nonce is none: who sent it knows the password (RFC 4976 §6.3).
    pub fn is_failed_attempt(self) -> bool {
        match self {
            Self::BadRequest | Self::Challenge { stale: false } | Self::Forbidden => true,
            Self::Challenge { stale: true } | Self::Unavailable => false,
        }
    }
}

/// Backends asked in order.
///
/// Only an unknown user is looked for in the next one: a backend that is down does not make room
/// for another's idea of the same user.
pub struct Chain {
    backends: Vec<Arc<dyn Backend>>,
}

impl Chain {
    /// A chain of `backends`; an empty one knows nobody.
    pub fn new(backends: Vec<Arc<dyn Backend>>) -> Self {
        Self { backends }
    }

    async fn ask(&self, user: &str, realm: &str, client: IpAddr) -> Result<Account, AuthError> {
        for backend in &self.backends {
            match backend.account(user, realm, client).await {
                Err(AuthError::UnknownUser) => {}
                answer => return answer,
            }
        }
        Err(AuthError::UnknownUser)
    }
}

impl Backend for Chain {
    fn account<'a>(
        &'a self,
        user: &'a str,
        realm: &'a str,
        client: IpAddr,
    ) -> BoxFuture<'a, Result<Account, AuthError>> {
        Box::pin(self.ask(user, realm, client))
    }

    fn probe(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            for backend in &self.backends {
                backend.probe().await;
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    /// Gives the same answer to everybody.
    struct Fixed(Result<Credential, AuthError>);

    impl Backend for Fixed {
        fn account<'a>(
            &'a self,
            _user: &'a str,
            _realm: &'a str,
            _client: IpAddr,
        ) -> BoxFuture<'a, Result<Account, AuthError>> {
            Box::pin(std::future::ready(self.0.clone().map(Account::from)))
        }
    }

    #[tokio::test]
    async fn only_an_unknown_user_falls_through() {
        let unknown = || Err(AuthError::UnknownUser);
        let down = || Err(AuthError::BackendUnavailable("refused".to_owned()));
        let knows = |password| Ok(Credential::Password(SecretString::from(password)));
        for (answers, expected) in [
            (vec![], Err("unknown user")),
            (vec![unknown(), unknown()], Err("unknown user")),
            (vec![unknown(), knows("2"), knows("3")], Ok("2")),
            (vec![knows("1"), down()], Ok("1")),
            (vec![unknown(), down(), knows("3")], Err("backend unavailable: refused")),
            (vec![down(), unknown()], Err("backend unavailable: refused")),
        ] {
            let chain = Chain::new(answers.into_iter().map(|a| Arc::new(Fixed(a)) as _).collect());
            let answer = match chain.account("alice", "example.com", CLIENT).await {
                Ok(account) => match &account.credentials[..] {
                    [Credential::Password(password)] => Ok(password.expose_secret().to_owned()),
                    _ => panic!("no backend here has such: {account:?}"),
                },
                Err(error) => Err(error.to_string()),
            };
            assert_eq!(answer.as_deref().map_err(String::as_str), expected);
        }
    }

    #[test]
    fn kinds_are_named_in_any_case_and_each_once() {
        let names = |text| Kind::list(text).map(|kinds| format!("{kinds:?}"));
        assert_eq!(names("DataBase").as_deref(), Ok("[database]"));
        assert_eq!(names("memory, database, memory").as_deref(), Ok("[memory, database]"));
        assert_eq!(names("memory, sipthor"), Err(Refused::new("sipthor")));
        assert!(Kind::names().starts_with("database"), "{}", Kind::names());
    }

    #[test]
    fn unknown_user_and_wrong_password_are_answered_alike() {
        let plain = Answer::Challenge { stale: false };
        assert_eq!(AuthError::UnknownUser.answer(), plain);
        assert_eq!(AuthError::WrongPassword.answer(), plain);
        assert_eq!(AuthError::UnusableCredential.answer(), plain);
        assert_eq!(AuthError::AmbiguousUser.answer(), plain);
    }

    /// The rule of RFC 4976 §6.3, and that a backend's trouble is not the client's.
    #[test]
    fn what_counts_as_a_failed_attempt() {
        for (error, counts) in [
            (AuthError::Malformed(ParseError::OtherScheme), true),
            (AuthError::Missing("nonce"), true),
            (AuthError::WrongPassword, true),
            (AuthError::ExpiredAccount, true),
            (AuthError::ForeignNonce, true),
            (AuthError::RealmNotServed, true),
            (AuthError::NotAllowed, true),
            (AuthError::ExpiredNonce, false),
            (AuthError::SpentNonce, false),
            (AuthError::ForgottenNonce, false),
            (AuthError::BackendUnavailable(String::new()), false),
        ] {
            assert_eq!(error.answer().is_failed_attempt(), counts, "{error}");
        }
    }

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
