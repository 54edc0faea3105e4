//! Several master keys: a directory's own, and files that move between them.

use std::fs;

use crate::common::{Mounted, Vault};
use crate::{described, key, protection};

fn id(vault: &Vault, name: &str) -> String {
    described(vault, name)["id"].as_str().unwrap().to_owned()
}

/// The name of the key, of these, that protects a file.
fn key_of(mount: &Mounted, path: &str, names: &[&str]) -> String {
    let found = protection(&mount.vault().path().join(path)).0.to_string();
    let name = names.iter().find(|name| id(mount.vault(), name) == found);
    name.unwrap_or_else(|| panic!("{path} is under {found}")).to_string()
}

fn write(mount: &Mounted, path: &str) {
    fs::write(mount.join(path), path).unwrap();
}

#[test]
fn new_files_below_get_the_directorys_key_and_keep_it() {
    let vault = Vault::init();
    let mount = vault.mount(&[]);
    let names = ["default", "a", "b"];
    let under = |mount: &Mounted, path: &str| key_of(mount, path, &names);
    fs::create_dir_all(mount.join("of-a/deep/er")).unwrap();
    fs::create_dir(mount.join("plain")).unwrap();
    write(&mount, "of-a/before");
    write(&mount, "of-a/empty-before");
    fs::write(mount.join("of-a/empty-before"), b"").unwrap();
    key(&vault, &["create"], &["a"]).ok();
    key(&vault, &["create"], &["b"]).ok();
    key(&vault, &["assign"], &["a", "of-a"]).ok();
    // By the path in the mount as well.
    let inner = mount.join("of-a/deep/er");
    key(&vault, &["assign"], &["b", inner.to_str().unwrap()]).ok();

    for (path, expected) in
        [("plain/x", "default"), ("of-a/x", "a"), ("of-a/deep/x", "a"), ("of-a/deep/er/x", "b")]
    {
        write(&mount, path);
        assert_eq!(under(&mount, path), expected, "{path}");
    }
    assert_eq!(under(&mount, "of-a/before"), "default");
    write(&mount, "of-a/empty-before");
    assert_eq!(under(&mount, "of-a/empty-before"), "a");

    // What moves keeps its key; where a directory moves, new files get that of the new place.
    fs::rename(mount.join("of-a/x"), mount.join("plain/moved")).unwrap();
    assert_eq!(under(&mount, "plain/moved"), "a");
    fs::rename(mount.join("plain"), mount.join("of-a/deep/er/plain")).unwrap();
    write(&mount, "of-a/deep/er/plain/y");
    assert_eq!(under(&mount, "of-a/deep/er/plain/y"), "b");
    assert_eq!(under(&mount, "of-a/deep/er/plain/x"), "default");
    fs::rename(mount.join("of-a"), mount.join("renamed")).unwrap();

    // It is there after a mount, and can't be seen or set from inside.
    let mount = mount.remount(&[]);
    write(&mount, "renamed/z");
    assert_eq!(under(&mount, "renamed/z"), "a");
    let mut room = [0; 100];
    let listed = rustix::fs::listxattr(mount.join("renamed"), &mut room).unwrap();
    assert_eq!(listed, 0, "{:?}", &room[..listed]);
    let set = rustix::fs::setxattr(
        mount.join("renamed"),
        "user.atrest.key",
        b"x",
        rustix::fs::XattrFlags::empty(),
    );
    assert_eq!(set, Err(rustix::io::Errno::OPNOTSUPP));

    // `--to` brings all to one key.
    key(&vault, &["rewrap"], &["--to", "b"]).ok();
    for path in ["renamed/z", "renamed/before", "renamed/deep/er/plain/x"] {
        assert_eq!(under(&mount, path), "b", "{path}");
    }
    mount.unmount();
    vault.verify();
}

#[test]
fn the_roots_key_is_the_default() {
    let vault = Vault::init();
    key(&vault, &["create"], &["other"]).ok();
    key(&vault, &["assign"], &["other", "/"]).ok();
    assert_eq!(described(&vault, "other")["default"], true);
    let mount = vault.mount(&[]);
    write(&mount, "x");
    assert_eq!(key_of(&mount, "x", &["default", "other"]), "other");
}

#[test]
fn a_mark_that_was_changed_in_the_vault_makes_no_file_under_another_key() {
    let vault = Vault::init();
    let mut mount = vault.mount(&[]);
    mount.expect_line("user.atrest.key");
    fs::create_dir(mount.join("dir")).unwrap();
    key(&vault, &["create"], &["a"]).ok();
    key(&vault, &["assign"], &["a", "dir"]).ok();
    let stored = vault.path().join("dir");
    let mut value = [0; 48];
    rustix::fs::getxattr(&stored, "user.atrest.key", &mut value).unwrap();
    value[3] ^= 1;
    rustix::fs::setxattr(&stored, "user.atrest.key", &value, rustix::fs::XattrFlags::empty())
        .unwrap();
    let refused = fs::write(mount.join("dir/file"), b"x").unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::EIO));
    assert!(!stored.join("file").exists());
    key(&vault, &["assign"], &["a", "dir"]).ok();
    fs::write(mount.join("dir/file"), b"x").unwrap();
}
