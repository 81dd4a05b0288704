//! Real database servers, thrown away after the run; and SQLite, which needs none.
//!
//! Each server runs under a shell that waits for the end of its own input: however the tests end,
//! the pipe closes and the shell kills the server.

use std::{
    fs,
    io::{self, BufRead as _, BufReader, Write as _},
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use sqlx::{AssertSqlSafe, ConnectOptions, Connection};
use tempfile::TempDir;

use super::{now, sleep, tls::IDENTITY};

/// A server that does not answer after that long is not coming.
const START: Duration = Duration::from_mins(1);

/// Who the servers run as when the tests run as root: they refuse root, for good reasons.
const NOBODY: &str = "nobody";

/// The account that relays use; it may only read. Its password has all that URIs trip over.
const ACCOUNT: &str = "relay";
const PASSWORD: &str = "p@ss/w#rd%:?&";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Sqlite,
    MariaDb,
    Postgres,
}

/// A database of a test's own, on a server that others may use too.
pub(crate) struct Database {
    server: Option<Arc<Server>>,
    /// Its name, or its file.
    name: String,
    kind: Kind,
    _directory: Option<TempDir>,
}

impl Database {
    /// An empty database. `None`: there is no such server on this machine, which has been said
    /// loudly.
    pub(crate) fn new(kind: Kind) -> Option<Self> {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);

        if kind == Kind::Sqlite {
            let directory = tempfile::tempdir().expect("a temporary directory");
            let name = directory.path().join("users.db").to_str().expect("UTF-8").to_owned();
            return Some(Self { server: None, name, kind, _directory: Some(directory) });
        }
        let server = Server::shared(kind)?;
        let name = format!("test{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        server.create(&name);
        Some(Self { server: Some(server), name, kind, _directory: None })
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// Runs SQL as its owner.
    #[track_caller]
    pub(crate) fn run(&self, sql: &str) {
        match &self.server {
            Some(server) => server.run(&self.name, sql),
            None => sqlite(Path::new(&self.name), sql),
        }
    }

    /// While `body` runs, somebody who writes keeps everybody else out. SQLite only.
    pub(crate) fn locked(&self, body: impl FnOnce()) {
        use sqlx::Executor as _;

        assert_eq!(self.kind, Kind::Sqlite);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&self.name);
        let mut writer = runtime.block_on(options.connect()).expect("a connection");
        runtime.block_on(writer.execute("BEGIN EXCLUSIVE")).expect("a lock");
        body();
        runtime.block_on(writer.close()).expect("its end");
    }

    /// Where it is. SQLite only.
    #[allow(dead_code, reason = "only tests/wire touches the file")]
    pub(crate) fn file(&self) -> &Path {
        assert_eq!(self.kind, Kind::Sqlite);
        Path::new(&self.name)
    }

    /// A file with the authority that vouches for the server: its own certificate, for localhost.
    pub(crate) fn authority(&self) -> PathBuf {
        let server = self.server.as_ref().expect("a server");
        server.directory.path().join("server.crt")
    }

    /// The lines of `[Database]` by which a relay reaches it.
    pub(crate) fn options(&self) -> String {
        match &self.server {
            Some(server) => format!("uri = {}\n", server.uri(&self.name)),
            None => format!("uri = sqlite://{}\n", self.name),
        }
    }
}

/// A server process with a data directory of its own.
pub(crate) struct Server {
    kind: Kind,
    port: u16,
    directory: TempDir,
    process: Mutex<Option<Process>>,
}

/// The shell, and the server that it started.
struct Process {
    shell: Child,
    server: i32,
}

impl Server {
    /// The server that all tests share; it lives while some test holds it.
    fn shared(kind: Kind) -> Option<Arc<Self>> {
        static SHARED: [Mutex<Weak<Server>>; 2] =
            [Mutex::new(Weak::new()), Mutex::new(Weak::new())];

        let slot = &SHARED[usize::from(kind == Kind::Postgres)];
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = slot.upgrade() {
            return Some(running);
        }
        let started = Arc::new(Self::start(kind)?);
        *slot = Arc::downgrade(&started);
        Some(started)
    }

    /// A server that nobody else uses.
    pub(crate) fn start(kind: Kind) -> Option<Self> {
        let Some(programs) = programs(kind) else {
            skip(kind);
            return None;
        };
        let directory = tempfile::tempdir().expect("a temporary directory");
        let files = [("crt", &IDENTITY.certificate_pem), ("key", &IDENTITY.key_pem)];
        let files = files.map(|(end, pem)| {
            let file = directory.path().join(format!("server.{end}"));
            fs::write(&file, pem).expect("a PEM file");
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("its mode");
            file
        });
        if is_root() {
            let nobody = Some(nix_user(NOBODY));
            for path in files.iter().map(PathBuf::as_path).chain([directory.path()]) {
                chown(path, nobody, None).expect("an owner");
            }
        }
        let server = Self { kind, port: super::free_port(), directory, process: Mutex::new(None) };
        server.initialise(&programs);
        server.boot();
        match kind {
            Kind::MariaDb => server
                .run("mysql", &format!("CREATE USER '{ACCOUNT}'@'%' IDENTIFIED BY '{PASSWORD}'")),
            Kind::Postgres => server
                .run("postgres", &format!("CREATE ROLE {ACCOUNT} LOGIN PASSWORD '{PASSWORD}'")),
            Kind::Sqlite => unreachable!("SQLite has no server"),
        }
        Some(server)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// As kill -9 by an operator, or the kernel.
    #[allow(dead_code, reason = "only tests/outages fails servers")]
    pub(crate) fn kill(&self) {
        let process = self.process.lock().unwrap_or_else(PoisonError::into_inner).take();
        process.expect("a running server").end();
    }

    /// Starts it, or starts it again on the same data and port.
    pub(crate) fn boot(&self) {
        let programs = programs(self.kind).expect("programs that were there");
        let data = self.data();
        let socket = self.directory.path();
        let port = self.port.to_string();
        let arguments: Vec<String> = match self.kind {
            Kind::MariaDb => [
                "--no-defaults",
                "--bind-address=127.0.0.1",
                "--skip-log-bin",
                "--skip-name-resolve",
                "--innodb-buffer-pool-size=32M",
                "--innodb-flush-log-at-trx-commit=0",
                "--max-connections=400",
            ]
            .map(str::to_owned)
            .into_iter()
            .chain([
                format!("--datadir={}", data.display()),
                format!("--socket={}", socket.join("socket").display()),
                format!("--pid-file={}", socket.join("pid").display()),
                format!("--port={port}"),
                format!("--ssl-cert={}", socket.join("server.crt").display()),
                format!("--ssl-key={}", socket.join("server.key").display()),
            ])
            .collect(),
            _ => vec![
                "-D".to_owned(),
                data.display().to_string(),
                "-p".to_owned(),
                port,
                "-k".to_owned(),
                socket.display().to_string(),
                "-c".to_owned(),
                "listen_addresses=127.0.0.1".to_owned(),
                "-c".to_owned(),
                "fsync=off".to_owned(),
                "-c".to_owned(),
                "ssl=on".to_owned(),
                "-c".to_owned(),
                format!("ssl_cert_file={}", socket.join("server.crt").display()),
                "-c".to_owned(),
                format!("ssl_key_file={}", socket.join("server.key").display()),
            ],
        };
        let process = Process::start(&programs.server, &arguments, &socket.join("log"));
        *self.process.lock().unwrap_or_else(PoisonError::into_inner) = Some(process);
        let deadline = now() + START;
        let schema = self.first();
        while self.try_run(schema, "SELECT 1").is_err() {
            assert!(now() < deadline, "{:?} does not answer:\n{}", self.kind, self.log());
            sleep(50);
        }
    }

    /// A new database, which the relay's account may read, whatever comes into it.
    pub(crate) fn create(&self, name: &str) {
        let schema = self.first();
        if self.kind == Kind::MariaDb {
            self.run(schema, &format!("CREATE DATABASE {name} CHARACTER SET utf8mb4"));
            self.run(schema, &format!("GRANT SELECT ON {name}.* TO '{ACCOUNT}'@'%'"));
            return;
        }
        self.run(schema, &format!("CREATE DATABASE {name}"));
        let grant = format!("ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO {ACCOUNT}");
        self.run(name, &grant);
    }

    /// How a relay reaches it, as an operator would write it.
    pub(crate) fn uri(&self, database: &str) -> String {
        self.uri_at(self.address(), database)
    }

    /// The same by way of another address.
    pub(crate) fn uri_at(&self, address: SocketAddr, database: &str) -> String {
        let scheme = if self.kind == Kind::MariaDb { "mysql" } else { "postgres" };
        format!("{scheme}://{ACCOUNT}:{PASSWORD}@{address}/{database}")
    }

    #[track_caller]
    pub(crate) fn run(&self, database: &str, sql: &str) {
        if let Err(error) = self.try_run(database, sql) {
            panic!("{error}\n{sql}");
        }
    }

    fn try_run(&self, database: &str, sql: &str) -> Result<(), sqlx::Error> {
        let directory = self.directory.path();
        match self.kind {
            Kind::MariaDb => execute(
                &sqlx::mysql::MySqlConnectOptions::new()
                    .socket(directory.join("socket"))
                    .username("root")
                    .database(database)
                    .ssl_mode(sqlx::mysql::MySqlSslMode::Disabled),
                sql,
            ),
            _ => execute(
                &sqlx::postgres::PgConnectOptions::new_without_pgpass()
                    .socket(directory)
                    .port(self.port)
                    .username("postgres")
                    .database(database),
                sql,
            ),
        }
    }

    /// The database that is always there.
    fn first(&self) -> &'static str {
        if self.kind == Kind::MariaDb { "mysql" } else { "postgres" }
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    fn initialise(&self, programs: &Programs) {
        let data = self.data().display().to_string();
        let arguments = match self.kind {
            Kind::MariaDb => vec![
                "--no-defaults".to_owned(),
                format!("--datadir={data}"),
                "--auth-root-authentication-method=normal".to_owned(),
                "--skip-test-db".to_owned(),
                "--skip-name-resolve".to_owned(),
            ],
            _ => ["-D", &data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C"]
                .map(str::to_owned)
                .into_iter()
                .chain(["--no-sync".to_owned()])
                .collect(),
        };
        let done = unprivileged(&programs.initialise)
            .args(arguments)
            .current_dir(self.directory.path())
            .env("TMPDIR", self.directory.path())
            .stdin(Stdio::null())
            .output()
            .expect("a program that runs");
        // MariaDB's script gives its reasons on standard output.
        let said = [done.stdout, done.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(done.status.success(), "{:?} cannot be set up:\n{said}", self.kind);
        if self.kind == Kind::Postgres {
            // Passwords are asked for where the relay comes in.
            let hba = "local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n";
            fs::write(self.data().join("pg_hba.conf"), hba).expect("pg_hba.conf");
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }
}

impl Process {
    fn start(program: &Path, arguments: &[String], log: &Path) -> Self {
        let mut server = unprivileged(program);
        server.args(arguments);
        let mut shell = Command::new("sh")
            .args(["-c", "\"$@\" </dev/null >>\"$0\" 2>&1 & echo $!; read -r _; kill -9 $!"])
            .arg(log)
            // MariaDB clears up what others have in the same place.
            .env("TMPDIR", log.parent().expect("a directory"))
            .arg(server.get_program())
            .args(server.get_args())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell");
        let mut line = String::new();
        let output = shell.stdout.take().expect("its output");
        BufReader::new(output).read_line(&mut line).expect("a line");
        let server = line.trim().parse().expect("a process id");
        Self { shell, server }
    }

    /// Kills the server and waits for the end of all.
    fn end(mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
        let server = nix::unistd::Pid::from_raw(self.server);
        while nix::sys::signal::kill(server, None).is_ok() {
            sleep(10);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(process) = self.process.get_mut().unwrap_or_else(PoisonError::into_inner).take()
        {
            process.end();
        }
    }
}

struct Programs {
    server: PathBuf,
    initialise: PathBuf,
}

/// Where they are installed; `None`: not at all.
fn programs(kind: Kind) -> Option<Programs> {
    let mut directories: Vec<PathBuf> =
        std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).collect();
    directories.push("/usr/sbin".into());
    // Debian keeps the programs of PostgreSQL out of the way, by version.
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    directories.extend(versions.map(|version| version.path().join("bin")));
    let find = |name: &str| {
        directories.iter().map(|directory| directory.join(name)).find(|file| file.exists())
    };
    let (server, initialise) = match kind {
        Kind::MariaDb => ("mariadbd", "mariadb-install-db"),
        _ => ("postgres", "initdb"),
    };
    if kind == Kind::MariaDb {
        // Debian has it in another package than the program that calls it.
        find("my_print_defaults")?;
    }
    Some(Programs { server: find(server)?, initialise: find(initialise)? })
}

/// A missing server is a failure where everything has to be tested. Elsewhere a line says so that
/// no harness swallows; `make test` counts these.
fn skip(kind: Kind) {
    assert!(std::env::var_os("CI").is_none(), "{kind:?} is not installed (.ci/need databases)");
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    let line = format!("SKIPPED {test}: {kind:?} is not installed (.ci/need databases)\n");
    let _ = io::stderr().write_all(line.as_bytes());
}

/// The program, as somebody who is not root.
fn unprivileged(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", NOBODY, "--regid", "nogroup", "--clear-groups", "--"]).arg(program);
    command
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

fn nix_user(name: &str) -> u32 {
    let user = nix::unistd::User::from_name(name).expect("the users of this machine");
    user.expect("a user nobody").uid.as_raw()
}

#[track_caller]
fn sqlite(file: &Path, sql: &str) {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(file).create_if_missing(true);
    if let Err(error) = execute(&options, sql) {
        panic!("{error}\n{sql}");
    }
}

/// Runs statements with a connection and a runtime of their own.
fn execute<O>(options: &O, sql: &str) -> Result<(), sqlx::Error>
where
    O: ConnectOptions,
    O::Connection: Sized,
    for<'c> &'c mut O::Connection: sqlx::Executor<'c>,
{
    use sqlx::Executor as _;

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let mut connection = options.connect().await?;
        connection.execute(sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))).await?;
        connection.close().await
    })
}
