//! Why a SQLite file cannot be used, and what the operator can do: SQLite itself says no more than
//! `unable to open database file`.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use nix::unistd::{AccessFlags, Uid, User};

/// Bytes 18 and 19 of a file in WAL mode, the versions to write and to read it with
/// (<https://sqlite.org/fileformat2.html>).
const WAL: [u8; 2] = [2, 2];

/// What is wrong with the file, as far as its permissions and first bytes tell.
pub(super) fn fault(file: &Path) -> Option<String> {
    let mut head = [0; 20];
    let mut opened = match File::open(file) {
        Ok(opened) => opened,
        Err(error) => return unopened(&error),
    };
    opened.read_exact(&mut head).ok()?;
    if head[18..] != WAL {
        return None;
    }
    let directory = file.parent()?;
    let reader = reader();
    let [log, index] = ["-wal", "-shm"].map(|end| beside(file, end));
    // SQLite makes both files for whoever comes first, and the last writer removes them.
    let made = log.exists() && index.exists();
    if !made && !may(directory, AccessFlags::W_OK | AccessFlags::X_OK) {
        return Some(format!(
            "it is in WAL mode, which can be read only by a user who can write in {}, and {reader} \
             cannot: allow it, or take the file out of that mode (PRAGMA journal_mode = DELETE)",
            directory.display()
        ));
    }
    let shut =
        [log, index].into_iter().find(|path| path.exists() && !may(path, AccessFlags::R_OK))?;
    Some(format!(
        "it is in WAL mode, and {reader} cannot read {}: allow it, or take the file out of that \
         mode (PRAGMA journal_mode = DELETE)",
        shut.display()
    ))
}

fn unopened(error: &io::Error) -> Option<String> {
    match error.kind() {
        io::ErrorKind::NotFound => Some("the file does not exist".to_owned()),
        io::ErrorKind::PermissionDenied => Some(format!(
            "{} cannot read it: see to it that this user may read the file and enter each \
             directory above it",
            reader()
        )),
        _ => None,
    }
}

/// The user as whom the relay runs.
fn reader() -> String {
    let uid = Uid::effective();
    let name = User::from_uid(uid).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name);
    format!("user {name}")
}

fn may(path: &Path, access: AccessFlags) -> bool {
    nix::unistd::eaccess(path, access).is_ok()
}

fn beside(file: &Path, end: &str) -> PathBuf {
    let mut path = OsString::from(file);
    path.push(end);
    path.into()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn only_what_is_sure_is_said() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("users.db");
        assert_eq!(fault(&path).as_deref(), Some("the file does not exist"));
        let mut head = [0; 100];
        for versions in [[1, 1], WAL] {
            head[18..20].copy_from_slice(&versions);
            fs::write(&path, head).unwrap();
            assert_eq!(fault(&path), None);
        }
        fs::write(&path, "short").unwrap();
        assert_eq!(fault(&path), None);
    }
}
