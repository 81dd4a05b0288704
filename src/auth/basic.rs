//! Basic authentication (RFC 7617), which RFC 4976 §9.1 forbids: for clients that know nothing
//! else, where the operator allows it and TLS hides the password on the way.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use secrecy::{ExposeSecret, SecretString};

use super::{Account, AuthError, Credential, Grant, challenger::USER_MAX};
use crate::msrp::digest::{Algorithm, Ha1, ParseError, VALUE_MAX};

/// Basic credentials: a user name and a password in clear.
pub struct BasicLogin {
    user: String,
    password: SecretString,
}

impl BasicLogin {
    /// Reads the value of an `Authorization` header. `None` if it has another scheme.
    pub fn parse(value: &[u8]) -> Option<Result<Self, AuthError>> {
        let value = value.trim_ascii_start();
        let end = value.iter().position(|byte| *byte == b' ').unwrap_or(value.len());
        let (scheme, token) = value.split_at(end);
        scheme.eq_ignore_ascii_case(b"Basic").then(|| Self::decode(token.trim_ascii()))
    }

    fn decode(token: &[u8]) -> Result<Self, AuthError> {
        if token.len() > VALUE_MAX {
            return Err(ParseError::TooLong.into());
        }
        let text = STANDARD.decode(token).map_err(|_| ParseError::Base64)?;
        let text = String::from_utf8(text).map_err(|_| ParseError::NotUtf8)?;
        // RFC 7617 §2: neither part holds control characters, and the first colon parts them.
        if text.contains(char::is_control) {
            return Err(ParseError::ControlCharacter.into());
        }
        let (user, password) = text.split_once(':').ok_or(ParseError::NoValue)?;
        if user.is_empty() {
            return Err(AuthError::Missing("user name"));
        }
        if user.len() > USER_MAX {
            return Err(AuthError::UserTooLong);
        }
        Ok(Self { user: user.to_owned(), password: SecretString::from(password) })
    }

    /// If there are several colons: the same credentials with the last one as the end of the name.
    /// RFC 7617 forbids a colon in a name, but some backends have such names.
    pub fn with_longest_name(&self) -> Option<Self> {
        let (rest, password) = self.password.expose_secret().rsplit_once(':')?;
        let user = format!("{}:{rest}", self.user);
        (user.len() <= USER_MAX).then(|| Self { user, password: SecretString::from(password) })
    }

    /// The user name to look up: any text without control characters.
    pub fn user(&self) -> &str {
        &self.user
    }
}

impl fmt::Debug for BasicLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BasicLogin").field("user", &self.user).finish_non_exhaustive()
    }
}

/// Decides on the credentials. `found` is what the backend has for the user in `realm`.
///
/// An unknown user costs the same work as a wrong password, so that the time does not tell them
/// apart.
pub fn settle(
    login: &BasicLogin,
    realm: &str,
    found: Result<impl Into<Account>, AuthError>,
) -> Result<Grant, AuthError> {
    let (account, refusal) = match found {
        Ok(account) => (account.into(), None),
        Err(
            error @ (AuthError::UnknownUser | AuthError::AmbiguousUser | AuthError::ExpiredAccount),
        ) => {
            let dummy = Credential::Password(SecretString::from("password"));
            (Account::from(dummy), Some(error))
        }
        Err(error) => return Err(error),
    };
    // Hashes are compared: a table may have nothing else, and their length does not depend on the
    // password.
    let mut verdict = Err(AuthError::UnusableCredential);
    for algorithm in [Algorithm::Sha256, Algorithm::Md5] {
        let stored = account.ha1s(algorithm, &login.user, realm);
        if !stored.is_empty() {
            let given = Ha1::new(algorithm, &login.user, realm, &login.password);
            let right = stored.iter().fold(false, |right, stored| right | stored.matches(&given));
            verdict = if right { Ok(()) } else { Err(AuthError::WrongPassword) };
            break;
        }
    }
    // An empty password is never accepted, even if a table has its HA1.
    if login.password.expose_secret().is_empty() {
        verdict = verdict.and(Err(AuthError::WrongPassword));
    }
    refusal.map_or(verdict, Err)?;
    Ok(Grant {
        user: account.identity(&login.user, realm),
        realm: realm.to_owned(),
        authentication_info: None,
        until: account.until,
    })
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn other_schemes_are_none_of_ours() {
        for value in ["", "Digest x=y", "Basics YTpi", "Bearer YTpi"] {
            assert!(BasicLogin::parse(value.as_bytes()).is_none(), "{value}");
        }
    }

    #[test]
    fn user_and_password_are_parted_at_the_first_colon() {
        for (value, user, password) in [
            ("Basic YWxpY2U6c2VjcmV0", "alice", "secret"),
            ("basic  YWxpY2U6c2VjcmV0 ", "alice", "secret"),
            ("Basic YWxpY2U6YTpi", "alice", "a:b"),
            ("Basic YWxpY2U6", "alice", ""),
        ] {
            let login = BasicLogin::parse(value.as_bytes()).unwrap().unwrap();
            assert_eq!((login.user(), login.password.expose_secret()), (user, password));
            let shown = format!("{login:?}");
            assert!(password.is_empty() || !shown.contains(password), "{shown}");
        }
    }

    #[test]
    fn a_name_may_reach_to_the_last_colon() {
        let login = |user: &str, password: &str| BasicLogin {
            user: user.to_owned(),
            password: SecretString::from(password),
        };
        assert!(login("alice", "secret").with_longest_name().is_none());
        let longest = login("1700000000", "sip:alice:x=").with_longest_name().unwrap();
        assert_eq!(longest.user(), "1700000000:sip:alice");
        assert_eq!(longest.password.expose_secret(), "x=");
        assert!(login("alice", &format!("{}:x", "u".repeat(255))).with_longest_name().is_none());
    }

    /// An account with two valid passwords, another name and an end.
    #[test]
    fn any_credential_of_an_account_will_do() {
        let until = Some(SystemTime::UNIX_EPOCH);
        let known = |password: &str| Credential::Password(SecretString::from(password));
        for (password, verdict) in
            [("new", Ok("alice")), ("old", Ok("alice")), ("older", Err(AuthError::WrongPassword))]
        {
            let login =
                BasicLogin { user: "1:alice".to_owned(), password: SecretString::from(password) };
            let credentials = vec![known("new"), known("old")];
            let account = Account { user: Some("alice".to_owned()), credentials, until };
            let grant = settle(&login, "R", Ok(account));
            assert!(grant.as_ref().is_ok_and(|grant| grant.until == until) == verdict.is_ok());
            assert_eq!(grant.map(|grant| grant.user), verdict.map(str::to_owned));
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        let encoded = |text: &str| format!("Basic {}", STANDARD.encode(text));
        for (value, error) in [
            ("Basic".to_owned(), AuthError::Malformed(ParseError::NoValue)),
            ("Basic *".to_owned(), AuthError::Malformed(ParseError::Base64)),
            ("Basic /w==".to_owned(), AuthError::Malformed(ParseError::NotUtf8)),
            (encoded("alice"), AuthError::Malformed(ParseError::NoValue)),
            (encoded("al\0ice:x"), AuthError::Malformed(ParseError::ControlCharacter)),
            (encoded("alice:x\r\n"), AuthError::Malformed(ParseError::ControlCharacter)),
            (encoded(":x"), AuthError::Missing("user name")),
            (encoded(&format!("{}:x", "u".repeat(256))), AuthError::UserTooLong),
            (
                format!("Basic {}", "A".repeat(VALUE_MAX + 4)),
                AuthError::Malformed(ParseError::TooLong),
            ),
        ] {
            assert_eq!(BasicLogin::parse(value.as_bytes()).unwrap().unwrap_err(), error, "{value}");
        }
    }

    #[test]
    fn the_password_or_either_hash_decides() {
        // Hashes of `alice:R:secret` and of `alice:R:`, computed by another program.
        let hash = |algorithm, password| {
            SecretString::from(match (algorithm, password) {
                (Algorithm::Md5, "secret") => "1f7ce4d4f6b2495234041d7f73be0c20",
                (Algorithm::Md5, _) => "c88cb818644b72a434f80644339c6d56",
                (Algorithm::Sha256, _) => {
                    "38d8fae2636f954fd0d74f95b2f1a4f30b2c3a447b3acca4de1bdeabfa6decbd"
                }
            })
        };
        let known = |password: &str| Credential::Password(SecretString::from(password));
        let md5 =
            |password| Credential::Ha1 { md5: Some(hash(Algorithm::Md5, password)), sha256: None };
        let sha256 = |password| Credential::Ha1 {
            md5: None,
            sha256: Some(hash(Algorithm::Sha256, password)),
        };
        let down = || AuthError::BackendUnavailable("refused".to_owned());
        for (password, found, verdict) in [
            ("secret", Ok(known("secret")), Ok(())),
            ("secret", Ok(md5("secret")), Ok(())),
            ("secret", Ok(sha256("secret")), Ok(())),
            ("guess", Ok(known("secret")), Err(AuthError::WrongPassword)),
            ("guess", Ok(md5("secret")), Err(AuthError::WrongPassword)),
            ("guess", Ok(sha256("secret")), Err(AuthError::WrongPassword)),
            ("", Ok(known("")), Err(AuthError::UnusableCredential)),
            ("", Ok(md5("")), Err(AuthError::WrongPassword)),
            (
                "x",
                Ok(Credential::Ha1 { md5: None, sha256: None }),
                Err(AuthError::UnusableCredential),
            ),
            ("password", Err(AuthError::UnknownUser), Err(AuthError::UnknownUser)),
            ("password", Err(AuthError::AmbiguousUser), Err(AuthError::AmbiguousUser)),
            ("secret", Err(down()), Err(down())),
        ] {
            let login =
                BasicLogin { user: "alice".to_owned(), password: SecretString::from(password) };
            assert_eq!(settle(&login, "R", found).map(|_| ()), verdict, "{password}");
        }
    }
}
