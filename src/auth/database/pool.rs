//! Connections to the database, opened when they are needed and kept for a while.
//!
//! It replaces the pool of sqlx, which reports a time-out instead of the reason why it cannot
//! connect. The pool of sqlx also retries a refused connection until that time-out, pings the
//! server twice for each query, and starts tasks when it is created. Here a look-up owns its
//! connection, so a look-up that is cancelled closes it.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures_util::future::BoxFuture;
use sqlx::{
    AssertSqlSafe, ColumnIndex, ConnectOptions, Connection, Decode, Either, Encode, Executor,
    IntoArguments, MySql, PgConnection, Postgres, Row as _, SqlSafeStr, Sqlite, Statement as _,
    Type, TypeInfo,
    encode::IsNull,
    error::BoxDynError,
    mysql::{MySqlDatabaseError, MySqlTypeInfo},
    postgres::{PgArgumentBuffer, PgTypeInfo, PgTypeKind, types::Oid},
    sqlite::{SqliteArgumentsBuffer, SqliteTypeInfo},
};

use super::{
    connect,
    query::{Row, Statement},
    uri::Location,
};
use crate::clock;

/// How long a connection is used. Firewalls forget idle connections, host names get new addresses,
/// and SQLite files are replaced.
const AGE_MAX: Duration = Duration::from_mins(5);

/// The pool of one of the three kinds of database.
#[derive(Debug)]
pub(super) enum Pool {
    MySql(Typed<MySql>),
    Postgres(Typed<Postgres>),
    Sqlite(Typed<Sqlite>),
}

impl Pool {
    /// An empty pool, which keeps at most `size` connections. A look-up lasts at most `timeout`.
    /// `statement` has all the columns that are compared with names.
    pub(super) fn new(
        location: Location,
        statement: &Statement,
        size: usize,
        timeout: Duration,
    ) -> Self {
        match location {
            Location::MySql(server) => Self::MySql(Typed::new(size, move || {
                let options = connect::mysql(&server);
                Box::pin(async move { options.connect().await })
            })),
            Location::Postgres(server) => {
                let statement = statement.clone();
                Self::Postgres(Typed::new(size, move || {
                    let (options, statement) = (connect::postgres(&server), statement.clone());
                    Box::pin(async move {
                        let mut connection = options.connect().await?;
                        names_are_text(&mut connection, &statement).await?;
                        Ok(connection)
                    })
                }))
            }
            Location::Sqlite(file) => Self::Sqlite(Typed::new(size, move || {
                // A look-up may wait twice, on a kept connection and on a new one. Both must end
                // before its time-out, so that the log shows the reason.
                let options = connect::sqlite(&file, timeout / 4);
                Box::pin(async move { options.connect().await })
            })),
        }
    }

    /// The rows that a statement finds for the names. With `fresh` it uses a new connection.
    pub(super) async fn rows(
        &self,
        statement: &Statement,
        names: &[String],
        fresh: bool,
    ) -> Result<Vec<Row>, sqlx::Error> {
        let sql = &statement.sql;
        match self {
            Self::MySql(pool) => pool.rows(sql, names, fresh).await,
            Self::Postgres(pool) => pool.rows(sql, names, fresh).await,
            Self::Sqlite(pool) => pool.rows(sql, names, fresh).await,
        }
    }

    /// Closes all idle connections: what happened to one may have happened to all.
    pub(super) fn clear(&self) {
        match self {
            Self::MySql(pool) => pool.clear(),
            Self::Postgres(pool) => pool.clear(),
            Self::Sqlite(pool) => pool.clear(),
        }
    }
}

/// Connections to one kind of database.
pub(super) struct Typed<DB: sqlx::Database> {
    size: usize,
    /// Opens a connection and checks that it can run the queries.
    connect: Box<dyn Fn() -> Connecting<DB> + Send + Sync>,
    /// The idle connections with the time when each was opened. The one used last is at the end.
    idle: Mutex<Vec<(DB::Connection, Instant)>>,
}

/// A connection that is being opened.
type Connecting<DB> = BoxFuture<'static, Result<<DB as sqlx::Database>::Connection, sqlx::Error>>;

impl<DB: sqlx::Database> Typed<DB> {
    fn new(size: usize, connect: impl Fn() -> Connecting<DB> + Send + Sync + 'static) -> Self {
        Self { size, connect: Box::new(connect), idle: Mutex::default() }
    }

    async fn rows(
        &self,
        sql: &Arc<str>,
        names: &[String],
        fresh: bool,
    ) -> Result<Vec<Row>, sqlx::Error>
    where
        for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
        DB::Arguments: IntoArguments<DB>,
        for<'q> NameParameter: Encode<'q, DB> + Type<DB>,
        for<'r> Option<Vec<u8>>: Decode<'r, DB>,
        usize: ColumnIndex<DB::Row>,
    {
        while !fresh && let Some((mut connection, since)) = self.take() {
            if clock::now().saturating_duration_since(since) > AGE_MAX {
                // An orderly close, so that the server does not log an aborted client. Its errors
                // do not matter.
                _ = connection.close().await;
                continue;
            }
            match fetch(&mut connection, sql, names).await {
                Err(error) if !is_about_the_name(&error) => {
                    // The server may have restarted, closed an idle connection or got a new table.
                    // A new connection tells whether the error lasts.
                    self.clear();
                    break;
                }
                answer => {
                    self.keep(connection, since);
                    return answer;
                }
            }
        }
        let mut connection = (self.connect)().await?;
        let answer = fetch(&mut connection, sql, names).await;
        if answer.as_ref().err().is_none_or(is_about_the_name) {
            self.keep(connection, clock::now());
        }
        answer
    }

    fn take(&self) -> Option<(DB::Connection, Instant)> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    fn keep(&self, connection: DB::Connection, since: Instant) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < self.size {
            idle.push((connection, since));
        }
    }

    fn clear(&self) {
        let idle = std::mem::take(&mut *self.idle.lock().unwrap_or_else(PoisonError::into_inner));
        drop(idle);
    }
}

impl<DB: sqlx::Database> std::fmt::Debug for Typed<DB> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Typed").field("size", &self.size).finish_non_exhaustive()
    }
}

async fn fetch<DB: sqlx::Database>(
    connection: &mut DB::Connection,
    sql: &Arc<str>,
    names: &[String],
) -> Result<Vec<Row>, sqlx::Error>
where
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
    DB::Arguments: IntoArguments<DB>,
    for<'q> NameParameter: Encode<'q, DB> + Type<DB>,
    for<'r> Option<Vec<u8>>: Decode<'r, DB>,
    usize: ColumnIndex<DB::Row>,
{
    // Safe: the text has only checked identifiers and parameters.
    let query = sqlx::query::<DB>(AssertSqlSafe(Arc::clone(sql)));
    let query = names.iter().fold(query, |query, name| query.bind(NameParameter(name.clone())));
    let rows = query.fetch_all(connection).await?;
    rows.iter()
        .map(|row| {
            // Read as octets whatever the column's type; `Query::judge` interprets them.
            let columns = (0..row.len()).map(|index| row.try_get_unchecked(index));
            columns.collect::<Result<_, _>>().map(Row)
        })
        .collect()
}

/// Checks that the columns of user and domain names hold text. PostgreSQL reads the octets of a
/// parameter as the type of its column. If that is a number, the octets of the name `abcd` are a
/// number too, and those of `1001` are not 1001. The check costs nothing, because the query is
/// prepared once for each connection anyway.
async fn names_are_text(
    connection: &mut PgConnection,
    statement: &Statement,
) -> Result<(), sqlx::Error> {
    let names = vec![<NameParameter as Type<Postgres>>::type_info(); statement.parameters];
    let sql = AssertSqlSafe(Arc::clone(&statement.sql)).into_sql_str();
    let query = connection.prepare_with(sql, &names).await?;
    let Some(Either::Left(columns)) = query.parameters() else { return Ok(()) };
    let is_text = |column: &PgTypeInfo| {
        let texts = ["TEXT", "VARCHAR", "CHAR", "NAME", "CITEXT"];
        texts.iter().any(|text| column.name().eq_ignore_ascii_case(text))
            || matches!(column.kind(), PgTypeKind::Enum(_))
    };
    let Some(other) = columns.iter().find(|column| !is_text(column)) else { return Ok(()) };
    let text = format!(
        "a column of user or domain names is of type {}, which is no text; make a view that casts \
         it, and name that as subscriber_table",
        other.name()
    );
    Err(sqlx::Error::Configuration(text.into()))
}

/// A user or domain name as a parameter of the query.
struct NameParameter(String);

impl Type<MySql> for NameParameter {
    fn type_info() -> MySqlTypeInfo {
        <String as Type<MySql>>::type_info()
    }
}

impl Encode<'_, MySql> for NameParameter {
    fn encode_by_ref(&self, buffer: &mut Vec<u8>) -> Result<IsNull, BoxDynError> {
        <String as Encode<MySql>>::encode_by_ref(&self.0, buffer)
    }
}

/// Leaves the type open, so that PostgreSQL takes that of the column. Otherwise it would convert
/// each CHAR of the table to TEXT, and could not use an index.
impl Type<Postgres> for NameParameter {
    fn type_info() -> PgTypeInfo {
        const UNKNOWN: Oid = Oid(705);

        PgTypeInfo::with_oid(UNKNOWN)
    }
}

impl Encode<'_, Postgres> for NameParameter {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        <String as Encode<Postgres>>::encode_by_ref(&self.0, buffer)
    }
}

impl Type<Sqlite> for NameParameter {
    fn type_info() -> SqliteTypeInfo {
        <String as Type<Sqlite>>::type_info()
    }
}

impl Encode<'_, Sqlite> for NameParameter {
    fn encode_by_ref(&self, buffer: &mut SqliteArgumentsBuffer) -> Result<IsNull, BoxDynError> {
        <String as Encode<Sqlite>>::encode_by_ref(&self.0, buffer)
    }
}

/// Whether an error only means that no row can have this name, such as an emoji in a Latin-1 table
/// or an unknown value of an enum. A stranger can cause it, so it does not count as a failure of
/// the database.
pub(super) fn is_about_the_name(error: &sqlx::Error) -> bool {
    const CANNOT_MIX_COLLATIONS: [u16; 3] = [1267, 1270, 1271];
    const CANNOT_CONVERT: [u16; 2] = [1300, 3854];

    let Some(error) = error.as_database_error() else { return false };
    if let Some(error) = error.try_downcast_ref::<MySqlDatabaseError>() {
        let number = error.number();
        return CANNOT_MIX_COLLATIONS.contains(&number) || CANNOT_CONVERT.contains(&number);
    }
    // PostgreSQL: character_not_in_repertoire, untranslatable_character,
    // invalid_text_representation, name_too_long.
    error.code().is_some_and(|code| matches!(&*code, "22021" | "22P05" | "22P02" | "42622"))
}
