//! Certificates while the relay runs: renewal tools replace their files, and their days pass.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::time::{MissedTickBehavior, interval};
use tracing::warn;

use super::{
    super::{Shared, TlsOptions, error},
    Generation,
};
use crate::{clock, tls::Finding};

/// How often the files and the calendar are looked at. A change must be there for one period: a
/// certificate and its key are not replaced in one step.
const PERIOD: Duration = Duration::from_secs(2);

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
    pub(in crate::relay) fn of(tls: &TlsOptions) -> Self {
        if tls.debug_notls {
            return Self::default();
        }
        let paths = tls.certificate.iter().chain(&tls.key);
        Self(paths.map(|path| (path.clone(), Stamp::of(path))).collect())
    }

    /// The same names, as they are now; blocks.
    fn again(&self) -> Self {
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

/// Renews the certificates when their files change, and warns before they expire, for ever. May be
/// dropped at any time.
pub(in crate::relay) async fn watch(shared: Arc<Shared>) {
    let mut change = Change::default();
    let mut calendar = Calendar::default();
    let mut period = interval(PERIOD);
    period.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        period.tick().await;
        let in_force = shared.configuration.in_force();
        let generation = &in_force.generation;
        for finding in calendar.turn(generation, clock::wall()) {
            warn!("{}", error::located(&finding, &generation.config));
        }
        let files = generation.files.clone();
        let Ok(found) = tokio::task::spawn_blocking(move || files.again()).await else { continue };
        match change.judge(&generation.files, found) {
            Verdict::Nothing => {}
            Verdict::Undone => shared.configuration.mend_renewal(),
            // The outcome is logged there, once for each change.
            Verdict::Settled => drop(shared.configuration.renew(&shared).await),
        }
    }
}

/// Tells a change of the files that has come to rest.
#[derive(Debug, Default)]
struct Change {
    seen: Files,
    /// What was acted on last, well or not, if it was not what is in use.
    tried: Option<Files>,
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Nothing,
    /// The files in use are back after others.
    Undone,
    Settled,
}

impl Change {
    fn judge(&mut self, used: &Files, found: Files) -> Verdict {
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

/// Remembers which warnings of coming expiry were given. Those that were due when a generation was
/// built are among its own warnings.
#[derive(Debug, Default)]
struct Calendar {
    generation: u64,
    notices: Vec<usize>,
}

impl Calendar {
    fn turn(&mut self, generation: &Generation, now: SystemTime) -> Vec<Finding> {
        if self.generation != generation.number {
            self.generation = generation.number;
            let built = generation.built;
            self.notices = generation.identities.iter().map(|one| one.notices(built)).collect();
        }
        let mut findings = Vec::new();
        for (identity, given) in generation.identities.iter().zip(&mut self.notices) {
            let due = identity.notices(now);
            if due > std::mem::replace(given, due) {
                findings.extend(identity.expiry(now));
            }
        }
        findings
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
