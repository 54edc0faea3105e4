//! Moving names.

use std::ffi::OsStr;

use rustix::fs::{FileType, RenameFlags, Stat};

use crate::fs::access::rename_permission::Renamed;
use crate::fs::{Fs, FsError, Inode, Subject};

impl Fs {
    /// Moves `name` in `parent` to `new_name` in `new_parent`, replacing what is there, unless
    /// `flags` say NOREPLACE or EXCHANGE. Returns the inode that was replaced, if one was.
    ///
    /// # Errors
    /// [`FsError::Invalid`] for other flags; [`FsError::Denied`]; [`FsError::Backing`] with the
    /// error of renameat2(2).
    pub fn rename(
        &self,
        parent: Inode,
        name: &OsStr,
        new_parent: Inode,
        new_name: &OsStr,
        flags: RenameFlags,
        subject: &Subject,
    ) -> Result<Option<Inode>, FsError> {
        let known = RenameFlags::NOREPLACE | RenameFlags::EXCHANGE;
        if flags.intersects(!known) {
            return Err(FsError::Invalid);
        }
        let (from, to) = (self.at_path(parent, name)?, self.at_path(new_parent, new_name)?);
        let held = self.lock_names_alone((parent, &from), (new_parent, &to));
        let moved = from.stat()?;
        let replaced = to.stat().ok();
        let exchange = flags.contains(RenameFlags::EXCHANGE);
        self.authorize_rename(
            &Renamed { parent, name, at_path: &from, stat: Some(&moved) },
            &Renamed { parent: new_parent, name: new_name, at_path: &to, stat: replaced.as_ref() },
            flags,
            subject,
        )?;
        let is_dir = |stat: &Stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        let any_dir = is_dir(&moved) || replaced.as_ref().is_some_and(is_dir);
        // What can fail does so before the names have moved.
        let moved = self.resolver.inode(&moved)?;
        let other = replaced.map(|stat| self.resolver.inode(&stat)).transpose()?;
        let going = match (other, replaced) {
            (Some(other), Some(stat)) if !exchange && other != moved => {
                Some(self.prepare_removal(new_parent, to.clone(), stat)?)
            }
            _ => None,
        };
        let moving = self.moves.begin(any_dir);
        if flags.is_empty() {
            rustix::fs::renameat(from.dir(), from.name(), to.dir(), to.name())?;
        } else {
            rustix::fs::renameat_with(from.dir(), from.name(), to.dir(), to.name(), flags)?;
        }
        going.into_iter().for_each(|going| self.finish_removal(going));
        // rename(2) of one of two names of a file to the other does nothing.
        if other != Some(moved) {
            let _ancestry = self.ancestry.write();
            let (from, to) = (self.link_to(parent, &from), self.link_to(new_parent, &to));
            if let Some(other) = other.filter(|_| exchange) {
                self.nodes.rename(other, &to, from.clone());
            }
            self.nodes.rename(moved, &from, to);
            if any_dir {
                self.assignments.clear();
            }
        }
        self.note_move(&moving, new_parent, &to);
        if exchange {
            self.note_move(&moving, parent, &from);
        }
        drop((moving, held));
        Ok(other.filter(|&other| !exchange && other != moved))
    }
}
