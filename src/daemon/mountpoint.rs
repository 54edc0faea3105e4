//! Whether a vault may be mounted on a directory.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::stale_mount;
use crate::service::failure::{Context, Exit, Failure};
use crate::service::paths::{mount_table, resolve};
use crate::sys::{self, Show};

/// A mount point, as the command line names it.
#[derive(Debug)]
pub struct Mountpoint {
    /// Absolute, without symlinks.
    pub path: PathBuf,
    stale: bool,
}

impl Mountpoint {
    /// Looks at a mount point. A stale mount on it is left alone until [`Mountpoint::recover`].
    ///
    /// # Errors
    /// [`Exit::Mount`] when it can't be one for this vault, [`Exit::Busy`] when a vault is
    /// mounted there.
    pub fn check(path: &Path, vault: &Path) -> Result<Self, Failure> {
        let path = resolve(path).map_err(|error| {
            let shown = path.shown();
            Failure::new(
                Exit::Mount,
                match error.kind() {
                    io::ErrorKind::NotFound => {
                        format!("there is no mount point {shown}: make it first: mkdir {shown}")
                    }
                    _ => format!("the mount point {shown} can't be used: {error}"),
                },
            )
        })?;
        let on_it = mount_table()?.vault_at(&path);
        let stale = on_it.is_some() && sys::is_stale(&path);
        if let Some(mounted) = on_it.filter(|_| !stale) {
            let (path, other) = (path.shown(), mounted.vault.shown());
            let message = format!("on {path} the vault {other} is mounted already");
            return Err(Failure::new(Exit::Busy, message));
        }
        let mountpoint = Self { path, stale };
        mountpoint.check_place(vault)?;
        if !stale {
            mountpoint.check_directory()?;
        }
        Ok(mountpoint)
    }

    /// Takes away the stale mounts that lie on it, and says so.
    ///
    /// # Errors
    /// As [`Mountpoint::check`], for what was found below them.
    pub fn recover(&self) -> Result<(), Failure> {
        if !self.stale {
            return Ok(());
        }
        stale_mount::recover(&self.path)?;
        self.check_directory()
    }

    /// Neither may lie in the other: the mount would hide its own vault, or stand in it.
    fn check_place(&self, vault: &Path) -> Result<(), Failure> {
        let (mountpoint, shown) = (self.path.shown(), vault.shown());
        let refusal = if lies_in(&self.path, vault) {
            format!("the mount point {mountpoint} lies in the vault {shown}")
        } else if lies_in(vault, &self.path) {
            format!("the vault {shown} lies in the mount point {mountpoint}")
        } else {
            return Ok(());
        };
        Err(Failure::new(Exit::Mount, refusal))
    }

    fn check_directory(&self) -> Result<(), Failure> {
        let path = self.path.shown();
        let context = || format!("the mount point {path} can't be used");
        let is_directory = fs::metadata(&self.path).context(Exit::Mount, context)?.is_dir();
        if !is_directory {
            let message = format!("the mount point {path} is not a directory");
            return Err(Failure::new(Exit::Mount, message));
        }
        if fs::read_dir(&self.path).context(Exit::Mount, context)?.next().is_some() {
            let message = format!("the mount point {path} is not empty");
            return Err(Failure::new(Exit::Mount, message));
        }
        Ok(())
    }
}

/// Whether a path is a directory or lies below it: by the names, and by the identity of each
/// directory above, which sees through bind mounts.
pub fn lies_in(path: &Path, directory: &Path) -> bool {
    if path.starts_with(directory) {
        return true;
    }
    let identity =
        |path: &Path| fs::metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()));
    let wanted = identity(directory);
    wanted.is_some() && path.ancestors().any(|ancestor| identity(ancestor) == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Places {
        _scratch: tempfile::TempDir,
        root: PathBuf,
    }

    fn places() -> Places {
        let scratch = tempfile::tempdir().unwrap();
        let root = scratch.path().canonicalize().unwrap();
        for name in ["vault/in", "mnt", "vault2"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        Places { _scratch: scratch, root }
    }

    #[track_caller]
    fn refused(root: &Path, mountpoint: &str, vault: &str) -> String {
        let failure = Mountpoint::check(&root.join(mountpoint), &root.join(vault)).unwrap_err();
        assert_eq!(failure.exit, Exit::Mount, "{failure}");
        failure.message
    }

    #[test]
    fn an_empty_directory_elsewhere_will_do() {
        let Places { root, .. } = &places();
        let found = Mountpoint::check(&root.join("mnt"), &root.join("vault")).unwrap();
        assert_eq!(found.path, root.join("mnt"));
        // A name that begins like the vault's is not in the vault.
        Mountpoint::check(&root.join("vault2"), &root.join("vault")).unwrap();
    }

    #[test]
    fn the_vault_and_the_mount_point_lie_apart() {
        let Places { root, .. } = &places();
        assert!(refused(root, "vault/in", "vault").contains("lies in the vault"));
        assert!(refused(root, "vault", "vault").contains("lies in the vault"));
        assert!(refused(root, ".", "vault").contains("lies in the mount point"));
    }

    #[test]
    fn a_mount_point_is_an_empty_directory() {
        let Places { root, .. } = &places();
        fs::write(root.join("file"), "").unwrap();
        fs::write(root.join("mnt/file"), "").unwrap();
        assert!(refused(root, "missing", "vault").contains("make it first: mkdir"));
        assert!(refused(root, "file", "vault").contains("not a directory"));
        assert!(refused(root, "mnt", "vault").contains("not empty"));
    }
}
