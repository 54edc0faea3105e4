//! What a path on the command line names: a vault, or the mount point of one.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::sys::{self, MountTable, MountedVault, Show};

use super::control::{Client, Place, Request};
use super::exit::{Context, Exit, Failure};

/// A vault, by its directory or by where it is mounted.
#[derive(Debug)]
pub struct Target {
    /// The vault's directory, absolute and without symlinks.
    pub vault: PathBuf,
    /// Its mount, if it has one that this process can see.
    pub mounted: Option<MountedVault>,
}

impl Target {
    /// Finds what a path names. A stale mount point is one too.
    ///
    /// # Errors
    /// [`Exit::Vault`] when there is nothing.
    pub fn find(path: &Path) -> Result<Self, Failure> {
        let path = resolve(path).or_fail(Exit::Vault, || path.shown().to_string())?;
        let table = mount_table()?;
        if let Some(mounted) = table.vault_at(&path) {
            let vault = current_place(&mounted).unwrap_or_else(|| mounted.vault.clone());
            return Ok(Self { vault, mounted: Some(mounted) });
        }
        let mounted = table.mounts_of(&path).last();
        Ok(Self { vault: path, mounted })
    }
}

/// Who does what is to be done to a vault.
#[derive(Debug)]
pub enum Daemon {
    /// Its daemon, which can be asked.
    Reached(Client),
    /// Nobody has it open: this process may.
    None,
}

impl Target {
    /// Who is to do what needs the vault's keys.
    ///
    /// # Errors
    /// [`Exit::Busy`] when there is a daemon that this user can't ask.
    pub fn daemon(&self) -> Result<Daemon, Failure> {
        if let Some(client) = self.client() {
            return Ok(Daemon::Reached(client));
        }
        match &self.mounted {
            Some(mounted) if !sys::is_stale(&mounted.mountpoint) => {
                let (place, user) = (mounted.mountpoint.shown(), mounted.user_id);
                let sentence = format!(
                    "the vault is mounted on {place}, and its daemon, of user {user}, can't be asked"
                );
                Err(Failure::new(Exit::Busy, sentence))
            }
            _ => Ok(Daemon::None),
        }
    }

    /// The vault's daemon, if there is one that this user can ask.
    pub fn client(&self) -> Option<Client> {
        let user = match &self.mounted {
            Some(mounted) => mounted.user_id,
            None => rustix::process::geteuid().as_raw(),
        };
        Client::connect(&Place::of(&self.vault, user).ok()?)
    }
}

/// Takes away the socket that the dead daemon of a stale mount left.
pub fn clear_socket(stale: &MountedVault) {
    // A vault that is gone has no place any more, and is mounted by nobody.
    if let Ok(place) = Place::of(&stale.vault, stale.user_id) {
        place.clear();
    }
}

/// Where the vault of a mount lies, if that is not where it was mounted from: its daemon knows.
fn current_place(mounted: &MountedVault) -> Option<PathBuf> {
    let is_served = |place: &Place| Client::connect(place).is_some();
    // First: a mount whose disk hangs answers no question about itself.
    if Place::of(&mounted.vault, mounted.user_id).is_ok_and(|place| is_served(&place))
        || sys::is_stale(&mounted.mountpoint)
    {
        return None;
    }
    let ask = |place: Place| {
        let answer = Client::connect(&place)?.ask(&Request::Status, &mut |_| ()).ok()?;
        let text = |field| answer.get(field)?.as_str().map(str::to_owned);
        Some((text("mountpoint")?, text("vault")?))
    };
    let mountpoint = mounted.mountpoint.to_string_lossy();
    let mut answers = Place::all(mounted.user_id).into_iter().filter_map(ask);
    answers.find(|(at, _)| *at == mountpoint).map(|(_, vault)| PathBuf::from(vault))
}

/// The kernel's table of mounts.
///
/// # Errors
/// Those of reading it.
pub fn mount_table() -> Result<MountTable, Failure> {
    MountTable::read().or_fail(Exit::Failed, || "/proc/self/mountinfo".to_owned())
}

/// A path made absolute and free of symlinks. The last component isn't asked about itself unless
/// it is a symlink, so that a stale mount point resolves.
///
/// # Errors
/// Those of realpath(3).
pub fn resolve(path: &Path) -> io::Result<PathBuf> {
    match path.canonicalize() {
        Err(error) if error.raw_os_error() == Some(libc::ENOTCONN) => {
            let path = std::path::absolute(path)?;
            match (path.parent(), path.file_name()) {
                (Some(parent), Some(name)) => Ok(parent.canonicalize()?.join(name)),
                _ => Err(error),
            }
        }
        resolved => resolved,
    }
}

/// Where a path leads, absolute and without symlinks, in as much of it as there is: what is missing
/// is taken for a plain name, also where a symlink leads there.
pub fn would_be(path: &Path) -> PathBuf {
    /// What the kernel allows (path_resolution(7)).
    const MOST_LINKS: usize = 40;
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let names = |path: &Path| -> Vec<OsString> {
        path.components().rev().map(|part| part.as_os_str().to_owned()).collect()
    };
    let mut left = names(&absolute);
    let mut real = PathBuf::from("/");
    let mut links = 0;
    while let Some(name) = left.pop() {
        match name.as_bytes() {
            b"/" => real = "/".into(),
            b"." => {}
            b".." => drop(real.pop()),
            _ => {
                let at = real.join(&name);
                match at.read_link() {
                    Ok(leads_to) if links < MOST_LINKS => {
                        links += 1;
                        left.extend(names(&leads_to));
                    }
                    _ => real = at,
                }
            }
        }
    }
    real
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_directory_that_is_not_mounted_is_taken_for_a_vault() {
        let scratch = tempfile::tempdir().unwrap();
        let real = scratch.path().canonicalize().unwrap();
        symlink(&real, real.join("link")).unwrap();
        let target = Target::find(&real.join("link")).unwrap();
        assert_eq!((target.vault, target.mounted), (real, None));
    }

    #[test]
    fn a_symlink_does_not_hide_where_a_path_leads() {
        let scratch = tempfile::tempdir().unwrap();
        let root = scratch.path().canonicalize().unwrap();
        std::fs::create_dir(root.join("vault")).unwrap();
        symlink("vault", root.join("link")).unwrap();
        symlink("link/not/yet", root.join("dangling")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        assert_eq!(would_be(&root.join("link/deep/key")), root.join("vault/deep/key"));
        assert_eq!(would_be(&root.join("dangling/x/../y")), root.join("vault/not/yet/y"));
        assert_eq!(would_be(&root.join("link")), root.join("vault"));
        assert_eq!(would_be(&root.join("loop/x")), root.join("loop/x"));
    }

    #[test]
    fn what_is_not_there_is_no_vault() {
        let failure = Target::find(Path::new("/nowhere/at/all")).unwrap_err();
        assert_eq!(failure.exit, Exit::Vault);
        assert!(failure.sentence.starts_with("/nowhere/at/all: "), "{failure}");
    }
}
