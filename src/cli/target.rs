//! What a path on the command line names: a vault, or the mount point of one.

use std::path::{Component, Path, PathBuf};

use crate::control::{Client, SocketPath};
use crate::service::failure::{Context, Exit, Failure};
use crate::service::paths::{mount_table, resolve};
use crate::service::request::Request;
use crate::service::status::Status;
use crate::store::METADATA_DIR;
use crate::sys::{self, MountedVault, Show};

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
        let path = resolve(path).context(Exit::Vault, || path.shown().to_string())?;
        let table = mount_table()?;
        if let Some(mounted) = table.vault_at(&path) {
            let vault = current_place(&mounted).unwrap_or_else(|| mounted.vault.clone());
            return Ok(Self { vault, mounted: Some(mounted) });
        }
        let mounted = table.mounts_of(&path).last();
        Ok(Self { vault: path, mounted })
    }
}

/// Whether a daemon has the vault open.
#[derive(Debug)]
pub enum Daemon {
    /// Its daemon, which can be asked.
    Reached(Client),
    /// Nobody has it open: this process may.
    None,
}

impl Target {
    /// The daemon that performs requests on the vault, if it has one.
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
                let message = format!(
                    "the vault is mounted on {place}, and its daemon, of user {user}, can't be asked"
                );
                Err(Failure::new(Exit::Busy, message))
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
        Client::connect(&SocketPath::of(&self.vault, user).ok()?)
    }
}

/// Where the vault of a mount lies, if that is not where it was mounted from: its daemon knows.
fn current_place(mounted: &MountedVault) -> Option<PathBuf> {
    let is_served = |place: &SocketPath| Client::connect(place).is_some();
    // First: a mount whose disk hangs answers no question about itself.
    if SocketPath::of(&mounted.vault, mounted.user_id).is_ok_and(|place| is_served(&place))
        || sys::is_stale(&mounted.mountpoint)
    {
        return None;
    }
    let ask = |place: SocketPath| {
        let answer = Client::connect(&place)?.ask(&Request::Status, &|_| ()).ok()?;
        let status = Status::try_from(answer).ok()?;
        Some((status.mountpoint?, status.vault))
    };
    let mountpoint = mounted.mountpoint.to_string_lossy();
    let mut answers = SocketPath::all(mounted.user_id).into_iter().filter_map(ask);
    answers.find(|(at, _)| *at == mountpoint).map(|(_, vault)| PathBuf::from(vault))
}

/// The path within the mount: given so, or as the path of the mounted file, or of the file in the
/// vault.
pub fn within(path: &Path, target: &Target) -> Result<PathBuf, Failure> {
    let refused = |what: &str| Failure::new(Exit::Usage, format!("{} {what}", path.shown()));
    let relative = if path.is_absolute() {
        let real = resolve(path).unwrap_or_else(|_| path.to_owned());
        let mountpoint = target.mounted.as_ref().map(|mounted| mounted.mountpoint.as_path());
        let places = [Some(target.vault.as_path()), mountpoint];
        let found = places.into_iter().flatten().find_map(|place| real.strip_prefix(place).ok());
        found.ok_or_else(|| refused("is not a path in this vault"))?.to_owned()
    } else {
        path.to_owned()
    };
    let mut within = PathBuf::new();
    for component in relative.components() {
        match component {
            Component::CurDir => {}
            Component::Normal(name) if within.as_os_str().is_empty() && name == METADATA_DIR => {
                return Err(refused("is the vault's own and holds no sealed files"));
            }
            Component::Normal(name) => within.push(name),
            _ => return Err(refused("leads out of the vault")),
        }
    }
    Ok(within)
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
    fn what_is_not_there_is_no_vault() {
        let failure = Target::find(Path::new("/nowhere/at/all")).unwrap_err();
        assert_eq!(failure.exit, Exit::Vault);
        assert!(failure.message.starts_with("/nowhere/at/all: "), "{failure}");
    }

    #[test]
    fn a_path_is_found_in_the_vault() {
        let target = Target { vault: "/no/vault".into(), mounted: None };
        let found = |path: &str| within(Path::new(path), &target).map_err(|failure| failure.exit);
        assert_eq!(found("a/./b"), Ok("a/b".into()));
        assert_eq!(found("."), Ok("".into()));
        assert_eq!(found("/no/vault/a"), Ok("a".into()));
        assert_eq!(found("/no/vault"), Ok("".into()));
        for path in ["../a", "/no/vaults", "/etc", ".atrest/lock", "/no/vault/.atrest"] {
            assert_eq!(found(path), Err(Exit::Usage), "{path}");
        }
        assert_eq!(found("a/.atrest"), Ok("a/.atrest".into()));
    }
}
