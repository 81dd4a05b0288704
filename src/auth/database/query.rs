//! The query to the database, and the choice among the rows that it returns.
//!
//! The database compares names as its collation says: in MySQL `Alice` finds `alice`, `rené` finds
//! `rene`, and `1x` finds the number 1. So the query also reads the names of each row. A row counts
//! only if its names are those asked for; letter case and trailing blanks may differ.

use std::sync::Arc;

use secrecy::SecretString;

use super::options::DatabaseOptions;
use crate::{
    auth::{AuthError, Credential},
    msrp::digest::Algorithm,
};

/// The most rows that are read for one user. If there may be more, the user's own row may be
/// missing.
const ROWS_MAX: usize = 8;

/// The most characters of a column that are read.
const TEXT_MAX: usize = 1024;

/// The query for one user. It only reads.
#[derive(Debug)]
pub(super) struct Query {
    sql: Arc<str>,
    secrets: Secrets,
}

/// The columns that follow user and domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Secrets {
    Password,
    Ha1 { md5: bool, sha256: bool },
}

/// How a database writes names and parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    MySql,
    Postgres,
    Sqlite,
}

/// A row: user, domain, secrets, as octets; NULL is `None`.
pub(super) struct Row(pub(super) Vec<Option<Vec<u8>>>);

/// How well a row fits the names asked for, the best fit first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fit {
    Exact,
    /// Equal except for letter case and trailing blanks.
    Alike,
}

impl Query {
    pub(super) fn new(
        dialect: Dialect,
        options: &DatabaseOptions,
        algorithms: &[Algorithm],
    ) -> Self {
        let secrets = if options.cleartext_passwords {
            Secrets::Password
        } else {
            Secrets::Ha1 {
                md5: algorithms.contains(&Algorithm::Md5),
                sha256: algorithms.contains(&Algorithm::Sha256),
            }
        };
        // A column that is not needed may be missing from the table, so it is not read.
        let columns: &[&String] = match secrets {
            Secrets::Password => &[&options.password_col],
            Secrets::Ha1 { md5: true, sha256: true } => {
                &[&options.ha1_col, &options.ha1_sha256_col]
            }
            Secrets::Ha1 { sha256: true, .. } => &[&options.ha1_sha256_col],
            Secrets::Ha1 { .. } => &[&options.ha1_col],
        };
        let selected: Vec<String> = [&options.username_col, &options.domain_col]
            .iter()
            .chain(columns)
            .map(|column| dialect.selected(column))
            .collect();
        let sql = format!(
            "SELECT {} FROM {} AS s WHERE {} = {} AND {} = {} LIMIT {ROWS_MAX}",
            selected.join(", "),
            dialect.table(&options.subscriber_table),
            dialect.column(&options.username_col),
            dialect.parameter(1),
            dialect.column(&options.domain_col),
            dialect.parameter(2),
        );
        Self { sql: sql.into(), secrets }
    }

    pub(super) fn sql(&self) -> Arc<str> {
        Arc::clone(&self.sql)
    }

    /// Chooses the user's secret among the rows. The row that fits best counts. Rows that fit
    /// equally well must have the same secret. A row that is only alike counts only if no row was
    /// left out.
    pub(super) fn judge(
        &self,
        rows: Vec<Row>,
        user: &str,
        realm: &str,
    ) -> Result<Credential, AuthError> {
        let all = rows.len() < ROWS_MAX;
        let mut best: Option<(Fit, Vec<Option<Vec<u8>>>)> = None;
        let mut ambiguous = false;
        for Row(mut columns) in rows {
            let secrets = columns.split_off(2);
            let Some(fit) = fit(&columns, [user, realm]) else { continue };
            match &best {
                Some((better, _)) if *better < fit => {}
                Some((same, found)) if *same == fit => ambiguous |= *found != secrets,
                _ => {
                    best = Some((fit, secrets));
                    ambiguous = false;
                }
            }
        }
        let (fit, secrets) = best.ok_or(AuthError::UnknownUser)?;
        if ambiguous || (fit == Fit::Alike && !all) {
            return Err(AuthError::AmbiguousUser);
        }
        let mut secrets = secrets.into_iter().map(Option::unwrap_or_default);
        // A value that is not UTF-8 is read as empty: no client could hash it as a password.
        let mut next = || String::from_utf8(secrets.next().unwrap_or_default()).unwrap_or_default();
        Ok(match self.secrets {
            Secrets::Password => Credential::Password(SecretString::from(next())),
            Secrets::Ha1 { md5, sha256 } => {
                // A CHAR column is padded with blanks.
                let mut hash = || SecretString::from(next().trim());
                Credential::Ha1 { md5: md5.then(&mut hash), sha256: sha256.then(&mut hash) }
            }
        })
    }
}

impl Dialect {
    /// A column, quoted so that it may be a keyword. The configuration accepts plain identifiers
    /// only. The table is named too: SQLite would read the quoted name of a missing column as a
    /// *string*, which would be the password of all users.
    fn column(self, name: &str) -> String {
        format!("s.{}", self.quoted(name))
    }

    /// A column read as text, of limited length. Without the conversion PostgreSQL pads CHAR
    /// columns, and numbers arrive in binary.
    fn selected(self, name: &str) -> String {
        let column = self.column(name);
        match self {
            Self::MySql => format!("CAST({column} AS CHAR({TEXT_MAX}))"),
            Self::Postgres => format!("{column}::varchar({TEXT_MAX})"),
            Self::Sqlite => format!("substr({column}, 1, {TEXT_MAX})"),
        }
    }

    /// A table, which may be named with its schema.
    fn table(self, name: &str) -> String {
        let parts: Vec<String> = name.split('.').map(|part| self.quoted(part)).collect();
        parts.join(".")
    }

    fn quoted(self, name: &str) -> String {
        match self {
            Self::MySql => format!("`{name}`"),
            Self::Postgres | Self::Sqlite => format!("\"{name}\""),
        }
    }

    fn parameter(self, number: usize) -> String {
        match self {
            Self::Postgres => format!("${number}"),
            Self::MySql | Self::Sqlite => "?".to_owned(),
        }
    }
}

/// How well user and domain of a row fit. `None` if the row belongs to another user.
fn fit(columns: &[Option<Vec<u8>>], asked: [&str; 2]) -> Option<Fit> {
    let mut worst = Fit::Exact;
    for (found, asked) in columns.iter().zip(asked) {
        let found = found.as_ref()?;
        if found == asked.as_bytes() {
            continue;
        }
        if folded(str::from_utf8(found).ok()?) != folded(asked) {
            return None;
        }
        worst = Fit::Alike;
    }
    Some(worst)
}

/// A name in lower case and without trailing blanks: databases may ignore both differences.
pub(super) fn folded(text: &str) -> String {
    text.trim_end_matches(' ').to_lowercase()
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::{super::tests, *};

    #[test]
    fn each_dialect_quotes_and_binds() {
        let options = options(true);
        for (dialect, expected) in [
            (
                Dialect::MySql,
                "SELECT CAST(s.`username` AS CHAR(1024)), CAST(s.`domain` AS CHAR(1024)), \
                 CAST(s.`password` AS CHAR(1024)) FROM `subscriber` AS s \
                 WHERE s.`username` = ? AND s.`domain` = ? LIMIT 8",
            ),
            (
                Dialect::Postgres,
                "SELECT s.\"username\"::varchar(1024), s.\"domain\"::varchar(1024), \
                 s.\"password\"::varchar(1024) FROM \"subscriber\" AS s \
                 WHERE s.\"username\" = $1 AND s.\"domain\" = $2 LIMIT 8",
            ),
            (
                Dialect::Sqlite,
                "SELECT substr(s.\"username\", 1, 1024), substr(s.\"domain\", 1, 1024), \
                 substr(s.\"password\", 1, 1024) FROM \"subscriber\" AS s \
                 WHERE s.\"username\" = ? AND s.\"domain\" = ? LIMIT 8",
            ),
        ] {
            assert_eq!(&*Query::new(dialect, &options, &[Algorithm::Md5]).sql(), expected);
        }
    }

    #[test]
    fn only_the_columns_that_are_needed_are_read() {
        use Algorithm::{Md5, Sha256};

        for (cleartext, algorithms, columns) in [
            (true, &[Sha256, Md5][..], &["password"][..]),
            (false, &[Md5], &["ha1"]),
            (false, &[Sha256], &["ha1_sha256"]),
            (false, &[Sha256, Md5], &["ha1", "ha1_sha256"]),
        ] {
            let sql = Query::new(Dialect::MySql, &options(cleartext), algorithms).sql();
            let (selected, _) = sql.split_once(" FROM ").unwrap();
            let read: Vec<&str> = selected.split('`').skip(1).step_by(2).skip(2).collect();
            assert_eq!(read, columns, "{sql}");
        }
    }

    #[test]
    fn tables_of_other_schemas() {
        let options = DatabaseOptions { subscriber_table: "sip.users".to_owned(), ..options(true) };
        let sql = Query::new(Dialect::Postgres, &options, &[]).sql();
        assert!(sql.contains(" FROM \"sip\".\"users\" AS s "), "{sql}");
    }

    #[test]
    fn the_row_must_be_the_users_own() {
        let query = Query::new(Dialect::MySql, &options(true), &[Algorithm::Md5]);
        for (rows, expected) in [
            (&[][..], Err(AuthError::UnknownUser)),
            (&[["alice", "R", "1"]], Ok("1")),
            (&[["Alice ", "r", "1"]], Ok("1")),
            (&[["alicé", "R", "1"]], Err(AuthError::UnknownUser)),
            (&[["аlice", "R", "1"]], Err(AuthError::UnknownUser)),
            (&[["bob", "R", "1"]], Err(AuthError::UnknownUser)),
            (&[["alice", "other", "1"]], Err(AuthError::UnknownUser)),
            (&[[" alice", "R", "1"]], Err(AuthError::UnknownUser)),
            (&[["ALICE", "R", "1"], ["alice", "R", "2"], ["aLICE", "R", "3"]], Ok("2")),
            (&[["alice", "R", "2"], ["ALICE", "R", "1"]], Ok("2")),
            (&[["ALICE", "R", "1"], ["aLICE", "R", "2"]], Err(AuthError::AmbiguousUser)),
            (&[["ALICE", "R", "1"], ["aLICE", "R", "1"]], Ok("1")),
            (&[["alice", "R", "1"], ["alice", "R", "2"]], Err(AuthError::AmbiguousUser)),
            (&[["alice", "R", "1"], ["alice", "R", "1"]], Ok("1")),
        ] {
            let rows = rows.iter().map(|columns| row(columns.map(|text| Some(text.as_bytes()))));
            let found = query.judge(rows.collect(), "alice", "R");
            let found = found.map(|credential| shown(&credential));
            assert_eq!(found, expected.map(str::to_owned));
        }
    }

    /// To MySQL all accents are one letter; the user's own row may be the ninth.
    #[test]
    fn of_too_many_rows_only_the_users_own_counts() {
        let query = Query::new(Dialect::MySql, &options(true), &[Algorithm::Md5]);
        for (last, rows, expected) in [
            ("RENE", ROWS_MAX - 1, Ok("x")),
            ("RENE", ROWS_MAX, Err(AuthError::AmbiguousUser)),
            ("rene", ROWS_MAX, Ok("x")),
            ("René", ROWS_MAX, Err(AuthError::UnknownUser)),
        ] {
            let names = std::iter::repeat_n("rené", rows - 1).chain([last]);
            let rows = names.map(|name| row([name, "R", "x"].map(|text| Some(text.as_bytes()))));
            let found = query.judge(rows.collect(), "rene", "R");
            let found = found.map(|credential| shown(&credential));
            assert_eq!(found, expected.map(str::to_owned), "{last}");
        }
    }

    #[test]
    fn nulls_and_octets_that_are_no_text_are_no_secret() {
        let passwords = Query::new(Dialect::MySql, &options(true), &[Algorithm::Md5]);
        let hashes = Query::new(Dialect::MySql, &options(false), &[Algorithm::Md5]);
        for (secret, password, ha1) in
            [(None, "", ""), (Some(&b"\xff"[..]), "", ""), (Some(b"  x  "), "  x  ", "x")]
        {
            let rows = || vec![row([Some(b"alice"), Some(b"R"), secret])];
            let found = passwords.judge(rows(), "alice", "R").unwrap();
            assert_eq!(shown(&found), password);
            let found = hashes.judge(rows(), "alice", "R").unwrap();
            assert_eq!(shown(&found), ha1);
        }
        for columns in [[None, Some(&b"R"[..])], [Some(b"alice"), None], [Some(b"\xff"), None]] {
            let rows = vec![row([columns[0], columns[1], Some(b"x")])];
            let error = passwords.judge(rows, "alice", "R").unwrap_err();
            assert_eq!(error, AuthError::UnknownUser);
        }
    }

    fn row(columns: [Option<&[u8]>; 3]) -> Row {
        Row(columns.map(|column| column.map(<[u8]>::to_vec)).to_vec())
    }

    fn shown(credential: &Credential) -> String {
        match credential {
            Credential::Password(password) => password.expose_secret().to_owned(),
            Credential::Ha1 { md5, .. } => md5.as_ref().unwrap().expose_secret().to_owned(),
        }
    }

    fn options(cleartext_passwords: bool) -> DatabaseOptions {
        DatabaseOptions { cleartext_passwords, ..tests::options() }
    }
}
