//! What users of mount(8) expect, with `atrest` installed as its helper: in a mount namespace of its
//! own, where nobody else sees the helper.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::common::{Outcome, Vault, require_root, run, vault};
use crate::namespaces::apart;

/// Runs a script in which `$V` is the vault, `$M` the mount point, and `options` prints those of the
/// mount. The vault is unmounted afterwards.
fn script(vault: &Vault, script: &str) -> Outcome {
    let helpers = vault.scratch().join("helpers");
    if !helpers.exists() {
        fs::create_dir(&helpers).unwrap();
        for name in ["mount.atrest", "atrest"] {
            symlink(vault::binary(), helpers.join(name)).unwrap();
        }
    }
    let (helpers, mountpoint) = (helpers.display(), vault.mountpoint());
    let text = format!(
        "mount -t overlay -o lowerdir={helpers}:$(realpath /sbin) overlay $(realpath /sbin) || exit
         options() {{ findmnt -no OPTIONS --mountpoint $M; }}
         PATH={helpers}:$PATH V={} M={} L={}
         K=key-file={},log-file=$L
         {script}
         code=$?
         atrest umount $M >&2
         exit $code",
        vault.path().display(),
        mountpoint.display(),
        vault.next_log().display(),
        vault.key_file().display(),
    );
    let mut command = apart(Path::new("/nowhere"), &text);
    command.env("HOME", vault.scratch().join("home"));
    run(&mut command)
}

fn has(options: &str, name: &str) -> bool {
    options.trim().split(',').any(|option| option == name)
}

/// mount(8) keeps `suid` and `dev` back, which are its defaults; mount.fuse3(8) adds them.
#[test]
fn suid_and_dev_are_for_the_mount_that_asks() {
    require_root();
    let vault = Vault::init();
    for kind in ["atrest", "fuse.atrest"] {
        for (asked, suid, dev) in [
            ("", false, false),
            (",suid,dev", true, true),
            (",dev", false, true),
            (",defaults", false, false),
        ] {
            let line = format!("mount -t {kind} -o $K{asked} $V $M && options");
            let options = script(&vault, &line).ok().stdout;
            assert_eq!(has(&options, "nosuid"), !suid, "{kind} {asked}: {options}");
            assert_eq!(has(&options, "nodev"), !dev, "{kind} {asked}: {options}");
        }
    }
}

#[test]
fn a_remount_changes_flags_and_nothing_else() {
    require_root();
    let vault = Vault::init();
    let outcome = script(
        &vault,
        "mount -t atrest -o $K,dev $V $M && echo a > $M/a && options &&
         mount -o remount,ro $M && options && ! echo b 2>&- > $M/b &&
         mount -o remount,rw,noexec $M && options && echo c > $M/c && cat $M/a $M/c",
    );
    let text = outcome.ok().stdout;
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 5, "{text}");
    for (line, read_only, exec) in
        [(lines[0], false, true), (lines[1], true, true), (lines[2], false, false)]
    {
        assert_eq!(has(line, "ro"), read_only, "{line}");
        assert_eq!(has(line, "noexec"), !exec, "{line}");
        assert!(has(line, "nosuid") && !has(line, "nodev"), "{line}");
    }
    assert_eq!(lines[3..], ["a", "c"]);
}

/// The daemon has opened the vault to read it only.
#[test]
fn a_read_only_mount_is_made_writable_by_a_new_one() {
    require_root();
    let vault = Vault::init();
    let line = "mount -t atrest -o $K,ro $V $M && { mount -o remount,rw $M; options; false; }";
    let outcome = script(&vault, line).fails();
    assert!(outcome.stderr.contains("unmount it and mount it with rw"), "{outcome}");
    assert!(has(&outcome.stdout, "ro"), "{outcome}");
    let line = "mount -t atrest -o $K $V $M && { mount -o remount,noatime $M; options; false; }";
    let outcome = script(&vault, line).fails();
    assert!(outcome.stderr.contains("rule for times of access"), "{outcome}");
    assert!(!has(&outcome.stdout, "noatime"), "{outcome}");
}

#[test]
fn options_of_other_filesystems() {
    require_root();
    let vault = Vault::init();
    let options = "sync,mand,iversion,silent,lazytime,context=system_u:object_r:tmp_t:s0";
    let line = format!("mount -t atrest -o $K,{options} $V $M && echo a > $M/a && options");
    let outcome = script(&vault, &line).ok();
    assert!(has(&outcome.stdout, "sync"), "{outcome}");
    let refused = script(&vault, "mount -t atrest -o $K,dirsync $V $M").fails();
    assert!(refused.stderr.contains("dirsync"), "{refused}");
}
