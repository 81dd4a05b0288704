//! The user that the relay runs as. It is root only while it binds sockets and reads files.

use std::{ffi::CString, fmt, io, os::unix::fs::lchown, path::Path};

use nix::unistd::{Gid, Group, Uid, User, geteuid, initgroups, setgid, setgroups, setuid};

use super::Failure;
use crate::relay::Config;

/// Name of the user and the group if none is configured.
const DEFAULT: &str = "msrprelay";

/// The user and group that the relay switches to after a start as root.
#[derive(Debug)]
pub(super) struct Owner {
    /// `None`: it stays root and changes only its group.
    user: Option<User>,
    group: Gid,
}

impl Owner {
    /// The owner that the configuration asks for, or `None` if the relay keeps its user. A warning
    /// says so if the configuration names another user, or if the relay stays root because no user
    /// was found.
    pub(super) fn of(config: &Config, warnings: &mut Vec<String>) -> Result<Option<Self>, Failure> {
        let place = |option| config.place("Relay", option);
        let user = match &config.process.user {
            Some(name) => Some(named_user(name, || place("user"))?),
            None => None,
        };
        let group = match &config.process.group {
            Some(name) => Some(named_group(name, || place("group"))?),
            None => None,
        };
        if !geteuid().is_root() {
            if user.is_some_and(|user| user.uid != geteuid()) {
                let text = "has no effect: the relay was not started as root, so it keeps its user";
                warnings.push(format!("{} {text}", place("user")));
            }
            return Ok(None);
        }
        if group.is_none() && user.as_ref().is_some_and(|user| user.uid.is_root()) {
            return Ok(None);
        }
        let default_user = || {
            let user = User::from_name(DEFAULT).ok().flatten();
            let group = Group::from_name(DEFAULT).ok().flatten();
            user.map(|user| (group.map_or(user.gid, |group| group.gid), user))
        };
        let (user, gid) = match user {
            Some(user) => (Some(user.clone()), Some(user.gid)),
            None => default_user().map_or((None, None), |(gid, user)| (Some(user), Some(gid))),
        };
        if user.is_none() {
            warnings.push(format!(
                "{} is not set and there is no user {DEFAULT}: the relay goes on as root; \
                 make that user with `adduser --system --group {DEFAULT}`",
                place("user")
            ));
        }
        let group = group.map(|group| group.gid).or(gid);
        Ok(group.map(|group| Self { user, group }))
    }

    /// Gives a file that root has made to the relay's user. Follows no link, because another user
    /// could have put one in its place.
    pub(super) fn give(&self, path: &Path) -> io::Result<()> {
        let uid = self.user.as_ref().map(|user| user.uid.as_raw());
        lchown(path, uid, Some(self.group.as_raw()))
    }

    /// Becomes the user and group for good, including the supplementary groups.
    pub(super) fn take_over(&self) -> Result<(), Failure> {
        let failed = |cause| Failure::TakeOver { owner: self.to_string(), cause };
        self.give_up_root().map_err(failed)?;
        // Make sure that there is no way back to root, whatever the kernel or a capability allows.
        match &self.user {
            Some(user) if !user.uid.is_root() && setuid(Uid::from_raw(0)).is_ok() => {
                Err(Failure::StillRoot(user.name.clone()))
            }
            _ => Ok(()),
        }
    }

    fn give_up_root(&self) -> nix::Result<()> {
        let Some(user) = &self.user else {
            setgroups(&[])?;
            return setgid(self.group);
        };
        // A name from the user database contains no NUL.
        let name = CString::new(user.name.as_str()).unwrap_or_default();
        initgroups(&name, self.group)?;
        setgid(self.group)?;
        setuid(user.uid)
    }
}

/// `user:group`
impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.user.as_ref().map_or("root", |user| &user.name))?;
        match Group::from_gid(self.group).ok().flatten() {
            Some(group) => write!(f, ":{}", group.name),
            None => write!(f, ":{}", self.group),
        }
    }
}

fn named_user(name: &str, place: impl Fn() -> String) -> Result<User, Failure> {
    let found = User::from_name(name);
    found.ok().flatten().ok_or_else(|| Failure::Option {
        place: place(),
        problem: format!(
            "= \"{name}\": there is no such user; make it with `adduser --system --group {name}`"
        ),
    })
}

fn named_group(name: &str, place: impl Fn() -> String) -> Result<Group, Failure> {
    let found = Group::from_name(name);
    found.ok().flatten().ok_or_else(|| Failure::Option {
        place: place(),
        problem: format!(
            "= \"{name}\": there is no such group; make it with `addgroup --system {name}`"
        ),
    })
}
