//! Notices when files change that the relay reads: certificates, keys, and those by which the
//! system resolves names.

use std::{
    fmt, fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use super::super::TlsOptions;

/// The state of some files. Two states differ if a file was replaced or written
/// to, or its owner or mode changed. Symbolic links are followed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Files(Vec<(PathBuf, Option<Stamp>)>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    modified: (i64, i64),
    /// Changes with owner and mode, which decide whether the relay may read the file.
    changed: (i64, i64),
    size: u64,
}

impl Files {
    /// The certificate and key files of a configuration in their present state. `reads` is told
    /// each path before it is looked at. Blocks.
    pub(super) fn of(tls: &TlsOptions, reads: &dyn Fn(&dyn fmt::Display)) -> Self {
        if tls.debug_notls {
            return Self::default();
        }
        Self::at(tls.certificate.iter().chain(&tls.key).inspect(|path| reads(&path.display())))
    }

    /// These files in their present state. Blocks.
    pub(super) fn at(paths: impl IntoIterator<Item = impl AsRef<Path>>) -> Self {
        let stamp = |path: &Path| (path.to_owned(), Stamp::of(path));
        Self(paths.into_iter().map(|path| stamp(path.as_ref())).collect())
    }

    /// The same paths in their present state. Blocks.
    pub(super) fn again(&self) -> Self {
        Self::at(self.0.iter().map(|(path, _)| path))
    }
}

impl Stamp {
    /// `None` if the file does not exist or cannot be examined.
    fn of(path: &Path) -> Option<Self> {
        let found = fs::metadata(path).ok()?;
        Some(Self {
            device: found.dev(),
            inode: found.ino(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
            size: found.size(),
        })
    }
}

/// Finds out when changed files have settled, which means that two looks found the same state.
#[derive(Debug, Default)]
pub(super) struct Change {
    /// The state at the last look.
    seen: Files,
    /// The changed state that was reported last as settled.
    tried: Option<Files>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Observation {
    /// There is nothing to do.
    Nothing,
    /// The files are again those in use, after a change that was reported.
    Undone,
    /// The files have changed and settled. Each state is reported once.
    Settled,
}

impl Change {
    /// Takes the state `found` at this look. `used` is the state of the files in use.
    pub(super) fn judge(&mut self, used: &Files, found: Files) -> Observation {
        let rests = self.seen == found;
        if !rests {
            self.seen = found;
            return Observation::Nothing;
        }
        if found == *used {
            return if self.tried.take().is_some() {
                Observation::Undone
            } else {
                Observation::Nothing
            };
        }
        if self.tried.as_ref() == Some(&found) {
            return Observation::Nothing;
        }
        self.tried = Some(found);
        Observation::Settled
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn files(names: &[&Path]) -> Files {
        Files(names.iter().map(|path| (path.to_path_buf(), Stamp::of(path))).collect())
    }

    #[test]
    fn files_are_told_apart_by_what_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let [live, one, two] = ["live", "one", "two"].map(|name| dir.path().join(name));
        fs::write(&one, "same").unwrap();
        fs::write(&two, "same").unwrap();
        symlink(&one, &live).unwrap();
        let before = files(&[&live]);
        assert_eq!(before.again(), before);
        // Renewal tools replace a symbolic link.
        fs::remove_file(&live).unwrap();
        assert_ne!(before.again(), before);
        symlink(&two, &live).unwrap();
        let after = before.again();
        assert_ne!(after, before);
        fs::write(&two, "more of it").unwrap();
        assert_ne!(after.again(), after);
        let written = after.again();
        fs::set_permissions(&two, fs::Permissions::from_mode(0o640)).unwrap();
        assert_ne!(written.again(), written);
    }

    #[test]
    fn a_change_is_acted_on_once_when_it_rests() {
        let dir = tempfile::tempdir().unwrap();
        let state = |text: &str| {
            let path = dir.path().join("certificate");
            fs::write(&path, text).unwrap();
            let Files(mut files) = files(&[&path]);
            // Two writes may get the same time stamp, so the states differ by size only.
            let stamp = files[0].1.as_mut().unwrap();
            (stamp.modified, stamp.changed) = ((0, 0), (0, 0));
            Files(files)
        };
        let [used, half, new] = [state(""), state("1"), state("22")];
        let mut change = Change::default();
        let mut judge = |found: &Files| change.judge(&used, found.clone());
        assert_eq!(judge(&used), Observation::Nothing);
        assert_eq!(judge(&used), Observation::Nothing);
        assert_eq!(judge(&half), Observation::Nothing);
        assert_eq!(judge(&new), Observation::Nothing);
        assert_eq!(judge(&new), Observation::Settled);
        // It is still not in use, as after a failed renewal, and is not reported again.
        assert_eq!(judge(&new), Observation::Nothing);
        assert_eq!(judge(&half), Observation::Nothing);
        assert_eq!(judge(&half), Observation::Settled);
        assert_eq!(judge(&used), Observation::Nothing);
        assert_eq!(judge(&used), Observation::Undone);
        assert_eq!(judge(&used), Observation::Nothing);
    }
}
