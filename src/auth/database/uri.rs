//! `[Database] uri`: the forms of SQLObject, which msrprelay 1.x read.
//!
//! ```text
//!   mysql://user:password@host:port/database?unix_socket=/run/mysqld/mysqld.sock
//!   postgresql://user:password@host:port/database?sslmode=verify-full
//!   sqlite:/path/to/file        sqlite:///path/to/file
//! ```
//!
//! This is not parsed as a URL, because operators write passwords unescaped: `p@ss/w#rd` must be
//! read whole. So the host begins behind the *last* `@`. A `%` is an escape if two hexadecimal
//! digits follow, and stands for itself otherwise.

use std::{fmt, path::PathBuf};

use percent_encoding::percent_decode_str;
use secrecy::{ExposeSecret, SecretString};
use sqlx::{mysql::MySqlSslMode, postgres::PgSslMode};
use thiserror::Error;

use crate::config::ListenAddress;

/// Where the database is, and the account to use.
#[derive(Debug, Clone)]
pub(super) enum Location {
    MySql(Server<MySqlSslMode>),
    Postgres(Server<PgSslMode>),
    Sqlite(PathBuf),
}

/// A database server.
#[derive(Debug, Clone)]
pub(super) struct Server<Mode> {
    /// `None` for the server on this machine, where it usually listens. IPv6 without brackets.
    pub(super) host: Option<String>,
    pub(super) port: Option<u16>,
    /// Takes precedence over host and port.
    pub(super) socket: Option<PathBuf>,
    pub(super) user: String,
    pub(super) password: Option<SecretString>,
    pub(super) database: String,
    /// MySQL only: the character set of the connection.
    pub(super) charset: Option<String>,
    pub(super) tls: Tls<Mode>,
}

/// TLS towards the server, with PEM files. If nothing is set, TLS is used where the server offers
/// it, and nothing is verified.
#[derive(Debug, Clone)]
pub(super) struct Tls<Mode> {
    pub(super) mode: Option<Mode>,
    pub(super) ca: Option<PathBuf>,
    pub(super) certificate: Option<PathBuf>,
    pub(super) key: Option<PathBuf>,
}

/// Why a URI cannot be used. The text never shows a part of the URI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(super) enum DatabaseUriError {
    /// The scheme is unknown.
    #[error("the scheme is none of mysql, postgresql, postgres and sqlite")]
    Scheme,
    /// The account is missing.
    #[error("no user: accepted is scheme://user:password@host/database")]
    User,
    /// Not a host name, an address or an IPv6 address in brackets.
    #[error("the host cannot be read; an IPv6 address stands in brackets")]
    Host,
    /// Not from 1 to 65535.
    #[error("the port is no number from 1 to 65535")]
    Port,
    /// The name of the database is missing.
    #[error("no database: accepted is scheme://user:password@host/database")]
    Database,
    /// The relay may have another working directory than the operator.
    #[error("the file of SQLite must be an absolute path: sqlite:///path/to/file")]
    RelativeFile,
    /// A database in memory belongs to one connection only.
    #[error("a database in memory is always empty; give the path of a file")]
    InMemory,
    /// The octets that the escapes stand for are not UTF-8.
    #[error("the escapes with % do not make UTF-8")]
    NotUtf8,
    /// A known parameter has a value that is not accepted.
    #[error("parameter {0} has a value that is not accepted")]
    Parameter(&'static str),
}

impl Location {
    /// Parses a URI. Also returns warnings about parts that have no effect.
    pub(super) fn parse(uri: &SecretString) -> Result<(Self, Vec<String>), DatabaseUriError> {
        let (scheme, rest) = uri.expose_secret().split_once(':').ok_or(DatabaseUriError::Scheme)?;
        let scheme = scheme.to_ascii_lowercase();
        if scheme == "sqlite" {
            let (path, parameters) = rest.split_once('?').unwrap_or((rest, ""));
            return Ok((Self::Sqlite(file(path)?), UriOptions::parse(parameters)?.warnings()));
        }
        let rest = rest.strip_prefix("//").ok_or(DatabaseUriError::Scheme)?;
        match scheme.as_str() {
            "mysql" => {
                let mut parts = Parts::parse(rest)?;
                let charset = parts.parameters.charset();
                let tls = Tls {
                    mode: parts.parameters.mode(&["ssl_mode", "ssl-mode", "sslmode"])?,
                    ca: parts.parameters.file(&["ssl_ca", "ssl-ca"]),
                    certificate: parts.parameters.file(&["ssl_cert", "ssl-cert"]),
                    key: parts.parameters.file(&["ssl_key", "ssl-key"]),
                };
                let (server, warnings) = parts.server(charset, tls);
                Ok((Self::MySql(server), warnings))
            }
            "postgres" | "postgresql" => {
                let mut parts = Parts::parse(rest)?;
                let tls = Tls {
                    mode: parts.parameters.mode(&["sslmode"])?,
                    ca: parts.parameters.file(&["sslrootcert"]),
                    certificate: parts.parameters.file(&["sslcert"]),
                    key: parts.parameters.file(&["sslkey"]),
                };
                let (server, warnings) = parts.server(None, tls);
                Ok((Self::Postgres(server), warnings))
            }
            _ => Err(DatabaseUriError::Scheme),
        }
    }
}

/// Where a server listens unless the URI says otherwise.
pub(super) const MYSQL_PORT: u16 = 3306;
pub(super) const POSTGRES_PORT: u16 = 5432;

impl Location {
    /// Where the server listens for TCP. One that is reached by its socket may do so, too.
    pub(super) fn server(&self) -> Option<ListenAddress> {
        match self {
            Self::MySql(server) => Some(server.tcp(MYSQL_PORT)),
            Self::Postgres(server) => Some(server.tcp(POSTGRES_PORT)),
            Self::Sqlite(_) => None,
        }
    }
}

impl<Mode> Server<Mode> {
    fn tcp(&self, default_port: u16) -> ListenAddress {
        let host = self.host.as_deref().filter(|_| self.socket.is_none());
        ListenAddress {
            host: host.unwrap_or("localhost").to_owned(),
            port: self.port.unwrap_or(default_port),
        }
    }
}

/// For the log, without the account.
impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MySql(server) => write!(f, "MySQL database {server}"),
            Self::Postgres(server) => write!(f, "PostgreSQL database {server}"),
            Self::Sqlite(file) => write!(f, "SQLite file {}", file.display()),
        }
    }
}

impl<Mode> fmt::Display for Server<Mode> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.database)?;
        match (&self.socket, &self.host) {
            (Some(socket), _) => write!(f, "at {}", socket.display()),
            (None, None) => f.write_str("on this machine"),
            (None, Some(host)) if host.contains(':') => write!(f, "at [{host}]"),
            (None, Some(host)) => write!(f, "at {host}"),
        }?;
        match self.port {
            Some(port) if self.socket.is_none() => write!(f, ":{port}"),
            _ => Ok(()),
        }
    }
}

/// What stands behind `mysql://` or `postgresql://`.
struct Parts {
    host: Option<String>,
    port: Option<u16>,
    user: String,
    password: Option<SecretString>,
    database: String,
    parameters: UriOptions,
}

impl Parts {
    fn parse(text: &str) -> Result<Self, DatabaseUriError> {
        let (account, rest) = text.rsplit_once('@').ok_or(DatabaseUriError::User)?;
        let (user, password) = match account.split_once(':') {
            Some((user, password)) => (user, Some(SecretString::from(decoded(password)?))),
            None => (account, None),
        };
        let user = decoded(user)?;
        let (rest, parameters) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        let (host, port) = host_and_port(authority)?;
        let database = decoded(database)?;
        if user.is_empty() {
            return Err(DatabaseUriError::User);
        }
        if database.is_empty() {
            return Err(DatabaseUriError::Database);
        }
        let parameters = UriOptions::parse(parameters)?;
        Ok(Self { host, port, user, password, database, parameters })
    }

    fn server<Mode>(
        mut self,
        charset: Option<String>,
        tls: Tls<Mode>,
    ) -> (Server<Mode>, Vec<String>) {
        let socket = self.parameters.file(&["unix_socket", "socket"]);
        let server = Server {
            host: self.host,
            port: self.port,
            socket,
            user: self.user,
            password: self.password,
            database: self.database,
            charset,
            tls,
        };
        (server, self.parameters.warnings())
    }
}

/// The parameters behind `?`. Those that no option takes become warnings.
struct UriOptions {
    left: Vec<(String, String)>,
    warnings: Vec<String>,
}

impl UriOptions {
    fn parse(text: &str) -> Result<Self, DatabaseUriError> {
        let items = text.split('&').filter(|item| !item.is_empty());
        let left = items
            .map(|item| {
                let (name, value) = item.split_once('=').unwrap_or((item, ""));
                Ok((decoded(name)?.to_ascii_lowercase(), decoded(value)?))
            })
            .collect::<Result<_, DatabaseUriError>>()?;
        Ok(Self { left, warnings: Vec::new() })
    }

    /// Takes the value of the first of these names that is given.
    fn take(&mut self, names: &[&str]) -> Option<String> {
        let index = self.left.iter().position(|(name, _)| names.contains(&name.as_str()))?;
        let (_, value) = self.left.remove(index);
        (!value.is_empty()).then_some(value)
    }

    fn file(&mut self, names: &[&str]) -> Option<PathBuf> {
        self.take(names).map(PathBuf::from)
    }

    fn mode<Mode: std::str::FromStr>(
        &mut self,
        names: &[&'static str],
    ) -> Result<Option<Mode>, DatabaseUriError> {
        let Some(value) = self.take(names) else { return Ok(None) };
        value.parse().map(Some).map_err(|_| DatabaseUriError::Parameter(names[0]))
    }

    /// UTF-8 only: names and passwords are UTF-8 here, and the server converts them to what its
    /// tables are in. A server older than utf8mb4 can be told so.
    fn charset(&mut self) -> Option<String> {
        let charset = self.take(&["charset"])?.to_ascii_lowercase();
        if matches!(charset.as_str(), "utf8" | "utf8mb3" | "utf8mb4") {
            return Some(charset);
        }
        self.warnings.push(
            "charset has no effect unless it is utf8 or utf8mb4: UTF-8 is spoken, \
             and the server converts"
                .to_owned(),
        );
        None
    }

    fn warnings(mut self) -> Vec<String> {
        let unknown = self
            .left
            .iter()
            .map(|(name, _)| format!("parameter {} has no effect", name.escape_debug()));
        self.warnings.extend(unknown);
        self.warnings
    }
}

fn host_and_port(text: &str) -> Result<(Option<String>, Option<u16>), DatabaseUriError> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or(DatabaseUriError::Host)?;
        host.parse::<std::net::Ipv6Addr>().map_err(|_| DatabaseUriError::Host)?;
        let port = match rest {
            "" => None,
            _ => Some(rest.strip_prefix(':').ok_or(DatabaseUriError::Host)?),
        };
        (host.to_owned(), port)
    } else {
        let (host, port) = match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        };
        (decoded(host)?, port)
    };
    let clean = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
    if !host.chars().all(clean) {
        return Err(DatabaseUriError::Host);
    }
    // SQLObject accepted a colon without a port.
    let port = match port {
        None | Some("") => None,
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            Some(digits.parse().ok().filter(|port| *port != 0).ok_or(DatabaseUriError::Port)?)
        }
        Some(_) => return Err(DatabaseUriError::Port),
    };
    Ok((Some(host).filter(|host| !host.is_empty()), port))
}

/// The path behind `sqlite:`, with or without an empty host before it.
fn file(text: &str) -> Result<PathBuf, DatabaseUriError> {
    let path = decoded(text.strip_prefix("//").unwrap_or(text))?;
    if path.ends_with(":memory:") {
        return Err(DatabaseUriError::InMemory);
    }
    if !path.starts_with('/') || path.ends_with('/') {
        return Err(DatabaseUriError::RelativeFile);
    }
    Ok(PathBuf::from(path))
}

fn decoded(text: &str) -> Result<String, DatabaseUriError> {
    let decoded = percent_decode_str(text).decode_utf8().map_err(|_| DatabaseUriError::NotUtf8)?;
    if decoded.contains('\0') {
        return Err(DatabaseUriError::NotUtf8);
    }
    Ok(decoded.into_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn passwords_arrive_whole() {
        for (written, password) in [
            ("secret", "secret"),
            ("p@ss", "p@ss"),
            ("p@ss/w", "p@ss/w"),
            ("a/b@c:d#e?f&g=h", "a/b@c:d#e?f&g=h"),
            ("100%", "100%"),
            ("5%zz", "5%zz"),
            ("%40%2F%25%23", "@/%#"),
            ("%C5%BD", "Ž"),
            ("Žofie", "Žofie"),
            (" ", " "),
            ("", ""),
        ] {
            let server = mysql(&format!("mysql://user:{written}@db.example.com:3307/opensips"));
            assert_eq!(server.password.unwrap().expose_secret(), password, "{written}");
            assert_eq!(server.user, "user");
            assert_eq!(server.host.as_deref(), Some("db.example.com"));
            assert_eq!((server.port, server.database.as_str()), (Some(3307), "opensips"));
        }
        assert!(mysql("mysql://user@db/opensips").password.is_none());
        assert_eq!(mysql("mysql://us%40er:x@db/opensips").user, "us@er");
    }

    #[test]
    fn hosts_ports_and_sockets() {
        for (authority, host, port) in [
            ("db", Some("db"), None),
            ("db:", Some("db"), None),
            ("192.0.2.1:33060", Some("192.0.2.1"), Some(33060)),
            ("[2001:db8::1]", Some("2001:db8::1"), None),
            ("[::1]:3306", Some("::1"), Some(3306)),
            ("", None, None),
            (":3307", None, Some(3307)),
        ] {
            let server = mysql(&format!("MySQL://user:x@{authority}/opensips"));
            assert_eq!((server.host.as_deref(), server.port), (host, port), "{authority}");
        }
        let server = mysql("mysql://user:x@/db?unix_socket=/run/my%20sql.sock&charset=utf8");
        assert_eq!(server.socket, Some(PathBuf::from("/run/my sql.sock")));
        assert_eq!(server.charset.as_deref(), Some("utf8"));
        for scheme in ["postgres", "postgresql", "PostgreSQL"] {
            let uri = format!("{scheme}://user:x@[::1]:5433/kamailio?sslmode=require");
            let (Location::Postgres(server), warnings) = parsed(&uri).unwrap() else {
                panic!("{uri}")
            };
            assert_eq!((server.host.as_deref(), server.port), (Some("::1"), Some(5433)));
            assert!(matches!(server.tls.mode, Some(PgSslMode::Require)));
            assert_eq!(warnings, Vec::<String>::new());
        }
    }

    #[test]
    fn servers_listen_for_tcp() {
        for (uri, address) in [
            ("mysql://u:p@db/d", Some("db:3306")),
            ("mysql://u:p@[2001:db8::1]:7/d", Some("[2001:db8::1]:7")),
            ("mysql://u:p@db:7/d?unix_socket=/s", Some("localhost:7")),
            ("postgres://u:p@/d", Some("localhost:5432")),
            ("sqlite:/users.db", None),
        ] {
            let server = parsed(uri).unwrap().0.server();
            assert_eq!(server.map(|server| server.to_string()).as_deref(), address, "{uri}");
        }
    }

    #[test]
    fn files_of_sqlite() {
        for (uri, path) in [
            ("sqlite:/var/lib/users.db", "/var/lib/users.db"),
            ("sqlite:///var/lib/users.db", "/var/lib/users.db"),
            ("SQLite:////var/lib/users.db", "//var/lib/users.db"),
            ("sqlite:/a%20b#c%", "/a b#c%"),
            ("sqlite:/users.db?debug=1", "/users.db"),
        ] {
            let (Location::Sqlite(file), _) = parsed(uri).unwrap() else { panic!("{uri}") };
            assert_eq!(file, PathBuf::from(path), "{uri}");
        }
    }

    #[test]
    fn what_has_no_effect_is_named_without_its_value() {
        let (_, warnings) =
            parsed("mysql://u:p@db/d?debug=SECRET&charset=latin1&use_unicode=1").unwrap();
        assert_eq!(warnings.len(), 3, "{warnings:?}");
        assert!(warnings[0].contains("charset") && warnings[1].contains("parameter debug "));
        assert!(!warnings.join("").contains("SECRET"));
        let (_, warnings) = parsed("sqlite:/users.db?debug=1").unwrap();
        assert_eq!(warnings, ["parameter debug has no effect"]);
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        for (uri, error) in [
            ("mysql", DatabaseUriError::Scheme),
            ("mysql:/u:p@db/d", DatabaseUriError::Scheme),
            ("oracle://u:p@db/d", DatabaseUriError::Scheme),
            ("mysql://db/d", DatabaseUriError::User),
            ("mysql://:p@db/d", DatabaseUriError::User),
            ("mysql://u:p@db", DatabaseUriError::Database),
            ("mysql://u:p@db/", DatabaseUriError::Database),
            ("mysql://u:p@db/?charset=utf8", DatabaseUriError::Database),
            ("mysql://u:p@d b/d", DatabaseUriError::Host),
            ("mysql://u:p@[::1/d", DatabaseUriError::Host),
            ("mysql://u:p@[::g]/d", DatabaseUriError::Host),
            ("mysql://u:p@[::1]3306/d", DatabaseUriError::Host),
            ("mysql://u:p@db:0/d", DatabaseUriError::Port),
            ("mysql://u:p@db:65536/d", DatabaseUriError::Port),
            ("mysql://u:p@db:+1/d", DatabaseUriError::Port),
            ("mysql://u:p@2001:db8::1/d", DatabaseUriError::Port),
            ("mysql://u:%FF@db/d", DatabaseUriError::NotUtf8),
            ("mysql://u:%00@db/d", DatabaseUriError::NotUtf8),
            ("mysql://u:p@db/d?ssl_mode=maybe", DatabaseUriError::Parameter("ssl_mode")),
            ("postgres://u:p@db/d?sslmode=maybe", DatabaseUriError::Parameter("sslmode")),
            ("sqlite:users.db", DatabaseUriError::RelativeFile),
            ("sqlite://users.db", DatabaseUriError::RelativeFile),
            ("sqlite:/dir/", DatabaseUriError::RelativeFile),
            ("sqlite:/:memory:", DatabaseUriError::InMemory),
            ("sqlite::memory:", DatabaseUriError::InMemory),
        ] {
            assert_eq!(parsed(uri).unwrap_err(), error, "{uri}");
        }
    }

    #[test]
    fn the_log_never_sees_the_account() {
        for (uri, shown) in [
            ("mysql://hunter:hunter2@db:3306/d", "MySQL database d at db:3306"),
            ("mysql://hunter:hunter2@/d?unix_socket=/s", "MySQL database d at /s"),
            ("postgres://hunter:hunter2@[::1]:1/d", "PostgreSQL database d at [::1]:1"),
            ("postgres://hunter:hunter2@/d", "PostgreSQL database d on this machine"),
            ("sqlite:/users.db", "SQLite file /users.db"),
        ] {
            let target = parsed(uri).unwrap().0;
            assert_eq!(target.to_string(), shown);
            assert!(!format!("{target:?}").contains("hunter2"));
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_target_or_an_error(text in "(mysql|postgres|sqlite):(//)?\\PC{0,60}") {
            _ = parsed(&text);
        }

        #[test]
        fn any_password_arrives(password in r"[^%\pC]{0,40}") {
            let server = mysql(&format!("mysql://user:{password}@db/opensips"));
            let arrived = server.password.unwrap();
            prop_assert_eq!(arrived.expose_secret(), password);
        }
    }

    fn parsed(uri: &str) -> Result<(Location, Vec<String>), DatabaseUriError> {
        Location::parse(&SecretString::from(uri))
    }

    fn mysql(uri: &str) -> Server<MySqlSslMode> {
        match parsed(uri).unwrap().0 {
            Location::MySql(server) => server,
            other => panic!("{other}"),
        }
    }
}
