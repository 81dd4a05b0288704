//! `backend = memory`: the users of `[Memory]`, with passwords in clear.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
};

use futures_util::future::BoxFuture;
use secrecy::SecretString;

use super::{
    Account, AuthError, Backend, BackendOptions, Credential, Kind, OpenError, Opened, domain,
};
use crate::{
    config::{Contents, Section, SectionReader},
    msrp::digest::Algorithm,
};

pub(super) const KIND: Kind = Kind {
    name: "memory",
    section: Section {
        name: "Memory",
        doc: "Users for backend = memory, one on each line: user@domain = password. Names and \
              passwords are taken literally, hyphens and colons included; only %% is read as %. \
              Let nobody but the relay read this file.",
        contents: Contents::Entries {
            one: "the user",
            form: "user@domain = password",
            example: "alice@example.com = secret",
            like: |name| name_and_domain(name).is_some(),
        },
    },
    read: |section, _used| Arc::new(Users::read(section)),
};

/// `[Memory]`, in the order of the file.
#[derive(Debug)]
struct Users(Vec<User>);

/// One entry.
#[derive(Debug)]
struct User {
    /// The text before the last `@`.
    name: String,
    /// The text after it.
    domain: String,
    /// Never empty.
    password: SecretString,
}

impl Users {
    fn read(section: &mut SectionReader<'_>) -> Self {
        let mut users = Vec::new();
        for entry in section.entries() {
            let Some((name, domain)) = name_and_domain(entry.name) else {
                section.refuse_entry(
                    &entry,
                    "user@domain, with neither part empty, no blank or port in the domain",
                );
                continue;
            };
            if entry.value.is_empty() {
                section.warn_of_entry(&entry, "the user has no password and is left out");
                continue;
            }
            users.push(User {
                name: name.to_owned(),
                domain: domain.to_owned(),
                password: SecretString::from(entry.value),
            });
        }
        Self(users)
    }
}

impl BackendOptions for Users {
    fn open(&self, _algorithms: &[Algorithm]) -> Result<Opened, OpenError> {
        let backend = Memory::new(&self.0)?;
        Ok(Opened { backend: Arc::new(backend), warnings: Vec::new() })
    }

    fn lack(&self) -> Option<&'static str> {
        self.0.is_empty().then_some("[Memory] has no user")
    }
}

/// Splits an entry's name at the last `@`. A domain with a blank, or with a colon unless it is an
/// IPv6 address, is refused: such an entry was written with `:`, and its `=` is part of the
/// password.
fn name_and_domain(text: &str) -> Option<(&str, &str)> {
    let (name, domain) = text.rsplit_once('@')?;
    let bare =
        domain.strip_prefix('[').and_then(|domain| domain.strip_suffix(']')).unwrap_or(domain);
    let address = bare.parse::<Ipv6Addr>().is_ok();
    let clean =
        address || !domain.contains(|c: char| c.is_whitespace() || c.is_control() || c == ':');
    (!name.is_empty() && !domain.is_empty() && clean).then_some((name, domain))
}

/// A backend that holds all its users in memory.
///
/// Domains are compared in the form of [`domain::folded`], because the realm is often the host of a
/// URI in the client's spelling. Users are compared octet by octet.
#[derive(Debug, Default)]
struct Memory {
    /// Folded domain, then user.
    domains: HashMap<String, HashMap<String, SecretString>>,
}

impl Memory {
    /// Fails if a user is listed twice. Two spellings of a domain are the same.
    fn new(users: &[User]) -> Result<Self, OpenError> {
        let mut memory = Self::default();
        for User { name, domain, password } in users {
            let known = memory.domains.entry(domain::folded(domain)).or_default();
            if known.insert(name.clone(), password.clone()).is_some() {
                let text = format!(
                    "user {name}@{domain} is listed twice (the case of a domain does not count)"
                );
                return Err(OpenError { option: None, text });
            }
        }
        Ok(memory)
    }

    fn find(&self, user: &str, realm: &str) -> Result<Credential, AuthError> {
        let users = self.domains.get(&domain::folded(realm));
        let names = domain::bare_name(user, realm).into_iter().chain([user]);
        users
            .and_then(|users| names.into_iter().find_map(|name| users.get(name)))
            .map(|password| Credential::Password(password.clone()))
            .ok_or(AuthError::UnknownUser)
    }
}

impl Backend for Memory {
    fn account<'a>(
        &'a self,
        user: &'a str,
        realm: &'a str,
        _client: IpAddr,
    ) -> BoxFuture<'a, Result<Account, AuthError>> {
        Box::pin(std::future::ready(self.find(user, realm).map(Account::from)))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use secrecy::ExposeSecret;

    use super::*;
    use crate::config::{Reader, Sections};

    #[test]
    fn finds_exactly_the_user_in_the_domain_of_any_case() {
        let memory = Memory::new(&[
            entry("alice", "example.com", "a"),
            entry("Alice", "example.com", "A"),
            entry("alice", "Example.ORG", "o"),
            entry("a-b_c", "my-domain.example", "-"),
            entry("carol@example.com", "example.com", "c"),
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
            ("alice@example.com", "example.com", Some("a")),
            ("alice@EXAMPLE.com", "example.com", Some("a")),
            ("carol@example.com", "example.com", Some("c")),
            ("alice@example.org", "example.com", None),
            ("bob@example.com", "example.com", None),
            ("alice ", "example.com", None),
            ("\u{430}lice", "example.com", None),
            ("a%s%n", "example.com", None),
            ("*", "*", None),
            ("", "", None),
        ] {
            let answer = match memory.find(user, realm) {
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
            Memory::new(&[entry("alice", "a.example", "1"), entry("alice", "A.example", "2")])
                .unwrap_err();
        assert_eq!(
            error.to_string(),
            "user alice@A.example is listed twice (the case of a domain does not count)"
        );
    }

    #[test]
    fn debug_shows_no_password() {
        let memory = Memory::new(&[entry("alice", "example.com", "hunter2")]).unwrap();
        let shown = format!("{memory:?}");
        assert!(shown.contains("alice") && !shown.contains("hunter2"), "{shown}");
    }

    fn entry(name: &str, domain: &str, password: &str) -> User {
        User {
            name: name.to_owned(),
            domain: domain.to_owned(),
            password: SecretString::from(password),
        }
    }

    /// The users of a file, or the error.
    fn read(text: &str) -> Result<Vec<User>, String> {
        let sections = [KIND.section];
        let text = format!("[Memory]\n{text}\n");
        let mut reader = Reader::new(&text, Path::new("/config.ini"), Sections(&sections));
        let users = Users::read(&mut reader.section("Memory"));
        let (_, faults) = reader.finish();
        faults.map_or(Ok(users.0), |faults| Err(faults.to_string()))
    }

    /// The same for users. msrprelay 1.4 read `-` in a name as `_`, so that users with a hyphen
    /// could not log in. This version does not repeat that fault.
    #[test]
    fn users_of_1_x_are_read_as_1_4_read_them() {
        let table = [
            ("alice@example.com = secret", "alice@example.com secret"),
            ("alice@example.com=secret", "alice@example.com secret"),
            ("Alice@Example.com = Secret", "Alice@Example.com Secret"),
            ("alice@example.com = a:b:c", "alice@example.com a:b:c"),
            ("alice@example.com = a=b", "alice@example.com a=b"),
            ("alice@example.com = a b", "alice@example.com a b"),
            ("alice@example.com = \"a\"", "alice@example.com \"a\""),
            ("alice@example.com = a ; b # c", "alice@example.com a ; b # c"),
            ("alice@example.com = 100%%", "alice@example.com 100%"),
            ("alice@example.com = %%%%", "alice@example.com %%"),
            // 1.4 did not start with a single percent sign.
            ("alice@example.com = 100%", "alice@example.com 100%"),
            ("ann-marie@sub-domain.example.com = x", "ann-marie@sub-domain.example.com x"),
            ("ann_marie@example.com = x", "ann_marie@example.com x"),
            ("a_b@example.com = 1\na-b@example.com = 2", "a_b@example.com 1, a-b@example.com 2"),
            ("; nobody@example.com = x\nalice@example.com = y", "alice@example.com y"),
        ];
        for (text, expected) in table {
            let users = read(text).expect(text);
            let users = users.iter().map(|user| {
                format!("{}@{} {}", user.name, user.domain, user.password.expose_secret())
            });
            assert_eq!(users.collect::<Vec<_>>().join(", "), expected, "{text:?}");
        }
    }

    #[test]
    fn users_part_at_the_last_at() {
        let table = [
            ("alice@example.com", Some(("alice", "example.com"))),
            ("sip:a-b@c@example.com", Some(("sip:a-b@c", "example.com"))),
            ("alice@[2001:db8::1]", Some(("alice", "[2001:db8::1]"))),
            ("alice smith@example.com", Some(("alice smith", "example.com"))),
            ("alice", None),
            ("@example.com", None),
            ("alice@", None),
            ("alice@example.com:2855", None),
            ("alice@example.com: half", None),
        ];
        for (name, expected) in table {
            let parsed = read(&format!("{name} = s3cr3t"));
            let Some(expected) = expected else {
                let error = parsed.expect_err(name);
                assert!(error.contains(":2: [Memory] the name on the left"), "{error}");
                continue;
            };
            let users = parsed.expect(name);
            assert_eq!((users[0].name.as_str(), users[0].domain.as_str()), expected);
        }
    }
}
