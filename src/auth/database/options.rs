//! The options of `[Database]`.

use std::{num::NonZeroU32, time::Duration};

use secrecy::SecretString;

use crate::config::{
    Refused, options,
    values::{boolean, number, seconds},
};

const YES_NO: &str = "accepted is yes, no, true, false, on, off, 1 or 0";
const IDENTIFIER: &str =
    "accepted is a name of letters, digits and _ that does not begin with a digit";

options! {
    /// Where the table of the users is, and what its columns are called.
    pub struct DatabaseOptions {
        /// As written in the file. Only the scheme has been checked.
        uri: SecretString = "mysql://user:pass@db/opensips", uri,
            "accepted is mysql://user:password@host/database, \
             postgresql://user:password@host/database or sqlite:///file",
            "Where the database is: mysql://user:password@host:port/database, \
             postgresql://user:password@host:port/database or sqlite:///file. A password may hold \
             @, /, # and %; a % that two hexadecimal digits follow is written %25. \
             ?unix_socket=PATH names a socket (for PostgreSQL its directory), ?ssl_ca=FILE \
             (PostgreSQL: sslrootcert) demands a server certificate of that authority. An account \
             that may only read is enough." .secret();
        cleartext_passwords: bool = "Yes", boolean, YES_NO,
            "Use the column with passwords; when off, the columns with the hashes of \
             user:realm:password, and the one with passwords need not exist.";
        /// A plain identifier, as are the columns, or two with a dot between them.
        subscriber_table: String = "subscriber", table,
            "accepted is a name of letters, digits and _ that does not begin with a digit, or \
             schema.name",
            "Table of the users, or a view.";
        username_col: String = "username", identifier, IDENTIFIER, "Column of the user's name.";
        /// None: users are looked up by name alone.
        domain_col: Option<String> = "domain", identifier_or_none,
            "accepted is a name of letters, digits and _ that does not begin with a digit, or \
             nothing",
            "Column of the user's domain. Set to nothing (domain_col =) where the table has one \
             domain, as SIP proxies with use_domain = 0: users are looked up by name alone, and \
             [Relay] default_domain, or domains with one name, has to say which domain it is."
            .may_be_empty();
        password_col: String = "password", identifier, IDENTIFIER, "Column of the password.";
        ha1_col: String = "ha1", identifier, IDENTIFIER,
            "Column of the MD5 hash of user:realm:password, in hexadecimal.";
        ha1b_col: Option<String>, identifier, IDENTIFIER,
            "Column of the MD5 hash of user@domain:realm:password, in hexadecimal, for clients that \
             send user names with their domain (ha1b in tables of OpenSIPS and Kamailio). When not \
             set such clients need a table with passwords.";
        ha1_sha256_col: String = "ha1_sha256", identifier, IDENTIFIER,
            "Column of the SHA-256 hash of user:realm:password, in hexadecimal; read when \
             digest_algorithms has SHA-256.";
        pool_size: NonZeroU32 = "5", pool_size, "accepted is a whole number from 1 to 1024",
            "Connections to the database at once.";
        timeout: Duration = "5", seconds(1..=u32::MAX),
            "accepted is a whole number of seconds from 1 to 4294967295",
            "Seconds for one look-up, connecting included. While the database does not answer, \
             users get 500 Backend unavailable, most of them at once.";
        /// Zero if nothing is remembered.
        cache_time: Duration = "0", seconds(0..=u32::MAX),
            "accepted is a whole number of seconds from 0 to 4294967295",
            "Seconds for which a user found is remembered, and let in while the database is away; \
             a changed password may take as long to have effect. Strangers can then tell users \
             that are remembered from others while the database is slow or away. 0 is not at all.";
    }
}

/// The name of a table or column, which is written into a query.
fn identifier(text: &str) -> Result<String, Refused> {
    let first = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let rest = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    (first && rest).then(|| text.to_owned()).ok_or_else(|| Refused::new(text))
}

/// The name of a column that need not be there.
fn identifier_or_none(text: &str) -> Result<Option<String>, Refused> {
    if text.is_empty() { Ok(None) } else { identifier(text).map(Some) }
}

/// The name of a table, perhaps with that of its schema before it.
fn table(text: &str) -> Result<String, Refused> {
    for part in text.splitn(2, '.') {
        identifier(part).map_err(|_| Refused::new(text))?;
    }
    Ok(text.to_owned())
}

/// The size of the pool: at least one, and not more connections than a database server accepts.
fn pool_size(text: &str) -> Result<NonZeroU32, Refused> {
    let size = number(1..=1024)(text)?;
    NonZeroU32::new(size).ok_or_else(|| Refused::new(text))
}

/// A database URI in one of SQLObject's forms. The backend parses the rest of it.
fn uri(text: &str) -> Result<SecretString, Refused> {
    let schemes = ["mysql://", "postgres://", "postgresql://", "sqlite:"];
    let known = schemes.iter().any(|scheme| {
        let start = text.get(..scheme.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(scheme)) && text.len() > scheme.len()
    });
    let clean = !text.contains(char::is_control);
    (known && clean).then(|| SecretString::from(text)).ok_or_else(|| Refused::new(text))
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    fn refused<T>(part: &str) -> Result<T, Refused> {
        Err(Refused::new(part))
    }

    #[test]
    fn names_and_sizes() {
        assert_eq!(identifier("_a1"), Ok("_a1".to_owned()));
        for text in ["1a", "a b", "a.b", "a`", "ä", ""] {
            assert_eq!(identifier(text), refused(text));
        }
        assert_eq!(identifier_or_none(""), Ok(None));
        assert_eq!(identifier_or_none("domain"), Ok(Some("domain".to_owned())));
        assert_eq!(identifier_or_none(" "), refused(" "));
        assert_eq!(table("sip.users"), Ok("sip.users".to_owned()));
        for text in ["", ".", "a.", ".a", "a.b.c", "a b", "a.b;", "a`.b"] {
            assert_eq!(table(text), refused(text));
        }
        assert_eq!(pool_size("0"), refused("0"));
        assert_eq!(pool_size("1024"), Ok(NonZeroU32::new(1024).unwrap()));
    }

    #[test]
    fn uris() {
        for text in [
            "mysql://u:p@ss/w@db/opensips?charset=utf8",
            "POSTGRES://db/x",
            "postgresql://db/x",
            "sqlite:/f",
            "sqlite:///f",
        ] {
            assert_eq!(uri(text).unwrap().expose_secret(), text);
        }
        for text in ["db/opensips", "mysql:", "mysql://", "mssql://db/x", "sqlite:", "é"] {
            assert!(uri(text).is_err(), "{text}");
        }
    }
}
