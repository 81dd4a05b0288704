//! Who may relay: the authentication of AUTH (RFC 4976 §5.1, §6.3, §9.1).
//!
//! [`Challenger`] issues challenges and judges the answers; a [`Backend`] knows the users. The
//! caller joins the two, because only it can wait:
//!
//! ```text
//!   AUTH without Authorization ── Challenger::challenge ──────────────────────────► 401
//!   AUTH with Authorization ───── Authorization::parse ──► Challenger::examine
//!                                                              │ DigestLogin
//!                                                     Backend::account (async)
//!                                                              │ Result<Account, AuthError>
//!                                                       Challenger::settle ──► Grant ──► 200
//! ```
//!
//! Basic, where it is allowed, has no challenge: [`basic::settle`] judges it by the same look-up.
//!
//! Every step may end in an [`AuthError`]; what the wire says to it follows from
//! [`AuthError::answer`] alone.

mod backend;
pub mod basic;
mod chain;
mod challenger;
mod database;
pub mod domain;
mod ephemeral;
mod error;
mod memory;

pub use self::{
    backend::{
        Account, Backend, BackendOptions, Credential, Health, HealthState, Kind, OpenError, Opened,
    },
    chain::Chain,
    challenger::{AuthRequest, Challenger, DigestLogin, Grant},
    error::{Answer, AuthError},
};
use crate::config::{Refused, values};

/// Every kind of backend, in the order of the sections in the sample. A backend is a file of its
/// own and a row here.
pub static KINDS: &[Kind] = &[memory::KIND, database::KIND, ephemeral::KIND];

/// The kinds that a value of the option `backend` names, each once.
pub fn kinds(text: &str) -> Result<Vec<&'static Kind>, Refused> {
    let mut kinds: Vec<&Kind> = Vec::new();
    for kind in values::list(text, named)? {
        if !kinds.iter().any(|known| known.name == kind.name) {
            kinds.push(kind);
        }
    }
    Ok(kinds)
}

/// Those that such a value names besides others that do not exist.
pub fn known_kinds(text: &str) -> Vec<&'static Kind> {
    values::items(text).filter_map(named).collect()
}

fn named(item: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.name.eq_ignore_ascii_case(item))
}

/// What to do where such a value names a kind that earlier versions had.
pub fn gone(text: &str) -> Option<&'static str> {
    values::items(text).any(|item| item.eq_ignore_ascii_case("sipthor")).then_some(
        "sipthor, which 1.x had, is gone: take database, with the table in which the SIP proxy keeps \
         its users, or memory",
    )
}

/// All names in words, for messages.
pub fn kind_names() -> String {
    let mut names: Vec<&str> = KINDS.iter().map(|kind| kind.name).collect();
    names.sort_unstable();
    match names.split_last() {
        Some((last, others)) if !others.is_empty() => {
            format!("{} or {last}", others.join(", "))
        }
        _ => names.join(""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_named_in_any_case_and_each_once() {
        let names = |text| kinds(text).map(|kinds| format!("{kinds:?}"));
        assert_eq!(names("DataBase").as_deref(), Ok("[database]"));
        assert_eq!(names("memory, database, memory").as_deref(), Ok("[memory, database]"));
        assert_eq!(names("memory, sipthor"), Err(Refused::new("sipthor")));
        let known = known_kinds("sipthor, Memory,\ndatabase,");
        assert_eq!(format!("{known:?}"), "[memory, database]");
        assert!(gone("memory, SIPThor").is_some_and(|text| text.contains("is gone")));
        assert_eq!(gone("memory, telepathy"), None);
        assert!(kind_names().starts_with("database"), "{}", kind_names());
    }
}
