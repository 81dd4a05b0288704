//! `config.ini` as text, sections and typed values. The rooms that act on sections and options
//! define them: this room knows the file, and no option.
//!
//! ```text
//! bytes -> read_file -> syntax::Document -> Reader + Sections -> typed groups of options
//! ```
//!
//! A room writes its options as rows of `options!` and provides a [`Section`]. `relay::options`
//! puts the sections together. All errors of a file are found in one pass ([`ConfigError`]), with
//! warnings about what is only odd. What remains to be checked is outside of the file: whether
//! files can be read, addresses bound and certificates used.
//!
//! The syntax is that of msrprelay 1.x, so that files written for it work unchanged.

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
    error::{ConfigError, Mistake, Problem, Value},
    file::{MAX_FILE_SIZE, Origin, SYSTEM_DIRECTORY, read_file},
    find::{FILE_NAME, NotFound, find},
    reader::{Reader, SectionEntry, SectionReader, SectionText},
    table::{ConfigOption, Contents, Section, Sections},
    values::{PeerList, Refused},
};
