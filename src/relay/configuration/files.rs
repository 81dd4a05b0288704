//! The files of certificates and keys, and how a change of them is noticed.

use std::{
    fmt, fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use super::super::TlsOptions;

/// Which files certificates and keys are, symbolic links followed: another file of the same name
/// is another one, and so is the same one rewritten, or opened to other readers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Files(Vec<(PathBuf, Option<Stamp>)>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    modified: (i64, i64),
    /// By what is said about it: owner and mode, which decide whether we may read it.
    changed: (i64, i64),
    size: u64,
}

impl Files {
    /// Those of a configuration, as they are now; blocks.
    /// `reads` is told each before it is looked at.
    pub(super) fn of(tls: &TlsOptions, reads: &dyn Fn(&dyn fmt::Display)) -> Self {
        if tls.debug_notls {
            return Self::default();
        }
        let paths = tls.certificate.iter().chain(&tls.key);
        let stamp = |path: &PathBuf| {
            reads(&path.display());
            (path.clone(), Stamp::of(path))
        };
        Self(paths.map(stamp).collect())
    }

    /// The same names, as they are now; blocks.
    pub(super) fn again(&self) -> Self {
        Self(self.0.iter().map(|(path, _)| (path.clone(), Stamp::of(path))).collect())
    }
}

impl Stamp {
    /// None where there is no file.
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

/// Tells a change of the files that has come to rest.
#[derive(Debug, Default)]
pub(super) struct Change {
    seen: Files,
    /// What was acted on last, well or not, if it was not what is in use.
    tried: Option<Files>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Nothing,
    /// The files in use are back after others.
    Undone,
    Settled,
}

impl Change {
    pub(super) fn judge(&mut self, used: &Files, found: Files) -> Verdict {
        let rests = self.seen == found;
        if !rests {
            self.seen = found;
            return Verdict::Nothing;
        }
        if found == *used {
            return if self.tried.take().is_some() { Verdict::Undone } else { Verdict::Nothing };
        }
        if self.tried.as_ref() == Some(&found) {
            return Verdict::Nothing;
        }
        self.tried = Some(found);
        Verdict::Settled
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
        // As renewal tools do it.
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
            // Writes of the same tick are told apart by their size alone.
            let stamp = files[0].1.as_mut().unwrap();
            (stamp.modified, stamp.changed) = ((0, 0), (0, 0));
            Files(files)
        };
        let [used, half, new] = [state(""), state("1"), state("22")];
        let mut change = Change::default();
        let mut judge = |found: &Files| change.judge(&used, found.clone());
        assert_eq!(judge(&used), Verdict::Nothing);
        assert_eq!(judge(&used), Verdict::Nothing);
        assert_eq!(judge(&half), Verdict::Nothing);
        assert_eq!(judge(&new), Verdict::Nothing);
        assert_eq!(judge(&new), Verdict::Settled);
        // It did not load: nothing more is said of it.
        assert_eq!(judge(&new), Verdict::Nothing);
        assert_eq!(judge(&half), Verdict::Nothing);
        assert_eq!(judge(&half), Verdict::Settled);
        assert_eq!(judge(&used), Verdict::Nothing);
        assert_eq!(judge(&used), Verdict::Undone);
        assert_eq!(judge(&used), Verdict::Nothing);
    }
}
