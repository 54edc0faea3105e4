//! Vaults on filesystems that lack something.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::mount::{UnmountFlags, unmount};

use crate::common::{Scratch, Vault, pattern, require_root, run, vault};

/// A filesystem of a test; detached on drop.
struct Disk(PathBuf);

impl Disk {
    fn mount(at: PathBuf, args: &[&str]) -> Disk {
        fs::create_dir_all(&at).unwrap();
        run(Command::new("mount").args(args).arg(&at)).ok();
        Disk(at)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}

/// The places of a vault, of which its directory is on `disk`.
fn vault_on(disk: &Path, scratch: Scratch) -> (Vault, Disk) {
    fs::create_dir(disk.join("vault")).unwrap();
    let vault = Vault::prepare_in(scratch, vault::binary().to_owned());
    let source = disk.join("vault").display().to_string();
    let bound = Disk::mount(vault.path(), &["--bind", &source]);
    (vault, bound)
}

fn init(vault: &Vault) -> crate::common::Outcome {
    run(vault.command(&["init"]).arg(vault.path()).arg("--key-file").arg(vault.key_file()))
}

/// An overlayfs whose layers are on two filesystems gives each new file the upper one's device.
#[test]
fn an_overlay_of_two_filesystems_is_refused() {
    require_root();
    // Goes last, when nothing is mounted in its scratch directory any more.
    let vault;
    let scratch = Scratch::new();
    let _lower = Disk::mount(scratch.join("lower"), &["-t", "tmpfs", "atrest-test"]);
    let _upper = Disk::mount(scratch.join("upper"), &["-t", "tmpfs", "atrest-test"]);
    let path = |name: &str| scratch.join(name).display().to_string();
    for name in ["upper/up", "upper/work"] {
        fs::create_dir(scratch.join(name)).unwrap();
    }
    let layers = format!(
        "xino=off,lowerdir={},upperdir={},workdir={}",
        path("lower"),
        path("upper/up"),
        path("upper/work")
    );
    let overlay = scratch.join("overlay");
    let _overlay = Disk::mount(overlay.clone(), &["-t", "overlay", "-o", &layers, "atrest-test"]);
    let _bound;
    (vault, _bound) = vault_on(&overlay, scratch);
    let refused = init(&vault).fails();
    assert_eq!(refused.code(), 4, "{refused}");
    assert!(refused.stderr.contains("overlayfs"), "{refused}");
    assert_eq!(refused.stderr.trim().lines().count(), 1, "{refused}");
    assert_eq!(fs::read_dir(vault.path()).unwrap().count(), 0, "something is left behind");
    assert!(!vault.key_file().exists());

    // One that was made elsewhere and copied there.
    let elsewhere = Vault::init();
    run(Command::new("cp").arg("-a").arg(elsewhere.path().join(".atrest")).arg(vault.path())).ok();
    fs::copy(elsewhere.key_file(), vault.key_file()).unwrap();
    let before = fs::read(vault.path().join(".atrest/state.json")).unwrap();
    let refused = vault.try_mount(&[]).err().expect("mounted").fails();
    assert_eq!(refused.code(), 4, "{refused}");
    assert!(refused.stderr.contains("overlayfs"), "{refused}");
    assert_eq!(fs::read(vault.path().join(".atrest/state.json")).unwrap(), before);
    let left = fs::read_dir(vault.path().join(".atrest")).unwrap().flatten();
    let left: Vec<_> = left.map(|entry| entry.file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().contains("probe")), "{left:?}");
}

/// Layers on one filesystem do.
#[test]
fn an_overlay_of_one_filesystem_will_do() {
    require_root();
    // Goes last, when nothing is mounted in its scratch directory any more.
    let vault;
    let scratch = Scratch::new();
    let _disk = Disk::mount(scratch.join("disk"), &["-t", "tmpfs", "atrest-test"]);
    for name in ["disk/low", "disk/up", "disk/work"] {
        fs::create_dir(scratch.join(name)).unwrap();
    }
    let path = |name: &str| scratch.join(name).display().to_string();
    let layers = format!(
        "lowerdir={},upperdir={},workdir={}",
        path("disk/low"),
        path("disk/up"),
        path("disk/work")
    );
    let overlay = scratch.join("overlay");
    let _overlay = Disk::mount(overlay.clone(), &["-t", "overlay", "-o", &layers, "atrest-test"]);
    let _bound;
    (vault, _bound) = vault_on(&overlay, scratch);
    init(&vault).ok();
    let mount = vault.mount(&[]);
    fs::write(mount.join("file"), pattern(0, 50_000)).unwrap();
    let mount = mount.remount(&[]);
    assert_eq!(fs::read(mount.join("file")).unwrap(), pattern(0, 50_000));
}

/// Without extended attributes and fallocate: said once, and done without.
#[test]
fn what_a_vault_can_do_without_is_said() {
    require_root();
    // Goes last, when nothing is mounted in its scratch directory any more.
    let vault;
    let scratch = Scratch::new();
    let disk = scratch.join("disk");
    let _disk = Disk::mount(disk.clone(), &["-t", "ramfs", "atrest-test"]);
    let _bound;
    (vault, _bound) = vault_on(&disk, scratch);
    init(&vault).ok();
    let mut told = String::new();
    let mount = crate::common::Mounted::try_mount_with(&vault, &[], |mut command| {
        let outcome = run(&mut command);
        told.clone_from(&outcome.stderr);
        outcome
    });
    let mount = mount.unwrap_or_else(|outcome| panic!("{outcome}"));
    for what in ["extended attributes", "holes"] {
        assert_eq!(told.matches(what).count(), 1, "{what}: {told}");
        assert_eq!(mount.log().matches(what).count(), 1, "{what}: {}", mount.log());
    }
    fs::write(mount.join("file"), pattern(0, 50_000)).unwrap();
    let mount = mount.remount(&[]);
    assert_eq!(fs::read(mount.join("file")).unwrap(), pattern(0, 50_000));
    mount.unmount();
    vault.verify();
}
