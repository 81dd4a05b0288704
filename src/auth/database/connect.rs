//! Turns a parsed URI into the connection options of sqlx.

use std::{path::Path, time::Duration};

use secrecy::ExposeSecret;
use sqlx::{
    ConnectOptions,
    mysql::{MySqlConnectOptions, MySqlSslMode},
    postgres::{PgConnectOptions, PgSslMode},
    sqlite::SqliteConnectOptions,
};

use super::uri::{MYSQL_PORT, POSTGRES_PORT, Server};

/// Where a MySQL server on this machine listens: in Debian, in the client library of msrprelay 1.x,
/// and elsewhere.
const MYSQL_SOCKETS: [&str; 3] =
    ["/run/mysqld/mysqld.sock", "/var/lib/mysql/mysql.sock", "/tmp/mysql.sock"];

/// Call it for each connection, because it looks for the socket of a running server.
pub(super) fn mysql(server: &Server<MySqlSslMode>) -> MySqlConnectOptions {
    let mut options = MySqlConnectOptions::new()
        .username(&server.user)
        .database(&server.database)
        .charset(server.charset.as_deref().unwrap_or("utf8mb4"))
        .pipes_as_concat(false)
        .no_engine_substitution(false)
        .timezone(None)
        .disable_statement_logging();
    if let Some(password) = &server.password {
        options = options.password(password.expose_secret());
    }
    // For localhost MySQL's client library uses the socket, and so did msrprelay 1.x.
    let here = server.host.as_deref().is_none_or(|host| host == "localhost");
    let usual = || {
        let sockets = MYSQL_SOCKETS.map(Path::new);
        sockets.into_iter().find(|socket| here && server.port.is_none() && socket.exists())
    };
    if let Some(socket) = server.socket.as_deref().or_else(usual) {
        options = options.socket(socket);
    }
    options = options.host(server.host.as_deref().unwrap_or("localhost"));
    options = options.port(server.port.unwrap_or(MYSQL_PORT));
    let tls = &server.tls;
    if let Some(mode) = tls.mode.or(tls.ca.as_ref().map(|_| MySqlSslMode::VerifyCa)) {
        options = options.ssl_mode(mode);
    }
    if let Some(file) = &tls.ca {
        options = options.ssl_ca(file);
    }
    if let Some(file) = &tls.certificate {
        options = options.ssl_client_cert(file);
    }
    if let Some(file) = &tls.key {
        options = options.ssl_client_key(file);
    }
    options
}

pub(super) fn postgres(server: &Server<PgSslMode>) -> PgConnectOptions {
    let mut options = PgConnectOptions::new_without_pgpass()
        .username(&server.user)
        .database(&server.database)
        .port(server.port.unwrap_or(POSTGRES_PORT))
        .application_name("msrprelay")
        .disable_statement_logging();
    if let Some(password) = &server.password {
        options = options.password(password.expose_secret());
    }
    if let Some(host) = &server.host {
        options = options.host(host);
    }
    if let Some(directory) = &server.socket {
        options = options.socket(directory);
    }
    let tls = &server.tls;
    if let Some(mode) = tls.mode.or(tls.ca.as_ref().map(|_| PgSslMode::VerifyCa)) {
        options = options.ssl_mode(mode);
    }
    if let Some(file) = &tls.ca {
        options = options.ssl_root_cert(file);
    }
    if let Some(file) = &tls.certificate {
        options = options.ssl_client_cert(file);
    }
    if let Some(file) = &tls.key {
        options = options.ssl_client_key(file);
    }
    options
}

/// `patience` is how long a query waits while another process writes to the file.
pub(super) fn sqlite(file: &Path, patience: Duration) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(file)
        .read_only(true)
        .busy_timeout(patience)
        .disable_statement_logging()
}
