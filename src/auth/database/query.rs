//! The query to the database, and the choice among the rows that it returns.
//!
//! The database compares names as its collation says: in MySQL `Alice` finds `alice`, `rené` finds
//! `rene`, and `1x` finds the number 1. So the query also reads the names of each row. A row counts
//! only if its names are those asked for; letter case and trailing blanks may differ.
//!
//! The letter case of a domain does not count, but most databases tell it apart. They are asked
//! twice: first for the likely spellings, which any index finds. If that finds nobody, they are
//! asked for all users of that name, in whatever domain ([`domain::same`]). `LOWER(domain)` would
//! use no index.

use std::{iter, sync::Arc};

use secrecy::SecretString;

use super::options::DatabaseOptions;
use crate::{
    auth::{AuthError, Credential, domain},
    msrp::digest::Algorithm,
};

/// The most rows that are read for one user. If there may be more, the user's own row may be
/// missing.
const ROWS_MAX: usize = 8;

/// The most users of one name, each in another domain, among whom a domain in an unlikely spelling
/// is looked for. More would let strangers have the database read very much.
const NAMESAKES_MAX: usize = 256;

/// The most characters of a column that are read.
const TEXT_MAX: usize = 1024;

/// The statements that look for one user. They only read.
#[derive(Debug)]
pub(super) struct Query {
    /// Those that are tried until one finds the user.
    statements: Vec<Statement>,
    /// Columns of a row before the secrets: user and domain, or the user alone.
    names: usize,
    secrets: Secrets,
}

/// A statement that finds users.
#[derive(Clone, Debug)]
pub(super) struct Statement {
    pub(super) sql: Arc<str>,
    /// How many names it is given: the user's, then spellings of the domain.
    pub(super) parameters: usize,
    /// More rows than it looks at are as good as none: the user's own may be among the others.
    rows_max: usize,
}

/// The columns that follow user and domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Secrets {
    Password,
    Ha1 {
        md5: bool,
        /// Behind it, MD5 for names that come with their domain.
        md5_with_domain: bool,
        sha256: bool,
    },
}

/// Whom to look for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    pub(super) user: &'a str,
    pub(super) realm: &'a str,
    /// Whether the client's name for the user has the domain behind it, as its hash has then.
    pub(super) with_domain: bool,
}

impl<'a> Asked<'a> {
    /// Whom a client may mean: a name with its domain is first looked for without.
    pub(super) fn all(user: &'a str, realm: &'a str) -> impl Iterator<Item = Self> {
        let bare = domain::bare_name(user, realm);
        let bare = bare.map(|name| Self { user: name, realm, with_domain: true });
        bare.into_iter().chain([Self { user, realm, with_domain: false }])
    }
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

/// What was found of a user.
pub(super) struct Found {
    pub(super) credential: Credential,
    /// The domain as the table spells it, if its hash may be good for that spelling only, and the
    /// realm is spelled otherwise.
    pub(super) other_spelling: Option<String>,
}

/// How well a row fits the names asked for, the best fit first. The user's name counts before the
/// domain.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Fit {
    user: Likeness,
    domain: Likeness,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Likeness {
    Exact,
    /// Equal except for letter case and trailing blanks. A domain may also differ in its form in
    /// ASCII.
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
            let md5 = algorithms.contains(&Algorithm::Md5);
            Secrets::Ha1 {
                md5,
                md5_with_domain: md5 && options.ha1b_col.is_some(),
                sha256: algorithms.contains(&Algorithm::Sha256),
            }
        };
        // A column that is not needed may be missing from the table, so it is not read.
        let columns: Vec<&String> = match secrets {
            Secrets::Password => vec![&options.password_col],
            Secrets::Ha1 { md5, md5_with_domain, sha256 } => [
                md5.then_some(&options.ha1_col),
                options.ha1b_col.as_ref().filter(|_| md5_with_domain),
                sha256.then_some(&options.ha1_sha256_col),
            ]
            .into_iter()
            .flatten()
            .collect(),
        };
        let selected: Vec<String> = iter::once(&options.username_col)
            .chain(&options.domain_col)
            .chain(columns)
            .map(|column| dialect.selected(column))
            .collect();
        let table = dialect.table(&options.subscriber_table);
        let by_name =
            format!("{} = {}", dialect.column(&options.username_col), dialect.parameter(1));
        let statement = |condition: &str, parameters, rows_max| {
            let selected = selected.join(", ");
            let sql =
                format!("SELECT {selected} FROM {table} AS s WHERE {condition} LIMIT {rows_max}");
            Statement { sql: sql.into(), parameters, rows_max }
        };
        let statements = match &options.domain_col {
            Some(domain_col) => {
                let spellings = [2, 3, 4].map(|number| dialect.parameter(number)).join(", ");
                let domain = dialect.column(domain_col);
                let by_both = format!("{by_name} AND {domain} IN ({spellings})");
                vec![statement(&by_both, 4, ROWS_MAX), statement(&by_name, 1, NAMESAKES_MAX)]
            }
            None => vec![statement(&by_name, 1, ROWS_MAX)],
        };
        let names = 1 + usize::from(options.domain_col.is_some());
        Self { statements, names, secrets }
    }

    /// To be tried in order, until one finds the user.
    pub(super) fn statements(&self) -> &[Statement] {
        &self.statements
    }

    /// Chooses the user's secret among the rows that a statement found. The row that fits best
    /// counts. Rows that fit equally well must have the same secret. A row that is only alike
    /// counts only if no row was left out.
    pub(super) fn judge(
        &self,
        statement: &Statement,
        rows: Vec<Row>,
        asked: Asked<'_>,
    ) -> Result<Found, AuthError> {
        const EXACT: Fit = Fit { user: Likeness::Exact, domain: Likeness::Exact };

        let all = rows.len() < statement.rows_max;
        let mut best: Option<(Fit, Row)> = None;
        let mut ambiguous = false;
        for row in rows {
            let Some(fit) = self.fit(&row, asked) else { continue };
            match &best {
                Some((better, _)) if *better < fit => {}
                Some((same, found)) if *same == fit => {
                    ambiguous |= found.0[self.names..] != row.0[self.names..];
                }
                _ => {
                    best = Some((fit, row));
                    ambiguous = false;
                }
            }
        }
        let (fit, row) = best.ok_or(AuthError::UnknownUser)?;
        if ambiguous || (fit != EXACT && !all) {
            return Err(AuthError::AmbiguousUser);
        }
        let hashed = self.secrets != Secrets::Password;
        let other_spelling = self
            .domain(&row)
            .map(|domain| domain.trim_end_matches(' '))
            .filter(|domain| hashed && *domain != asked.realm)
            .map(str::to_owned);
        let mut secrets = row.0.into_iter().skip(self.names).map(Option::unwrap_or_default);
        // A value that is not UTF-8 is read as empty: no client could hash it as a password.
        let mut next = || String::from_utf8(secrets.next().unwrap_or_default()).unwrap_or_default();
        let credential = match self.secrets {
            Secrets::Password => Credential::Password(SecretString::from(next())),
            Secrets::Ha1 { md5, md5_with_domain, sha256 } => {
                // A CHAR column is padded with blanks.
                let mut hash = || SecretString::from(next().trim());
                let [bare, with_domain, sha256] =
                    [md5, md5_with_domain, sha256].map(|read| read.then(&mut hash));
                if asked.with_domain {
                    Credential::Ha1 { md5: with_domain, sha256: None }
                } else {
                    Credential::Ha1 { md5: bare, sha256 }
                }
            }
        };
        Ok(Found { credential, other_spelling })
    }

    /// How well user and domain of a row fit; `None`: the row is another user's.
    fn fit(&self, row: &Row, asked: Asked<'_>) -> Option<Fit> {
        let likeness = |found: &str, asked, alike: fn(&str, &str) -> bool| {
            if found == asked {
                Some(Likeness::Exact)
            } else {
                alike(found, asked).then_some(Likeness::Alike)
            }
        };
        let alike = |found: &str, asked: &str| folded(found) == folded(asked);
        let same = |found: &str, asked: &str| domain::same(found.trim_end_matches(' '), asked);
        let domain = if self.names > DOMAIN {
            likeness(self.domain(row)?, asked.realm, same)?
        } else {
            Likeness::Exact
        };
        Some(Fit { user: likeness(row.text(0)?, asked.user, alike)?, domain })
    }

    /// The domain of a row, where the table has one.
    fn domain<'r>(&self, row: &'r Row) -> Option<&'r str> {
        if self.names > DOMAIN { row.text(DOMAIN) } else { None }
    }
}

impl Statement {
    /// What it is given to find a user.
    pub(super) fn names(&self, asked: Asked<'_>) -> Vec<String> {
        let names = [asked.user.to_owned()].into_iter().chain(domain::spellings(asked.realm));
        names.take(self.parameters).collect()
    }
}

/// Where the domain stands in a row, behind the user.
const DOMAIN: usize = 1;

impl Row {
    fn text(&self, column: usize) -> Option<&str> {
        str::from_utf8(self.0.get(column)?.as_deref()?).ok()
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
                 WHERE s.`username` = ? AND s.`domain` IN (?, ?, ?) LIMIT 8",
            ),
            (
                Dialect::Postgres,
                "SELECT s.\"username\"::varchar(1024), s.\"domain\"::varchar(1024), \
                 s.\"password\"::varchar(1024) FROM \"subscriber\" AS s \
                 WHERE s.\"username\" = $1 AND s.\"domain\" IN ($2, $3, $4) LIMIT 8",
            ),
            (
                Dialect::Sqlite,
                "SELECT substr(s.\"username\", 1, 1024), substr(s.\"domain\", 1, 1024), \
                 substr(s.\"password\", 1, 1024) FROM \"subscriber\" AS s \
                 WHERE s.\"username\" = ? AND s.\"domain\" IN (?, ?, ?) LIMIT 8",
            ),
        ] {
            let query = Query::new(dialect, &options, &[Algorithm::Md5]);
            let [both, name] = [0, 1].map(|index| &*query.statements[index].sql);
            assert_eq!(both, expected);
            let (selected, condition) = name.split_once(" AS s WHERE ").unwrap();
            assert!(expected.starts_with(selected), "{name}");
            let condition = condition.replace(['`', '"'], "");
            assert!(
                ["s.username = ? LIMIT 256", "s.username = $1 LIMIT 256"].contains(&&*condition)
            );
        }
    }

    #[test]
    fn only_the_columns_that_are_needed_are_read() {
        use Algorithm::{Md5, Sha256};

        for (cleartext, with_domain, algorithms, columns) in [
            (true, true, &[Sha256, Md5][..], &["password"][..]),
            (false, false, &[Md5], &["ha1"]),
            (false, true, &[Md5], &["ha1", "ha1b"]),
            (false, true, &[Sha256], &["ha1_sha256"]),
            (false, false, &[Sha256, Md5], &["ha1", "ha1_sha256"]),
            (false, true, &[Sha256, Md5], &["ha1", "ha1b", "ha1_sha256"]),
        ] {
            let ha1b_col = with_domain.then(|| "ha1b".to_owned());
            let options = DatabaseOptions { ha1b_col, ..options(cleartext) };
            let query = Query::new(Dialect::MySql, &options, algorithms);
            let sql = &query.statements[0].sql;
            let (selected, _) = sql.split_once(" FROM ").unwrap();
            let read: Vec<&str> = selected.split('`').skip(1).step_by(2).skip(2).collect();
            assert_eq!(read, columns, "{sql}");
        }
    }

    #[test]
    fn without_a_column_of_domains_the_name_decides() {
        let options = DatabaseOptions { domain_col: None, ..options(true) };
        let query = Query::new(Dialect::Sqlite, &options, &[Algorithm::Md5]);
        let [statement] = &query.statements[..] else { panic!("one is enough") };
        assert_eq!(
            &*statement.sql,
            "SELECT substr(s.\"username\", 1, 1024), substr(s.\"password\", 1, 1024) \
             FROM \"subscriber\" AS s WHERE s.\"username\" = ? LIMIT 8"
        );
        for (rows, expected) in [
            (&[["alice", "1"], ["bob", "2"]][..], Ok("1")),
            (&[["ALICE", "1"], ["alice", "2"]], Ok("2")),
            (&[["alice", "1"], ["alice", "2"]], Err(AuthError::AmbiguousUser)),
            (&[["bob", "R"]], Err(AuthError::UnknownUser)),
        ] {
            let octets = |text: &str| Some(text.as_bytes().to_vec());
            let rows = rows.iter().map(|columns| Row(columns.map(octets).to_vec())).collect();
            let found = query.judge(statement, rows, asked("alice", "R"));
            let found = found.map(|found| shown(&found.credential));
            assert_eq!(found, expected.map(str::to_owned));
        }
    }

    #[test]
    fn tables_of_other_schemas() {
        let options = DatabaseOptions { subscriber_table: "sip.users".to_owned(), ..options(true) };
        let query = Query::new(Dialect::Postgres, &options, &[]);
        let sql = &query.statements[0].sql;
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
            let found = query.judge(&query.statements[0], rows.collect(), asked("alice", "R"));
            let found = found.map(|found| shown(&found.credential));
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
            let found = query.judge(&query.statements[0], rows.collect(), asked("rene", "R"));
            let found = found.map(|found| shown(&found.credential));
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
            let found = |query: &Query| {
                let found =
                    query.judge(&query.statements[0], rows(), asked("alice", "R")).ok().unwrap();
                shown(&found.credential)
            };
            assert_eq!(found(&passwords), password);
            assert_eq!(found(&hashes), ha1);
        }
        for columns in [[None, Some(&b"R"[..])], [Some(b"alice"), None], [Some(b"\xff"), None]] {
            let rows = vec![row([columns[0], columns[1], Some(b"x")])];
            let found = passwords.judge(&passwords.statements[0], rows, asked("alice", "R"));
            assert_eq!(found.err(), Some(AuthError::UnknownUser));
        }
    }

    /// A hash is of the name as the client writes it.
    #[test]
    fn each_form_of_a_name_has_its_hash() {
        let both = [Algorithm::Md5, Algorithm::Sha256];
        let forms =
            |user| Asked::all(user, "R").map(|a| (a.user, a.with_domain)).collect::<Vec<_>>();
        assert_eq!(forms("alice"), [("alice", false)]);
        assert_eq!(forms("alice@r"), [("alice", true), ("alice@r", false)]);
        for ha1b_col in [Some("ha1b".to_owned()), None] {
            let known = ha1b_col.is_some();
            let options = DatabaseOptions { ha1b_col, ..options(false) };
            let query = Query::new(Dialect::Sqlite, &options, &both);
            let columns: &[&str] =
                if known { &["alice", "R", "1", "2", "3"] } else { &["alice", "R", "1", "3"] };
            for with_domain in [false, true] {
                let row = Row(columns.iter().map(|text| Some(text.as_bytes().to_vec())).collect());
                let asked = Asked { with_domain, ..asked("alice", "R") };
                let found = query.judge(&query.statements[0], vec![row], asked).ok().unwrap();
                let Credential::Ha1 { md5, sha256 } = found.credential else { panic!("hashes") };
                let shown = [md5, sha256].map(|hash| hash.map(|h| h.expose_secret().to_owned()));
                let expected = match (with_domain, known) {
                    (false, _) => [Some("1"), Some("3")],
                    (true, true) => [Some("2"), None],
                    (true, false) => [None, None],
                };
                assert_eq!(shown, expected.map(|hash| hash.map(str::to_owned)));
            }
        }
    }

    /// The user's name comes first, then the domain; and a hash may not be good for another one.
    #[test]
    fn domains_are_compared_without_letter_case() {
        let passwords = Query::new(Dialect::Sqlite, &options(true), &[Algorithm::Md5]);
        let hashes = Query::new(Dialect::Sqlite, &options(false), &[Algorithm::Md5]);
        for (rows, expected, spelling) in [
            (&[["alice", "Bücher.example ", "1"]][..], Ok("1"), Some("Bücher.example")),
            (&[["alice", "XN--BCHER-KVA.example", "1"]], Ok("1"), Some("XN--BCHER-KVA.example")),
            (&[["alice", "BÜCHER.example", "1"], ["alice", REALM, "2"]], Ok("2"), None),
            (
                &[["Alice", REALM, "1"], ["alice", "BÜCHER.example", "2"]],
                Ok("2"),
                Some("BÜCHER.example"),
            ),
            (
                &[["alice", "BÜCHER.example", "1"], ["alice", "Bücher.example", "2"]],
                Err(AuthError::AmbiguousUser),
                None,
            ),
            (&[["alice", "bucher.example", "1"]], Err(AuthError::UnknownUser), None),
        ] {
            for query in [&passwords, &hashes] {
                let rows =
                    rows.iter().map(|columns| row(columns.map(|text| Some(text.as_bytes()))));
                let found =
                    query.judge(&query.statements[1], rows.collect(), asked("alice", REALM));
                let found = found.map(|found| {
                    let spelling = spelling.filter(|_| query.secrets != Secrets::Password);
                    assert_eq!(found.other_spelling.as_deref(), spelling);
                    shown(&found.credential)
                });
                assert_eq!(found, expected.clone().map(str::to_owned));
            }
        }
    }

    fn asked<'a>(user: &'a str, realm: &'a str) -> Asked<'a> {
        Asked { user, realm, with_domain: false }
    }

    const REALM: &str = "bücher.example";

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
