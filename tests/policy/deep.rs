//! A path counts at any depth.

use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags, mkdirat, openat};
use rustix::io::Errno;

use crate::common::Vault;
use crate::grant;
use crate::people::People;

/// More names than a path of 4095 bytes can have.
const LEVELS: usize = 4200;

fn open(dir: &OwnedFd, name: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    openat(dir, name, flags | OFlags::CLOEXEC, Mode::from_raw_mode(0o644))
}

#[test]
fn what_is_denied_below_a_path_is_denied_at_any_depth() {
    let people = People::make();
    let (named, stranger) = (&people.named.user, &people.stranger.user);
    let vault = Vault::init().shared();
    let mount = vault.mount(&["--allow-other"]);
    let root = || OwnedFd::from(std::fs::File::open(mount.path()).unwrap());
    let mut dir = root();
    for level in 0..LEVELS {
        let name = if level == 0 { "secret" } else { "d" };
        mkdirat(&dir, name, Mode::from_raw_mode(0o755)).unwrap();
        dir = open(&dir, name, OFlags::DIRECTORY).unwrap();
    }
    let file = open(&dir, "file", OFlags::CREATE | OFlags::WRONLY).unwrap();
    assert_eq!(rustix::io::write(&file, b"secret").unwrap(), 6);
    drop(file);
    let denied = format!("--user {} --deny decrypt --under secret", people.named.name);
    grant(&vault, &denied);
    named.run(|| assert_eq!(open(&dir, "file", OFlags::RDONLY).unwrap_err(), Errno::ACCESS));
    stranger.run(|| drop(open(&dir, "file", OFlags::RDONLY).unwrap()));
    // By descriptors, since the scratch directory is removed by path.
    rustix::fs::unlinkat(&dir, "file", rustix::fs::AtFlags::empty()).unwrap();
    for level in (0..LEVELS).rev() {
        dir = open(&dir, "..", OFlags::DIRECTORY).unwrap();
        let name = if level == 0 { "secret" } else { "d" };
        rustix::fs::unlinkat(&dir, name, rustix::fs::AtFlags::REMOVEDIR).unwrap();
    }
}
