//! The owner of a file or directory that is made.

use std::os::fd::BorrowedFd;

use rustix::fs::Stat;

use super::attrs::Target;
use crate::fs::namespace::at_path::AtPath;
use crate::fs::{Fs, FsError, Subject};

/// The owner of something new.
#[derive(Debug, Clone, Copy)]
pub struct Owner {
    pub uid: u32,
    pub gid: u32,
    /// The group is the directory's, which directories below pass on too.
    pub passes_on: bool,
}

impl Fs {
    /// Gives the file that was just made at `at_path` and is open as `fd` to its owner. Returns whether
    /// that changed anything.
    ///
    /// # Errors
    /// [`FsError::Backing`] with the error of fchown(2) or fchmod(2).
    pub(in crate::fs) fn give_to(
        &self,
        subject: &Subject,
        at_path: &AtPath,
        fd: BorrowedFd<'_>,
        made: &Stat,
    ) -> Result<bool, FsError> {
        let Some(owner) = self.owner_of_new(at_path, subject)? else { return Ok(false) };
        let uid = (made.st_uid != owner.uid).then_some(owner.uid);
        let gid = (made.st_gid != owner.gid).then_some(owner.gid);
        if uid.is_none() && gid.is_none() {
            return Ok(false);
        }
        let target = Target::File(fd);
        target.chown(uid, gid)?;
        // That takes suid and sgid off.
        if made.st_mode & 0o6000 != 0 {
            target.chmod(made.st_mode & 0o7777)?;
        }
        Ok(true)
    }

    /// The owner of what `subject` makes at `at_path`, if the kernel below sets another.
    ///
    /// # Errors
    /// That of fstat(2) on the directory.
    pub(in crate::fs) fn owner_of_new(
        &self,
        at_path: &AtPath,
        subject: &Subject,
    ) -> rustix::io::Result<Option<Owner>> {
        let uid = subject.uid;
        // The vault's own directory passes nothing on for the mount's root.
        let root = self.resolver.is_in_root(at_path).then(|| self.vault.root_attrs());
        if let Some(root) = root.filter(|root| root.mode & 0o2000 != 0) {
            return Ok(Some(Owner { uid, gid: root.gid, passes_on: true }));
        }
        if uid == self.euid && subject.gid == self.egid {
            return Ok(None);
        }
        let dir = rustix::fs::fstat(at_path.dir())?;
        Ok(Some(match dir.st_mode & 0o2000 {
            0 => Owner { uid, gid: subject.gid, passes_on: false },
            _ => Owner { uid, gid: dir.st_gid, passes_on: true },
        }))
    }
}
