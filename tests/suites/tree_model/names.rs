//! Operations on names: made, moved, exchanged, removed.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

use rand::RngExt;
use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::{FileModel, Name, TreeModel};

impl TreeModel {
    pub(super) fn create(&mut self) {
        let path = self.a_new_name();
        let length = self.random.random_range(0..6000);
        let bytes = self.some_bytes(length);
        let mut file = File::create_new(self.root.join(&path)).unwrap();
        file.set_permissions(PermissionsExt::from_mode(0o644)).unwrap();
        file.write_all(&bytes).unwrap();
        let model = FileModel { content: bytes, mode: 0o644, links: 1, ..FileModel::default() };
        self.files.push(model);
        self.names.insert(path, Name::File(self.files.len() - 1));
    }

    pub(super) fn symlink(&mut self) {
        let path = self.a_new_name();
        let target = format!("../somewhere/{}", self.steps);
        symlink(&target, self.root.join(&path)).unwrap();
        self.names.insert(path, Name::Symlink(target));
    }

    pub(super) fn mkdir(&mut self) {
        if self.dirs.len() < 30 {
            let path = self.a_new_name();
            fs::create_dir(self.root.join(&path)).unwrap();
            self.dirs.insert(path);
        }
    }

    pub(super) fn link(&mut self) {
        let Some((path, id)) = self.a_file() else { return };
        let new = self.a_new_name();
        fs::hard_link(self.root.join(path), self.root.join(&new)).unwrap();
        self.names.insert(new, Name::File(id));
        self.files[id].links += 1;
    }

    pub(super) fn rename(&mut self) {
        let Some(from) = self.a_name() else { return };
        let replaces = self.random.random_range(0..2) == 0;
        let to = if replaces { self.a_name().unwrap() } else { self.a_new_name() };
        fs::rename(self.root.join(&from), self.root.join(&to)).unwrap();
        // Two names of one file: rename does nothing, says POSIX.
        let (moved, replaced) = (self.names[&from].clone(), self.names.get(&to).cloned());
        if from == to || (matches!(moved, Name::File(_)) && replaced.as_ref() == Some(&moved)) {
            return;
        }
        self.names.remove(&from);
        self.names.insert(to, moved);
        if let Some(Name::File(id)) = replaced {
            self.files[id].links -= 1;
        }
    }

    pub(super) fn exchange(&mut self) {
        let (Some(one), Some(two)) = (self.a_name(), self.a_name()) else { return };
        renameat_with(CWD, self.root.join(&one), CWD, self.root.join(&two), RenameFlags::EXCHANGE)
            .unwrap();
        let (first, second) = (self.names[&one].clone(), self.names[&two].clone());
        self.names.insert(one, second);
        self.names.insert(two, first);
    }

    pub(super) fn rename_dir(&mut self) {
        let (from, to) = (self.a_dir(), self.a_new_name());
        if from.as_os_str().is_empty() {
            return;
        }
        let renamed = fs::rename(self.root.join(&from), self.root.join(&to));
        if to.starts_with(&from) {
            assert_eq!(renamed.unwrap_err().raw_os_error(), Some(libc::EINVAL));
            return;
        }
        renamed.unwrap();
        let moved = |path: PathBuf| match path.strip_prefix(&from) {
            Ok(rest) if rest.as_os_str().is_empty() => to.clone(),
            Ok(rest) => to.join(rest),
            Err(_) => path,
        };
        self.dirs = std::mem::take(&mut self.dirs).into_iter().map(&moved).collect();
        self.names = std::mem::take(&mut self.names)
            .into_iter()
            .map(|(path, name)| (moved(path), name))
            .collect();
    }

    pub(super) fn unlink(&mut self) {
        let Some(path) = self.a_name() else { return };
        fs::remove_file(self.root.join(&path)).unwrap();
        if let Some(Name::File(id)) = self.names.remove(&path) {
            self.files[id].links -= 1;
        }
    }

    pub(super) fn rmdir(&mut self) {
        let dir = self.a_dir();
        let below = |path: &&PathBuf| path.parent() == Some(&dir);
        let is_empty = !self.names.keys().any(|path| below(&path))
            && !self.dirs.iter().any(|path| below(&path));
        let removed = fs::remove_dir(self.root.join(&dir));
        if dir.as_os_str().is_empty() {
            if removed.is_ok() {
                fs::create_dir(&self.root).unwrap();
            }
        } else if is_empty {
            removed.unwrap();
            self.dirs.remove(&dir);
        } else {
            assert_eq!(removed.unwrap_err().raw_os_error(), Some(libc::ENOTEMPTY));
        }
    }
}
