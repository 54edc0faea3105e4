//! A vault on a medium that can only be read.

use std::fs;

use crate::common::files::errno;
use crate::common::pattern;
use crate::small_disk::SmallDisk;

#[test]
fn it_is_read_and_nothing_else() {
    SmallDisk::each(|disk| {
        let vault = &disk.vault;
        let mount = vault.mount(&[]);
        fs::write(mount.join("file"), pattern(0, 50_000)).unwrap();
        mount.unmount();
        disk.make_vault_read_only();

        let refused = vault.try_mount(&[]).err().expect("a vault that can't be written");
        assert_eq!(refused.code(), 4, "{refused}");
        assert_eq!(refused.stderr.trim_end().lines().count(), 1, "{refused}");
        assert!(refused.stderr.contains("--read-only"), "{refused}");
        let refused = vault.run(&["key", "rewrap"]).fails();
        assert_eq!(refused.code(), 4, "{refused}");
        assert_eq!(refused.stderr.trim_end().lines().count(), 1, "{refused}");

        let mount = vault.mount(&["--read-only"]);
        let file = mount.join("file");
        assert_eq!(fs::read(&file).unwrap(), pattern(0, 50_000));
        assert_eq!(errno(fs::OpenOptions::new().write(true).open(&file)), libc::EROFS);
        assert_eq!(errno(fs::write(mount.join("new"), b"x")), libc::EROFS);
        assert_eq!(errno(fs::remove_file(&file)), libc::EROFS);
        assert_eq!(mount.status_json()["read_only"], true);
        vault.verify();
        vault.run(&["key", "list"]).ok();
        mount.unmount();
        vault.verify();
        vault.run(&["key", "list"]).ok();
        vault.run(&["status"]).ok();
    });
}
