//! Users listed in the configuration file, with passwords in clear.

use std::{collections::HashMap, net::IpAddr};

use futures_util::future::BoxFuture;
use secrecy::SecretString;
use thiserror::Error;

use super::{AuthError, Backend, Credential};

/// A backend that holds all its users in memory.
///
/// A domain is compared without ASCII case, as DNS does: the realm is often the host of a URI as
/// the client happened to write it. A user is compared exactly, octet by octet.
#[derive(Debug, Default)]
pub struct Memory {
    /// Domain in lower case, then user.
    domains: HashMap<String, HashMap<String, SecretString>>,
}

impl Memory {
    /// Takes entries of user, domain and password.
    ///
    /// An empty password is kept, and lets nobody in.
    pub fn new(
        entries: impl IntoIterator<Item = (String, String, SecretString)>,
    ) -> Result<Self, Duplicate> {
        let mut memory = Self::default();
        for (user, domain, password) in entries {
            let users = memory.domains.entry(domain.to_ascii_lowercase()).or_default();
            if users.contains_key(&user) {
                return Err(Duplicate { user, domain });
            }
            users.insert(user, password);
        }
        Ok(memory)
    }

    fn find(&self, user: &str, realm: &str) -> Result<Credential, AuthError> {
        self.domains
            .get(&realm.to_ascii_lowercase())
            .and_then(|users| users.get(user))
            .map(|password| Credential::Password(password.clone()))
            .ok_or(AuthError::UnknownUser)
    }
}

impl Backend for Memory {
    fn credential<'a>(
        &'a self,
        user: &'a str,
        realm: &'a str,
        _client: IpAddr,
    ) -> BoxFuture<'a, Result<Credential, AuthError>> {
        Box::pin(std::future::ready(self.find(user, realm)))
    }
}

/// Two entries for one user, perhaps with the domain in another case.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("user {user}@{domain} is listed twice (the case of a domain does not count)")]
pub struct Duplicate {
    /// The user as written.
    pub user: String,
    /// The domain as written the second time.
    pub domain: String,
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use secrecy::ExposeSecret;

    use super::*;

    #[tokio::test]
    async fn finds_exactly_the_user_in_the_domain_of_any_case() {
        let memory = Memory::new([
            entry("alice", "example.com", "a"),
            entry("Alice", "example.com", "A"),
            entry("alice", "Example.ORG", "o"),
            entry("a-b_c", "my-domain.example", "-"),
            entry("' OR 1=1--", "example.com", "sql"),
        ])
        .unwrap();
        for (user, realm, expected) in [
            ("alice", "example.com", Some("a")),
            ("alice", "EXAMPLE.com", Some("a")),
            ("Alice", "example.com", Some("A")),
            ("ALICE", "example.com", None),
            ("alice", "example.org", Some("o")),
            ("alice", "example.net", None),
            ("a-b_c", "my-domain.example", Some("-")),
            ("a_b_c", "my_domain.example", None),
            ("' OR 1=1--", "example.com", Some("sql")),
            ("alice ", "example.com", None),
            ("\u{430}lice", "example.com", None),
            ("a%s%n", "example.com", None),
            ("*", "*", None),
            ("", "", None),
        ] {
            let answer = match memory.credential(user, realm, Ipv4Addr::LOCALHOST.into()).await {
                Ok(Credential::Password(password)) => Some(password.expose_secret().to_owned()),
                Ok(Credential::Ha1 { .. }) => panic!("passwords only"),
                Err(error) => {
                    assert_eq!(error, AuthError::UnknownUser);
                    None
                }
            };
            assert_eq!(answer.as_deref(), expected, "{user}@{realm}");
        }
    }

    #[test]
    fn a_user_listed_twice_is_an_error() {
        let error =
            Memory::new([entry("alice", "a.example", "1"), entry("alice", "A.example", "2")])
                .unwrap_err();
        assert_eq!(
            error.to_string(),
            "user alice@A.example is listed twice (the case of a domain does not count)"
        );
    }

    #[test]
    fn debug_shows_no_password() {
        let memory = Memory::new([entry("alice", "example.com", "hunter2")]).unwrap();
        let shown = format!("{memory:?}");
        assert!(shown.contains("alice") && !shown.contains("hunter2"), "{shown}");
    }

    fn entry(user: &str, domain: &str, password: &str) -> (String, String, SecretString) {
        (user.to_owned(), domain.to_owned(), SecretString::from(password))
    }
}
