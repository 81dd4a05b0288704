//! `config.ini` as text, sections and typed values. Which sections and options there are is told by
//! the rooms that act on them: this room knows the file and no option.
//!
//! ```text
//! bytes -> read_file -> syntax::Document -> Reader + Sections -> typed groups of options
//! ```
//!
//! A room writes its options as rows of `options!` and hands out a [`Section`]; `relay::options`
//! puts the sections together. All that is wrong with a file is found in one go ([`ConfigError`]),
//! and what is merely odd becomes a warning. Nothing has to be checked afterwards but what only the
//! world can tell: whether files can be read, addresses bound, certificates used.
//!
//! The file has the syntax of msrprelay 1.x, so that its files work untouched.

mod address;
mod error;
mod file;
mod find;
mod reader;
mod syntax;
mod table;
pub mod values;

pub(crate) use self::table::{field, options};
pub use self::{
    address::{DEFAULT_PORT, ListenAddress, addresses, service_address, service_addresses},
    error::{ConfigError, Finding, Problem, Value},
    file::{MAX_FILE_SIZE, Origin, SYSTEM_DIRECTORY, read_file},
    find::{FILE_NAME, NotFound, find},
    reader::{Reader, SectionEntry, SectionReader, SectionText},
    table::{ConfigOption, Contents, Section, Sections},
    values::{PeerList, Refused},
};
