//! Hard links and symbolic links.

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, linkat};

use crate::common::files::{errno, lstat, mode, open_rw, read_at};
use crate::common::{Mounted, Vault, pattern};

each_cache!(
    hard_links_are_one_file,
    the_last_link_holds_the_content,
    hard_links_refuse_what_ext4_refuses,
    a_link_to_a_symlink_is_a_symlink,
    symlinks_keep_their_target,
    symlinks_lead_across_the_mount,
);

fn hard_links_are_one_file(mount: Mounted) {
    let (a, b) = (mount.join("a"), mount.join("b"));
    fs::create_dir(mount.join("dir")).unwrap();
    let c = mount.join("dir/c");
    fs::write(&a, pattern(0, 9000)).unwrap();
    fs::hard_link(&a, &b).unwrap();
    fs::hard_link(&b, &c).unwrap();
    for path in [&a, &b, &c] {
        let meta = lstat(path);
        assert_eq!((meta.nlink(), meta.ino()), (3, lstat(&a).ino()), "{}", path.display());
    }
    // What is written by one name and not yet flushed shows by the others.
    let through_a = open_rw(&a);
    through_a.write_all_at(b"changed", 4000).unwrap();
    assert_eq!(read_at(&open_rw(&c), 4000, 7), b"changed");
    open_rw(&b).set_len(20_000).unwrap();
    assert_eq!((lstat(&a).len(), lstat(&c).len()), (20_000, 20_000));
    fs::set_permissions(&c, PermissionsExt::from_mode(0o640)).unwrap();
    assert_eq!(mode(&a), 0o640);
    let mut expected = pattern(0, 9000);
    expected[4000..4007].copy_from_slice(b"changed");
    expected.resize(20_000, 0);
    drop(through_a);
    let mount = mount.remount(&[]);
    for name in ["a", "b", "dir/c"] {
        assert_eq!(fs::read(mount.join(name)).unwrap(), expected, "{name}");
        assert_eq!(lstat(mount.join(name)).nlink(), 3);
        assert_eq!(lstat(mount.join(name)).ino(), lstat(mount.join("a")).ino());
    }
}

fn the_last_link_holds_the_content(mount: Mounted) {
    let name = |number: u32| mount.join(format!("link-{number}"));
    fs::write(name(0), pattern(0, 9000)).unwrap();
    for number in 1..50 {
        fs::hard_link(name(number - 1), name(number)).unwrap();
    }
    assert_eq!(lstat(name(0)).nlink(), 50);
    for number in 0..49 {
        fs::remove_file(name(number)).unwrap();
        assert_eq!(lstat(name(49)).nlink(), u64::from(49 - number));
    }
    assert_eq!(fs::read(name(49)).unwrap(), pattern(0, 9000));
}

fn hard_links_refuse_what_ext4_refuses(mount: Mounted) {
    let (file, dir) = (mount.join("file"), mount.join("dir"));
    fs::write(&file, b"x").unwrap();
    fs::create_dir(&dir).unwrap();
    assert_eq!(errno(fs::hard_link(&dir, mount.join("other"))), libc::EPERM);
    assert_eq!(errno(fs::hard_link(&file, &dir)), libc::EEXIST);
    assert_eq!(errno(fs::hard_link(&file, &file)), libc::EEXIST);
    assert_eq!(errno(fs::hard_link(mount.join("missing"), mount.join("new"))), libc::ENOENT);
    assert_eq!(errno(fs::hard_link(&file, mount.join("missing/new"))), libc::ENOENT);
    let outside = mount.vault().scratch().join("outside");
    assert_eq!(errno(fs::hard_link(&file, outside)), libc::EXDEV);
}

fn a_link_to_a_symlink_is_a_symlink(mount: Mounted) {
    let (link, second) = (mount.join("link"), mount.join("second"));
    symlink("nowhere", &link).unwrap();
    linkat(CWD, &link, CWD, &second, AtFlags::empty()).unwrap();
    assert_eq!(fs::read_link(&second).unwrap(), Path::new("nowhere"));
    assert_eq!(lstat(&link).nlink(), 2);
    assert_eq!(lstat(&link).ino(), lstat(&second).ino());
}

fn symlinks_keep_their_target(mount: Mounted) {
    let targets = [
        "a".to_owned(),
        "../up/and away".into(),
        "ünïcödé".into(),
        "/abs/olute".into(),
        "t".repeat(1000),
        "l".repeat(2000),
    ];
    for (number, target) in targets.iter().enumerate() {
        symlink(target, mount.join(number.to_string())).unwrap();
    }
    let check = |mount: &Mounted| {
        for (number, target) in targets.iter().enumerate() {
            let path = mount.join(number.to_string());
            assert_eq!(fs::read_link(&path).unwrap(), Path::new(target));
            assert_eq!(
                lstat(&path).len(),
                target.len() as u64,
                "st_size of a symlink is its target's length"
            );
            assert!(lstat(&path).file_type().is_symlink());
        }
    };
    check(&mount);
    let mount = mount.remount(&[]);
    check(&mount);
    assert_eq!(errno(symlink("x", mount.join("0"))), libc::EEXIST);
    assert_eq!(errno(symlink("", mount.join("empty"))), libc::ENOENT);
    assert_eq!(errno(fs::read_link(mount.path())), libc::EINVAL);
}

fn symlinks_lead_across_the_mount(mount: Mounted) {
    fs::create_dir_all(mount.join("a/b")).unwrap();
    fs::write(mount.join("a/file"), b"found").unwrap();
    symlink("../file", mount.join("a/b/up")).unwrap();
    symlink(mount.join("a/b"), mount.join("absolute")).unwrap();
    symlink("loop", mount.join("loop")).unwrap();
    assert_eq!(fs::read(mount.join("a/b/up")).unwrap(), b"found");
    assert_eq!(fs::read(mount.join("absolute/up")).unwrap(), b"found");
    assert_eq!(errno(fs::read(mount.join("loop"))), libc::ELOOP);
}

/// Links end where the backing filesystem ends them: at 65,000 on ext4.
#[test]
fn the_number_of_links_is_the_backing_filesystems() {
    let vault = Vault::init();
    let mount = vault.mount(&[]);
    fs::write(mount.join("file"), b"x").unwrap();
    mount.unmount();
    let stored = |number: u32| vault.path().join(format!("link-{number}"));
    let more = (0..70_000).find_map(|number| {
        fs::hard_link(vault.path().join("file"), stored(number)).err().map(|e| (number, e))
    });
    // A backing filesystem without a limit that anybody reaches shows nothing.
    let Some((refused, error)) = more else { return };
    assert_eq!(error.raw_os_error(), Some(libc::EMLINK));
    fs::remove_file(stored(refused - 1)).unwrap();
    let mount = vault.mount(&[]);
    fs::hard_link(mount.join("file"), mount.join("last")).unwrap();
    assert_eq!(errno(fs::hard_link(mount.join("file"), mount.join("over"))), libc::EMLINK);
    assert_eq!(lstat(mount.join("file")).nlink(), u64::from(refused) + 1);
    assert_eq!(fs::read(mount.join("last")).unwrap(), b"x");
}
