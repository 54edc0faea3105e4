//! All that belongs to a vault, as it was and as it is.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};

use crate::common::{Vault, run};

/// Where root's daemons have their sockets.
pub const SOCKETS: &str = "/run/atrest";

/// In a /run of this test's own.
const APART: &str = "/run/apart";

/// Beside each other in the scratch directory.
const PARTS: [&str; 3] = ["vault", "keys", "home"];

pub struct Parts {
    scratch: PathBuf,
}

impl Parts {
    /// Of a vault. Gives this thread, and all that it starts, a mount namespace of its own, where nothing
    /// is in /run: what is done to the directory of sockets is done to no other daemon's.
    pub fn apart(vault: &Vault) -> Parts {
        // SAFETY: no memory is concerned.
        let unshared = unsafe { libc::unshare(libc::CLONE_NEWNS) };
        assert_eq!(unshared, 0, "unshare: {}", std::io::Error::last_os_error());
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        rustix::mount::mount_change("/", private).unwrap();
        // The mounts of other tests would go on here.
        let table = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
        for line in table.lines().filter(|line| line.contains(" - fuse")) {
            let at = line.split(' ').nth(4).unwrap();
            let _ = rustix::mount::unmount(at, UnmountFlags::DETACH);
        }
        rustix::mount::mount("tmpfs", "/run", "tmpfs", MountFlags::empty(), None).unwrap();
        fs::write(APART, "").unwrap();
        Parts { scratch: vault.scratch().path().to_owned() }
    }

    /// Whether a file is one that an attacker changes: of the vault, of its keys, its trail, what is
    /// known of it, and its socket.
    pub fn have(&self, path: &Path) -> bool {
        let below = |place: &Path| path.starts_with(place) && path != place;
        let mut places = ["vault", "keys", "home/state/atrest"].iter();
        path.starts_with(SOCKETS) || places.any(|name| below(&self.scratch.join(name)))
    }

    /// The directory of the trail.
    pub fn trail(&self) -> PathBuf {
        let mut found = fs::read_dir(self.scratch.join("home/state/atrest")).unwrap().flatten();
        found.find(|entry| entry.path().is_dir()).unwrap().path()
    }

    /// Keeps all as it is, by that name.
    pub fn keep(&self, name: &str) {
        let to = self.scratch.join(name);
        fs::create_dir(&to).unwrap();
        fs::set_permissions(&to, Permissions::from_mode(0o700)).unwrap();
        let parts = PARTS.map(|part| self.scratch.join(part));
        run(Command::new("cp").arg("-a").args(parts).arg(to)).ok();
    }

    /// Where a file lies in what was kept by that name.
    pub fn kept(&self, name: &str, path: &Path) -> PathBuf {
        let below = path.strip_prefix(&self.scratch).unwrap_or(Path::new("elsewhere"));
        self.scratch.join(name).join(below)
    }

    /// All is as it was kept by the name `base`, and nothing has been put beside it. The vault's
    /// directory stays the same one.
    pub fn put_back(&self) {
        let vault = self.scratch.join("vault");
        chown(&vault, Some(0), Some(0)).unwrap();
        fs::set_permissions(&vault, Permissions::from_mode(0o700)).unwrap();
        empty(&vault, |_| true);
        empty(&self.scratch, |name| {
            let is_beside = name.starts_with("away-") || name.starts_with("others-");
            is_beside || ["keys", "home"].contains(&name)
        });
        assert!(Path::new(APART).exists(), "this /run is everybody's");
        empty(Path::new("/run"), |name| !APART.ends_with(name));
        let base = self.scratch.join("base");
        let parts = PARTS.map(|part| base.join(part));
        run(Command::new("cp").arg("-a").args(parts).arg(&self.scratch)).ok();
    }
}

/// Removes those of a directory's entries that `goes` says.
fn empty(directory: &Path, goes: impl Fn(&str) -> bool) {
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        if goes(&entry.file_name().to_string_lossy()) {
            let is_directory = entry.file_type().unwrap().is_dir();
            let path = entry.path();
            let removed =
                if is_directory { fs::remove_dir_all(path) } else { fs::remove_file(path) };
            removed.unwrap();
        }
    }
}
