//! Content that comes under another key, or to where another grant counts.

use std::fs::{self, File, OpenOptions, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::common::files::errno;
use crate::common::{Mounted, Vault, pattern};
use crate::people::People;
use crate::{grant, key, revoke};

fn open_dir(mount: &Mounted, name: &str) {
    fs::create_dir(mount.join(name)).unwrap();
    fs::set_permissions(mount.join(name), Permissions::from_mode(0o777)).unwrap();
}

fn file(path: &Path) {
    fs::write(path, pattern(0, 9000)).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o666)).unwrap();
}

/// `a` with the key `first` and `b` with the key `second`, a file in each.
fn two_keys() -> (Vault, Mounted) {
    let vault = Vault::init();
    let mount = vault.mount(&["--allow-other"]);
    for (dir, name) in [("a", "first"), ("b", "second")] {
        open_dir(&mount, dir);
        key(&vault, "create", name).ok();
        key(&vault, "assign", &format!("{name} {dir}")).ok();
        file(&mount.join(dir).join("file"));
    }
    (vault, mount)
}

#[test]
fn a_link_into_another_keys_directory_asks_both() {
    let people = People::make();
    let (vault, mount) = two_keys();
    let user = &people.named.user;
    let link = || {
        let linked = user.run(|| fs::hard_link(mount.join("a/file"), mount.join("b/link")));
        let _ = fs::remove_file(mount.join("b/link"));
        linked
    };
    let whom = format!("--user {}", people.named.name);
    assert_eq!(errno(link()), libc::EACCES);
    grant(&vault, &format!("first {whom} --allow decrypt"));
    assert_eq!(errno(link()), libc::EACCES);
    grant(&vault, &format!("second {whom} --allow generate-data-key"));
    link().unwrap();
    revoke(&vault, &format!("first {whom} --allow decrypt"));
    assert_eq!(errno(link()), libc::EACCES);
    user.run(|| fs::hard_link(mount.join("a/file"), mount.join("a/link")).unwrap());
}

#[test]
fn a_rename_over_a_file_asks_its_key() {
    let people = People::make();
    let (vault, mount) = two_keys();
    let user = &people.named.user;
    let whom = format!("--user {}", people.named.name);
    let rename = || user.run(|| fs::rename(mount.join("a/file"), mount.join("b/file")));
    assert_eq!(errno(rename()), libc::EACCES);
    grant(&vault, &format!("first {whom} --allow generate-data-key,decrypt"));
    assert_eq!(errno(rename()), libc::EACCES, "the other key decides");
    grant(&vault, &format!("second {whom} --allow generate-data-key"));
    rename().unwrap();
    // It keeps its key, as it is opened by.
    user.run(|| assert_eq!(fs::read(mount.join("b/file")).unwrap(), pattern(0, 9000)));
}

#[test]
fn copying_asks_again() {
    let people = People::make();
    let (vault, mount) = two_keys();
    let whom = format!("--user {}", people.named.name);
    grant(&vault, &format!("first {whom} --allow decrypt"));
    grant(&vault, &format!("second {whom} --allow generate-data-key"));
    let (from, to) = people.named.user.run(|| {
        let to = OpenOptions::new().write(true).create_new(true).open(mount.join("b/copy"));
        (File::open(mount.join("a/file")).unwrap(), to.unwrap())
    });
    let copy = || {
        people.named.user.run(|| {
            rustix::fs::copy_file_range(&from, Some(&mut 0), &to, Some(&mut 0), 5000)
                .map_err(std::io::Error::from)
        })
    };
    copy().unwrap();
    copy().unwrap();
    revoke(&vault, &format!("first {whom} --allow decrypt"));
    assert_eq!(errno(copy()), libc::EACCES);
    grant(&vault, &format!("first {whom} --allow decrypt"));
    revoke(&vault, &format!("second {whom} --allow generate-data-key"));
    assert_eq!(errno(copy()), libc::EACCES);
    drop((from, to));
    assert_eq!(fs::read(mount.join("b/copy")).unwrap(), pattern(0, 5000));
}

/// Each key's policy is asked for its own files.
#[test]
fn a_file_has_the_policy_of_its_own_key() {
    let people = People::make();
    let (vault, mount) = two_keys();
    let whom = format!("--user {}", people.named.name);
    grant(&vault, &format!("second {whom} --allow decrypt"));
    people.named.user.run(|| {
        assert_eq!(errno(File::open(mount.join("a/file"))), libc::EACCES);
        File::open(mount.join("b/file")).unwrap();
    });
    // Moved to the other directory it keeps its key.
    fs::rename(mount.join("a/file"), mount.join("b/moved")).unwrap();
    people.named.user.run(|| assert_eq!(errno(File::open(mount.join("b/moved"))), libc::EACCES));
    key(&vault, "rewrap", "--to second").ok();
    people.named.user.run(|| drop(File::open(mount.join("b/moved")).unwrap()));
}

/// Nobody moves to where they may read what they may not read where it is.
#[test]
fn a_grant_by_path_is_not_moved_into() {
    let people = People::make();
    let vault = Vault::init();
    let mount = vault.mount(&["--allow-other"]);
    for dir in ["secret", "pub", "secret/sub"] {
        open_dir(&mount, dir);
    }
    for path in ["secret/file", "secret/sub/file", "pub/file"] {
        file(&mount.join(path));
    }
    fs::set_permissions(vault.mountpoint(), Permissions::from_mode(0o777)).unwrap();
    grant(
        &vault,
        &format!("--user {} --allow decrypt,generate-data-key --under pub", people.named.name),
    );
    let at = |path: &str| mount.join(path);
    people.named.user.run(|| {
        assert_eq!(errno(fs::rename(at("secret/file"), at("pub/stolen"))), libc::EACCES);
        assert_eq!(errno(fs::hard_link(at("secret/file"), at("pub/stolen"))), libc::EACCES);
        assert_eq!(errno(fs::rename(at("secret/sub"), at("pub/sub"))), libc::EACCES);
        let exchange = rustix::fs::RenameFlags::EXCHANGE;
        let (from, to) = (at("pub/file"), at("secret/file"));
        let exchanged =
            rustix::fs::renameat_with(rustix::fs::CWD, from, rustix::fs::CWD, to, exchange);
        assert_eq!(exchanged, Err(rustix::io::Errno::ACCESS));
        // The directory that the grant names goes away, and another is put in its place.
        fs::rename(at("pub"), at("other")).unwrap();
        assert_eq!(errno(File::open(at("other/file"))), libc::EACCES);
        assert_eq!(errno(fs::rename(at("secret"), at("pub"))), libc::EACCES);
        assert_eq!(errno(fs::rename(at("other"), at("pub"))), libc::EACCES);
    });
    fs::rename(at("other"), at("pub")).unwrap();
    people.named.user.run(|| {
        fs::rename(at("pub/file"), at("pub/renamed")).unwrap();
        assert_eq!(fs::read(at("pub/renamed")).unwrap(), pattern(0, 9000));
        fs::rename(at("pub/renamed"), at("secret/given")).unwrap();
        assert_eq!(errno(File::open(at("secret/given"))), libc::EACCES);
    });
    fs::rename(at("secret/file"), at("pub/moved")).unwrap();
    people.named.user.run(|| assert_eq!(fs::read(at("pub/moved")).unwrap(), pattern(0, 9000)));
}
