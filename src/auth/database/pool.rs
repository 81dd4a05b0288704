//! Connections to the database, opened when they are needed and kept for a while.
//!
//! Not sqlx's own pool: that one hides why it cannot connect behind a time-out, tries a refused
//! connection again for as long, asks the server twice whether it is there around each query, and
//! starts tasks when it is made. Here a look-up owns its connection while it lasts, and a look-up
//! that is given up takes its connection with it.

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

/// A connection is used for so long: firewalls forget idle ones, names get other addresses, and
/// files are replaced.
const AGE_MAX: Duration = Duration::from_mins(5);

/// What the three databases have in common.
#[derive(Debug)]
pub(super) enum Pool {
    MySql(Typed<MySql>),
    Postgres(Typed<Postgres>),
    Sqlite(Typed<Sqlite>),
}

impl Pool {
    /// A pool without connections; `size` are kept at most. A look-up lasts `timeout` at most.
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
                // Twice, over a kept connection and a new one, and still in time to say why.
                let options = connect::sqlite(&file, timeout / 4);
                Box::pin(async move { options.connect().await })
            })),
        }
    }

    /// The rows that a statement finds for the names; `fresh`: over a new connection.
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

    /// Forgets all connections: what happened to one may have happened to all.
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
    /// Opens one that is good for the queries.
    connect: Box<dyn Fn() -> Connecting<DB> + Send + Sync>,
    /// Those that nobody uses, the one used last on top, with the time since when they are open.
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
                // In good order, so that no server logs an aborted client; it does not matter.
                _ = connection.close().await;
                continue;
            }
            match fetch(&mut connection, sql, names).await {
                Err(error) if !is_about_the_name(&error) => {
                    // The server was restarted, was tired of waiting, has another table now: a new
                    // connection tells.
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
    // Made of names that are identifiers, and parameters.
    let query = sqlx::query::<DB>(AssertSqlSafe(Arc::clone(sql)));
    let query = names.iter().fold(query, |query, name| query.bind(NameParameter(name.clone())));
    let rows = query.fetch_all(connection).await?;
    rows.iter()
        .map(|row| {
            // As octets, whatever the type: what does not look like a secret is none.
            let columns = (0..row.len()).map(|index| row.try_get_unchecked(index));
            columns.collect::<Result<_, _>>().map(Row)
        })
        .collect()
}

/// PostgreSQL takes a parameter for the octets of what its column holds, so that `abcd` would be a
/// number where names are numbers, and `1001` not the one that was meant. Costs nothing: the query
/// is prepared once for each connection anyway.
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

/// A name as parameter of a query.
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

/// Of the type of the column that it is compared with: PostgreSQL would otherwise convert each
/// CHAR of the table to TEXT, and use no index.
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

/// Whether the server only says that no row can have such a name: an emoji has no place in a table
/// that is in Latin-1, nor an unknown domain in a column that lists them. A stranger can cause it,
/// so it must not count as trouble.
pub(super) fn is_about_the_name(error: &sqlx::Error) -> bool {
    const CANNOT_MIX_COLLATIONS: [u16; 3] = [1267, 1270, 1271];
    const CANNOT_CONVERT: [u16; 2] = [1300, 3854];

    let Some(error) = error.as_database_error() else { return false };
    if let Some(error) = error.try_downcast_ref::<MySqlDatabaseError>() {
        let number = error.number();
        return CANNOT_MIX_COLLATIONS.contains(&number) || CANNOT_CONVERT.contains(&number);
    }
    // Of PostgreSQL: not in the repertoire, untranslatable, no value of the enum, too long a NAME.
    error.code().is_some_and(|code| matches!(&*code, "22021" | "22P05" | "22P02" | "42622"))
}
