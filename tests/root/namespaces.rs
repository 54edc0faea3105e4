//! A mount that another mount namespace has too.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::mounted::{daemons_of, is_mounted};
use crate::common::vault::binary;
use crate::common::{Vault, require, require_root, run, wait_until};

/// A shell's script, to be run in a mount namespace of its own: a copy of this one, without the mounts
/// of other tests, which would go on there.
pub fn apart(mountpoint: &Path, script: &str) -> Command {
    let others = format!(
        "awk '$0 ~ / - fuse/ && $5 != \"{}\" {{ print $5 }}' /proc/self/mountinfo |
         while read -r other; do umount -l \"$other\"; done",
        mountpoint.display()
    );
    let mut unshare = Command::new(require("unshare"));
    unshare.args(["--mount", "--propagation", "private", "sh", "-c"]);
    unshare.arg(format!("{others}\n{script}"));
    unshare
}

/// A process in a mount namespace of its own, a copy of this one; killed on drop.
struct Elsewhere(Child);

impl Elsewhere {
    fn start(mountpoint: &Path) -> Elsewhere {
        let mut unshare = apart(mountpoint, "exec sleep 300");
        let child = unshare.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let table = format!("/proc/{}/mountinfo", child.id());
        let here = fs::read_link("/proc/self/ns/mnt").unwrap();
        let there = format!("/proc/{}/ns/mnt", child.id());
        let comm = format!("/proc/{}/comm", child.id());
        let started = wait_until(Duration::from_secs(10), || {
            let is_apart = fs::read_link(&there).ok()? != here;
            let is_started = fs::read_to_string(&comm).ok()?.trim() == "sleep";
            (is_apart && is_started).then_some(())
        });
        assert!(started.is_some());
        let mounts = fs::read_to_string(table).unwrap();
        assert!(mounts.contains(&mountpoint.display().to_string()));
        Elsewhere(child)
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn umount_names_who_has_the_mount_in_another_namespace() {
    require_root();
    let vault = Vault::init();
    let mut mount = vault.mount(&[]);
    fs::write(mount.join("file"), b"content").unwrap();
    let elsewhere = Elsewhere::start(mount.path());
    let began = Instant::now();
    let outcome = mount.try_unmount();
    assert_eq!(outcome.code(), 7, "{outcome}");
    let name = format!("sleep (process {}, in another mount namespace)", elsewhere.0.id());
    assert!(outcome.stderr.contains(&name), "{outcome}");
    assert!(began.elapsed() < Duration::from_secs(30), "after {:?}", began.elapsed());
    assert!(!is_mounted(&vault.mountpoint()));
    mount.forget();
    // It is served there until the namespace ends; then the vault is quiet.
    let there = format!("/proc/{}/root{}", elsewhere.0.id(), mount.join("file").display());
    assert_eq!(fs::read(there).unwrap(), b"content");
    drop(elsewhere);
    let ended = wait_until(Duration::from_secs(30), || {
        daemons_of(&vault.mountpoint()).is_empty().then_some(())
    });
    assert!(ended.is_some(), "the daemon outlives the last namespace");
    vault.verify();
}

#[test]
fn sigterm_names_them_too() {
    require_root();
    let vault = Vault::init();
    let mut mount = vault.mount(&[]);
    mount.expect_line("in another mount namespace");
    let elsewhere = Elsewhere::start(mount.path());
    run(Command::new("kill").arg(mount.pid().to_string())).ok();
    let told = wait_until(Duration::from_secs(30), || {
        mount.log().contains("in another mount namespace").then_some(())
    });
    assert!(told.is_some(), "{}", mount.log());
    drop(elsewhere);
    let ended = wait_until(Duration::from_secs(30), || {
        daemons_of(&vault.mountpoint()).is_empty().then_some(())
    });
    assert!(ended.is_some(), "the daemon outlives the last namespace");
    mount.forget();
}

/// The kernel would let nobody write to a directory whose owner the mount's user namespace lacks.
#[test]
fn an_owner_whom_a_user_namespace_lacks_is_not_shown_there() {
    require_root();
    let vault = Vault::init();
    let own = "unshare --user --map-root-user --mount";
    if !run(apart(&vault.mountpoint(), &format!("exec {own} true")).arg("sh")).success() {
        // This machine lets nobody make one.
        return;
    }
    let mount = vault.mount(&[]);
    chown(mount.path(), Some(1_000), Some(1_000)).unwrap();
    mount.unmount();
    let script = r#"set -e
        "$1" mount "$2" "$3" --log-file "$4"
        stat -c %u:%g "$3"
        echo content > "$3/file"
        "$1" umount "$3""#;
    let mut inside = apart(&vault.mountpoint(), &format!("exec {own} sh -c '{script}' sh \"$@\""));
    inside.arg("sh").arg(binary()).arg(vault.path()).arg(vault.mountpoint()).arg(vault.next_log());
    let home = vault.scratch().join("home");
    inside.env("HOME", &home).env("XDG_STATE_HOME", home.join("state"));
    let said = run(inside.env("ATREST_KEY_FILE", vault.key_file())).ok();
    assert_eq!(said.stdout.trim(), "0:0", "{said}");
    let mount = vault.mount(&[]);
    let root = fs::metadata(mount.path()).unwrap();
    assert_eq!((root.uid(), root.gid()), (1_000, 1_000));
    assert_eq!(fs::read(mount.join("file")).unwrap(), b"content\n");
    mount.unmount();
}
