//! Users in a table of MySQL, MariaDB, PostgreSQL or SQLite: the `subscriber` table of the SIP
//! proxy, read and never written.
//!
//! ```text
//!   look-up ──► Cache ──► Line ──► Breaker ──┬─ Pass ──► a place in the pool ──┬──► rows ──► Query::judge
//!                                            ├─ Trial ─► a new connection ─────┘
//!                                            └─ Refuse ─► unavailable, at once
//! ```
//!
//! A database that is slow, down or hostile can delay a look-up by `timeout` at most. It cannot
//! block the relay: there are no tasks, no lock is held across a wait, and the number of look-ups
//! is limited. A client that asks for very many look-ups does not take those of the others.

mod breaker;
mod cache;
mod connect;
mod file;
mod options;
mod pool;
mod query;
mod uri;

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::{FutureExt as _, future::BoxFuture};
use secrecy::{ExposeSecret, SecretString};
use tokio::time::timeout_at;
use tracing::{error, info, warn};

use self::{
    breaker::{Admission, Breaker, News},
    cache::Cache,
    options::DatabaseOptions,
    pool::{Pool, is_about_the_name},
    query::{Asked, Dialect, Found, Query},
    uri::{DatabaseUriError, Location},
};
use super::{
    Account, AuthError, Backend, BackendOptions, Credential, Health, Kind, OpenError, Opened,
};
use crate::{
    clock,
    config::{Contents, ListenAddress, Section},
    fair::{Entry, Line, Origin, Place},
    msrp::digest::Algorithm,
};

pub(super) const KIND: Kind = Kind {
    name: "database",
    section: Section {
        name: "Database",
        doc: "The table of users for backend = database, such as the subscriber table of OpenSIPS \
              or Kamailio.",
        contents: Contents::Options(&[DatabaseOptions::TABLE]),
    },
    read: |section, used| {
        if used && !section.is_set("uri") {
            section.warn(
                "uri",
                "is not set though backend is database; its default is a mere example",
            );
        }
        Arc::new(DatabaseOptions::read(section))
    },
};

impl BackendOptions for DatabaseOptions {
    fn open(&self, algorithms: &[Algorithm]) -> Result<Opened, OpenError> {
        let failed =
            |error: DatabaseUriError| OpenError { option: Some("uri"), text: error.to_string() };
        let (database, warnings) = Database::open(self, algorithms).map_err(failed)?;
        let warnings = warnings.into_iter().map(|warning| ("uri", warning)).collect();
        Ok(Opened { backend: Arc::new(database), warnings })
    }

    fn one_realm_by(&self) -> Option<&'static str> {
        self.domain_col.is_none().then_some("domain_col")
    }
}

/// The most look-ups at once, running or waiting. A large relay has that many in a second.
const LOOKUPS_MAX: usize = 1024;

/// The longest `timeout` that is of use: the relay closes a connection without a session after 30
/// s.
const TIMEOUT_MAX: Duration = Duration::from_secs(25);

/// The longest message of a server that is logged whole, in characters.
const MESSAGE_MAX: usize = 300;

/// A backend that asks a database.
struct Database {
    /// Where it is, for the log.
    place: String,
    server: Option<ListenAddress>,
    /// The file of an SQLite database.
    file: Option<PathBuf>,
    /// Removed from messages of the driver.
    password: Option<SecretString>,
    timeout: Duration,
    query: Query,
    pool: Pool,
    line: Line<Origin>,
    /// The log has been told that look-ups are refused.
    overloaded: AtomicBool,
    /// It has been told that the table spells a domain otherwise than the challenge.
    respelled: AtomicBool,
    breaker: Breaker,
    cache: Cache,
}

impl Database {
    /// Parses the options. It does not connect and needs no runtime. If the table has no passwords,
    /// the hashes of these `algorithms` are read. Also returns warnings about parts that have no
    /// effect.
    fn open(
        options: &DatabaseOptions,
        algorithms: &[Algorithm],
    ) -> Result<(Self, Vec<String>), DatabaseUriError> {
        let (location, mut warnings) = Location::parse(&options.uri)?;
        let timeout = options.timeout.min(TIMEOUT_MAX);
        if timeout < options.timeout {
            warnings.push(format!(
                "[Database] timeout: taken as {}, the most that is of use",
                timeout.as_secs()
            ));
        }
        let (dialect, password, file) = match &location {
            Location::MySql(server) => (Dialect::MySql, server.password.clone(), None),
            Location::Postgres(server) => (Dialect::Postgres, server.password.clone(), None),
            Location::Sqlite(file) => (Dialect::Sqlite, None, Some(file.clone())),
        };
        let size = usize::try_from(options.pool_size.get()).unwrap_or(usize::MAX);
        let query = Query::new(dialect, options, algorithms);
        let database = Self {
            place: location.to_string(),
            server: location.server(),
            file,
            password: password.filter(|password| !password.expose_secret().is_empty()),
            timeout,
            pool: Pool::new(location, &query.statements()[0], size, timeout),
            query,
            line: Line::new(size, size, LOOKUPS_MAX),
            overloaded: AtomicBool::new(false),
            respelled: AtomicBool::new(false),
            breaker: Breaker::new(timeout),
            cache: Cache::new(options.cache_time),
        };
        Ok((database, warnings))
    }

    async fn look_up(
        &self,
        user: &str,
        realm: &str,
        client: IpAddr,
    ) -> Result<Credential, AuthError> {
        let began = clock::now();
        if let Some(credential) = self.cache.get(user, realm, began) {
            return Ok(credential);
        }
        self.look_up_afresh(user, realm, client, began).await
    }

    /// The same without what is remembered.
    async fn look_up_afresh(
        &self,
        user: &str,
        realm: &str,
        client: IpAddr,
        began: Instant,
    ) -> Result<Credential, AuthError> {
        let look_up = self.enter(client)?;
        match self.breaker.admit(began) {
            Admission::Refuse(cause) => Err(unavailable(&cause)),
            // A trial takes no place in the pool: look-ups that hang may hold them all.
            Admission::Trial => self.ask(user, realm, began, true).await,
            Admission::Pass => {
                let _permit = self.permit(&look_up, began).await?;
                self.ask(user, realm, began, false).await
            }
        }
    }

    /// Lets a look-up in, or refuses it because there are too many. Each time that this begins to
    /// happen is logged once.
    fn enter(&self, client: IpAddr) -> Result<Entry<'_, Origin>, AuthError> {
        let Some(look_up) = self.line.enter(client.into()) else {
            if !self.overloaded.swap(true, Ordering::Relaxed) {
                let waiting = self.line.entries();
                warn!(
                    "{}: {waiting} look-ups are waiting; {client}, which has its share of them, \
                     and others that do get 500",
                    self.place
                );
            }
            return Err(unavailable("too many look-ups at once"));
        };
        // Well below the share of one client, so that the log does not flap.
        if self.line.entries() < LOOKUPS_MAX / 4 {
            self.overloaded.store(false, Ordering::Relaxed);
        }
        Ok(look_up)
    }

    /// Waits for a place in the pool, for half of the time-out at most. A look-up that started
    /// later could run out of time. That would close its connection, and opening another costs the
    /// database more than a look-up.
    async fn permit<'a>(
        &self,
        look_up: &'a Entry<'_, Origin>,
        began: Instant,
    ) -> Result<Place<'a>, AuthError> {
        let Ok(Ok(permit)) = timeout_at((began + self.timeout / 2).into(), look_up.place()).await
        else {
            return Err(unavailable("no connection was free in time"));
        };
        // The database may have gone away meanwhile.
        self.breaker.cause().map_or(Ok(permit), |cause| Err(unavailable(&cause)))
    }

    /// Asks the database for a user.
    async fn ask(
        &self,
        user: &str,
        realm: &str,
        began: Instant,
        fresh: bool,
    ) -> Result<Credential, AuthError> {
        let deadline = began + self.timeout;
        let found = timeout_at(deadline.into(), self.find(user, realm, fresh)).await;
        let cause = match found {
            Ok(Ok(found)) => {
                if let Ok(Found { other_spelling: Some(domain), .. }) = &found {
                    self.warn_of_spelling(domain, realm);
                }
                let found = found.map(|found| found.credential);
                return self.answered(user, realm, began, found);
            }
            Ok(Err(error)) => self.message(&error),
            Err(_) => {
                self.pool.clear();
                format!("no answer within {} s", self.timeout.as_secs())
            }
        };
        let cause = Arc::from(cause);
        if self.breaker.failed(&cause, began, clock::now()) == News::Lost {
            error!("{}: {cause}; until it is back, users are answered 500", self.place);
        }
        Err(unavailable(&cause))
    }

    /// The first statement that finds the user decides.
    async fn find(
        &self,
        user: &str,
        realm: &str,
        mut fresh: bool,
    ) -> Result<Result<Found, AuthError>, sqlx::Error> {
        for asked in Asked::all(user, realm) {
            for statement in self.query.statements() {
                let rows = match self.pool.rows(statement, &statement.names(asked), fresh).await {
                    Err(error) if is_about_the_name(&error) => Vec::new(),
                    rows => rows?,
                };
                match self.query.judge(statement, rows, asked) {
                    Err(AuthError::UnknownUser) => fresh = false,
                    found => return Ok(found),
                }
            }
        }
        Ok(Err(AuthError::UnknownUser))
    }

    /// Once, because any client may write a domain as it likes.
    fn warn_of_spelling(&self, domain: &str, realm: &str) {
        if !self.respelled.swap(true, Ordering::Relaxed) {
            warn!(
                "{}: a domain is {domain:?} in the table and {realm:?} in the challenge; a hash is \
                 good for one spelling only, so users are refused if theirs was made with the \
                 former: write it so in [Relay] domains or default_domain",
                self.place
            );
        }
    }

    fn answered(
        &self,
        user: &str,
        realm: &str,
        began: Instant,
        found: Result<Credential, AuthError>,
    ) -> Result<Credential, AuthError> {
        if self.breaker.answered(began) == News::Back {
            info!("{} is back", self.place);
        }
        if let Ok(credential) = &found {
            self.cache.insert(user, realm, credential, began);
        }
        found
    }

    /// The driver's message on one line, without the password. What is wrong with the file stands
    /// before it, if that is known.
    fn message(&self, error: &sqlx::Error) -> String {
        let mut text = error.to_string();
        if let Some(password) = &self.password {
            text = text.replace(password.expose_secret(), "[password]");
        }
        let mut text: String = text.chars().take(MESSAGE_MAX).collect();
        if let Some(fault) = self.file.as_deref().and_then(file::fault) {
            text = format!("{fault} ({text})");
        }
        text.replace(char::is_control, " ")
    }
}

impl Backend for Database {
    fn account<'a>(
        &'a self,
        user: &'a str,
        realm: &'a str,
        client: IpAddr,
    ) -> BoxFuture<'a, Result<Account, AuthError>> {
        Box::pin(async move { self.look_up(user, realm, client).await.map(Account::from) })
    }

    fn probe(&self) -> BoxFuture<'_, ()> {
        // No user has this name, but the query shows whether table and columns exist.
        let nobody = self.look_up_afresh("", "", Ipv4Addr::UNSPECIFIED.into(), clock::now());
        Box::pin(nobody.map(drop))
    }

    fn server(&self) -> Option<ListenAddress> {
        self.server.clone()
    }

    fn health(&self) -> Vec<Health> {
        let (name, place) = (KIND.name, self.place.clone());
        vec![Health { name, place, option: "uri", state: self.breaker.health() }]
    }

    /// SQLite does not notice that another file was put in the place of the one it has open, and
    /// what is remembered is of the old one.
    fn outlives_reload(&self) -> bool {
        self.file.is_none()
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database").field("place", &self.place).finish_non_exhaustive()
    }
}

fn unavailable(cause: &str) -> AuthError {
    AuthError::BackendUnavailable(cause.to_owned())
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use sqlx::{ConnectOptions as _, Executor as _};

    use super::*;
    use crate::auth::HealthState;

    /// Options of a file that does not exist. A test changes those that concern it.
    pub(super) fn options() -> DatabaseOptions {
        DatabaseOptions {
            uri: SecretString::from(NOWHERE),
            cleartext_passwords: true,
            subscriber_table: "subscriber".to_owned(),
            username_col: "username".to_owned(),
            domain_col: Some("domain".to_owned()),
            password_col: "password".to_owned(),
            ha1_col: "ha1".to_owned(),
            ha1b_col: None,
            ha1_sha256_col: "ha1_sha256".to_owned(),
            pool_size: NonZeroU32::MIN,
            timeout: Duration::from_secs(5),
            cache_time: Duration::ZERO,
        }
    }

    fn database(uri: &str, timeout: u64) -> (Database, Vec<String>) {
        let options = DatabaseOptions {
            uri: SecretString::from(uri),
            timeout: Duration::from_secs(timeout),
            ..options()
        };
        Database::open(&options, &[Algorithm::Md5]).unwrap()
    }

    const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const NOWHERE: &str = "sqlite:/nonexistent/users.db";

    /// As the daemon does before it forks.
    #[test]
    fn opening_needs_no_runtime_and_no_database() {
        for uri in [NOWHERE, "mysql://u:p@192.0.2.1/d", "postgres://u:p@nowhere.invalid/d"] {
            let (_, warnings) = database(uri, 5);
            assert_eq!(warnings, Vec::<String>::new());
        }
        let (patient, warnings) = database(NOWHERE, 60);
        assert_eq!(patient.timeout, TIMEOUT_MAX);
        assert_eq!(warnings, ["[Database] timeout: taken as 25, the most that is of use"]);
    }

    #[tokio::test]
    async fn look_ups_at_once_are_limited() {
        let (database, _) = database(NOWHERE, 5);
        let mut waiting: Vec<_> =
            (0..LOOKUPS_MAX / 2).map(|_| database.enter(CLIENT).unwrap()).collect();
        let refused = database.look_up("alice", "R", CLIENT).await.unwrap_err();
        assert_eq!(refused, unavailable("too many look-ups at once"));
        waiting.pop();
        let refused = database.look_up("alice", "R", CLIENT).await.unwrap_err();
        assert!(refused.to_string().contains("unable to open database file"), "{refused}");
    }

    /// Waiting for others is not the database's fault; and who waited is told when it has gone
    /// away meanwhile.
    #[tokio::test]
    async fn a_place_in_the_pool_is_waited_for_in_vain() {
        let (database, _) = database(NOWHERE, 1);
        let (began, look_up) = (clock::now(), database.enter(CLIENT).unwrap());
        let taken = database.permit(&look_up, began).await.unwrap();
        let refused = database.look_up("alice", "R", CLIENT).await.unwrap_err();
        assert_eq!(refused, unavailable("no connection was free in time"));
        assert_eq!(database.breaker.cause(), None);

        database.breaker.failed(&"refused".into(), began, clock::now());
        drop(taken);
        assert_eq!(database.permit(&look_up, began).await.unwrap_err(), unavailable("refused"));
    }

    #[tokio::test]
    async fn health_is_what_the_look_ups_showed() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("users.db");
        let uri = format!("sqlite://{}", file.display());
        let (database, _) = database(&uri, 5);
        let health = || {
            let [Health { name: "database", place, option: "uri", state }] = &database.health()[..]
            else {
                panic!("one database")
            };
            assert_eq!(place, &format!("SQLite file {}", file.display()));
            state.clone()
        };
        assert_eq!(health(), HealthState::Unasked);
        let before = clock::now();
        database.probe().await;
        let HealthState::Fails { fault, since } = health() else { panic!("{:?}", health()) };
        assert!(fault.starts_with("the file does not exist"), "{fault}");
        assert!(before <= since && since <= clock::now());

        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&file);
        let mut owner = options.create_if_missing(true).connect().await.unwrap();
        let table = "CREATE TABLE subscriber (username TEXT, domain TEXT, password TEXT)";
        owner.execute(table).await.unwrap();
        let before = clock::now();
        database.probe().await;
        let HealthState::Answers { last } = health() else { panic!("{:?}", health()) };
        assert!(before <= last && last <= clock::now());
    }

    #[test]
    fn messages_are_one_line_without_the_password() {
        let (database, _) = database("mysql://user:p@ss@db/d", 5);
        let error = sqlx::Error::Protocol("p@ss\r\nis wrong \u{1b}[2J".to_owned());
        let message = database.message(&error);
        assert!(message.ends_with("[password]  is wrong  [2J"), "{message}");
        let error = sqlx::Error::Protocol("x".repeat(10_000));
        assert_eq!(database.message(&error).len(), MESSAGE_MAX);
        assert!(!format!("{database:?}").contains("p@ss"));
    }
}
